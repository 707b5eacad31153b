//! `[service.http.batch]`: an endpoint that takes several records with one request.

use kappaflow_avro::AvroSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::{AnswerBody, Body, HttpEndpoint};
use super::secret::is_reference;
use super::template::Template;

/// Keys of more records are too long for a header.
const MOST_BY_HEADER: u32 = 500;
const MOST_RECORDS: u32 = 10_000;

/// One request takes a JSON list of records; its answer is a list with one element for each, in their order: an object,
/// a list of objects, or null.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Records that a request takes at most, up to 10000.
    pub records: u32,
    /// KiB of records that a request takes at most; what is larger goes alone.
    #[serde(default = "default_kib")]
    pub kib: u32,
    /// How long a record that could go waits for others, in milliseconds.
    #[serde(default = "default_linger_ms")]
    pub linger_ms: u64,
    /// How records and answers are listed.
    #[serde(default)]
    pub format: BatchFormat,
    /// The field that each record in a request has beside its own, with its idempotency key. Without it the keys are in
    /// a header, which takes those of 500 records.
    pub key_field: Option<String>,
    /// The field of an element of the answer that says, where it is not null, why its record can't be taken.
    pub error_field: Option<String>,
}

/// How records and answers are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchFormat {
    /// As a JSON list.
    #[default]
    List,
    /// As one JSON value a line.
    Lines,
}

fn default_kib() -> u32 {
    1024
}

fn default_linger_ms() -> u64 {
    5
}

impl Batch {
    /// Looks at what can be seen without the record's schema.
    ///
    /// # Errors
    /// The key in `[service.http]`, and what is wrong with it.
    pub fn check(&self, endpoint: &HttpEndpoint) -> Result<(), (String, String)> {
        let wrong = |key: &str, reason: String| Err((key.to_owned(), reason));
        if !(1..=MOST_RECORDS).contains(&self.records) {
            let reason = format!("is {}, expected 1 to {MOST_RECORDS}", self.records);
            return wrong("batch.records", reason);
        }
        if self.key_field.is_none() && self.records > MOST_BY_HEADER {
            let reason = format!(
                "is {}, and a header takes the idempotency keys of {MOST_BY_HEADER}: name a batch.key_field for them",
                self.records
            );
            return wrong("batch.records", reason);
        }
        let url = ("url".to_owned(), &endpoint.url);
        let query = endpoint.query.iter();
        let query = query.map(|(name, text)| (format!("query.{name}"), text));
        let headers = endpoint.headers.iter();
        let headers = headers.map(|(name, text)| (format!("headers.{name}"), text));
        let texts = std::iter::once(url).chain(query).chain(headers);
        for (key, text) in texts.filter(|(_, text)| !is_reference(text)) {
            let template = Template::parse(text).map_err(|e| (key.clone(), e))?;
            if let Some(field) = template.fields().next() {
                let reason =
                    format!("asks for {field:?} of a record, and batch sends several at once");
                return wrong(&key, reason);
            }
        }
        match (endpoint.body(), &self.key_field) {
            (Body::None, _) => {
                let reason = "is none, and batch sends records: give body or another method";
                return wrong("body", reason.into());
            }
            (Body::Field(_) | Body::Template(_), Some(_)) => {
                let reason = "is for body = \"record\", where it is a field beside the record's";
                return wrong("batch.key_field", reason.into());
            }
            _ => {}
        }
        match (endpoint.answer.body, &self.error_field) {
            (AnswerBody::Text, _) => {
                let reason = "is text, and an answer to several records is JSON, or is ignored";
                wrong("answer.body", reason.into())
            }
            (AnswerBody::Ignore, Some(_)) => wrong(
                "batch.error_field",
                "is in the answer's body, and that is ignored".into(),
            ),
            _ => Ok(()),
        }
    }

    /// Looks at what it adds to the records.
    ///
    /// # Errors
    /// The key in `[service.http]`, and what is wrong with it.
    pub fn check_fields(&self, ingress: &AvroSchema) -> Result<(), (String, String)> {
        match &self.key_field {
            Some(name) if ingress.fields().iter().any(|f| f.name == *name) => Err((
                "batch.key_field".into(),
                format!("the ingress schema has a field {name:?} itself"),
            )),
            _ => Ok(()),
        }
    }
}
