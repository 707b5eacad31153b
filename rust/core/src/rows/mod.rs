//! The rows of a pinned file as batches, with the Hive folder keys that a schema asks for as columns.

mod groups;
mod layout;
mod predicate;

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use kappaflow_avro::{AvroSchema, PlanOptions};
use parquet::arrow::ProjectionMask;

use crate::error::{Error, Result};
use crate::snapshot::Snapshot;
use crate::snapshot::{Opened, PinnedFile};

pub(crate) use groups::{Groups, Stopped, Wanted};
pub use layout::{Found, Layout};
pub(crate) use predicate::{Bound, Predicate};

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

    /// All that was made.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.0.into_iter().map(|(_, made)| made)
    }
}

impl<T> Default for BySchema<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Batches of some row groups of a file. Columns with text that is none have it as bytes: a batch may differ in that
/// from the schema.
pub struct FileRows<'a> {
    snapshot: &'a Snapshot,
    file: usize,
    job: String,
    layout: Layout,
    groups: Groups,
    /// Rows given so far.
    done: u64,
}

impl<'a> FileRows<'a> {
    /// Opens row groups of a file, which must still be what was pinned. Folder keys that are `asked` for and that the
    /// file itself lacks become columns. `job` is who asks, for errors.
    ///
    /// # Errors
    /// [`Error::SourceChanged`], [`Error::Source`].
    pub fn open(
        snapshot: &'a Snapshot,
        file: usize,
        groups: Range<usize>,
        job: &str,
        asked: &dyn Fn(&str) -> bool,
    ) -> Result<Self> {
        let opened = snapshot.reopen(file, job)?;
        let layout = snapshot.layout(file, &opened.metadata, asked);
        let filter = match snapshot.bound(file, &opened.metadata)? {
            Bound::Rows(predicate) => Some(predicate),
            // What does not pass as a whole was left out when the snapshot was pinned.
            Bound::Everything | Bound::Nothing => None,
        };
        let pinned = &snapshot.files[file];
        let wanted = Wanted {
            // The groups without a row that passes need not be read.
            groups: groups
                .filter(|group| pinned.row_groups.get(*group) != Some(&0))
                .collect(),
            mask: layout.mask.clone(),
            schema: layout.read.clone(),
            filter,
        };
        Ok(Self {
            snapshot,
            file,
            job: job.to_owned(),
            layout,
            groups: Groups::new(opened, wanted),
            done: 0,
        })
    }

    pub fn schema(&self) -> SchemaRef {
        self.layout.schema()
    }

    fn read(&mut self) -> Result<Option<RecordBatch>, Stopped> {
        Ok(match self.groups.next()? {
            Some(batch) => Some(self.layout.arrange(&batch)?),
            None => None,
        })
    }

    fn stopped(&self, why: Stopped) -> Error {
        match why {
            Stopped::Changed(reason) => self.snapshot.changed(self.file, &self.job, reason),
            Stopped::Failed(reason) => Error::Source {
                path: self.snapshot.path(self.file),
                reason: format!("after row {}: {reason}", self.done),
            },
        }
    }
}

impl Iterator for FileRows<'_> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read() {
            Ok(batch) => {
                let batch = batch?;
                self.done += batch.num_rows() as u64;
                Some(Ok(batch))
            }
            Err(why) => Some(Err(self.stopped(why))),
        }
    }
}

/// Some columns of a whole file, as the file has them.
pub(crate) struct ColumnsOf<'a> {
    snapshot: &'a Snapshot,
    file: usize,
    groups: Groups,
    done: usize,
}

impl<'a> ColumnsOf<'a> {
    /// `columns` are numbers in the file, in order.
    pub fn new(snapshot: &'a Snapshot, file: usize, opened: Opened, columns: &[usize]) -> Self {
        let own = opened.metadata.schema();
        let fields: Vec<_> = columns.iter().map(|at| own.fields()[*at].clone()).collect();
        let wanted = Wanted {
            groups: (0..opened.metadata.metadata().num_row_groups()).collect(),
            mask: ProjectionMask::roots(opened.metadata.parquet_schema(), columns.iter().copied()),
            schema: Arc::new(Schema::new(fields)),
            filter: None,
        };
        Self {
            snapshot,
            file,
            groups: Groups::new(opened, wanted),
            done: 0,
        }
    }

    /// # Errors
    /// [`Error::SourceChanged`], [`Error::Source`].
    pub fn next(&mut self) -> Result<Option<RecordBatch>> {
        let batch = self.groups.next().map_err(|why| match why {
            Stopped::Changed(reason) => self.snapshot.changed(self.file, "(none)", reason),
            Stopped::Failed(reason) => Error::Source {
                path: self.snapshot.path(self.file),
                reason: format!("after row {}: {reason}", self.done),
            },
        })?;
        self.done += batch.as_ref().map_or(0, RecordBatch::num_rows);
        Ok(batch)
    }
}

/// How many rows of each row group pass, by reading the columns of the filter.
///
/// # Errors
/// Why they can't be read.
pub(crate) fn count_passing(
    opened: &Opened,
    predicate: &Predicate,
    pinned: &PinnedFile,
) -> Result<Vec<u64>, String> {
    let candidates = predicate
        .candidates(&opened.metadata)
        .map_err(|e| e.to_string())?;
    let mut passing = vec![0; pinned.row_groups.len()];
    for group in candidates {
        let wanted = Wanted {
            groups: vec![group],
            mask: ProjectionMask::none(opened.metadata.parquet_schema().num_columns()),
            schema: Arc::new(Schema::empty()),
            filter: Some(predicate.clone()),
        };
        let opened = opened.try_clone().map_err(|e| e.to_string())?;
        let counted = Groups::new(opened, wanted).count();
        passing[group] = counted.map_err(|why| match why {
            Stopped::Changed(reason) | Stopped::Failed(reason) => reason,
        })?;
    }
    Ok(passing)
}
