//! From a file on disk to a checked job: params substituted, every key read, every path resolved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::model::{JobFile, Param, RejectLimit};
use super::output::{OutputMode, TableFormat};
use super::params::{self, ParamValues};
use super::secret;
use super::service;
use super::source::Source;
use super::topics::Cleanup;
use crate::error::{Error, Result};
use crate::kafka::{self, TRANSACTION_TIMEOUT_MS};
use crate::snapshot::{Address, without_scheme};
use crate::table::Registrar;

/// A job file that has been read and checked.
#[derive(Clone, Debug)]
pub struct Job {
    /// The job file, absolute.
    pub path: PathBuf,
    /// Its directory: what paths in it are relative to.
    pub dir: PathBuf,
    pub file: JobFile,
    pub params: ParamValues,
    /// Who speaks the table's format, if that is none of ours.
    pub registrar: Option<Registrar>,
}

impl Job {
    /// A path of the job file, made absolute.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    /// The directory or the URL of the landed table.
    pub fn table(&self) -> PathBuf {
        let path = &self.file.output.path;
        match Address::parse(path) {
            Ok(None) => self.dir.join(without_scheme(path)),
            _ => PathBuf::from(path),
        }
    }

    /// An error about one key of this file.
    pub fn error(&self, key: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::JobFile {
            path: self.path.clone(),
            key: key.into(),
            reason: reason.into(),
        }
    }

    /// Where this job's working files go (rejects, the resolved file).
    pub fn work_dir(&self) -> PathBuf {
        self.dir.join(".kappaflow")
    }

    /// The file after substitution, as TOML, as it is kept with the job.
    pub fn resolved_toml(&self) -> Result<String> {
        toml::to_string_pretty(&self.file).map_err(|e| self.error("(file)", e.to_string()))
    }

    /// The same job over a sample of its rows, with topics and a table of its own.
    pub fn canary(&self, sample: &Path) -> Self {
        let mut job = self.clone();
        let file = &mut job.file;
        file.name.push_str("-sample");
        let path = sample.to_string_lossy().into_owned();
        file.output.path = format!("{path}-landed");
        file.output.options.clear();
        file.output.format = TableFormat::Parquet;
        file.output.table = None;
        file.output.catalog.clear();
        file.output.mode = OutputMode::Append;
        file.output.metrics = None;
        file.source = Source::of_files(path, file.source.split_rows);
        job
    }

    /// The params that are part of the job's identity, as canonical JSON (keys sorted).
    pub fn identity_params(&self) -> String {
        let kept: BTreeMap<_, _> = self
            .params
            .iter()
            .filter(|(name, _)| self.file.params.get(*name).is_some_and(|p| p.identity))
            .collect();
        serde_json::to_string(&kept).unwrap_or_default()
    }
}

/// Reads and checks a job file with the params given as text (`--param name=value`).
///
/// # Errors
/// [`Error::JobFile`] names the key, the value and what is allowed; [`Error::Io`] if the file can't be read.
pub fn load(path: &Path, given: &BTreeMap<String, String>) -> Result<Job> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read the job file", path))?;
    let path = std::path::absolute(path).map_err(Error::io("resolve the path of", path))?;
    let dir = path.parent().unwrap_or(Path::new("/")).to_path_buf();
    let error = |key: &str, reason: String| Error::JobFile {
        path: path.clone(),
        key: key.to_owned(),
        reason,
    };
    let mut table: toml::Table = toml::from_str(&text)
        .map_err(|e| error("(not TOML)", e.to_string().trim_end().to_owned()))?;

    let declared: BTreeMap<String, Param> = match table.get("params") {
        Some(value) => serde_path_to_error::deserialize(value.clone())
            .map_err(|e| error(&format!("params.{}", e.path()), plain(e.inner())))?,
        None => BTreeMap::new(),
    };
    let params = params::resolve(&declared, given).map_err(|(key, reason)| error(&key, reason))?;
    for (key, value) in table.iter_mut().filter(|(key, _)| *key != "params") {
        params::substitute(value, &params, key).map_err(|(key, reason)| error(&key, reason))?;
    }
    if let Some(filter) = table
        .get_mut("source")
        .and_then(|source| source.get_mut("filter"))
    {
        dates_as_text(filter);
    }
    let file: JobFile =
        serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|e| {
            let key = e.path().to_string();
            error(
                if key == "." { "(top level)" } else { &key },
                plain(e.inner()),
            )
        })?;
    let job = Job {
        path: path.clone(),
        dir,
        file,
        params,
        registrar: None,
    };
    check(&job)?;
    Ok(job)
}

