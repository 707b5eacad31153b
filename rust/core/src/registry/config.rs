//! Where a schema registry is and how to sign in, as job files and callers say it. Secrets are references.

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::http::{shown_url, user_info};
use crate::job::{is_reference, resolve_reference};

/// Where a schema registry is: an address alone, or a table that also says how to sign in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RegistryConfig {
    Address(String),
    Table(Box<RegistryTable>),
}

/// A schema registry over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryTable {
    /// `https://HOST:PORT/PATH` of the registry, or references (`env:NAME`, `file:PATH`). The next is asked when one fails.
    pub urls: Vec<String>,
    /// User name, or a reference to it.
    pub username: Option<String>,
    /// Reference to the password.
    pub password: Option<String>,
    /// Reference to a bearer token.
    pub token: Option<String>,
    /// PEM file of certificate authorities that are trusted beside the system's.
    pub ca_file: Option<String>,
    /// PEM file of the client's own certificate, for mutual TLS.
    pub cert_file: Option<String>,
    /// PEM file of its private key, which has no password.
    pub key_file: Option<String>,
    /// Longest wait for the answer to a request, before it is tried again.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    pub oauth: Option<OAuthConfig>,
}

/// Tokens of an identity provider, by OAuth 2.0 client credentials.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuthConfig {
    /// Where tokens are asked for.
    pub token_url: String,
    /// Client id, or a reference to it.
    pub client_id: String,
    /// Reference to the client's secret.
    pub client_secret: String,
    /// What the token is to be good for, in the provider's words.
    pub scope: Option<String>,
}

/// A part of the configuration that can't be used: its key (empty: the whole), and why.
pub type Problem = (&'static str, String);

impl Default for RegistryConfig {
    fn default() -> Self {
        Self::Address("dir:.kappaflow/registry".into())
    }
}

impl RegistryTable {
    /// A registry without credentials.
    pub fn of_urls(urls: Vec<String>) -> Self {
        Self {
            urls,
            username: None,
            password: None,
            token: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            timeout_ms: default_timeout_ms(),
            oauth: None,
        }
    }

    /// Settings that contradict each other.
    fn check(&self) -> Result<(), Problem> {
        if self.urls.is_empty() {
            return Err(("urls", "is empty; give at least one URL".into()));
        }
        if self.timeout_ms == 0 {
            return Err(("timeout_ms", "is 0, expected at least 1".into()));
        }
        if self.username.is_some() != self.password.is_some() {
            return Err(("password", "username and password go together".into()));
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Err(("key_file", "cert_file and key_file go together".into()));
        }
        let ways = [
            self.username.is_some(),
            self.token.is_some(),
            self.oauth.is_some(),
        ];
        if ways.iter().filter(|way| **way).count() > 1 {
            return Err((
                "",
                "choose one of username and password, token, and oauth".into(),
            ));
        }
        Ok(())
    }

    /// Secrets that stand there themselves.
    fn check_secrets(&self) -> Result<(), Problem> {
        let secrets = [
            ("password", self.password.as_ref()),
            ("token", self.token.as_ref()),
            (
                "oauth.client_secret",
                self.oauth.as_ref().map(|o| &o.client_secret),
            ),
        ];
        for (key, value) in secrets {
            if value.is_some_and(|v| !is_reference(v)) {
                return Err((
                    key,
                    "is a secret: give a reference, env:NAME or file:PATH, not the value".into(),
                ));
            }
        }
        self.urls.iter().try_for_each(|url| check_url(url, "urls"))
    }
}

impl RegistryConfig {
    /// What can be told without resolving references.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn check(&self) -> Result<(), Problem> {
        match self {
            Self::Address(address) => address.split(',').try_for_each(|url| check_url(url, "")),
            Self::Table(table) => table.check().and_then(|()| table.check_secrets()),
        }
    }

    /// For messages: nothing secret is in it.
    pub fn shown(&self) -> String {
        match self {
            Self::Address(address) => shown_urls(address),
            Self::Table(table) => shown_urls(&table.urls.join(",")),
        }
    }

    /// With references to whole configurations followed: `dir:` alone, or a table of URLs that are there.
    ///
    /// # Errors
    /// A reference that leads nowhere, or to what can't be used.
    pub(super) fn resolved(&self, base: &Path) -> Result<Self, String> {
        let table = match self {
            Self::Address(address) => match address.strip_prefix("conn:") {
                Some(name) => return connection(name)?.resolved(base),
                None => RegistryTable::of_urls(vec![address.clone()]),
            },
            Self::Table(table) => (**table).clone(),
        };
        let mut urls = Vec::new();
        for url in &table.urls {
            let text = resolve_reference(url, base)?;
            urls.extend(text.split(',').map(|u| u.trim().to_owned()));
        }
        urls.retain(|url| !url.is_empty());
        if let [one] = urls.as_slice()
            && one.starts_with("dir:")
        {
            return Ok(Self::Address(one.clone()));
        }
        let table = RegistryTable { urls, ..table };
        let told = |(key, reason): Problem| match key {
            "" => reason,
            key => format!("{key} {reason}"),
        };
        table.check().map_err(told)?;
        Ok(Self::Table(Box::new(table)))
    }
}

