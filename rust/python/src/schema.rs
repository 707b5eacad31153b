//! Schemas without a topic: Arrow to and from Avro messages (`kappaflow.avro`); derive, plan, check (`kappaflow.schema`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, RecordBatchReader};
use arrow_buffer::Buffer;
use arrow_schema::SchemaRef;
use kappaflow_avro::framing::{self, Frame};
use kappaflow_avro::{AvroSchema, CoercionPlan, Encoded, PlanError, PlanOptions};
use kappaflow_core::rows::BySchema;
use kappaflow_core::schema::{self, Table, Terms};
use kappaflow_core::{Context, Error, Result};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3_arrow::buffer::PyArrowBuffer;
use pyo3_arrow::input::{AnyArray, AnyRecordBatch};
use pyo3_arrow::{PyRecordBatch, PySchema};

use crate::drive::{drive, to_json};
use crate::errors::{self, raise_avro};
use crate::reader::Guarded;

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(coercion_matrix, module)?)?;
    module.add_class::<AvroEncoder>()?;
    module.add_class::<AvroDecoder>()?;
    module.add_function(wrap_pyfunction!(schema_derive, module)?)?;
    module.add_function(wrap_pyfunction!(schema_plan, module)?)?;
    module.add_function(wrap_pyfunction!(schema_plan_job, module)?)?;
    module.add_function(wrap_pyfunction!(schema_check, module)?)?;
    module.add_function(wrap_pyfunction!(schema_check_job, module)?)
}

/// A table: the path of Parquet files, or Arrow data.
#[derive(FromPyObject)]
enum TableSource {
    Path(String),
    Data(AnyRecordBatch),
}

/// The same, opened; files are pinned where that may take its time.
enum Opening {
    Path(String),
    Open(Table),
}

impl TableSource {
    fn opening(self) -> PyResult<Opening> {
        Ok(match self {
            Self::Path(path) => Opening::Path(path),
            Self::Data(data) => {
                Opening::Open(Table::Stream(Box::new(Guarded::new(data.into_reader()?))))
            }
        })
    }
}

impl Opening {
    fn open(self) -> Result<Table> {
        match self {
            Self::Path(path) => Table::at(Path::new(&path)),
            Self::Open(table) => Ok(table),
        }
    }
}

/// Runs something that blocks beside the runtime's threads.
async fn blocking<T: Send + 'static>(of: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let task = tokio::task::spawn_blocking(of);
    task.await.unwrap_or_else(|e| {
        Err(Error::Schema {
            what: "was not looked at to the end".into(),
            reason: e.to_string(),
        })
    })
}

/// The schema as JSON, what it is called in errors, and the options of the plan, as JSON.
type Given = (String, String, String);

fn terms(py: Python<'_>, (json, what, options): &Given) -> PyResult<Terms> {
    let options = plan_options(py, options)?;
    Terms::new(what, json, options).map_err(|e| errors::raise(py, &e))
}

fn plan_options(py: Python<'_>, options: &str) -> PyResult<PlanOptions> {
    serde_json::from_str(options)
        .map_err(|e| errors::of_kind(py, "plan", &format!("the options of the plan: {e}")))
}

#[pyfunction]
#[pyo3(signature = (table, options, on_progress=None))]
fn schema_derive(
    py: Python<'_>,
    table: TableSource,
    options: &str,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let options: schema::DeriveOptions = serde_json::from_str(options)
        .map_err(|e| errors::of_kind(py, "schema", &format!("derive: {e}")))?;
    let table = table.opening()?;
    drive(py, on_progress, |ctx| {
        blocking(move || schema::derive(table.open()?, &options, &ctx))
    })
}

/// Data is not read, only its schema.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over")]
fn schema_plan(py: Python<'_>, table: PlanSource, given: Given) -> PyResult<String> {
    let terms = terms(py, &given)?;
    match table {
        PlanSource::Path(path) => drive(py, None, |_| {
            blocking(move || schema::plan(&Table::at(Path::new(&path))?, &terms))
        }),
        PlanSource::Columns(columns) => {
            let columns = columns.schema()?;
            let rows = schema::plan_of(&columns, &terms).map_err(|e| errors::raise(py, &e))?;
            to_json(py, &rows)
        }
    }
}

