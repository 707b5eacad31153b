//! The rows of a pinned file as batches, with the Hive folder keys that a schema asks for as columns.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use kappaflow_avro::{AvroSchema, PlanOptions};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;

use crate::error::{Error, Result};
use crate::snapshot::Snapshot;
use crate::text;

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

/// What is made once for each schema that batches have: a plan, an encoder. Batches of one source have one, unless text
/// in some is none.
pub struct BySchema<T>(Vec<(SchemaRef, T)>);

impl<T> BySchema<T> {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// What was made for this schema, or is now.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get<E>(
        &mut self,
        schema: &SchemaRef,
        make: impl FnOnce(&SchemaRef) -> Result<T, E>,
    ) -> Result<&mut T, E> {
        let same =
            |known: &SchemaRef| Arc::ptr_eq(known, schema) || known.fields() == schema.fields();
        let at = match self.0.iter().position(|(known, _)| same(known)) {
            Some(at) => at,
            None => {
                self.0.push((schema.clone(), make(schema)?));
                self.0.len() - 1
            }
        };
        Ok(&mut self.0[at].1)
    }
}

impl<T> Default for BySchema<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Batches of some row groups of a file. Columns with text that is none have it as bytes: a batch may differ in that
/// from the schema.
pub struct FileRows {
    /// As the file says.
    schema: SchemaRef,
    hive: Vec<(String, String)>,
    part: FilePart,
    reader: ParquetRecordBatchReader,
    /// Rows read so far.
    done: usize,
    /// Text is read as bytes.
    of_bytes: bool,
}

/// Row groups of an open file.
struct FilePart {
    file: File,
    metadata: ArrowReaderMetadata,
    groups: Vec<usize>,
    batch_rows: usize,
}

impl FilePart {
    fn read(
        &self,
        metadata: ArrowReaderMetadata,
        from: usize,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let file = self.file.try_clone()?;
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_row_groups(self.groups.clone())
            .with_batch_size(self.batch_rows)
            .with_offset(from)
            .build()
    }
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
        let part = FilePart {
            file: opened,
            batch_rows: batch_rows(&metadata, groups.clone()),
            groups: groups.collect(),
            metadata,
        };
        let reader = part
            .read(part.metadata.clone(), 0)
            .map_err(|e| Error::Source {
                path: snapshot.path(file),
                reason: e.to_string(),
            })?;
        Ok(Self {
            schema: with_columns(&own, &hive),
            hive,
            part,
            reader,
            done: 0,
            of_bytes: false,
        })
    }

    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn read(&mut self) -> Option<Result<RecordBatch, ArrowError>> {
        let batch = match self.reader.next()? {
            Err(e) if !self.of_bytes && is_about_text(&e) => {
                // One row's bytes must not cost the others: from here on the gate looks at them.
                self.of_bytes = true;
                let reader = text::reader_of_bytes(&self.part.metadata)
                    .and_then(|metadata| self.part.read(metadata, self.done));
                match reader {
                    Ok(reader) => self.reader = reader,
                    Err(e) => return Some(Err(e.into())),
                }
                self.reader.next()?
            }
            batch => batch,
        };
        Some(batch.and_then(|batch| {
            self.done += batch.num_rows();
            match self.of_bytes {
                true => text::restored(batch, self.part.metadata.schema()),
                false => Ok(batch),
            }
        }))
    }

    fn add_columns(&self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        if self.hive.is_empty() {
            return Ok(batch);
        }
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        for (_, value) in &self.hive {
            let value = (value != HIVE_NULL).then_some(value);
            let same = std::iter::repeat_n(value, batch.num_rows());
            columns.push(Arc::new(StringArray::from_iter(same)));
        }
        // Without any column, only this says how many rows there are.
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let schema = with_columns(batch.schema_ref(), &self.hive);
        RecordBatch::try_new_with_options(schema, columns, &rows)
    }
}

impl Iterator for FileRows {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.read()?;
        Some(batch.and_then(|batch| self.add_columns(batch)))
    }
}

/// Parquet's reader has no kind of error for it.
fn is_about_text(error: &ArrowError) -> bool {
    let told = error.to_string();
    told.contains("UTF-8") || told.contains("UTF8") || told.contains("utf-8")
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
