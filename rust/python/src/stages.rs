//! One function a stage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kappaflow_core::land::{LandOptions, LandUntil};
use kappaflow_core::store::Role;
use kappaflow_core::table::{Table, blocking};
use kappaflow_core::{
    Opening, Result, Session, dispatch, doctor, job, land, publish, reconcile, run, status, work,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde_json::json;

use crate::drive::{drive, drive_until, runtime, to_json};
use crate::errors;
use crate::planner::{planner, registrar};

pub type Params = BTreeMap<String, String>;

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(job_schema, module)?)?;
    module.add_function(wrap_pyfunction!(resolve, module)?)?;
    module.add_function(wrap_pyfunction!(plan, module)?)?;
    module.add_function(wrap_pyfunction!(py_dispatch, module)?)?;
    module.add_function(wrap_pyfunction!(py_publish, module)?)?;
    module.add_function(wrap_pyfunction!(rehearse, module)?)?;
    module.add_function(wrap_pyfunction!(py_work, module)?)?;
    module.add_function(wrap_pyfunction!(watch, module)?)?;
    module.add_function(wrap_pyfunction!(replicas, module)?)?;
    module.add_function(wrap_pyfunction!(py_land, module)?)?;
    module.add_function(wrap_pyfunction!(py_reconcile, module)?)?;
    module.add_function(wrap_pyfunction!(py_run, module)?)?;
    module.add_function(wrap_pyfunction!(py_doctor, module)?)?;
    module.add_function(wrap_pyfunction!(py_status, module)?)?;
    module.add_function(wrap_pyfunction!(lag, module)?)?;
    module.add_function(wrap_pyfunction!(lag_async, module)?)?;
    module.add_function(wrap_pyfunction!(regions, module)?)?;
    module.add_function(wrap_pyfunction!(names, module)?)?;
    module.add_function(wrap_pyfunction!(events, module)?)?;
    module.add_function(wrap_pyfunction!(py_table, module)?)?;
    Ok(())
}

pub async fn open(job: &str, params: &Params) -> Result<Session> {
    open_with(job, params, false).await
}

/// The same; with `new_snapshot` the source is pinned as it is now.
async fn open_with(job: &str, params: &Params, new_snapshot: bool) -> Result<Session> {
    let opening = Opening {
        new_snapshot,
        planner: Some(planner()),
        registrar: Some(registrar()),
    };
    Session::open_with(Path::new(job), params, opening).await
}

#[pyfunction]
fn job_schema(py: Python<'_>) -> PyResult<String> {
    to_json(py, &job::json_schema())
}

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over")]
fn resolve(py: Python<'_>, job: String, params: Params) -> PyResult<String> {
    let job = py
        .detach(|| job::load(Path::new(&job), &params))
        .map_err(|e| errors::raise(py, &e))?;
    let metrics = job
        .file
        .output
        .metrics
        .as_deref()
        .map(|path| job.resolve(path));
    let table = job.table();
    to_json(
        py,
        &json!({
            "path": job.path, "dir": job.dir, "params": job.params, "file": job.file,
            "table": table, "metrics": metrics,
        }),
    )
}

#[pyfunction]
#[pyo3(signature = (job, params, new_snapshot=false))]
fn plan(py: Python<'_>, job: String, params: Params, new_snapshot: bool) -> PyResult<String> {
    drive(py, None, move |_| async move {
        let session = open_with(&job, &params, new_snapshot).await?;
        session.plan().await
    })
}

#[pyfunction]
#[pyo3(name = "dispatch", signature = (job, params, new_snapshot=false, on_progress=None))]
fn py_dispatch(
    py: Python<'_>,
    job: String,
    params: Params,
    new_snapshot: bool,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    drive(py, on_progress, move |ctx| async move {
        let session = open_with(&job, &params, new_snapshot).await?;
        dispatch::dispatch(&session, &ctx).await
    })
}

