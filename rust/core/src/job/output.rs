//! Where answers land, and how.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The landed table's directory; relative to the job file.
    pub path: String,
    #[serde(default)]
    pub mode: OutputMode,
    /// SQL file of named metrics over the view `landed`.
    pub metrics: Option<String>,
    /// Egress records that can't be read as `schema.egress` go to the dead-letter topic with the reason, and landing goes
    /// on; past so many of a region it stops.
    #[serde(default = "default_max_dead_letters")]
    pub max_dead_letters: u64,
    /// A landing commits what it has when its data files come to so many MiB, so that one that dies has little to do again.
    #[serde(default = "default_commit_mib")]
    pub commit_mib: u32,
    /// The same, when its last commit is so long ago.
    #[serde(default = "default_commit_ms")]
    pub commit_ms: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputMode {
    #[default]
    Append,
}

fn default_max_dead_letters() -> u64 {
    1_000
}

fn default_commit_mib() -> u32 {
    1_024
}

fn default_commit_ms() -> u64 {
    300_000
}
