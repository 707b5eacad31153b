//! From a record to a request. Everything that is the same for all records is settled when the worker starts.

use std::path::Path;

use kappaflow_avro::{AvroSchema, AvroType};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use serde_json::Value;

use crate::job::http::{Body, HttpEndpoint};
use crate::job::template::{Escape, Row, Template};
use crate::job::{is_reference, resolve_reference};
use crate::work::task::Record;

/// The same call has the same key, however often it is made: `job/split/seq`.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Says that a call is a replay, and of which job.
const REPLAY: &str = "x-kappaflow-replay";
/// Headers of a record that go on to the service: W3C Trace Context.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];
/// Says as of when the record is meant.
const AS_OF: &str = "x-kappaflow-as-of";

/// How a record becomes a request.
#[derive(Debug)]
pub struct Mapping {
    method: reqwest::Method,
    url: Template,
    query: Vec<(String, Template)>,
    headers: Vec<(HeaderName, Given)>,
    body: Payload,
}

/// What is said of a job's calls beside what its endpoint asks for.
pub struct Told<'t> {
    /// Where files are looked for.
    pub base: &'t Path,
    /// `service.as_of`.
    pub as_of: Option<&'t str>,
}

/// A header's value.
#[derive(Debug)]
enum Given {
    /// The same for all; marked as a secret where it was a reference.
    Fixed(HeaderValue),
    Of(Template),
}

#[derive(Debug)]
enum Payload {
    None,
    Record,
    /// One field; bytes stand as hexadecimal digits in JSON.
    Field {
        name: String,
        bytes: bool,
    },
    Template(Template),
}

impl Mapping {
    /// # Errors
    /// What can't be used, by the key in `[service.http]`.
    pub fn new(
        endpoint: &HttpEndpoint,
        ingress: &AvroSchema,
        told: &Told<'_>,
    ) -> Result<Self, (String, String)> {
        let wrong = |key: &str| {
            let key = key.to_owned();
            move |e: String| (key, e)
        };
        let mut headers = Vec::new();
        for (name, text) in &endpoint.headers {
            let wrong = || wrong(&format!("headers.{name}"));
            let header = HeaderName::try_from(name.as_str()).map_err(|e| wrong()(e.to_string()))?;
            let given = if is_reference(text) {
                let resolved = resolve_reference(text, told.base).map_err(wrong())?;
                let mut value = HeaderValue::try_from(resolved)
                    .map_err(|_| wrong()("is no value of a header".into()))?;
                value.set_sensitive(true);
                Given::Fixed(value)
            } else {
                Given::Of(Template::parse(text).map_err(wrong())?)
            };
            headers.push((header, given));
        }
        if let Some(field) = told.as_of {
            let template = Template::parse(&format!("{{{field}}}"));
            let given = Given::Of(template.map_err(wrong("as_of"))?);
            headers.push((HeaderName::from_static(AS_OF), given));
        }
        let mut query = Vec::new();
        for (name, text) in &endpoint.query {
            let template = Template::parse(text).map_err(wrong(&format!("query.{name}")))?;
            query.push((name.clone(), template));
        }
        Ok(Self {
            method: reqwest::Method::from_bytes(endpoint.method.name().as_bytes())
                .map_err(|e| wrong("method")(e.to_string()))?,
            url: Template::parse(&endpoint.url).map_err(wrong("url"))?,
            query,
            headers,
            body: match endpoint.body() {
                Body::None => Payload::None,
                Body::Record => Payload::Record,
                Body::Field(name) => Payload::Field {
                    bytes: ingress
                        .fields()
                        .iter()
                        .any(|f| f.name == name && is_bytes(&f.ty)),
                    name,
                },
                Body::Template(text) => {
                    Payload::Template(Template::parse(&text).map_err(wrong("body.template"))?)
                }
            },
        })
    }

    /// The request for a record. `json` is it as JSON, `row` the same, read.
    ///
    /// # Errors
    /// Why the record makes none: it is at fault.
    pub fn request(
        &self,
        client: &Client,
        record: &Record,
        json: &[u8],
        row: &Row,
    ) -> Result<RequestBuilder, String> {
        let text = self.url.render(row, Escape::Percent);
        let mut url = Url::parse(&text).map_err(|e| format!("{text:?} is no URL: {e}"))?;
        for (name, value) in &self.query {
            if let Some(value) = value.present(row, Escape::None) {
                url.query_pairs_mut().append_pair(name, &value);
            }
        }
        let mut headers = HeaderMap::new();
        for name in TRACE {
            // A value that no header may have says nothing.
            let value = record.text_header(name).map(HeaderValue::try_from);
            if let Some(Ok(value)) = value {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        for (name, given) in &self.headers {
            let value = match given {
                Given::Fixed(value) => value.clone(),
                Given::Of(template) => match template.present(row, Escape::None) {
                    None => continue,
                    Some(text) => HeaderValue::try_from(&text).map_err(|_| {
                        format!("header {name}: {text:?} can't be a header's value")
                    })?,
                },
            };
            headers.insert(name.clone(), value);
        }
        let (body, kind) = match &self.body {
            Payload::None => (Vec::new(), None),
            Payload::Record => (json.to_vec(), Some("application/json")),
            Payload::Field { name, bytes } => match row.get(name) {
                None | Some(Value::Null) => (Vec::new(), None),
                Some(Value::String(digits)) if *bytes => {
                    (unhex(digits)?, Some("application/octet-stream"))
                }
                Some(Value::String(text)) => {
                    (text.clone().into_bytes(), Some("text/plain; charset=utf-8"))
                }
                Some(other) => (other.to_string().into_bytes(), Some("application/json")),
            },
            Payload::Template(template) => {
                let text = template.render(row, Escape::Json);
                (text.into_bytes(), Some("application/json"))
            }
        };
        if let Some(kind) = kind.filter(|_| !headers.contains_key(CONTENT_TYPE)) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        let identity = &record.identity;
        let key = format!("{}/{}/{}", identity.job, identity.split, identity.seq);
        let request = client
            .request(self.method.clone(), url)
            .headers(headers)
            .header(IDEMPOTENCY_KEY, key)
            .header(REPLAY, identity.job.to_string());
        Ok(match self.body {
            Payload::None => request,
            _ => request.body(body),
        })
    }
}

fn is_bytes(ty: &AvroType) -> bool {
    match ty {
        AvroType::Bytes | AvroType::Fixed(_) => true,
        AvroType::Union(branches) => branches.iter().any(is_bytes),
        _ => false,
    }
}

fn unhex(digits: &str) -> Result<Vec<u8>, String> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let pair = std::str::from_utf8(pair).map_err(|e| e.to_string())?;
            u8::from_str_radix(pair, 16).map_err(|e| format!("{pair:?} is no byte: {e}"))
        })
        .collect()
}
