//! How requests are signed: not at all, by user name and password, by a token, or by tokens of an identity provider.

use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::answer::{self, Failure};

/// A token without a stated life is asked for again after this time.
const DEFAULT_LIFE: Duration = Duration::from_secs(300);
/// No token is trusted for longer, whatever the provider says.
const LONGEST_LIFE: Duration = Duration::from_secs(86_400);

pub enum Auth {
    None,
    Basic { username: String, password: String },
    Bearer(String),
    Tokens(Box<OAuth>),
}

impl Auth {
    /// Signs a request. Gives the token that was used, if it is one that can be renewed.
    pub async fn sign(
        &self,
        client: &Client,
        request: RequestBuilder,
    ) -> Result<(RequestBuilder, Option<String>), Failure> {
        Ok(match self {
            Self::None => (request, None),
            Self::Basic { username, password } => {
                (request.basic_auth(username, Some(password)), None)
            }
            Self::Bearer(token) => (request.bearer_auth(token), None),
            Self::Tokens(oauth) => {
                let token = oauth.token(client).await?;
                (request.bearer_auth(&token), Some(token))
            }
        })
    }

    /// Forgets a token that was refused, unless another caller has got a new one since.
    pub async fn forget(&self, refused: &str) {
        if let Self::Tokens(oauth) = self {
            let mut held = oauth.held.lock().await;
            held.take_if(|token| token.text == refused);
        }
    }
}

/// Client credentials, and the token that they were last exchanged for.
pub struct OAuth {
    pub token_url: Url,
    pub client_id: String,
    pub client_secret: String,
    pub scope: Option<String>,
    /// Held while a token is asked for, so that many callers ask once.
    pub held: Mutex<Option<Token>>,
}

pub struct Token {
    text: String,
    /// When to ask for the next one: before this one ends.
    renew: Instant,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    /// Seconds.
    expires_in: Option<u64>,
}

impl OAuth {
    async fn token(&self, client: &Client) -> Result<String, Failure> {
        let mut held = self.held.lock().await;
        if let Some(token) = held.as_ref().filter(|t| Instant::now() < t.renew) {
            return Ok(token.text.clone());
        }
        let asked = Instant::now();
        let granted = self.ask(client).await?;
        let life = granted.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
        // A fifth of its life is left for clocks that differ and requests that take long.
        let renew = asked + life.min(LONGEST_LIFE).mul_f64(0.8);
        let text = granted.access_token;
        *held = Some(Token {
            text: text.clone(),
            renew,
        });
        Ok(text)
    }

    async fn ask(&self, client: &Client) -> Result<Granted, Failure> {
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        let request = client
            .post(self.token_url.clone())
            .basic_auth(&self.client_id, Some(&self.client_secret))
            .form(&form);
        let answer = answer::read(request).await.map_err(|f| f.of_tokens())?;
        if answer.status.is_success() {
            return serde_json::from_slice(&answer.body).map_err(|_| {
                Failure::NotARegistry("its identity provider answers without a token".into())
            });
        }
        if answer.passes() {
            let reason = format!("its identity provider answers {}", answer.status);
            return Err(Failure::Passing {
                reason,
                after: answer.after,
            });
        }
        // The standard's status for wrong credentials is 400; what the answer says of them holds no secret.
        Err(Failure::Denied {
            status: answer.status.as_u16(),
            reason: format!("its identity provider refuses a token: {}", answer.said()),
        })
    }
}
