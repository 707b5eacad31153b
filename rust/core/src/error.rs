//! The one error type of the core. Each variant says what was touched, what was wrong, and what to do about it.

use std::path::{Path, PathBuf};

use crate::registry::RegistryError;

/// Short for a result of the core.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a stage, with the context a person needs to act on it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The job file can't be used: which key, what is wrong, what is allowed.
    #[error("{path}: {key}: {reason}", path = path.display())]
    JobFile {
        path: PathBuf,
        key: String,
        reason: String,
    },
    /// A source file can't be read as what it should be.
    #[error("source {path}: {reason}", path = path.display())]
    Source { path: PathBuf, reason: String },
    /// A source file is no longer what was pinned when the job was planned.
    #[error(
        "source {path} changed since job {job} was planned ({reason}); put the pinned file back, or run `kappaflow plan --new-snapshot` (or dispatch, or run) to replay the source as it is now, as a new job",
        path = path.display()
    )]
    SourceChanged {
        path: PathBuf,
        job: String,
        reason: String,
    },
    /// The planner of the source (Iceberg, Delta, SQL) failed; `kind` is its own name for how.
    #[error("{message}")]
    Planner { kind: String, message: String },
    /// A schema can't be used.
    #[error("schema {what}: {reason}")]
    Schema { what: String, reason: String },
    /// The columns of the source can't become the fields of the schema.
    #[error("coercion plan refused: {0}")]
    Plan(#[from] kappaflow_avro::PlanError),
    /// The schema registry refused or could not be reached.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A cluster could not be reached or refused a request.
    #[error("Kafka of region {region} ({what}): {reason}")]
    Kafka {
        region: String,
        what: String,
        reason: String,
    },
    /// A topic is not what the job needs.
    #[error("topic {topic}{at}: {reason}", at = display_position(*partition, *offset))]
    Topic {
        topic: String,
        partition: Option<i32>,
        offset: Option<i64>,
        reason: String,
    },
    /// A publish that could not account for every row.
    #[error(
        "publish of split {split} to {topic} is not complete: {rows} rows read, {acknowledged} acknowledged, {rejected} rejected, {unknown} unknown; first error: {first_error}. Run it again: what arrived is read back and only the rest is sent"
    )]
    Publish {
        topic: String,
        split: u32,
        rows: u64,
        acknowledged: u64,
        rejected: u64,
        unknown: u64,
        first_error: String,
    },
    /// An attempt at a split in another process failed; `kind` is that of its error.
    #[error("on {host}: {message}")]
    Elsewhere {
        kind: String,
        host: String,
        message: String,
    },
    /// A stream that was not delivered whole. It can't be read twice, so nothing is sent again.
    #[error(
        "publish of the stream to {topic} is not complete: {acknowledged} rows acknowledged, {rejected} rejected, {unknown} unknown, and the rest not delivered; first error: {first_error}. Publish the stream again once that is mended: its records carry a job number of their own"
    )]
    StreamPublish {
        topic: String,
        acknowledged: u64,
        rejected: u64,
        unknown: u64,
        first_error: String,
    },
    /// More rows were rejected than the job allows.
    #[error(
        "{rejected} rows rejected, more than limits.max_rejects = {limit} allows; by reason: {summary}. The rejected rows are in {kept}. Mend them, or raise the limit and publish again: what is done stays done"
    )]
    TooManyRejects {
        rejected: u64,
        limit: String,
        summary: String,
        /// Where the rejected rows are.
        kept: String,
    },
    /// More answers can't be landed than the job allows.
    #[error(
        "more than output.max_dead_letters = {limit} egress records can't be landed: {summary}. They are in topic {topic}{so_far}. Mend what wrote them or the job's schema.egress, or raise the limit, and land again: it goes on from here"
    )]
    TooManyDeadLetters {
        limit: u64,
        /// How many for which reason.
        summary: String,
        topic: String,
        /// What is there, and what is landed.
        so_far: String,
    },
    /// Nobody takes what is published, though it must not get further ahead.
    #[error(
        "topic {topic}: {lag} records wait for group {group}, which has no member and has moved nothing for {waited_s} s (limits.consumer_timeout_ms); at most {limit} may wait (limits.max_lag_records, limits.max_lag_mib). Start the workers, then run it again: it goes on from here"
    )]
    NoConsumer {
        topic: String,
        group: String,
        lag: u64,
        limit: u64,
        waited_s: u64,
    },
    /// The service could not be started or used.
    #[error("service {service}: {reason}")]
    Service { service: String, reason: String },
    /// A worker can't listen where it was told to.
    #[error(
        "can't listen on {address} for metrics and probes: {reason}. Give --listen an address and a port of this machine that nobody has, like 127.0.0.1:9464 (port 0: any that is free)"
    )]
    Listen { address: String, reason: String },
    /// Too many rows of a canary failed.
    #[error(
        "{failed} of {rows} rows of the sample failed, and at most {limit} may: {causes}. The whole has not begun. Mend what they tell of, or allow more with --sample-failures; what the sample left is in job {job}"
    )]
    Sample {
        job: String,
        rows: u64,
        failed: u64,
        limit: String,
        /// How many for which reason.
        causes: String,
    },
    /// The landed table refused a commit or can't be read.
    #[error("table {table}: {reason}", table = table.display())]
    Table { table: PathBuf, reason: String },
    /// Another lander committed first, or a newer placement of a child job holds the table.
    #[error("table {table}: commit refused, {reason}", table = table.display())]
    Fenced { table: PathBuf, reason: String },
    /// An earlier stage has not been done yet.
    #[error("{what}; {fix}")]
    NotReady { what: String, fix: String },
    /// No region has room for a child job.
    #[error("no region has headroom for child job {child} of {rows} rows: {regions}")]
    NoHeadroom {
        child: String,
        rows: u64,
        regions: String,
    },
    /// Rows without a fate after everything was drained.
    #[error(
        "{missing} of {expected} rows are missing, {duplicated} doubled in the table: {examples}"
    )]
    Unexplained {
        expected: u64,
        missing: u64,
        duplicated: u64,
        examples: String,
    },
    /// A fleet has given a job up.
    #[error(
        "the fleet of service {service} has given job {job} up in region {region}: {reason}. What was done is kept; mend it, and submit the job again"
    )]
    Fleet {
        service: String,
        job: String,
        region: String,
        reason: String,
    },
    /// A job was taken back from the fleet that worked on it.
    #[error(
        "job {job} was cancelled in region {region} {by}; what was done is kept, submit it again to go on"
    )]
    Cancelled {
        job: String,
        region: String,
        /// Who, and when.
        by: String,
    },
    /// The store could not be opened, read or written.
    #[error("store {url} ({what}): {reason}")]
    Store {
        url: String,
        what: String,
        reason: String,
    },
    /// A file operation failed.
    #[error("can't {what} {path}: {source}", path = path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// The caller asked to stop (Ctrl-C, SIGTERM, a task that was cancelled). What is done stays done.
    #[error("interrupted during {stage}; what was done is kept, run it again to go on")]
    Interrupted { stage: &'static str },
}

