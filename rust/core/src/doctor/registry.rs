//! The subjects that a job needs in a region's registry. Nothing is registered.

use crate::context::Context;
use crate::error::{Error, Result};
use crate::job::KeyFormat;
use crate::publish::KeySchema;
use crate::registry::{self, Policy, RegistryError, SchemaRegistry, SchemaText, Writer};
use crate::session::Session;
use crate::store::Role;

use super::{Findings, Kind, Need, Outcome};

pub async fn needs(session: &Session, region: &str, ctx: &Context) -> Result<Vec<Need>> {
    let mut found = Findings::new(Some(region));
    let mut later = false;
    let registry = match session.registry(region) {
        Ok(registry) => registry,
        Err(error) => {
            found.tried(Kind::Network, "the schema registry", Err(error));
            return Ok(found.needs);
        }
    };
    let what = format!("the schema registry {}", registry.url());
    let answers = registry::blocking(&registry, ctx, "doctor", |registry| {
        let level = registry.level(None)?;
        Ok(format!(
            "it answers; schemas must be {level:?} unless a subject says otherwise"
        ))
    });
    let answered = uninterrupted(answers.await)?;
    if !found.tried(Kind::Network, what, answered) {
        return Ok(found.needs);
    }
    for role in [Role::Ingress, Role::Egress, Role::Verdict] {
        let policy = session.job.file.schema.policy(role);
        let topic = session.topic_name(region, role);
        let schema = session.schema(role)?;
        let subject = policy.subject.subject(&topic, &schema);
        let tried = match policy.writer {
            Writer::Registered => {
                let text = SchemaText::whole(schema.json());
                let what = registering(&registry, policy, subject.clone(), text, ctx).await;
                what.map(|what| what.told(&mut later))
            }
            // Asks only.
            Writer::LookedUp | Writer::Latest | Writer::Id(_) => session
                .settle(&registry, region, role, ctx, "doctor")
                .await
                .map(|settled| format!("schema {}", settled.id)),
        };
        found.tried(Kind::Subject, subject, uninterrupted(tried)?);
    }
    let topics = &session.job.file.topics;
    if topics.key_format == KeyFormat::Avro && !topics.key.is_empty() {
        let subject = format!("{}-key", session.topic_name(region, Role::Ingress));
        let policy = session.job.file.schema.policy(Role::Ingress);
        let tried = match KeySchema::of(&session.ingress, &topics.key) {
            Ok(key) => {
                let text = SchemaText::whole(key.text);
                let what = registering(&registry, policy, subject.clone(), text, ctx).await;
                what.map(|what| what.told(&mut later))
            }
            Err(error) => Err(error),
        };
        found.tried(Kind::Subject, subject, uninterrupted(tried)?);
    }
    if later {
        let what = "the right to register schemas";
        let told = "tried when the job is dispatched: a registry tells no client its rights";
        found.note(Kind::Right, what, Outcome::Unknown, told);
    }
    Ok(found.needs)
}

/// What would become of a schema.
enum Registration {
    There { id: u32, version: u32 },
    Next,
    First,
}

impl Registration {
    /// In words; sets `later` if it takes a right that is tried only then.
    fn told(self, later: &mut bool) -> String {
        let how = match self {
            Self::There { id, version } => return format!("schema {id}, version {version} of it"),
            Self::Next => "as its next version",
            Self::First => "the first of it",
        };
        *later = true;
        format!("will be registered, {how}")
    }
}

/// What would become of registering a schema.
async fn registering(
    registry: &std::sync::Arc<dyn SchemaRegistry>,
    policy: Policy,
    subject: String,
    text: SchemaText,
    ctx: &Context,
) -> Result<Registration> {
    let may_register = policy.writer == Writer::Registered;
    registry::blocking(registry, ctx, "doctor", move |registry| {
        let missing = match registry.lookup(&subject, &text, policy.normalize) {
            Ok(there) => {
                return Ok(Registration::There {
                    id: there.id,
                    version: there.version,
                });
            }
            Err(error @ RegistryError::NotFound { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        if !may_register {
            return Err(missing.into());
        }
        match registry.compatibility(&subject, &text, None) {
            Ok(verdict) if verdict.compatible => Ok(Registration::Next),
            Ok(verdict) => Err(Error::Registry(RegistryError::Incompatible {
                url: registry.url().to_owned(),
                subject,
                reasons: verdict.reasons,
            })),
            Err(RegistryError::NotFound { .. }) => Ok(Registration::First),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

/// An interrupt is the caller's; anything else is a finding.
pub(super) fn uninterrupted<T>(tried: Result<T>) -> Result<Result<T>> {
    match tried {
        Err(error @ Error::Interrupted { .. }) => Err(error),
        other => Ok(other),
    }
}
