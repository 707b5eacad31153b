//! Requests over HTTP, whoever makes them: one whole answer to each, URLs without secrets in messages, certificates,
//! and how long to wait before another try.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{AsHeaderName, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, ClientBuilder, Identity, RequestBuilder, StatusCode, Url};

pub const USER_AGENT: &str = concat!("kappaflow/", env!("CARGO_PKG_VERSION"));
/// No answer is larger.
const LARGEST: usize = 64 << 20;
/// Characters of an unexpected answer that are shown.
pub const SHOWN: usize = 120;
/// Longest wait before the second try; it doubles from try to try.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// No wait is longer, also if the server asks for it.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Why a request has no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Nobody is there now.
    NoConnection(String),
    /// It may be another thing the next time: no whole answer, or not in time.
    Passing(String),
    /// Only HTTP/2 was asked for, and the server does not speak it.
    NotHttp2(String),
    /// It is too large to be what was asked for.
    TooLarge(String),
    /// The request can't be made at all.
    Settings(String),
}

impl From<reqwest::Error> for NoAnswer {
    fn from(error: reqwest::Error) -> Self {
        let reason = causes(&error);
        if error.is_builder() {
            return Self::Settings(reason);
        }
        if is_not_http2(&error, &reason) {
            Self::NotHttp2(reason)
        } else if error.is_connect() || was_not_begun(&error) {
            Self::NoConnection(reason)
        } else {
            Self::Passing(reason)
        }
    }
}

/// Whether the server has not begun with the request: the connection was over, or it takes no more on this one.
pub fn was_not_begun(error: &(dyn std::error::Error + 'static)) -> bool {
    chain(error).any(|cause| {
        let hyper = cause.downcast_ref::<hyper::Error>();
        let h2 = cause.downcast_ref::<h2::Error>();
        hyper.is_some_and(hyper::Error::is_canceled)
            || h2.is_some_and(|e| {
                // A server that leaves names the last request that it began.
                e.reason() == Some(h2::Reason::REFUSED_STREAM)
                    || e.is_go_away() && e.reason() == Some(h2::Reason::NO_ERROR)
            })
    })
}

/// Whether the server shows that it speaks another protocol: by TLS before any request, or since what it sends is no frame.
fn is_not_http2(error: &reqwest::Error, reason: &str) -> bool {
    let no_frame = |cause: &(dyn std::error::Error + 'static)| {
        let h2 = cause.downcast_ref::<h2::Error>();
        h2.is_some_and(|e| e.is_library() && e.reason() == Some(h2::Reason::FRAME_SIZE_ERROR))
    };
    let is_alert = error.is_connect() && reason.contains("NoApplicationProtocol");
    is_alert || chain(error).any(no_frame)
}

fn chain<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |cause| cause.source())
}

/// A whole answer.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
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

    /// A header, if it is there and is text.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the server asks to wait.
    pub fn after(&self) -> Option<Duration> {
        let seconds = self.header(RETRY_AFTER)?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// Where the server sends us.
    pub fn location(&self) -> Option<&str> {
        self.header(LOCATION)
    }

    /// The beginning of what came, as words of one line.
    pub fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.is_empty() {
            return "it says no more".into();
        }
        cut(words, SHOWN)
    }
}

/// Sends a request and reads its answer to the end.
pub async fn read(request: RequestBuilder) -> Result<Answer, NoAnswer> {
    let mut response = request.send().await?;
    let mut answer = Answer {
        status: response.status(),
        headers: std::mem::take(response.headers_mut()),
        body: Vec::new(),
    };
    while let Some(chunk) = response.chunk().await? {
        if answer.body.len() + chunk.len() > LARGEST {
            let reason = format!("its answer is larger than {} MiB", LARGEST >> 20);
            return Err(NoAnswer::TooLarge(reason));
        }
        answer.body.extend_from_slice(&chunk);
    }
    Ok(answer)
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
    match innermost(error) {
        Some(cause) if !error.is_timeout() => format!("{kind} ({cause})"),
        _ => kind.to_owned(),
    }
}

fn innermost(error: &reqwest::Error) -> Option<String> {
    let source = std::error::Error::source(error);
    let chain = std::iter::successors(source, |cause| cause.source());
    chain.last().map(ToString::to_string)
}

/// What all our clients begin with. With TLS they would ask for HTTP/2 too: who wants it says so.
pub fn client() -> ClientBuilder {
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .http1_only()
}

/// The client, or why it can't be what its TLS settings say.
pub fn build(builder: ClientBuilder) -> Result<reqwest::Client, String> {
    builder.build().map_err(|e| {
        let cause = innermost(&e).unwrap_or_else(|| e.to_string());
        format!("its TLS settings can't be used: {cause}")
    })
}

/// Trusts the certificate authorities of a PEM text beside the system's; `None` if there are none in it.
pub fn trust(mut builder: ClientBuilder, pem: &[u8]) -> Option<ClientBuilder> {
    let found = Certificate::from_pem_bundle(pem).unwrap_or_default();
    if found.is_empty() {
        return None;
    }
    for certificate in found {
        builder = builder.add_root_certificate(certificate);
    }
    Some(builder)
}

