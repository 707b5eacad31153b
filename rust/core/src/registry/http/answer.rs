//! One request and its answer, told apart: what was asked for, a statement of the registry, or neither.

use std::time::Duration;

use reqwest::header::{LOCATION, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// No schema is larger.
const LARGEST: usize = 64 << 20;
/// Characters of an unexpected answer that are shown.
const SHOWN: usize = 120;
/// Characters of a registry's own message, which may list every difference of a schema.
const MESSAGE: usize = 8_000;

/// Why a request has no answer that can be used.
#[derive(Debug)]
pub enum Failure {
    /// It may be another thing the next time: no connection, no whole answer in time, too busy, out of order.
    Passing {
        reason: String,
        /// How long the server asks to wait.
        after: Option<Duration>,
    },
    /// Something answers there, but no registry.
    NotARegistry(String),
    /// Who asks is unknown, or may not do this.
    Denied { status: u16, reason: String },
    /// The registry says no, by a code of its own.
    Told {
        status: u16,
        code: u32,
        message: String,
    },
    /// The request can't be made at all.
    Settings(String),
}

impl Failure {
    fn of_reqwest(error: &reqwest::Error) -> Self {
        let reason = causes(error);
        if error.is_builder() {
            return Self::Settings(reason);
        }
        Self::Passing {
            reason,
            after: None,
        }
    }

    /// The same, of the identity provider.
    pub fn of_tokens(self) -> Self {
        match self {
            Self::Passing { reason, after } => Self::Passing {
                reason: format!("its identity provider: {reason}"),
                after,
            },
            other => other,
        }
    }
}

/// What the innermost cause says: reqwest itself says little, and shows the URL with its user info.
fn causes(error: &reqwest::Error) -> String {
    let kind = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else if error.is_body() || error.is_decode() {
        "its answer broke off"
    } else {
        "the request failed"
    };
    let source = std::error::Error::source(error);
    let innermost = std::iter::successors(source, |cause| cause.source()).last();
    match innermost {
        Some(cause) if !error.is_timeout() => format!("{kind} ({cause})"),
        _ => kind.to_owned(),
    }
}

/// A whole answer.
pub struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
    pub after: Option<Duration>,
    location: Option<String>,
}

/// An error as registries and Confluent's own put it.
#[derive(Deserialize)]
struct Told {
    error_code: u32,
    #[serde(default)]
    message: String,
}

/// Sends a request and reads its answer to the end.
pub async fn read(request: RequestBuilder) -> Result<Answer, Failure> {
    let mut response = request.send().await.map_err(|e| Failure::of_reqwest(&e))?;
    let mut answer = Answer {
        status: response.status(),
        body: Vec::new(),
        after: header(&response, RETRY_AFTER)
            .and_then(|text| text.parse().ok())
            .map(Duration::from_secs),
        location: header(&response, LOCATION),
    };
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|e| Failure::of_reqwest(&e))?
    {
        if answer.body.len() + chunk.len() > LARGEST {
            let reason = format!("its answer is larger than {} MiB", LARGEST >> 20);
            return Err(Failure::NotARegistry(reason));
        }
        answer.body.extend_from_slice(&chunk);
    }
    Ok(answer)
}

fn header(response: &Response, name: reqwest::header::HeaderName) -> Option<String> {
    let value = response.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

impl Answer {
    /// Whether it may be another one the next time.
    pub fn passes(&self) -> bool {
        self.status.is_server_error()
            || matches!(
                self.status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
            )
    }

    /// The registry's message, or the beginning of what came instead.
    pub fn said(&self) -> String {
        if let Ok(told) = serde_json::from_slice::<Told>(&self.body) {
            return cut(told.message, MESSAGE);
        }
        let text = String::from_utf8_lossy(&self.body);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.is_empty() {
            return "it says no more".into();
        }
        cut(words, SHOWN)
    }

    /// What was asked for, or why there is none.
    pub fn into_value<T: DeserializeOwned>(self) -> Result<T, Failure> {
        let status = self.status.as_u16();
        if self.status.is_success() {
            return serde_json::from_slice(&self.body)
                .map_err(|e| Failure::NotARegistry(format!("{e} in its answer: {}", self.said())));
        }
        if self.passes() {
            return Err(Failure::Passing {
                reason: format!("status {status}: {}", self.said()),
                after: self.after,
            });
        }
        if matches!(
            self.status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) {
            return Err(Failure::Denied {
                status,
                reason: self.said(),
            });
        }
        if let Ok(told) = serde_json::from_slice::<Told>(&self.body) {
            return Err(Failure::Told {
                status,
                code: told.error_code,
                message: cut(told.message, MESSAGE),
            });
        }
        let reason = match &self.location {
            Some(place) if self.status.is_redirection() => {
                format!(
                    "it sends us elsewhere ({status}), to {}",
                    super::shown_url(place)
                )
            }
            _ => format!("status {status} without an error code: {}", self.said()),
        };
        Err(Failure::NotARegistry(reason))
    }
}

fn cut(mut text: String, most: usize) -> String {
    if let Some((at, _)) = text.char_indices().nth(most) {
        text.truncate(at);
        text.push('…');
    }
    text
}
