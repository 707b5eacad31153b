//! Export over OTLP (HTTP, protobuf), by the environment variables that OpenTelemetry names. The figures are the same as
//! on the page; the client is the one that everything else here uses.

use std::collections::HashMap;
use std::env;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter, MeterProvider};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{MetricExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use reqwest::Client;
use tokio::runtime::Handle;

use super::Metrics;
use super::calls::{BOUNDS_S, HOWS};
use super::families::{DURATION, FAMILIES, Kind, Sample, call_labels};
use crate::error::{Error, Result};
use crate::http;

const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
const TIMEOUTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
];
/// If the environment says nothing else.
const TIMEOUT_MS: u64 = 10_000;
/// What the figures are a service's of, if `OTEL_SERVICE_NAME` doesn't say.
const SERVICE_NAME: &str = "kappaflow-worker";

/// An export under way: every minute or `OTEL_METRIC_EXPORT_INTERVAL` (ms).
pub struct Otlp(SdkMeterProvider);

impl Otlp {
    /// Begins, if the environment names an endpoint. Within a runtime.
    ///
    /// # Errors
    /// [`Error::Service`] if the environment's settings can't be used.
    pub fn start(metrics: &Arc<Metrics>) -> Result<Option<Self>> {
        let named = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
        if env::var("OTEL_SDK_DISABLED").is_ok_and(|said| said.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let Some(variable) = ENDPOINTS.iter().find(|name| named(name)) else {
            return Ok(None);
        };
        let wrong = |reason: String| Error::Service {
            service: "(OpenTelemetry)".into(),
            reason: format!("metrics can't be exported as {variable} says: {reason}"),
        };
        let client = http::client().build().map_err(|e| wrong(e.to_string()))?;
        let exporter = MetricExporter::builder()
            .with_http()
            .with_http_client(Sender {
                client,
                runtime: Handle::current(),
                timeout: timeout(),
                metrics: Arc::clone(metrics),
            })
            .build()
            .map_err(|e| wrong(e.to_string()))?;
        let mut resource = Resource::builder();
        let attributes = env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        if env::var_os("OTEL_SERVICE_NAME").is_none() && !attributes.contains("service.name=") {
            resource = resource.with_service_name(SERVICE_NAME);
        }
        let provider = SdkMeterProvider::builder()
            .with_resource(resource.build())
            .with_reader(PeriodicReader::builder(exporter).build())
            .build();
        let meter = provider.meter("kappaflow");
        observe(&meter, metrics);
        let _ = metrics.durations.set(Durations::new(&meter, metrics));
        Ok(Some(Self(provider)))
    }

    /// Exports a last time, and ends.
    pub async fn stop(self) {
        // It waits for its own thread. What does not arrive now is lost: the run has ended.
        let _ = tokio::task::spawn_blocking(move || self.0.shutdown()).await;
    }
}

fn observe(meter: &Meter, metrics: &Arc<Metrics>) {
    for family in &FAMILIES {
        let metrics = Arc::clone(metrics);
        let own = metrics.labels().map(|(name, text)| (name, text.to_owned()));
        let read = move |observe: &mut dyn FnMut(f64, &[KeyValue])| {
            for Sample { labels, value } in (family.read)(&metrics) {
                observe(value, &attributes(&own, &labels));
            }
        };
        match family.kind {
            Kind::Counter => {
                meter
                    .f64_observable_counter(family.name)
                    .with_unit(family.unit)
                    .with_description(family.help)
                    .with_callback(move |o| read(&mut |value, labels| o.observe(value, labels)))
                    .build();
            }
            Kind::Gauge => {
                meter
                    .f64_observable_gauge(family.name)
                    .with_unit(family.unit)
                    .with_description(family.help)
                    .with_callback(move |o| read(&mut |value, labels| o.observe(value, labels)))
                    .build();
            }
        }
    }
}

/// A sample's labels after the worker's own; of two of a name the later holds.
fn attributes(own: &[(&'static str, String)], labels: &[(&'static str, String)]) -> Vec<KeyValue> {
    let all: HashMap<_, _> = own.iter().chain(labels).cloned().collect();
    all.into_iter()
        .map(|(name, text)| KeyValue::new(name, text))
        .collect()
}

/// Where the length of each call is told to.
pub struct Durations {
    histogram: Histogram<f64>,
    labels: [Vec<KeyValue>; HOWS.len()],
}

impl Durations {
    fn new(meter: &Meter, metrics: &Metrics) -> Self {
        let own = metrics.labels().map(|(name, text)| (name, text.to_owned()));
        let (name, help) = DURATION;
        Self {
            histogram: meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(help)
                .with_boundaries(BOUNDS_S.to_vec())
                .build(),
            labels: std::array::from_fn(|how| attributes(&own, &call_labels(how))),
        }
    }

    pub fn record(&self, took: Duration, how: &str, n: u32) {
        let how = HOWS.iter().position(|h| *h == how);
        let labels = &self.labels[how.unwrap_or(HOWS.len() - 1)];
        for _ in 0..n {
            self.histogram.record(took.as_secs_f64(), labels);
        }
    }
}

impl fmt::Debug for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durations").finish_non_exhaustive()
    }
}

/// Sends on the worker's runtime: the exporter's own thread has none.
#[derive(Debug)]
struct Sender {
    client: Client,
    runtime: Handle,
    timeout: Duration,
    metrics: Arc<Metrics>,
}

/// How long a collector is waited for.
fn timeout() -> Duration {
    let said = TIMEOUTS.iter().find_map(|name| env::var(name).ok());
    let ms = said.and_then(|text| text.trim().parse().ok());
    Duration::from_millis(ms.unwrap_or(TIMEOUT_MS))
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let request = self
            .client
            .request(head.method, head.uri.to_string())
            .headers(head.headers)
            .timeout(self.timeout)
            .body(body);
        let answer = self.runtime.spawn(http::read(request)).await?;
        let failed = answer.as_ref().map_or(true, |a| !a.status.is_success());
        self.metrics.otlp_failures.add(u64::from(failed));
        let answer = answer.map_err(|e| format!("{e:?}"))?;
        let mut response = Response::new(Bytes::from(answer.body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}