#[pyfunction]
#[pyo3(name = "publish", signature = (job, params, child=None, on_progress=None))]
fn py_publish(
    py: Python<'_>,
    job: String,
    params: Params,
    child: Option<String>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    drive(py, on_progress, |ctx| async move {
        let options = publish::PublishOptions { child };
        publish::publish(&open(&job, &params).await?, options, &ctx).await
    })
}

#[pyfunction]
#[pyo3(signature = (job, params, child=None))]
fn rehearse(
    py: Python<'_>,
    job: String,
    params: Params,
    child: Option<String>,
) -> PyResult<String> {
    drive(py, None, |ctx| async move {
        let options = publish::PublishOptions { child };
        publish::rehearse(&open(&job, &params).await?, options, &ctx).await
    })
}

#[pyfunction]
#[pyo3(name = "work", signature = (job, params, region, python, until="done", listen=None, instance_id=None, on_progress=None))]
#[expect(clippy::too_many_arguments, reason = "pyo3 hands arguments over")]
fn py_work(
    py: Python<'_>,
    job: String,
    params: Params,
    region: String,
    python: PathBuf,
    until: &str,
    listen: Option<String>,
    instance_id: Option<String>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let until: work::Until = until.parse().map_err(PyValueError::new_err)?;
    drive_until(
        py,
        on_progress,
        until == work::Until::Stopped,
        |ctx| async move {
            let options = work::WorkOptions {
                until,
                listen: listen.as_deref().map(work::metrics::address).transpose()?,
                instance_id,
                ..work::WorkOptions::new(region, python)
            };
            work::work(&open(&job, &params).await?, options, &ctx).await
        },
    )
}

#[pyfunction]
#[pyo3(signature = (job, params, region, on_progress=None))]
fn watch(
    py: Python<'_>,
    job: String,
    params: Params,
    region: String,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    drive(py, on_progress, |ctx| async move {
        work::watch(
            &open(&job, &params).await?,
            work::WatchOptions::new(region),
            &ctx,
        )
        .await
    })
}

#[pyfunction]
#[pyo3(signature = (job, params, region, options, on_progress=None))]
fn replicas(
    py: Python<'_>,
    job: String,
    params: Params,
    region: String,
    options: &str,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let options: work::ReplicasOptions = serde_json::from_str(options)
        .map_err(|e| errors::of_kind(py, "job_file", &format!("replicas: {e}")))?;
    drive(py, on_progress, |ctx| async move {
        let session = open(&job, &params).await?;
        work::region_replicas(&session, &region, &options, &ctx).await
    })
}

#[pyfunction]
#[pyo3(name = "land", signature = (job, params, region=None, until="now", shared=false, on_progress=None))]
fn py_land(
    py: Python<'_>,
    job: String,
    params: Params,
    region: Option<String>,
    until: &str,
    shared: bool,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let until: LandUntil = until.parse().map_err(PyValueError::new_err)?;
    drive_until(
        py,
        on_progress,
        until == LandUntil::Stopped,
        |ctx| async move {
            land::land(
                &open(&job, &params).await?,
                LandOptions {
                    region,
                    until,
                    shared,
                },
                &ctx,
            )
            .await
        },
    )
}

#[pyfunction]
#[pyo3(name = "reconcile", signature = (job, params, on_progress=None))]
fn py_reconcile(
    py: Python<'_>,
    job: String,
    params: Params,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    drive(py, on_progress, |ctx| async move {
        reconcile::reconcile(&open(&job, &params).await?, &ctx).await
    })
}

#[pyfunction]
#[pyo3(name = "doctor", signature = (job, params, spark=false, on_progress=None))]
fn py_doctor(
    py: Python<'_>,
    job: String,
    params: Params,
    spark: bool,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    drive(py, on_progress, |ctx| async move {
        doctor::diagnose(&open(&job, &params).await?, spark, &ctx).await
    })
}