#[derive(FromPyObject)]
enum PlanSource {
    Path(String),
    Columns(SchemaSource),
}

#[pyfunction]
fn schema_plan_job(
    py: Python<'_>,
    job: String,
    params: BTreeMap<String, String>,
) -> PyResult<String> {
    drive(py, None, |_| {
        blocking(move || {
            let (table, terms) = schema::of_job(Path::new(&job), &params)?;
            schema::plan(&table, &terms)
        })
    })
}

#[pyfunction]
#[pyo3(signature = (table, given, on_progress=None))]
#[expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over")]
fn schema_check(
    py: Python<'_>,
    table: TableSource,
    given: Given,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let terms = terms(py, &given)?;
    let table = table.opening()?;
    drive(py, on_progress, |ctx: Context| {
        blocking(move || schema::check(table.open()?, &terms, &ctx))
    })
}

#[pyfunction]
#[pyo3(signature = (job, params, on_progress=None))]
fn schema_check_job(
    py: Python<'_>,
    job: String,
    params: BTreeMap<String, String>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    drive(py, on_progress, |ctx: Context| {
        blocking(move || {
            let (table, terms) = schema::of_job(Path::new(&job), &params)?;
            schema::check(table, &terms, &ctx)
        })
    })
}

/// What the rules say of every pair of types, as Markdown.
#[pyfunction]
fn coercion_matrix(py: Python<'_>) -> PyResult<String> {
    kappaflow_avro::matrix::markdown().map_err(|e| raise_avro(py, &e))
}

/// What Arrow's C interfaces hand over where only a schema is looked at.
#[derive(FromPyObject)]
enum SchemaSource {
    Schema(PySchema),
    Data(AnyRecordBatch),
}

impl SchemaSource {
    fn schema(self) -> PyResult<SchemaRef> {
        match self {
            Self::Schema(schema) => Ok(schema.into_inner()),
            Self::Data(data) => data.schema(),
        }
    }
}

/// Row number, column, value and reason.
type Rejected = (u32, String, String, String);

#[pyclass(frozen)]
struct AvroEncoder {
    encoder: kappaflow_avro::Encoder,
    plan: CoercionPlan,
    /// For batches with text that is none, which are not what was planned.
    terms: (AvroSchema, PlanOptions, Frame),
}

#[pymethods]
impl AvroEncoder {
    #[new]
    fn new(
        py: Python<'_>,
        arrow: SchemaSource,
        avro: &str,
        schema_id: Option<u32>,
        options: &str,
    ) -> PyResult<Self> {
        let schema = AvroSchema::parse(avro).map_err(|e| raise_avro(py, &e))?;
        let options = plan_options(py, options)?;
        let arrow = arrow.schema()?;
        let plan = CoercionPlan::new(&arrow, &schema, &options).map_err(|e| raise_avro(py, &e))?;
        // A message whose schema is named elsewhere is the bare datum.
        let frame = schema_id.map_or(Frame::Guid, Frame::Id);
        Ok(Self {
            encoder: kappaflow_avro::Encoder::new(plan.clone(), frame),
            plan,
            terms: (schema, options, frame),
        })
    }

    /// The plan, as JSON.
    fn plan(&self, py: Python<'_>) -> PyResult<String> {
        to_json(py, &self.plan.describe())
    }

    /// Messages one after the other, their offsets (u64), the row of each (u32), and the rejects.
    fn encode(
        &self,
        py: Python<'_>,
        data: AnyRecordBatch,
    ) -> PyResult<(PyArrowBuffer, PyArrowBuffer, PyArrowBuffer, Vec<Rejected>)> {
        let reader = Guarded::new(data.into_reader()?);
        let done = py
            .detach(|| self.encode_all(reader))
            .map_err(|e| e.raise(py))?;
        let offsets: Vec<u64> = done.offsets.iter().map(|o| *o as u64).collect();
        let rejects = done.rejects.into_iter();
        Ok((
            PyArrowBuffer::new(Buffer::from_vec(done.buffer)),
            PyArrowBuffer::new(Buffer::from_vec(offsets)),
            PyArrowBuffer::new(Buffer::from_vec(done.rows)),
            rejects
                .map(|r| (r.row, r.column, r.value, r.reason))
                .collect(),
        ))
    }
}

