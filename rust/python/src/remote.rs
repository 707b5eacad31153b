//! Publishing in Spark's executors: what the driver calls, and what a task calls.

use std::path::Path;
use std::sync::Arc;

use kappaflow_core::publish::remote;
use kappaflow_core::{Error, Opening, Session};
use pyo3::prelude::*;
use tokio::sync::Mutex;

use crate::drive::drive;
use crate::planner::planner;
use crate::stages::Params;

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<RemotePublish>()?;
    module.add_function(wrap_pyfunction!(publish_split, module)?)
}

/// A publish whose splits are published by other processes, seen from the one that holds the store.
#[pyclass(frozen, module = "kappaflow._native")]
pub struct RemotePublish {
    /// `None` once it is left.
    inner: Arc<Mutex<Option<remote::RemotePublish>>>,
}

#[pymethods]
impl RemotePublish {
    #[new]
    #[pyo3(signature = (job, params, child, lease_ms, parallelism, on_progress=None))]
    fn new(
        py: Python<'_>,
        job: String,
        params: Params,
        child: Option<String>,
        lease_ms: u64,
        parallelism: u32,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let inner = Arc::new(Mutex::new(None));
        let opened = Arc::clone(&inner);
        drive(py, on_progress, move |ctx| async move {
            let opening = Opening {
                new_snapshot: false,
                planner: Some(planner()),
                registrar: None,
            };
            let session = Session::open_with(Path::new(&job), &params, opening).await?;
            let options = remote::RemoteOptions {
                child,
                lease_ms,
                parallelism,
            };
            let publish = remote::RemotePublish::open(session, options, &ctx).await?;
            *opened.lock().await = Some(publish);
            Ok(())
        })?;
        Ok(Self { inner })
    }

    /// The splits to publish, as JSON: `{"orders": [TEXT], "pieces": [[ORDER, TEXT]]}`.
    fn tasks(&self, py: Python<'_>) -> PyResult<String> {
        let inner = Arc::clone(&self.inner);
        drive(py, None, |_| async move {
            let publish = inner.lock().await;
            publish.as_ref().ok_or_else(left)?.tasks()
        })
    }

    #[pyo3(signature = (on_progress=None))]
    fn poll(&self, py: Python<'_>, on_progress: Option<Py<PyAny>>) -> PyResult<String> {
        let inner = Arc::clone(&self.inner);
        drive(py, on_progress, |ctx| async move {
            match inner.lock().await.as_mut() {
                Some(publish) => publish.poll(&ctx).await,
                None => Err(left()),
            }
        })
    }

    #[pyo3(signature = (on_progress=None))]
    fn finish(&self, py: Python<'_>, on_progress: Option<Py<PyAny>>) -> PyResult<String> {
        let inner = Arc::clone(&self.inner);
        drive(py, on_progress, |ctx| async move {
            let mut publish = inner.lock().await;
            let receipt = match publish.as_mut() {
                Some(publish) => publish.finish(&ctx).await?,
                None => return Err(left()),
            };
            *publish = None;
            Ok(receipt)
        })
    }

    /// Gives it up, unless it is finished: what is known is kept, and others may publish.
    fn leave(&self, py: Python<'_>, error: String) -> PyResult<String> {
        let inner = Arc::clone(&self.inner);
        drive(py, None, |ctx| async move {
            match inner.lock().await.take() {
                Some(mut publish) => publish.leave(&error, &ctx).await,
                None => Ok(()),
            }
        })
    }
}

fn left() -> Error {
    Error::NotReady {
        what: "this publish has ended".into(),
        fix: "begin another: what is done stays done".into(),
    }
}

#[pyfunction]
fn publish_split(py: Python<'_>, order: String, piece: String, host: String) -> PyResult<String> {
    drive(py, None, |ctx| async move {
        remote::publish_split(&order, &piece, &host, &ctx).await
    })
}
