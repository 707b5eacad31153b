//! Requests that go on at the next URL and are tried again, as long as another try can be another answer.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answer::{self, Failure};
use super::auth::Auth;
use crate::http::{self, Files, backoff, parse_url, shown_url};
use crate::job::resolve_reference;
use crate::oauth::{Credentials, TokenSource};
use crate::registry::config::RegistryTable;
use crate::registry::error::RegistryError;

/// Times that all URLs are asked.
const ROUNDS: u32 = 4;
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// The way to one registry.
pub struct Transport {
    client: Client,
    /// User info in them is sent as basic authentication, by reqwest.
    urls: Vec<Url>,
    /// The URL that answered last, which is asked first.
    good: AtomicUsize,
    auth: Auth,
    /// For messages.
    shown: String,
}

/// What is asked for.
pub struct Ask {
    method: Method,
    /// Below the base URL; each part is escaped.
    path: Vec<String>,
    query: Option<(&'static str, &'static str)>,
    /// JSON.
    body: Option<String>,
}

impl Ask {
    pub fn get(path: &[&str]) -> Self {
        Self {
            method: Method::GET,
            path: path.iter().map(|part| (*part).to_owned()).collect(),
            query: None,
            body: None,
        }
    }

    pub fn post(path: &[&str], body: &impl Serialize) -> Self {
        Self {
            method: Method::POST,
            body: Some(serde_json::to_string(body).unwrap_or_default()),
            ..Self::get(path)
        }
    }

    pub fn put(path: &[&str], body: &impl Serialize) -> Self {
        Self {
            method: Method::PUT,
            ..Self::post(path, body)
        }
    }

    /// With a query, if `wanted`.
    pub fn with(mut self, name: &'static str, wanted: bool) -> Self {
        self.query = wanted.then_some((name, "true"));
        self
    }
}

impl Transport {
    /// # Errors
    /// What is wrong with the settings; no secret is in it.
    pub fn new(table: &RegistryTable, base: &Path) -> Result<Self, String> {
        let files = Files {
            base,
            ca_file: table.ca_file.as_deref(),
            cert_file: table.cert_file.as_deref(),
            key_file: table.key_file.as_deref(),
        };
        let builder = http::certificates(http::client(), &files)?
            .timeout(Duration::from_millis(table.timeout_ms))
            // A registry does not send its clients elsewhere; pages to sign in at do.
            .redirect(Policy::none());
        let client = http::build(builder)?;
        let auth = auth(table, base, &client)?;
        let mut urls = Vec::new();
        for text in &table.urls {
            let url = parse_url(text)?;
            if !url.username().is_empty() && !matches!(auth, Auth::None) {
                let shown = shown_url(text);
                return Err(format!(
                    "{shown} has a user name in it, and another way to sign in is given"
                ));
            }
            urls.push(url);
        }
        let shown: Vec<String> = urls.iter().map(|url| shown_url(url.as_str())).collect();
        Ok(Self {
            client,
            shown: shown.join(","),
            urls,
            good: AtomicUsize::new(0),
            auth,
        })
    }

    /// The URLs, without user info.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Asks, at each URL in turn and several times over while that can help.
    ///
    /// # Errors
    /// `Told` goes to the caller, who knows what the codes mean here.
    pub async fn ask<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T, AskError> {
        let mut tries = 0;
        let mut last = Failure::Settings("no URL".into());
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(backoff(round, last.after())).await;
            }
            let first = self.good.load(Ordering::Relaxed);
            let mut may_pass = false;
            for step in 0..self.urls.len() {
                let at = (first + step) % self.urls.len();
                let Some(url) = self.urls.get(at) else {
                    continue;
                };
                tries += 1;
                last = match self.once(url, ask).await {
                    Ok(value) => {
                        self.good.store(at, Ordering::Relaxed);
                        return Ok(value);
                    }
                    Err(failure @ Failure::Passing { .. }) => {
                        may_pass = true;
                        failure
                    }
                    // The next URL may be a registry; asking this one again makes it none.
                    Err(failure @ Failure::NotARegistry(_)) if !may_pass => failure,
                    Err(Failure::NotARegistry(_)) => last,
                    Err(other) => {
                        // No is an answer too.
                        self.good.store(at, Ordering::Relaxed);
                        return Err(error(other, shown_url(url.as_str()), tries));
                    }
                };
            }
            if !may_pass {
                break;
            }
        }
        Err(error(last, self.shown.clone(), tries))
    }

    async fn once<T: DeserializeOwned>(&self, base: &Url, ask: &Ask) -> Result<T, Failure> {
        let mut url = base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(&ask.path),
            Err(()) => return Err(Failure::Settings("the URL can't have a path".into())),
        };
        if let Some((name, value)) = ask.query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let mut renewed = false;
        loop {
            let mut request = self
                .client
                .request(ask.method.clone(), url.clone())
                .header("accept", format!("{CONTENT_TYPE}, application/json"));
            if let Some(body) = &ask.body {
                request = request
                    .header("content-type", CONTENT_TYPE)
                    .body(body.clone());
            }
            let (request, token) = self.auth.sign(request).await?;
            let answer = answer::read(request).await?;
            match token {
                // A token may be taken back before its time: one new one is tried.
                Some(token) if answer.status.as_u16() == 401 && !renewed => {
                    self.auth.forget(&token).await;
                    renewed = true;
                }
                _ => return answer::value_of(answer),
            }
        }
    }
}

fn error(failure: Failure, url: String, tries: u32) -> AskError {
    AskError::Failed(match failure {
        Failure::Told {
            status,
            code,
            message,
        } => {
            return AskError::Told {
                status,
                code,
                message,
            };
        }
        Failure::Passing { reason, .. } => RegistryError::Unavailable { url, tries, reason },
        Failure::NotARegistry(reason) => RegistryError::NotARegistry { url, reason },
        Failure::Denied { status, reason } => RegistryError::Denied {
            url,
            status,
            reason,
        },
        Failure::Settings(reason) => RegistryError::Settings { url, reason },
    })
}

/// Why there is no answer.
pub enum AskError {
    /// The registry says no.
    Told {
        status: u16,
        code: u32,
        message: String,
    },
    Failed(RegistryError),
}

fn auth(table: &RegistryTable, base: &Path, client: &Client) -> Result<Auth, String> {
    let resolve = |value: &str| resolve_reference(value, base);
    if let Some(oauth) = &table.oauth {
        let source = TokenSource::of_credentials(Credentials {
            client: client.clone(),
            token_url: parse_url(&resolve(&oauth.token_url)?)?,
            client_id: resolve(&oauth.client_id)?,
            client_secret: resolve(&oauth.client_secret)?,
            scope: oauth.scope.clone(),
        });
        return Ok(Auth::Tokens(Box::new(source)));
    }
    if let Some(token) = &table.token {
        return Ok(Auth::Bearer(resolve(token)?));
    }
    match (&table.username, &table.password) {
        (Some(username), Some(password)) => Ok(Auth::Basic {
            username: resolve(username)?,
            password: resolve(password)?,
        }),
        _ => Ok(Auth::None),
    }
}
