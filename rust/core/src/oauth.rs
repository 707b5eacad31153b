//! Tokens of an identity provider, held and renewed for all who sign in by them: by OAuth 2.0 client credentials, or from
//! a file that something else keeps.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::http::{self, Answer, NoAnswer, cut};

/// A token without a stated life is asked for again after this time.
const DEFAULT_LIFE: Duration = Duration::from_secs(300);
/// No token is trusted for longer, whatever the provider says.
const LONGEST_LIFE: Duration = Duration::from_secs(86_400);
/// A fifth of a token's life is left for clocks that differ and requests that take long.
const RENEWED_AT: f64 = 0.8;
/// Characters of a provider's own message.
const MOST_TOLD: usize = 500;

/// Why there is no token. It says what the provider, or the file, does: "refuses a token (401): …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It may be another thing the next time.
    #[error("{reason}")]
    Passing {
        reason: String,
        /// How long the provider asks to wait.
        after: Option<Duration>,
    },
    /// The provider says no: it does not know the client, or its secret is wrong, or not what it asks for.
    #[error("refuses a token ({status}): {reason}")]
    Refused { status: u16, reason: String },
    /// What answers gives no token that can be used.
    #[error("{0}")]
    NoToken(String),
    /// The request can't be made at all.
    #[error("can't be asked: {0}")]
    Settings(String),
}

impl TokenError {
    fn passing(reason: String) -> Self {
        Self::Passing {
            reason,
            after: None,
        }
    }
}

impl From<NoAnswer> for TokenError {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::NoConnection(reason)
            | NoAnswer::Passing(reason)
            | NoAnswer::NotHttp2(reason) => Self::passing(format!("does not answer: {reason}")),
            NoAnswer::TooLarge(reason) => Self::NoToken(format!("gives no token: {reason}")),
            NoAnswer::Settings(reason) => Self::Settings(reason),
        }
    }
}

/// A token. It is not shown, not even for debugging.
#[derive(Clone)]
pub struct Token {
    pub text: String,
    /// Whom it is for, if it is a JWT that says so.
    pub subject: Option<String>,
    /// When to ask for the next one: before this one ends.
    pub renew: Instant,
    pub ends: Instant,
}

impl Token {
    pub fn ended(&self) -> bool {
        Instant::now() >= self.ends
    }

    /// `asked`: when what came as `text` was asked for; `life`: what was said of it.
    fn new(text: &str, asked: Instant, life: Option<Duration>) -> Option<Self> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let claims = Claims::of(text).unwrap_or_default();
        let life = life
            .or_else(|| claims.left())
            .unwrap_or(DEFAULT_LIFE)
            .min(LONGEST_LIFE);
        Some(Self {
            text: text.to_owned(),
            subject: claims.sub,
            renew: asked + life.mul_f64(RENEWED_AT),
            ends: asked + life,
        })
    }
}

/// What a JWT says of itself. Its signature is the broker's to check.
#[derive(Default)]
struct Claims {
    sub: Option<String>,
    /// Seconds since 1970.
    exp: Option<f64>,
}

impl Claims {
    fn of(token: &str) -> Option<Self> {
        let payload = token.split('.').nth(1)?.trim_end_matches('=');
        let json = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let claims: serde_json::Value = serde_json::from_slice(&json).ok()?;
        Some(Self {
            sub: claims["sub"].as_str().map(str::to_owned),
            exp: claims["exp"].as_f64(),
        })
    }

    /// The time until it ends, by this machine's clock; none once it has.
    fn left(&self) -> Option<Duration> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let left_s = (self.exp? - now.as_secs_f64()).clamp(0.0, LONGEST_LIFE.as_secs_f64());
        Duration::try_from_secs_f64(left_s).ok()
    }
}

/// Where tokens come from, and the one that came last. Many callers at once ask once.
pub struct TokenSource {
    way: Way,
    /// Held while a token is asked for.
    held: Mutex<Option<Token>>,
}

enum Way {
    Credentials(Credentials),
    File(PathBuf),
}

/// What a client proves itself by.
pub struct Credentials {
    pub client: Client,
    pub token_url: Url,
    pub client_id: String,
    pub client_secret: String,
    pub scope: Option<String>,
}

