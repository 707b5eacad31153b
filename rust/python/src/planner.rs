//! What is done in Python: sources are planned by `kappaflow.sources.plan`, tables of others' formats are spoken to by
//! `kappaflow.tables.call`.

use std::sync::Arc;

use kappaflow_core::Error;
use kappaflow_core::snapshot::Planner;
use kappaflow_core::table::Registrar;
use pyo3::prelude::*;

use crate::errors;

/// Calls `kappaflow.sources.plan(spec)`, which is imported when it is needed. An exception of the kappaflow family
/// comes out of the stage as it was raised, any other as a `SourceError` that names it.
pub fn planner() -> Planner {
    Arc::new(|spec: &str| {
        ask(
            "kappaflow.sources",
            "plan",
            spec,
            ("source", "the source can't be planned"),
        )
    })
}

/// Calls `kappaflow.tables.call(request)`, likewise.
pub fn registrar() -> Registrar {
    Registrar(Arc::new(|request: &str| {
        ask(
            "kappaflow.tables",
            "call",
            request,
            ("table", "the table can't be spoken to"),
        )
    }))
}

/// `failed`: the kind of an exception that is none of the family, and what to say before it.
fn ask(module: &str, function: &str, text: &str, failed: (&str, &str)) -> Result<String, Error> {
    Python::attach(|py| {
        let ask = || {
            let module = py.import(module)?;
            module.call_method1(function, (text,))?.extract::<String>()
        };
        ask().map_err(|e| {
            let (kind, message) = errors::told(py, &e, failed.0, failed.1);
            Error::Planner { kind, message }
        })
    })
}
