//! Messages without a topic: Avro to Arrow (`kappaflow.avro.Decoder`).

use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;
use kappaflow_avro::{AvroSchema, framing};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3_arrow::input::AnyArray;
use pyo3_arrow::{PyRecordBatch, PySchema};

use crate::errors::{self, raise_avro};

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<AvroDecoder>()
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
    #[pyo3(signature = (writer, schema_id, reader_schema=None))]
    fn new(
        py: Python<'_>,
        writer: &str,
        schema_id: Option<u32>,
        reader_schema: Option<&str>,
    ) -> PyResult<Self> {
        let parse = |json| AvroSchema::parse(json).map_err(|e| raise_avro(py, &e));
        let (writer, reader) = (parse(writer)?, reader_schema.map(parse).transpose()?);
        let reader = reader.as_ref().unwrap_or(&writer);
        let decoder = kappaflow_avro::Decoder::with_reader(&writer, reader)
            .map_err(|e| raise_avro(py, &e))?;
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
        self.with(py, |decoder| {
            let datum = self.datum(&message)?;
            decoder.push(datum).map_err(Refused::Decode)
        })
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
                let (mut datums, mut numbers) = (Vec::new(), Vec::new());
                for i in 0..chunk.len() {
                    match bytes.get(i).map(|message| self.datum(message)) {
                        None => refused.push((number, "the message is null".to_owned())),
                        Some(Err(why)) => refused.push((number, why.to_string())),
                        Some(Ok(datum)) => {
                            datums.push(datum);
                            numbers.push(number);
                        }
                    }
                    number += 1;
                }
                let wrong = decoder.push_all(datums);
                refused.extend(
                    wrong
                        .iter()
                        .map(|(at, why)| (numbers[*at], why.to_string())),
                );
            });
        }
        refused.sort_by_key(|(number, _)| *number);
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

    /// What is in the message's frame.
    fn datum<'m>(&self, message: &'m [u8]) -> Result<&'m [u8], Refused> {
        match self.schema_id {
            None => Ok(message),
            Some(expected) => match framing::split(message).map_err(Refused::Frame)? {
                (found, datum) if found == expected => Ok(datum),
                (found, _) => Err(Refused::OtherId { found, expected }),
            },
        }
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
