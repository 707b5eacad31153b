//! Sources that are planned in Python: `kappaflow.sources.plan`.

use std::sync::Arc;

use kappaflow_core::Error;
use kappaflow_core::snapshot::Planner;
use pyo3::prelude::*;

use crate::errors;

/// Calls `kappaflow.sources.plan(spec)`, which is imported when it is needed. An exception of the kappaflow family
/// comes out of the stage as it was raised, any other as a `SourceError` that names it.
pub fn planner() -> Planner {
    Arc::new(|spec: &str| {
        Python::attach(|py| {
            let plan = || {
                let sources = py.import("kappaflow.sources")?;
                sources.call_method1("plan", (spec,))?.extract::<String>()
            };
            plan().map_err(|e| {
                let (kind, message) = errors::told(py, &e);
                Error::Planner { kind, message }
            })
        })
    })
}
