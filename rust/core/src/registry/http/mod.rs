//! A registry with Confluent's API over HTTP: Confluent's own, Apicurio, Karapace.

mod answer;
mod auth;
mod flights;
mod transport;

use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use kappaflow_avro::framing::Guid;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::runtime::Handle;

use super::config::RegistryTable;
use super::error::RegistryError;
use super::rules;
use super::types::{
    Compatibility, Found, Level, Registered, SchemaText, Version, Which, read_guid,
};
use super::{SchemaRegistry, references};
use flights::Flights;
use transport::{Ask, AskError, Transport};

type Result<T> = std::result::Result<T, RegistryError>;

/// See the module. Its calls block: on a thread of a runtime, use `spawn_blocking`.
pub struct HttpRegistry {
    inner: Arc<Inner>,
    runtime: Handle,
}

/// What calls that outlive their caller share.
struct Inner {
    transport: Transport,
    by_id: Flights<u32, Found>,
    by_guid: Flights<Guid, Found>,
    registered: Flights<(String, SchemaText, bool), Registered>,
}

/// An answer with a schema and no version.
#[derive(Deserialize)]
struct Kept {
    #[serde(flatten)]
    text: SchemaText,
    #[serde(default, deserialize_with = "read_guid")]
    guid: Option<Guid>,
    /// Absent: Avro.
    #[serde(default, rename = "schemaType")]
    schema_type: Option<String>,
}

#[derive(Deserialize)]
struct Verdict {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "compatibilityLevel")]
    level: String,
}

impl HttpRegistry {
    /// A client. Nothing is asked yet.
    ///
    /// # Errors
    /// [`RegistryError::Settings`].
    pub fn new(table: &RegistryTable, base: &Path, shown: &str) -> Result<Self> {
        let wrong = |reason: String| RegistryError::Settings {
            url: shown.to_owned(),
            reason,
        };
        let runtime = Handle::try_current().map_err(|e| wrong(e.to_string()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                transport: Transport::new(table, base).map_err(wrong)?,
                by_id: Flights::default(),
                by_guid: Flights::default(),
                registered: Flights::default(),
            }),
            runtime,
        })
    }
}

impl SchemaRegistry for HttpRegistry {
    fn register(&self, subject: &str, text: &SchemaText, normalize: bool) -> Result<Registered> {
        let key = (subject.to_owned(), text.clone(), normalize);
        let inner = Arc::clone(&self.inner);
        self.runtime
            .block_on(self.inner.registered.get(key.clone(), || {
                async move { inner.register(&key.0, &key.1, key.2).await }.boxed()
            }))
    }

    fn lookup(&self, subject: &str, text: &SchemaText, normalize: bool) -> Result<Version> {
        let ask = Ask::post(&["subjects", subject], text).with("normalize", normalize);
        self.runtime.block_on(
            self.inner
                .ask(&ask, &format!("this schema under subject {subject}")),
        )
    }

    fn version(&self, subject: &str, which: Which) -> Result<Version> {
        self.runtime.block_on(self.inner.version(subject, which))
    }

    fn versions(&self, subject: &str) -> Result<Vec<u32>> {
        let ask = Ask::get(&["subjects", subject, "versions"]);
        self.runtime
            .block_on(self.inner.ask(&ask, &format!("subject {subject}")))
    }

    fn subjects(&self) -> Result<Vec<String>> {
        self.runtime
            .block_on(self.inner.ask(&Ask::get(&["subjects"]), "subjects"))
    }

    fn by_id(&self, id: u32) -> Result<Found> {
        let inner = Arc::clone(&self.inner);
        self.runtime.block_on(self.inner.by_id.get(id, || {
            async move {
                let ask = Ask::get(&["schemas", "ids", &id.to_string()]);
                inner.found(&ask, &format!("schema with id {id}")).await
            }
            .boxed()
        }))
    }

