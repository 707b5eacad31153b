//! Batches to Parquet files: one open for each partition of the table, all within one cap of memory, rotated by size.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, StringArray, UInt32Array};
use arrow_cast::cast;
use arrow_ord::sort::{SortColumn, SortOptions, lexsort_to_indices};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;

use super::folder::folder;
use super::{DataFile, NewFile, Storage};
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::job::{Output, TableFormat};

/// Bytes of an open row group that make it go out, unless a file is to have less.
const ROW_GROUP_BYTES: u64 = 32 << 20;
/// Bytes of rows that are sorted together, and make a row group.
const SORTED_BYTES: usize = 64 << 20;
/// Bytes of a file after which the next one is begun, unless a commit is to have less.
const FILE_BYTES: u64 = 128 << 20;
/// Files that are open at a time: each is a handle of the system, and a footer in memory.
const OPEN_FILES: usize = 500;

/// How files are to be.
#[derive(Clone, Debug)]
pub struct Shape {
    pub job: JobId,
    pub region: String,
    pub format: TableFormat,
    /// Columns that each file has one value of.
    pub partition_key: Vec<String>,
    /// Columns by which the rows of a row group are in order.
    pub sort_by: Vec<String>,
    /// Of all open files.
    pub memory_bytes: usize,
    /// Of the files of a commit.
    pub commit_bytes: u64,
}

impl Shape {
    pub fn new(job: JobId, region: &str, output: &Output) -> Self {
        Self {
            job,
            region: region.to_owned(),
            format: output.format,
            partition_key: output.partition_key.clone(),
            sort_by: output.sort_by.clone(),
            memory_bytes: (output.memory_mib as usize) << 20,
            commit_bytes: u64::from(output.commit_mib) << 20,
        }
    }
}

/// Values of the partition key, as text.
type Values = Vec<Option<String>>;

/// Writes data files, commit by commit. Dropped before a commit, that one's files are removed.
pub struct Files {
    storage: Storage,
    shape: Shape,
    file_bytes: u64,
    schema: SchemaRef,
    properties: WriterProperties,
    /// Columns of the partition key and of the order.
    keys: Vec<usize>,
    order: Vec<usize>,
    open: BTreeMap<Values, Open>,
    /// Whole files that no commit names yet.
    done: Vec<DataFile>,
    /// Bytes of the files that no commit names yet: of whole ones, and of those that are open as far as they are written.
    bytes: u64,
}

struct Open {
    file: NewFile,
    writer: ArrowWriter<File>,
    rows: u64,
    /// Rows that wait to be sorted, and their bytes.
    waiting: Vec<RecordBatch>,
    waiting_bytes: usize,
}

impl Open {
    fn memory(&self) -> usize {
        self.writer.memory_size() + self.waiting_bytes
    }
}

impl Files {
    /// # Errors
    /// [`Error::Schema`] if there is no such column, or it can't be in a partition key.
    pub fn new(storage: &Storage, schema: SchemaRef, shape: Shape) -> Result<Self> {
        let column = |key: &str, name: &String| {
            schema.index_of(name).map_err(|_| Error::Schema {
                what: "of answers".into(),
                reason: format!("output.{key}: there is no field {name}"),
            })
        };
        let columns = |key, names: &[String]| -> Result<Vec<usize>> {
            names.iter().map(|name| column(key, name)).collect()
        };
        let keys = columns("partition_key", &shape.partition_key)?;
        let order = columns("sort_by", &shape.sort_by)?;
        for index in &keys {
            let field = schema.field(*index);
            if !is_key(field.data_type()) {
                return Err(Error::Schema {
                    what: "of answers".into(),
                    reason: format!(
                        "output.partition_key: {} is {}, expected text, an enum, a whole number, a boolean or a date",
                        field.name(),
                        field.data_type()
                    ),
                });
            }
        }
        Ok(Self {
            storage: storage.clone(),
            file_bytes: FILE_BYTES.min(shape.commit_bytes),
            properties: properties(&order, shape.format).map_err(|e| Error::Table {
                table: storage.location().to_path_buf(),
                reason: e.to_string(),
            })?,
            shape,
            schema,
            keys,
            order,
            open: BTreeMap::new(),
            done: Vec::new(),
            bytes: 0,
        })
    }

    fn failed(&self, what: &str, reason: impl ToString) -> Error {
        Error::Table {
            table: self.storage.location().to_path_buf(),
            reason: format!("can't {what}: {}", reason.to_string()),
        }
    }

