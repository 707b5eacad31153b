//! Decoded answers to Parquet files in bounded memory: row groups go out by size, files are rotated.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, Int32Builder, Int64Builder};
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow_schema::{Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;
use kappaflow_avro::framing::SchemaKey;
use kappaflow_avro::{AvroSchema, Decoder, ResolutionError};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::families::At;
use crate::error::{Error, Result};
use crate::files::sync_parent;
use crate::identity::{EgressIdentity, JobId};
use crate::table::{DataFile, NewFile, TableCommit, identity_fields};

/// Rows decoded before they go to the Parquet writer.
const BATCH_ROWS: usize = 8_192;
/// Bytes that decoded answers may take before they go to the Parquet writer, however few.
const BATCH_BYTES: usize = 16 << 20;
/// Bytes of an open row group that make it go out.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// Bytes of a file after which the next one is begun, unless a commit is to have less.
const FILE_BYTES: u64 = 128 << 20;

/// Writes data files, commit by commit. Dropped before a commit, that one's files are removed.
pub struct Writer<'t> {
    table: &'t dyn TableCommit,
    job: JobId,
    region: String,
    file_bytes: u64,
    schema: SchemaRef,
    egress: AvroSchema,
    /// By the id of the schema that answers were written with.
    lanes: BTreeMap<SchemaKey, Lane>,
    /// Rows and bytes decoded since the last batch.
    pending: (usize, usize),
    open: Option<(NewFile, ArrowWriter<File>, u64)>,
    /// Whole files that no commit names yet.
    done: Vec<(DataFile, PathBuf)>,
    /// Rows given so far.
    pub rows: u64,
}

/// Answers of one writer's schema, as rows of the egress schema, and whose they are.
struct Lane {
    decoder: Decoder,
    numbers: [Int64Builder; 5],
    partitions: Int32Builder,
    offsets: Int64Builder,
    /// Rows of the next batch that are not to be written: of families that have an answer that can't be read.
    left_out: Vec<usize>,
}

/// An answer as it came, and where it was read.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub at: At,
    pub id: EgressIdentity,
    pub schema: SchemaKey,
    pub datum: &'a [u8],
}

impl<'t> Writer<'t> {
    /// # Errors
    /// [`Error::Schema`] if the egress schema has a type that no column is made of, or a field with a reserved name.
    pub fn new(
        table: &'t dyn TableCommit,
        job: JobId,
        region: &str,
        commit_bytes: u64,
        egress: &AvroSchema,
    ) -> Result<Self> {
        let wrong = |reason: String| Error::Schema {
            what: format!("egress {}", egress.full_name()),
            reason,
        };
        let decoder = Decoder::new(egress).map_err(|e| wrong(e.to_string()))?;
        let mut fields = decoder.arrow_schema().fields().to_vec();
        for field in identity_fields() {
            if fields.iter().any(|f| f.name() == field.name()) {
                return Err(wrong(format!(
                    "the field name {} is reserved for the identity columns",
                    field.name()
                )));
            }
            fields.push(field);
        }
        Ok(Self {
            table,
            job,
            region: region.to_owned(),
            file_bytes: FILE_BYTES.min(commit_bytes),
            schema: Arc::new(Schema::new(fields)),
            egress: egress.clone(),
            lanes: BTreeMap::new(),
            pending: (0, 0),
            open: None,
            done: Vec::new(),
            rows: 0,
        })
    }

    /// Whether answers of this schema id can be pushed.
    pub fn knows(&self, schema: SchemaKey) -> bool {
        self.lanes.contains_key(&schema)
    }

    /// Makes ready for the answers that were written with a schema.
    ///
    /// # Errors
    /// [`ResolutionError`] if the egress schema can't read them.
    pub fn learn(
        &mut self,
        schema: SchemaKey,
        written: &AvroSchema,
    ) -> Result<(), ResolutionError> {
        let lane = Lane {
            decoder: Decoder::with_reader(written, &self.egress)?,
            numbers: Default::default(),
            partitions: Int32Builder::new(),
            offsets: Int64Builder::new(),
            left_out: Vec::new(),
        };
        self.lanes.insert(schema, lane);
        Ok(())
    }