/// A job file that was read before, from what [`Job::resolved_toml`] made of it.
///
/// # Errors
/// [`Error::JobFile`], if this version can't read it.
pub fn resolved(path: &Path, params: ParamValues, text: &str) -> Result<Job> {
    let file = toml::from_str(text).map_err(|e| Error::JobFile {
        path: path.to_path_buf(),
        key: "(as it was kept)".into(),
        reason: plain(&e),
    })?;
    let job = Job {
        path: path.to_path_buf(),
        dir: path.parent().unwrap_or(Path::new("/")).to_path_buf(),
        file,
        params,
        registrar: None,
    };
    check(&job)?;
    Ok(job)
}

/// Dates and times that TOML knows, as the texts that a filter compares with.
fn dates_as_text(value: &mut toml::Value) {
    match value {
        toml::Value::Datetime(date) => *value = toml::Value::String(date.to_string()),
        toml::Value::Array(values) => values.iter_mut().for_each(dates_as_text),
        _ => {}
    }
}

fn plain(error: &toml::de::Error) -> String {
    error.message().to_owned()
}

fn check(job: &Job) -> Result<()> {
    let file = &job.file;
    let name_ok = |s: &str| {
        !s.is_empty()
            && s.chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    if !name_ok(&file.name) {
        return Err(job.error(
            "name",
            format!("{:?}: use letters, digits, '.', '_' and '-'", file.name),
        ));
    }
    if file.regions.is_empty() {
        return Err(job.error(
            "regions",
            "give at least one [[regions]] with name, bootstrap_servers, cap_max",
        ));
    }
    for (i, region) in file.regions.iter().enumerate() {
        let key = |k: &str| format!("regions[{i}].{k}");
        if !name_ok(&region.name) {
            return Err(job.error(
                key("name"),
                format!("{:?}: use letters, digits, '.', '_' and '-'", region.name),
            ));
        }
        if file.regions[..i].iter().any(|r| r.name == region.name) {
            return Err(job.error(key("name"), format!("{:?} is used twice", region.name)));
        }
        if region.bootstrap_servers.trim().is_empty() {
            return Err(job.error(
                key("bootstrap_servers"),
                "is empty; expected host:port[,host:port]",
            ));
        }
        region.registry.check().map_err(|(part, reason)| {
            let dot = if part.is_empty() { "" } else { "." };
            job.error(key(&format!("registry{dot}{part}")), reason)
        })?;
        for (option, value) in &region.kafka {
            if let Some(reason) = kafka::refusal(option) {
                return Err(job.error(key(&format!("kafka.{option:?}")), reason));
            }
            if secret::is_secret_option(option) && !secret::is_reference(value) {
                return Err(job.error(
                    key(&format!("kafka.{option:?}")),
                    "is a secret: give a reference, env:NAME or file:PATH, not the value",
                ));
            }
        }
        kafka::check_sasl(&region.kafka)
            .map_err(|(option, reason)| job.error(key(&format!("kafka.{option:?}")), reason))?;
    }
    let given = |n: Option<u32>| u64::from(n.unwrap_or(1));
    positive(job, "topics.partitions", given(file.topics.partitions))?;
    positive(job, "topics.replication", given(file.topics.replication))?;
    positive(job, "limits.job_deadline_ms", file.limits.job_deadline_ms)?;
    let limits = &file.limits;
    positive(job, "limits.max_rows_per_s", given(limits.max_rows_per_s))?;
    positive(
        job,
        "limits.max_lag_records",
        limits.max_lag_records.unwrap_or(1),
    )?;
    positive(job, "limits.max_lag_mib", limits.max_lag_mib.unwrap_or(1))?;
    if file
        .topics
        .retention_ms
        .is_some_and(|ms| ms < -1 || ms == 0)
    {
        return Err(job.error(
            "topics.retention_ms",
            "is neither a time in milliseconds nor -1 (for ever)",
        ));
    }
    if file.topics.timestamp_column.is_some() && file.topics.retention_ms.is_some_and(|ms| ms != -1)
    {
        return Err(job.error(
            "topics.retention_ms",
            "counts from the times of records, and topics.timestamp_column makes them those of a column: it must be -1 then, or be left out",
        ));
    }
    file.source
        .check()
        .map_err(|(key, reason)| job.error(format!("source.{key}"), reason))?;
    positive(job, "service.processes", u64::from(file.service.processes))?;
    positive(
        job,
        "service.batch_records",
        u64::from(file.service.batch_records),
    )?;
    if let Some(concurrency) = file.service.concurrency {
        positive(job, "service.concurrency", u64::from(concurrency))?;
    }
    positive(job, "service.deadline_ms", file.service.deadline_ms)?;
    positive(
        job,
        "service.max_attempts",
        u64::from(file.service.max_attempts),
    )?;
    positive(
        job,
        "limits.max_in_flight_records",
        u64::from(file.limits.max_in_flight_records),
    )?;
    positive(
        job,
        "limits.max_in_flight_mib",
        u64::from(file.limits.max_in_flight_mib),
    )?;
    positive(
        job,
        "limits.publish_queue_mib",
        u64::from(file.limits.publish_queue_mib),
    )?;
    if file.schema.use_latest && file.schema.schema_id.is_some() {
        return Err(job.error(
            "schema.use_latest",
            "and schema.schema_id both say what ingress records are written with; choose one",
        ));
    }
    if !file.topics.template.contains("{role}") {
        return Err(job.error(
            "topics.template",
            "needs {role}, or the four topics would be one",
        ));
    }
    if file.topics.cleanup != Cleanup::Keep && !file.topics.template.contains("{job}") {
        return Err(job.error(
            "topics.cleanup",
            "empties topics that other jobs may use too: topics.template has no {job}",
        ));
    }
    if file.topics.transactional
        && let Some(rate) = file.limits.max_rows_per_s
        && u64::from(file.source.split_rows) * 1_000 / u64::from(rate.max(1))
            > TRANSACTION_TIMEOUT_MS
    {
        return Err(job.error(
            "limits.max_rows_per_s",
            format!(
                "makes a split of source.split_rows = {} rows take longer than a transaction may be open ({} s); cut smaller splits",
                file.source.split_rows,
                TRANSACTION_TIMEOUT_MS / 1_000
            ),
        ));
    }
    if !["none", "lz4", "zstd", "gzip", "snappy"].contains(&file.topics.compression.as_str()) {
        return Err(job.error(
            "topics.compression",
            format!(
                "{:?}: expected none, lz4, zstd, gzip or snappy",
                file.topics.compression
            ),
        ));
    }
    service::check(job)?;
    file.service
        .limiter
        .check()
        .map_err(|reason| job.error("service.limiter", reason))?;
    if let Some(budget) = &file.service.budget {
        let windows = budget.check();
        windows.map_err(|(key, reason)| job.error(format!("service.budget.{key}"), reason))?;
    }
    file.service
        .fleet
        .check()
        .map_err(|(key, reason)| job.error(format!("service.fleet.{key}"), reason))?;
    file.output
        .check()
        .map_err(|(key, reason)| job.error(format!("output.{key}"), reason))?;
    if let Some(limit) = &file.limits.max_rejects {
        limit
            .check()
            .map_err(|reason| job.error("limits.max_rejects", reason))?;
    }
    Ok(())
}

fn positive(job: &Job, key: &str, value: u64) -> Result<()> {
    if value == 0 {
        return Err(job.error(key, "is 0, expected at least 1"));
    }
    Ok(())
}

/// `"1.5%"` as 0.015.
fn reject_share(text: &str) -> Option<f64> {
    let share = text.trim().strip_suffix('%')?.trim().parse::<f64>().ok()?;
    (0.0..=100.0).contains(&share).then_some(share / 100.0)
}

impl RejectLimit {
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Share(text) if reject_share(text).is_none() => Err(format!(
                "{text:?}: expected a count or a share such as \"1%\""
            )),
            _ => Ok(()),
        }
    }

    /// The most rows of `rows` that may be rejected.
    pub fn of(&self, rows: u64) -> u64 {
        match self {
            Self::Count(count) => *count,
            // A share of a row count below 2^53; rounded down, so that "1%" of 50 rows allows none.
            Self::Share(text) => (reject_share(text).unwrap_or(0.0) * rows as f64) as u64,
        }
    }
}

/// `10` or `1%`.
impl std::str::FromStr for RejectLimit {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let limit = match text.parse() {
            Ok(count) => Self::Count(count),
            Err(_) => Self::Share(text.to_owned()),
        };
        limit.check()?;
        Ok(limit)
    }
}

/// As the job file says it.
impl std::fmt::Display for RejectLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Share(share) => f.write_str(share),
        }
    }
}
