//! Where a table's files are: a directory on disk, or a prefix of an object store. Calls block.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use object_store::{
    Error as StoreError, ObjectStoreExt, PutMode, PutOptions, PutPayload, WriteMultipart,
};

use crate::error::{Error, Result};
use crate::files::{create_whole, replace_whole, sync_parent, unique_name};
use crate::snapshot::{Opened, Place, Remote, told};

/// Bytes of a file that are sent at once.
const PART_BYTES: usize = 16 << 20;
/// Parts on their way at a time.
const PARTS: usize = 4;

/// See the module.
#[derive(Clone)]
pub struct Storage {
    place: Place,
    shown: PathBuf,
    /// Where files are written before they go to an object store, and kept that were got from one.
    spool: PathBuf,
}

/// A file of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the table.
    pub name: String,
    pub bytes: u64,
    /// When it was written, in milliseconds since the Unix epoch.
    pub modified_ms: i64,
}

/// A data file that is being written: on disk under `temporary`, until [`Storage::finish`] gives it its name.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// Relative to the table.
    pub name: String,
    pub temporary: PathBuf,
}

impl Storage {
    /// `spool` is a directory on disk, which only an object store needs.
    pub fn new(place: Place, spool: PathBuf) -> Self {
        Self {
            shown: place.shown(),
            place,
            spool,
        }
    }

    /// A directory on disk. It is made when something is written.
    pub fn on_disk(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self::new(Place::Local(dir.clone()), dir)
    }

    /// The directory or the URL.
    pub fn location(&self) -> &Path {
        &self.shown
    }

    pub(super) fn error(&self, reason: String) -> Error {
        Error::Table {
            table: self.shown.clone(),
            reason,
        }
    }

    fn failed(&self, what: &str, name: &str, reason: impl ToString) -> Error {
        self.error(format!("can't {what} {name}: {}", reason.to_string()))
    }

