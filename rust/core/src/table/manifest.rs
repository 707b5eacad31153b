//! `_kappaflow/<20-digit version>.json`: one version of a Parquet table, complete in itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DataFile, Position, TableState};

/// The manifest layout this build writes; it refuses newer ones.
pub const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub format: u32,
    pub version: u64,
    /// The commit that made this version.
    pub commit: String,
    pub created_ms: i64,
    pub schema: Option<String>,
    pub seen: Option<String>,
    pub offsets: BTreeMap<String, Position>,
    pub tokens: BTreeMap<String, i64>,
    pub re_published: BTreeMap<String, u64>,
    pub files: Vec<DataFile>,
}

/// Read first, so that a newer layout is refused by its number and not by a key it lacks.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Manifest {
    pub fn new(state: TableState, commit: &str) -> Self {
        Self {
            format: FORMAT,
            version: state.version,
            commit: commit.to_owned(),
            created_ms: crate::store::now_ms(),
            schema: state.schema,
            seen: state.seen,
            offsets: state.offsets,
            tokens: state.tokens,
            re_published: state.re_published,
            files: state.files,
        }
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let format: Format =
            serde_json::from_str(text).map_err(|e| format!("is no manifest: {e}"))?;
        if format.format > FORMAT {
            return Err(format!(
                "was written by a newer KappaFlow (manifest format {}, this build reads up to {FORMAT}); upgrade this one",
                format.format
            ));
        }
        serde_json::from_str(text).map_err(|e| format!("is damaged: {e}"))
    }

    /// Whether a commit is in this version or an earlier one whose files are still live.
    pub fn holds(&self, commit: &str) -> bool {
        self.commit == commit || self.files.iter().any(|f| f.commit == commit)
    }

    pub fn state(self) -> TableState {
        TableState {
            version: self.version,
            offsets: self.offsets,
            tokens: self.tokens,
            files: self.files,
            seen: self.seen,
            schema: self.schema,
            re_published: self.re_published,
        }
    }
}
