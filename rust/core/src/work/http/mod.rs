//! Services over HTTP: an endpoint that exists, called as it is, a request a record or a batch.

mod answer;
mod request;
mod service;

pub use request::{Mapping, Told};
pub use service::HttpService;
