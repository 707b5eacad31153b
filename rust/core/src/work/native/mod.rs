//! Services in Rust: part of the program that runs the worker, called with Arrow batches and nothing in between.
//!
//! A program of one's own has the worker in it, and adds what the job file calls by name (`service.native`):
//!
//! ```
//! use kappaflow_core::work::native::{Answered, Answer, Call, Calling, NativeService, Natives};
//!
//! /// Gives each record back as it is.
//! struct Echo;
//!
//! impl NativeService for Echo {
//!     fn call(&self, call: Call) -> Calling<'_> {
//!         Box::pin(async move {
//!             let answers = vec![Answer::Rows(1); call.records.num_rows()];
//!             Ok(Answered { answers, rows: call.records })
//!         })
//!     }
//! }
//!
//! let natives = Natives::default().with("echo", Echo);
//! assert!(natives.get("echo").is_some());
//! ```

mod answered;
mod driver;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use futures_util::future::BoxFuture;

pub use driver::NativeDriver;

use crate::identity::Identity;

/// A service in Rust.
pub trait NativeService: Send + Sync + 'static {
    /// Works on the records of one call, of which `service.concurrency` are under way at once. All calls share a thread:
    /// what computes for long belongs on threads of its own (`tokio::task::spawn_blocking`).
    ///
    /// # Errors
    /// What is said of the call as a whole, in a text: its records are tried again, fewer at a time, until the one that
    /// is to blame is alone. A panic counts as that, and so does a call that takes longer than `service.deadline_ms`.
    fn call(&self, call: Call) -> Calling<'_>;
}

/// What comes of a call.
pub type Calling<'a> = BoxFuture<'a, Result<Answered, String>>;

/// The records of a call: no more than `service.batch_records`, none behind another of its key where `service.order`
/// says so.
#[derive(Clone, Debug)]
pub struct Call {
    /// As the job's ingress schema has them.
    pub records: RecordBatch,
    /// By row: which record of the job it is, the same in each attempt.
    pub identities: Vec<Identity>,
    /// By row: times that it was given to the service, this one included.
    pub attempts: Vec<u32>,
}

/// What is said of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// So many of the rows; more than none.
    Rows(usize),
    /// No answer is due, and why.
    Filtered(String),
    /// To be called again, not before `after`.
    Retry {
        reason: String,
        detail: String,
        after: Option<Duration>,
    },
    /// It can't be worked on.
    DeadLetter { reason: String, detail: String },
}

/// What is said of a call's records.
#[derive(Clone, Debug)]
pub struct Answered {
    /// One a record, in their order.
    pub answers: Vec<Answer>,
    /// The rows of all answers, in that order. Columns are found by name and cast to the egress schema's types; one that
    /// is not there is null.
    pub rows: RecordBatch,
}

/// The services that a program has in it, by name.
#[derive(Clone, Default)]
pub struct Natives(BTreeMap<String, Arc<dyn NativeService>>);

impl Natives {
    /// With one more.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, service: impl NativeService) -> Self {
        self.0.insert(name.into(), Arc::new(service));
        self
    }

    pub fn get(&self, name: &str) -> Option<Arc<dyn NativeService>> {
        self.0.get(name).cloned()
    }

    /// What is wrong where a job calls one that is not there.
    pub fn missing(&self, name: &str) -> String {
        let has: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let has = match has[..] {
            [] => "none".to_owned(),
            _ => has.join(", "),
        };
        format!(
            "{name:?} is a service in Rust, and this program has {has}: run the program that it was built into (docs/services.md)"
        )
    }
}

impl fmt::Debug for Natives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