/// Files of PEM certificates, relative to a directory.
pub struct Files<'f> {
    pub base: &'f Path,
    /// Certificate authorities that are trusted beside the system's.
    pub ca_file: Option<&'f str>,
    /// The client's own certificate, and its key.
    pub cert_file: Option<&'f str>,
    pub key_file: Option<&'f str>,
}

/// PEM texts.
type CertificateAndKey = (Vec<u8>, Vec<u8>);

impl Files<'_> {
    /// The PEM text of `ca_file`.
    ///
    /// # Errors
    /// The file that can't be read, and why.
    pub fn authorities(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(path) = self.ca_file else {
            return Ok(None);
        };
        let pem = self.read("ca_file", path)?;
        match Certificate::from_pem_bundle(&pem) {
            Ok(found) if !found.is_empty() => Ok(Some(pem)),
            _ => Err(format!("ca_file {path} holds no PEM certificate")),
        }
    }

    /// The PEM texts of `cert_file` and `key_file`.
    ///
    /// # Errors
    /// The file that can't be used, and why.
    pub fn identity(&self) -> Result<Option<CertificateAndKey>, String> {
        let (Some(cert_file), Some(key_file)) = (self.cert_file, self.key_file) else {
            return Ok(None);
        };
        let mut cert = self.read("cert_file", cert_file)?;
        cert.push(b'\n');
        let key = self.read("key_file", key_file)?;
        match Identity::from_pem(&[cert.as_slice(), key.as_slice()].concat()) {
            Ok(_) => Ok(Some((cert, key))),
            Err(_) => Err(format!(
                "cert_file {cert_file} and key_file {key_file} are no PEM certificate and private key without a password"
            )),
        }
    }

    fn read(&self, what: &str, path: &str) -> Result<Vec<u8>, String> {
        let path = self.base.join(path);
        std::fs::read(&path).map_err(|e| format!("can't read {what} {}: {e}", path.display()))
    }
}

/// Uses these certificates.
///
/// # Errors
/// Which file can't be used, and why.
pub fn certificates(
    mut builder: ClientBuilder,
    files: &Files<'_>,
) -> Result<ClientBuilder, String> {
    if let Some(pem) = files.authorities()? {
        builder = trust(builder, &pem).ok_or("ca_file holds no PEM certificate")?;
    }
    if let Some((cert, key)) = files.identity()? {
        let identity = Identity::from_pem(&[cert, key].concat());
        builder = builder.identity(identity.map_err(|e| e.to_string())?);
    }
    Ok(builder)
}

/// The wait before try `round` (the second is 1): a random part of a time that doubles, so that callers who failed
/// together do not come back together. At least what the server asks for, within bounds.
pub fn backoff(round: u32, asked: Option<Duration>) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(round.saturating_sub(1)));
    let chosen = doubled.min(LONGEST_WAIT).mul_f64(fastrand::f64());
    match asked {
        Some(asked) => chosen.max(asked.min(LONGEST_WAIT)),
        None => chosen,
    }
}

/// An `http://` or `https://` URL.
///
/// # Errors
/// What is wrong with it; no secret is shown.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let shown = shown_url(text);
    let url = Url::parse(text).map_err(|e| format!("{shown:?} is no URL: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("{shown:?}: expected http://HOST… or https://HOST…"));
    }
    Ok(url)
}

/// The part of a URL before the last `@`: a password that holds `/`, `?` or `#` ends the host part too early, and is one
/// nevertheless.
pub fn user_info(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.rsplit_once('@').map(|(info, _)| info)
}

/// A URL without its user info, or what may be some.
pub fn shown_url(url: &str) -> String {
    let (scheme, rest) = url
        .split_once("://")
        .map_or(("", url), |(scheme, rest)| (&url[..scheme.len() + 3], rest));
    if let Some((_, after)) = rest.rsplit_once('@') {
        return format!("{scheme}{after}");
    }
    // A list of URLs is cut at its commas, and so is a password with one: its first part stands where a port does.
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    if scheme.starts_with("http") && !port.chars().all(|c| c.is_ascii_digit() || c == ']') {
        return format!("{scheme}…");
    }
    url.to_owned()
}

/// The first characters of a text.
pub fn cut(mut text: String, most: usize) -> String {
    if let Some((at, _)) = text.char_indices().nth(most) {
        text.truncate(at);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_are_random_and_keep_to_what_the_server_asks_within_bounds() {
        for round in 1..40 {
            let longest = FIRST_WAIT * 2_u32.pow((round - 1).min(10));
            assert!(backoff(round, None) <= longest.min(LONGEST_WAIT));
        }
        let asked = Duration::from_secs(3);
        assert!(backoff(1, Some(asked)) >= asked);
        assert_eq!(backoff(1, Some(LONGEST_WAIT * 9)), LONGEST_WAIT);
    }
}