impl TokenSource {
    pub fn of_credentials(credentials: Credentials) -> Self {
        Self {
            way: Way::Credentials(credentials),
            held: Mutex::new(None),
        }
    }

    /// The token in a file, read again when it is time to renew it.
    pub fn of_file(path: PathBuf) -> Self {
        Self {
            way: Way::File(path),
            held: Mutex::new(None),
        }
    }

    /// A token that has not ended: while none can be had, one that should have been renewed.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn token(&self) -> Result<Token, TokenError> {
        match self.renewed().await {
            Err(passing @ TokenError::Passing { .. }) => {
                let held = self.held.lock().await.clone();
                held.filter(|token| !token.ended()).ok_or(passing)
            }
            other => other,
        }
    }

    /// A token that need not be renewed yet.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn renewed(&self) -> Result<Token, TokenError> {
        let mut held = self.held.lock().await;
        if let Some(token) = held.as_ref().filter(|t| Instant::now() < t.renew) {
            return Ok(token.clone());
        }
        let token = match &self.way {
            Way::Credentials(credentials) => credentials.ask().await?,
            Way::File(path) => from_file(path)?,
        };
        *held = Some(token.clone());
        Ok(token)
    }

    /// Forgets a token that was refused, unless another caller has got a new one since.
    pub async fn forget(&self, refused: &str) {
        let mut held = self.held.lock().await;
        held.take_if(|token| token.text == refused);
    }
}

fn from_file(path: &Path) -> Result<Token, TokenError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| TokenError::passing(format!("can't be read: {e}")))?;
    match Token::new(text.trim(), Instant::now(), None) {
        Some(token) if token.ended() => {
            let reason = "holds a token that has ended; what keeps it there has not renewed it";
            Err(TokenError::passing(reason.into()))
        }
        Some(token) => Ok(token),
        // It may be written just now.
        None => Err(TokenError::passing("holds no token".into())),
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    /// Seconds.
    expires_in: Option<u64>,
}

/// As the standard (RFC 6749, 5.2) puts a refusal.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Credentials {
    async fn ask(&self) -> Result<Token, TokenError> {
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        let asked = Instant::now();
        let request = self
            .client
            .post(self.token_url.clone())
            .basic_auth(&self.client_id, Some(&self.client_secret))
            .form(&form);
        let answer = http::read(request).await?;
        if answer.status.is_success() {
            let granted = serde_json::from_slice::<Granted>(&answer.body).ok();
            return granted
                .and_then(|granted| {
                    let life = granted.expires_in.map(Duration::from_secs);
                    Token::new(&granted.access_token, asked, life)
                })
                .ok_or_else(|| TokenError::NoToken("answers without a token".into()));
        }
        if answer.passes() {
            return Err(TokenError::Passing {
                reason: format!("answers {}", answer.status),
                after: answer.after(),
            });
        }
        if answer.status.is_redirection() {
            let status = answer.status;
            let reason = format!("sends us elsewhere ({status}): name its token endpoint itself");
            return Err(TokenError::NoToken(reason));
        }
        // The standard's status for wrong credentials is 400 or 401.
        Err(TokenError::Refused {
            status: answer.status.as_u16(),
            reason: self.told(answer),
        })
    }

    /// What the provider says of its refusal, without what we told it.
    fn told(&self, mut answer: Answer) -> String {
        answer.body = self.hidden(&String::from_utf8_lossy(&answer.body)).into();
        let said = match serde_json::from_slice::<Refusal>(&answer.body) {
            Ok(refusal) if refusal.error_description.is_empty() => refusal.error,
            Ok(refusal) => format!("{}, {}", refusal.error, refusal.error_description),
            Err(_) => answer.said(),
        };
        // What JSON wrote in another way is out of it too.
        cut(self.hidden(&said), MOST_TOLD)
    }

    fn hidden(&self, text: &str) -> String {
        if self.client_secret.is_empty() {
            return text.to_owned();
        }
        let basic = STANDARD.encode(format!("{}:{}", self.client_id, self.client_secret));
        let quoted = serde_json::Value::from(self.client_secret.as_str()).to_string();
        [&basic, quoted.trim_matches('"'), &self.client_secret]
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }
}

#[cfg(test)]
#[path = "oauth_tests.rs"]
mod tests;
