//! Core errors as the Python exceptions of `kappaflow.errors`, picked by the variant's stable name.

use kappaflow_core::Error;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// The Python exception for a core error.
pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    of_kind(py, error.kind(), &error.to_string())
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