    fn by_guid(&self, guid: Guid) -> Result<Found> {
        let inner = Arc::clone(&self.inner);
        self.runtime.block_on(self.inner.by_guid.get(guid, || {
            async move {
                let ask = Ask::get(&["schemas", "guids", &guid.to_string()]);
                inner.found(&ask, &format!("schema with GUID {guid}")).await
            }
            .boxed()
        }))
    }

    fn whole(&self, text: &SchemaText) -> Result<String> {
        self.runtime.block_on(self.inner.whole(text, "the schema"))
    }

    fn compatibility(
        &self,
        subject: &str,
        text: &SchemaText,
        against: Option<Which>,
    ) -> Result<Compatibility> {
        self.runtime
            .block_on(self.inner.compatibility(subject, text, against))
    }

    fn level(&self, subject: Option<&str>) -> Result<Level> {
        self.runtime.block_on(self.inner.level(subject))
    }

    fn set_level(&self, subject: Option<&str>, level: Level) -> Result<()> {
        let ask = Ask::put(&config_path(subject), &json!({"compatibility": level}));
        self.runtime
            .block_on(self.inner.ask::<serde_json::Value>(&ask, "such a setting"))
            .map(|_| ())
    }

    fn url(&self) -> &str {
        self.inner.transport.shown()
    }
}

fn config_path(subject: Option<&str>) -> Vec<&str> {
    ["config"].into_iter().chain(subject).collect()
}

impl Inner {
    fn url(&self) -> String {
        self.transport.shown().to_owned()
    }

    /// Asks; `what` is what it has not, if it has not.
    async fn ask<T: DeserializeOwned>(&self, ask: &Ask, what: &str) -> Result<T> {
        self.transport
            .ask(ask)
            .await
            .map_err(|e| self.error(e, what))
    }

    fn error(&self, error: AskError, what: &str) -> RegistryError {
        match error {
            AskError::Failed(error) => error,
            // Codes of its own, such as 40401; a path that leads nowhere has none.
            AskError::Told {
                status: 404,
                code: 40_400..=40_499,
                message,
            } => RegistryError::NotFound {
                url: self.url(),
                what: what.to_owned(),
                reason: message,
            },
            AskError::Told {
                status: 404,
                message,
                ..
            } => RegistryError::NotARegistry {
                url: self.url(),
                reason: format!("it has no such path ({message})"),
            },
            AskError::Told { code, message, .. } => RegistryError::Refused {
                url: self.url(),
                what: what.to_owned(),
                reason: format!("{message} (error {code})"),
            },
        }
    }

    async fn register(
        &self,
        subject: &str,
        text: &SchemaText,
        normalize: bool,
    ) -> Result<Registered> {
        let ask = Ask::post(&["subjects", subject, "versions"], text).with("normalize", normalize);
        match self.transport.ask(&ask).await {
            Err(AskError::Told {
                status: 409,
                message,
                ..
            }) => {
                let reasons = match message.trim() {
                    "" => self.explained(subject, text, None).await,
                    told => vec![told.to_owned()],
                };
                Err(RegistryError::Incompatible {
                    url: self.url(),
                    subject: subject.to_owned(),
                    reasons,
                })
            }
            other => {
                other.map_err(|e| self.error(e, &format!("the schema under subject {subject}")))
            }
        }
    }

    async fn version(&self, subject: &str, which: Which) -> Result<Version> {
        let ask = Ask::get(&["subjects", subject, "versions", &which.to_string()]);
        let what = format!("version {which} of subject {subject}");
        self.ask(&ask, &what).await
    }

    async fn found(&self, ask: &Ask, what: &str) -> Result<Found> {
        let kept: Kept = self.ask(ask, what).await?;
        if let Some(other) = kept.schema_type.filter(|t| t != "AVRO") {
            return Err(self.unusable(what, format!("it is of type {other}, not Avro")));
        }
        Ok(Found {
            schema: self.whole(&kept.text, what).await?,
            guid: kept.guid,
        })
    }

