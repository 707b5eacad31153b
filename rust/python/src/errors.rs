//! Rust errors as the Python exceptions of `kappaflow.errors`, picked by a stable name.

use std::error::Error as StdError;

use kappaflow_avro::{
    DecodeError, EncodeError, FrameError, PlanError, ResolutionError, SchemaError,
};
use kappaflow_core::Error;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// The Python exception for a core error.
pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    of_kind(py, error.kind(), &error.to_string())
}

/// An error of kappaflow-avro: the name by which Python picks its exception.
pub trait AvroError: StdError {
    const KIND: &str;
}

impl AvroError for SchemaError {
    const KIND: &str = "schema";
}
impl AvroError for PlanError {
    const KIND: &str = "plan";
}
impl AvroError for EncodeError {
    const KIND: &str = "encode";
}
impl AvroError for DecodeError {
    const KIND: &str = "decode";
}
impl AvroError for ResolutionError {
    const KIND: &str = "decode";
}
impl AvroError for FrameError {
    const KIND: &str = "frame";
}

/// The Python exception for an error of kappaflow-avro.
pub fn raise_avro<E: AvroError>(py: Python<'_>, error: &E) -> PyErr {
    of_kind(py, E::KIND, &error.to_string())
}

pub fn of_kind(py: Python<'_>, kind: &str, message: &str) -> PyErr {
    let made = py
        .import("kappaflow.errors")
        .and_then(|errors| errors.call_method1("of_kind", (kind, message)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(_) => PyRuntimeError::new_err(message.to_owned()),
    }
}

/// The kind and the text of an exception: its own, if it is of the kappaflow family; else the one that is given, and what
/// could not be done, by which exception.
pub fn told(py: Python<'_>, error: &PyErr, kind: &str, what: &str) -> (String, String) {
    let value = error.value(py);
    let family = py
        .import("kappaflow.errors")
        .and_then(|errors| errors.getattr("KappaFlowError"));
    if family.is_ok_and(|family| value.is_instance(&family).unwrap_or(false))
        && let Ok(kind) = value
            .getattr("kind")
            .and_then(|kind| kind.extract::<String>())
    {
        return (kind, value.to_string());
    }
    (kind.to_owned(), format!("{what}: {error}"))
}
