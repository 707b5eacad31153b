//! A registry in a directory, shared by processes: `schemas/<id>.avsc` and `subjects/<subject>/<version>.json`.
//!
//! An id or a version is claimed by creating its file exclusively, so that two processes never share one.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use kappaflow_avro::AvroSchema;
use serde::{Deserialize, Serialize};

use super::SchemaRegistry;
use crate::error::{Error, Result};
use crate::files::create_whole;

/// See the module.
pub struct DirectoryRegistry {
    dir: PathBuf,
    url: String,
}

#[derive(Serialize, Deserialize)]
struct Version {
    id: u32,
    version: u32,
}

impl DirectoryRegistry {
    pub fn new(dir: PathBuf) -> Self {
        let url = format!("dir:{}", dir.display());
        Self { dir, url }
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        Error::Registry {
            url: self.url.clone(),
            reason: reason.into(),
        }
    }

    fn schema_path(&self, id: u32) -> PathBuf {
        self.dir.join("schemas").join(format!("{id}.avsc"))
    }

    fn subject_dir(&self, subject: &str) -> PathBuf {
        self.dir.join("subjects").join(subject)
    }

    fn canonical(&self, schema_json: &str) -> Result<String> {
        AvroSchema::parse(schema_json)
            .map(|schema| schema.canonical())
            .map_err(|e| self.error(format!("not an Avro schema: {e}")))
    }

    /// The id of a schema, claimed if it has none yet. Ids are dense from 1.
    fn id_of(&self, schema_json: &str) -> Result<u32> {
        let wanted = self.canonical(schema_json)?;
        let mut id = 1;
        loop {
            let path = self.schema_path(id);
            match fs::read_to_string(&path) {
                Ok(text) if self.canonical(&text)? == wanted => return Ok(id),
                Ok(_) => id += 1,
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    if create_whole(&path, schema_json).map_err(Error::io("write", &path))? {
                        return Ok(id);
                    }
                    // Somebody else claimed this id meanwhile: look at what they wrote.
                }
                Err(e) => return Err(Error::io("read", &path)(e)),
            }
        }
    }

    fn versions(&self, subject: &str) -> Result<Vec<Version>> {
        let dir = self.subject_dir(subject);
        let mut versions = Vec::new();
        loop {
            let path = dir.join(format!("{}.json", versions.len() + 1));
            match fs::read_to_string(&path) {
                Ok(text) => versions.push(
                    serde_json::from_str(&text)
                        .map_err(|e| self.error(format!("{} is damaged: {e}", path.display())))?,
                ),
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(versions),
                Err(e) => return Err(Error::io("read", &path)(e)),
            }
        }
    }
}

impl SchemaRegistry for DirectoryRegistry {
    fn register(&self, subject: &str, schema_json: &str) -> Result<u32> {
        if subject.is_empty() || subject.contains(['/', '\\']) || subject.starts_with('.') {
            return Err(self.error(format!("{subject:?} can't be a subject's name here")));
        }
        for dir in [self.dir.join("schemas"), self.subject_dir(subject)] {
            fs::create_dir_all(&dir).map_err(Error::io("make the directory", &dir))?;
        }
        let id = self.id_of(schema_json)?;
        loop {
            let versions = self.versions(subject)?;
            if versions.iter().any(|v| v.id == id) {
                return Ok(id);
            }
            let version = u32::try_from(versions.len() + 1).unwrap_or(u32::MAX);
            let path = self.subject_dir(subject).join(format!("{version}.json"));
            let text = serde_json::to_string(&Version { id, version }).unwrap_or_default();
            if create_whole(&path, &text).map_err(Error::io("write", &path))? {
                return Ok(id);
            }
        }
    }

    fn by_id(&self, id: u32) -> Result<String> {
        fs::read_to_string(self.schema_path(id)).map_err(|e| match e.kind() {
            ErrorKind::NotFound => self.error(format!("has no schema with id {id}")),
            _ => Error::io("read", self.schema_path(id))(e),
        })
    }

    fn latest(&self, subject: &str) -> Result<(u32, String)> {
        let versions = self.versions(subject)?;
        let last = versions
            .last()
            .ok_or_else(|| self.error(format!("has no subject {subject}")))?;
        Ok((last.id, self.by_id(last.id)?))
    }

    fn url(&self) -> &str {
        &self.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = r#"{"type":"record","name":"A","fields":[{"name":"x","type":"int"}]}"#;
    const B: &str = r#"{"type":"record","name":"B","fields":[{"name":"x","type":"long"}]}"#;

    #[test]
    fn a_schema_keeps_its_id_and_subjects_keep_versions() {
        let dir = tempfile::tempdir().unwrap();
        let registry = DirectoryRegistry::new(dir.path().join("registry"));
        assert_eq!(registry.register("s", A).unwrap(), 1);
        assert_eq!(registry.register("s", B).unwrap(), 2);
        assert_eq!(registry.register("t", A).unwrap(), 1);
        assert_eq!(registry.register("s", A).unwrap(), 1);
        assert_eq!(registry.latest("s").unwrap(), (2, B.to_owned()));
        assert_eq!(registry.by_id(1).unwrap(), A);
        let missing = registry.by_id(9).unwrap_err().to_string();
        assert!(missing.contains("no schema with id 9"), "{missing}");
        assert!(registry.register("../x", A).is_err());
        assert!(registry.register("s", "{").is_err());
    }

    #[test]
    fn racing_registrations_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry");
        let ids: Vec<u32> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|i| {
                    let registry = DirectoryRegistry::new(path.clone());
                    scope.spawn(move || {
                        registry
                            .register("s", if i % 2 == 0 { A } else { B })
                            .unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let (even, odd): (Vec<_>, Vec<_>) = ids.chunks(2).map(|c| (c[0], c[1])).unzip();
        assert!(even.iter().all(|i| *i == even[0]) && odd.iter().all(|i| *i == odd[0]));
        assert_ne!(even[0], odd[0]);
    }
}
