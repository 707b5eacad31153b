//! What every stage is given from outside: a way to be stopped and a way to show how far it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// How far a stage is. Sent a few times a second, never per row.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    /// The verb: publish, work, land, reconcile, dispatch.
    pub stage: &'static str,
    /// What the stage works on: a child job, a region.
    pub label: String,
    /// Rows done.
    pub done: u64,
    /// Rows in all, where known.
    pub total: Option<u64>,
    /// One short remark ("waiting for the publisher"), or empty.
    pub note: String,
    /// Further numbers for whoever keeps metrics, by name: `rows_per_s`, `lag_records`.
    pub figures: BTreeMap<&'static str, f64>,
}

type Sink = dyn Fn(Progress) + Send + Sync;

/// Handed through a stage. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Context {
    pub cancel: CancellationToken,
    progress: Arc<Sink>,
}

impl Default for Context {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl Context {
    pub fn new(progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self {
            cancel: CancellationToken::new(),
            progress: Arc::new(progress),
        }
    }

    /// A context that can be stopped by itself, and is stopped with this one.
    pub fn scope(&self) -> Self {
        Self {
            cancel: self.cancel.child_token(),
            progress: Arc::clone(&self.progress),
        }
    }

    /// Runs one of several things done at once; its failure asks the others to stop, orderly.
    pub async fn stop_on_error<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let result = work.await;
        if result.is_err() {
            self.cancel.cancel();
        }
        result
    }

    pub fn report(&self, progress: Progress) {
        (self.progress)(progress);
    }

    /// Fails with [`Error::Interrupted`] once the caller asked to stop. Hot loops ask between batches.
    pub fn check(&self, stage: &'static str) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::Interrupted { stage });
        }
        Ok(())
    }
}
