//! A thread that writes the files, so that the next answers are read and decoded meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use arrow_array::RecordBatch;

use crate::error::{Error, Result};
use crate::table::{DataFile, Files};

/// Batches that wait while one is written.
const WAITING: usize = 1;

enum Order {
    Write(RecordBatch),
    Finish {
        commit: String,
        files: SyncSender<Vec<DataFile>>,
    },
    Keep,
}

/// Does what [`Files`] does, in order; what fails is told at the next call. When it is dropped, the files that no commit
/// names are removed.
pub struct FileThread {
    table: PathBuf,
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<Result<()>>>,
    bytes: Arc<AtomicU64>,
}

impl FileThread {
    /// # Errors
    /// [`Error::Table`] if the system has no thread left.
    pub fn start(table: PathBuf, files: Files) -> Result<Self> {
        let (orders, taken) = sync_channel(WAITING);
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes);
        let thread = thread::Builder::new()
            .name("kf-land-files".into())
            .spawn(move || follow(files, &taken, &counter))
            .map_err(|e| Error::Table {
                table: table.clone(),
                reason: format!("can't start a thread that writes files: {e}"),
            })?;
        Ok(Self {
            table,
            orders: Some(orders),
            thread: Some(thread),
            bytes,
        })
    }

    /// Waits only while there are batches before it that wait.
    ///
    /// # Errors
    /// As [`Files::write`], of this batch or of one before.
    pub fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.order(Order::Write(batch))
    }

    /// Bytes of the files that no commit names yet, as of the last batch that is written.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits for all that was ordered.
    ///
    /// # Errors
    /// As [`Files::finish`], and of batches before.
    pub fn finish(&mut self, commit: &str) -> Result<Vec<DataFile>> {
        let (files, finished) = sync_channel(1);
        let commit = commit.to_owned();
        self.order(Order::Finish { commit, files })?;
        finished.recv().map_err(|_| self.failure())
    }

    /// As [`Files::keep`].
    ///
    /// # Errors
    /// [`Error::Table`] if the thread is gone, and the files with it.
    pub fn keep(&mut self) -> Result<()> {
        // Nothing is written between the end of the files and this.
        self.bytes.store(0, Ordering::Relaxed);
        self.order(Order::Keep)
    }

    fn order(&mut self, order: Order) -> Result<()> {
        let orders = self.orders.as_ref();
        match orders.map(|orders| orders.send(order)) {
            Some(Ok(())) => Ok(()),
            _ => Err(self.failure()),
        }
    }

    /// Why the thread has ended.
    fn failure(&mut self) -> Error {
        self.orders = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(e))) => e,
            _ => Error::Table {
                table: self.table.clone(),
                reason: "the thread that writes files has ended early".into(),
            },
        }
    }
}

impl Drop for FileThread {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Until the orders end, or one fails: the files that no commit names are removed then.
fn follow(mut files: Files, orders: &Receiver<Order>, bytes: &AtomicU64) -> Result<()> {
    for order in orders {
        match order {
            Order::Write(batch) => {
                files.write(batch)?;
                bytes.store(files.bytes(), Ordering::Relaxed);
            }
            Order::Finish {
                commit,
                files: finished,
            } => {
                // One that no longer waits has no use for them.
                let _ = finished.send(files.finish(&commit)?);
            }
            Order::Keep => files.keep(),
        }
    }
    Ok(())
}
