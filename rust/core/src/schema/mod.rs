//! What can be asked of a table and a schema before anything is published: derive the one from the other, plan, check.
//! Talks to no broker and no store.

mod check;
mod derive;
mod names;
mod nulls;
mod types;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatchReader;
use arrow_schema::{ArrowError, SchemaRef};
use kappaflow_avro::{AvroSchema, CoercionPlan, PlanOptions, PlanRow};

use crate::error::{Error, Result};
use crate::job;
use crate::publish::RejectPolicy;
use crate::rows;
use crate::session::read_schema;
use crate::snapshot::{self, Planner, Reach, Snapshot, View};

pub use check::{CheckReport, Checked, Example, check};
pub use derive::{DeriveOptions, Derived, Nullable, derive};

/// What is looked at.
pub enum Table {
    /// Parquet files, pinned.
    Snapshot(Box<Snapshot>),
    /// Any Arrow stream.
    Stream(Box<dyn RecordBatchReader + Send>),
}

impl Table {
    /// The Parquet files that a path or URL (a file, a directory or a glob) names.
    ///
    /// # Errors
    /// [`Error::Source`] if nothing is there, or not all of it is Parquet with the same columns.
    pub fn at(path: &Path) -> Result<Self> {
        let here = std::path::absolute(".").map_err(Error::io("resolve the path of", path))?;
        let reach = Reach::new(&here, BTreeMap::new());
        let snapshot = Snapshot::pin(&path.to_string_lossy(), &reach, View::default())?;
        Ok(Self::Snapshot(Box::new(snapshot)))
    }

    /// Rows in all, where that is known beforehand.
    fn rows(&self) -> Option<u64> {
        match self {
            Self::Snapshot(snapshot) => Some(snapshot.rows()),
            Self::Stream(_) => None,
        }
    }

    /// The columns that a schema is offered.
    fn schema_for(&self, terms: &Terms) -> Result<SchemaRef> {
        match self {
            Self::Stream(stream) => Ok(stream.schema()),
            Self::Snapshot(snapshot) => {
                snapshot.schema()?;
                let asked = |name: &str| rows::asked(&terms.schema, &terms.options, name);
                Ok(rows::FileRows::open(snapshot, 0, 0..0, "(none)", &asked)?.schema())
            }
        }
    }
}

/// What a table is held against.
#[derive(Clone, Debug)]
pub struct Terms {
    pub schema: AvroSchema,
    pub options: PlanOptions,
    /// What of a row's values may be shown.
    pub policy: RejectPolicy,
}

impl Terms {
    /// Terms of a schema given as JSON; `what` names it in errors.
    ///
    /// # Errors
    /// [`Error::Schema`].
    pub fn new(what: &str, json: &str, options: PlanOptions) -> Result<Self> {
        let schema = AvroSchema::parse(json).map_err(|e| Error::Schema {
            what: what.to_owned(),
            reason: e.to_string(),
        })?;
        Ok(Self {
            schema,
            options,
            policy: RejectPolicy::default(),
        })
    }
}

/// The source of a job file as it is now, and the terms that its ingress sets.
///
/// # Errors
/// [`Error::JobFile`], [`Error::Schema`], and those of [`snapshot::take`].
pub fn of_job(
    path: &Path,
    params: &BTreeMap<String, String>,
    planner: Option<&Planner>,
) -> Result<(Table, Terms)> {
    let job = job::load(path, params)?;
    let declared = &job.file.schema;
    let schema = read_schema(&job, "schema.ingress", &declared.ingress)?;
    let table = Table::Snapshot(Box::new(snapshot::take(&job, planner, false)?));
    let options = declared.plan_options();
    let terms = Terms {
        policy: RejectPolicy::new(&job.file.rejects, &job.file.topics.key, &options),
        schema,
        options,
    };
    Ok((table, terms))
}

/// The plan, field by field: where its values come from, by which rule, and what may be rejected.
///
/// # Errors
/// [`Error::Plan`] if the columns can't become the fields; [`Error::Source`].
pub fn plan(table: &Table, terms: &Terms) -> Result<Vec<PlanRow>> {
    let columns = table.schema_for(terms)?;
    plan_of(&columns, terms)
}

/// The plan for columns that are given without rows.
///
/// # Errors
/// [`Error::Plan`].
pub fn plan_of(columns: &arrow_schema::Schema, terms: &Terms) -> Result<Vec<PlanRow>> {
    Ok(CoercionPlan::new(columns, &terms.schema, &terms.options)?.describe())
}

fn broken(row: u64, error: &ArrowError) -> Error {
    Error::Source {
        path: PathBuf::from("stream"),
        reason: format!("after row {row}: {error}"),
    }
}
