//! Small files made into large ones: by bins of one job, one region and one partition, row by row as they are, the identity
//! columns too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{RecordBatch, new_null_array};
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use serde::Serialize;

use super::{DataFile, Files, Shape, Table};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::files::unique_name;
use crate::rows::{Groups, Stopped, Wanted};
use crate::snapshot::Opened;

const STAGE: &str = "compact";
/// A file of this size or more is left as it is.
const LARGE_BYTES: u64 = 96 << 20;
/// Bytes of the files that become one.
const BIN_BYTES: u64 = 128 << 20;

/// What a compaction did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CompactSummary {
    /// The table's directory or URL.
    pub table: String,
    /// The table's version afterwards.
    pub version: u64,
    /// Files that became others, and those.
    pub files_before: u64,
    pub files_after: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub rows: u64,
    /// Bins whose files were replaced by somebody else meanwhile: they are as that one left them.
    pub given_up: u64,
    pub seconds: f64,
}

/// Compacts what readers see of a table, a commit for each bin. Safe at any time, also while landers commit; killed at any
/// point, each bin is done or is not. Blocking.
///
/// # Errors
/// [`Error::Table`], [`Error::Io`], [`Error::Interrupted`].
pub fn compact(table: &Table, shape: &Shape, ctx: &Context) -> Result<CompactSummary> {
    let begun = Instant::now();
    let state = table.state()?;
    let bins = bins(&state.files);
    let mut done = CompactSummary {
        table: table.location().display().to_string(),
        version: state.version,
        ..CompactSummary::default()
    };
    for (number, bin) in bins.iter().enumerate() {
        ctx.check(STAGE)?;
        ctx.report(Progress {
            stage: STAGE,
            label: "table".into(),
            done: number as u64,
            total: Some(bins.len() as u64),
            note: format!("{} files", bin.len()),
            figures: BTreeMap::new(),
        });
        rewrite(table, shape, bin, ctx, &mut done)?;
    }
    done.seconds = begun.elapsed().as_secs_f64();
    Ok(done)
}

/// Files that become one, each bin of two at least: first fit, the largest first.
fn bins(files: &[DataFile]) -> Vec<Vec<DataFile>> {
    let mut groups: BTreeMap<_, Vec<DataFile>> = BTreeMap::new();
    // What others have rewritten may hold rows of several jobs, and is theirs to compact.
    let ours = |f: &&DataFile| f.bytes < LARGE_BYTES && !f.job.is_empty();
    for file in files.iter().filter(ours) {
        let key = (&file.job, &file.region, &file.partition);
        groups.entry(key).or_default().push(file.clone());
    }
    let mut bins = Vec::new();
    for mut group in groups.into_values() {
        group.sort_by_key(|file| std::cmp::Reverse(file.bytes));
        let mut of_group: Vec<(u64, Vec<DataFile>)> = Vec::new();
        for file in group {
            let fits = |bin: &&mut (u64, Vec<DataFile>)| bin.0 + file.bytes <= BIN_BYTES;
            match of_group.iter_mut().find(fits) {
                Some((bytes, bin)) => {
                    *bytes += file.bytes;
                    bin.push(file);
                }
                None => of_group.push((file.bytes, vec![file])),
            }
        }
        let several = of_group.into_iter().map(|(_, bin)| bin);
        bins.extend(several.filter(|bin| bin.len() > 1));
    }
    bins
}

fn rewrite(
    table: &Table,
    shape: &Shape,
    bin: &[DataFile],
    ctx: &Context,
    done: &mut CompactSummary,
) -> Result<()> {
    let Some(first) = bin.first() else {
        return Ok(());
    };
    let storage = table.storage();
    let mut opened = Vec::with_capacity(bin.len());
    for file in bin {
        match storage.open(&file.path) {
            Ok(file) => opened.push(file),
            Err(_) if !names(table, bin)? => {
                done.given_up += 1;
                return Ok(());
            }
            Err(e) => return Err(e),
        }
    }
    let schema = union(&opened);
    let same_key = first.partition.len() == shape.partition_key.len()
        && shape
            .partition_key
            .iter()
            .all(|k| first.partition.contains_key(k));
    let shape = Shape {
        job: first.job.parse().unwrap_or(shape.job),
        region: first.region.clone(),
        partition_key: match same_key {
            true => shape.partition_key.clone(),
            // It was landed under another key.
            false => first.partition.keys().cloned().collect(),
        },
        commit_bytes: u64::MAX,
        ..shape.clone()
    };
    let mut files = Files::new(storage, Arc::clone(&schema), shape)?;
    let mut rows = 0;
    for (file, opened) in bin.iter().zip(opened) {
        rows += copy(table, file, opened, &schema, &mut files, ctx)?;
    }
    let commit = unique_name();
    let added = files.finish(&commit)?;
    let committed = table.replace(&added, bin, &commit);
    if !matches!(committed, Ok(None)) {
        // They are in, or may be.
        files.keep();
    }
    match committed.map_err(|e| e.at(table.location()))? {
        None => done.given_up += 1,
        Some(version) => {
            let bytes = |files: &[DataFile]| files.iter().map(|f| f.bytes).sum::<u64>();
            done.version = version;
            done.files_before += bin.len() as u64;
            done.files_after += added.len() as u64;
            done.bytes_before += bytes(bin);
            done.bytes_after += bytes(&added);
            done.rows += rows;
        }
    }
    Ok(())
}

