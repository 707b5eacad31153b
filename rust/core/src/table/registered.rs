//! Tables of formats that others know, as Delta: our manifest is written first, and one commit in the format's own log adds
//! and removes the files and names the manifest. Who speaks the format is handed in.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_schema::{DataType, Field, Schema};
use kappaflow_avro::{AvroSchema, Decoder};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::manifest::{self, Change, CommitLog, DIR, Manifest};
use super::{CommitError, DataFile, Storage, TableState, held, identity_fields};
use crate::error::Result;
use crate::job::TableFormat;
use crate::snapshot::hex;

type Speak = dyn Fn(&str) -> Result<String> + Send + Sync;

/// Speaks a table's format: a request in, its answer out, both as JSON. It may block.
#[derive(Clone)]
pub struct Registrar(pub Arc<Speak>);

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registrar")
    }
}

/// What a table of a format is.
pub struct RegisteredLog {
    pub registrar: Registrar,
    pub format: TableFormat,
    /// The table's directory or URL.
    pub place: String,
    /// Of the object store, with its secrets.
    pub options: BTreeMap<String, String>,
    /// Its name in a catalog, and what leads to that, with its secrets: of formats that have one.
    pub table: Option<String>,
    pub catalog: BTreeMap<String, String>,
    pub partition_key: Vec<String>,
}

/// The newest version in the format's log.
#[derive(Debug, Deserialize)]
struct Head {
    /// The number of our commit that it names; absent: none of ours is there.
    pointer: Option<u64>,
    files: Vec<LiveFile>,
}

/// A file that the newest version has, whoever has written it.
#[derive(Debug, Deserialize)]
struct LiveFile {
    path: String,
    rows: u64,
    bytes: u64,
    partition: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Serialize)]
struct Commit<'a> {
    /// The number of the commit that the newest version must name.
    expected: Option<u64>,
    pointer: u64,
    added: &'a [DataFile],
    removed: &'a [DataFile],
    /// Whether rows come or go, or only other files hold them.
    data_change: bool,
    partition_key: &'a [String],
    /// The columns as an Arrow IPC schema, in hex.
    schema: String,
}

/// The number by which a format's log names a commit: half of its name, as formats have room for 63 bits.
fn pointer(commit: &str) -> Option<u64> {
    u64::from_str_radix(commit.get(..16)?, 16)
        .ok()
        .map(|half| half >> 1)
}

fn name(version: u64, pointer: u64) -> String {
    format!("{DIR}/{version:020}-{pointer:016x}.json")
}

impl RegisteredLog {
    fn call(&self, action: &str, commit: Option<&Commit<'_>>) -> Result<String> {
        let request = json!({
            "action": action, "format": self.format, "place": self.place, "options": self.options,
            "table": self.table, "catalog": self.catalog, "commit": commit,
        });
        (self.registrar.0)(&request.to_string())
    }

    fn head(&self, storage: &Storage) -> Result<Option<Head>> {
        let told = self.call("head", None)?;
        serde_json::from_str(&told)
            .map_err(|e| storage.error(format!("what it is can't be told: {e}")))
    }

    fn manifest_of(&self, storage: &Storage, pointer: u64) -> Result<Manifest> {
        let suffix = format!("-{pointer:016x}.json");
        let named = storage
            .list(DIR)?
            .into_iter()
            .find(|e| e.name.ends_with(&suffix));
        let found = match named {
            Some(entry) => manifest::read(storage, &entry.name)?,
            None => None,
        };
        found.ok_or_else(|| {
            storage.error(format!(
                "its newest version names the commit {pointer:016x}, whose manifest is not in {DIR}: it was removed, and with it how far the table has come"
            ))
        })
    }
}

impl CommitLog for RegisteredLog {
    fn newest(&self, storage: &Storage) -> Result<Option<Manifest>> {
        let Some(head) = self.head(storage)? else {
            return Ok(None);
        };
        let Some(pointer) = head.pointer else {
            return Ok(None);
        };
        let mut manifest = self.manifest_of(storage, pointer)?;
        manifest.state.files = live(&manifest.state, head.files);
        Ok(Some(manifest))
    }

