//! The source at a point in time: Parquet files pinned by their footers, cut into repeatable splits and child jobs.

mod cut;
mod planned;
mod request;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow_schema::{DataType, Schema, SchemaRef};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::rows::Layout;

pub use cut::Split;
pub use planned::{Planned, PlannedField, PlannedFile, SourcePlan};
pub use request::{Planner, request, spec, take};

/// What Hive and Spark name the folder of null.
pub(crate) const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// A file as it was when the job was planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedFile {
    /// Relative to the snapshot's root, so that a moved directory is the same snapshot.
    pub path: String,
    pub bytes: u64,
    /// When it was written, in milliseconds since the Unix epoch; `None` if nobody knows.
    #[serde(default)]
    pub modified_ms: Option<u64>,
    pub rows: u64,
    /// SHA-256 of the Parquet footer: offsets, sizes and statistics of every column chunk.
    pub footer_sha256: String,
    /// Rows of each row group, in order.
    pub row_groups: Vec<u64>,
    /// Hive folder keys (`k=v`) on the path, or values that a plan gives for the whole file.
    pub hive: BTreeMap<String, String>,
}

/// The pinned source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// What the files' paths are relative to; itself relative to `base`, unless it is absolute.
    pub root: PathBuf,
    pub files: Vec<PinnedFile>,
    /// What the planner said, if there was one.
    #[serde(default)]
    pub planned: Option<Planned>,
    /// The job file's directory, which may move.
    #[serde(skip)]
    pub base: PathBuf,
}

impl Snapshot {
    /// Lists and pins what `pattern` (a file, a directory or a glob) names, in path order. It is relative to `base`.
    ///
    /// # Errors
    /// [`Error::Source`] if nothing matches, a file is not Parquet, or it can't be read.
    pub fn pin(pattern: &Path, base: &Path) -> Result<Self> {
        let whole = base.join(pattern);
        let (root, mut paths) = list(&whole)?;
        paths.sort();
        if paths.is_empty() {
            return Err(Error::Source {
                path: whole,
                reason: "no Parquet file there (expected *.parquet below it)".into(),
            });
        }
        let files = paths
            .iter()
            .map(|path| {
                let relative = path.strip_prefix(&root).unwrap_or(path);
                let mut file = pin_file(path)?;
                file.path = relative.to_string_lossy().into_owned();
                file.hive = hive_keys(relative);
                Ok(file)
            })
            .collect::<Result<_>>()?;
        let root = match root.strip_prefix(base) {
            Ok(below) if pattern.is_relative() => below.to_path_buf(),
            _ => root,
        };
        Ok(Self {
            root,
            files,
            planned: None,
            base: base.to_path_buf(),
        })
    }

    pub fn rows(&self) -> u64 {
        self.files.iter().map(|f| f.rows).sum()
    }

    pub fn path(&self, file: usize) -> PathBuf {
        self.base.join(&self.root).join(&self.files[file].path)
    }

    /// SHA-256 over every pinned file: what the job's identity takes of the snapshot.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        if let Some(planned) = &self.planned {
            hash.update(format!("{}\n", planned.pin));
        }
        for file in &self.files {
            hash.update(format!(
                "{}\0{}\0{}\n",
                file.path, file.bytes, file.footer_sha256
            ));
        }
        hex(&hash.finalize())
    }

    /// Checks that a file is still what was pinned, and reads its metadata.
    ///
    /// # Errors
    /// [`Error::SourceChanged`] if it vanished or differs, [`Error::Source`] if it can't be read.
    pub fn reopen(&self, file: usize, job: &str) -> Result<(File, ArrowReaderMetadata)> {
        let path = self.path(file);
        let changed = |reason: &str| Error::SourceChanged {
            path: path.clone(),
            job: job.to_owned(),
            reason: reason.to_owned(),
        };
        if !path.exists() {
            return Err(changed("the file is gone"));
        }
        let now = pin_file(&path).map_err(|e| changed(&e.to_string()))?;
        let pinned = &self.files[file];
        if now.bytes != pinned.bytes {
            return Err(changed(&format!(
                "{} bytes now, {} then",
                now.bytes, pinned.bytes
            )));
        }
        if now.footer_sha256 != pinned.footer_sha256 {
            return Err(changed("its Parquet footer differs"));
        }
        if let (Some(now), Some(then)) = (now.modified_ms, pinned.modified_ms)
            && now != then
        {
            return Err(changed(&format!(
                "written at {} now, {} then",
                at(now),
                at(then)
            )));
        }
        open(&path)
    }

    /// How the columns of a file become those of the source; folder keys only as they are `asked` for.
    pub(crate) fn layout(
        &self,
        file: usize,
        metadata: &ArrowReaderMetadata,
        asked: &dyn Fn(&str) -> bool,
    ) -> Layout {
        let fields = self.planned.as_ref().and_then(|p| p.fields.as_deref());
        Layout::new(metadata, fields, &self.files[file].hive, asked)
    }

    /// The columns of the source, without folder keys: those of the first file, which all files must share. A column
    /// that a file lacks by the plan is that of another.
    ///
    /// # Errors
    /// [`Error::Source`] names the file whose columns differ.
    pub fn schema(&self) -> Result<SchemaRef> {
        let columns = |file: usize| {
            let (_, metadata) = open(&self.path(file))?;
            Ok::<_, Error>(self.layout(file, &metadata, &|_| false).schema())
        };
        let first = columns(0)?;
        let mut fields = first.fields().to_vec();
        for index in 1..self.files.len() {
            let other = columns(index)?;
            let differs = |reason: String| Error::Source {
                path: self.path(index),
                reason: format!(
                    "its columns differ from those of {}: {reason}",
                    self.files[0].path
                ),
            };
            for (known, field) in fields.iter_mut().zip(other.fields()) {
                match (known.data_type(), field.data_type()) {
                    (DataType::Null, _) if known.name() == field.name() => *known = field.clone(),
                    (_, DataType::Null) if known.name() == field.name() => {}
                    _ if known != field => {
                        return Err(differs(format!(
                            "column {:?} {} against {:?} {}",
                            known.name(),
                            known.data_type(),
                            field.name(),
                            field.data_type()
                        )));
                    }
                    _ => {}
                }
            }
            if fields.len() != other.fields().len() {
                return Err(differs("another number of columns".into()));
            }
        }
        Ok(Arc::new(Schema::new_with_metadata(
            fields,
            first.metadata().clone(),
        )))
    }
}

