//! The `[source]` section: what is replayed, and at which point in time.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{place, secret};
use crate::snapshot::Filter;

/// What is replayed. Keys that belong to another `format` are refused.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What the source is; it decides which of the other keys are needed.
    #[serde(default)]
    pub format: SourceFormat,
    /// `parquet`: a file, a directory of files, or a glob. `delta`: the table's directory. A path, relative to the job
    /// file, or a URL: `s3://`, `gs://`, `az://`, `abfss://`, `hdfs://`, `file://`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Options of the object store that `path` (or the table's files) is in, as the `object_store` crate names them; what
    /// is not said is taken from the environment (`AWS_REGION`, …). A secret is a reference (`env:NAME`, `file:PATH`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// `iceberg`: the table's name in the catalog, as `db.flights`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// `iceberg`: the properties of the catalog, as pyiceberg names them; a secret is a reference (`env:NAME`,
    /// `file:PATH`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub catalog: BTreeMap<String, String>,
    /// `iceberg`: the snapshot to read. Absent, with `as_of` absent too: the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<i64>,
    /// `delta`: the version to read. Absent, with `as_of` absent too: the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// `iceberg`, `delta`: the table as it was at this time, as `2013-01-31T00:00:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// `sql`: the query whose rows are replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// `sql`: which kind of database `connection` leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<SqlDriver>,
    /// `sql`: a reference to the URI of the database: `env:NAME`, `file:PATH` or `conn:NAME` (a connection of Airflow).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Where rows are kept as Parquet that can't be read twice as they are: those of a query, or of a table with
    /// delete files. Relative to the job file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_path: Option<String>,
    /// What is seen of the source: these columns and folder keys. Absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// Which rows: `[[column, op, value], …]`, which all must hold, or a list of such lists of which one must.
    /// Operators: `=`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in`, `is null`, `is not null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<serde_json::Value>,
    /// The Hive folder key (`k` of `k=v`) or partition column that cuts the job into child jobs. Absent: one child,
    /// `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child_by: Option<String>,
    /// Row groups are packed into splits of up to this many rows; a larger row group is a split by itself.
    #[serde(default = "default_split_rows")]
    pub split_rows: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceFormat {
    /// Parquet files.
    #[default]
    Parquet,
    /// An Iceberg table at a snapshot.
    Iceberg,
    /// A Delta table at a version.
    Delta,
    /// The rows of a query, kept as Parquet first.
    Sql,
}

impl Source {
    /// All columns and rows of Parquet files here.
    pub fn of_files(path: String, split_rows: u32) -> Self {
        Self {
            format: SourceFormat::Parquet,
            path: Some(path),
            options: BTreeMap::new(),
            table: None,
            catalog: BTreeMap::new(),
            snapshot_id: None,
            version: None,
            as_of: None,
            query: None,
            driver: None,
            connection: None,
            snapshot_path: None,
            columns: None,
            filter: None,
            child_by: None,
            split_rows,
        }
    }
}

impl SourceFormat {
    /// As the job file says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Iceberg => "iceberg",
            Self::Delta => "delta",
            Self::Sql => "sql",
        }
    }

    /// The keys of its own that it needs, and those that it may have.
    fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Parquet => (&["path"], &["options"]),
            Self::Iceberg => (
                &["table"],
                &[
                    "catalog",
                    "snapshot_id",
                    "as_of",
                    "snapshot_path",
                    "options",
                ],
            ),
            Self::Delta => (&["path"], &["version", "as_of", "snapshot_path", "options"]),
            Self::Sql => (&["query", "driver", "connection", "snapshot_path"], &[]),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SqlDriver {
    /// A PostgreSQL server.
    Postgresql,
    /// A DuckDB file.
    Duckdb,
}

