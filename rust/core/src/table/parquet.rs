//! A directory of Parquet files with a manifest a version: `data/*.parquet` and `_kappaflow/<version>.json`.
//!
//! A commit is the exclusive creation of the next version's manifest. Files that no manifest names (a lander was killed
//! before its commit) are not part of the table.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use super::{
    CommitError, CommitRequest, Committed, NewFile, Seen, TableCommit, TableState, admit, apply,
    rebuild,
};
use crate::error::{Error, Result};
use crate::files::{create_whole, replace_whole, unique_name};
use crate::identity::JobId;

/// Tries at the next version before a commit gives way to the landers that keep winning.
const TRIES: u32 = 100;

type Create = dyn Fn(&Path, &str) -> std::io::Result<bool> + Send + Sync;

/// See the module.
pub struct ParquetTable {
    dir: PathBuf,
    /// Creates a manifest exclusively. Tests put faults here.
    pub(super) create: Box<Create>,
}

impl ParquetTable {
    /// The table of a directory, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be made.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        for part in [dir.join("data"), dir.join("_kappaflow")] {
            fs::create_dir_all(&part).map_err(Error::io("make the directory", &part))?;
        }
        Ok(Self {
            dir,
            create: Box::new(create_whole),
        })
    }

    /// A table to look at: a directory that is not there is an empty table, and stays away.
    pub fn view(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            create: Box::new(create_whole),
        }
    }

    /// Data files that the newest version does not name: of killed landers, or of one that is at work now.
    pub fn orphans(&self) -> Result<Vec<PathBuf>> {
        let live: HashSet<PathBuf> = live_files(&self.dir, None)?.into_iter().collect();
        let data = self.dir.join("data");
        Ok(list(&data)?
            .into_iter()
            .map(|name| data.join(name))
            .filter(|path| !live.contains(path))
            .collect())
    }

    fn manifest_path(&self, version: u64) -> PathBuf {
        self.dir
            .join("_kappaflow")
            .join(format!("{version:020}.json"))
    }

    fn error(&self, reason: String) -> Error {
        Error::Table {
            table: self.dir.clone(),
            reason,
        }
    }

    fn newest(&self) -> Result<Option<Manifest>> {
        let names = list(&self.dir.join("_kappaflow"))?;
        let newest = names
            .iter()
            .filter_map(|name| name.strip_suffix(".json")?.parse::<u64>().ok())
            .max();
        newest
            .map(|version| self.manifest(version))
            .transpose()
            .map(Option::flatten)
    }

    fn manifest(&self, version: u64) -> Result<Option<Manifest>> {
        let path = self.manifest_path(version);
        match fs::read_to_string(&path) {
            Ok(text) => Manifest::parse(&text)
                .map(Some)
                .map_err(|reason| self.error(format!("manifest {} {reason}", path.display()))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", &path)(e)),
        }
    }

    fn seen_path(&self, name: &str) -> PathBuf {
        self.dir.join("_kappaflow").join(name)
    }

    /// Writes the sidecar of a commit: all inputs seen before, and the request's.
    fn write_seen(&self, before: Seen, request: &CommitRequest) -> std::io::Result<Option<String>> {
        if request.seen.is_empty() {
            return Ok(None);
        }
        let mut all = before;
        all.merge(&request.seen);
        let name = format!("seen-{}.bin", request.id);
        replace_whole(&self.seen_path(&name), &all.to_bytes()?)?;
        Ok(Some(name))
    }

    fn try_commit(&self, request: &CommitRequest) -> Result<Option<Committed>, CommitError> {
        let refused = |e: Error| CommitError::Refused {
            reason: e.to_string(),
        };
        let newest = self.newest().map_err(refused)?;
        if let Some(newest) = newest.as_ref().filter(|m| m.holds(&request.id)) {
            return Ok(Some(Committed {
                version: newest.version,
            }));
        }
        let state = newest.map_or_else(TableState::default, Manifest::state);
        let seen = self.seen(&state).map_err(refused)?;
        admit(&state, &seen, request)?;
        let sidecar = self
            .write_seen(seen, request)
            .map_err(|e| CommitError::Refused {
                reason: format!("the sidecar of commit {} can't be written: {e}", request.id),
            })?;
        let manifest = Manifest::new(apply(&state, request, sidecar), &request.id);
        let version = manifest.version;
        let text = serde_json::to_string_pretty(&manifest).map_err(|e| CommitError::Refused {
            reason: e.to_string(),
        })?;
        let created = (self.create)(&self.manifest_path(version), &text);
        if matches!(created, Ok(true)) {
            return Ok(Some(Committed { version }));
        }
        // Taken, or the answer is an error: only the file itself says whose commit this version is.
        match (self.manifest(version), created) {
            (Ok(Some(theirs)), _) if theirs.commit == request.id => Ok(Some(Committed { version })),
            (Ok(Some(_)), _) => Ok(None),
            (Ok(None), Ok(_)) => Ok(None),
            (Ok(None), Err(e)) => Err(CommitError::Refused {
                reason: format!("version {version} can't be written: {e}"),
            }),
            (Err(e), _) => Err(CommitError::Ambiguous {
                id: request.id.clone(),
                reason: e.to_string(),
            }),
        }
    }
}

impl TableCommit for ParquetTable {
    fn location(&self) -> &Path {
        &self.dir
    }

    fn state(&self) -> Result<TableState> {
        Ok(self
            .newest()?
            .map_or_else(TableState::default, Manifest::state))
    }

    fn seen(&self, state: &TableState) -> Result<Seen> {
        let Some(name) = &state.seen else {
            return Ok(Seen::default());
        };
        let bytes = fs::read(self.seen_path(name));
        match bytes.map(|bytes| Seen::from_bytes(&bytes)) {
            Ok(Ok(seen)) => Ok(seen),
            // It is derived: the identity columns say the same.
            _ => rebuild(&self.dir, state),
        }
    }

    fn new_file(&self) -> Result<NewFile> {
        let name = unique_name();
        let data = self.dir.join("data");
        Ok(NewFile {
            path: format!("data/{name}.parquet"),
            temporary: data.join(format!("{name}.tmp")),
            place: data.join(format!("{name}.parquet")),
        })
    }

    fn commit(&self, request: &CommitRequest) -> Result<Committed, CommitError> {
        for _ in 0..TRIES {
            if let Some(committed) = self.try_commit(request)? {
                return Ok(committed);
            }
        }
        Err(CommitError::Conflict {
            reason: format!("{TRIES} other commits came in between"),
        })
    }
}

/// The data files of a table that are part of it, of one job or of all: what a reader may read. Empty before the first
/// commit.
///
/// # Errors
/// [`Error::Table`] if the newest manifest is damaged or of a newer format.
pub fn live_files(dir: &Path, job: Option<JobId>) -> Result<Vec<PathBuf>> {
    let job = job.map(|j| j.to_string());
    let state = ParquetTable::view(dir).state()?;
    Ok(state
        .files
        .iter()
        .filter(|f| job.as_ref().is_none_or(|j| *j == f.job))
        .map(|f| dir.join(&f.path))
        .collect())
}

fn list(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("list", dir)(e)),
    };
    entries
        .map(|entry| {
            Ok(entry
                .map_err(Error::io("list", dir))?
                .file_name()
                .to_string_lossy()
                .into_owned())
        })
        .collect()
}