    /// The files below a directory of the table, in any order.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub fn list(&self, dir: &str) -> Result<Vec<Entry>> {
        let failed = |e: String| self.failed("list", dir, e);
        match &self.place {
            Place::Local(root) => {
                let mut found = Vec::new();
                below(root, dir, &mut found).map_err(|e| failed(e.to_string()))?;
                Ok(found)
            }
            Place::Remote(remote) => {
                let from = object(remote, dir);
                let listing = remote.store.list(Some(&from)).try_collect::<Vec<_>>();
                let found = remote.runtime.block_on(listing);
                let found = found.map_err(|e| failed(told(&e)))?;
                let above = remote.key.as_ref().len();
                Ok(found
                    .into_iter()
                    .map(|meta| Entry {
                        name: meta.location.as_ref()[above..]
                            .trim_start_matches('/')
                            .to_owned(),
                        bytes: meta.size,
                        modified_ms: meta.last_modified.timestamp_millis(),
                    })
                    .collect())
            }
        }
    }

    /// A small file, whole; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub fn read(&self, name: &str) -> Result<Option<Bytes>> {
        match &self.place {
            Place::Local(root) => match fs::read(root.join(name)) {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
                Err(e) => Err(self.failed("read", name, e)),
            },
            Place::Remote(remote) => {
                let got = async {
                    let found = remote.store.get(&object(remote, name)).await?;
                    found.bytes().await
                };
                match remote.runtime.block_on(got) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(StoreError::NotFound { .. }) => Ok(None),
                    Err(e) => Err(self.failed("read", name, told(&e))),
                }
            }
        }
    }

    /// Whether there is such a file.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub fn exists(&self, name: &str) -> Result<bool> {
        match &self.place {
            Place::Local(root) => root
                .join(name)
                .try_exists()
                .map_err(|e| self.failed("look at", name, e)),
            Place::Remote(remote) => {
                let key = object(remote, name);
                match remote.runtime.block_on(remote.store.head(&key)) {
                    Ok(_) => Ok(true),
                    Err(StoreError::NotFound { .. }) => Ok(false),
                    Err(e) => Err(self.failed("look at", name, told(&e))),
                }
            }
        }
    }

    /// Creates a file with all of its text at once, or says `false` if the name is taken.
    ///
    /// # Errors
    /// The answer was an error: whether the file is there, only a look can tell.
    pub fn create(&self, name: &str, text: &str) -> io::Result<bool> {
        match &self.place {
            Place::Local(root) => {
                let path = root.join(name);
                make_parent(&path)?;
                create_whole(&path, text)
            }
            Place::Remote(remote) => {
                let payload = PutPayload::from(text.as_bytes().to_vec());
                let options = PutOptions::from(PutMode::Create);
                let key = object(remote, name);
                let put = remote.store.put_opts(&key, payload, options);
                match remote.runtime.block_on(put) {
                    Ok(_) => Ok(true),
                    Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                        Ok(false)
                    }
                    Err(e) => Err(io::Error::other(told(&e))),
                }
            }
        }
    }

    /// Writes a small file whole, in place of what has the name.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> io::Result<()> {
        match &self.place {
            Place::Local(root) => {
                let path = root.join(name);
                make_parent(&path)?;
                replace_whole(&path, &bytes)
            }
            Place::Remote(remote) => {
                let key = object(remote, name);
                let put = remote.store.put(&key, bytes.into());
                let put = remote.runtime.block_on(put);
                put.map(drop).map_err(|e| io::Error::other(told(&e)))
            }
        }
    }

    /// Removes a file; one that is gone already is no error.
    ///
    /// # Errors
    /// If it can't be removed.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match &self.place {
            Place::Local(root) => match fs::remove_file(root.join(name)) {
                Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            },
            Place::Remote(remote) => {
                let key = object(remote, name);
                let delete = remote.store.delete(&key);
                match remote.runtime.block_on(delete) {
                    Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
                    Err(e) => Err(io::Error::other(told(&e))),
                }
            }
        }
    }

    /// Makes the directory, where one is needed.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn make(&self) -> Result<()> {
        match &self.place {
            Place::Local(root) => {
                fs::create_dir_all(root).map_err(Error::io("make the directory", root))
            }
            Place::Remote(_) => Ok(()),
        }
    }

    /// Whether files can be put there without making a directory.
    pub fn is_made(&self) -> bool {
        match &self.place {
            Place::Local(root) => root.is_dir(),
            Place::Remote(_) => true,
        }
    }

    /// Removes files on this machine's disk that are only kept to be read again, or that a killed lander has left, if they
    /// were written before a time in milliseconds since the Unix epoch. How many.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn clean_spool(&self, before_ms: i64) -> Result<u64> {
        let failed = |e| Error::io("clean up", &self.spool)(e);
        let mut found = Vec::new();
        if matches!(self.place, Place::Remote(_)) {
            below(&self.spool, ".", &mut found).map_err(failed)?;
        }
        found.retain(|entry| entry.modified_ms < before_ms);
        for entry in &found {
            match fs::remove_file(self.spool.join(&entry.name)) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed(e)),
                _ => {}
            }
        }
        Ok(found.len() as u64)
    }

    /// A place for a new data file in a directory of the table.
    ///
    /// # Errors
    /// [`Error::Io`] if its directory can't be made.
    pub fn begin(&self, dir: &str) -> Result<NewFile> {
        let unique = unique_name();
        let name = format!("{dir}/{unique}.parquet");
        let temporary = match &self.place {
            Place::Local(root) => root.join(dir).join(format!("{unique}.tmp")),
            Place::Remote(_) => self.spool.join(format!("{unique}.tmp")),
        };
        make_parent(&temporary).map_err(Error::io("make the directory of", &temporary))?;
        Ok(NewFile { name, temporary })
    }

    /// Gives a data file that is whole its name, durably.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Table`]; the temporary file stays then.
    pub fn finish(&self, file: &NewFile) -> Result<()> {
        match &self.place {
            Place::Local(root) => {
                let place = root.join(&file.name);
                fs::rename(&file.temporary, &place)
                    .map_err(Error::io("rename", &file.temporary))?;
                sync_parent(&place).map_err(Error::io("sync the directory of", &place))
            }
            Place::Remote(remote) => {
                remote
                    .runtime
                    .block_on(upload(remote, file))
                    .map_err(|e| self.failed("write", &file.name, e))?;
                // It only takes space: the object is there.
                let _ = fs::remove_file(&file.temporary);
                Ok(())
            }
        }
    }

    /// Opens a data file.
    ///
    /// # Errors
    /// [`Error::Source`], [`Error::Io`], or [`Error::Table`] if it isn't there.
    pub fn open(&self, name: &str) -> Result<Opened> {
        let place = match &self.place {
            Place::Local(root) => Place::Local(root.join(name)),
            Place::Remote(remote) => Place::Remote(Remote {
                url: remote.url_of(object(remote, name).as_ref()),
                key: object(remote, name),
                ..remote.clone()
            }),
        };
        let opened = place.open(None)?;
        opened.ok_or_else(|| self.error(format!("file {name} is gone")))
    }

    /// A data file as one on disk: that of an object store is got once, and kept.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Table`].
    pub fn local(&self, name: &str) -> Result<PathBuf> {
        let remote = match &self.place {
            Place::Local(root) => return Ok(root.join(name)),
            Place::Remote(remote) => remote,
        };
        let kept = self.spool.join(name);
        if kept.exists() {
            return Ok(kept);
        }
        let temporary = kept.with_extension(unique_name());
        let io = |e: io::Error| Error::io("write", &temporary)(e);
        make_parent(&temporary).map_err(io)?;
        let mut file = fs::File::create(&temporary).map_err(io)?;
        let got = async {
            let found = remote.store.get(&object(remote, name)).await?;
            let mut parts = found.into_stream();
            while let Some(part) = parts.try_next().await? {
                io::Write::write_all(&mut file, &part).map_err(|e| StoreError::Generic {
                    store: "disk",
                    source: Box::new(e),
                })?;
            }
            Ok::<(), StoreError>(())
        };
        remote.runtime.block_on(got).map_err(|e| {
            let _ = fs::remove_file(&temporary);
            self.failed("read", name, told(&e))
        })?;
        fs::rename(&temporary, &kept).map_err(io)?;
        Ok(kept)
    }
}

