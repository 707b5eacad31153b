//! Landing and reconciling on a real Kafka. `KAPPAFLOW_TEST_KAFKA=host:port` names one that has nothing to lose.

#[path = "../common/mod.rs"]
mod common;
mod dead_letters;
mod faults;
mod following;
mod group;
mod modes;
mod upkeep;
mod whole;
mod world;
