//! Upkeep of a landed table for Python.

use std::path::PathBuf;
use std::time::Duration;

use kappaflow_core::upkeep;
use pyo3::prelude::*;

use crate::drive::drive;
use crate::stages::{Params, open};

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(compact_table, module)?)?;
    module.add_function(wrap_pyfunction!(clean_table, module)?)?;
    module.add_function(wrap_pyfunction!(export_table, module)?)
}

#[pyfunction]
#[pyo3(signature = (job, params, on_progress=None))]
fn compact_table(
    py: Python<'_>,
    job: String,
    params: Params,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    drive(py, on_progress, |ctx| async move {
        upkeep::compact(&open(&job, &params).await?, &ctx).await
    })
}

#[pyfunction]
#[pyo3(signature = (job, params, older_than_ms, on_progress=None))]
fn clean_table(
    py: Python<'_>,
    job: String,
    params: Params,
    older_than_ms: u64,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let older_than = Duration::from_millis(older_than_ms);
    drive(py, on_progress, move |ctx| async move {
        upkeep::clean(&open(&job, &params).await?, older_than, &ctx).await
    })
}

#[pyfunction]
#[pyo3(signature = (job, params, directory, on_progress=None))]
fn export_table(
    py: Python<'_>,
    job: String,
    params: Params,
    directory: PathBuf,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    drive(py, on_progress, |ctx| async move {
        upkeep::export(&open(&job, &params).await?, &directory, &ctx).await
    })
}