    /// Writes a batch to the files of its partitions.
    ///
    /// # Errors
    /// [`Error::Table`] or [`Error::Io`], as of a full disk.
    pub fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let parts = self
            .split(batch)
            .map_err(|e| self.failed("split a batch by output.partition_key", e))?;
        for (values, part) in parts {
            self.put(values, part)?;
        }
        while self.memory() > self.shape.memory_bytes || self.open.len() > OPEN_FILES {
            let by_memory = self.memory() > self.shape.memory_bytes;
            let largest = self
                .open
                .iter()
                .max_by_key(|(_, open)| match by_memory {
                    true => open.memory(),
                    false => open.writer.bytes_written(),
                })
                .map(|(values, _)| values.clone());
            let Some(values) = largest else { break };
            if by_memory {
                self.flush(&values)?;
            } else {
                self.close(&values)?;
            }
        }
        let open = self.open.values().map(|o| o.writer.bytes_written() as u64);
        let done = self.done.iter().map(|data| data.bytes);
        self.bytes = done.sum::<u64>() + open.sum::<u64>();
        Ok(())
    }

    fn memory(&self) -> usize {
        self.open.values().map(Open::memory).sum()
    }

    /// The rows of each partition.
    fn split(&self, batch: RecordBatch) -> Result<Vec<(Values, RecordBatch)>, ArrowError> {
        if self.keys.is_empty() {
            return Ok(vec![(Vec::new(), batch)]);
        }
        let text = |index: &usize| cast(batch.column(*index), &DataType::Utf8);
        let columns: Vec<_> = self.keys.iter().map(text).collect::<Result<_, _>>()?;
        let columns: Vec<&StringArray> = columns.iter().map(|c| c.as_string()).collect();
        let mut rows: BTreeMap<Vec<Option<&str>>, Vec<u32>> = BTreeMap::new();
        for row in 0..batch.num_rows() {
            let values = columns
                .iter()
                .map(|c| c.is_valid(row).then(|| c.value(row)));
            // A batch has fewer rows than that.
            rows.entry(values.collect()).or_default().push(row as u32);
        }
        let owned =
            |values: Vec<Option<&str>>| values.into_iter().map(|v| v.map(str::to_owned)).collect();
        if rows.len() == 1 {
            let values = rows.into_keys().next().unwrap_or_default();
            return Ok(vec![(owned(values), batch.clone())]);
        }
        rows.into_iter()
            .map(|(values, rows)| {
                let part = take_record_batch(&batch, &UInt32Array::from(rows))?;
                Ok((owned(values), part))
            })
            .collect()
    }

    fn put(&mut self, values: Values, part: RecordBatch) -> Result<()> {
        let mut open = match self.open.remove(&values) {
            Some(open) => open,
            None => self.begin(&values)?,
        };
        open.rows += part.num_rows() as u64;
        let written = if self.order.is_empty() {
            let written = open.writer.write(&part);
            let group = self.file_bytes.min(ROW_GROUP_BYTES);
            match written {
                Ok(()) if open.writer.in_progress_size() as u64 >= group => open.writer.flush(),
                written => written,
            }
        } else {
            open.waiting_bytes += part.get_array_memory_size();
            open.waiting.push(part);
            if open.waiting_bytes >= SORTED_BYTES {
                self.sorted(&mut open)
            } else {
                Ok(())
            }
        };
        let full = open.writer.bytes_written() as u64 >= self.file_bytes;
        self.open.insert(values.clone(), open);
        written.map_err(|e| self.failed("write a data file", e))?;
        if full { self.close(&values) } else { Ok(()) }
    }

    /// Writes the rows that wait as a row group, in order.
    fn sorted(&self, open: &mut Open) -> parquet::errors::Result<()> {
        if open.waiting.is_empty() {
            return Ok(());
        }
        let rows = concat_batches(&self.schema, &open.waiting)?;
        (open.waiting, open.waiting_bytes) = (Vec::new(), 0);
        let by: Vec<SortColumn> = self
            .order
            .iter()
            .map(|index| SortColumn {
                values: rows.column(*index).clone(),
                options: Some(SortOptions {
                    descending: false,
                    nulls_first: true,
                }),
            })
            .collect();
        let sorted = take_record_batch(&rows, &lexsort_to_indices(&by, None)?)?;
        open.writer.write(&sorted)?;
        open.writer.flush()
    }

    /// Lets the memory of an open file go to the disk.
    fn flush(&mut self, values: &Values) -> Result<()> {
        let Some(mut open) = self.open.remove(values) else {
            return Ok(());
        };
        let flushed = match self.sorted(&mut open) {
            Ok(()) => open.writer.flush(),
            failed => failed,
        };
        self.open.insert(values.clone(), open);
        flushed.map_err(|e| self.failed("write a data file", e))
    }

    fn begin(&self, values: &Values) -> Result<Open> {
        let file = self
            .storage
            .begin(&folder(&self.shape.partition_key, values))?;
        let target = File::create(&file.temporary).map_err(Error::io("create", &file.temporary))?;
        let properties = Some(self.properties.clone());
        let writer = ArrowWriter::try_new(target, Arc::clone(&self.schema), properties)
            .map_err(|e| self.failed("begin a data file", e))?;
        Ok(Open {
            file,
            writer,
            rows: 0,
            waiting: Vec::new(),
            waiting_bytes: 0,
        })
    }

    /// Ends an open file, durable under its own name.
    fn close(&mut self, values: &Values) -> Result<()> {
        let Some(mut open) = self.open.remove(values) else {
            return Ok(());
        };
        let sorted = self.sorted(&mut open);
        let (file, rows) = (open.file, open.rows);
        let ended = match sorted {
            Ok(()) => self.end(&file, open.writer),
            Err(e) => Err(self.failed("write a data file", e)),
        };
        if ended.is_err() {
            let _ = fs::remove_file(&file.temporary);
            // It may have its name already, when only the directory could not be synced.
            let _ = self.storage.remove(&file.name);
        }
        let names = self.shape.partition_key.iter().cloned();
        self.done.push(DataFile {
            path: file.name,
            rows,
            bytes: ended?,
            job: self.shape.job.to_string(),
            region: self.shape.region.clone(),
            commit: String::new(),
            partition: names.zip(values.iter().cloned()).collect(),
        });
        Ok(())
    }

    fn end(&self, file: &NewFile, writer: ArrowWriter<File>) -> Result<u64> {
        let target = writer
            .into_inner()
            .map_err(|e| self.failed("end a data file", e))?;
        target
            .sync_all()
            .map_err(Error::io("sync", &file.temporary))?;
        let bytes = target
            .metadata()
            .map_err(Error::io("look at", &file.temporary))?
            .len();
        self.storage.finish(file)?;
        Ok(bytes)
    }

    /// Bytes of the files that no commit names yet, as of the last batch.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends all files and gives them, for a commit. They are still removed unless [`Files::keep`] is called.
    ///
    /// # Errors
    /// As [`Files::write`].
    pub fn finish(&mut self, commit: &str) -> Result<Vec<DataFile>> {
        let open: Vec<Values> = self.open.keys().cloned().collect();
        for values in open {
            self.close(&values)?;
        }
        let named = self.done.iter().map(|data| DataFile {
            commit: commit.to_owned(),
            ..data.clone()
        });
        Ok(named.collect())
    }

    /// The commit is in, or may be in: the files stay.
    pub fn keep(&mut self) {
        self.done.clear();
        self.bytes = 0;
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // No commit names them; one that can't be removed is an orphan, as after a kill.
        for (_, open) in std::mem::take(&mut self.open) {
            drop(open.writer);
            let _ = fs::remove_file(&open.file.temporary);
        }
        for data in &self.done {
            let _ = self.storage.remove(&data.path);
        }
    }
}

fn is_key(of: &DataType) -> bool {
    match of {
        DataType::Dictionary(_, values) => is_key(values),
        DataType::Utf8 | DataType::Boolean | DataType::Date32 => true,
        other => other.is_integer(),
    }
}

fn properties(order: &[usize], format: TableFormat) -> parquet::errors::Result<WriterProperties> {
    let order = order.iter().map(|index| SortingColumn {
        // Of a flat column: sorting is by those only.
        column_idx: i32::try_from(*index).unwrap_or(i32::MAX),
        descending: false,
        nulls_first: true,
    });
    let order: Vec<SortingColumn> = order.collect();
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_created_by(concat!("kappaflow ", env!("CARGO_PKG_VERSION")).to_owned())
        // The parts of lists and maps are named as the specification has it: Iceberg's readers find them by name.
        .set_coerce_types(format == TableFormat::Iceberg)
        .set_sorting_columns((!order.is_empty()).then_some(order))
        .build())
}