    fn append(
        &self,
        storage: &Storage,
        manifest: &Manifest,
        change: &Change<'_>,
    ) -> Result<bool, CommitError> {
        let refused = |reason: String| CommitError::Refused { reason };
        let number = pointer(&manifest.commit)
            .ok_or_else(|| refused(format!("commit {:?} has no number", manifest.commit)))?;
        let text = serde_json::to_vec_pretty(manifest).map_err(|e| refused(e.to_string()))?;
        storage
            .put(&name(manifest.state.version, number), text)
            .map_err(|e| refused(format!("its manifest can't be written: {e}")))?;
        let commit = Commit {
            expected: manifest.parent.as_deref().and_then(pointer),
            pointer: number,
            added: change.added,
            removed: change.removed,
            data_change: change.data_change,
            partition_key: &self.partition_key,
            schema: schema(&manifest.state, self.format).map_err(refused)?,
        };
        let told = self.call("commit", Some(&commit));
        match told.as_deref() {
            Ok("true") => Ok(true),
            Ok("false") => Ok(false),
            // The answer is an error: only the log itself says whose commit is in.
            other => match self.head(storage) {
                Ok(Some(head)) if head.pointer == Some(number) => Ok(true),
                _ => Err(CommitError::Ambiguous {
                    id: manifest.commit.clone(),
                    reason: match other {
                        Err(e) => e.to_string(),
                        Ok(told) => format!("it was answered {told:?}"),
                    },
                }),
            },
        }
    }

    fn keeps_files(&self) -> bool {
        true
    }
}

/// The files that readers see: those of the manifest that are still there, and those that others have put in their place.
fn live(state: &TableState, files: Vec<LiveFile>) -> Vec<DataFile> {
    let known: BTreeMap<&str, &DataFile> =
        state.files.iter().map(|f| (f.path.as_str(), f)).collect();
    let live = files
        .into_iter()
        .map(|file| match known.get(file.path.as_str()) {
            Some(ours) => (*ours).clone(),
            None => DataFile {
                path: file.path,
                rows: file.rows,
                bytes: file.bytes,
                job: String::new(),
                region: String::new(),
                commit: String::new(),
                partition: file.partition,
            },
        });
    live.collect()
}

