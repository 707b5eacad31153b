//! Where a file of the source is: on disk, or in an object store. Both are opened, checked and read by row group.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::chunks::Chunks;
use super::hex;
use super::stores::told;
use crate::error::{Error, Result};

/// The end of a remote file that is read at first; a longer footer is read once more.
const TAIL_BYTES: u64 = 64 << 10;
/// Ranges of a remote file that are no further apart are read at once.
const GAP_BYTES: u64 = 1 << 20;

/// Where a file is.
#[derive(Clone)]
pub enum Place {
    Local(PathBuf),
    Remote(Remote),
}

/// An object, or a prefix of some.
#[derive(Clone)]
pub struct Remote {
    pub url: String,
    /// The URL without its path.
    pub root: String,
    pub store: Arc<dyn ObjectStore>,
    pub key: object_store::path::Path,
    /// Where requests run.
    pub runtime: Handle,
}

impl Remote {
    /// The object itself, if it is one; of a store that keeps versions the newest, or the one that is asked for.
    ///
    /// # Errors
    /// [`Error::Source`]
    pub fn head(&self, version: Option<&str>) -> Result<Option<ObjectMeta>> {
        let options = GetOptions {
            head: true,
            version: version.map(str::to_owned),
            ..GetOptions::default()
        };
        match self
            .runtime
            .block_on(self.store.get_opts(&self.key, options))
        {
            Ok(found) => Ok(Some(found.meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed(&e)),
        }
    }

    /// The keys of all objects below this prefix.
    ///
    /// # Errors
    /// [`Error::Source`]
    pub fn below(&self) -> Result<Vec<String>> {
        use futures_util::TryStreamExt;
        let prefix = (!self.key.as_ref().is_empty()).then_some(&self.key);
        let found = self
            .store
            .list(prefix)
            .map_ok(|meta| meta.location.to_string());
        let found = self.runtime.block_on(found.try_collect::<Vec<_>>());
        found.map_err(|e| self.failed(&e))
    }

    /// The URL of a key of the same store.
    pub fn url_of(&self, key: &str) -> String {
        format!("{}/{key}", self.root)
    }

    fn failed(&self, error: &object_store::Error) -> Error {
        Error::Source {
            path: PathBuf::from(&self.url),
            reason: told(error),
        }
    }
}

/// What tells that a file is another than it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub bytes: u64,
    /// Milliseconds since the Unix epoch.
    pub modified_ms: Option<u64>,
    pub etag: Option<String>,
    pub version: Option<String>,
    pub footer_sha256: String,
}

/// An opened Parquet file.
pub struct Opened {
    pub data: Data,
    pub metadata: ArrowReaderMetadata,
    pub facts: Facts,
}

impl Opened {
    /// The same file, opened once more.
    ///
    /// # Errors
    /// If the system has no more handles of files.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        Ok(Self {
            data: match &self.data {
                Data::Local(file) => Data::Local(file.try_clone()?),
                Data::Remote(object) => Data::Remote(object.clone()),
            },
            metadata: self.metadata.clone(),
            facts: self.facts.clone(),
        })
    }
}

/// The bytes of an opened file.
pub enum Data {
    Local(File),
    Remote(Box<Object>),
}

/// An object as it was when it was opened: one that was replaced since is refused by its store.
#[derive(Clone)]
pub struct Object {
    remote: Remote,
    /// That it is the same one.
    same: GetOptions,
    bytes: u64,
}

/// A range that could not be read.
pub enum Unread {
    /// The object is another one, or gone.
    Changed(String),
    Failed(String),
}

impl Place {
    /// As it is shown: a path or a URL.
    pub fn shown(&self) -> PathBuf {
        match self {
            Self::Local(path) => path.clone(),
            Self::Remote(remote) => PathBuf::from(&remote.url),
        }
    }

    /// Opens a Parquet file; `None` if there is none. A store that keeps versions gives the newest, or the one that is
    /// asked for; where that one is gone the newest tells what became of the object.
    ///
    /// # Errors
    /// [`Error::Source`] or [`Error::Io`].
    pub fn open(&self, version: Option<&str>) -> Result<Option<Opened>> {
        match self {
            Self::Local(path) if !path.exists() => Ok(None),
            Self::Local(path) => open_local(path).map(Some),
            Self::Remote(remote) => match remote.head(version)? {
                None if version.is_some() => self.open(None),
                None => Ok(None),
                Some(meta) => open_remote(remote, &meta).map(Some),
            },
        }
    }
}

/// How the reason begins why a file can't be read as Parquet.
pub const NOT_PARQUET: &str = "not a Parquet file that can be read";

fn not_parquet(path: &Path, reason: impl ToString) -> Error {
    Error::Source {
        path: path.to_path_buf(),
        reason: format!("{NOT_PARQUET}: {}", reason.to_string()),
    }
}

fn open_local(path: &Path) -> Result<Opened> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let metadata =
        ArrowReaderMetadata::load(&file, Default::default()).map_err(|e| not_parquet(path, e))?;
    let about = file.metadata().map_err(Error::io("look at", path))?;
    let modified = about.modified().ok();
    let since_epoch = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let bytes = about.len();
    Ok(Opened {
        facts: Facts {
            bytes,
            modified_ms: since_epoch.and_then(|d| u64::try_from(d.as_millis()).ok()),
            etag: None,
            version: None,
            footer_sha256: footer_sha256(&mut file, bytes)
                .map_err(Error::io("read the footer of", path))?,
        },
        data: Data::Local(file),
        metadata,
    })
}

