//! One version of a table, complete in itself, and the log that says which is the newest.

use serde::{Deserialize, Serialize};

use super::storage::Storage;
use super::{CommitError, DataFile, TableState};
use crate::error::Result;

/// The manifest layout this build writes; it refuses newer ones.
pub const FORMAT: u32 = 1;
/// The directory of manifests and sidecars.
pub(super) const DIR: &str = "_kappaflow";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The commit that made this version.
    pub commit: String,
    /// The commit that made the version before.
    #[serde(default)]
    pub parent: Option<String>,
    pub created_ms: i64,
    #[serde(flatten)]
    pub state: TableState,
}

/// Read first, so that a newer layout is refused by its number and not by a key it lacks.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Manifest {
    pub fn new(state: TableState, commit: &str, parent: Option<&str>) -> Self {
        Self {
            format: FORMAT,
            commit: commit.to_owned(),
            parent: parent.map(str::to_owned),
            created_ms: crate::store::now_ms(),
            state,
        }
    }

    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let format: Format =
            serde_json::from_slice(text).map_err(|e| format!("is no manifest: {e}"))?;
        if format.format > FORMAT {
            return Err(format!(
                "was written by a newer KappaFlow (manifest format {}, this build reads up to {FORMAT}); upgrade this one",
                format.format
            ));
        }
        serde_json::from_slice(text).map_err(|e| format!("is damaged: {e}"))
    }

    /// Whether a commit is in this version or an earlier one whose files are still live.
    pub fn holds(&self, commit: &str) -> bool {
        let files = self.state.files.iter().chain(&self.state.staged);
        self.commit == commit || files.into_iter().any(|f| f.commit == commit)
    }
}

/// What a version changes in the files that readers see.
pub struct Change<'a> {
    pub added: &'a [DataFile],
    pub removed: &'a [DataFile],
    /// Whether rows come or go, or only other files hold them.
    pub data_change: bool,
}

/// The log of a table's versions. Calls block.
pub trait CommitLog: Send + Sync {
    /// The newest version; nothing before the first.
    ///
    /// # Errors
    /// [`crate::Error::Table`] if it can't be read.
    fn newest(&self, storage: &Storage) -> Result<Option<Manifest>>;

    /// Makes this the next version, if the one that it was made of is still the newest; else `false`.
    ///
    /// # Errors
    /// [`CommitError::Refused`] if it is surely not in, [`CommitError::Ambiguous`] if that can't be told.
    fn append(
        &self,
        storage: &Storage,
        manifest: &Manifest,
        change: &Change<'_>,
    ) -> Result<bool, CommitError>;

    /// Whether files are removed by the format's own means, as Delta's `VACUUM`, which knows who still reads them.
    fn keeps_files(&self) -> bool {
        false
    }
}

type Create = dyn Fn(&Storage, &str, &str) -> std::io::Result<bool> + Send + Sync;

/// `_kappaflow/<20-digit version>.json`: a version is in once its manifest is there, which only one can create.
pub struct ManifestLog {
    /// Creates a manifest exclusively. Tests put faults here.
    pub(super) create: Box<Create>,
}

impl Default for ManifestLog {
    fn default() -> Self {
        Self {
            create: Box::new(Storage::create),
        }
    }
}

fn name(version: u64) -> String {
    format!("{DIR}/{version:020}.json")
}

/// A manifest by its name.
///
/// # Errors
/// [`crate::Error::Table`] if it is damaged, or of a newer format.
pub fn read(storage: &Storage, name: &str) -> Result<Option<Manifest>> {
    let Some(text) = storage.read(name)? else {
        return Ok(None);
    };
    Manifest::parse(&text)
        .map(Some)
        .map_err(|reason| storage.error(format!("manifest {name} {reason}")))
}

/// The versions whose manifests are there, with their files' names.
///
/// # Errors
/// [`crate::Error::Table`] if they can't be listed.
pub fn versions(storage: &Storage) -> Result<Vec<(u64, String)>> {
    let number = |name: &str| -> Option<u64> {
        let (_, file) = name.rsplit_once('/')?;
        let stem = file.strip_suffix(".json")?;
        stem.split('-').next()?.parse().ok()
    };
    let mut found: Vec<(u64, String)> = storage
        .list(DIR)?
        .into_iter()
        .filter_map(|entry| Some((number(&entry.name)?, entry.name)))
        .collect();
    found.sort_unstable();
    Ok(found)
}

impl ManifestLog {
    /// Whether a version that was created follows on one that is there. Where that has been cleaned up, the version was
    /// made of one that was the newest long ago.
    fn is_next(&self, storage: &Storage, version: u64) -> Result<bool, CommitError> {
        let look = |e: crate::Error| CommitError::Ambiguous {
            id: name(version),
            reason: e.to_string(),
        };
        if version <= 1 || storage.exists(&name(version - 1)).map_err(look)? {
            return Ok(true);
        }
        storage
            .remove(&name(version))
            .map_err(|e| CommitError::Ambiguous {
                id: name(version),
                reason: e.to_string(),
            })?;
        Ok(false)
    }
}

impl CommitLog for ManifestLog {
    fn newest(&self, storage: &Storage) -> Result<Option<Manifest>> {
        match versions(storage)?.pop() {
            Some((_, name)) => read(storage, &name),
            None => Ok(None),
        }
    }

    fn append(
        &self,
        storage: &Storage,
        manifest: &Manifest,
        _change: &Change<'_>,
    ) -> Result<bool, CommitError> {
        let version = manifest.state.version;
        let text = serde_json::to_string_pretty(manifest).map_err(|e| CommitError::Refused {
            reason: e.to_string(),
        })?;
        let created = (self.create)(storage, &name(version), &text);
        if matches!(created, Ok(true)) {
            return self.is_next(storage, version);
        }
        // Taken, or the answer is an error: only the file itself says whose commit this version is.
        match (read(storage, &name(version)), created) {
            (Ok(Some(theirs)), _) => Ok(theirs.commit == manifest.commit),
            (Ok(None), Ok(_)) => Ok(false),
            (Ok(None), Err(e)) => Err(CommitError::Refused {
                reason: format!("version {version} can't be written: {e}"),
            }),
            (Err(e), _) => Err(CommitError::Ambiguous {
                id: manifest.commit.clone(),
                reason: e.to_string(),
            }),
        }
    }
}
