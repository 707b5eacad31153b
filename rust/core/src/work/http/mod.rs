//! Services over HTTP: an endpoint that exists, called as it is, a request a record.

mod answer;
mod gate;
mod request;
mod service;

pub use request::{Mapping, Told};
pub use service::{HttpDriver, Shared, batch_of};
