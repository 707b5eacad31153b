//! A registry in a directory, shared by processes: `schemas/<id>.avsc`, `subjects/<subject>/<version>.json`, and the
//! compatibility level in `config.json` here and in a subject's directory.
//!
//! An id or a version is claimed by creating its file exclusively, so that two processes never share one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kappaflow_avro::compat::GeneralSchema;
use kappaflow_avro::framing::Guid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::RegistryError;
use super::normal::normal;
use super::types::{Compatibility, Found, Level, Registered, SchemaText, Version, Which};
use super::{SchemaRegistry, references, rules};
use crate::files::{create_whole, replace_whole};

type Result<T> = std::result::Result<T, RegistryError>;

/// See the module.
pub struct DirectoryRegistry {
    dir: PathBuf,
    url: String,
}

#[derive(Serialize, Deserialize)]
struct VersionFile {
    id: u32,
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct ConfigFile {
    compatibility: Level,
}

impl DirectoryRegistry {
    pub fn new(dir: PathBuf) -> Self {
        let url = format!("dir:{}", dir.display());
        Self { dir, url }
    }

    fn refused(&self, what: impl Into<String>, reason: impl Into<String>) -> RegistryError {
        RegistryError::Refused {
            url: self.url.clone(),
            what: what.into(),
            reason: reason.into(),
        }
    }

    fn unusable(&self, what: impl Into<String>, reason: impl Into<String>) -> RegistryError {
        RegistryError::Unusable {
            url: self.url.clone(),
            what: what.into(),
            reason: reason.into(),
        }
    }

    fn missing(&self, what: impl Into<String>) -> RegistryError {
        RegistryError::NotFound {
            url: self.url.clone(),
            what: what.into(),
            reason: "nothing of the kind was registered here".into(),
        }
    }

