//! The model of `job.toml`. Unknown keys are refused, so that a misspelt limit is never silently the default.

use std::collections::BTreeMap;

use kappaflow_avro::{Extra, FieldDeclaration, Mode, PlanOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budget::ServiceBudget;
use super::fleet::ServiceFleet;
use super::grpc::GrpcEndpoint;
use super::http::HttpEndpoint;
use super::limiter::ServiceLimiter;
use super::output::Output;
use super::source::Source;
use super::topics::Topics;
use crate::registry::{Framing, Policy, RegistryConfig, SubjectStrategy, Writer};
use crate::store::Role;

/// One replay of one source snapshot through one version of a service.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobFile {
    /// Letters, digits, `.`, `_` and `-`; part of topic names.
    pub name: String,
    /// What the service does besides answering. A production service may write, charge or mail: say so.
    pub side_effects: SideEffects,
    #[serde(default)]
    pub params: BTreeMap<String, Param>,
    pub source: Source,
    pub schema: Schema,
    #[serde(default)]
    pub topics: Topics,
    pub service: Service,
    pub output: Output,
    /// At least one.
    pub regions: Vec<Region>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub rejects: Rejects,
    #[serde(default)]
    pub store: StoreSection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SideEffects {
    /// The service only computes.
    None,
    /// It acts, but the same `Idempotency-Key` acts once.
    Idempotent,
    /// It stays silent when it sees the replay header.
    Suppressed,
}

/// One `[params]` entry; used anywhere in the file as `${name}`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Param {
    #[serde(rename = "type", default)]
    pub kind: ParamKind,
    /// Absent: the param must be given.
    pub default: Option<serde_json::Value>,
    /// The values allowed; empty: any.
    #[serde(default)]
    pub choices: Vec<serde_json::Value>,
    /// Whether the value is part of the job's identity. Connection details should say `false`.
    #[serde(default = "yes")]
    pub identity: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParamKind {
    #[default]
    String,
    Int,
    Float,
    Bool,
    /// `YYYY-MM-DD`.
    Date,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// Avro schema file of the ingress records.
    pub ingress: String,
    /// Avro schema file of the egress records.
    pub egress: String,
    /// Which rules may make fields of columns; see the coercion page.
    #[serde(default)]
    pub mode: Mode,
    /// What to do with source columns that the ingress schema lacks.
    #[serde(default)]
    pub extra: Extra,
    /// What the registry's subjects are named by: `topic` (`TOPIC-value`), `record` (the record's full name) or
    /// `topic_record` (`TOPIC-RECORD`).
    #[serde(default)]
    pub subject: SubjectStrategy,
    /// Schemas that the registry does not have are registered; otherwise that fails, before a record is sent.
    #[serde(default = "yes")]
    pub auto_register: bool,
    /// Records are written with the subject's latest version, which readers of the job's schema must be able to read.
    #[serde(default)]
    pub use_latest: bool,
    /// Ingress records are written with the schema of this id, which readers of `ingress` must be able to read.
    pub schema_id: Option<u32>,
    /// The registry compares schemas without regard to how they are written.
    #[serde(default)]
    pub normalize: bool,
    /// How records of the ingress and the egress say which schema they were written with; readers take both.
    #[serde(default)]
    pub framing: Framing,
    /// Declarations per field of the ingress schema.
    #[serde(default)]
    pub fields: BTreeMap<String, FieldDeclaration>,
}

impl Schema {
    /// What the table's owner says of the plan.
    pub fn plan_options(&self) -> PlanOptions {
        PlanOptions {
            mode: self.mode,
            extra: self.extra,
            fields: self.fields.clone(),
        }
    }

    /// How the schema of a topic's records is found in the registry.
    pub fn policy(&self, role: Role) -> Policy {
        let own = if self.auto_register {
            Writer::Registered
        } else {
            Writer::LookedUp
        };
        let writer = match (role, self.schema_id) {
            (Role::Ingress, Some(id)) => Writer::Id(id),
            (Role::Ingress | Role::Egress, _) if self.use_latest => Writer::Latest,
            _ => own,
        };
        Policy {
            framing: match role {
                Role::Ingress | Role::Egress => self.framing,
                // Nobody but us reads them.
                Role::Verdict | Role::Deadletter | Role::Receipts => Framing::Id,
            },
            subject: self.subject,
            normalize: self.normalize,
            writer,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    #[serde(default)]
    pub mode: ServiceMode,
    /// Part of the job's identity: a new version of the service is a new job.
    pub version: String,
    /// `module:function`; a record (dict) in, an answer (dict), several (list) or none (filtered) out. This, `http`,
    /// `grpc` or `native`.
    pub callable: Option<String>,
    /// An HTTP endpoint that is called as it is.
    pub http: Option<HttpEndpoint>,
    /// A gRPC service that speaks the published proto.
    pub grpc: Option<GrpcEndpoint>,
    /// The name of a service in Rust that is built into the program that runs the worker.
    pub native: Option<String>,
    /// `module:function` called once in each process with `options`, before any record.
    pub warm_up: Option<String>,
    #[serde(default)]
    pub options: BTreeMap<String, serde_json::Value>,
    /// Put first on the import path of the service processes; relative to the job file.
    #[serde(default)]
    pub python_path: Vec<String>,
    /// Which records meet the service in the order of the log, those behind waiting for those before. Default: `key` where
    /// `topics.key` is given, else `none`.
    pub order: Option<Order>,
    /// The field that says as of when a record is meant: calls tell it as `X-KappaFlow-As-Of`, or `context().as_of`.
    pub as_of: Option<String>,
    /// Calls that one worker has under way at most: of an endpoint or a native service (default: 8), or of a callable that is a coroutine
    /// function (default: 100, shared by its processes). Any other callable has one a process.
    pub concurrency: Option<u32>,
    /// Service processes of one worker, for a callable.
    #[serde(default = "default_processes")]
    pub processes: u32,
    /// How many calls a worker makes at once, of those that `concurrency` allows.
    #[serde(default)]
    pub limiter: ServiceLimiter,
    /// What all workers together may ask of the service, of this job and of others.
    pub budget: Option<ServiceBudget>,
    /// Answers, and the commit that the records they follow from are done, are written in transactions: who reads what is
    /// committed sees each answer once, whatever dies. Needs rights on the transactional ids `GROUP.worker.*`.
    #[serde(default)]
    pub transactional: bool,
    /// Which fleet serves the job, and how, with `mode = "fleet"`.
    #[serde(default)]
    pub fleet: ServiceFleet,
    /// Records handed to a process, or to a call of a native service, at once, at most.
    #[serde(default = "default_batch_records")]
    pub batch_records: u32,
    /// Longest time one record may take; a process that is stuck longer is killed and replaced, a request given up.
    #[serde(default = "default_deadline_ms")]
    pub deadline_ms: u64,
    /// Attempts at a record, the first included, before it is a dead letter.
    #[serde(default = "default_max_attempts")]
    pub max_attempts: u32,
    /// Exception class (`module:Class`) to verdict. Any other exception is retried, then a dead letter.
    #[serde(default)]
    pub verdicts: BTreeMap<String, ExceptionVerdict>,
}

impl Service {
    /// Calls under way at most, by `concurrency` or its default.
    pub fn concurrency(&self) -> u32 {
        let default = if self.callable.is_some() { 100 } else { 8 };
        self.concurrency.unwrap_or(default).max(1)
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        let http = self.http.as_ref().map(|http| http.url.as_str());
        let grpc = self.grpc.as_ref().map(|grpc| grpc.url.as_str());
        let callable = self.callable.as_deref();
        let native = self.native.as_deref();
        let named = callable.or(http).or(grpc).or(native);
        named.unwrap_or("(none)")
    }
}

/// Which records are worked on in the order of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Any, in any order.
    None,
    /// Those of a key; records without one are in no order.
    Key,
    /// Those of a partition: as many at once as there are partitions.
    Partition,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceMode {
    /// A bounded worker started for this job.
    #[default]
    Inline,
    /// The job is submitted to workers that run on their own and serve several jobs, and is watched.
    Fleet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExceptionVerdict {
    Filtered,
    DeadLetter,
    Retry,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Region {
    pub name: String,
    pub bootstrap_servers: String,
    /// Schema registry: `dir:PATH` (relative to the job file), `https://…[,https://…]`, `conn:NAME` (a connection of
    /// Airflow), `env:NAME`, `file:PATH`, or a table.
    #[serde(default)]
    pub registry: RegistryConfig,
    /// Rows the region takes at once, active and queued together.
    pub cap_max: u64,
    /// Further librdkafka options; a secret is a reference (`env:NAME`, `file:PATH`).
    #[serde(default)]
    pub kafka: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// A count (`1000`) or a share (`"1%"`) of rejected rows past which the publish stops. Absent: no limit.
    pub max_rejects: Option<RejectLimit>,
    /// Records a worker has admitted and not finished.
    pub max_in_flight_records: u32,
    /// Bytes (MiB) a worker has admitted and not finished.
    pub max_in_flight_mib: u32,
    /// Bytes (MiB) queued in the publisher.
    pub publish_queue_mib: u32,
    /// Rows a second that a publish sends at most. Absent: no limit.
    pub max_rows_per_s: Option<u32>,
    /// Records of the ingress topic that may wait for the workers; the publisher goes no further ahead, so that the
    /// topic's disk stays bounded. Absent: no limit.
    pub max_lag_records: Option<u64>,
    /// The same in MiB, by the mean size of what was sent.
    pub max_lag_mib: Option<u64>,
    /// How long a publisher is held back by workers that are not there before it fails.
    pub consumer_timeout_ms: u64,
    /// Longest wait for a broker's answer before a stage gives up.
    pub broker_timeout_ms: u64,
    /// A worker silent for this long loses its partitions. With `group_protocol = "consumer"` the broker's
    /// `group.consumer.session.timeout.ms` says it.
    pub session_timeout_ms: u32,
    /// How the workers share partitions.
    pub group_protocol: GroupProtocol,
    /// The longest that the job may take, from its first record to its last row in the table (default: a day). Topics
    /// that keep records for less are refused.
    pub job_deadline_ms: u64,
}

/// How the workers of a group share its partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupProtocol {
    /// Among themselves, cooperatively; every broker can.
    #[default]
    Classic,
    /// The broker does it (KIP-848): rebalances of many partitions are faster. Kafka 4, and no mixing with `classic`.
    Consumer,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_rejects: None,
            max_in_flight_records: 5_000,
            max_in_flight_mib: 64,
            publish_queue_mib: 64,
            max_rows_per_s: None,
            max_lag_records: None,
            max_lag_mib: None,
            consumer_timeout_ms: 600_000,
            broker_timeout_ms: 30_000,
            session_timeout_ms: 10_000,
            group_protocol: GroupProtocol::Classic,
            job_deadline_ms: 86_400_000,
        }
    }
}

/// What is kept of a row that the schema refuses, in the Parquet beside the job and in the dead-letter topic.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rejects {
    /// The row's values.
    pub reject_payload: RejectPayload,
    /// Source columns that are never copied; a name that is no column is an error.
    pub redact: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RejectPayload {
    /// All of them.
    #[default]
    Full,
    /// Those of the key columns (`topics.key`).
    Keys,
    /// None.
    None,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RejectLimit {
    Count(u64),
    /// `"1%"`
    Share(String),
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSection {
    /// `sqlite:PATH`, relative to the job file.
    pub url: String,
}

impl Default for StoreSection {
    fn default() -> Self {
        Self {
            url: "sqlite:.kappaflow/store.db".into(),
        }
    }
}

fn yes() -> bool {
    true
}
fn default_processes() -> u32 {
    2
}
fn default_batch_records() -> u32 {
    500
}
fn default_deadline_ms() -> u64 {
    30_000
}
fn default_max_attempts() -> u32 {
    3
}