/// The table's columns, plain: what is an enum in Avro is text. Those of answers may be null, since files of an earlier
/// schema lack some.
fn schema(state: &TableState, format: TableFormat) -> Result<String, String> {
    let text = state.schema.as_deref().unwrap_or_default();
    let avro = AvroSchema::parse(text).map_err(|e| e.to_string())?;
    let answers = Decoder::new(&avro)
        .map_err(|e| e.to_string())?
        .arrow_schema();
    let mut fields: Vec<Arc<Field>> = Vec::new();
    for field in answers.fields() {
        let plain = match field.data_type() {
            DataType::Dictionary(_, values) => values.as_ref().clone(),
            other => held(other, format)?,
        };
        fields.push(Arc::new(Field::new(field.name(), plain, true)));
    }
    fields.extend(identity_fields());
    let message = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        &Schema::new(fields),
        &mut DictionaryTracker::new(true),
        &IpcWriteOptions::default(),
    );
    let mut bytes = Vec::new();
    arrow_ipc::writer::write_message(&mut bytes, message, &IpcWriteOptions::default())
        .map_err(|e| e.to_string())?;
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::context::Context;
    use crate::files::unique_name;
    use crate::table::{Table, clean};

    const EGRESS: &str = r#"{"type":"record","name":"A","fields":[{"name":"x","type":"int"}]}"#;

    /// What the format's log does with a commit.
    #[derive(Clone, Copy)]
    enum Log {
        Takes,
        TakesAndIsLost,
        Fails,
    }

    /// A log of a format, which names one commit.
    fn log(newest: &Arc<Mutex<Option<u64>>>, does: Log) -> RegisteredLog {
        let newest = Arc::clone(newest);
        let registrar = Registrar(Arc::new(move |request| {
            let asked: serde_json::Value = serde_json::from_str(request).unwrap();
            let mut newest = newest.lock().unwrap();
            let failed = || crate::Error::Planner {
                kind: "table".into(),
                message: "no answer".into(),
            };
            if asked["action"] == "head" {
                let file =
                    json!({"path": "data/other.parquet", "rows": 1, "bytes": 1, "partition": {}});
                let head = json!({"pointer": *newest, "files": [file]});
                return Ok(newest.map_or(json!(null), |_| head).to_string());
            }
            if asked["commit"]["expected"] != json!(*newest) {
                return Ok("false".into());
            }
            if !matches!(does, Log::Fails) {
                *newest = asked["commit"]["pointer"].as_u64();
            }
            match does {
                Log::Takes => Ok("true".into()),
                Log::TakesAndIsLost | Log::Fails => Err(failed()),
            }
        }));
        RegisteredLog {
            registrar,
            format: TableFormat::Delta,
            place: "lake".into(),
            options: BTreeMap::new(),
            table: None,
            catalog: BTreeMap::new(),
            partition_key: Vec::new(),
        }
    }

    fn next(version: u64, parent: Option<&str>) -> Manifest {
        let state = TableState {
            version,
            schema: Some(EGRESS.into()),
            ..TableState::default()
        };
        Manifest::new(state, &unique_name(), parent)
    }

    #[test]
    fn a_commit_is_in_if_the_log_names_it_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::on_disk(dir.path());
        let newest = Arc::default();
        let change = Change {
            added: &[],
            removed: &[],
            data_change: true,
        };
        let append =
            |does, manifest: &Manifest| log(&newest, does).append(&storage, manifest, &change);
        assert!(log(&newest, Log::Takes).newest(&storage).unwrap().is_none());
        let first = next(1, None);
        assert_eq!(append(Log::Takes, &first), Ok(true));
        // Another one that knows nothing of it, and one whose answer is lost.
        assert_eq!(append(Log::Takes, &next(1, None)), Ok(false));
        let second = next(2, Some(&first.commit));
        assert_eq!(append(Log::TakesAndIsLost, &second), Ok(true));
        // Neither in, nor surely out.
        let third = next(3, Some(&second.commit));
        let unknown = append(Log::Fails, &third);
        assert!(matches!(unknown, Err(CommitError::Ambiguous { .. })));
        let found = log(&newest, Log::Takes).newest(&storage).unwrap().unwrap();
        assert_eq!((found.state.version, &found.commit), (2, &second.commit));
        // Files that others have written in place of ours may be anybody's.
        let files: Vec<_> = found
            .state
            .files_of(Some(crate::identity::JobId(1)))
            .collect();
        assert_eq!(files.len(), 1);
        assert_eq!(
            (files[0].path.as_str(), files[0].job.as_str()),
            ("data/other.parquet", "")
        );
        // What the log names has to be there.
        std::fs::remove_dir_all(dir.path().join(DIR)).unwrap();
        let gone = log(&newest, Log::Takes)
            .newest(&storage)
            .unwrap_err()
            .to_string();
        assert!(
            gone.contains("whose manifest is not in _kappaflow"),
            "{gone}"
        );
    }

    #[test]
    fn a_clean_up_leaves_the_manifest_that_the_log_names_however_many_commits_failed_since() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::on_disk(dir.path());
        let newest = Arc::default();
        let change = Change {
            added: &[],
            removed: &[],
            data_change: true,
        };
        let append =
            |does, manifest: &Manifest| log(&newest, does).append(&storage, manifest, &change);
        let mut first = next(1, None);
        // Two that the format has been told to remove.
        for name in ["data/gone.parquet", "data/there.parquet"] {
            first.state.removed.insert(name.into(), 0);
            storage.put(name, b"rows".to_vec()).unwrap();
        }
        assert_eq!(append(Log::Takes, &first), Ok(true));
        for _ in 0..150 {
            append(Log::Fails, &next(2, Some(&first.commit))).unwrap_err();
        }
        // A file is old from the next millisecond on.
        std::thread::sleep(std::time::Duration::from_millis(10));
        let table = Table::new(storage.clone(), Box::new(log(&newest, Log::Takes)));
        let ctx = Context::default();
        clean(&table, std::time::Duration::ZERO, &ctx).unwrap();
        let state = table.state().unwrap();
        assert_eq!((state.version, state.removed.len()), (1, 2));
        // One is removed by the format's own means, and forgotten then.
        storage.remove("data/gone.parquet").unwrap();
        clean(&table, std::time::Duration::ZERO, &ctx).unwrap();
        let state = table.state().unwrap();
        let left: Vec<_> = state.removed.keys().map(String::as_str).collect();
        assert_eq!((state.version, left), (2, vec!["data/there.parquet"]));
    }
}
