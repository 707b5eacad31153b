//! What a run of a worker counts. Only what was delivered counts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::finish::Outcome;

/// What a bounded run of a worker did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WorkSummary {
    pub region: String,
    /// Records finished: all that follows from them is delivered.
    pub read: u64,
    /// Of them, answered with at least one egress record.
    pub answered: u64,
    /// Egress records.
    pub children: u64,
    /// Records filtered, by reason (the exception's class).
    pub filtered: BTreeMap<String, u64>,
    /// Dead letters, by reason.
    pub dead_lettered: BTreeMap<String, u64>,
    /// Tries beyond a record's first.
    pub retried: u64,
    /// Records finished after their partition had moved on: delivered, and done again by another worker.
    pub stale_dropped: u64,
    /// Records of other jobs, or without an identity, in a topic that isn't ours alone.
    pub foreign: u64,
    /// What the log had lost before it was read: missing, and no longer to be had.
    pub expired: Vec<Expired>,
    /// Service processes that died and were replaced.
    pub service_restarts: u64,
    /// The last offset this worker has committed, by partition.
    pub committed: BTreeMap<i32, i64>,
    pub seconds: f64,
    pub rows_per_s: f64,
}

/// Offsets of a partition that the log no longer has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expired {
    pub partition: i32,
    pub first: i64,
    /// One past the last.
    pub past: i64,
}

/// The same of some records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub read: u64,
    pub answered: u64,
    pub children: u64,
    pub filtered: BTreeMap<String, u64>,
    pub dead_lettered: BTreeMap<String, u64>,
    pub retried: u64,
}

impl Tally {
    pub fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Answered(family) => {
                self.answered += 1;
                self.children += family.len() as u64;
            }
            Outcome::Filtered(reason) => add(&mut self.filtered, reason, 1),
            Outcome::DeadLetter { reason, .. } => add(&mut self.dead_lettered, reason, 1),
        }
    }
}

impl WorkSummary {
    pub fn add(&mut self, tally: &Tally) {
        self.read += tally.read;
        self.answered += tally.answered;
        self.children += tally.children;
        self.retried += tally.retried;
        for (reason, n) in &tally.filtered {
            add(&mut self.filtered, reason, *n);
        }
        for (reason, n) in &tally.dead_lettered {
            add(&mut self.dead_lettered, reason, *n);
        }
    }
}

fn add(counts: &mut BTreeMap<String, u64>, reason: &str, n: u64) {
    match counts.get_mut(reason) {
        Some(count) => *count += n,
        None => {
            counts.insert(reason.to_owned(), n);
        }
    }
}
