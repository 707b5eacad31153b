//! From a record to a request. Everything that is the same for all records is settled when the worker starts.

use std::path::Path;

use kappaflow_avro::{AvroSchema, AvroType};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use serde_json::Value;

use crate::job::batch::{Batch, BatchFormat};
use crate::job::http::{Body, HttpEndpoint};
use crate::job::template::{Escape, Template};
use crate::job::{is_reference, resolve_reference};
use crate::work::endpoint::{
    AS_OF, AsOf, IDEMPOTENCY_KEY, Item, REPLAY, idempotency_key, key_of, keys, trace,
};
use crate::work::task::Record;

/// The keys of all records of a request, without the job: `split/seq,split/seq`.
const KEYS: &str = "x-kappaflow-keys";

/// How a record becomes a request.
#[derive(Debug)]
pub struct Mapping {
    method: reqwest::Method,
    url: Template,
    query: Vec<(String, Template)>,
    headers: Vec<(HeaderName, Given)>,
    as_of: Option<AsOf>,
    body: Payload,
    batch: Option<Batch>,
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
        let as_of = told.as_of.map(AsOf::new);
        let as_of = as_of.transpose().map_err(wrong("as_of"))?;
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
            as_of,
            batch: endpoint.batch.clone(),
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

    /// The request for a record, or in a batch for several.
    ///
    /// # Errors
    /// Why there can be none: a record is at fault.
    pub fn request(
        &self,
        client: &Client,
        records: &[(&Record, &Item)],
    ) -> Result<RequestBuilder, String> {
        // No field of a record is asked for outside of the body where there are several.
        let Some((first, item)) = records.first() else {
            return Err("a request without a record".into());
        };
        let row = &item.row;
        let text = self.url.render(row, Escape::Percent);
        let mut url = Url::parse(&text).map_err(|e| format!("{text:?} is no URL: {e}"))?;
        for (name, value) in &self.query {
            if let Some(value) = value.present(row, Escape::None) {
                url.query_pairs_mut().append_pair(name, &value);
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in trace(records) {
            // A value that no header may have says nothing.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        for (name, given) in &self.headers {
            let value = match given {
                Given::Fixed(value) => value.clone(),
                Given::Of(template) => match template.present(row, Escape::None) {
                    None => continue,
                    Some(text) => header(name, text)?,
                },
            };
            headers.insert(name.clone(), value);
        }
        if let Some(text) = self.as_of.as_ref().and_then(|as_of| as_of.of_all(records)) {
            let name = HeaderName::from_static(AS_OF);
            let value = header(&name, text)?;
            headers.insert(name, value);
        }
        let (body, kind) = match &self.batch {
            Some(batch) => self.list(batch, records)?,
            None => self.body.of(item)?,
        };
        if let Some(kind) = kind.filter(|_| !headers.contains_key(CONTENT_TYPE)) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        let by_header = |batch: &Batch| batch.key_field.is_none();
        if records.len() > 1 && self.batch.as_ref().is_some_and(by_header) {
            let name = HeaderName::from_static(KEYS);
            let value = header(&name, keys(records))?;
            headers.insert(name, value);
        }
        let request = client
            .request(self.method.clone(), url)
            .headers(headers)
            .header(IDEMPOTENCY_KEY, key_of(records).unwrap_or_default())
            .header(REPLAY, first.identity.job.to_string());
        Ok(match self.body {
            Payload::None => request,
            _ => request.body(body),
        })
    }

    /// Records as a body.
    fn list(&self, batch: &Batch, records: &[(&Record, &Item)]) -> Result<Sent, String> {
        let (begin, between, end, kind) = match batch.format {
            BatchFormat::List => ("[", ",", "]", "application/json"),
            BatchFormat::Lines => ("", "\n", "\n", "application/x-ndjson"),
        };
        let mut body = Vec::from(begin);
        for (number, (record, item)) in records.iter().enumerate() {
            if number > 0 {
                body.extend_from_slice(between.as_bytes());
            }
            match (&self.body, &batch.key_field) {
                (Payload::Field { name, .. }, _) => {
                    let value = item.row.get(name).unwrap_or(&Value::Null);
                    body.extend_from_slice(value.to_string().as_bytes());
                }
                (Payload::Record, Some(field)) => {
                    let key = Value::from(idempotency_key(&record.identity));
                    let own = item.json.strip_prefix(b"{").unwrap_or_default();
                    let comma = if own == b"}" { "" } else { "," };
                    let key = format!("{{{}:{key}{comma}", Value::from(field.as_str()));
                    body.extend_from_slice(key.as_bytes());
                    body.extend_from_slice(own);
                }
                _ => body.extend_from_slice(&self.body.of(item)?.0),
            }
        }
        body.extend_from_slice(end.as_bytes());
        Ok((body, Some(kind)))
    }
}

/// A body, and its type.
type Sent = (Vec<u8>, Option<&'static str>);

impl Payload {
    fn of(&self, item: &Item) -> Result<Sent, String> {
        Ok(match self {
            Self::None => (Vec::new(), None),
            Self::Record => (item.json.clone(), Some("application/json")),
            Self::Field { name, bytes } => match item.row.get(name) {
                None | Some(Value::Null) => (Vec::new(), None),
                Some(Value::String(digits)) if *bytes => {
                    (unhex(digits)?, Some("application/octet-stream"))
                }
                Some(Value::String(text)) => {
                    (text.clone().into_bytes(), Some("text/plain; charset=utf-8"))
                }
                Some(other) => (other.to_string().into_bytes(), Some("application/json")),
            },
            Self::Template(template) => {
                let text = template.render(&item.row, Escape::Json);
                (text.into_bytes(), Some("application/json"))
            }
        })
    }
}

fn header(name: &HeaderName, text: String) -> Result<HeaderValue, String> {
    HeaderValue::try_from(&text)
        .map_err(|_| format!("header {name}: {text:?} can't be a header's value"))
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
