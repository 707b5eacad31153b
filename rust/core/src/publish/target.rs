//! Where a stream is published to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use kappaflow_avro::{Extra, FieldDeclaration, Mode};

use super::limits::PaceLimits;
use super::routing::Routing;
use crate::error::{Error, Result};
use crate::job::{KeyFormat, Limits, RejectLimit, Rejects, Topics};
use crate::kafka::{IfMissing, Wish};
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
    /// Partitions of the topic: 6 where it is made, its own where it is there. If given, another number is refused.
    #[serde(default)]
    pub partitions: Option<u32>,
    /// Replicas of each partition: 1 where the topic is made. If given, fewer are refused.
    #[serde(default)]
    pub replication: Option<u32>,
    /// How long the topic keeps records, in milliseconds; -1: for ever. A topic that keeps them shorter is refused.
    #[serde(default)]
    pub retention_ms: Option<i64>,
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
    /// What a key is made of its columns (default: their text).
    #[serde(default)]
    pub key_format: KeyFormat,
    /// The column that names each row's partition.
    #[serde(default)]
    pub partition_column: Option<String>,
    /// The column that is the time of each record; needs a topic that keeps records for ever.
    #[serde(default)]
    pub timestamp_column: Option<String>,
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
    /// Rows a second that are sent at most.
    #[serde(default)]
    pub max_rows_per_s: Option<u32>,
    /// Records that may wait for `group`.
    #[serde(default)]
    pub max_lag_records: Option<u64>,
    /// The same in MiB.
    #[serde(default)]
    pub max_lag_mib: Option<u64>,
    /// The group that works on what is published; needed for a limit on its lag.
    #[serde(default)]
    pub group: Option<String>,
    /// How long to be held back by a group without members before it fails (default 600,000).
    #[serde(default = "default_consumer_timeout_ms")]
    pub consumer_timeout_ms: u64,
    /// Longest wait for a broker's answer (default 30,000).
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

impl StreamTarget {
    /// What is asked of the topic.
    pub fn wish(&self) -> Wish {
        Wish {
            if_missing: IfMissing::Create,
            partitions: self.partitions,
            replication: self.replication,
            retention_ms: self.retention_ms,
            deadline_ms: 0,
            own_times: self.timestamp_column.is_some(),
        }
    }

    /// How fast it may go.
    ///
    /// # Errors
    /// [`Error::JobFile`] if the lag of no group is limited.
    pub fn pace(&self) -> Result<(PaceLimits, String)> {
        let limits = PaceLimits {
            max_rows_per_s: self.max_rows_per_s,
            max_lag_records: self.max_lag_records,
            max_lag_mib: self.max_lag_mib,
            consumer_timeout_ms: self.consumer_timeout_ms,
        };
        match &self.group {
            Some(group) => Ok((limits, group.clone())),
            None if self.max_lag_records.or(self.max_lag_mib).is_none() => {
                Ok((limits, String::new()))
            }
            None => Err(Error::JobFile {
                path: "publish".into(),
                key: "group".into(),
                reason:
                    "is missing: max_lag_records and max_lag_mib count what it has not worked on"
                        .into(),
            }),
        }
    }

    /// What rows are routed by, as far as it is known before the topic and the registry are.
    pub fn routing(&self) -> Routing {
        Routing {
            key: self.key.clone(),
            key_format: self.key_format,
            key_schema: None,
            partition: self.partition_column.clone(),
            timestamp: self.timestamp_column.clone(),
            // A stream is published in its own order.
            order: None,
            ahead_ms: 0,
        }
    }

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
fn default_compression() -> String {
    Topics::default().compression
}
fn default_queue_mib() -> u32 {
    Limits::default().publish_queue_mib
}
fn default_consumer_timeout_ms() -> u64 {
    Limits::default().consumer_timeout_ms
}
fn default_timeout_ms() -> u64 {
    Limits::default().broker_timeout_ms
}
