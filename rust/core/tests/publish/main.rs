//! Publishing to a real Kafka. `KAPPAFLOW_TEST_KAFKA=host:port` names one that has nothing to lose.

#[path = "../common/mod.rs"]
mod common;
mod order;
mod remote;
mod resume;
mod stream;
mod topics;
mod transactions;
mod whole;
mod world;
