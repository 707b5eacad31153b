//! What a reconcile says, for people and programs.

use std::path::PathBuf;

use serde::Serialize;

use super::landed::DoubledRow;
use crate::error::{Error, Result};

/// The fate of every row of a job. Counts are of source rows unless they say otherwise.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LedgerReport {
    pub job: String,
    pub name: String,
    /// Every row has a fate and none is doubled.
    pub explained: bool,
    pub expected: u64,
    pub landed: u64,
    /// Rows of the table: more than `landed` where inputs have several answers.
    pub landed_rows: u64,
    pub filtered: u64,
    pub dead_lettered: u64,
    pub rejected: u64,
    pub missing: u64,
    pub missing_by: MissingBy,
    /// The first missing rows.
    pub missing_examples: Vec<MissingRow>,
    /// A Parquet file with all missing rows, if there are any.
    pub missing_file: Option<PathBuf>,
    /// Rows of the table beyond one family an input.
    pub duplicated: u64,
    pub duplicated_examples: Vec<DoubledRow>,
    /// Evidence of rows the splits do not have.
    pub unexpected: u64,
    /// Rows worked on more than once; one answer landed.
    pub done_twice: u64,
    /// Dead letters whose rows have an answer after all.
    pub mended: u64,
    pub by_cause: Vec<Cause>,
    /// What [`LedgerReport::check`] fails with, if anything is unexplained.
    pub problem: Option<String>,
    pub children: Vec<ChildLedger>,
    /// The table's version that shows this job's rows in the place of those that they replace, if that was made now.
    pub published: Option<u64>,
    /// What a person should know: stages that have not caught up, topics that were cut.
    pub notes: Vec<String>,
    pub seconds: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MissingBy {
    /// Never acknowledged by a broker.
    pub never_sent: u64,
    /// Dropped by the ingress topic's retention before a worker passed them.
    pub expired: u64,
    /// Acknowledged and without a trace, or still on their way.
    pub lost: u64,
}

/// A row without a fate, and where it is in the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingRow {
    pub split: u32,
    pub seq: u32,
    /// Relative to the snapshot's root.
    pub file: String,
    /// From 0.
    pub row_in_file: u64,
    pub child: String,
    /// `never_sent`, `expired` or `lost`.
    pub why: &'static str,
}

/// Rows of one fate and one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// `filtered`, `dead_lettered` or `rejected`.
    pub fate: &'static str,
    pub reason: String,
    pub rows: u64,
}

/// The ledger of one child job.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChildLedger {
    pub child: String,
    pub region: Option<String>,
    pub explained: bool,
    pub expected: u64,
    pub landed: u64,
    pub filtered: u64,
    pub dead_lettered: u64,
    pub rejected: u64,
    pub missing: u64,
    pub duplicated: u64,
    pub unexpected: u64,
    pub done_twice: u64,
    pub mended: u64,
}

impl LedgerReport {
    /// Fails if anything is unexplained. Show the report first.
    ///
    /// # Errors
    /// [`Error::Unexplained`] with counts, the first examples, and the notes that may say why.
    pub fn check(&self) -> Result<()> {
        if self.explained {
            return Ok(());
        }
        let mut parts: Vec<String> = Vec::new();
        if self.missing > 0 {
            let by = self.missing_by;
            parts.push(format!(
                "{} never sent, {} expired, {} lost",
                by.never_sent, by.expired, by.lost
            ));
        }
        for row in self.missing_examples.iter().take(3) {
            parts.push(format!(
                "missing {}: row {} of {} (split {} seq {}, child {})",
                row.why, row.row_in_file, row.file, row.split, row.seq, row.child
            ));
        }
        if let Some(file) = &self.missing_file {
            parts.push(format!("all missing rows are in {}", file.display()));
        }
        for row in self.duplicated_examples.iter().take(3) {
            parts.push(format!(
                "doubled: split {} seq {} answer {} attempt {}",
                row.split, row.seq, row.child, row.attempt
            ));
        }
        if self.unexpected > 0 {
            parts.push(format!(
                "{} rows were seen that the source does not have",
                self.unexpected
            ));
        }
        parts.extend(self.notes.iter().cloned());
        Err(Error::Unexplained {
            expected: self.expected,
            missing: self.missing,
            duplicated: self.duplicated,
            examples: parts.join("; "),
        })
    }
}