impl Source {
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, reason: String| Err((key.to_owned(), reason));
        let format = self.format.name();
        let (needed, allowed) = self.format.keys();
        for (key, given) in self.given() {
            let known = needed.contains(&key) || allowed.contains(&key);
            if given && !known {
                return wrong(
                    key,
                    format!(
                        "does not belong to format = {format:?}, which takes {}",
                        [needed, allowed].concat().join(", ")
                    ),
                );
            }
            if !given && needed.contains(&key) {
                return wrong(key, format!("is needed for format = {format:?}"));
            }
        }
        for (one, is_set) in [
            ("snapshot_id", self.snapshot_id.is_some()),
            ("version", self.version.is_some()),
        ] {
            if is_set && self.as_of.is_some() {
                return wrong(
                    "as_of",
                    format!("and source.{one} both say which state of the table; choose one"),
                );
            }
        }
        if let Some(as_of) = &self.as_of
            && let Err(e) = as_of.parse::<jiff::Timestamp>()
        {
            return wrong(
                "as_of",
                format!("{as_of:?}: expected a time with its zone, as 2013-01-31T00:00:00Z ({e})"),
            );
        }
        if let Some(connection) = &self.connection
            && !secret::is_reference(connection)
            && !connection.starts_with("conn:")
        {
            return wrong(
                "connection",
                "may hold a password: give a reference, env:NAME, file:PATH or conn:NAME, not the \
                 URI"
                .into(),
            );
        }
        secret::check_named(&self.catalog)
            .map_err(|(key, reason)| (format!("catalog.{key:?}"), reason))?;
        match &self.path {
            Some(path) => place::check(path, &self.options)?,
            None => place::check_options(&self.options)?,
        }
        if self.columns.as_ref().is_some_and(Vec::is_empty) {
            return wrong("columns", "is empty; leave it out for all columns".into());
        }
        if let Some(filter) = &self.filter {
            Filter::parse(filter).map_err(|reason| ("filter".to_owned(), reason))?;
        }
        if self.split_rows == 0 {
            return wrong("split_rows", "is 0, expected at least 1".into());
        }
        Ok(())
    }

    /// The keys that depend on the format, and whether they are there.
    fn given(&self) -> [(&'static str, bool); 11] {
        [
            ("path", self.path.is_some()),
            ("options", !self.options.is_empty()),
            ("table", self.table.is_some()),
            ("catalog", !self.catalog.is_empty()),
            ("snapshot_id", self.snapshot_id.is_some()),
            ("version", self.version.is_some()),
            ("as_of", self.as_of.is_some()),
            ("query", self.query.is_some()),
            ("driver", self.driver.is_some()),
            ("connection", self.connection.is_some()),
            ("snapshot_path", self.snapshot_path.is_some()),
        ]
    }
}

fn default_split_rows() -> u32 {
    50_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (String, String) {
        let source: Source = toml::from_str(text).unwrap();
        source.check().unwrap_err()
    }

    #[test]
    fn each_format_has_its_keys() {
        for text in [
            "path = 'data'",
            "path = 's3://b/d'\noptions = {region = 'r', secret_access_key = 'env:K'}\ncolumns = ['x']",
            "format = 'iceberg'\ntable = 'db.t'\nsnapshot_id = 7\ncatalog = {type = 'sql'}",
            "format = 'iceberg'\ntable = 'db.t'\nas_of = '2013-01-31T00:00:00+01:00'",
            "format = 'delta'\npath = 't'\nversion = 3\nsnapshot_path = 'kept'",
            "format = 'sql'\nquery = 'SELECT 1'\ndriver = 'duckdb'\nconnection = 'env:DB'\nsnapshot_path = 'k'",
        ] {
            let source: Source = toml::from_str(text).unwrap();
            assert_eq!(source.check(), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused_by_its_key() {
        for (text, key, word) in [
            ("format = 'parquet'", "path", "is needed"),
            ("path = 'd'\nversion = 1", "version", "which takes path"),
            (
                "format = 'delta'\npath = 't'\nsnapshot_id = 1",
                "snapshot_id",
                "version, as_of",
            ),
            (
                "format = 'iceberg'\ntable = 't'\npath = 'd'",
                "path",
                "\"iceberg\"",
            ),
            (
                "format = 'iceberg'\ntable = 't'\nsnapshot_id = 1\nas_of = '2013-01-31T00:00:00Z'",
                "as_of",
                "choose one",
            ),
            (
                "format = 'delta'\npath = 't'\nas_of = '2013-01-31'",
                "as_of",
                "2013-01-31T00:00:00Z",
            ),
            (
                "format = 'sql'\nquery = 'q'\ndriver = 'postgresql'\nconnection = 'postgresql://me:pw@db'\nsnapshot_path = 'k'",
                "connection",
                "reference",
            ),
            (
                "format = 'iceberg'\ntable = 't'\ncatalog = {\"s3.secret-access-key\" = 'abc'}",
                "catalog.\"s3.secret-access-key\"",
                "reference",
            ),
            ("path = 'd'\nsplit_rows = 0", "split_rows", "at least 1"),
            ("path = 'd'\ncolumns = []", "columns", "leave it out"),
            (
                "path = 'd'\nfilter = [['x', 'like', 1]]",
                "filter",
                "not in",
            ),
            ("path = 'ftp://d'", "path", "s3://"),
            (
                "path = 'd'\noptions = {region = 'r'}",
                "options.\"region\"",
                "on disk",
            ),
            (
                "path = 's3://d'\noptions = {regoin = 'r'}",
                "options.\"regoin\"",
                "it has: access_key_id",
            ),
            (
                "path = 's3://d'\noptions = {secret_access_key = 'abc'}",
                "options.\"secret_access_key\"",
                "reference",
            ),
        ] {
            let (at, reason) = refused(text);
            assert_eq!(at, key, "{text}");
            assert!(reason.contains(word), "{text}: {reason}");
            assert!(
                !reason.contains("pw") && !reason.contains("abc"),
                "{reason}"
            );
        }
    }
}
