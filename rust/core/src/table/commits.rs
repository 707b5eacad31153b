//! The table itself: commits are tried on the newest version until one is in, or can't be.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::admit::{admit, apply, publish, replace};
use super::manifest::{self, Change, CommitLog, Manifest, ManifestLog};
use super::registered::RegisteredLog;
use super::storage::{Entry, Storage};
use super::{CommitError, CommitRequest, Committed, DataFile, Seen, TableState, rebuild};
use crate::error::{Error, Result};
use crate::files::unique_name;
use crate::identity::JobId;
use crate::job::{Job, OutputMode, TableFormat, resolve_reference};
use crate::snapshot::Reach;
use crate::store::now_ms;

/// Tries at the next version before a commit gives way to the landers that keep winning.
const TRIES: u32 = 100;
/// The directory of data files.
pub const DATA: &str = "data";

/// A table. Calls block, and must not be made on a thread of an asynchronous runtime.
pub struct Table {
    storage: Storage,
    log: Box<dyn CommitLog>,
}

impl Table {
    /// The table of a job's `[output]`. Nothing is read or made yet.
    ///
    /// # Errors
    /// [`crate::Error::Source`] if there is no store of such a URL.
    pub fn of(job: &Job) -> Result<Self> {
        let output = &job.file.output;
        let place = Reach::new(&job.dir, output.options.clone()).place(&output.path)?;
        let spool = job.work_dir().join("spool");
        let log: Box<dyn CommitLog> = match output.format {
            TableFormat::Parquet => Box::new(ManifestLog::default()),
            format => Box::new(registered(job, format)?),
        };
        Ok(Self::new(Storage::new(place, spool), log))
    }

    pub fn new(storage: Storage, log: Box<dyn CommitLog>) -> Self {
        Self { storage, log }
    }

    /// Whether files are removed by the format's own means.
    pub fn keeps_files(&self) -> bool {
        self.log.keeps_files()
    }

    /// The directory or the URL.
    pub fn location(&self) -> &Path {
        self.storage.location()
    }

    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The newest version; the default before the first.
    ///
    /// # Errors
    /// [`crate::Error::Table`] if it can't be read.
    pub fn state(&self) -> Result<TableState> {
        let newest = self.log.newest(&self.storage)?;
        Ok(newest.map_or_else(TableState::default, |m| m.state))
    }

    /// The inputs that are landed as of a state.
    ///
    /// # Errors
    /// [`crate::Error::Table`] if neither the sidecar nor the data files can be read.
    pub fn seen(&self, state: &TableState) -> Result<Seen> {
        let Some(name) = &state.seen else {
            return Ok(Seen::default());
        };
        let bytes = self.storage.read(&format!("{}/{name}", manifest::DIR));
        match bytes.map(|bytes| bytes.map(|b| Seen::from_bytes(&b))) {
            Ok(Some(Ok(seen))) => Ok(seen),
            // It is derived: the identity columns say the same.
            _ => rebuild(&self.storage, state),
        }
    }