/// Whether the table still has all of the files.
fn names(table: &Table, bin: &[DataFile]) -> Result<bool> {
    let state = table.state()?;
    let has = |file: &DataFile| state.files.iter().any(|f| f.path == file.path);
    Ok(bin.iter().all(has))
}

/// The columns of all files, those first that the first has. What one of them lacks may be null.
fn union(files: &[Opened]) -> SchemaRef {
    let schemas: Vec<&SchemaRef> = files.iter().map(|f| f.metadata.schema()).collect();
    let mut fields: Vec<Field> = Vec::new();
    for field in schemas.iter().flat_map(|s| s.fields()) {
        if fields.iter().all(|f| f.name() != field.name()) {
            let everywhere = schemas.iter().all(|s| {
                s.field_with_name(field.name())
                    .is_ok_and(|f| !f.is_nullable())
            });
            fields.push(field.as_ref().clone().with_nullable(!everywhere));
        }
    }
    Arc::new(Schema::new(fields))
}

fn copy(
    table: &Table,
    file: &DataFile,
    opened: Opened,
    schema: &SchemaRef,
    files: &mut Files,
    ctx: &Context,
) -> Result<u64> {
    let failed = |reason: String| Error::Table {
        table: table.location().to_path_buf(),
        reason: format!("file {}: {reason}", file.path),
    };
    let wanted = Wanted {
        groups: (0..opened.metadata.metadata().num_row_groups()).collect(),
        mask: ProjectionMask::all(),
        schema: opened.metadata.schema().clone(),
        filter: None,
    };
    let mut groups = Groups::new(opened, wanted);
    let mut rows = 0;
    loop {
        ctx.check(STAGE)?;
        let batch = match groups.next() {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(Stopped::Changed(reason) | Stopped::Failed(reason)) => return Err(failed(reason)),
        };
        rows += batch.num_rows() as u64;
        files.write(as_of(&batch, schema).map_err(|e| failed(e.to_string()))?)?;
    }
    if rows != file.rows {
        let said = file.rows;
        return Err(failed(format!("has {rows} rows, the table says {said}")));
    }
    Ok(rows)
}

fn as_of(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| {
        let column = batch.column_by_name(field.name()).cloned();
        column.unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows()))
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(number: usize, (bytes, day): (u64, u8)) -> DataFile {
        DataFile {
            path: number.to_string(),
            rows: 1,
            bytes: bytes << 20,
            job: if bytes == 1 { "" } else { "1" }.into(),
            region: String::new(),
            commit: String::new(),
            partition: [("day".to_owned(), Some(day.to_string()))].into(),
        }
    }

    proptest! {
        #[test]
        fn bins_are_of_one_partition_and_large_enough(
            sizes in prop::collection::vec((1u64..140, 0u8..3), 0..40),
        ) {
            let files: Vec<DataFile> = sizes.into_iter().enumerate().map(|(n, s)| file(n, s)).collect();
            let bins = bins(&files);
            let mut named: Vec<&str> = bins.iter().flatten().map(|f| f.path.as_str()).collect();
            let all = named.len();
            named.sort_unstable();
            named.dedup();
            prop_assert_eq!(named.len(), all);
            for bin in &bins {
                prop_assert!(bin.len() > 1 && bin.iter().all(|f| f.partition == bin[0].partition));
                prop_assert!(bin.iter().map(|f| f.bytes).sum::<u64>() <= BIN_BYTES);
                prop_assert!(bin.iter().all(|f| f.bytes < LARGE_BYTES && !f.job.is_empty()));
            }
            // What is left alone would fit with nothing else that is left alone.
            let alone: Vec<&DataFile> = files.iter()
                .filter(|f| f.bytes < LARGE_BYTES && !f.job.is_empty() && !named.contains(&f.path.as_str())).collect();
            for (n, one) in alone.iter().enumerate() {
                for other in &alone[n + 1..] {
                    prop_assert!(one.partition != other.partition || one.bytes + other.bytes > BIN_BYTES);
                }
            }
        }
    }
}
