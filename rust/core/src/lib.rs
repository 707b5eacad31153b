//! KappaFlow's core: the five stages of a job (publish, work, land, reconcile, dispatch) and what they stand on
//! (job file, snapshot, Kafka, registry, store). No Python here.

// What data or the network brings is an error, never a panic.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod context;
pub mod dispatch;
pub mod doctor;
pub mod error;
mod files;
pub mod fleet;
mod http;
pub mod identity;
pub mod job;
pub mod kafka;
pub mod land;
mod oauth;
pub mod publish;
pub mod reconcile;
pub mod registry;
pub mod rows;
pub mod run;
pub mod schema;
pub mod session;
pub mod snapshot;
pub mod status;
pub mod store;
pub mod table;
pub mod text;
pub mod upkeep;
pub mod verdict;
pub mod work;

pub use context::{Context, Progress};
pub use error::{Error, Result};
pub use session::{JobPlan, Opening, Session};