fn list(pattern: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    let source = |reason: String| Error::Source {
        path: pattern.to_path_buf(),
        reason,
    };
    if pattern.is_file() {
        let root = pattern.parent().unwrap_or(Path::new("/")).to_path_buf();
        return Ok((root, vec![pattern.to_path_buf()]));
    }
    let text = pattern.to_string_lossy();
    let is_glob = text.contains(['*', '?', '[']);
    if !is_glob && !pattern.is_dir() {
        return Err(source("no such file or directory".into()));
    }
    let (root, globbed) = if is_glob {
        let fixed: PathBuf = pattern
            .components()
            .take_while(|c| !c.as_os_str().to_string_lossy().contains(['*', '?', '[']))
            .collect();
        (fixed, text.into_owned())
    } else {
        let below = format!("{}/**/*.parquet", glob::Pattern::escape(&text));
        (pattern.to_path_buf(), below)
    };
    let paths = glob::glob(&globbed)
        .map_err(|e| source(format!("not a glob: {e}")))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| source(e.to_string()))?;
    // What Spark and Hive write beside the data (_SUCCESS, _metadata, .crc) is not data.
    let visible = |p: &PathBuf| {
        p.is_file()
            && p.strip_prefix(&root).is_ok_and(|rest| {
                rest.components()
                    .all(|c| !c.as_os_str().to_string_lossy().starts_with(['_', '.']))
            })
    };
    Ok((root.clone(), paths.into_iter().filter(visible).collect()))
}

fn open(path: &Path) -> Result<(File, ArrowReaderMetadata)> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let metadata =
        ArrowReaderMetadata::load(&file, Default::default()).map_err(|e| Error::Source {
            path: path.to_path_buf(),
            reason: format!("not a Parquet file that can be read: {e}"),
        })?;
    Ok((file, metadata))
}

/// A file as it is now; its caller knows what its path and folder keys are.
fn pin_file(path: &Path) -> Result<PinnedFile> {
    let (mut file, metadata) = open(path)?;
    let parquet = metadata.metadata();
    let about = file.metadata().map_err(Error::io("look at", path))?;
    let modified = about.modified().ok();
    let since_epoch = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Ok(PinnedFile {
        path: String::new(),
        bytes: about.len(),
        modified_ms: since_epoch.and_then(|d| u64::try_from(d.as_millis()).ok()),
        rows: u64::try_from(parquet.file_metadata().num_rows()).unwrap_or(0),
        footer_sha256: footer_sha256(&mut file, about.len())
            .map_err(Error::io("read the footer of", path))?,
        row_groups: parquet
            .row_groups()
            .iter()
            .map(|g| u64::try_from(g.num_rows()).unwrap_or(0))
            .collect(),
        hive: BTreeMap::new(),
    })
}

fn hive_keys(relative: &Path) -> BTreeMap<String, String> {
    let parts = relative.components();
    let keys = parts.filter_map(|c| c.as_os_str().to_str()?.split_once('='));
    keys.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// A time as people read it, in UTC.
fn at(ms: u64) -> String {
    let at = i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| format!("{ms} ms"), |at| at.to_string())
}

/// The footer's length is in the 8 bytes before the end (u32 little-endian, then the magic).
fn footer_sha256(file: &mut File, bytes: u64) -> std::io::Result<String> {
    let mut tail = [0; 8];
    file.seek(SeekFrom::End(-8))?;
    file.read_exact(&mut tail)?;
    let len = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]])) + 8;
    file.seek(SeekFrom::Start(bytes.saturating_sub(len)))?;
    let mut footer = Vec::new();
    file.take(len).read_to_end(&mut footer)?;
    Ok(hex(&Sha256::digest(&footer)))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