/// The footer's length is in the 8 bytes before the end (u32 little-endian, then the magic).
fn footer_bytes(tail: &[u8]) -> Option<u64> {
    let from = tail.len().checked_sub(8)?;
    let (length, _) = tail.get(from..)?.split_first_chunk::<4>()?;
    Some(u64::from(u32::from_le_bytes(*length)) + 8)
}

fn footer_sha256(file: &mut File, bytes: u64) -> std::io::Result<String> {
    let mut tail = [0; 8];
    file.seek(SeekFrom::End(-8))?;
    file.read_exact(&mut tail)?;
    let length = footer_bytes(&tail).unwrap_or(8);
    file.seek(SeekFrom::Start(bytes.saturating_sub(length)))?;
    let mut footer = Vec::new();
    file.take(length).read_to_end(&mut footer)?;
    Ok(hex(&Sha256::digest(&footer)))
}

fn open_remote(remote: &Remote, meta: &ObjectMeta) -> Result<Opened> {
    let path = PathBuf::from(&remote.url);
    let object = Object {
        remote: remote.clone(),
        same: GetOptions {
            if_match: meta.e_tag.clone(),
            if_unmodified_since: meta.e_tag.is_none().then_some(meta.last_modified),
            version: meta.version.clone(),
            ..GetOptions::default()
        },
        bytes: meta.size,
    };
    let read = |length: u64| {
        let from = meta.size.saturating_sub(length);
        let read = remote
            .runtime
            .block_on(object.clone().fetch(std::iter::once(from..meta.size)));
        match read {
            Ok(chunks) => Ok(chunks),
            Err(Unread::Changed(reason) | Unread::Failed(reason)) => Err(Error::Source {
                path: path.clone(),
                reason,
            }),
        }
    };
    let mut tail = read(TAIL_BYTES.min(meta.size))?;
    let wrong = || {
        not_parquet(
            &path,
            format!("{} bytes, with no footer at their end", meta.size),
        )
    };
    let length = footer_bytes(&tail.end(8)).filter(|length| *length <= meta.size);
    let length = length.ok_or_else(wrong)?;
    if length > TAIL_BYTES {
        tail = read(length)?;
    }
    let metadata =
        ArrowReaderMetadata::load(&tail, Default::default()).map_err(|e| not_parquet(&path, e))?;
    Ok(Opened {
        facts: Facts {
            bytes: meta.size,
            modified_ms: u64::try_from(meta.last_modified.timestamp_millis()).ok(),
            etag: meta.e_tag.clone(),
            version: meta.version.clone(),
            footer_sha256: hex(&Sha256::digest(tail.end(length))),
        },
        data: Data::Remote(Box::new(object)),
        metadata,
    })
}

impl Object {
    /// Reads ranges, those that are near each other at once.
    ///
    /// # Errors
    /// [`Unread::Changed`] if the object was replaced or is gone.
    pub async fn fetch(
        self,
        ranges: impl IntoIterator<Item = Range<u64>>,
    ) -> Result<Chunks, Unread> {
        let mut ranges: Vec<Range<u64>> = ranges.into_iter().collect();
        ranges.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.start <= last.end + GAP_BYTES => {
                    last.end = last.end.max(range.end);
                }
                _ => merged.push(range),
            }
        }
        let reads = merged.into_iter().map(|range| self.get(range));
        let parts = futures_util::future::try_join_all(reads).await?;
        Ok(Chunks::new(self.bytes, parts))
    }

    async fn get(&self, range: Range<u64>) -> Result<(u64, Bytes), Unread> {
        let from = range.start;
        let expected = range.end - range.start;
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..self.same.clone()
        };
        let read = async {
            let answer = self
                .remote
                .store
                .get_opts(&self.remote.key, options)
                .await?;
            answer.bytes().await
        };
        match read.await {
            Ok(bytes) if bytes.len() as u64 == expected => Ok((from, bytes)),
            Ok(bytes) => Err(Unread::Changed(format!(
                "gave {} bytes from {from} on, where {expected} were",
                bytes.len()
            ))),
            Err(object_store::Error::NotFound { .. }) => Err(Unread::Changed(
                "the object is gone, or was replaced".into(),
            )),
            Err(object_store::Error::Precondition { .. }) => Err(Unread::Changed(
                "it was replaced while it was read: its etag or its time is another".into(),
            )),
            Err(e) => Err(Unread::Failed(told(&e))),
        }
    }

    /// Begins to read in the background.
    pub fn fetch_ahead(&self, ranges: Vec<Range<u64>>) -> Ahead {
        Ahead {
            task: self.remote.runtime.spawn(self.clone().fetch(ranges)),
            runtime: self.remote.runtime.clone(),
        }
    }
}

/// A read under way; it ends with its owner.
pub struct Ahead {
    task: tokio::task::JoinHandle<Result<Chunks, Unread>>,
    runtime: Handle,
}

impl Ahead {
    /// Waits for it.
    ///
    /// # Errors
    /// As [`Object::fetch`].
    pub fn wait(&mut self) -> Result<Chunks, Unread> {
        let done = self.runtime.clone().block_on(&mut self.task);
        done.unwrap_or_else(|e| Err(Unread::Failed(e.to_string())))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.task.abort();
    }
}
