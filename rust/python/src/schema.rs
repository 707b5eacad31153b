//! Schemas without a topic: Arrow to Avro messages (`kappaflow.avro`); derive, plan, check (`kappaflow.schema`).

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::RecordBatchReader;
use arrow_buffer::Buffer;
use arrow_schema::SchemaRef;
use kappaflow_avro::framing::Frame;
use kappaflow_avro::{AvroSchema, CoercionPlan, Encoded, PlanError, PlanOptions};
use kappaflow_core::rows::BySchema;
use kappaflow_core::schema::{self, Table, Terms};
use kappaflow_core::{Context, Error, Result};
use pyo3::prelude::*;
use pyo3_arrow::PySchema;
use pyo3_arrow::buffer::PyArrowBuffer;
use pyo3_arrow::input::AnyRecordBatch;

use crate::drive::{drive, to_json};
use crate::errors::{self, raise_avro};
use crate::planner::planner;
use crate::reader::Guarded;

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(coercion_matrix, module)?)?;
    module.add_class::<AvroEncoder>()?;
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
            let (table, terms) = schema::of_job(Path::new(&job), &params, Some(&planner()))?;
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
            let (table, terms) = schema::of_job(Path::new(&job), &params, Some(&planner()))?;
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
