//! The identity columns of landed files: what proves, without any other record, which inputs are in the table.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field};
use parquet::arrow::ProjectionMask;

use super::{DataFile, Storage};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::rows::{Groups, Stopped, Wanted};

/// The identity columns a lander adds, in their order in the file.
pub(crate) const JOB: &str = "_job";
pub(crate) const NUMBERS: [&str; 5] = ["_split", "_seq", "_child", "_of", "_attempt"];
pub(crate) const PARTITION: &str = "_partition";
pub(crate) const OFFSET: &str = "_offset";

/// The fields of the identity columns.
pub(crate) fn fields() -> Vec<Arc<Field>> {
    let field = |name: &str, kind| Arc::new(Field::new(name, kind, false));
    let mut fields = vec![field(JOB, DataType::Utf8)];
    fields.extend(NUMBERS.map(|name| field(name, DataType::Int64)));
    fields.push(field(PARTITION, DataType::Int32));
    fields.push(field(OFFSET, DataType::Int64));
    fields
}

/// One landed row's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub split: u32,
    pub seq: u32,
    pub child: u32,
    pub of: u32,
    pub attempt: u32,
}

/// Gives the identity of every row of the files, in file order, reading these columns only.
///
/// # Errors
/// [`Error::Table`] names the file that is missing, damaged or without the columns.
pub fn read_identities<'f>(
    storage: &Storage,
    files: impl IntoIterator<Item = &'f DataFile>,
    ctx: &Context,
    mut each: impl FnMut(JobId, Row) -> Result<()>,
) -> Result<()> {
    for file in files {
        let failed = |reason: String| storage.error(format!("file {}: {reason}", file.path));
        let opened = storage
            .open(&file.path)
            .map_err(|e| failed(e.to_string()))?;
        let names = std::iter::once(JOB).chain(NUMBERS);
        let metadata = &opened.metadata;
        let wanted = Wanted {
            groups: (0..metadata.metadata().num_row_groups()).collect(),
            mask: ProjectionMask::columns(metadata.parquet_schema(), names),
            schema: metadata.schema().clone(),
            filter: None,
        };
        let mut groups = Groups::new(opened, wanted);
        let mut rows = 0;
        loop {
            ctx.check("reconcile")?;
            let batch = match groups.next() {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(Stopped::Changed(reason) | Stopped::Failed(reason)) => {
                    return Err(failed(reason));
                }
            };
            rows += batch.num_rows() as u64;
            each_row(&batch, &failed, &mut each)?;
        }
        if rows != file.rows {
            return Err(failed(format!(
                "has {rows} rows, the manifest says {}",
                file.rows
            )));
        }
    }
    Ok(())
}

fn each_row(
    batch: &RecordBatch,
    failed: &impl Fn(String) -> Error,
    each: &mut impl FnMut(JobId, Row) -> Result<()>,
) -> Result<()> {
    let column = |name: &str| {
        batch
            .column_by_name(name)
            .ok_or_else(|| failed(format!("has no column {name}")))
    };
    let jobs = column(JOB)?
        .as_string_opt::<i32>()
        .ok_or_else(|| failed(format!("column {JOB} is not a string")))?;
    let mut numbers = Vec::with_capacity(NUMBERS.len());
    for name in NUMBERS {
        let values = column(name)?
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(|| failed(format!("column {name} is not int64")))?;
        numbers.push((name, values));
    }
    let mut last: Option<(String, JobId)> = None;
    for i in 0..batch.num_rows() {
        let text = jobs.value(i);
        let job = match &last {
            Some((known, job)) if known == text => *job,
            _ => {
                let job = text
                    .parse()
                    .map_err(|e| failed(format!("{JOB} {text:?}: {e}")))?;
                last = Some((text.to_owned(), job));
                job
            }
        };
        let mut at = [0u32; NUMBERS.len()];
        for (slot, (name, values)) in at.iter_mut().zip(&numbers) {
            *slot = u32::try_from(values.value(i))
                .ok()
                .filter(|_| values.is_valid(i))
                .ok_or_else(|| failed(format!("{name} of row {i} is no identity")))?;
        }
        let [split, seq, child, of, attempt] = at;
        each(
            job,
            Row {
                split,
                seq,
                child,
                of,
                attempt,
            },
        )?;
    }
    Ok(())
}