    /// Adds a version with the request's files, offsets and tokens, or nothing at all.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn commit(&self, request: &CommitRequest) -> Result<Committed, CommitError> {
        for _ in 0..TRIES {
            if let Some(committed) = self.try_commit(request)? {
                return Ok(committed);
            }
        }
        Err(gave_way())
    }

    fn try_commit(&self, request: &CommitRequest) -> Result<Option<Committed>, CommitError> {
        let newest = self.log.newest(&self.storage).map_err(refused)?;
        if let Some(newest) = newest.as_ref().filter(|m| m.holds(&request.id)) {
            return Ok(Some(Committed {
                version: newest.state.version,
            }));
        }
        let parent = newest.as_ref().map(|m| m.commit.clone());
        let state = newest.map_or_else(TableState::default, |m| m.state);
        let seen = self.seen(&state).map_err(refused)?;
        admit(&state, &seen, request)?;
        let sidecar = self
            .write_seen(seen, request)
            .map_err(|e| CommitError::Refused {
                reason: format!("the sidecar of commit {} can't be written: {e}", request.id),
            })?;
        let next = apply(&state, request, sidecar);
        let manifest = Manifest::new(next, &request.id, parent.as_deref());
        let added = if request.staged {
            &[]
        } else {
            &request.files[..]
        };
        let change = Change {
            added,
            removed: &[],
            data_change: true,
        };
        let version = manifest.state.version;
        let appended = self.log.append(&self.storage, &manifest, &change)?;
        Ok(appended.then_some(Committed { version }))
    }

    /// Writes the sidecar of a commit: all inputs seen before, and the request's.
    fn write_seen(&self, before: Seen, request: &CommitRequest) -> std::io::Result<Option<String>> {
        if request.seen.is_empty() {
            return Ok(None);
        }
        let mut all = before;
        all.merge(&request.seen);
        let name = format!("seen-{}.bin", request.id);
        let bytes = all.to_bytes()?;
        self.storage
            .put(&format!("{}/{name}", manifest::DIR), bytes)?;
        Ok(Some(name))
    }

    /// Shows a job's rows to readers in the place of those that they replace. The version that does, or `None` if it is
    /// done.
    ///
    /// # Errors
    /// [`CommitError`]: nothing is published then, or that can't be told.
    pub fn publish(&self, job: JobId, mode: OutputMode) -> Result<Option<u64>, CommitError> {
        for _ in 0..TRIES {
            let (state, parent) = self.newest()?;
            let Some(published) = publish(&state, job, mode, now_ms())? else {
                return Ok(None);
            };
            let manifest = Manifest::new(published.state, &unique_name(), parent.as_deref());
            let change = Change {
                added: &published.added,
                removed: &published.removed,
                data_change: true,
            };
            if self.log.append(&self.storage, &manifest, &change)? {
                return Ok(Some(manifest.state.version));
            }
        }
        Err(gave_way())
    }

    fn newest(&self) -> Result<(TableState, Option<String>), CommitError> {
        let newest = self.log.newest(&self.storage).map_err(refused)?;
        Ok(newest.map_or_else(Default::default, |m| (m.state, Some(m.commit))))
    }

    /// Puts files in the place of others with the same rows. The version that has them, or `None` if one of the others is
    /// no more.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn replace(
        &self,
        added: &[DataFile],
        removed: &[DataFile],
        commit: &str,
    ) -> Result<Option<u64>, CommitError> {
        for _ in 0..TRIES {
            let (state, parent) = self.newest()?;
            let Some(next) = replace(&state, added, removed, now_ms()) else {
                return Ok(None);
            };
            let manifest = Manifest::new(next, commit, parent.as_deref());
            let change = Change {
                added,
                removed,
                data_change: false,
            };
            if self.log.append(&self.storage, &manifest, &change)? {
                return Ok(Some(manifest.state.version));
            }
        }
        Err(gave_way())
    }

    /// Forgets files that were replaced, and are gone now.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn forget(&self, gone: &[String]) -> Result<(), CommitError> {
        for _ in 0..TRIES {
            let (mut next, parent) = self.newest()?;
            let before = next.removed.len();
            next.removed.retain(|path, _| !gone.contains(path));
            if next.removed.len() == before {
                return Ok(());
            }
            next.version += 1;
            let manifest = Manifest::new(next, &unique_name(), parent.as_deref());
            let change = Change {
                added: &[],
                removed: &[],
                data_change: false,
            };
            if self.log.append(&self.storage, &manifest, &change)? {
                return Ok(());
            }
        }
        Err(gave_way())
    }

    /// Data files that the newest version does not know: of killed landers, or of one that is at work now.
    ///
    /// # Errors
    /// [`crate::Error::Table`] if they can't be listed.
    pub fn orphans(&self) -> Result<Vec<Entry>> {
        let files = self.storage.list(DATA)?;
        // After the list: what was committed meanwhile is live.
        let state = self.state()?;
        let live: HashSet<&str> = state.files_of(None).map(|f| f.path.as_str()).collect();
        let is_orphan = |file: &Entry| {
            !live.contains(file.name.as_str()) && !state.removed.contains_key(&file.name)
        };
        Ok(files.into_iter().filter(is_orphan).collect())
    }
}

fn registered(job: &Job, format: TableFormat) -> Result<RegisteredLog> {
    let output = &job.file.output;
    let registrar = job.registrar.clone().ok_or_else(|| Error::NotReady {
        what: format!(
            "the table of job {} is of format {}, which is spoken in Python",
            job.file.name,
            format.name()
        ),
        fix: "use `kappaflow` or its Python package, not this binary".into(),
    })?;
    let resolved = |key: &str, given: &BTreeMap<String, String>| -> Result<_> {
        let resolved = given.iter().map(|(name, value)| {
            let value = resolve_reference(value, &job.dir);
            let value = value.map_err(|e| job.error(format!("output.{key}.{name:?}"), e))?;
            Ok((name.clone(), value))
        });
        resolved.collect()
    };
    Ok(RegisteredLog {
        registrar,
        format,
        place: job.table().to_string_lossy().into_owned(),
        options: resolved("options", &output.options)?,
        table: output.table.clone(),
        catalog: resolved("catalog", &output.catalog)?,
        partition_key: output.partition_key.clone(),
    })
}

/// Runs calls of a table from within an asynchronous runtime.
///
/// # Errors
/// What the calls fail with.
pub async fn blocking<T: Send + 'static>(
    table: &Path,
    calls: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(calls).await;
    done.unwrap_or_else(|e| {
        Err(Error::Table {
            table: table.to_path_buf(),
            reason: format!("reading it ended early: {e}"),
        })
    })
}

fn refused(e: Error) -> CommitError {
    CommitError::Refused {
        reason: e.to_string(),
    }
}

fn gave_way() -> CommitError {
    CommitError::Conflict {
        reason: format!("{TRIES} other commits came in between"),
    }
}
