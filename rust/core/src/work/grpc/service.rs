//! The calls as gRPC has them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use tonic::Code;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};

use super::channel::Channels;
use super::messages::{
    self, CHECK, HealthRequest, HealthResponse, PROCESS, ProcessRequest, SERVING,
};
use super::{answer, status};
use crate::error::Error;
use crate::job::grpc::GrpcEndpoint;
use crate::job::{is_reference, resolve_reference};
use crate::work::endpoint::{
    AS_OF, AsOf, Batching, Endpoint, IDEMPOTENCY_KEY, Item, Probe, REPLAY, Records, Reply,
    idempotency_key, key_of, trace,
};
use crate::work::service_error;
use crate::work::task::Task;

const TIMEOUT: &str = "grpc-timeout";
/// Longest time for an answer to a health check.
const CHECK_DEADLINE: Duration = Duration::from_secs(5);
/// Between two looks at a service that is not ready yet.
const LOOK: Duration = Duration::from_millis(200);

/// What is called, before there is anything to call it with.
#[derive(Debug)]
pub struct Spec {
    pub endpoint: GrpcEndpoint,
    /// Where files are looked for.
    pub base: PathBuf,
    /// `service.as_of`.
    pub as_of: Option<String>,
    /// Of a call.
    pub deadline: Duration,
}

/// See the module.
pub struct GrpcService {
    spec: Arc<Spec>,
    channels: Channels,
    /// What every call carries.
    metadata: MetadataMap,
    as_of: Option<AsOf>,
}

/// How a service stands before it is called.
#[derive(Debug, PartialEq, Eq)]
pub enum Ready {
    /// It says that it serves.
    Serving,
    /// It is there, and has no health checks.
    NoHealth,
    /// The wait was given up.
    Interrupted,
}

/// What a health check says.
enum Health {
    Serving,
    /// There are no health checks.
    Missing,
    /// Not now, and why.
    NotYet(String),
    /// Never, as things are.
    Wrong(String),
}

impl GrpcService {
    /// Within the runtime that the calls are made in. Nothing is called yet.
    ///
    /// # Errors
    /// [`Error::Service`] names what can't be used; no secret is shown.
    pub fn new(spec: Arc<Spec>) -> Result<Self, Error> {
        let wrong = |reason: String| service_error(&spec.endpoint.url, reason);
        let as_of = spec.as_of.as_deref().map(AsOf::new);
        Ok(Self {
            channels: Channels::new(&spec.endpoint, &spec.base).map_err(wrong)?,
            metadata: metadata(&spec.endpoint, &spec.base).map_err(wrong)?,
            as_of: as_of.transpose().map_err(wrong)?,
            spec,
        })
    }

    /// Waits until the service serves.
    ///
    /// # Errors
    /// [`Error::Service`] if it does not in time, or says that it never will.
    pub async fn ready(&self, goes_on: &impl Fn() -> bool) -> Result<Ready, Error> {
        let wrong = |reason: String| service_error(&self.spec.endpoint.url, reason);
        let (began, ready) = (
            Instant::now(),
            Duration::from_millis(self.spec.endpoint.ready_ms),
        );
        while goes_on() {
            match self.health().await {
                Health::Serving => return Ok(Ready::Serving),
                Health::Missing => return Ok(Ready::NoHealth),
                Health::Wrong(reason) => return Err(wrong(reason)),
                Health::NotYet(reason) if began.elapsed() >= ready => {
                    let seconds = ready.as_secs_f64();
                    return Err(wrong(format!("not ready within {seconds} s: {reason}")));
                }
                Health::NotYet(_) => tokio::time::sleep(LOOK).await,
            }
        }
        Ok(Ready::Interrupted)
    }

    async fn health(&self) -> Health {
        let service = self.spec.endpoint.health_service.clone();
        let message = HealthRequest { service }.encode_to_vec();
        let mut metadata = self.metadata.clone();
        let deadline = self.spec.deadline.min(CHECK_DEADLINE);
        metadata.insert(TIMEOUT, timeout(deadline));
        let check = self.channels.call(CHECK, metadata, message.into());
        let Ok(answer) = tokio::time::timeout(deadline, check).await else {
            let deadline = deadline.as_millis();
            return Health::NotYet(format!("no answer to a health check within {deadline} ms"));
        };
        let said = match answer {
            Ok(message) => HealthResponse::decode(message).map(|answer| answer.status),
            Err(status) => {
                let detail = status::said(&status);
                return match status.code() {
                    Code::Unimplemented => Health::Missing,
                    code @ (Code::Unauthenticated | Code::PermissionDenied) => {
                        Health::Wrong(status::stop(code, &detail))
                    }
                    Code::NotFound => Health::Wrong(format!(
                        "its health checks know no {:?}: change service.grpc.health_service",
                        self.spec.endpoint.health_service
                    )),
                    code => Health::NotYet(match status::read(&status) {
                        Reply::Unanswered(_) | Reply::TurnedAway(_) => status::innermost(&status),
                        _ => format!("{code:?}: {detail}"),
                    }),
                };
            }
        };
        match said {
            Ok(SERVING) => Health::Serving,
            Ok(2) => Health::NotYet("it says NOT_SERVING".into()),
            Ok(other) => Health::NotYet(format!("its health is unknown (status {other})")),
            Err(e) => Health::NotYet(format!("its answer to a health check can't be read: {e}")),
        }
    }

