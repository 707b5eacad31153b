//! The landed table behind one trait: a commit carries files, offsets and fencing tokens, and happens whole or not at
//! all. Parquet with a manifest is here; other formats come behind the same trait.

mod identities;
mod manifest;
mod parquet;
mod seen;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::identity::JobId;

pub(crate) use identities::fields as identity_fields;
pub use identities::{Row, read_identities};
pub use manifest::FORMAT;
pub use parquet::{ParquetTable, live_files};
pub use seen::{Seen, SeenSplit, rebuild};

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
}

/// The table as its newest version says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableState {
    /// 0 before the first commit.
    pub version: u64,
    /// By [`offset_key`].
    pub offsets: BTreeMap<String, Position>,
    /// Fencing token by [`token_key`].
    pub tokens: BTreeMap<String, i64>,
    pub files: Vec<DataFile>,
    /// Name of the sidecar with the inputs that were landed.
    pub seen: Option<String>,
    /// Avro schema (JSON) of the answers, once something was landed.
    pub schema: Option<String>,
    /// Records that were published again though their input was landed, ever, by job.
    pub re_published: BTreeMap<String, u64>,
}

/// One lander's advance on one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// What the lander found in the table, or where the job's records begin if there was nothing.
    pub from: Position,
    pub to: Position,
}

/// What a commit is to change. The table takes it only as it was meant: see [`admit`].
#[derive(Clone, Debug, PartialEq)]
pub struct CommitRequest {
    /// Unique; by it a commit whose answer was lost is found again.
    pub id: String,
    pub job: JobId,
    /// Avro schema (JSON) of the answers.
    pub schema: String,
    pub files: Vec<DataFile>,
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

/// A table that takes commits. Calls block.
pub trait TableCommit: Send + Sync {
    /// Where the table is.
    fn location(&self) -> &Path;
    /// The newest version.
    fn state(&self) -> Result<TableState>;
    /// The inputs that are landed as of a state.
    fn seen(&self, state: &TableState) -> Result<Seen>;
    /// A place for a new data file, which belongs to the table once a commit names it.
    fn new_file(&self) -> Result<NewFile>;
    /// Adds a version with the request's files, offsets and tokens, or nothing at all.
    fn commit(&self, request: &CommitRequest) -> Result<Committed, CommitError>;
}

/// Where to write a data file: first under `temporary`, and renamed when it is whole.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// Relative to the table, for [`DataFile::path`].
    pub path: String,
    pub temporary: PathBuf,
    pub place: PathBuf,
}

/// Key of a partition's position: jobs that share a topic each have their own.
pub fn offset_key(job: JobId, cluster_id: &str, topic_id: &str, partition: i32) -> String {
    format!("{job}/{cluster_id}/{topic_id}/{partition}")
}

/// Key of a child job's fencing token.
pub fn token_key(job: JobId, child: &str) -> String {
    format!("{job}/{child}")
}

/// Whether a table in this state takes the commit: its end equals the lander's start for every partition, no higher
/// token is there for any child, and none of its inputs is landed already.
///
/// # Errors
/// [`CommitError::Fenced`], [`CommitError::Conflict`], or [`CommitError::Refused`] for another schema.
pub fn admit(state: &TableState, seen: &Seen, request: &CommitRequest) -> Result<(), CommitError> {
    for (key, ours) in &request.tokens {
        if let Some(held) = state.tokens.get(key)
            && held > ours
        {
            let child = key.split_once('/').map_or(key.as_str(), |(_, child)| child);
            return Err(CommitError::Fenced {
                child: child.to_owned(),
                held: *held,
                ours: *ours,
            });
        }
    }
    for (key, advance) in &request.offsets {
        let now = state.offsets.get(key).copied().unwrap_or(advance.from);
        if now != advance.from {
            return Err(CommitError::Conflict {
                reason: format!(
                    "partition {key} is landed to offset {}, this lander started at {}",
                    now.next, advance.from.next
                ),
            });
        }
    }
    if let Some((split, rows)) = seen.overlap(&request.seen) {
        return Err(CommitError::Conflict {
            reason: format!("{rows} inputs of split {split} were landed meanwhile"),
        });
    }
    match &state.schema {
        Some(schema) if !same_schema(schema, &request.schema) => Err(CommitError::Refused {
            reason: "it holds answers of another schema than schema.egress; land into another output.path".into(),
        }),
        _ => Ok(()),
    }
}

fn same_schema(a: &str, b: &str) -> bool {
    let columns = |text: &str| {
        let schema = kappaflow_avro::AvroSchema::parse(text).ok()?;
        Some(kappaflow_avro::Decoder::new(&schema).ok()?.arrow_schema())
    };
    a == b || columns(a).is_some_and(|a| columns(b).is_some_and(|b| a == b))
}

/// The state after a commit.
pub fn apply(state: &TableState, request: &CommitRequest, seen: Option<String>) -> TableState {
    let mut next = state.clone();
    next.version += 1;
    next.files.extend(request.files.iter().cloned());
    for (key, advance) in &request.offsets {
        next.offsets.insert(key.clone(), advance.to);
    }
    for (key, token) in &request.tokens {
        next.tokens.insert(key.clone(), *token);
    }
    if request.re_published > 0 {
        *next
            .re_published
            .entry(request.job.to_string())
            .or_default() += request.re_published;
    }
    next.seen = seen.or(next.seen);
    next.schema.get_or_insert_with(|| request.schema.clone());
    next
}

#[cfg(test)]
mod tests;
