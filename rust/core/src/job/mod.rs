//! The job file: one typed model that the CLI, the Python API, the DAG factory and the worker share.

pub mod batch;
mod budget;
mod endpoint;
mod fleet;
pub mod grpc;
pub mod http;
mod limiter;
mod load;
mod model;
mod output;
mod params;
mod place;
pub(crate) mod secret;
mod service;
mod source;
pub mod template;
mod topics;
mod windows;

pub use budget::ServiceBudget;
pub use fleet::ServiceFleet;
pub use limiter::ServiceLimiter;
pub use load::{Job, load, resolved};
pub use model::*;
pub use output::{Output, OutputMode, TableFormat};
pub use params::ParamValues;
pub use secret::{is_reference, resolve_reference};
pub use source::{Source, SourceFormat, SqlDriver};
pub use topics::{Cleanup, CreateTopics, KeyFormat, Topics};
pub use windows::{Opens, Windows};

/// The JSON Schema of the job file, from the model itself.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(JobFile).to_value()
}
