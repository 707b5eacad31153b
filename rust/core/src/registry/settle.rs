//! Under which subject a topic's schema is, and by which id or GUID its records are framed: settled before any is sent.

use std::sync::Arc;

use kappaflow_avro::AvroSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{RegistryError, SchemaRegistry, SchemaText, Which, rules};
use crate::context::Context;
use crate::error::{Error, Result};

/// What a subject is named by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectStrategy {
    /// `TOPIC-value`.
    #[default]
    Topic,
    /// The full name of the record: one history in all topics.
    Record,
    /// `TOPIC-RECORD`.
    TopicRecord,
}

impl SubjectStrategy {
    /// The subject of the values of a topic.
    pub fn subject(self, topic: &str, schema: &AvroSchema) -> String {
        match self {
            Self::Topic => format!("{topic}-value"),
            Self::Record => schema.full_name().to_owned(),
            Self::TopicRecord => format!("{topic}-{}", schema.full_name()),
        }
    }
}

/// How the schema that records are written with is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub subject: SubjectStrategy,
    pub normalize: bool,
    pub writer: Writer,
}

/// Which schema records are written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The given one, registered if it is not there.
    Registered,
    /// The given one, which must be there.
    LookedUp,
    /// The subject's latest version.
    Latest,
    /// That of an id.
    Id(u32),
}

/// What records are written with.
#[derive(Clone, Debug)]
pub struct Settled {
    pub subject: String,
    pub id: u32,
    pub guid: Option<Uuid>,
    pub schema: AvroSchema,
}

/// Finds the schema that the records of a topic are written with, which readers of `schema` can read.
///
/// # Errors
/// [`Error::Registry`], among them [`RegistryError::Incompatible`]; [`Error::Schema`] if what the registry has can't be
/// written; [`Error::Interrupted`].
pub async fn settle(
    registry: &Arc<dyn SchemaRegistry>,
    policy: Policy,
    topic: &str,
    schema: &AvroSchema,
    ctx: &Context,
    stage: &'static str,
) -> Result<Settled> {
    let (registry, topic, schema) = (Arc::clone(registry), topic.to_owned(), schema.clone());
    let url = registry.url().to_owned();
    let asked =
        tokio::task::spawn_blocking(move || ask(registry.as_ref(), policy, &topic, &schema));
    tokio::select! {
        () = ctx.cancel.cancelled() => Err(Error::Interrupted { stage }),
        settled = asked => settled.unwrap_or_else(|e| {
            let reason = format!("the call ended unexpectedly: {e}");
            Err(RegistryError::Unavailable { url, tries: 1, reason }.into())
        }),
    }
}

fn ask(
    registry: &dyn SchemaRegistry,
    policy: Policy,
    topic: &str,
    schema: &AvroSchema,
) -> Result<Settled> {
    let subject = policy.subject.subject(topic, schema);
    let text = SchemaText::whole(schema.json());
    let own = |id: u32, guid: Option<Uuid>| Settled {
        subject: subject.clone(),
        id,
        guid,
        schema: schema.clone(),
    };
    match policy.writer {
        Writer::Registered => {
            let registered = registry.register(&subject, &text, policy.normalize)?;
            Ok(own(registered.id, registered.guid))
        }
        Writer::LookedUp => match registry.lookup(&subject, &text, policy.normalize) {
            Ok(version) => Ok(own(version.id, version.guid)),
            Err(RegistryError::NotFound { url, what, reason }) => Err(RegistryError::NotFound {
                url,
                what,
                reason: format!(
                    "{reason}; register it first, or let KappaFlow do it with schema.auto_register = true"
                ),
            }
            .into()),
            Err(other) => Err(other.into()),
        },
        Writer::Latest => {
            let version = registry.version(&subject, Which::Latest)?;
            let whole = registry.whole(&version.text)?;
            readable(registry, &subject, version.id, version.guid, &whole, schema)
        }
        Writer::Id(id) => {
            let found = registry.by_id(id)?;
            readable(registry, &subject, id, found.guid, &found.schema, schema)
        }
    }
}

/// What the registry chose, if readers of the job's schema can read it.
fn readable(
    registry: &dyn SchemaRegistry,
    subject: &str,
    id: u32,
    guid: Option<Uuid>,
    writer: &str,
    reader: &AvroSchema,
) -> Result<Settled> {
    let schema = AvroSchema::parse(writer).map_err(|e| Error::Schema {
        what: format!("of id {id} in {}", registry.url()),
        reason: e.to_string(),
    })?;
    let reasons = rules::differences(reader.json(), writer);
    if !reasons.is_empty() {
        let what = format!("the job's schema can't read what schema {id} writes: ");
        return Err(RegistryError::Incompatible {
            url: registry.url().to_owned(),
            subject: subject.to_owned(),
            reasons: reasons.into_iter().map(|r| what.clone() + &r).collect(),
        }
        .into());
    }
    Ok(Settled {
        subject: subject.to_owned(),
        id,
        guid,
        schema,
    })
}
