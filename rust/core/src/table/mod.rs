//! The landed table: data files, and a log of versions. A commit carries files, offsets and fencing tokens, and happens
//! whole or not at all; what the newest version names is the table.

mod admit;
mod clean;
mod columns;
mod commits;
mod compact;
mod export;
mod files;
mod folder;
mod identities;
mod manifest;
mod registered;
mod seen;
mod storage;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::identity::JobId;

pub use clean::{CleanSummary, clean};
pub(crate) use columns::held;
pub use commits::{DATA, Table, blocking};
pub use compact::{CompactSummary, compact};
pub use export::{ExportSummary, export};
pub(crate) use files::{Files, Shape};
pub(crate) use identities::fields as identity_fields;
pub use identities::{Row, read_identities};
pub use manifest::{Change, CommitLog, FORMAT, Manifest, ManifestLog};
pub use registered::Registrar;
pub use seen::{Seen, SeenSplit, rebuild};
pub use storage::{Entry, NewFile, Storage};

/// How far a partition of an egress topic has been landed, for one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Where the next lander starts: every record of the job before it is landed or a duplicate.
    pub next: i64,
    /// The end of what was ever read. Larger than `next` while an incomplete family holds `next` back: what lies between
    /// is read again, and duplicates in it were counted already.
    pub reached: i64,
}

/// A data file that the table's newest version refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Relative to the table's directory.
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    /// 16 hex digits.
    pub job: String,
    pub region: String,
    /// The commit that added it.
    pub commit: String,
    /// What all its rows have in the columns of `output.partition_key`, as text; `None` is null.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub partition: BTreeMap<String, Option<String>>,
}

/// The table as its newest version says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    /// 0 before the first commit.
    pub version: u64,
    /// By [`offset_key`].
    pub offsets: BTreeMap<String, Position>,
    /// Fencing token by [`token_key`].
    pub tokens: BTreeMap<String, i64>,
    /// What readers see.
    pub files: Vec<DataFile>,
    /// What jobs have landed that replace others' rows, until they are published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub staged: Vec<DataFile>,
    /// The version that has published a job's rows, by job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub published: BTreeMap<String, u64>,
    /// Files that readers saw once, and when they were replaced, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removed: BTreeMap<String, i64>,
    /// The job that has replaced another's rows, or some of them, by the other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replaced: BTreeMap<String, String>,
    /// Name of the sidecar with the inputs that were landed.
    pub seen: Option<String>,
    /// Avro schema (JSON) of the answers, once something was landed.
    pub schema: Option<String>,
    /// Records that were published again though their input was landed, ever, by job.
    pub re_published: BTreeMap<String, u64>,
}

impl TableState {
    /// The files of one job, or of all: what readers see, and what waits to be published. Those that others have rewritten
    /// may have rows of any job.
    pub fn files_of(&self, job: Option<JobId>) -> impl Iterator<Item = &DataFile> {
        let job = job.map(|j| j.to_string());
        let all = self.files.iter().chain(&self.staged);
        all.filter(move |f| f.job.is_empty() || job.as_ref().is_none_or(|j| *j == f.job))
    }
}

/// One lander's advance on one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advance {
    /// What the lander found in the table, or where the job's records begin if there was nothing.
    pub from: Position,
    pub to: Position,
}

/// What a commit is to change. The table takes it only as it was meant: see `admit`.
#[derive(Clone, Debug, PartialEq)]
pub struct CommitRequest {
    /// Unique; by it a commit whose answer was lost is found again.
    pub id: String,
    pub job: JobId,
    /// Avro schema (JSON) of the answers.
    pub schema: String,
    pub files: Vec<DataFile>,
    /// Whether the files wait to be published.
    pub staged: bool,
    pub offsets: BTreeMap<String, Advance>,
    pub tokens: BTreeMap<String, i64>,
    /// Inputs whose families are in `files`, and inputs seen again.
    pub seen: Seen,
    pub re_published: u64,
}

/// A commit that is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub version: u64,
}

/// Why a commit is not in, or not surely.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Another lander was here first. Read the table again and start from its end.
    #[error("another lander committed first: {reason}")]
    Conflict { reason: String },
    /// A newer placement of a child job holds the table.
    #[error(
        "child job {child} was placed anew (token {held}), this lander has token {ours}: its output is not accepted"
    )]
    Fenced { child: String, held: i64, ours: i64 },
    /// Neither surely in nor surely out: keep the files, read the table again.
    #[error(
        "whether commit {id} is in can't be told ({reason}); run it again: it starts from what the table says"
    )]
    Ambiguous { id: String, reason: String },
    /// Not in, and trying again as it is would not help.
    #[error("{reason}")]
    Refused { reason: String },
}

impl CommitError {
    /// The core's error for a table.
    pub fn at(self, table: &Path) -> Error {
        let (table, reason) = (table.to_path_buf(), self.to_string());
        match self {
            Self::Conflict { .. } | Self::Fenced { .. } => Error::Fenced { table, reason },
            Self::Ambiguous { .. } | Self::Refused { .. } => Error::Table { table, reason },
        }
    }
}

/// Key of a partition's position: jobs that share a topic each have their own.
pub fn offset_key(job: JobId, cluster_id: &str, topic_id: &str, partition: i32) -> String {
    format!("{job}/{cluster_id}/{topic_id}/{partition}")
}

/// Key of a child job's fencing token.
pub fn token_key(job: JobId, child: &str) -> String {
    format!("{job}/{child}")
}

#[cfg(test)]
mod tests;
