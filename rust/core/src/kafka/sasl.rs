//! How clients sign in, as a region's options say it by librdkafka's names: what can't be together, or can't be done by
//! this build, is refused by name before anything is asked.
//!
//! librdkafka gets tokens of identity providers itself only where it was built with libcurl. Here the options are the
//! same, and we get the tokens.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::Policy;

use crate::http;
use crate::job::{is_reference, resolve_reference};
use crate::oauth::{Credentials, TokenSource};

const PROTOCOL: &str = "security.protocol";
const METHOD: &str = "sasl.oauthbearer.method";
const ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";
const SCOPE: &str = "sasl.oauthbearer.scope";
const EXTENSIONS: &str = "sasl.oauthbearer.extensions";
const GRANT: &str = "sasl.oauthbearer.grant.type";
const UNSECURED: &str = "enable.sasl.oauthbearer.unsecure.jwt";
const CA_FILE: &str = "https.ca.location";
const CA_PEM: &str = "https.ca.pem";
/// Names of one option, each.
const MECHANISM: [&str; 2] = ["sasl.mechanism", "sasl.mechanisms"];
const CLIENT_ID: [&str; 2] = [
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.credentials.client.id",
];
const CLIENT_SECRET: [&str; 2] = [
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
];
/// Other ways of librdkafka's to tokens, and how their names begin.
const OTHER_WAYS: [&str; 3] = [
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.assertion.",
    "sasl.oauthbearer.metadata.",
];
/// Longest wait for a provider's answer.
const ANSWER: Duration = Duration::from_secs(10);

type Options = BTreeMap<String, String>;
/// An option that can't be used as it is, and why.
pub type Problem = (String, String);

/// Whether `option` says how tokens are got: it is for us, and not passed on.
pub fn is_ours(option: &str) -> bool {
    [METHOD, ENDPOINT, SCOPE, EXTENSIONS, GRANT, CA_FILE, CA_PEM].contains(&option)
        || CLIENT_ID.contains(&option)
        || CLIENT_SECRET.contains(&option)
}

/// The value of an option, where it may be a reference to it.
///
/// # Errors
/// The reference leads nowhere.
pub fn resolved(option: &str, value: &str, base: &Path) -> Result<String, String> {
    match option {
        // A token's file is named by a URL, which is no reference to what is in it.
        ENDPOINT if value.starts_with("file:") => Ok(value.to_owned()),
        _ => resolve_reference(value, base),
    }
}

/// Checks what can be told before references are followed: what they refer to is taken to be right.
///
/// # Errors
/// The first option that contradicts another, is missing, or asks for what this build can't do.
pub fn check(options: &Options) -> Result<(), Problem> {
    let options = Given(options);
    let mechanism = options.mechanism();
    let method = options.get(&[METHOD]);
    match method.and_then(Value::literal) {
        None | Some("default" | "oidc") => {}
        Some(other) => return wrong(METHOD, format!("is {other:?}: expected oidc or default")),
    }
    match method {
        Some(Value::Literal("oidc")) => options.check_oidc(mechanism),
        // It may say oidc.
        Some(Value::Reference) => Ok(()),
        None | Some(Value::Literal(_)) => options.check_without_oidc(mechanism),
    }
}

/// What an option says, as far as it can be told yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    Literal(&'a str),
    Reference,
}

impl<'a> Value<'a> {
    fn literal(self) -> Option<&'a str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Reference => None,
        }
    }
}

struct Given<'a>(&'a Options);

