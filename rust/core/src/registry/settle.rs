//! Under which subject a topic's schema is, and by which id or GUID its records are framed: settled before any is sent.

use std::sync::Arc;

use kappaflow_avro::AvroSchema;
use kappaflow_avro::framing::{Frame, GUID_HEADER_BYTES};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// How a record says which schema it was written with. Readers take both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// `0x00` and the schema's id before the datum.
    #[default]
    Id,
    /// The header `__value_schema_id` with the schema's GUID; the value is the bare datum.
    Guid,
}

/// What each record of a topic carries of its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub frame: Frame,
    /// The value of the header `__value_schema_id`, if records have it.
    pub header: Option<[u8; GUID_HEADER_BYTES]>,
}

/// How the schema that records are written with is found, and how they say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub framing: Framing,
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
    pub id: u32,
    pub stamp: Stamp,
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
    let (topic, schema) = (topic.to_owned(), schema.clone());
    blocking(registry, ctx, stage, move |registry| {
        ask(registry, policy, &topic, &schema)
    })
    .await
}

/// The id of the schema of a topic's keys, under the subject `TOPIC-key`: registered, or looked up, as the policy says
/// of the values' own. `text` is its JSON, which need not be a record.
///
/// # Errors
/// [`Error::Registry`], [`Error::Interrupted`].
pub async fn settle_key(
    registry: &Arc<dyn SchemaRegistry>,
    policy: Policy,
    topic: &str,
    text: &str,
    ctx: &Context,
) -> Result<u32> {
    let (subject, text) = (format!("{topic}-key"), SchemaText::whole(text));
    blocking(registry, ctx, "publish", move |registry| {
        if policy.writer == Writer::Registered {
            return Ok(registry.register(&subject, &text, policy.normalize)?.id);
        }
        let version = registry.lookup(&subject, &text, policy.normalize);
        Ok(version.map_err(with_way_out)?.id)
    })
    .await
}

