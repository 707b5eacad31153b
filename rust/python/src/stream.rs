//! Publishing Arrow data that Python holds: anything with `__arrow_c_stream__`, without a row loop.

use kappaflow_core::publish;
use pyo3::prelude::*;
use pyo3_arrow::PyRecordBatchReader;

use crate::drive::drive;
use crate::errors;
use crate::reader::Guarded;

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(publish_stream, module)?)
}

#[pyfunction]
#[pyo3(signature = (data, target, on_progress=None))]
#[expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over")]
fn publish_stream(
    py: Python<'_>,
    data: PyRecordBatchReader,
    target: String,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let target: publish::StreamTarget = serde_json::from_str(&target)
        .map_err(|e| errors::of_kind(py, "job_file", &format!("publish: {e}")))?;
    let reader = Guarded::new(data.into_reader()?);
    drive(py, on_progress, |ctx| async move {
        publish::publish_stream(target, reader, &ctx).await
    })
}
