//! Rejected rows: counted by field and reason, and kept as Parquet beside the job.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::files;
use crate::store::RejectCount;

/// Encoded rejects held in memory before they are written out.
const HELD_BYTES: usize = 4 << 20;

/// A row that could not become a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectRow {
    /// Number of the row in its split (in the stream, where there are no splits).
    pub row: u32,
    /// Source column; empty where the row as a whole is refused.
    pub column: String,
    /// The value there, as far as it may be shown.
    pub value: String,
    pub reason: String,
    /// The row's values as a JSON object, as far as they are kept.
    pub payload: Option<String>,
}

/// Counts by (field, reason).
#[derive(Clone, Debug, Default)]
pub struct RejectCounts(BTreeMap<(String, String), u64>);

impl RejectCounts {
    pub fn add(&mut self, field: &str, reason: &str, count: u64) {
        // Rejects are the exception: two small allocations for each are nothing.
        let key = (field.to_owned(), reason.to_owned());
        *self.0.entry(key).or_default() += count;
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Most first.
    pub fn list(&self) -> Vec<RejectCount> {
        let mut counts: Vec<RejectCount> = self
            .0
            .iter()
            .map(|((field, reason), count)| RejectCount {
                field: field.clone(),
                reason: reason.clone(),
                count: *count,
            })
            .collect();
        counts.sort_by_key(|c| std::cmp::Reverse(c.count));
        counts
    }

    /// The commonest few, for a message.
    pub fn summary(&self) -> String {
        const SHOWN: usize = 5;
        let counts = self.list();
        let mut parts: Vec<String> = counts
            .iter()
            .take(SHOWN)
            .map(|c| format!("{} × {}: {}", c.count, c.field, c.reason))
            .collect();
        if counts.len() > SHOWN {
            parts.push(format!("{} more reasons", counts.len() - SHOWN));
        }
        parts.join("; ")
    }
}

impl FromIterator<RejectCount> for RejectCounts {
    fn from_iter<T: IntoIterator<Item = RejectCount>>(counts: T) -> Self {
        let mut all = Self::default();
        counts
            .into_iter()
            .for_each(|c| all.add(&c.field, &c.reason, c.count));
        all
    }
}

/// Where the rejects of a split are kept below the job's working directory.
pub fn path(work_dir: &Path, split: u32) -> PathBuf {
    dir(work_dir).join(format!("split-{split}.parquet"))
}

pub fn dir(work_dir: &Path) -> PathBuf {
    work_dir.join("rejects")
}

/// The rejects of a split on their way to its file, which appears whole or not at all and replaces that of an earlier
/// attempt. Without rejects there is none.
#[derive(Debug)]
pub struct RejectFile {
    path: PathBuf,
    split: u32,
    source: String,
    first_row: u64,
    writer: Option<ArrowWriter<File>>,
    /// A write has failed.
    broken: bool,
}

impl RejectFile {
    /// `source` is the split's file, whose row `first_row` is the split's first.
    pub fn new(work_dir: &Path, split: u32, source: &str, first_row: u64) -> Self {
        Self {
            path: path(work_dir, split),
            split,
            source: source.to_owned(),
            first_row,
            writer: None,
            broken: false,
        }
    }

    /// # Errors
    /// [`Error::Io`] if they can't be written, now or before.
    pub fn add(&mut self, rejects: &[RejectRow]) -> Result<()> {
        if rejects.is_empty() {
            return Ok(());
        }
        self.whole()?;
        let added = self.write(rejects);
        self.broken |= added.is_err();
        added
    }

    fn write(&mut self, rejects: &[RejectRow]) -> Result<()> {
        let failed = |e: ParquetError| parquet_error(&self.path, e);
        let batch = batch(self.split, &self.source, self.first_row, rejects)
            .map_err(|e| failed(e.into()))?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let dir = self.path.parent().unwrap_or(Path::new("."));
                fs::create_dir_all(dir).map_err(Error::io("make the directory", dir))?;
                let unfinished = unfinished(&self.path);
                let file = File::create(&unfinished).map_err(Error::io("write", &unfinished))?;
                none.insert(
                    ArrowWriter::try_new(file, batch.schema(), None)
                        .map_err(|e| parquet_error(&unfinished, e))?,
                )
            }
        };
        writer.write(&batch).map_err(failed)?;
        if writer.in_progress_size() > HELD_BYTES {
            writer.flush().map_err(failed)?;
        }
        Ok(())
    }

    /// Gives the file its name; once it has it, there is nothing to do.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be written, now or before.
    pub fn finish(&mut self) -> Result<()> {
        self.whole()?;
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let path = &self.path;
        let written = writer
            .into_inner()
            .map_err(|e| parquet_error(path, e))
            .and_then(|file| {
                file.sync_all()
                    .and_then(|()| fs::rename(unfinished(path), path))
                    .and_then(|()| files::sync_parent(path))
                    .map_err(Error::io("write", path))
            });
        self.broken = written.is_err();
        written
    }

    /// A split whose rejects are not all written may not be closed, however often that is tried.
    fn whole(&self) -> Result<()> {
        match self.broken {
            false => Ok(()),
            true => Err(Error::io("write", &self.path)(std::io::Error::other(
                "an earlier write failed",
            ))),
        }
    }
}

