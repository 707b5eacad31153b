//! Arrow streams from outside: what their producers hand over is checked by Arrow with assertions or not at all, and a
//! wrong batch is an error here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, SchemaRef};
use kappaflow_core::text;

/// A stream of which no batch can bring more down than the stream.
pub struct Guarded {
    inner: Box<dyn RecordBatchReader + Send>,
    broken: bool,
}

impl Guarded {
    pub fn new(inner: Box<dyn RecordBatchReader + Send>) -> Self {
        Self {
            inner,
            broken: false,
        }
    }
}

impl Iterator for Guarded {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        // The reader is not used again after a panic.
        let next = || self.inner.next().map(|batch| batch.and_then(text::checked));
        catch_unwind(AssertUnwindSafe(next)).unwrap_or_else(|_| {
            self.broken = true;
            let what = "a batch that is not of the stream's schema".to_owned();
            Some(Err(ArrowError::CDataInterface(what)))
        })
    }
}

impl RecordBatchReader for Guarded {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }
}
