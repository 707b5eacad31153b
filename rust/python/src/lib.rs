//! The extension module `kappaflow._native`. Glue only: no decision is taken here.
//!
//! Each stage is one function: job file and params in, the stage's summary out as JSON. The GIL is released while a
//! stage runs; the calling thread returns to Python ten times a second to look at signals and to report progress.

// What data or the network brings is an error, never a panic.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

mod decoder;
mod drive;
mod errors;
mod fleet;
mod planner;
mod reader;
mod remote;
mod remote_land;
mod schema;
mod stages;
mod stream;
mod upkeep;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    stages::add(module)?;
    fleet::add(module)?;
    schema::add(module)?;
    upkeep::add(module)?;
    decoder::add(module)?;
    stream::add(module)?;
    remote::add(module)?;
    remote_land::add(module)
}