    fn unusable(&self, what: &str, reason: String) -> RegistryError {
        RegistryError::Unusable {
            url: self.url(),
            what: what.to_owned(),
            reason,
        }
    }

    /// The text with the types in it that are in other subjects; `what` it is, for a message.
    async fn whole(&self, text: &SchemaText, what: &str) -> Result<String> {
        let mut wanted = text.references.clone();
        let mut found = Vec::new();
        let mut next = 0;
        while let Some(reference) = wanted.get(next).cloned() {
            next += 1;
            let which = Which::Number(reference.version);
            let version = self.version(&reference.subject, which).await?;
            for more in &version.text.references {
                if !wanted.contains(more) {
                    wanted.push(more.clone());
                }
            }
            found.push((reference.name, version.text.schema));
        }
        references::whole(&text.schema, &found).map_err(|reason| self.unusable(what, reason))
    }

    async fn compatibility(
        &self,
        subject: &str,
        text: &SchemaText,
        against: Option<Which>,
    ) -> Result<Compatibility> {
        let number = against.map(|which| which.to_string());
        let mut path = vec!["compatibility", "subjects", subject, "versions"];
        path.extend(number.as_deref());
        let ask = Ask::post(&path, text).with("verbose", true);
        let what = match against {
            Some(which) => format!("version {which} of subject {subject}"),
            None => format!("subject {subject}"),
        };
        let verdict: Verdict = self.ask(&ask, &what).await?;
        let mut reasons = verdict.messages;
        if !verdict.is_compatible && reasons.is_empty() {
            reasons = self.explained(subject, text, against).await;
        }
        Ok(Compatibility {
            compatible: verdict.is_compatible,
            reasons,
        })
    }

    async fn level(&self, subject: Option<&str>) -> Result<Level> {
        let ask = Ask::get(&config_path(subject));
        let told: Result<Config> = self.ask(&ask, "such a setting").await;
        let config = match (told, subject) {
            (Err(RegistryError::NotFound { .. }), Some(_)) => {
                self.ask(&Ask::get(&["config"]), "such a setting").await?
            }
            (told, _) => told?,
        };
        config
            .level
            .parse()
            .map_err(|reason| RegistryError::Unusable {
                url: self.url(),
                what: "a compatibility level".into(),
                reason,
            })
    }

    /// As [`Self::explain`]. That nothing can be learned of why changes nothing of the verdict.
    async fn explained(
        &self,
        subject: &str,
        text: &SchemaText,
        against: Option<Which>,
    ) -> Vec<String> {
        let reasons = self.explain(subject, text, against).await;
        reasons.unwrap_or_else(|_| vec!["the registry says so and not why".to_owned()])
    }

    /// Our own comparison with what is there, for registries that only say no.
    async fn explain(
        &self,
        subject: &str,
        text: &SchemaText,
        against: Option<Which>,
    ) -> Result<Vec<String>> {
        let level = match self.level(Some(subject)).await? {
            // Some registries say so of a subject that has no level of its own.
            Level::None => self.level(None).await?,
            level => level,
        };
        let mut older = Vec::new();
        match against {
            Some(which) => older.push(self.version(subject, which).await?),
            None if level.transitive() => {
                let ask = Ask::get(&["subjects", subject, "versions"]);
                let numbers: Vec<u32> = self.ask(&ask, &format!("subject {subject}")).await?;
                for number in numbers {
                    older.push(self.version(subject, Which::Number(number)).await?);
                }
            }
            None => older.push(self.version(subject, Which::Latest).await?),
        }
        let mut texts = Vec::new();
        for version in older {
            let what = format!("version {} of subject {subject}", version.version);
            texts.push((version.version, self.whole(&version.text, &what).await?));
        }
        let new = self.whole(text, "the schema").await?;
        let reasons = rules::reasons(level, &new, &texts);
        Ok(match reasons.is_empty() {
            false => reasons,
            true => vec![format!(
                "the registry says so and not why; its level is {level}"
            )],
        })
    }
}
