//! A service as the worker sees it: a batch of records in, a verdict a record out, and a way to die.
//!
//! Python callables are behind it, and HTTP endpoints; gRPC services come behind the same trait.

use arrow_array::RecordBatch;

use crate::error::Error;
use crate::identity::Identity;

/// What a service is given.
pub struct Call<'c> {
    /// One row a record.
    pub records: &'c RecordBatch,
    pub identities: &'c [Identity],
    /// The key of each, if it has one: records of a key are to be worked on in their order.
    pub keys: &'c [Option<Vec<u8>>],
    /// How often each record has been given to the service, this time included: from 1.
    pub attempts: &'c [u32],
}

/// What a service says of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// So many rows of the reply's answers, more than none.
    Answered(usize),
    /// No egress record, and why.
    Filtered(String),
    /// Try again.
    Retry { reason: String, detail: String },
    /// It can't be taken.
    DeadLetter { reason: String, detail: String },
}

/// A service's reply to a call: one verdict a record, and the answers of the answered ones in their order.
pub struct Reply {
    pub verdicts: Vec<Verdict>,
    pub answers: RecordBatch,
}

/// Why there is no reply.
#[derive(Debug)]
pub enum CallError {
    /// The service died, or was ended, while it had the records.
    Died {
        /// The record it was on, where that is known.
        marked: Option<usize>,
        /// `Deadline` or `KilledProcess`: stable, to be counted by.
        reason: &'static str,
        detail: String,
    },
    /// The worker stops.
    Stopped,
    /// It can't be used at all.
    Fatal(Error),
}

impl<S: Service + ?Sized> Service for Box<S> {
    fn call(&mut self, call: &Call<'_>, go: &dyn Fn() -> bool) -> Result<Reply, CallError> {
        (**self).call(call, go)
    }

    fn restarts(&self) -> u64 {
        (**self).restarts()
    }
}

/// A place where records are worked on, one call at a time.
pub trait Service {
    /// Gives records to the service and waits. `go` is asked at least every 200 ms; `false` ends the wait.
    ///
    /// # Errors
    /// See [`CallError`]. After [`CallError::Died`] the next call begins with a fresh process.
    fn call(&mut self, call: &Call<'_>, go: &dyn Fn() -> bool) -> Result<Reply, CallError>;
    /// How often a dead process was replaced.
    fn restarts(&self) -> u64;
}