impl<'a> Given<'a> {
    /// By the first of its names that is there.
    fn get(&self, names: &[&str]) -> Option<Value<'a>> {
        let (name, text) = names.iter().find_map(|name| self.0.get_key_value(*name))?;
        let url_of_file = name == ENDPOINT && text.starts_with("file:");
        Some(match is_reference(text) && !url_of_file {
            true => Value::Reference,
            false => Value::Literal(text),
        })
    }

    fn mechanism(&self) -> Option<Value<'a>> {
        self.get(&MECHANISM)
    }

    /// Whether clients may sign in at all; `true` where it can't be told yet.
    fn signs_in(&self) -> bool {
        match self.get(&[PROTOCOL]) {
            None => false,
            Some(Value::Reference) => true,
            Some(Value::Literal(name)) => name.to_lowercase().starts_with("sasl_"),
        }
    }

    /// Whether librdkafka makes tokens that nobody has signed.
    fn makes_unsecured(&self) -> bool {
        self.get(&[UNSECURED])
            .is_some_and(|value| value != Value::Literal("false"))
    }

    fn lacks_gssapi(&self, mechanism: Option<Value<'_>>) -> Option<String> {
        const WAY_OUT: &str = "this build lacks (Kerberos): build KappaFlow from source with its feature gssapi, or choose another mechanism (docs/security.md)";
        if cfg!(feature = "gssapi") || !self.signs_in() {
            return None;
        }
        match mechanism {
            Some(Value::Literal("GSSAPI")) => Some(format!("is GSSAPI, which {WAY_OUT}")),
            None if self.get(&[PROTOCOL]).is_some_and(|p| p.literal().is_some()) => {
                Some(format!("is not given, and then is GSSAPI, which {WAY_OUT}"))
            }
            _ => None,
        }
    }

    fn check_without_oidc(&self, mechanism: Option<Value<'_>>) -> Result<(), Problem> {
        if let Some(reason) = self.lacks_gssapi(mechanism) {
            return wrong(MECHANISM[0], reason);
        }
        if let Some(option) = self.0.keys().find(|o| is_ours(o) && *o != METHOD) {
            return wrong(
                option,
                format!("is of use only with {METHOD} = \"oidc\": add that, or take it out"),
            );
        }
        if mechanism == Some(Value::Literal("OAUTHBEARER"))
            && self.signs_in()
            && !self.makes_unsecured()
        {
            return wrong(
                METHOD,
                format!("is missing: OAUTHBEARER gets its tokens by {METHOD} = \"oidc\""),
            );
        }
        Ok(())
    }

    fn check_oidc(&self, mechanism: Option<Value<'_>>) -> Result<(), Problem> {
        match mechanism {
            Some(Value::Reference | Value::Literal("OAUTHBEARER")) => {}
            Some(Value::Literal(other)) => {
                return wrong(
                    MECHANISM[0],
                    format!("is {other}, and {METHOD} = \"oidc\" goes with OAUTHBEARER"),
                );
            }
            None => {
                return wrong(MECHANISM[0], "is missing: expected OAUTHBEARER");
            }
        }
        if !self.signs_in() {
            return wrong(
                PROTOCOL,
                "lets no client sign in: expected SASL_SSL (or SASL_PLAINTEXT, which shows the token to all on the way)",
            );
        }
        let other = |option: &&String| {
            OTHER_WAYS.iter().any(|way| option.starts_with(way))
                || (option.as_str() == UNSECURED && self.makes_unsecured())
        };
        if let Some(option) = self.0.keys().find(other) {
            return wrong(
                option,
                format!(
                    "is another way to a token than {METHOD} = \"oidc\" has here: client credentials, or a file"
                ),
            );
        }
        match self.get(&[GRANT]) {
            None | Some(Value::Reference | Value::Literal("client_credentials")) => {}
            Some(Value::Literal(grant)) => {
                return wrong(GRANT, format!("is {grant:?}: expected client_credentials"));
            }
        }
        if self.0.contains_key(CA_FILE) && self.0.contains_key(CA_PEM) {
            return wrong(CA_PEM, format!("and {CA_FILE} say the same: choose one"));
        }
        if let Some(Value::Literal(text)) = self.get(&[EXTENSIONS]) {
            extensions(text).map_err(|reason| (EXTENSIONS.to_owned(), reason))?;
        }
        self.check_endpoint()
    }

    fn check_endpoint(&self) -> Result<(), Problem> {
        let endpoint = match self.get(&[ENDPOINT]) {
            None => {
                return wrong(
                    ENDPOINT,
                    "is missing: expected https://… of the identity provider, or file:///… of a token",
                );
            }
            Some(Value::Reference) => None,
            Some(Value::Literal(text)) => {
                let endpoint = Endpoint::parse(text);
                Some(endpoint.map_err(|reason| (ENDPOINT.to_owned(), reason))?)
            }
        };
        let own: [&[&str]; 4] = [&CLIENT_ID, &CLIENT_SECRET, &[SCOPE], &[GRANT]];
        if let Some(Endpoint::File(_)) = endpoint {
            let given = own.iter().flat_map(|names| names.iter());
            return match given.copied().find(|name| self.0.contains_key(*name)) {
                Some(option) => wrong(
                    option,
                    format!(
                        "is for an identity provider, and {ENDPOINT} is a file that has the token"
                    ),
                ),
                None => Ok(()),
            };
        }
        for names in [CLIENT_ID, CLIENT_SECRET] {
            // It may be a file's, and then none is needed.
            if endpoint.is_some() && self.get(&names).is_none() {
                return wrong(names[0], format!("is missing: {ENDPOINT} asks for it"));
            }
        }
        Ok(())
    }
}

fn wrong<T>(option: &str, reason: impl Into<String>) -> Result<T, Problem> {
    Err((option.to_owned(), reason.into()))
}