    /// A file operation that failed. Disks come and go as servers do.
    fn io<'a>(
        &'a self,
        what: &'a str,
        path: &'a Path,
    ) -> impl FnOnce(std::io::Error) -> RegistryError + 'a {
        move |e| RegistryError::Unavailable {
            url: self.url.clone(),
            tries: 1,
            reason: format!("can't {what} {}: {e}", path.display()),
        }
    }

    fn schema_path(&self, id: u32) -> PathBuf {
        self.dir.join("schemas").join(format!("{id}.avsc"))
    }

    /// A subject is a directory, so not every name can be one.
    fn subject_dir(&self, subject: &str) -> Result<PathBuf> {
        if subject.is_empty() || subject.contains(['/', '\\', '\0']) || subject.starts_with('.') {
            let reason = "a directory can't have this name";
            return Err(self.refused(format!("a subject {subject:?}"), reason));
        }
        Ok(self.dir.join("subjects").join(subject))
    }

    fn config_path(&self, subject: Option<&str>) -> Result<PathBuf> {
        let dir = match subject {
            Some(subject) => self.subject_dir(subject)?,
            None => self.dir.clone(),
        };
        Ok(dir.join("config.json"))
    }

    fn text(&self, path: &Path) -> Result<Option<String>> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.io("read", path)(e)),
        }
    }

    fn json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let parse = |text: String| {
            serde_json::from_str(&text)
                .map_err(|e| self.unusable(path.display().to_string(), e.to_string()))
        };
        self.text(path)?.map(parse).transpose()
    }

    /// Creates a file that must not be there yet, with its directory; `false`: it was there.
    fn create(&self, path: &Path, text: &str) -> Result<bool> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(self.io("make the directory", dir))?;
        }
        create_whole(path, text).map_err(self.io("write", path))
    }

    /// The schema with its references in it, if it is one.
    fn whole_of(&self, text: &SchemaText) -> Result<String> {
        let whole = self.whole(text)?;
        GeneralSchema::parse(&whole, &[])
            .map_err(|e| self.refused("the schema", format!("not an Avro schema: {e}")))?;
        Ok(whole)
    }

    /// The id of the schema, or the first that is free. Ids are dense from 1.
    fn id_of(&self, schema: &str, normalize: bool) -> Result<std::result::Result<u32, u32>> {
        let wanted = form(schema, normalize);
        let mut id = 1;
        while let Some(text) = self.text(&self.schema_path(id))? {
            if form(&text, normalize) == wanted {
                return Ok(Ok(id));
            }
            id += 1;
        }
        Ok(Err(id))
    }

    /// The version that is this schema.
    fn same<'a>(
        &self,
        versions: &'a [VersionFile],
        schema: &str,
        normalize: bool,
    ) -> Result<Option<&'a VersionFile>> {
        let wanted = form(schema, normalize);
        for version in versions {
            if form(&self.by_id(version.id)?.schema, normalize) == wanted {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    fn claim_id(&self, schema: &str, normalize: bool) -> Result<u32> {
        loop {
            match self.id_of(schema, normalize)? {
                Ok(id) => return Ok(id),
                Err(free) if self.create(&self.schema_path(free), schema)? => return Ok(free),
                // Somebody else claimed this id meanwhile: look at what they wrote.
                Err(_) => {}
            }
        }
    }

    fn registered(&self, id: u32) -> Result<Registered> {
        let guid = self.by_id(id)?.guid;
        Ok(Registered { id, guid })
    }

    fn version_files(&self, subject: &str) -> Result<Vec<VersionFile>> {
        let dir = self.subject_dir(subject)?;
        let mut versions = Vec::new();
        while let Some(version) =
            self.json::<VersionFile>(&dir.join(format!("{}.json", versions.len() + 1)))?
        {
            versions.push(version);
        }
        Ok(versions)
    }

    fn known_versions(&self, subject: &str) -> Result<Vec<VersionFile>> {
        let versions = self.version_files(subject)?;
        if versions.is_empty() {
            return Err(self.missing(format!("subject {subject}")));
        }
        Ok(versions)
    }

    fn version_of(&self, subject: &str, file: &VersionFile) -> Result<Version> {
        let found = self.by_id(file.id)?;
        Ok(Version {
            subject: subject.to_owned(),
            version: file.version,
            id: file.id,
            guid: found.guid,
            text: SchemaText::whole(found.schema),
        })
    }

    fn reasons(&self, subject: &str, whole: &str, older: &[VersionFile]) -> Result<Vec<String>> {
        let texts = older
            .iter()
            .map(|v| Ok((v.version, self.by_id(v.id)?.schema)))
            .collect::<Result<Vec<_>>>()?;
        Ok(rules::reasons(self.level(Some(subject))?, whole, &texts))
    }
}

/// What is compared to tell whether two texts are one schema. A text that is no JSON is only itself.
fn form(text: &str, normalize: bool) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(value) if normalize => normal(&value, ""),
        Ok(value) => value,
        Err(_) => Value::from(text),
    }
}

/// The same text has the same GUID in every directory.
fn guid_of(schema: &str) -> Guid {
    let digest = Sha256::digest(schema);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    // The marks of a UUID whose bits are its maker's own.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Guid(bytes)
}

impl SchemaRegistry for DirectoryRegistry {
    fn register(&self, subject: &str, text: &SchemaText, normalize: bool) -> Result<Registered> {
        let dir = self.subject_dir(subject)?;
        let whole = self.whole_of(text)?;
        loop {
            let versions = self.version_files(subject)?;
            if let Some(version) = self.same(&versions, &whole, normalize)? {
                return self.registered(version.id);
            }
            let reasons = self.reasons(subject, &whole, &versions)?;
            if !reasons.is_empty() {
                return Err(RegistryError::Incompatible {
                    url: self.url.clone(),
                    subject: subject.to_owned(),
                    reasons,
                });
            }
            let id = self.claim_id(&whole, normalize)?;
            let version = u32::try_from(versions.len() + 1).unwrap_or(u32::MAX);
            let path = dir.join(format!("{version}.json"));
            let file = serde_json::to_string(&VersionFile { id, version }).unwrap_or_default();
            // If another process took this number, its version is one more to be compatible with.
            if self.create(&path, &file)? {
                return self.registered(id);
            }
        }
    }

