//! The rows of a pinned file as batches, with the Hive folder keys that a schema asks for as columns.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use kappaflow_avro::{AvroSchema, PlanOptions};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use crate::error::{Error, Result};
use crate::snapshot::Snapshot;

/// About this many bytes of source data make a batch.
const BATCH_BYTES: u64 = 2 << 20;
/// Most rows of a batch.
const BATCH_ROWS: u64 = 8_192;
/// What Hive and Spark name the folder of null.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Whether a schema, or what is declared of its fields, names this column.
pub fn asked(schema: &AvroSchema, options: &PlanOptions, name: &str) -> bool {
    schema.fields().iter().any(|f| f.name == name)
        || options
            .fields
            .values()
            .any(|d| d.from.as_deref() == Some(name))
}

/// Batches of some row groups of a file.
pub struct FileRows {
    schema: SchemaRef,
    hive: Vec<(String, String)>,
    reader: ParquetRecordBatchReader,
}

impl FileRows {
    /// Opens row groups of a file, which must still be what was pinned. Folder keys that are `asked` for and that the
    /// file itself lacks become columns. `job` is who asks, for errors.
    ///
    /// # Errors
    /// [`Error::SourceChanged`], [`Error::Source`].
    pub fn open(
        snapshot: &Snapshot,
        file: usize,
        groups: Range<usize>,
        job: &str,
        asked: &dyn Fn(&str) -> bool,
    ) -> Result<Self> {
        let (opened, metadata) = snapshot.reopen(file, job)?;
        let own = metadata.schema().clone();
        let folders = snapshot.files.get(file).into_iter().flat_map(|f| &f.hive);
        let hive: Vec<(String, String)> = folders
            .filter(|(name, _)| own.index_of(name).is_err() && asked(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let batch_rows = batch_rows(&metadata, groups.clone());
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(opened, metadata)
            .with_row_groups(groups.collect())
            .with_batch_size(batch_rows)
            .build()
            .map_err(|e| Error::Source {
                path: snapshot.path(file),
                reason: e.to_string(),
            })?;
        Ok(Self {
            schema: with_columns(&own, &hive),
            hive,
            reader,
        })
    }

    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn add_columns(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        for (_, value) in &self.hive {
            let value = (value != HIVE_NULL).then_some(value);
            let same = std::iter::repeat_n(value, batch.num_rows());
            columns.push(Arc::new(StringArray::from_iter(same)));
        }
        // Without any column, only this says how many rows there are.
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &rows)
    }
}

impl Iterator for FileRows {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        Some(batch.and_then(|batch| self.add_columns(&batch)))
    }
}

fn batch_rows(metadata: &ArrowReaderMetadata, groups: Range<usize>) -> usize {
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