    /// Decodes all answers to one input, written with schemas that are known, as the next rows.
    ///
    /// # Errors
    /// Which of them can't be read, and why: none of them is landed then. The files' come from [`Writer::flush_if_due`].
    pub fn push(&mut self, family: &[Answer<'_>]) -> Result<(), (usize, String)> {
        for (index, answer) in family.iter().enumerate() {
            if let Err(reason) = self.push_one(answer) {
                self.leave_out(&family[..index]);
                return Err((index, reason));
            }
        }
        Ok(())
    }

    /// Takes the newest rows back.
    fn leave_out(&mut self, newest: &[Answer<'_>]) {
        self.rows -= newest.len() as u64;
        for (key, lane) in &mut self.lanes {
            let end = lane.partitions.len();
            let count = newest.iter().filter(|a| a.schema == *key).count();
            lane.left_out.extend(end - count..end);
        }
    }

    fn push_one(&mut self, answer: &Answer<'_>) -> Result<(), String> {
        let Answer {
            at,
            id,
            schema,
            datum,
        } = *answer;
        let Some(lane) = self.lanes.get_mut(&schema) else {
            return Err(format!("schema {schema} is not known"));
        };
        let held = lane.decoder.held_bytes();
        lane.decoder.push(datum).map_err(|e| e.to_string())?;
        let EgressIdentity {
            input,
            attempt,
            child,
            of,
        } = id;
        for (builder, value) in
            lane.numbers
                .iter_mut()
                .zip([input.split, input.seq, child, of, attempt])
        {
            builder.append_value(i64::from(value));
        }
        lane.partitions.append_value(at.partition);
        lane.offsets.append_value(at.offset);
        self.pending.0 += 1;
        self.pending.1 += lane.decoder.held_bytes() - held;
        self.rows += 1;
        Ok(())
    }

    /// Writes what is decoded once there is a batch of it, and begins the next file when this one is large.
    pub fn flush_if_due(&mut self) -> Result<()> {
        let (rows, bytes) = self.pending;
        if rows >= BATCH_ROWS || bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn failed(&self, what: &str, reason: impl ToString) -> Error {
        Error::Table {
            table: self.table.location().to_path_buf(),
            reason: format!("can't {what}: {}", reason.to_string()),
        }
    }

    /// The batches of all lanes that have rows.
    fn batches(&mut self) -> Result<Vec<RecordBatch>> {
        self.pending = (0, 0);
        let (job, schema) = (self.job.to_string(), Arc::clone(&self.schema));
        let lanes = self.lanes.values_mut();
        let batches = lanes
            .filter(|lane| !lane.decoder.is_empty())
            .map(|lane| lane.batch(&job, &schema));
        let batches: std::result::Result<Vec<_>, String> = batches.collect();
        batches.map_err(|e| self.failed("make a batch", e))
    }

    fn flush(&mut self) -> Result<()> {
        for batch in self.batches()? {
            self.write(&batch)?;
        }
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let file = self.table.new_file()?;
                let writer = self.create(&file)?;
                (file, writer, 0)
            }
        };
        let (_, writer, rows) = &mut open;
        *rows += batch.num_rows() as u64;
        let mut written = writer.write(batch);
        if written.is_ok() && writer.in_progress_size() >= ROW_GROUP_BYTES {
            written = writer.flush();
        }
        let full = writer.bytes_written() as u64 >= self.file_bytes;
        self.open = Some(open);
        written.map_err(|e| self.failed("write a data file", e))?;
        if full { self.close() } else { Ok(()) }
    }

    fn create(&self, file: &NewFile) -> Result<ArrowWriter<File>> {
        let level = ZstdLevel::try_new(1).map_err(|e| self.failed("compress", e))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_created_by(concat!("kappaflow ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let target = File::create(&file.temporary).map_err(Error::io("create", &file.temporary))?;
        ArrowWriter::try_new(target, Arc::clone(&self.schema), Some(properties))
            .map_err(|e| self.failed("begin a data file", e))
    }

    /// Ends the open file, durable under its own name.
    fn close(&mut self) -> Result<()> {
        let Some((file, writer, rows)) = self.open.take() else {
            return Ok(());
        };
        let ended = self.end(&file, writer);
        if ended.is_err() {
            let _ = fs::remove_file(&file.temporary);
        }
        let bytes = ended?;
        let data = DataFile {
            path: file.path,
            rows,
            bytes,
            job: self.job.to_string(),
            region: self.region.clone(),
            commit: String::new(),
        };
        self.done.push((data, file.place));
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
        fs::rename(&file.temporary, &file.place).map_err(Error::io("rename", &file.temporary))?;
        sync_parent(&file.place).map_err(Error::io("sync the directory of", &file.place))?;
        Ok(bytes)
    }

    /// Bytes of the whole files that no commit names yet.
    pub fn bytes(&self) -> u64 {
        self.done.iter().map(|(data, _)| data.bytes).sum()
    }

    /// Ends all files and gives them, for a commit. They are still removed unless [`Writer::keep`] is called.
    pub fn finish(&mut self, commit: &str) -> Result<Vec<DataFile>> {
        self.flush()?;
        self.close()?;
        let named = self.done.iter().map(|(data, _)| DataFile {
            commit: commit.to_owned(),
            ..data.clone()
        });
        Ok(named.collect())
    }

    /// The commit is in, or may be in: the files stay.
    pub fn keep(&mut self) {
        self.done.clear();
    }
}

impl Lane {
    fn batch(&mut self, job: &str, schema: &SchemaRef) -> std::result::Result<RecordBatch, String> {
        let answers = self.decoder.flush().map_err(|e| e.to_string())?;
        let mut columns = answers.columns().to_vec();
        let jobs = StringArray::from_iter_values(std::iter::repeat_n(job, answers.num_rows()));
        columns.push(Arc::new(jobs));
        for builder in &mut self.numbers {
            columns.push(Arc::new(builder.finish()) as ArrayRef);
        }
        columns.push(Arc::new(self.partitions.finish()));
        columns.push(Arc::new(self.offsets.finish()));
        let batch = RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| e.to_string())?;
        if self.left_out.is_empty() {
            return Ok(batch);
        }
        let mut kept = vec![true; batch.num_rows()];
        for row in self.left_out.drain(..) {
            kept[row] = false;
        }
        filter_record_batch(&batch, &BooleanArray::from(kept)).map_err(|e| e.to_string())
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // No commit names them; one that can't be removed is an orphan, as after a kill.
        if let Some((file, writer, _)) = self.open.take() {
            drop(writer);
            let _ = fs::remove_file(&file.temporary);
        }
        for (_, place) in &self.done {
            let _ = fs::remove_file(place);
        }
    }
}
