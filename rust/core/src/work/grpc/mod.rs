//! Services over gRPC: `kappaflow.service.v1.Records`, several records a call, and `grpc.health.v1.Health`.

mod answer;
mod channel;
mod messages;
mod service;
mod status;

pub use service::{GrpcService, Ready, Spec};