/// The key of a file. Its name is taken as it is: folders of partition values are encoded already.
fn object(remote: &Remote, name: &str) -> object_store::path::Path {
    object_store::path::Path::parse(format!("{}/{name}", remote.key))
        .unwrap_or_else(|_| remote.key.clone().join(name))
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn below(root: &Path, dir: &str, found: &mut Vec<Entry>) -> io::Result<()> {
    let entries = match fs::read_dir(root.join(dir)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let name = format!("{dir}/{}", entry.file_name().to_string_lossy());
        let about = match entry.metadata() {
            Ok(about) => about,
            // Another lander has renamed or removed it meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        if about.is_dir() {
            below(root, &name, found)?;
            continue;
        }
        let modified = about.modified()?.duration_since(UNIX_EPOCH);
        found.push(Entry {
            name,
            bytes: about.len(),
            modified_ms: modified.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
        });
    }
    Ok(())
}

/// Sends a file to its object, in parts; a store makes it appear whole.
async fn upload(remote: &Remote, file: &NewFile) -> std::result::Result<(), String> {
    let io = |e: io::Error| e.to_string();
    let mut source = fs::File::open(&file.temporary).map_err(io)?;
    let key = object(remote, &file.name);
    let mut part = next_part(&mut source).map_err(io)?;
    if part.len() < PART_BYTES {
        let put = remote.store.put(&key, part.into()).await;
        return put.map(drop).map_err(|e| told(&e));
    }
    let upload = remote.store.put_multipart(&key).await;
    let mut upload = WriteMultipart::new_with_chunk_size(upload.map_err(|e| told(&e))?, PART_BYTES);
    while !part.is_empty() {
        let free = upload.wait_for_capacity(PARTS).await;
        if let Err(e) = free {
            // What was sent is removed by the store's own rules, if this fails too.
            let _ = upload.abort().await;
            return Err(told(&e));
        }
        upload.put(part);
        part = next_part(&mut source).map_err(io)?;
    }
    upload.finish().await.map(drop).map_err(|e| told(&e))
}

fn next_part(source: &mut fs::File) -> io::Result<Bytes> {
    let mut part = BytesMut::zeroed(PART_BYTES);
    let mut filled = 0;
    while filled < PART_BYTES {
        match source.read(&mut part[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    part.truncate(filled);
    Ok(part.freeze())
}
