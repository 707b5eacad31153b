//! Fleets: serving, submitting, cancelling, and how they stand.

use std::path::PathBuf;

use kappaflow_core::store::Store;
use kappaflow_core::work::native::Natives;
use kappaflow_core::{Error, fleet, work};
use pyo3::prelude::*;

use crate::drive::{drive, drive_until};
use crate::stages::{Params, open};

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(submit, module)?)?;
    module.add_function(wrap_pyfunction!(cancel, module)?)?;
    module.add_function(wrap_pyfunction!(py_fleet, module)?)?;
    module.add_function(wrap_pyfunction!(fleet_status, module)?)?;
    Ok(())
}

#[pyfunction]
#[pyo3(signature = (job, params, region=None))]
fn submit(py: Python<'_>, job: String, params: Params, region: Option<String>) -> PyResult<String> {
    drive(py, None, |_| async move {
        fleet::submit(&open(&job, &params).await?, region.as_deref()).await
    })
}

#[pyfunction]
#[pyo3(signature = (job, params, by, region=None))]
fn cancel(
    py: Python<'_>,
    job: String,
    params: Params,
    by: String,
    region: Option<String>,
) -> PyResult<String> {
    drive(py, None, |_| async move {
        fleet::cancel(&open(&job, &params).await?, region.as_deref(), &by).await
    })
}

#[pyfunction]
#[pyo3(name = "fleet", signature = (store, service, region, python, max_jobs=4, listen=None, on_progress=None))]
#[expect(clippy::too_many_arguments, reason = "pyo3 hands arguments over")]
fn py_fleet(
    py: Python<'_>,
    store: String,
    service: String,
    region: String,
    python: PathBuf,
    max_jobs: u32,
    listen: Option<String>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    drive_until(py, on_progress, true, |ctx| async move {
        let options = fleet::FleetOptions {
            store,
            service,
            region,
            max_jobs,
            python,
            package_dir: None,
            listen: listen.as_deref().map(work::metrics::address).transpose()?,
            natives: Natives::default(),
        };
        fleet::fleet(options, &ctx).await
    })
}

#[pyfunction]
fn fleet_status(py: Python<'_>, store: String) -> PyResult<String> {
    drive(py, None, |_| async move {
        let here = std::env::current_dir();
        let here = here.map_err(Error::io("find the working directory", "."))?;
        fleet::fleet_status(&Store::open(&store, &here).await?).await
    })
}
