//! What a service says of a record.

use std::time::Duration;

use super::limiter::How;
use super::task::Task;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// So many rows of the answers, more than none.
    Answered(usize),
    /// No egress record, and why.
    Filtered(String),
    /// Try again, not before `after` where the service asks for a time.
    Retry {
        reason: String,
        detail: String,
        after: Option<Duration>,
    },
    /// It can't be taken.
    DeadLetter { reason: String, detail: String },
    /// It was not called, because one before it in its lane has to be tried again.
    Held,
    /// A call failed that it shared with others, and nobody knows whose fault it is: it is called again with at most so
    /// many. `wait`: not at once, because it may go better then.
    Apart { most: u32, wait: bool },
}

impl Verdict {
    /// Try again soon.
    pub fn retry(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Retry {
            reason: reason.into(),
            detail: detail.into(),
            after: None,
        }
    }

    pub fn dead_letter(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::DeadLetter {
            reason: reason.into(),
            detail: detail.into(),
        }
    }

    /// As metrics call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::Filtered(_) => "filtered",
            Self::Retry { reason, .. } if reason == "Deadline" => "deadline",
            Self::Retry { .. } => "retry",
            Self::DeadLetter { .. } => "dead_letter",
            Self::Held => "held",
            Self::Apart { .. } => "retry",
        }
    }

    /// As the limiter calls it, of a call with this record. `None`: there was none.
    pub fn how(&self, task: &Task) -> Option<How> {
        Some(match self {
            Self::Held => return None,
            Self::Retry { .. } | Self::Apart { wait: true, .. } => How::Failed,
            _ if task.way.calls > 1 => How::Retried,
            _ => How::Answered,
        })
    }
}
