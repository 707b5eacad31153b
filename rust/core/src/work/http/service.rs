//! The calls as HTTP has them.

use std::path::Path;

use reqwest::{Client, RequestBuilder};

use super::answer;
use super::request::Mapping;
use crate::error::Error;
use crate::http::{self, NoAnswer};
use crate::job::http::{HttpEndpoint, HttpVersion};
use crate::work::endpoint::{Batching, Endpoint, Records, Reply, no_request};
use crate::work::service_error;
use crate::work::verdict::Verdict;

/// An endpoint, and what calls it.
pub struct HttpService {
    endpoint: HttpEndpoint,
    mapping: Mapping,
    client: Client,
}

impl HttpService {
    /// Within a runtime. Nothing is called yet.
    ///
    /// # Errors
    /// [`Error::Service`] if there can be no client.
    pub fn new(endpoint: HttpEndpoint, mapping: Mapping, base: &Path) -> Result<Self, Error> {
        let wrong = |reason: String| service_error(&endpoint.url, reason);
        let files = http::Files {
            base,
            ca_file: endpoint.ca_file.as_deref(),
            cert_file: endpoint.cert_file.as_deref(),
            key_file: endpoint.key_file.as_deref(),
        };
        let mut builder = http::certificates(http::client(), &files).map_err(wrong)?;
        if endpoint.version == HttpVersion::Http2 {
            builder = builder.http2_prior_knowledge();
        }
        if let Some(path) = &endpoint.unix_socket {
            builder = builder.unix_socket(base.join(path));
        }
        let client = builder
            // A redirect is the service's answer, and to follow it might be a second call.
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .build()
            .map_err(|e| wrong(format!("no HTTP client: {e}")))?;
        Ok(Self {
            endpoint,
            mapping,
            client,
        })
    }
}

impl Endpoint for HttpService {
    type Request = RequestBuilder;

    fn name(&self) -> &str {
        &self.endpoint.url
    }

    fn batching(&self) -> Option<Batching> {
        self.endpoint.batch.as_ref().map(|batch| Batching {
            records: batch.records,
            bytes: (batch.kib as usize) << 10,
            linger: std::time::Duration::from_millis(batch.linger_ms),
        })
    }

    fn request(&self, records: &Records) -> Result<RequestBuilder, String> {
        self.mapping.request(&self.client, &records.named())
    }

    async fn call(&self, request: RequestBuilder, records: &Records) -> Reply {
        match http::read(request).await {
            // That nobody is there is no record's fault.
            Err(NoAnswer::NoConnection(_)) => Reply::TurnedAway(None),
            Err(NoAnswer::NotHttp2(detail)) => Reply::Stop(format!(
                "it does not speak HTTP/2 ({detail}); give service.http.version = \"1.1\""
            )),
            Err(NoAnswer::Passing(detail) | NoAnswer::TooLarge(detail)) => {
                Reply::Unanswered(Verdict::retry("HttpBroken", detail))
            }
            Err(NoAnswer::Settings(detail)) => Reply::Unanswered(no_request(detail)),
            Ok(answer) => answer::read(&self.endpoint, &records.rows(), &answer),
        }
    }
}
