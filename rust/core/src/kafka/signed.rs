//! Clients of a cluster, whatever they sign in by. Where that is tokens of an identity provider, a thread of the client's
//! renews them as long as it lives.
//!
//! librdkafka's own way to ask us for a token, an event, comes only to those who poll, and the safe API gives it no
//! extensions; so tokens are put into the client before it asks.

use std::ffi::{CStr, CString, c_char};
use std::ops::Deref;
use std::ptr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::producer::{
    BaseProducer, FutureProducer, Producer, ProducerContext, ThreadedProducer,
};
use rdkafka_sys as sys;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::time::{Instant as TokioInstant, sleep, sleep_until, timeout_at};

use super::Cluster;
use super::sasl::Oidc;
use crate::error::{Error, Result};
use crate::http::backoff;
use crate::oauth::{Token, TokenError};

/// The first token may take so long, with all tries.
const FIRST: Duration = Duration::from_secs(10);
/// Tries of the first one.
const TRIES: u32 = 4;
/// A token that a file keeps is not looked at more often, however short its life.
const SOONEST: Duration = Duration::from_millis(250);

/// A client that is signed in for as long as it lives.
pub struct Signed<T> {
    // Dropped in this order: nothing renews the tokens of a client that is being destroyed.
    _renewal: Option<Renewal>,
    client: T,
}

impl<T> Deref for Signed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.client
    }
}

/// A client of the safe API.
pub trait Native {
    /// Its handle, valid while it lives.
    fn native(&self) -> *mut sys::rd_kafka_t;
}