/// A connection that Airflow's operators have put into the environment for the length of a call.
fn connection(name: &str) -> Result<RegistryConfig, String> {
    let variable = connection_variable(name);
    let json = std::env::var(&variable).map_err(|_| {
        format!(
            "connection {name:?} is not here: Airflow's operators put it into {variable} while a stage runs; elsewhere name the registry itself, or set {variable}"
        )
    })?;
    // The text of the error would show what is in it.
    let config: RegistryConfig = serde_json::from_str(&json)
        .map_err(|_| format!("{variable} is not the JSON of a registry's settings"))?;
    match &config {
        RegistryConfig::Address(address) if address.starts_with("conn:") => {
            Err(format!("{variable} refers to another connection"))
        }
        _ => Ok(config),
    }
}

/// `KAPPAFLOW_CONN_MY_REGISTRY` for `my-registry`.
fn connection_variable(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    format!(
        "KAPPAFLOW_CONN_{}",
        name.chars().map(plain).collect::<String>()
    )
}

fn check_url(url: &str, key: &'static str) -> Result<(), Problem> {
    let url = url.trim();
    let alone = key.is_empty();
    let known = ["http://", "https://", "env:", "file:"]
        .iter()
        .any(|start| url.starts_with(start));
    if !known && !(alone && (url.starts_with("dir:") || url.starts_with("conn:"))) {
        let more = if alone {
            "dir:PATH (a local directory), conn:NAME, "
        } else {
            ""
        };
        let shown = shown_url(url);
        return Err((
            key,
            format!("{shown:?}: expected {more}http://… or https://…, env:NAME or file:PATH"),
        ));
    }
    if user_info(url).is_some_and(|info| info.contains(':')) {
        return Err((
            key,
            format!(
                "{:?} has a password in it: give username and password = \"env:NAME\" instead",
                shown_url(url)
            ),
        ));
    }
    Ok(())
}

fn shown_urls(urls: &str) -> String {
    let shown: Vec<String> = urls.split(',').map(|u| shown_url(u.trim())).collect();
    shown.join(",")
}

fn default_timeout_ms() -> u64 {
    10_000
}

impl<'de> Deserialize<'de> for RegistryConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;

        impl<'de> Visitor<'de> for Form {
            type Value = RegistryConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address (dir:PATH, https://…, conn:NAME) or a table with urls")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(RegistryConfig::Address(text.to_owned()))
            }

            // By hand, so that a wrong key of the table is named.
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                RegistryTable::deserialize(MapAccessDeserializer::new(map))
                    .map(|table| RegistryConfig::Table(Box::new(table)))
            }
        }

        deserializer.deserialize_any(Form)
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
