//! The schema registry behind one trait: a local directory now, a Confluent-compatible server by the same calls.

mod directory;

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

pub use directory::DirectoryRegistry;

/// What the stages need of a schema registry.
pub trait SchemaRegistry: Send + Sync {
    /// Registers a schema under a subject and gives its id; a schema already there keeps its id.
    fn register(&self, subject: &str, schema_json: &str) -> Result<u32>;
    /// The schema of an id.
    fn by_id(&self, id: u32) -> Result<String>;
    /// The newest version of a subject: id and schema.
    fn latest(&self, subject: &str) -> Result<(u32, String)>;
    /// Where it is, for messages.
    fn url(&self) -> &str;
}

/// Opens the registry a region names.
///
/// # Errors
/// [`Error::Registry`] if the form of the URL is unknown.
pub fn open(url: &str, base: &Path) -> Result<Arc<dyn SchemaRegistry>> {
    match url.strip_prefix("dir:") {
        Some(path) => Ok(Arc::new(DirectoryRegistry::new(base.join(path)))),
        None => Err(Error::Registry {
            url: url.to_owned(),
            reason: "expected dir:PATH (a local directory)".into(),
        }),
    }
}

/// The subject of a topic's values (the topic name strategy).
pub fn value_subject(topic: &str) -> String {
    format!("{topic}-value")
}
