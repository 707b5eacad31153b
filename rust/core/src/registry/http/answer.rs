//! One request and its answer, told apart: what was asked for, a statement of the registry, or neither.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::{self, Answer, NoAnswer, cut, shown_url};
use crate::oauth::TokenError;

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
    /// How long the server asks to wait.
    pub fn after(&self) -> Option<Duration> {
        match self {
            Self::Passing { after, .. } => *after,
            _ => None,
        }
    }
}

impl From<NoAnswer> for Failure {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::NoConnection(reason)
            | NoAnswer::Passing(reason)
            | NoAnswer::NotHttp2(reason) => Self::Passing {
                reason,
                after: None,
            },
            NoAnswer::TooLarge(reason) => Self::NotARegistry(reason),
            NoAnswer::Settings(reason) => Self::Settings(reason),
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let reason = format!("its identity provider {error}");
        match error {
            TokenError::Passing { after, .. } => Self::Passing { reason, after },
            TokenError::Refused { status, .. } => Self::Denied { status, reason },
            TokenError::NoToken(_) => Self::NotARegistry(reason),
            TokenError::Settings(_) => Self::Settings(reason),
        }
    }
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
    Ok(http::read(request).await?)
}

/// The registry's message, or the beginning of what came instead.
fn said(answer: &Answer) -> String {
    match serde_json::from_slice::<Told>(&answer.body) {
        Ok(told) => cut(told.message, MESSAGE),
        Err(_) => answer.said(),
    }
}

/// What was asked for, or why there is none.
pub fn value_of<T: DeserializeOwned>(answer: Answer) -> Result<T, Failure> {
    let status = answer.status.as_u16();
    if answer.status.is_success() {
        return serde_json::from_slice(&answer.body)
            .map_err(|e| Failure::NotARegistry(format!("{e} in its answer: {}", said(&answer))));
    }
    if answer.passes() {
        return Err(Failure::Passing {
            reason: format!("status {status}: {}", said(&answer)),
            after: answer.after(),
        });
    }
    if matches!(
        answer.status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    ) {
        return Err(Failure::Denied {
            status,
            reason: said(&answer),
        });
    }
    if let Ok(told) = serde_json::from_slice::<Told>(&answer.body) {
        return Err(Failure::Told {
            status,
            code: told.error_code,
            message: cut(told.message, MESSAGE),
        });
    }
    let reason = match answer.location() {
        Some(place) if answer.status.is_redirection() => {
            format!("it sends us elsewhere ({status}), to {}", shown_url(place))
        }
        _ => format!("status {status} without an error code: {}", said(&answer)),
    };
    Err(Failure::NotARegistry(reason))
}