/// Asks a registry on a thread that may block.
///
/// # Errors
/// Those of `ask`; [`Error::Interrupted`].
pub async fn blocking<T: Send + 'static>(
    registry: &Arc<dyn SchemaRegistry>,
    ctx: &Context,
    stage: &'static str,
    ask: impl FnOnce(&dyn SchemaRegistry) -> Result<T> + Send + 'static,
) -> Result<T> {
    let registry = Arc::clone(registry);
    let url = registry.url().to_owned();
    let asked = tokio::task::spawn_blocking(move || ask(registry.as_ref()));
    tokio::select! {
        () = ctx.cancel.cancelled() => Err(Error::Interrupted { stage }),
        answer = asked => answer.unwrap_or_else(|e| {
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
    let (id, guid, schema) = match policy.writer {
        Writer::Registered => {
            let registered = registry.register(&subject, &text, policy.normalize)?;
            (registered.id, registered.guid, schema.clone())
        }
        Writer::LookedUp => {
            let version = registry
                .lookup(&subject, &text, policy.normalize)
                .map_err(with_way_out)?;
            (version.id, version.guid, schema.clone())
        }
        Writer::Latest => {
            let version = registry.version(&subject, Which::Latest)?;
            let whole = registry.whole(&version.text)?;
            let writer = readable(registry, &subject, version.id, &whole, schema)?;
            (version.id, version.guid, writer)
        }
        Writer::Id(id) => {
            let found = registry.by_id(id)?;
            let writer = readable(registry, &subject, id, &found.schema, schema)?;
            (id, found.guid, writer)
        }
    };
    let stamp = match (policy.framing, guid) {
        (Framing::Id, _) => Stamp {
            frame: Frame::Id(id),
            header: None,
        },
        (Framing::Guid, Some(guid)) => Stamp {
            frame: Frame::Guid,
            header: Some(guid.header()),
        },
        (Framing::Guid, None) => {
            return Err(RegistryError::Refused {
                url: registry.url().to_owned(),
                what: format!("tell the GUID of schema {id}"),
                reason: "it knows none, as registries of an older kind; use framing = \"id\""
                    .into(),
            }
            .into());
        }
    };
    Ok(Settled { id, stamp, schema })
}

fn with_way_out(error: RegistryError) -> RegistryError {
    match error {
        RegistryError::NotFound { url, what, reason } => RegistryError::NotFound {
            url,
            what,
            reason: format!(
                "{reason}; register it first, or let KappaFlow do it with auto_register = true"
            ),
        },
        other => other,
    }
}

/// What the registry chose, if readers of the job's schema can read it.
fn readable(
    registry: &dyn SchemaRegistry,
    subject: &str,
    id: u32,
    writer: &str,
    reader: &AvroSchema,
) -> Result<AvroSchema> {
    let schema = AvroSchema::parse(writer).map_err(|e| Error::Schema {
        what: format!("of id {id} in {}", registry.url()),
        reason: e.to_string(),
    })?;
    let reasons = rules::differences(reader.json(), writer);
    if reasons.is_empty() {
        return Ok(schema);
    }
    let what = format!("the job's schema can't read what schema {id} writes: ");
    Err(RegistryError::Incompatible {
        url: registry.url().to_owned(),
        subject: subject.to_owned(),
        reasons: reasons.into_iter().map(|r| what.clone() + &r).collect(),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::DirectoryRegistry;

    const JOB: &str =
        r#"{"type":"record","name":"R","namespace":"n","fields":[{"name":"x","type":"long"}]}"#;
    const WIDE: &str = r#"{"type":"record","name":"R","namespace":"n","fields":[{"name":"x","type":"long"},{"name":"y","type":"int"}]}"#;
    const WRONG: &str =
        r#"{"type":"record","name":"R","namespace":"n","fields":[{"name":"x","type":"string"}]}"#;

    fn policy(writer: Writer) -> Policy {
        Policy {
            framing: Framing::Id,
            subject: SubjectStrategy::Record,
            normalize: false,
            writer,
        }
    }

    fn settled(registry: &dyn SchemaRegistry, policy: Policy) -> Result<Settled> {
        ask(registry, policy, "t", &AvroSchema::parse(JOB).unwrap())
    }

    #[test]
    fn subjects_are_named_by_topic_record_or_both() {
        let schema = AvroSchema::parse(JOB).unwrap();
        let names = [
            SubjectStrategy::Topic,
            SubjectStrategy::Record,
            SubjectStrategy::TopicRecord,
        ]
        .map(|s| s.subject("t", &schema));
        assert_eq!(names, ["t-value", "n.R", "t-n.R"]);
    }

    #[test]
    fn the_writer_is_registered_looked_up_latest_or_an_id() {
        let dir = tempfile::tempdir().unwrap();
        let registry = DirectoryRegistry::new(dir.path().to_owned());
        let missing = settled(&registry, policy(Writer::LookedUp)).unwrap_err();
        assert!(missing.to_string().contains("n.R"), "{missing}");
        assert_eq!(registry.subjects().unwrap(), Vec::<String>::new());
        let first = settled(&registry, policy(Writer::Registered)).unwrap();
        assert_eq!(first.id, 1);
        assert_eq!(first.stamp.frame, Frame::Id(1));
        let again = settled(&registry, policy(Writer::LookedUp)).unwrap();
        assert_eq!(again.id, 1);

        let set = |level| registry.set_level(None, level).unwrap();
        set(crate::registry::Level::None);
        registry
            .register("n.R", &SchemaText::whole(WIDE), false)
            .unwrap();
        let latest = settled(&registry, policy(Writer::Latest)).unwrap();
        assert_eq!((latest.id, latest.schema.fields().len()), (2, 2));
        let by_id = settled(&registry, policy(Writer::Id(1))).unwrap();
        assert_eq!((by_id.id, by_id.schema.fields().len()), (1, 1));

        registry
            .register("n.R", &SchemaText::whole(WRONG), false)
            .unwrap();
        for writer in [Writer::Latest, Writer::Id(3)] {
            let error = settled(&registry, policy(writer)).unwrap_err();
            assert_eq!(error.kind(), "incompatible");
            assert!(
                error
                    .to_string()
                    .contains("can't read what schema 3 writes"),
                "{error}"
            );
        }
        let error = settled(&registry, policy(Writer::Id(9))).unwrap_err();
        assert_eq!(error.kind(), "registry_not_found");
    }

    #[test]
    fn a_guid_goes_into_a_header() {
        let dir = tempfile::tempdir().unwrap();
        let registry = DirectoryRegistry::new(dir.path().to_owned());
        let policy = Policy {
            framing: Framing::Guid,
            ..policy(Writer::Registered)
        };
        let stamp = settled(&registry, policy).unwrap().stamp;
        let guid = registry.by_id(1).unwrap().guid.unwrap();
        assert_eq!(stamp.frame, Frame::Guid);
        assert_eq!(stamp.header, Some(guid.header()));
    }
}