/// What stops an encoding.
enum Stopped {
    Plan(PlanError),
    Encode(kappaflow_avro::EncodeError),
    Arrow(arrow_schema::ArrowError),
}

impl Stopped {
    fn raise(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Plan(error) => raise_avro(py, error),
            Self::Encode(error) => raise_avro(py, error),
            Self::Arrow(error) => errors::of_kind(
                py,
                "encode",
                &format!("the Arrow data can't be read: {error}"),
            ),
        }
    }
}

impl AvroEncoder {
    /// An encoder of its own, so that threads don't wait for each other: the one that was planned, but for batches that
    /// are not what their stream says.
    fn encoder(
        &self,
        told: &SchemaRef,
        columns: &SchemaRef,
    ) -> Result<kappaflow_avro::Encoder, Stopped> {
        if columns.fields() == told.fields() {
            return Ok(self.encoder.clone());
        }
        let (schema, options, frame) = &self.terms;
        let plan = CoercionPlan::new(columns, schema, options).map_err(Stopped::Plan)?;
        Ok(kappaflow_avro::Encoder::new(plan, *frame))
    }

    fn encode_all(&self, batches: impl RecordBatchReader) -> Result<Encoded, Stopped> {
        let mut encoders = BySchema::new();
        let planned = batches.schema();
        let mut whole: Option<Encoded> = None;
        let mut base = 0_usize;
        for batch in batches {
            let batch = batch.map_err(Stopped::Arrow)?;
            let part = encoders
                .get(batch.schema_ref(), |columns| {
                    self.encoder(&planned, columns)
                })
                .and_then(|encoder| encoder.encode(&batch).map_err(Stopped::Encode))?;
            let rows = base.saturating_add(batch.num_rows());
            match &mut whole {
                None => whole = Some(part),
                Some(whole) => append(whole, part, base, rows).map_err(Stopped::Encode)?,
            }
            base = rows;
        }
        Ok(whole.unwrap_or_else(|| Encoded {
            offsets: vec![0],
            ..Encoded::default()
        }))
    }
}

/// Adds the rows of a later batch, whose first row is number `base`, to those of the batches before it.
fn append(
    whole: &mut Encoded,
    part: Encoded,
    base: usize,
    rows: usize,
) -> Result<(), kappaflow_avro::EncodeError> {
    let too_many = |_| kappaflow_avro::EncodeError::TooManyRows { rows };
    u32::try_from(rows).map_err(too_many)?;
    let base = u32::try_from(base).map_err(too_many)?;
    let before = whole.buffer.len();
    whole.buffer.extend_from_slice(&part.buffer);
    let offsets = part.offsets.iter().skip(1).map(|o| before + o);
    whole.offsets.extend(offsets);
    whole.rows.extend(part.rows.iter().map(|r| base + r));
    whole.rejects.extend(part.rejects.into_iter().map(|mut r| {
        r.row += base;
        r
    }));
    Ok(())
}

#[pyclass(frozen)]
struct AvroDecoder {
    decoder: Mutex<kappaflow_avro::Decoder>,
    schema: SchemaRef,
    /// The id that messages must be framed with; `None`: they are bare datums.
    schema_id: Option<u32>,
}

#[pymethods]
impl AvroDecoder {
    #[new]
    fn new(py: Python<'_>, writer: &str, schema_id: Option<u32>) -> PyResult<Self> {
        let writer = AvroSchema::parse(writer).map_err(|e| raise_avro(py, &e))?;
        let decoder = kappaflow_avro::Decoder::new(&writer).map_err(|e| raise_avro(py, &e))?;
        Ok(Self {
            schema: decoder.arrow_schema(),
            decoder: Mutex::new(decoder),
            schema_id,
        })
    }

