//! Services over HTTP: an endpoint that exists, called as it is, a request a record or a batch.

mod answer;
mod batch;
mod driver;
mod gate;
mod request;
mod service;

pub use driver::{HttpDriver, batch_of};
pub use request::{Mapping, Told};
pub use service::Shared;
