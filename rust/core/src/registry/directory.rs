//! A registry in a directory, shared by processes: `schemas/<id>.avsc`, `subjects/<subject>/<version>.json`, and the
//! compatibility level in `config.json` here and in a subject's directory.
//!
//! An id or a version is claimed by creating its file exclusively, so that two processes never share one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kappaflow_avro::AvroSchema;
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
            return Err(self.refused(format!("have a subject {subject:?}"), reason));
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
                .map_err(|e| self.refused(format!("read {}", path.display()), e.to_string()))
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
        AvroSchema::parse(&whole)
            .map_err(|e| self.refused("take the schema", format!("not an Avro schema: {e}")))?;
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
            if let Ok(id) = self.id_of(&whole, normalize)?
                && versions.iter().any(|v| v.id == id)
            {
                return self.registered(id);
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
        let id = self.id_of(&self.whole_of(text)?, normalize)?;
        let file = versions.iter().find(|v| Ok(v.id) == id);
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
            .map_err(|reason| self.refused("take the schema with its references", reason))
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
mod tests {
    use super::*;

    const A: &str = r#"{"type":"record","name":"A","fields":[{"name":"x","type":"int"}]}"#;
    const B: &str = r#"{"type":"record","name":"B","fields":[{"name":"x","type":"long"}]}"#;
    /// `A`, written otherwise.
    const A2: &str = r#"{"name": "A", "type": "record", "fields": [{"type": {"type": "int"}, "name": "x", "doc": "!"}]}"#;
    /// `A` with another meaning of the same bytes.
    const DATE: &str = r#"{"type":"record","name":"A","fields":[{"name":"x","type":{"type":"int","logicalType":"date"}}]}"#;

    fn registry(dir: &tempfile::TempDir) -> DirectoryRegistry {
        DirectoryRegistry::new(dir.path().join("registry"))
    }

    fn text(schema: &str) -> SchemaText {
        SchemaText::whole(schema)
    }

    #[test]
    fn a_schema_keeps_its_id_and_subjects_keep_versions() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registry(&dir);
        registry.set_level(None, Level::None).unwrap();
        let id = |subject: &str, schema: &str| {
            registry.register(subject, &text(schema), false).unwrap().id
        };
        assert_eq!(registry.subjects().unwrap(), Vec::<String>::new());
        assert_eq!(
            [id("s", A), id("s", B), id("t", A), id("s", A)],
            [1, 2, 1, 1]
        );
        assert_eq!(registry.subjects().unwrap(), ["s", "t"]);
        assert_eq!(registry.versions("s").unwrap(), [1, 2]);
        let latest = registry.version("s", Which::Latest).unwrap();
        assert_eq!((latest.version, latest.id), (2, 2));
        assert_eq!(latest.text, text(B));
        assert_eq!(registry.version("s", Which::Number(1)).unwrap().id, 1);
        assert_eq!(registry.lookup("s", &text(A), false).unwrap().version, 1);
        let found = registry.by_id(1).unwrap();
        assert_eq!(found.schema, A);
        assert_eq!(registry.by_guid(found.guid.unwrap()).unwrap(), found);
    }

    #[test]
    fn what_is_not_there_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registry(&dir);
        registry.register("s", &text(A), false).unwrap();
        let missing = [
            registry.by_id(9).unwrap_err(),
            registry.by_guid(Guid([0; 16])).unwrap_err(),
            registry.versions("nope").unwrap_err(),
            registry.version("nope", Which::Latest).unwrap_err(),
            registry.version("s", Which::Number(7)).unwrap_err(),
            registry.lookup("s", &text(B), false).unwrap_err(),
        ];
        for error in missing {
            assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
        }
        for subject in ["../x", "", ".hidden", "a/b"] {
            let error = registry.register(subject, &text(A), false).unwrap_err();
            assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
        }
        let error = registry.register("s", &text("{"), false).unwrap_err();
        assert!(error.to_string().contains("not an Avro schema"), "{error}");
        fs::write(dir.path().join("registry/subjects/s/1.json"), "{").unwrap();
        let error = registry.versions("s").unwrap_err();
        assert!(error.to_string().contains("1.json"), "{error}");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DirectoryRegistry::new(file).register("s", &text(A), false);
        let error = error.unwrap_err();
        assert!(
            matches!(error, RegistryError::Unavailable { .. }),
            "{error}"
        );
    }

    #[test]
    fn normalizing_joins_what_is_only_written_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registry(&dir);
        let id = |schema: &str, normalize: bool| {
            registry.register("s", &text(schema), normalize).unwrap().id
        };
        assert_eq!(id(A, true), 1);
        assert_eq!(id(A2, true), 1);
        assert_eq!(id(A2, false), 2);
        // The same bytes, read as another thing: another schema.
        assert_eq!(id(DATE, true), 3);
    }

    #[test]
    fn an_incompatible_version_is_refused_with_its_reasons() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registry(&dir);
        let more = r#"{"type":"record","name":"A","fields":[{"name":"x","type":"int"},{"name":"y","type":"int"}]}"#;
        registry.register("s", &text(A), false).unwrap();
        assert_eq!(registry.level(Some("s")).unwrap(), Level::Backward);
        let error = registry.register("s", &text(more), false).unwrap_err();
        let RegistryError::Incompatible {
            subject, reasons, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(subject, "s");
        assert!(
            reasons[0].contains("version 1") && reasons[0].contains('y'),
            "{reasons:?}"
        );
        assert_eq!(registry.versions("s").unwrap(), [1]);
        let told = registry.compatibility("s", &text(more), None).unwrap();
        assert_eq!((told.compatible, &told.reasons), (false, reasons));

        registry.set_level(Some("s"), Level::Forward).unwrap();
        assert_eq!(registry.level(Some("s")).unwrap(), Level::Forward);
        assert_eq!(registry.level(None).unwrap(), Level::Backward);
        let told = registry.compatibility("s", &text(more), Some(Which::Latest));
        assert!(told.unwrap().compatible);
        registry.register("s", &text(more), false).unwrap();
        assert_eq!(registry.versions("s").unwrap(), [1, 2]);
    }

    #[test]
    fn references_are_put_into_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registry(&dir);
        registry.register("a", &text(A), false).unwrap();
        let user = SchemaText {
            schema: r#"{"type":"record","name":"U","fields":[{"name":"a","type":"A"}]}"#.into(),
            references: vec![super::super::Reference {
                name: "A".into(),
                subject: "a".into(),
                version: 1,
            }],
        };
        let id = registry.register("u", &user, false).unwrap().id;
        let schema = AvroSchema::parse(&registry.by_id(id).unwrap().schema).unwrap();
        assert_eq!(schema.full_name(), "U");
        let loose = SchemaText::whole(user.schema);
        assert!(registry.register("u", &loose, false).is_err());
    }

    #[test]
    fn racing_registrations_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry");
        DirectoryRegistry::new(path.clone())
            .set_level(None, Level::None)
            .unwrap();
        let ids: Vec<u32> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|i| {
                    let registry = DirectoryRegistry::new(path.clone());
                    scope.spawn(move || {
                        let schema = text(if i % 2 == 0 { A } else { B });
                        registry.register("s", &schema, false).unwrap().id
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let (even, odd): (Vec<_>, Vec<_>) = ids.chunks(2).map(|c| (c[0], c[1])).unzip();
        assert!(even.iter().all(|i| *i == even[0]) && odd.iter().all(|i| *i == odd[0]));
        assert_ne!(even[0], odd[0]);
    }

    #[test]
    fn of_racing_versions_only_compatible_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry");
        // Any two of these are incompatible: whoever is first is the only one.
        let schemas: Vec<String> = (0..6)
            .map(|i| {
                format!(
                    r#"{{"type":"record","name":"R","fields":[{{"name":"f{i}","type":"int"}}]}}"#
                )
            })
            .collect();
        let taken = std::thread::scope(|scope| {
            let threads: Vec<_> = schemas
                .iter()
                .map(|schema| {
                    let registry = DirectoryRegistry::new(path.clone());
                    scope.spawn(move || registry.register("s", &text(schema), false).is_ok())
                })
                .collect();
            threads
                .into_iter()
                .map(|t| t.join().unwrap())
                .filter(|ok| *ok)
                .count()
        });
        assert_eq!(taken, 1);
        assert_eq!(DirectoryRegistry::new(path).versions("s").unwrap(), [1]);
    }
}
