//! Parts of a remote file in memory, read as if they were the file.

use std::sync::Arc;

use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// The parts of a file that were asked for.
#[derive(Clone)]
pub struct Chunks {
    /// Of the whole file.
    bytes: u64,
    /// Where each begins, in order.
    parts: Arc<Vec<(u64, Bytes)>>,
}

impl Chunks {
    /// `parts` are sorted by where they begin, and do not overlap.
    pub fn new(bytes: u64, parts: Vec<(u64, Bytes)>) -> Self {
        Self {
            bytes,
            parts: Arc::new(parts),
        }
    }

    /// The last bytes of the file, or as many of them as there are.
    pub fn end(&self, length: u64) -> Bytes {
        let from = self.bytes.saturating_sub(length);
        self.from(from).unwrap_or_default()
    }

    fn from(&self, at: u64) -> Result<Bytes> {
        let part = self.parts.partition_point(|(start, _)| *start <= at);
        let found = part.checked_sub(1).and_then(|part| self.parts.get(part));
        found
            .and_then(|(start, bytes)| {
                let skip = usize::try_from(at - start).ok()?;
                (skip <= bytes.len()).then(|| bytes.slice(skip..))
            })
            .ok_or_else(|| ParquetError::EOF(format!("byte {at} is beyond its column chunk")))
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Chunks {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!(
                "{length} bytes from {start} on are beyond their column chunk"
            )));
        }
        Ok(bytes.slice(..length))
    }
}