impl<C: ConsumerContext> Native for BaseConsumer<C> {
    fn native(&self) -> *mut sys::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext> Native for BaseProducer<C> {
    fn native(&self) -> *mut sys::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext + 'static> Native for ThreadedProducer<C> {
    fn native(&self) -> *mut sys::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ClientContext + 'static> Native for FutureProducer<C> {
    fn native(&self) -> *mut sys::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ClientContext> Native for AdminClient<C> {
    fn native(&self) -> *mut sys::rd_kafka_t {
        self.inner().native_ptr()
    }
}

impl Cluster {
    /// Makes a client, and has it signed in where tokens are needed for that. `what` is for messages. Blocking.
    ///
    /// # Errors
    /// [`Error::Kafka`] if librdkafka refuses an option, or no token can be had: with the provider and what it says.
    pub fn connect<C, T>(&self, what: &str, config: &ClientConfig, context: C) -> Result<Signed<T>>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C> + Native,
    {
        let oidc = self.oidc()?;
        let client: T = config
            .create_with_context(context)
            .map_err(|e| self.error(what, e))?;
        let renewal = oidc.map(|oidc| Renewal::start(self, oidc, client.native()));
        Ok(Signed {
            _renewal: renewal.transpose()?,
            client,
        })
    }
}

/// The thread that puts tokens into a client. Dropped, it ends at once, also in the middle of a request.
struct Renewal {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Renewal {
    /// Starts it, and waits until the client has its first token.
    fn start(cluster: &Cluster, oidc: Arc<Oidc>, client: *mut sys::rd_kafka_t) -> Result<Self> {
        let place = oidc.place.clone();
        let (end, ended) = oneshot::channel();
        let (tell, told) = sync_channel(1);
        let bearer = Bearer {
            client: Handle(client),
            oidc,
        };
        let thread = thread::Builder::new()
            .name("kappaflow-token".into())
            .spawn(move || bearer.run(ended, &tell))
            .map_err(Error::io("start a thread to sign in by", &place))?;
        let renewal = Self {
            end: Some(end),
            thread: Some(thread),
        };
        let first = told.recv().unwrap_or_else(|e| Err(e.to_string()));
        first.map_err(|reason| cluster.error(format!("sign in by {place}"), reason))?;
        Ok(renewal)
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// A client's handle, in the thread that is joined before the client is destroyed.
struct Handle(*mut sys::rd_kafka_t);

// SAFETY: librdkafka's handles may be used from any thread.
unsafe impl Send for Handle {}

/// The thread's part.
struct Bearer {
    client: Handle,
    oidc: Arc<Oidc>,
}

impl Bearer {
    fn run(self, ended: oneshot::Receiver<()>, tell: &SyncSender<Result<(), String>>) {
        let built = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match built {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = tell.send(Err(format!("no runtime for it: {error}")));
                return;
            }
        };
        runtime.block_on(async {
            tokio::select! {
                _ = ended => {}
                () = self.bear(tell) => {}
            }
        });
        // A name that is being looked up is not waited for.
        runtime.shutdown_background();
    }

    /// Ends only if there is no first token.
    async fn bear(&self, tell: &SyncSender<Result<(), String>>) {
        let first = self.first().await.and_then(|token| {
            self.take(&token)?;
            Ok(token)
        });
        // Who waits for it holds the other end.
        let mut token = match first {
            Ok(token) => {
                let _ = tell.send(Ok(()));
                token
            }
            Err(reason) => {
                let _ = tell.send(Err(reason));
                return;
            }
        };
        loop {
            let renew = token.renew.max(Instant::now() + SOONEST);
            sleep_until(TokioInstant::from_std(renew)).await;
            token = self.next(token).await;
        }
    }

    /// The first token. A wrong secret is told at once; that nobody answers, after some tries.
    async fn first(&self) -> Result<Token, String> {
        let deadline = TokioInstant::now() + FIRST;
        let mut last = TokenError::Passing {
            reason: format!("does not answer within {} s", FIRST.as_secs()),
            after: None,
        };
        for round in 1..=TRIES {
            match timeout_at(deadline, self.oidc.source.token()).await {
                Ok(Ok(token)) => return Ok(token),
                Ok(Err(passing @ TokenError::Passing { .. })) => last = passing,
                Ok(Err(error)) => return Err(self.told(&error)),
                Err(_) => break,
            }
            let wait = backoff(round, after(&last));
            if round == TRIES || TokioInstant::now() + wait >= deadline {
                break;
            }
            sleep(wait).await;
        }
        Err(self.told(&last))
    }

    /// The token after this one, however long that takes.
    async fn next(&self, before: Token) -> Token {
        let mut round = 0;
        loop {
            let (reason, asked) = match self.oidc.source.renewed().await {
                Ok(token) => match self.take(&token) {
                    Ok(()) => return token,
                    Err(reason) => (reason, None),
                },
                Err(error) => (self.told(&error), after(&error)),
            };
            // While the one before is good, nothing is wrong yet.
            if before.ended() {
                self.client.fail(&reason);
            }
            round += 1;
            sleep(backoff(round, asked)).await;
        }
    }

    fn take(&self, token: &Token) -> Result<(), String> {
        if token.ended() {
            return Err(format!("{} gives a token that has ended", self.oidc.who));
        }
        let principal = match &token.subject {
            Some(subject) => subject,
            None => &self.oidc.client_id,
        };
        self.client.take(token, principal, &self.oidc.extensions)
    }

    fn told(&self, error: &TokenError) -> String {
        format!("{} {error}", self.oidc.who)
    }
}

fn after(error: &TokenError) -> Option<Duration> {
    match error {
        TokenError::Passing { after, .. } => *after,
        _ => None,
    }
}

impl Handle {
    /// Gives the client a token.
    fn take(
        &self,
        token: &Token,
        principal: &str,
        extensions: &[(String, String)],
    ) -> Result<(), String> {
        let text = |text: &str| CString::new(text).map_err(|e| e.to_string());
        let (value, principal) = (text(&token.text)?, text(principal)?);
        let mut texts = Vec::with_capacity(2 * extensions.len());
        for (key, value) in extensions {
            texts.extend([text(key)?, text(value)?]);
        }
        let mut pairs: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
        let left = token.ends.saturating_duration_since(Instant::now());
        let ends = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            + left;
        let mut why = [0; 512];
        // SAFETY: the client outlives this thread; all texts live through the call, which copies them, and `why` has the
        // room that is said.
        let code = unsafe {
            sys::rd_kafka_oauthbearer_set_token(
                self.0,
                value.as_ptr(),
                i64::try_from(ends.as_millis()).unwrap_or(i64::MAX),
                principal.as_ptr(),
                if pairs.is_empty() {
                    ptr::null_mut()
                } else {
                    pairs.as_mut_ptr()
                },
                pairs.len(),
                why.as_mut_ptr(),
                why.len(),
            )
        };
        match code {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            _ => {
                // SAFETY: the call has written a C string there.
                let why = unsafe { CStr::from_ptr(why.as_ptr()) };
                Err(format!(
                    "the token can't be used: {}",
                    why.to_string_lossy()
                ))
            }
        }
    }

    /// Tells the client that it has no token any more, and why: an error of its own, once for each reason.
    fn fail(&self, reason: &str) {
        if let Ok(reason) = CString::new(reason) {
            // SAFETY: the client outlives this thread; the text is copied.
            unsafe { sys::rd_kafka_oauthbearer_set_token_failure(self.0, reason.as_ptr()) };
        }
    }
}
