//! Where a stream is published to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use kappaflow_avro::{Extra, FieldDeclaration, Mode};

use crate::job::{Limits, RejectLimit, Rejects, Topics};
use crate::registry::{Framing, Policy, RegistryConfig, SubjectStrategy, Writer};

/// Where a stream goes, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamTarget {
    pub bootstrap_servers: String,
    /// Further librdkafka options; a secret is a reference (`env:NAME`, `file:PATH`).
    #[serde(default)]
    pub kafka: BTreeMap<String, String>,
    pub topic: String,
    /// Partitions of the topic if it has to be made (default 6); one that is there keeps its own.
    #[serde(default = "default_partitions")]
    pub partitions: u32,
    /// Replicas of the topic if it has to be made (default 1).
    #[serde(default = "default_replication")]
    pub replication: u32,
    /// Avro schema, JSON.
    pub schema: String,
    /// Schema registry: `dir:PATH` (relative to `base`), `https://…`, or a table as in a job file.
    pub registry: RegistryConfig,
    /// What the registry's subject is named by (default: the topic).
    #[serde(default)]
    pub subject: SubjectStrategy,
    /// Registers the schema if the registry does not have it (default: yes).
    #[serde(default = "yes")]
    pub auto_register: bool,
    /// Writes with the subject's latest version (default: no).
    #[serde(default)]
    pub use_latest: bool,
    /// Writes with the schema of this id.
    #[serde(default)]
    pub schema_id: Option<u32>,
    /// The registry compares schemas without regard to how they are written (default: no).
    #[serde(default)]
    pub normalize: bool,
    /// How records say which schema they were written with (default: by its id).
    #[serde(default)]
    pub framing: Framing,
    /// What relative paths are relative to.
    pub base: PathBuf,
    /// Which rules the plan may hold (default: checked).
    #[serde(default)]
    pub mode: Mode,
    /// What to do with columns that the schema lacks (default: refuse).
    #[serde(default)]
    pub extra: Extra,
    /// Declarations by field of the schema.
    #[serde(default)]
    pub fields: BTreeMap<String, FieldDeclaration>,
    /// Key columns; empty: rows are spread in runs.
    #[serde(default)]
    pub key: Vec<String>,
    /// What is kept of rejected rows.
    #[serde(default)]
    pub rejects: Rejects,
    /// Topic of rejected rows; made like `topic` if it is missing. Absent: the receipt shows the first of them.
    pub dead_letter: Option<String>,
    /// Rows that may be rejected: past a count the stream stops, a share is of all rows and known at the end.
    pub max_rejects: Option<RejectLimit>,
    /// `none`, `lz4` (default), `zstd`, `gzip` or `snappy`.
    #[serde(default = "default_compression")]
    pub compression: String,
    /// Memory for queued records, in MiB (default 64).
    #[serde(default = "default_queue_mib")]
    pub queue_mib: u32,
    /// Longest wait for a broker's answer (default 30,000).
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

impl StreamTarget {
    /// How the schema of the records is found in the registry.
    pub fn policy(&self) -> Policy {
        Policy {
            framing: self.framing,
            subject: self.subject,
            normalize: self.normalize,
            writer: match self.schema_id {
                Some(id) => Writer::Id(id),
                None if self.use_latest => Writer::Latest,
                None if self.auto_register => Writer::Registered,
                None => Writer::LookedUp,
            },
        }
    }
}

fn yes() -> bool {
    true
}
fn default_partitions() -> u32 {
    Topics::default().partitions
}
fn default_replication() -> u32 {
    Topics::default().replication
}
fn default_compression() -> String {
    Topics::default().compression
}
fn default_queue_mib() -> u32 {
    Limits::default().publish_queue_mib
}
fn default_timeout_ms() -> u64 {
    Limits::default().broker_timeout_ms
}