/// Where tokens are.
enum Endpoint {
    Provider(Box<reqwest::Url>),
    File(PathBuf),
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix("file:") else {
            if http::user_info(text).is_some() {
                return Err(format!(
                    "{:?} has a user name in it: give {} and {} instead",
                    http::shown_url(text),
                    CLIENT_ID[0],
                    CLIENT_SECRET[0]
                ));
            }
            return http::parse_url(text).map(|url| Self::Provider(Box::new(url)));
        };
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') {
            return Err(format!("{text:?}: expected file:///… with the whole path"));
        }
        Ok(Self::File(PathBuf::from(path)))
    }
}

/// `key=value,key=value`, as they are sent to brokers with each token.
fn extensions(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let Some((key, value)) = part.split_once('=') else {
            return Err(format!("{part:?}: expected key=value[,key=value]"));
        };
        // As the standard (RFC 7628, 3.1) has them.
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphabetic()) || key == "auth" {
            return Err(format!(
                "{key:?} can't be a key: expected letters a-z and A-Z, and not \"auth\""
            ));
        }
        if !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return Err(format!(
                "the value of {key} has characters that can't be sent"
            ));
        }
        found.push((key.to_owned(), value.to_owned()));
    }
    Ok(found)
}

/// The identity provider of a region's clients.
pub struct Oidc {
    pub source: TokenSource,
    /// Where tokens are, for messages: without a query, which may hold a secret.
    pub place: String,
    /// Whose answers those of [`TokenSource`] are, for messages.
    pub who: &'static str,
    /// Who signs in, where a token does not say.
    pub client_id: String,
    pub extensions: Vec<(String, String)>,
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Oidc");
        shown.field("place", &self.place).finish_non_exhaustive()
    }
}

impl Oidc {
    /// As the options say, references resolved; `None` if clients sign in another way.
    ///
    /// # Errors
    /// What is wrong, as [`check`] and of certificates.
    pub fn of(options: &Options) -> Result<Option<Self>, Problem> {
        check(options)?;
        if options.get(METHOD).map(String::as_str) != Some("oidc") {
            return Ok(None);
        }
        let text = |names: &[&str]| {
            let found = names.iter().find_map(|name| options.get(*name));
            found.cloned().unwrap_or_default()
        };
        let of = |option: &'static str| move |reason| (option.to_owned(), reason);
        let extensions = extensions(&text(&[EXTENSIONS])).map_err(of(EXTENSIONS))?;
        let endpoint = Endpoint::parse(&text(&[ENDPOINT])).map_err(of(ENDPOINT))?;
        let client_id = text(&CLIENT_ID);
        let (source, place, who) = match endpoint {
            Endpoint::File(path) => {
                let place = path.display().to_string();
                (TokenSource::of_file(path), place, "the file of the token")
            }
            Endpoint::Provider(url) => {
                let mut shown = url.clone();
                shown.set_query(None);
                let source = TokenSource::of_credentials(Credentials {
                    client: client(options)?,
                    token_url: *url,
                    client_id: client_id.clone(),
                    client_secret: text(&CLIENT_SECRET),
                    scope: options.get(SCOPE).cloned(),
                });
                (source, shown.to_string(), "the identity provider")
            }
        };
        Ok(Some(Self {
            source,
            place,
            who,
            client_id,
            extensions,
        }))
    }
}

/// What asks the provider. Each request has a connection of its own: those who ask do it on runtimes of their own, and
/// a connection does not outlive its runtime.
fn client(options: &Options) -> Result<Client, Problem> {
    let mut builder = http::client()
        .timeout(ANSWER)
        .redirect(Policy::none())
        .pool_max_idle_per_host(0);
    let of_broker = options
        .get("ssl.ca.location")
        .filter(|path| Path::new(path).is_file());
    let file = options.get(CA_FILE).filter(|path| *path != "probe");
    let pem = match (options.get(CA_PEM), file.or(of_broker)) {
        (Some(pem), _) => Some((CA_PEM, pem.clone().into_bytes())),
        (None, Some(path)) => {
            let read = std::fs::read(path);
            let pem = read.map_err(|e| (CA_FILE.to_owned(), format!("can't read {path}: {e}")))?;
            Some((CA_FILE, pem))
        }
        (None, None) => None,
    };
    if let Some((option, pem)) = pem {
        builder = http::trust(builder, &pem)
            .ok_or_else(|| (option.to_owned(), "holds no PEM certificate".to_owned()))?;
    }
    http::build(builder).map_err(|reason| (CA_FILE.to_owned(), reason))
}

#[cfg(test)]
#[path = "sasl_tests.rs"]
mod tests;