impl Drop for RejectFile {
    fn drop(&mut self) {
        if self.writer.is_some() || self.broken {
            // It holds nothing that the next attempt does not meet again.
            let _ = fs::remove_file(unfinished(&self.path));
        }
    }
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("parquet.tmp")
}

fn parquet_error(path: &Path, error: ParquetError) -> Error {
    let source = match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => *io,
            Err(other) => std::io::Error::other(other),
        },
        other => std::io::Error::other(other),
    };
    Error::io("write", path)(source)
}

fn batch(
    split: u32,
    file: &str,
    first_row: u64,
    rejects: &[RejectRow],
) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let text = |field: fn(&RejectRow) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rejects.iter().map(field)))
    };
    let payloads = rejects.iter().map(|r| r.payload.as_deref());
    let columns: [(&str, ArrayRef, bool); 8] = [
        (
            "split",
            Arc::new(UInt32Array::from_value(split, rejects.len())),
            false,
        ),
        (
            "seq",
            Arc::new(UInt32Array::from_iter_values(rejects.iter().map(|r| r.row))),
            false,
        ),
        (
            "file",
            Arc::new(StringArray::from_iter_values(rejects.iter().map(|_| file))),
            false,
        ),
        (
            "row_in_file",
            Arc::new(UInt64Array::from_iter_values(
                rejects.iter().map(|r| first_row + u64::from(r.row)),
            )),
            false,
        ),
        ("column", text(|r| &r.column), false),
        ("value", text(|r| &r.value), false),
        ("reason", text(|r| &r.reason), false),
        ("payload", Arc::new(StringArray::from_iter(payloads)), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;
    use arrow_array::types::UInt64Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    #[test]
    fn rejects_are_kept_with_their_row_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let reject = RejectRow {
            row: 3,
            column: "dep_time".into(),
            value: "12.5".into(),
            reason: "not a whole number".into(),
            payload: None,
        };
        let file = || RejectFile::new(dir.path(), 7, "m=1/a.parquet", 100);
        let mut none = file();
        none.finish().unwrap();
        assert!(!path(dir.path(), 7).exists());
        let mut abandoned = file();
        abandoned.add(std::slice::from_ref(&reject)).unwrap();
        drop(abandoned);
        assert!(!path(dir.path(), 7).exists());
        let mut kept = file();
        kept.add(&[]).unwrap();
        kept.add(&[reject]).unwrap();
        kept.finish().unwrap();
        kept.finish().unwrap();
        let file = File::open(path(dir.path(), 7)).unwrap();
        let mut reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .unwrap()
            .build()
            .unwrap();
        let batch = reader.next().unwrap().unwrap();
        let rows = batch.column_by_name("row_in_file").unwrap();
        assert_eq!(rows.as_primitive::<UInt64Type>().value(0), 103);
        let names: Vec<_> = fs::read_dir(super::dir(dir.path())).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary file is left");
    }

    #[test]
    fn what_could_not_be_written_once_is_never_said_to_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        let reject = RejectRow {
            row: 3,
            column: "c".into(),
            value: String::new(),
            reason: "r".into(),
            payload: None,
        };
        // A directory has the name of the file that is to be written.
        fs::create_dir_all(unfinished(&path(dir.path(), 7))).unwrap();
        let mut file = RejectFile::new(dir.path(), 7, "a.parquet", 0);
        file.add(std::slice::from_ref(&reject)).unwrap_err();
        let again = file.finish().unwrap_err().to_string();
        assert!(again.contains("an earlier write failed"), "{again}");
        file.add(&[reject]).unwrap_err();
    }

    #[test]
    fn the_summary_names_the_commonest_first() {
        let mut counts = RejectCounts::default();
        counts.add("a", "too large", 1);
        counts.add("b", "null", 4);
        assert_eq!(counts.summary(), "4 × b: null; 1 × a: too large");
        assert_eq!(counts.total(), 5);
    }
}
