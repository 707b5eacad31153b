//! The snapshot's row groups as encoded chunks, made on a thread of its own that runs a bounded way ahead.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use roaring::RoaringBitmap;

use super::encode::{Chunk, Maker, Recipe};
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::kafka::transport::Origin;
use crate::snapshot::{Snapshot, Split};

/// Chunks that wait for the sender.
const AHEAD: usize = 3;
/// About this many bytes of source data make a batch.
const BATCH_BYTES: u64 = 2 << 20;
/// Most rows of a batch.
const BATCH_ROWS: u64 = 8_192;

/// What Hive and Spark name the folder of null.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// What the source tells the sender, split by split, in order.
pub enum Step {
    /// A split begins; nothing of it may be sent before this is noted.
    Begin(usize),
    Rows(usize, Chunk),
    /// All rows of a split have been given: so many.
    End(usize, u32),
}

/// A split to read, and the rows of it that need not be sent.
pub struct Wanted {
    /// The sender's number for it.
    pub slot: usize,
    pub split: Split,
    pub done: RoaringBitmap,
}

/// Reads splits of a snapshot.
#[derive(Clone)]
pub struct Source {
    pub snapshot: Arc<Snapshot>,
    pub job: JobId,
    pub recipe: Recipe,
}

impl Source {
    /// Starts to read. An error is the last step; the thread ends when the receiver is dropped.
    ///
    /// # Errors
    /// [`Error::Io`] if no thread can be started.
    pub fn start(self, wanted: Vec<Wanted>) -> Result<Receiver<Result<Step>>> {
        let root = self.snapshot.root.clone();
        spawn(root, move |to| {
            let mut maker: Option<(SchemaRef, Maker)> = None;
            for one in &wanted {
                if !self.read(one, &mut maker, to)? {
                    return Ok(());
                }
            }
            Ok(())
        })
    }

    /// Says `false` once nobody listens any more.
    fn read(
        &self,
        wanted: &Wanted,
        maker: &mut Option<(SchemaRef, Maker)>,
        to: &Steps,
    ) -> Result<bool> {
        let split = &wanted.split;
        let path = self.snapshot.path(split.file);
        let failed = |reason: String| Error::Source {
            path: path.clone(),
            reason: format!("split {}: {reason}", split.split),
        };
        let (file, metadata) = self.snapshot.reopen(split.file, &self.job.to_string())?;
        let hive = self.hive_columns(split.file, metadata.schema());
        let schema = with_columns(metadata.schema(), &hive);
        if maker
            .as_ref()
            .is_none_or(|(known, _)| known.fields() != schema.fields())
        {
            *maker = Some((schema.clone(), Maker::new(self.recipe.clone(), &schema)?));
        }
        let Some((schema, maker)) = maker else {
            return Ok(true);
        };
        let origin = Origin {
            job: self.job,
            split: split.split,
            slot: u32::try_from(wanted.slot).map_err(|e| failed(e.to_string()))?,
        };
        if !to.give(Step::Begin(wanted.slot)) {
            return Ok(false);
        }
        let groups = split.row_group_first..split.row_group_first + split.row_group_count;
        let batch_rows = batch_rows(&metadata, groups.clone());
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_row_groups(groups.collect())
            .with_batch_size(batch_rows)
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let mut base = 0_u32;
        for batch in reader {
            let batch = batch.map_err(|e| failed(format!("after row {base}: {e}")))?;
            let batch = add_columns(&batch, schema, &hive).map_err(|e| failed(e.to_string()))?;
            let chunk = maker
                .chunk(origin, &batch, base, &wanted.done)
                .map_err(failed)?;
            base = u32::try_from(batch.num_rows())
                .ok()
                .and_then(|n| base.checked_add(n))
                .ok_or_else(|| failed("has 2^32 rows or more".into()))?;
            if !to.give(Step::Rows(wanted.slot, chunk)) {
                return Ok(false);
            }
        }
        if base != split.rows {
            return Err(failed(format!(
                "gave {base} rows, {} were planned",
                split.rows
            )));
        }
        Ok(to.give(Step::End(wanted.slot, base)))
    }

    /// Folder keys that the schema asks for and the file itself lacks, with this file's values.
    fn hive_columns(&self, file: usize, schema: &Schema) -> Vec<(String, String)> {
        let recipe = &self.recipe;
        let asked = |name: &str| {
            recipe.schema.fields().iter().any(|f| f.name == name)
                || recipe.key.iter().any(|k| k == name)
                || recipe
                    .plan
                    .fields
                    .values()
                    .any(|d| d.from.as_deref() == Some(name))
        };
        self.snapshot
            .files
            .get(file)
            .into_iter()
            .flat_map(|f| &f.hive)
            .filter(|(name, _)| schema.index_of(name).is_err() && asked(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

/// Starts a source thread around `read`.
pub fn spawn(
    what: PathBuf,
    read: impl FnOnce(&Steps) -> Result<()> + Send + 'static,
) -> Result<Receiver<Result<Step>>> {
    let (to, steps) = sync_channel(AHEAD);
    thread::Builder::new()
        .name("kappaflow-source".into())
        .spawn(move || {
            let to = Steps(to);
            if let Err(error) = read(&to) {
                // Nobody listens any more: then nobody needs to know.
                let _ = to.0.send(Err(error));
            }
        })
        .map_err(Error::io("start a thread to read", what))?;
    Ok(steps)
}

/// The way from a source to the sender.
pub struct Steps(SyncSender<Result<Step>>);

impl Steps {
    /// Waits while the sender is behind. Says `false` once it has gone.
    pub fn give(&self, step: Step) -> bool {
        self.0.send(Ok(step)).is_ok()
    }
}

fn batch_rows(metadata: &ArrowReaderMetadata, groups: std::ops::Range<usize>) -> usize {
    let groups = metadata
        .metadata()
        .row_groups()
        .get(groups)
        .unwrap_or_default();
    let sum = |of: fn(&parquet::file::metadata::RowGroupMetaData) -> i64| -> u64 {
        groups
            .iter()
            .map(|g| u64::try_from(of(g)).unwrap_or(0))
            .sum()
    };
    let (bytes, rows) = (sum(|g| g.total_byte_size()), sum(|g| g.num_rows()));
    let per_row = (bytes / rows.max(1)).max(1);
    usize::try_from((BATCH_BYTES / per_row).clamp(64, BATCH_ROWS)).unwrap_or(64)
}

fn with_columns(schema: &SchemaRef, extra: &[(String, String)]) -> SchemaRef {
    if extra.is_empty() {
        return schema.clone();
    }
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    for (name, _) in extra {
        fields.push(Arc::new(Field::new(name, DataType::Utf8, true)));
    }
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn add_columns(
    batch: &RecordBatch,
    schema: &SchemaRef,
    extra: &[(String, String)],
) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    for (_, value) in extra {
        let value = (value != HIVE_NULL).then_some(value);
        let same = std::iter::repeat_n(value, batch.num_rows());
        columns.push(Arc::new(StringArray::from_iter(same)));
    }
    RecordBatch::try_new(schema.clone(), columns)
}
