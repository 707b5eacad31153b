//! The section `[topics]` of a job file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Topics {
    pub create: CreateTopics,
    /// Partitions of each topic, frozen for the job: 6 where we create it, what it has where it is there. If given, a
    /// topic with another number is refused.
    pub partitions: Option<u32>,
    /// Replicas of each partition: 1 where we create it. If given, a topic with fewer is refused.
    pub replication: Option<u32>,
    /// How long the topics keep records, in milliseconds; -1: for ever. Absent: what the cluster's topics have. A topic
    /// that keeps them shorter than this, or than `limits.job_deadline_ms`, is refused.
    pub retention_ms: Option<i64>,
    /// Put before the name of every topic.
    pub prefix: String,
    /// `{name}`, `{job}`, `{region}` and `{role}` are filled in; `{role}` is needed.
    pub template: String,
    /// Put before the names of consumer groups.
    pub group_prefix: String,
    /// Key columns; empty: records have no key, and are spread in runs.
    pub key: Vec<String>,
    /// What a key is made of its columns.
    pub key_format: KeyFormat,
    /// The column that names each row's partition, from 0; absent: it is chosen by the key, as Java's clients do, or
    /// rows are spread in runs.
    pub partition_column: Option<String>,
    /// The column in whose order the splits of a child job, and their rows, are published, so that rows of one key reach
    /// the topic in that order. The source must be sorted by it; absent: rows are in the source's order within a split.
    pub order_by: Option<String>,
    /// The column that is the time of each ingress record; absent: the time of sending. Needs a topic that keeps records
    /// for ever (`retention_ms = -1`), since others count their age from this.
    pub timestamp_column: Option<String>,
    /// `none`, `lz4`, `zstd`, `gzip` or `snappy`.
    pub compression: String,
    /// What becomes of the ingress topics once every row is explained.
    pub cleanup: Cleanup,
    /// Each split is published in one transaction: readers see all of its rows or none, and two publishers of one child
    /// job can't both send.
    pub transactional: bool,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            create: CreateTopics::IfMissing,
            partitions: None,
            replication: None,
            retention_ms: None,
            prefix: String::new(),
            template: "{name}.{job}.{region}.{role}".into(),
            group_prefix: "kappaflow.".into(),
            key: Vec::new(),
            key_format: KeyFormat::String,
            partition_column: None,
            order_by: None,
            timestamp_column: None,
            compression: "lz4".into(),
            cleanup: Cleanup::Keep,
            transactional: false,
        }
    }
}

impl Topics {
    /// Whether a record's partition follows from its row's values, not from its number.
    pub fn routed_by_columns(&self) -> bool {
        !self.key.is_empty() || self.partition_column.is_some()
    }
}

/// What becomes of the ingress topics once every row is explained; never before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cleanup {
    /// Nothing: their retention ends them. No right to delete is needed.
    #[default]
    Keep,
    /// Their records are deleted.
    Empty,
    /// They are deleted.
    Delete,
}

/// What a record's key is made of its columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyFormat {
    /// Their texts, `\u001f` between several.
    #[default]
    String,
    /// The bytes of one column of bytes or text.
    Bytes,
    /// As Avro, framed by the id of a schema under the subject `TOPIC-key`: the type of the one field, or a record of
    /// several.
    Avro,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CreateTopics {
    Never,
    IfMissing,
}
