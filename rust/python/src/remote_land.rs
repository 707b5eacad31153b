//! Landing in Spark's executors: what the driver calls, and what a task calls.

use std::path::Path;
use std::sync::Arc;

use kappaflow_core::land::remote;
use kappaflow_core::{Error, Opening, Session};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokio::sync::Mutex;

use crate::drive::drive;
use crate::planner::{planner, registrar};
use crate::stages::Params;

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<RemoteLand>()?;
    module.add_function(wrap_pyfunction!(land_range, module)?)
}

/// A landing whose partitions are landed by other processes, seen from the one that holds the store.
#[pyclass(frozen, module = "kappaflow._native")]
pub struct RemoteLand {
    /// `None` once it is finished.
    inner: Arc<Mutex<Option<remote::RemoteLand>>>,
}

#[pymethods]
impl RemoteLand {
    #[new]
    #[pyo3(signature = (job, params, region=None))]
    fn new(py: Python<'_>, job: String, params: Params, region: Option<String>) -> PyResult<Self> {
        let inner = Arc::new(Mutex::new(None));
        let opened = Arc::clone(&inner);
        drive(py, None, move |_| async move {
            let opening = Opening {
                new_snapshot: false,
                planner: Some(planner()),
                registrar: Some(registrar()),
            };
            let session = Session::open_with(Path::new(&job), &params, opening).await?;
            *opened.lock().await = Some(remote::RemoteLand::open(session, region).await?);
            Ok(())
        })?;
        Ok(Self { inner })
    }

    /// The partitions to land, as JSON: `{"orders": [TEXT], "pieces": [[ORDER, TEXT]], "records": N}`.
    #[pyo3(signature = (on_progress=None))]
    fn tasks(&self, py: Python<'_>, on_progress: Option<Py<PyAny>>) -> PyResult<String> {
        let inner = Arc::clone(&self.inner);
        drive(py, on_progress, |ctx| async move {
            match inner.lock().await.as_mut() {
                Some(land) => land.tasks(&ctx).await,
                None => Err(ended()),
            }
        })
    }

    /// Commits what `land_range` has given for each piece, as pairs of an order's index and the text. Whether all is
    /// landed, as JSON.
    fn commit(&self, py: Python<'_>, landed: Vec<(usize, String)>) -> PyResult<String> {
        let landed = landed
            .into_iter()
            .map(|(order, text)| Ok((order, serde_json::from_str(&text)?)))
            .collect::<serde_json::Result<Vec<_>>>()
            .map_err(|e| PyValueError::new_err(format!("a task's answer can't be read: {e}")))?;
        let inner = Arc::clone(&self.inner);
        drive(py, None, |_| async move {
            match inner.lock().await.as_mut() {
                Some(land) => land.commit(landed).await,
                None => Err(ended()),
            }
        })
    }

    fn finish(&self, py: Python<'_>) -> PyResult<String> {
        let inner = Arc::clone(&self.inner);
        drive(py, None, |_| async move {
            match inner.lock().await.take() {
                Some(land) => land.finish().await,
                None => Err(ended()),
            }
        })
    }
}

fn ended() -> Error {
    Error::NotReady {
        what: "this landing has ended".into(),
        fix: "begin another: what is landed stays landed".into(),
    }
}

#[pyfunction]
fn land_range(py: Python<'_>, order: String, piece: String, host: String) -> PyResult<String> {
    drive(py, None, |ctx| async move {
        remote::land_range(&order, &piece, &host, &ctx).await
    })
}