    fn record(&self, task: &Task, item: &Item) -> Result<messages::Record, String> {
        let headers = task.record.headers.iter();
        let headers = headers.map(|(name, value)| messages::Header {
            name: name.clone(),
            value: value.clone(),
        });
        Ok(messages::Record {
            idempotency_key: idempotency_key(&task.record.identity),
            attempt: task.way.calls,
            json: String::from_utf8(item.json.clone()).map_err(|e| e.to_string())?,
            headers: headers.collect(),
            as_of: self
                .as_of
                .as_ref()
                .and_then(|as_of| as_of.of(item))
                .unwrap_or_default(),
        })
    }
}

impl Endpoint for GrpcService {
    type Request = (MetadataMap, Bytes);

    fn name(&self) -> &str {
        &self.spec.endpoint.url
    }

    fn batching(&self) -> Option<Batching> {
        let endpoint = &self.spec.endpoint;
        Some(Batching {
            records: endpoint.records,
            bytes: (endpoint.kib as usize) << 10,
            linger: Duration::from_millis(endpoint.linger_ms),
        })
    }

    fn request(&self, records: &Records) -> Result<(MetadataMap, Bytes), String> {
        let named = records.named();
        let (Some((first, _)), Some(key)) = (named.first(), key_of(&named)) else {
            return Err("a call without a record".into());
        };
        let job = first.identity.job.to_string();
        let mut metadata = self.metadata.clone();
        metadata.insert(TIMEOUT, timeout(self.spec.deadline));
        let mut say = |name: &'static str, text: &str| {
            // A value that no metadata may have says nothing; it is in the message too.
            if let Ok(value) = MetadataValue::try_from(text) {
                metadata.insert(name, value);
            }
        };
        say(IDEMPOTENCY_KEY, &key);
        say(REPLAY, &job);
        if let Some(text) = self.as_of.as_ref().and_then(|as_of| as_of.of_all(&named)) {
            say(AS_OF, &text);
        }
        for (name, value) in trace(&named) {
            say(name, value);
        }
        let tasks = records.tasks.iter().zip(&records.items);
        let request = ProcessRequest {
            job,
            records: tasks
                .map(|(task, item)| self.record(task, item))
                .collect::<Result<_, _>>()?,
        };
        let (length, most) = (request.encoded_len(), self.spec.endpoint.max_message());
        if length > most {
            return Err(format!(
                "it makes a message of {length} bytes, and service.grpc.max_message_mib allows {most}"
            ));
        }
        Ok((metadata, request.encode_to_vec().into()))
    }

    async fn call(&self, (metadata, message): (MetadataMap, Bytes), records: &Records) -> Reply {
        match self.channels.call(PROCESS, metadata, message).await {
            Ok(message) => answer::read(&message, records.tasks.len()),
            Err(status) => status::read(&status),
        }
    }

    async fn probe(&self) -> Probe {
        match self.health().await {
            // What is wrong for good is for the call to find out: it ends the worker.
            Health::Serving | Health::Missing | Health::Wrong(_) => Probe::Call,
            Health::NotYet(_) => Probe::NotYet,
        }
    }
}

/// What the job file gives every call.
fn metadata(endpoint: &GrpcEndpoint, base: &Path) -> Result<MetadataMap, String> {
    let mut metadata = MetadataMap::new();
    for (name, text) in &endpoint.metadata {
        let wrong = |reason: &str| format!("service.grpc.metadata.{name}: {reason}");
        let key = MetadataKey::from_bytes(name.as_bytes()).map_err(|e| wrong(&e.to_string()))?;
        let value = match is_reference(text) {
            true => resolve_reference(text, base).map_err(|e| wrong(&e))?,
            false => text.clone(),
        };
        let mut value =
            MetadataValue::try_from(value).map_err(|_| wrong("is no value of metadata"))?;
        value.set_sensitive(is_reference(text));
        metadata.insert(key, value);
    }
    Ok(metadata)
}

/// As `grpc-timeout` has it: at most eight digits and a unit.
fn timeout(deadline: Duration) -> MetadataValue<tonic::metadata::Ascii> {
    let ms = deadline.as_millis();
    let text = match ms {
        0..100_000_000 => format!("{ms}m"),
        _ => format!("{}S", deadline.as_secs().min(99_999_999)),
    };
    // Digits and a letter are always a value.
    MetadataValue::try_from(text).unwrap_or_else(|_| MetadataValue::from_static("30S"))
}