    #[getter]
    fn schema(&self) -> PySchema {
        PySchema::new(self.schema.clone())
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.with(py, |decoder| decoder.len())
    }

    /// Decodes one message as the next row.
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over")]
    fn push(&self, py: Python<'_>, message: PyBackedBytes) -> PyResult<()> {
        self.with(py, |decoder| self.take(decoder, &message))
            .map_err(|e| e.raise(py))
    }

    /// Decodes each message of an Arrow array of bytes; the ones that are refused come back with number and reason.
    fn extend(&self, py: Python<'_>, messages: AnyArray) -> PyResult<Vec<(u64, String)>> {
        let messages = messages.into_chunked_array()?;
        let mut refused = Vec::new();
        let mut number = 0_u64;
        for chunk in messages.chunks() {
            let Some(bytes) = Bytes::of(chunk) else {
                let found = chunk.data_type();
                let reason = format!("messages are an Arrow array of bytes, not of {found}");
                return Err(errors::of_kind(py, "decode", &reason));
            };
            self.with(py, |decoder| {
                for i in 0..chunk.len() {
                    match bytes.get(i) {
                        None => refused.push((number, "the message is null".to_owned())),
                        Some(message) => {
                            if let Err(why) = self.take(decoder, message) {
                                refused.push((number, why.to_string()));
                            }
                        }
                    }
                    number += 1;
                }
            });
        }
        Ok(refused)
    }

    /// The rows since the last flush, as one batch.
    fn flush(&self, py: Python<'_>) -> PyResult<PyRecordBatch> {
        let batch: RecordBatch = self
            .with(py, |decoder| decoder.flush())
            .map_err(|e| raise_avro(py, &e))?;
        Ok(PyRecordBatch::new(batch))
    }
}

/// Why a message was refused.
enum Refused {
    Frame(kappaflow_avro::FrameError),
    OtherId { found: u32, expected: u32 },
    Decode(kappaflow_avro::DecodeError),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::OtherId { found, expected } => write!(
                f,
                "the message is of schema {found}, this decoder is of schema {expected}; use one decoder a schema"
            ),
            Self::Decode(error) => error.fmt(f),
        }
    }
}

impl Refused {
    fn raise(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Frame(error) => raise_avro(py, error),
            Self::OtherId { .. } => errors::of_kind(py, "frame", &self.to_string()),
            Self::Decode(error) => raise_avro(py, error),
        }
    }
}

impl AvroDecoder {
    /// The lock is taken and given back without the GIL: a thread that waits for it holds nobody up.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        of: impl FnOnce(&mut kappaflow_avro::Decoder) -> T + Send,
    ) -> T {
        py.detach(|| of(&mut self.decoder.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn take(&self, decoder: &mut kappaflow_avro::Decoder, message: &[u8]) -> Result<(), Refused> {
        let datum = match self.schema_id {
            None => message,
            Some(expected) => match framing::split(message).map_err(Refused::Frame)? {
                (found, datum) if found == expected => datum,
                (found, _) => return Err(Refused::OtherId { found, expected }),
            },
        };
        decoder.push(datum).map_err(Refused::Decode)
    }
}

/// The forms of an Arrow array of bytes.
enum Bytes<'a> {
    Small(&'a arrow_array::BinaryArray),
    Large(&'a arrow_array::LargeBinaryArray),
    View(&'a arrow_array::BinaryViewArray),
}

impl<'a> Bytes<'a> {
    fn of(array: &'a dyn Array) -> Option<Self> {
        array
            .as_binary_opt::<i32>()
            .map(Self::Small)
            .or_else(|| array.as_binary_opt::<i64>().map(Self::Large))
            .or_else(|| array.as_binary_view_opt().map(Self::View))
    }

    fn get(&self, i: usize) -> Option<&'a [u8]> {
        match self {
            Self::Small(array) => (!array.is_null(i)).then(|| array.value(i)),
            Self::Large(array) => (!array.is_null(i)).then(|| array.value(i)),
            Self::View(array) => (!array.is_null(i)).then(|| array.value(i)),
        }
    }
}
