//! How requests are signed: not at all, by user name and password, by a token, or by tokens of an identity provider.

use reqwest::RequestBuilder;

use super::answer::Failure;
use crate::oauth::TokenSource;

pub enum Auth {
    None,
    Basic { username: String, password: String },
    Bearer(String),
    Tokens(Box<TokenSource>),
}

impl Auth {
    /// Signs a request. Gives the token that was used, if it is one that can be renewed.
    pub async fn sign(
        &self,
        request: RequestBuilder,
    ) -> Result<(RequestBuilder, Option<String>), Failure> {
        Ok(match self {
            Self::None => (request, None),
            Self::Basic { username, password } => {
                (request.basic_auth(username, Some(password)), None)
            }
            Self::Bearer(token) => (request.bearer_auth(token), None),
            Self::Tokens(source) => {
                let token = source.token().await?.text;
                (request.bearer_auth(&token), Some(token))
            }
        })
    }

    /// Forgets a token that was refused, unless another caller has got a new one since.
    pub async fn forget(&self, refused: &str) {
        if let Self::Tokens(source) = self {
            source.forget(refused).await;
        }
    }
}
