//! The rows of a pinned file as batches, with the Hive folder keys that a schema asks for as columns.

mod layout;

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};
use kappaflow_avro::{AvroSchema, PlanOptions};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;

use crate::error::{Error, Result};
use crate::snapshot::Snapshot;
use crate::text;

pub use layout::Layout;

/// About this many bytes of source data make a batch.
const BATCH_BYTES: u64 = 2 << 20;
/// Most rows of a batch.
const BATCH_ROWS: u64 = 8_192;

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
    layout: Layout,
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
        mask: ProjectionMask,
        from: usize,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let file = self.file.try_clone()?;
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_projection(mask)
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
        let layout = snapshot.layout(file, &metadata, asked);
        let part = FilePart {
            file: opened,
            batch_rows: batch_rows(&metadata, groups.clone()),
            groups: groups.collect(),
            metadata,
        };
        let reader = part
            .read(part.metadata.clone(), layout.mask.clone(), 0)
            .map_err(|e| Error::Source {
                path: snapshot.path(file),
                reason: e.to_string(),
            })?;
        Ok(Self {
            layout,
            part,
            reader,
            done: 0,
            of_bytes: false,
        })
    }

    pub fn schema(&self) -> SchemaRef {
        self.layout.schema()
    }

    fn read(&mut self) -> Option<Result<RecordBatch, ArrowError>> {
        let batch = match self.reader.next()? {
            Err(e) if !self.of_bytes && is_about_text(&e) => {
                // One row's bytes must not cost the others: from here on the gate looks at them.
                self.of_bytes = true;
                let mask = self.layout.mask.clone();
                let reader = text::reader_of_bytes(&self.part.metadata)
                    .and_then(|metadata| self.part.read(metadata, mask, self.done));
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
                true => text::restored(batch, &self.layout.read),
                false => Ok(batch),
            }
        }))
    }
}

impl Iterator for FileRows {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.read()?;
        Some(batch.and_then(|batch| self.layout.arrange(&batch)))
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
