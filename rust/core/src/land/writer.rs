//! Answers to rows: decoded by the schema they were written with, as columns of the egress schema, with whose they are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, Int32Builder, Int64Builder};
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow_cast::display::FormatOptions;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{Field, FieldRef, Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;
use kappaflow_avro::framing::SchemaKey;
use kappaflow_avro::{AvroSchema, Decoder, ResolutionError};

use super::families::At;
use super::file_thread::FileThread;
use crate::error::{Error, Result};
use crate::identity::{EgressIdentity, JobId};
use crate::table::{DataFile, Files, Shape, Storage, held, identity_fields};

/// Rows decoded before they go to the files.
const BATCH_ROWS: usize = 8_192;
/// Bytes that decoded answers may take before they go to the files, however few.
const BATCH_BYTES: usize = 16 << 20;

/// Decodes answers and writes them, commit by commit.
pub struct Writer {
    table: PathBuf,
    job: JobId,
    schema: SchemaRef,
    egress: AvroSchema,
    /// By the id of the schema that answers were written with.
    lanes: BTreeMap<SchemaKey, Lane>,
    /// Rows and bytes decoded since the last batch.
    pending: (usize, usize),
    files: FileThread,
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

impl Writer {
    /// # Errors
    /// [`Error::Schema`] if the egress schema has a type that no column is made of, or a field with a reserved name.
    pub fn new(storage: &Storage, egress: &AvroSchema, shape: Shape) -> Result<Self> {
        let wrong = |reason: String| Error::Schema {
            what: format!("egress {}", egress.full_name()),
            reason,
        };
        let decoder = Decoder::new(egress).map_err(|e| wrong(e.to_string()))?;
        let mut fields: Vec<FieldRef> = Vec::new();
        for field in decoder.arrow_schema().fields() {
            let kind = held(field.data_type(), shape.format)
                .map_err(|e| wrong(format!("field {}: {e}", field.name())))?;
            fields.push(Arc::new(Field::clone(field).with_data_type(kind)));
        }
        for field in identity_fields() {
            if fields.iter().any(|f| f.name() == field.name()) {
                return Err(wrong(format!(
                    "the field name {} is reserved for the identity columns",
                    field.name()
                )));
            }
            fields.push(field);
        }
        let schema = Arc::new(Schema::new(fields));
        let (table, job) = (storage.location().to_path_buf(), shape.job);
        let files = Files::new(storage, Arc::clone(&schema), shape)?;
        Ok(Self {
            files: FileThread::start(table.clone(), files)?,
            table,
            job,
            egress: egress.clone(),
            lanes: BTreeMap::new(),
            pending: (0, 0),
            schema,
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

    /// The batches of all lanes that have rows.
    fn batches(&mut self) -> Result<Vec<RecordBatch>> {
        self.pending = (0, 0);
        let (job, schema) = (self.job.to_string(), Arc::clone(&self.schema));
        let lanes = self.lanes.values_mut();
        let batches = lanes
            .filter(|lane| !lane.decoder.is_empty())
            .map(|lane| lane.batch(&job, &schema));
        let batches: std::result::Result<Vec<_>, String> = batches.collect();
        batches.map_err(|reason| Error::Table {
            table: self.table.clone(),
            reason: format!("can't make a batch: {reason}"),
        })
    }

    fn flush(&mut self) -> Result<()> {
        for batch in self.batches()? {
            self.files.write(batch)?;
        }
        Ok(())
    }

    /// Bytes of the files that no commit names yet.
    pub fn bytes(&self) -> u64 {
        self.files.bytes()
    }

    /// Ends all files and gives them, for a commit. They are still removed unless [`Writer::keep`] is called.
    ///
    /// # Errors
    /// [`Error::Table`] or [`Error::Io`].
    pub fn finish(&mut self, commit: &str) -> Result<Vec<DataFile>> {
        self.flush()?;
        self.files.finish(commit)
    }

    /// The commit is in, or may be in: the files stay.
    ///
    /// # Errors
    /// [`Error::Table`] if the thread that writes files is gone.
    pub fn keep(&mut self) -> Result<()> {
        self.files.keep()
    }
}

impl Lane {
    fn batch(&mut self, job: &str, schema: &SchemaRef) -> std::result::Result<RecordBatch, String> {
        let answers = self.decoder.flush().map_err(|e| e.to_string())?;
        const EXACT: CastOptions<'_> = CastOptions {
            safe: false,
            format_options: FormatOptions::new(),
        };
        let held = answers.columns().iter().zip(schema.fields());
        let held = held.map(
            |(column, field)| match column.data_type() == field.data_type() {
                true => Ok(Arc::clone(column)),
                // A value that there is no room for is an error, not null.
                false => cast_with_options(column, field.data_type(), &EXACT),
            },
        );
        let mut columns: Vec<ArrayRef> =
            held.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
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
