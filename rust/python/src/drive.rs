//! Runs a stage on the process's one tokio runtime while the calling thread stays reachable from Python.

use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use kappaflow_core::{Context, Progress, Result};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::errors;

/// How often the calling thread returns to Python: signals are seen within this time.
const TICK: Duration = Duration::from_millis(100);
/// How long a stage may take to stop once it was asked to.
const GRACE: Duration = Duration::from_secs(5);
/// The same, where that is how it is meant to end: what is under way may take its time.
const LEAVE: Duration = Duration::from_secs(30);
/// Progress reports that may wait for Python; more are dropped, since the next one says more.
const REPORTS: usize = 64;

/// The runtime and the process that made it. Made at the first call, never at import, since Airflow forks.
static RUNTIME: OnceLock<(u32, Runtime)> = OnceLock::new();

/// The process's runtime.
///
/// # Errors
/// In a child forked after the parent used it: its threads did not survive the fork.
pub fn runtime(py: Python<'_>) -> PyResult<&'static Runtime> {
    if RUNTIME.get().is_none() {
        let made = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("kappaflow")
            .enable_all()
            .build()
            .map_err(|e| errors::of_kind(py, "io", &format!("can't start threads: {e}")))?;
        // Of two first calls at once, the runtime that lost the race is dropped unused.
        let _ = RUNTIME.set((std::process::id(), made));
        if let Some((_, runtime)) = RUNTIME.get() {
            pyo3_async_runtimes::tokio::init_with_runtime(runtime).ok();
        }
    }
    match RUNTIME.get() {
        Some((pid, runtime)) if *pid == std::process::id() => Ok(runtime),
        _ => Err(errors::of_kind(
            py,
            "forked",
            "kappaflow was used in this process's parent before the fork; its threads are not here. \
             Use it only after forking, or start the child with subprocess",
        )),
    }
}

/// Runs `stage` to its end and gives its summary as JSON. A signal stops it, and is raised again.
pub fn drive<T, F>(
    py: Python<'_>,
    on_progress: Option<Py<PyAny>>,
    stage: impl FnOnce(Context) -> F,
) -> PyResult<String>
where
    T: Serialize + Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    drive_until(py, on_progress, false, stage)
}

/// The same; with `is_meant` a signal is how the stage is meant to end: it gives its summary then, if it ends well.
pub fn drive_until<T, F>(
    py: Python<'_>,
    on_progress: Option<Py<PyAny>>,
    is_meant: bool,
    stage: impl FnOnce(Context) -> F,
) -> PyResult<String>
where
    T: Serialize + Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let runtime = runtime(py)?;
    let (sender, mut receiver) = mpsc::channel::<Progress>(REPORTS);
    let ctx = Context::new(move |progress| {
        let _ = sender.try_send(progress);
    });
    let cancel = ctx.cancel.clone();
    let task = runtime.spawn(stage(ctx));
    let mut stopped: Option<(PyErr, Instant)> = None;
    let mut signalled = false;
    let grace = if is_meant { LEAVE } else { GRACE };
    while !task.is_finished() {
        let report = py.detach(|| {
            runtime.block_on(async {
                match timeout(TICK, receiver.recv()).await {
                    Ok(Some(report)) => Some(report),
                    // A stage that dropped its context still has to return: don't spin meanwhile.
                    Ok(None) => {
                        sleep(TICK / 10).await;
                        None
                    }
                    Err(_) => None,
                }
            })
        });
        let signal = py.check_signals();
        signalled |= signal.is_err();
        let seen = signal.and_then(|()| tell(py, on_progress.as_ref(), report));
        match (seen, &stopped) {
            (Err(reason), None) => {
                cancel.cancel();
                stopped = Some((reason, Instant::now()));
            }
            (_, Some((_, since))) if since.elapsed() > grace => break,
            _ => {}
        }
    }
    if let Some((reason, _)) = stopped
        && !(is_meant && signalled && task.is_finished())
    {
        task.abort();
        return Err(reason);
    }
    while let Ok(report) = receiver.try_recv() {
        tell(py, on_progress.as_ref(), Some(report))?;
    }
    let summary = py
        .detach(|| runtime.block_on(task))
        .map_err(|e| errors::of_kind(py, "internal", &format!("a stage broke off: {e}")))?
        .map_err(|e| errors::raise(py, &e))?;
    to_json(py, &summary)
}

fn tell(py: Python<'_>, on_progress: Option<&Py<PyAny>>, report: Option<Progress>) -> PyResult<()> {
    if let (Some(callback), Some(report)) = (on_progress, report) {
        let dict = PyDict::new(py);
        dict.set_item("stage", report.stage)?;
        dict.set_item("label", report.label)?;
        dict.set_item("done", report.done)?;
        dict.set_item("total", report.total)?;
        dict.set_item("note", report.note)?;
        dict.set_item("figures", report.figures)?;
        callback.call1(py, (dict,))?;
    }
    Ok(())
}

pub fn to_json<T: Serialize>(py: Python<'_>, value: &T) -> PyResult<String> {
    serde_json::to_string(value)
        .map_err(|e| errors::of_kind(py, "internal", &format!("a summary can't be written: {e}")))
}
