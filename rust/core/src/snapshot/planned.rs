//! The plan of a source, as a planner writes it: the files to read, and which of their columns are which.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{HIVE_NULL, Opened, PinnedFile, Reach, Snapshot, View};
use crate::error::{Error, Result};
use crate::job::secret;

/// The version of the plan that is read here.
const VERSION: u32 = 1;

/// A planned source.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourcePlan {
    pub version: u32,
    /// In words, for people: `iceberg db.flights at snapshot 812…`.
    pub what: String,
    /// Identifies the content; part of the job's identity.
    pub pin: String,
    pub files: Vec<PlannedFile>,
    /// Which columns are seen, in order; `None`: all, by their names.
    pub fields: Option<Vec<PlannedField>>,
    /// Options of the files' store; secrets are references. They come before those of `[source.options]`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// A file of the plan.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFile {
    /// A path (relative to the job file) or a URL.
    pub path: String,
    /// If known, checked against the file.
    pub bytes: Option<u64>,
    /// If known, checked against the file.
    pub rows: Option<u64>,
    /// Values of columns that are the same in the whole file, as a Hive folder would name them.
    #[serde(default)]
    pub partition: BTreeMap<String, Option<String>>,
}

/// A column of the table, and how it is found in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedField {
    pub name: String,
    /// The Parquet field id, by which it is found if given.
    pub id: Option<i32>,
    /// Its name in the files; `None`: `name`.
    pub physical: Option<String>,
}

impl SourcePlan {
    /// # Errors
    /// [`Error::Source`] if it is no plan, or of another version.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str, reason: String| Error::Source {
            path: what.into(),
            reason,
        };
        let plan: Self =
            serde_json::from_str(text).map_err(|e| wrong("plan", format!("can't be read: {e}")))?;
        if plan.version != VERSION {
            return Err(wrong(
                &plan.what,
                format!(
                    "its plan is of version {}, expected {VERSION}; the Python part and the binary part are of \
                     different versions: install KappaFlow again",
                    plan.version
                ),
            ));
        }
        Ok(plan)
    }
}

impl Snapshot {
    /// Pins the files of a plan, in its order. Blocks.
    ///
    /// # Errors
    /// [`Error::Source`] if a file can't be read, is no Parquet, or is not what the plan says.
    pub fn pin_planned(plan: SourcePlan, reach: &Reach, view: View) -> Result<Self> {
        let wrong = |reason: String| Error::Source {
            path: plan.what.clone().into(),
            reason,
        };
        secret::check_named(&plan.options)
            .map_err(|(name, reason)| wrong(format!("option {name:?} of its plan {reason}")))?;
        let mut snapshot = Self {
            root: PathBuf::new(),
            files: Vec::with_capacity(plan.files.len()),
            reach: reach.with(&plan.options),
            view,
            planned: Some(Planned {
                what: plan.what,
                pin: plan.pin,
                fields: plan.fields,
                options: plan.options,
            }),
        };
        for file in plan.files {
            let value = |value: Option<String>| value.unwrap_or_else(|| HIVE_NULL.into());
            let partition = file.partition.into_iter();
            let hive = partition.map(|(key, v)| (key, value(v))).collect();
            if snapshot.leaves_out(&file.path, &hive)? {
                continue;
            }
            let opened = snapshot.open(&file.path, None)?;
            let by_id = snapshot.planned.as_ref().and_then(|p| p.fields.as_deref());
            if by_id.is_some_and(|fields| fields.iter().any(|f| f.id.is_some()))
                && !has_ids(&opened)
            {
                return Err(Error::Source {
                    path: reach.shown(&file.path),
                    reason: "none of its columns has a field id, by which the table's columns are found: all of them would be null. Rewrite the file (compact the table), or give the table a name mapping (schema.name-mapping.default)".into(),
                });
            }
            let (said_bytes, said_rows) = (file.bytes, file.rows);
            let pinned = PinnedFile::of(file.path, hive, &opened);
            for (what, said, found) in [
                ("bytes", said_bytes, pinned.bytes),
                ("rows", said_rows, pinned.rows),
            ] {
                if let Some(said) = said
                    && said != found
                {
                    return Err(Error::Source {
                        path: reach.shown(&pinned.path),
                        reason: format!("has {found} {what}, the table's metadata says {said}"),
                    });
                }
            }
            snapshot.add(pinned, &opened)?;
        }
        Ok(snapshot)
    }
}

/// Whether columns of the file have field ids, as writers of Iceberg give them.
fn has_ids(opened: &Opened) -> bool {
    let columns = opened.metadata.parquet_schema().root_schema().get_fields();
    columns.iter().any(|c| c.get_basic_info().has_id())
}

/// What a plan said, beside its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    pub what: String,
    pub pin: String,
    pub fields: Option<Vec<PlannedField>>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}
