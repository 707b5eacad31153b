//! The messages of `kappaflow_service.proto` and of `grpc.health.v1`, as they are on the wire. Fields may be added; their
//! numbers never change.

use prost::{Message, Oneof};

/// `kappaflow.service.v1.Records/Process`
pub const PROCESS: &str = "/kappaflow.service.v1.Records/Process";
/// `grpc.health.v1.Health/Check`
pub const CHECK: &str = "/grpc.health.v1.Health/Check";

#[derive(Clone, PartialEq, Message)]
pub struct ProcessRequest {
    #[prost(string, tag = "1")]
    pub job: String,
    #[prost(message, repeated, tag = "2")]
    pub records: Vec<Record>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Record {
    #[prost(string, tag = "1")]
    pub idempotency_key: String,
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
    #[prost(string, tag = "3")]
    pub json: String,
    #[prost(message, repeated, tag = "4")]
    pub headers: Vec<Header>,
    #[prost(string, tag = "5")]
    pub as_of: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Header {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProcessResponse {
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<RecordResult>,
}

/// `Result` in the proto.
#[derive(Clone, PartialEq, Message)]
pub struct RecordResult {
    #[prost(oneof = "Said", tags = "1, 2, 3, 4")]
    pub verdict: Option<Said>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Said {
    #[prost(message, tag = "1")]
    Answered(Answered),
    #[prost(message, tag = "2")]
    Filtered(Filtered),
    #[prost(message, tag = "3")]
    Retry(Retry),
    #[prost(message, tag = "4")]
    DeadLetter(DeadLetter),
}

#[derive(Clone, PartialEq, Message)]
pub struct Answered {
    #[prost(string, repeated, tag = "1")]
    pub json: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Filtered {
    #[prost(string, tag = "1")]
    pub reason: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Retry {
    #[prost(string, tag = "1")]
    pub reason: String,
    #[prost(string, tag = "2")]
    pub detail: String,
    #[prost(uint32, tag = "3")]
    pub after_ms: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct DeadLetter {
    #[prost(string, tag = "1")]
    pub reason: String,
    #[prost(string, tag = "2")]
    pub detail: String,
}

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, Message)]
pub struct HealthRequest {
    #[prost(string, tag = "1")]
    pub service: String,
}

/// `grpc.health.v1.HealthCheckResponse`
#[derive(Clone, PartialEq, Message)]
pub struct HealthResponse {
    #[prost(int32, tag = "1")]
    pub status: i32,
}

/// `HealthCheckResponse.ServingStatus.SERVING`
pub const SERVING: i32 = 1;

/// `google.rpc.Status`, as it travels in `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
pub struct Details {
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.RetryInfo`
#[derive(Clone, PartialEq, Message)]
pub struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, Message)]
pub struct Delay {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}