    fn lookup(&self, subject: &str, text: &SchemaText, normalize: bool) -> Result<Version> {
        let versions = self.known_versions(subject)?;
        let file = self.same(&versions, &self.whole_of(text)?, normalize)?;
        let file =
            file.ok_or_else(|| self.missing(format!("this schema under subject {subject}")))?;
        self.version_of(subject, file)
    }

    fn version(&self, subject: &str, which: Which) -> Result<Version> {
        let versions = self.known_versions(subject)?;
        let file = match which {
            Which::Latest => versions.last(),
            Which::Number(number) => versions.iter().find(|v| v.version == number),
        };
        let file =
            file.ok_or_else(|| self.missing(format!("version {which} of subject {subject}")))?;
        self.version_of(subject, file)
    }

    fn versions(&self, subject: &str) -> Result<Vec<u32>> {
        let versions = self.known_versions(subject)?;
        Ok(versions.iter().map(|v| v.version).collect())
    }

    fn subjects(&self) -> Result<Vec<String>> {
        let dir = self.dir.join("subjects");
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.io("list", &dir)(e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(self.io("list", &dir))?;
            // A level may be set before there is a version.
            if entry.path().join("1.json").exists() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn by_id(&self, id: u32) -> Result<Found> {
        let schema = self
            .text(&self.schema_path(id))?
            .ok_or_else(|| self.missing(format!("schema with id {id}")))?;
        Ok(Found {
            guid: Some(guid_of(&schema)),
            schema,
        })
    }

    fn by_guid(&self, guid: Guid) -> Result<Found> {
        let mut id = 1;
        while let Some(schema) = self.text(&self.schema_path(id))? {
            if guid_of(&schema) == guid {
                return Ok(Found {
                    schema,
                    guid: Some(guid),
                });
            }
            id += 1;
        }
        Err(self.missing(format!("schema with GUID {guid}")))
    }

    fn whole(&self, text: &SchemaText) -> Result<String> {
        let mut found = Vec::new();
        for reference in &text.references {
            // What is kept here is whole already.
            let version = self.version(&reference.subject, Which::Number(reference.version))?;
            found.push((reference.name.clone(), version.text.schema));
        }
        references::whole(&text.schema, &found)
            .map_err(|reason| self.unusable("the schema with its references", reason))
    }

    fn compatibility(
        &self,
        subject: &str,
        text: &SchemaText,
        against: Option<Which>,
    ) -> Result<Compatibility> {
        let whole = self.whole_of(text)?;
        let mut versions = self.known_versions(subject)?;
        if let Some(which) = against {
            let number = self.version(subject, which)?.version;
            versions.retain(|v| v.version == number);
        }
        let reasons = self.reasons(subject, &whole, &versions)?;
        Ok(Compatibility {
            compatible: reasons.is_empty(),
            reasons,
        })
    }

    fn level(&self, subject: Option<&str>) -> Result<Level> {
        if let Some(config) = self.json::<ConfigFile>(&self.config_path(subject)?)? {
            return Ok(config.compatibility);
        }
        match subject {
            Some(_) => self.level(None),
            None => Ok(Level::default()),
        }
    }

    fn set_level(&self, subject: Option<&str>, level: Level) -> Result<()> {
        let path = self.config_path(subject)?;
        let config = ConfigFile {
            compatibility: level,
        };
        let text = serde_json::to_string(&config).unwrap_or_default();
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(self.io("make the directory", dir))?;
        }
        replace_whole(&path, text.as_bytes()).map_err(self.io("write", &path))
    }

    fn url(&self) -> &str {
        &self.url
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