fn display_position(partition: Option<i32>, offset: Option<i64>) -> String {
    match (partition, offset) {
        (Some(p), Some(o)) => format!(" partition {p} offset {o}"),
        (Some(p), None) => format!(" partition {p}"),
        _ => String::new(),
    }
}

impl Error {
    /// The stable name of the variant, by which Python picks its exception class.
    pub fn kind(&self) -> &str {
        match self {
            Self::JobFile { .. } => "job_file",
            Self::Source { .. } => "source",
            Self::SourceChanged { .. } => "source_changed",
            Self::Planner { kind, .. } | Self::Elsewhere { kind, .. } => kind,
            Self::Schema { .. } => "schema",
            Self::Plan(_) => "plan",
            Self::Registry(RegistryError::Settings { .. }) => "registry_settings",
            Self::Registry(RegistryError::Unavailable { .. }) => "registry",
            Self::Registry(RegistryError::NotARegistry { .. }) => "not_a_registry",
            Self::Registry(RegistryError::Denied { .. }) => "registry_denied",
            Self::Registry(RegistryError::NotFound { .. }) => "registry_not_found",
            Self::Registry(RegistryError::Incompatible { .. }) => "incompatible",
            Self::Registry(RegistryError::Refused { .. }) => "registry_refused",
            Self::Registry(RegistryError::Unusable { .. }) => "registry_unusable",
            Self::Kafka { .. } => "kafka",
            Self::Topic { .. } => "topic",
            Self::Publish { .. } | Self::StreamPublish { .. } => "publish",
            Self::TooManyRejects { .. } => "too_many_rejects",
            Self::TooManyDeadLetters { .. } => "too_many_dead_letters",
            Self::NoConsumer { .. } => "no_consumer",
            Self::Service { .. } => "service",
            Self::Listen { .. } => "listen",
            Self::Sample { .. } => "sample",
            Self::Table { .. } => "table",
            Self::Fenced { .. } => "fenced",
            Self::NotReady { .. } => "not_ready",
            Self::NoHeadroom { .. } => "no_headroom",
            Self::Unexplained { .. } => "unexplained",
            Self::Fleet { .. } => "fleet",
            Self::Cancelled { .. } => "cancelled",
            Self::Store { .. } => "store",
            Self::Io { .. } => "io",
            Self::Interrupted { .. } => "interrupted",
        }
    }

    /// Wraps an I/O error with the path and the verb ("open", "write") it happened on.
    pub fn io(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { what, path, source }
    }
}
