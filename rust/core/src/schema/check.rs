//! Every row of a table through the gate, as a publish would, without sending any.

use std::collections::BTreeMap;
use std::time::Instant;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use kappaflow_avro::framing::Frame;
use kappaflow_avro::{CoercionPlan, Encoder, Reject};
use serde::Serialize;

use super::{Table, Terms, broken};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::rows::{self, BySchema, FileRows};
use crate::text;

const STAGE: &str = "check";
/// Rows shown of each reason.
const EXAMPLES: usize = 3;

/// What a check found: `rows = passed + rejected`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckReport {
    pub rows: u64,
    pub passed: u64,
    pub rejected: u64,
    /// Most first.
    pub by_reason: Vec<Checked>,
    pub seconds: f64,
}

/// Rows rejected for one reason at one column.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    pub column: String,
    pub reason: String,
    pub rows: u64,
    /// The first few.
    pub examples: Vec<Example>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Relative to the table's root; empty for a stream.
    pub file: String,
    /// Number in the file (in the stream), from 0.
    pub row: u64,
    pub value: String,
}

/// Checks every row. Blocking.
///
/// # Errors
/// [`Error::Plan`] if the columns can't become the fields; [`Error::Source`] if the table can't be read;
/// [`Error::Interrupted`].
pub fn check(table: Table, terms: &Terms, ctx: &Context) -> Result<CheckReport> {
    let began = Instant::now();
    let columns = table.schema_for(terms)?;
    terms.policy.check(&columns)?;
    let mut checking = Checking {
        terms,
        ctx,
        total: table.rows(),
        found: BTreeMap::new(),
        report: CheckReport::default(),
    };
    match table {
        Table::Stream(stream) => {
            let planned = stream.schema();
            let mut encoders = checking.encoders(&planned)?;
            for batch in stream {
                let batch = batch.map_err(|e| broken(checking.report.rows, &e))?;
                let row = checking.report.rows;
                let failed = |reason: String| Error::Source {
                    path: "stream".into(),
                    reason: format!("after row {row}: {reason}"),
                };
                text::fits(&planned, batch.schema_ref()).map_err(failed)?;
                checking.take(&mut encoders, &batch, "", row, &failed)?;
                ctx.check(STAGE)?;
            }
        }
        Table::Snapshot(snapshot) => {
            let asked = |name: &str| rows::asked(&terms.schema, &terms.options, name);
            for (index, pinned) in snapshot.files.iter().enumerate() {
                let groups = 0..pinned.row_groups.len();
                let file = FileRows::open(&snapshot, index, groups, "(none)", &asked)?;
                let mut encoders = checking.encoders(&file.schema())?;
                let mut row = 0;
                for batch in file {
                    let batch = batch?;
                    let failed = |reason: String| Error::Source {
                        path: snapshot.path(index),
                        reason: format!("after row {row}: {reason}"),
                    };
                    checking.take(&mut encoders, &batch, &pinned.path, row, &failed)?;
                    row += batch.num_rows() as u64;
                    ctx.check(STAGE)?;
                }
            }
        }
    }
    Ok(checking.end(began))
}

struct Checking<'a> {
    terms: &'a Terms,
    ctx: &'a Context,
    total: Option<u64>,
    found: BTreeMap<(String, String), (u64, Vec<Example>)>,
    report: CheckReport,
}

impl Checking<'_> {
    /// Encoders, and whether there can be one for these columns.
    fn encoders(&self, columns: &SchemaRef) -> Result<BySchema<Encoder>> {
        let mut encoders = BySchema::new();
        encoders.get(columns, |columns| self.encoder(columns))?;
        Ok(encoders)
    }

    fn encoder(&self, columns: &SchemaRef) -> Result<Encoder> {
        let plan = CoercionPlan::new(columns, &self.terms.schema, &self.terms.options)?;
        // What is thrown away needs no frame.
        Ok(Encoder::new(plan, Frame::Guid))
    }

    /// A batch whose first row is number `row` of `file`.
    fn take(
        &mut self,
        encoders: &mut BySchema<Encoder>,
        batch: &RecordBatch,
        file: &str,
        row: u64,
        failed: &dyn Fn(String) -> Error,
    ) -> Result<()> {
        let encoder = encoders.get(batch.schema_ref(), |columns| self.encoder(columns))?;
        let encoded = encoder.encode(batch).map_err(|e| failed(e.to_string()))?;
        self.report.rows += batch.num_rows() as u64;
        self.report.passed += encoded.len() as u64;
        self.report.rejected += encoded.rejects.len() as u64;
        for reject in encoded.rejects {
            self.reject(reject, file, row);
        }
        self.ctx.report(Progress {
            stage: STAGE,
            label: "rows".into(),
            done: self.report.rows,
            total: self.total,
            note: String::new(),
            figures: BTreeMap::new(),
        });
        Ok(())
    }

    fn reject(&mut self, reject: Reject, file: &str, first_row: u64) {
        let policy = &self.terms.policy;
        let value = policy.value(&reject.column, reject.value);
        let (rows, examples) = self
            .found
            .entry((reject.column, reject.reason))
            .or_default();
        *rows += 1;
        if examples.len() < EXAMPLES {
            examples.push(Example {
                file: file.to_owned(),
                row: first_row + u64::from(reject.row),
                value,
            });
        }
    }

    fn end(mut self, began: Instant) -> CheckReport {
        let found = std::mem::take(&mut self.found).into_iter();
        self.report.by_reason = found
            .map(|((column, reason), (rows, examples))| Checked {
                column,
                reason,
                rows,
                examples,
            })
            .collect();
        // Of equal counts the order of columns and reasons stays.
        self.report
            .by_reason
            .sort_by_key(|c| std::cmp::Reverse(c.rows));
        self.report.seconds = began.elapsed().as_secs_f64();
        self.report
    }
}