#[pyfunction]
#[pyo3(name = "run", signature = (job, params, python, new_snapshot=false, sample=None, sample_failures="1%", on_progress=None))]
#[expect(clippy::too_many_arguments, reason = "pyo3 hands arguments over")]
fn py_run(
    py: Python<'_>,
    job: String,
    params: Params,
    python: PathBuf,
    new_snapshot: bool,
    sample: Option<u64>,
    sample_failures: &str,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let max_failures = sample_failures.parse().map_err(PyValueError::new_err)?;
    let sample = sample.map(|rows| run::Sample { rows, max_failures });
    drive(py, on_progress, move |ctx| async move {
        let session = open_with(&job, &params, new_snapshot).await?;
        run::run(&session, &python, sample.as_ref(), &ctx).await
    })
}

#[pyfunction]
#[pyo3(name = "status")]
fn py_status(py: Python<'_>, job: String, params: Params) -> PyResult<String> {
    drive(py, None, |ctx| async move {
        status::status(&open(&job, &params).await?, &ctx).await
    })
}

#[pyfunction]
fn lag(py: Python<'_>, job: String, params: Params, region: String) -> PyResult<String> {
    drive(py, None, |_| async move {
        status::lag(&open(&job, &params).await?, &region).await
    })
}

#[pyfunction]
fn lag_async(
    py: Python<'_>,
    job: String,
    params: Params,
    region: String,
) -> PyResult<Bound<'_, PyAny>> {
    runtime(py)?;
    pyo3_async_runtimes::tokio::future_into_py(py, async move {
        let lag = match open(&job, &params).await {
            Ok(session) => status::lag(&session, &region).await,
            Err(error) => Err(error),
        };
        Python::attach(|py| match lag {
            Ok(lag) => to_json(py, &lag),
            Err(error) => Err(errors::raise(py, &error)),
        })
    })
}

#[pyfunction]
fn regions(py: Python<'_>, job: String, params: Params) -> PyResult<String> {
    drive(py, None, |_| async move {
        let session = open(&job, &params).await?;
        let rows = dispatch::regions(&session).await?;
        let with_headroom = |r: &kappaflow_core::store::RegionRow| {
            json!({
                "name": r.name, "cap_max": r.cap_max, "active": r.active, "queued": r.queued,
                "headroom": r.headroom(),
            })
        };
        Ok(rows.iter().map(with_headroom).collect::<Vec<_>>())
    })
}

#[pyfunction]
fn names(py: Python<'_>, job: String, params: Params, region: String) -> PyResult<String> {
    drive(py, None, |_| async move {
        let session = open(&job, &params).await?;
        session.cluster(&region)?;
        let topics: BTreeMap<_, _> = Role::ALL
            .map(|role| (role.name(), session.topic_name(&region, role)))
            .into();
        Ok(json!({
            "job": session.id.to_string(), "group": session.group(&region), "topics": topics,
        }))
    })
}

#[pyfunction]
fn events(py: Python<'_>, job: String, params: Params) -> PyResult<String> {
    drive(py, None, |_| async move {
        let session = open(&job, &params).await?;
        session.store.events(session.id).await
    })
}

#[pyfunction]
#[pyo3(name = "table", signature = (job, params, local=true))]
fn py_table(py: Python<'_>, job: String, params: Params, local: bool) -> PyResult<String> {
    drive(py, None, move |_| async move {
        let session = open(&job, &params).await?;
        let (job, location) = (session.id, session.job.table());
        let table = Table::of(&session.job)?;
        let files = blocking(&location, move || {
            let state = table.state()?;
            let files = state.files_of(Some(job));
            files
                .map(|f| match local {
                    true => table.storage().local(&f.path),
                    false => Ok(table.location().join(&f.path)),
                })
                .collect::<Result<Vec<_>, _>>()
        })
        .await?;
        Ok(json!({"job": job.to_string(), "dir": location, "files": files}))
    })
}
