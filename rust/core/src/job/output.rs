//! Where answers land, and how.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{place, secret};

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The landed table's directory: a path, relative to the job file, or a URL: `s3://`, `gs://`, `az://`, `abfss://`,
    /// `hdfs://`, `file://`.
    pub path: String,
    /// Options of the object store that `path` is in, as the `object_store` crate names them; what is not said is taken
    /// from the environment (`AWS_REGION`, …). A secret is a reference (`env:NAME`, `file:PATH`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// What the table is to its readers. Delta and Iceberg are written in Python, by the extras `delta` and `iceberg`.
    #[serde(default)]
    pub format: TableFormat,
    /// `iceberg`: the table's name in the catalog, as `lake.flights`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// `iceberg`: the properties of the catalog, as pyiceberg names them; a secret is a reference (`env:NAME`,
    /// `file:PATH`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub catalog: BTreeMap<String, String>,
    /// What becomes of the rows that other jobs have in the table. All but `append` show a job's rows to readers at once,
    /// when `reconcile` has explained every row.
    #[serde(default)]
    pub mode: OutputMode,
    /// Fields of the egress schema by whose values files are apart, in folders as Hive names them. Each is text, an enum, a
    /// whole number, a boolean or a date.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_key: Vec<String>,
    /// Fields of the egress schema by which the rows of each row group are in order, nulls first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sort_by: Vec<String>,
    /// Memory (MiB) of all files that a lander has open in a region; past it the one with the most writes what it has.
    #[serde(default = "default_memory_mib")]
    pub memory_mib: u32,
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
pub enum TableFormat {
    /// Parquet files, and a manifest that names those of a version.
    #[default]
    Parquet,
    /// A Delta table.
    Delta,
    /// A table of an Iceberg catalog.
    Iceberg,
}

impl TableFormat {
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Delta => "delta",
            Self::Iceberg => "iceberg",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputMode {
    /// They stay, and this job's come to them as they land.
    #[default]
    Append,
    /// Those in partitions (by `partition_key`) that this job has rows in are replaced.
    ReplacePartitions,
    /// All are replaced.
    NewVersion,
}

fn default_memory_mib() -> u32 {
    256
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

impl Output {
    /// # Errors
    /// A key, and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, reason: &str| Err((key.to_owned(), reason.to_owned()));
        place::check(&self.path, &self.options)?;
        secret::check_named(&self.catalog)
            .map_err(|(key, reason)| (format!("catalog.{key:?}"), reason))?;
        match (self.format, &self.table) {
            (TableFormat::Iceberg, None) => {
                return wrong(
                    "table",
                    "is missing: format iceberg needs the table's name in the catalog",
                );
            }
            (TableFormat::Iceberg, Some(name)) if !name.contains('.') => {
                return wrong(
                    "table",
                    "has no namespace, expected one, as in 'lake.flights'",
                );
            }
            (TableFormat::Iceberg, _) => {}
            (_, Some(_)) => return wrong("table", "is of format iceberg only"),
            (_, None) if !self.catalog.is_empty() => {
                return wrong("catalog", "is of format iceberg only");
            }
            _ => {}
        }
        for (key, value) in [
            ("commit_mib", self.commit_mib.into()),
            ("commit_ms", self.commit_ms),
            ("memory_mib", self.memory_mib.into()),
        ] {
            if value == 0 {
                return wrong(key, "is 0, expected at least 1");
            }
        }
        if self.mode == OutputMode::ReplacePartitions && self.partition_key.is_empty() {
            return wrong(
                "mode",
                "is replace_partitions, and there is no partition_key that says which those are",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_is_told_by_its_key() {
        for (toml, key, told) in [
            ("commit_mib = 0", "commit_mib", "expected at least 1"),
            ("commit_ms = 0", "commit_ms", "expected at least 1"),
            ("memory_mib = 0", "memory_mib", "expected at least 1"),
            (
                "mode = 'replace_partitions'",
                "mode",
                "there is no partition_key",
            ),
            ("format = 'iceberg'", "table", "is missing"),
            (
                "format = 'iceberg'\ntable = 'prices'",
                "table",
                "no namespace",
            ),
            ("table = 'lake.prices'", "table", "iceberg only"),
            ("catalog = {type = 'sql'}", "catalog", "iceberg only"),
        ] {
            let output: Output = toml::from_str(&format!("path = 'landed'\n{toml}")).unwrap();
            let (of, reason) = output.check().unwrap_err();
            assert_eq!(of, key, "{toml}");
            assert!(reason.contains(told), "{toml}: {reason}");
        }
        let whole = "path = 'landed'\nmode = 'replace_partitions'\npartition_key = ['day']";
        assert_eq!(toml::from_str::<Output>(whole).unwrap().check(), Ok(()));
    }
}
