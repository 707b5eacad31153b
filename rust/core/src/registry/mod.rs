//! The schema registry behind one trait: a local directory, or a server with Confluent's API over HTTP.

mod config;
mod directory;
mod error;
mod http;
mod normal;
mod references;
mod rules;
mod settle;
mod types;

use std::path::Path;
use std::sync::Arc;

use kappaflow_avro::framing::{Guid, SchemaKey};

pub use config::{OAuthConfig, RegistryConfig, RegistryTable};
pub use directory::DirectoryRegistry;
pub use error::RegistryError;
pub use http::HttpRegistry;
pub use settle::{
    Framing, Policy, Settled, Stamp, SubjectStrategy, Writer, blocking, settle, settle_key,
};
pub use types::{Compatibility, Found, Level, Reference, Registered, SchemaText, Version, Which};

/// A schema registry. Its calls block, and may be made by many threads at once.
pub trait SchemaRegistry: Send + Sync {
    /// Registers a schema under a subject; one that is there keeps its id. `normalize`: the way it is written is no
    /// difference.
    ///
    /// # Errors
    /// [`RegistryError::Incompatible`] if the subject's level does not allow it.
    fn register(
        &self,
        subject: &str,
        text: &SchemaText,
        normalize: bool,
    ) -> Result<Registered, RegistryError>;

    /// The version of the subject that a schema is.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] if it is none, here and below.
    fn lookup(
        &self,
        subject: &str,
        text: &SchemaText,
        normalize: bool,
    ) -> Result<Version, RegistryError>;

    /// A version of a subject.
    fn version(&self, subject: &str, which: Which) -> Result<Version, RegistryError>;

    /// The numbers of a subject's versions.
    fn versions(&self, subject: &str) -> Result<Vec<u32>, RegistryError>;

    /// The names of all subjects.
    fn subjects(&self) -> Result<Vec<String>, RegistryError>;

    /// The schema of an id, whole.
    fn by_id(&self, id: u32) -> Result<Found, RegistryError>;

    /// The schema of a GUID, whole.
    fn by_guid(&self, guid: Guid) -> Result<Found, RegistryError>;

    /// A text with the types in it that it refers to.
    fn whole(&self, text: &SchemaText) -> Result<String, RegistryError>;

    /// Whether a schema may be the subject's next version; `against` one version, or those that the level is about.
    fn compatibility(
        &self,
        subject: &str,
        text: &SchemaText,
        against: Option<Which>,
    ) -> Result<Compatibility, RegistryError>;

    /// The compatibility level of a subject, or of all that have none of their own.
    fn level(&self, subject: Option<&str>) -> Result<Level, RegistryError>;

    /// Sets the level of a subject, or of all that have none of their own.
    fn set_level(&self, subject: Option<&str>, level: Level) -> Result<(), RegistryError>;

    /// Where it is, for messages.
    fn url(&self) -> &str;
}

/// Opens the registry that a region names; called on a thread of a runtime. Nothing is asked yet.
///
/// # Errors
/// [`RegistryError::Settings`] if it can't be what the configuration says.
pub fn open(
    config: &RegistryConfig,
    base: &Path,
) -> Result<Arc<dyn SchemaRegistry>, RegistryError> {
    let wrong = |reason: String| RegistryError::Settings {
        url: config.shown(),
        reason,
    };
    match config.resolved(base).map_err(wrong)? {
        RegistryConfig::Address(address) => match address.strip_prefix("dir:") {
            Some(path) => Ok(Arc::new(DirectoryRegistry::new(base.join(path)))),
            None => Err(wrong(
                "expected dir:PATH, or an http:// or https:// URL".into(),
            )),
        },
        RegistryConfig::Table(table) => {
            Ok(Arc::new(HttpRegistry::new(&table, base, &config.shown())?))
        }
    }
}

/// The schema that a record names, whole.
///
/// # Errors
/// [`RegistryError::NotFound`], or that the registry can't be asked.
pub fn by_ref(registry: &dyn SchemaRegistry, schema: SchemaKey) -> Result<Found, RegistryError> {
    match schema {
        SchemaKey::Id(id) => registry.by_id(id),
        SchemaKey::Guid(guid) => registry.by_guid(guid),
    }
}
