//! Row groups of an opened file, decoded one batch after the other. Those of a remote file are fetched whole, only the
//! columns that are read, and the next one while this one is decoded.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::ChunkReader;

use super::predicate::Predicate;
use crate::snapshot::{Ahead, Chunks, Data, Opened, Unread};
use crate::text;

/// About this many bytes of source data make a batch.
const BATCH_BYTES: u64 = 2 << 20;
/// Most rows of a batch.
const BATCH_ROWS: u64 = 8_192;

/// What is read of a file.
pub struct Wanted {
    pub groups: Vec<usize>,
    pub mask: ProjectionMask,
    /// The columns of the mask, as the file says.
    pub schema: SchemaRef,
    /// Which rows; `None`: all.
    pub filter: Option<Predicate>,
}

/// The batches of some row groups.
pub struct Groups {
    data: Data,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    schema: SchemaRef,
    filter: Option<Predicate>,
    batch_rows: usize,
    /// Groups whose bytes are not asked for yet.
    later: VecDeque<usize>,
    /// Of a remote file: the group whose bytes are under way.
    next: Option<(usize, Ahead)>,
    now: Option<Now>,
    /// Text is read as bytes: the metadata that says so.
    of_bytes: Option<ArrowReaderMetadata>,
}

/// What is being decoded.
struct Now {
    bytes: Held,
    groups: Vec<usize>,
    reader: ParquetRecordBatchReader,
    /// Rows of it that were given.
    done: usize,
}

enum Held {
    File(File),
    Chunks(Chunks),
}

/// Why no further batch can be read.
pub enum Stopped {
    /// The file is another than was pinned.
    Changed(String),
    Failed(String),
}

impl From<ArrowError> for Stopped {
    fn from(error: ArrowError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<ParquetError> for Stopped {
    fn from(error: ParquetError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Unread> for Stopped {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Changed(reason) => Self::Changed(reason),
            Unread::Failed(reason) => Self::Failed(reason),
        }
    }
}

impl Groups {
    pub fn new(opened: Opened, wanted: Wanted) -> Self {
        let mut groups = Self {
            batch_rows: batch_rows(&opened.metadata, &wanted.groups),
            data: opened.data,
            metadata: opened.metadata,
            mask: wanted.mask,
            schema: wanted.schema,
            filter: wanted.filter,
            later: wanted.groups.into(),
            next: None,
            now: None,
            of_bytes: None,
        };
        groups.fetch_ahead();
        groups
    }

    fn fetch_ahead(&mut self) {
        if let Data::Remote(object) = &self.data
            && let Some(group) = self.later.pop_front()
        {
            let columns = self.metadata.metadata().row_groups().get(group);
            let ranges = columns.map(|group| self.ranges(group)).unwrap_or_default();
            self.next = Some((group, object.fetch_ahead(ranges)));
        }
    }

    /// Where the columns that are read are in the file.
    fn ranges(&self, group: &RowGroupMetaData) -> Vec<Range<u64>> {
        let columns = group.columns().iter().enumerate();
        let filtered = |leaf| {
            self.filter
                .as_ref()
                .is_some_and(|f| f.mask.leaf_included(leaf))
        };
        let read = columns.filter(|(leaf, _)| self.mask.leaf_included(*leaf) || filtered(*leaf));
        read.map(|(_, column)| {
            let (start, length) = column.byte_range();
            start..start + length
        })
        .collect()
    }

    /// The next groups to decode: all at once of a file on disk, one by one of a remote one.
    fn advance(&mut self) -> Result<bool, Stopped> {
        let (bytes, groups) = match &self.data {
            Data::Local(_) if self.later.is_empty() => return Ok(false),
            Data::Local(file) => {
                let file = file
                    .try_clone()
                    .map_err(|e| Stopped::Failed(e.to_string()))?;
                (Held::File(file), self.later.drain(..).collect())
            }
            Data::Remote(_) => {
                let Some((group, mut ahead)) = self.next.take() else {
                    return Ok(false);
                };
                let chunks = ahead.wait()?;
                self.fetch_ahead();
                (Held::Chunks(chunks), vec![group])
            }
        };
        // A filter reads its columns here.
        let reader = match self.reader(&bytes, &groups, 0) {
            Err(e) if self.of_bytes.is_none() && is_about_text(&e) => {
                self.of_bytes = Some(text::reader_of_bytes(&self.metadata)?);
                self.reader(&bytes, &groups, 0)
            }
            reader => reader,
        }?;
        self.now = Some(Now {
            bytes,
            groups,
            reader,
            done: 0,
        });
        Ok(true)
    }

    fn reader(
        &self,
        bytes: &Held,
        groups: &[usize],
        from: usize,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        match bytes {
            Held::File(file) => self.reader_of(file.try_clone()?, groups, from),
            Held::Chunks(chunks) => self.reader_of(chunks.clone(), groups, from),
        }
    }

    fn reader_of<T: ChunkReader + 'static>(
        &self,
        input: T,
        groups: &[usize],
        from: usize,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let metadata = self.of_bytes.as_ref().unwrap_or(&self.metadata).clone();
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(input, metadata)
            .with_projection(self.mask.clone())
            .with_row_groups(groups.to_vec())
            .with_batch_size(self.batch_rows)
            .with_offset(from);
        match &self.filter {
            Some(filter) => builder.with_row_filter(filter.row_filter()).build(),
            None => builder.build(),
        }
    }

    /// Counts the rows that are left.
    ///
    /// # Errors
    /// Why they can't be read.
    pub fn count(mut self) -> Result<u64, Stopped> {
        let mut rows = 0;
        while let Some(batch) = self.next()? {
            rows += batch.num_rows() as u64;
        }
        Ok(rows)
    }

    /// The next batch; columns with text that is none have it as bytes.
    ///
    /// # Errors
    /// Why there is no further one.
    pub fn next(&mut self) -> Result<Option<RecordBatch>, Stopped> {
        loop {
            let Some(mut now) = self.now.take() else {
                if self.advance()? {
                    continue;
                }
                return Ok(None);
            };
            let batch = match now.reader.next() {
                None => continue,
                Some(Err(e)) if self.of_bytes.is_none() && is_about_text(&e) => {
                    // One row's bytes must not cost the others: from here on the gate looks at them.
                    self.of_bytes = Some(text::reader_of_bytes(&self.metadata)?);
                    now.reader = self.reader(&now.bytes, &now.groups, now.done)?;
                    self.now = Some(now);
                    continue;
                }
                Some(batch) => batch?,
            };
            now.done += batch.num_rows();
            self.now = Some(now);
            return Ok(Some(match self.of_bytes {
                Some(_) => text::restored(batch, &self.schema)?,
                None => batch,
            }));
        }
    }
}

/// Parquet's reader has no kind of error for it.
fn is_about_text(error: &impl std::fmt::Display) -> bool {
    let told = error.to_string();
    told.contains("UTF-8") || told.contains("UTF8") || told.contains("utf-8")
}

fn batch_rows(metadata: &ArrowReaderMetadata, groups: &[usize]) -> usize {
    let all = metadata.metadata().row_groups();
    let sum = |of: fn(&RowGroupMetaData) -> i64| -> u64 {
        let groups = groups.iter().filter_map(|group| all.get(*group));
        groups.map(|g| u64::try_from(of(g)).unwrap_or(0)).sum()
    };
    let (bytes, rows) = (sum(|g| g.total_byte_size()), sum(|g| g.num_rows()));
    let per_row = (bytes / rows.max(1)).max(1);
    usize::try_from((BATCH_BYTES / per_row).clamp(64, BATCH_ROWS)).unwrap_or(64)
}
