//! `[service.http]`: an endpoint that is called as it is.

use std::collections::BTreeMap;
use std::fmt;

use kappaflow_avro::AvroSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::endpoint::{check_certificate, check_secrets, check_url};
use super::secret::is_reference;
use super::template::Template;

/// An HTTP endpoint, called once for each record, or with `batch` for several. In `url`, `query`, `headers` and a template,
/// `{field}` stands for the text of a field of the record; `{{` and `}}` stand for braces.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpEndpoint {
    /// `http://host:port/path/{field}`; what a field puts there is percent-encoded.
    pub url: String,
    /// How it is called.
    #[serde(default)]
    pub method: Method,
    /// What is spoken. `2` shares one connection among all calls, by TLS or in the clear, and is refused by name where the
    /// server can't speak it.
    #[serde(default)]
    pub version: HttpVersion,
    /// Parameters behind `?`. One that is nothing but a field which is null is left out.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// A secret is a reference (`env:NAME`, `file:PATH`).
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What is sent. Default: `record`, or `none` where the method is `GET` or `DELETE`.
    pub body: Option<Body>,
    /// What becomes of an answer.
    #[serde(default)]
    pub answer: Answer,
    /// One request takes several records. Then `url`, `query` and `headers` have no fields in them.
    pub batch: Option<Batch>,
    /// A Unix socket where the service listens; `url` then says only what it is asked for. Relative to the job file.
    pub unix_socket: Option<String>,
    /// PEM certificate authorities that are trusted beside the system's. Relative to the job file, as the next two.
    pub ca_file: Option<String>,
    /// The client's own certificate (PEM), with `key_file`.
    pub cert_file: Option<String>,
    /// Its key, without a password.
    pub key_file: Option<String>,
    /// What a status means, by its number (`404`) or class (`5xx`), where it is not the default: 2xx `answer`, 204
    /// `filtered`, 429 and 503 `busy`, other 4xx `dead_letter`, all else `retry`.
    #[serde(default)]
    pub statuses: BTreeMap<String, StatusMeaning>,
}

/// Versions of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum HttpVersion {
    #[default]
    #[serde(rename = "1.1")]
    Http1,
    #[serde(rename = "2")]
    Http2,
}

/// Methods that may be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    #[default]
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Nothing.
    None,
    /// The record as a JSON object.
    Record,
    /// One field: text as it is, bytes as they are.
    Field(String),
    /// A text of its own.
    Template(String),
}

/// How an answer becomes a record of the egress.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// What is taken from the body.
    pub body: AnswerBody,
    /// The field that takes the body's text, with `body = "text"`.
    pub text_field: Option<String>,
    /// The field that takes the status.
    pub status_field: Option<String>,
    /// Field to the response header that it takes; null where there is none.
    pub headers: BTreeMap<String, String>,
    /// Fields of the request's record that are carried over.
    pub carry: Vec<String>,
}

/// What is taken from an answer's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerBody {
    /// A JSON object as the fields of an answer; a list of objects as several; an empty list as none.
    #[default]
    Json,
    /// Its text, in `text_field`.
    Text,
    /// Nothing.
    Ignore,
}

/// What a status means for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatusMeaning {
    /// It is answered.
    Answer,
    /// No answer, and none is needed.
    Filtered,
    /// The service can't take more now: the record waits, and no attempt is counted.
    Busy,
    /// Try again, as often as `service.max_attempts` says.
    Retry,
    /// It can't be taken.
    DeadLetter,
}

impl HttpEndpoint {
    /// What a status means.
    pub fn meaning(&self, status: u16) -> StatusMeaning {
        let class = format!("{}xx", status / 100);
        let said = |name: &str| self.statuses.get(name).copied();
        said(&status.to_string())
            .or_else(|| said(&class))
            .unwrap_or(match status {
                204 => StatusMeaning::Filtered,
                200..=299 => StatusMeaning::Answer,
                429 | 503 => StatusMeaning::Busy,
                // The server gave up waiting for the request, or the connection was another's.
                408 | 421 | 425 => StatusMeaning::Retry,
                400..=499 => StatusMeaning::DeadLetter,
                _ => StatusMeaning::Retry,
            })
    }

    /// Looks at what can be seen without the record's schema.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        check_url(&self.url, "a header")?;
        check_certificate(self.cert_file.as_deref(), self.key_file.as_deref())?;
        check_secrets("headers", &self.headers)?;
        for status in self.statuses.keys() {
            let class = status
                .strip_suffix("xx")
                .and_then(|digit| digit.parse::<u16>().ok());
            let number = status.parse::<u16>().ok();
            if !class.is_some_and(|c| (1..=5).contains(&c))
                && !number.is_some_and(|n| (100..=599).contains(&n))
            {
                let reason = "is no status: expected a number such as 404, or a class such as 5xx";
                return Err((format!("statuses.{status}"), reason.into()));
            }
        }
        match (self.answer.body, &self.answer.text_field) {
            (AnswerBody::Text, None) => Err((
                "answer.text_field".into(),
                "is missing: the field that takes the text".into(),
            )),
            (AnswerBody::Json | AnswerBody::Ignore, Some(_)) => {
                Err(("answer.text_field".into(), "is for body = \"text\"".into()))
            }
            _ => match &self.batch {
                Some(batch) => batch.check(self),
                None => Ok(()),
            },
        }
    }

    /// Looks whether the records have what it names.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn check_fields(
        &self,
        ingress: &AvroSchema,
        egress: &AvroSchema,
    ) -> Result<(), (String, String)> {
        let field = |key: &str, name: &str| has(ingress, "ingress", key, name);
        let answered = |key: &str, name: &str| has(egress, "egress", key, name);
        let template = |key: &str, text: &str| {
            let template = Template::parse(text).map_err(|e| (key.to_owned(), e))?;
            template.fields().try_for_each(|name| field(key, name))
        };
        template("url", &self.url)?;
        for (name, text) in &self.query {
            template(&format!("query.{name}"), text)?;
        }
        for (name, text) in self.headers.iter().filter(|(_, text)| !is_reference(text)) {
            template(&format!("headers.{name}"), text)?;
        }
        match self.body() {
            Body::None | Body::Record => {}
            Body::Field(name) => field("body.field", &name)?,
            Body::Template(text) => template("body.template", &text)?,
        }
        if let Some(batch) = &self.batch {
            batch.check_fields(ingress)?;
        }
        for name in &self.answer.carry {
            field("answer.carry", name)?;
            answered("answer.carry", name)?;
        }
        for name in self.answer.headers.keys() {
            answered("answer.headers", name)?;
        }
        let own = [
            ("answer.text_field", &self.answer.text_field),
            ("answer.status_field", &self.answer.status_field),
        ];
        for (key, name) in own {
            if let Some(name) = name {
                answered(key, name)?;
            }
        }
        Ok(())
    }

    /// What is sent.
    pub fn body(&self) -> Body {
        self.body.clone().unwrap_or(match self.method {
            Method::Get | Method::Delete => Body::None,
            Method::Post | Method::Put | Method::Patch => Body::Record,
        })
    }
}

/// Whether a schema has a field.
///
/// # Errors
/// The key, and what is wrong with it.
pub fn has(schema: &AvroSchema, what: &str, key: &str, name: &str) -> Result<(), (String, String)> {
    let known: Vec<&str> = schema.fields().iter().map(|f| f.name.as_str()).collect();
    match known.contains(&name) {
        true => Ok(()),
        false => Err((
            key.to_owned(),
            format!(
                "the {what} schema has no field {name:?}; it has: {}",
                known.join(", ")
            ),
        )),
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
