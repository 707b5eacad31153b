//! The source at a point in time: Parquet files pinned by their footers, cut into repeatable splits and child jobs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use arrow_schema::SchemaRef;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// A file as it was when the job was planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedFile {
    /// Relative to the snapshot's root, so that a moved directory is the same snapshot.
    pub path: String,
    pub bytes: u64,
    pub rows: u64,
    /// SHA-256 of the Parquet footer: offsets, sizes and statistics of every column chunk.
    pub footer_sha256: String,
    /// Rows of each row group, in order.
    pub row_groups: Vec<u64>,
    /// Hive folder keys (`k=v`) on the path.
    pub hive: BTreeMap<String, String>,
}

/// A bounded, ordered, repeatable piece: row groups `first..first + count` of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Number in the job, dense from 0.
    pub split: u32,
    pub child: String,
    /// Index into [`Snapshot::files`].
    pub file: usize,
    pub row_group_first: usize,
    pub row_group_count: usize,
    /// Row of the file at which the split starts: row in file = first_row + seq.
    pub first_row: u64,
    pub rows: u32,
}

/// The pinned source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub root: PathBuf,
    pub files: Vec<PinnedFile>,
}

impl Snapshot {
    /// Lists and pins what `pattern` (a file, a directory or a glob) names, in path order.
    ///
    /// # Errors
    /// [`Error::Source`] if nothing matches, a file is not Parquet, or it can't be read.
    pub fn pin(pattern: &Path) -> Result<Self> {
        let (root, mut paths) = list(pattern)?;
        paths.sort();
        if paths.is_empty() {
            return Err(Error::Source {
                path: pattern.to_path_buf(),
                reason: "no Parquet file there (expected *.parquet below it)".into(),
            });
        }
        let files = paths
            .iter()
            .map(|path| pin_file(&root, path))
            .collect::<Result<_>>()?;
        Ok(Self { root, files })
    }

    pub fn rows(&self) -> u64 {
        self.files.iter().map(|f| f.rows).sum()
    }

    pub fn path(&self, file: usize) -> PathBuf {
        self.root.join(&self.files[file].path)
    }

    /// SHA-256 over every pinned file: what the job's identity takes of the snapshot.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for file in &self.files {
            hash.update(format!(
                "{}\0{}\0{}\n",
                file.path, file.bytes, file.footer_sha256
            ));
        }
        hex(&hash.finalize())
    }

    /// Cuts the snapshot into splits of up to `split_rows` rows, and names the child job of each.
    ///
    /// # Errors
    /// [`Error::Source`] if `child_by` is no Hive key of a file, or a row group has 2³² rows or more.
    pub fn splits(&self, child_by: Option<&str>, split_rows: u32) -> Result<Vec<Split>> {
        let mut splits = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            let child = match child_by {
                None => "all".to_owned(),
                Some(key) => file.hive.get(key).cloned().ok_or_else(|| Error::Source {
                    path: self.path(index),
                    reason: format!("its path has no folder {key}=…, which source.child_by names"),
                })?,
            };
            let (mut first, mut first_row) = (0, 0);
            while first < file.row_groups.len() {
                let mut count = 1;
                let mut rows = file.row_groups[first];
                while let Some(more) = file.row_groups.get(first + count) {
                    if rows + more > u64::from(split_rows) {
                        break;
                    }
                    rows += more;
                    count += 1;
                }
                let narrow = |_| Error::Source {
                    path: self.path(index),
                    reason: format!(
                        "row group {first} has {rows} rows; a split holds fewer than 2^32"
                    ),
                };
                splits.push(Split {
                    split: u32::try_from(splits.len()).map_err(narrow)?,
                    child: child.clone(),
                    file: index,
                    row_group_first: first,
                    row_group_count: count,
                    first_row,
                    rows: u32::try_from(rows).map_err(narrow)?,
                });
                first_row += rows;
                first += count;
            }
        }
        Ok(splits)
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
        let now = pin_file(&self.root, &path).map_err(|e| changed(&e.to_string()))?;
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
        open(&path)
    }

    /// The Arrow schema of the first file, which all files must share.
    ///
    /// # Errors
    /// [`Error::Source`] names the file whose columns differ.
    pub fn schema(&self) -> Result<SchemaRef> {
        let (_, first) = open(&self.path(0))?;
        for index in 1..self.files.len() {
            let (_, other) = open(&self.path(index))?;
            let (a, b) = (first.schema(), other.schema());
            if a.fields() != b.fields() {
                let reason = a
                    .fields()
                    .iter()
                    .zip(b.fields())
                    .find(|(x, y)| x != y)
                    .map_or("another number of columns".to_owned(), |(x, y)| {
                        format!(
                            "column {:?} {} against {:?} {}",
                            x.name(),
                            x.data_type(),
                            y.name(),
                            y.data_type()
                        )
                    });
                return Err(Error::Source {
                    path: self.path(index),
                    reason: format!(
                        "its columns differ from those of {}: {reason}",
                        self.files[0].path
                    ),
                });
            }
        }
        Ok(first.schema().clone())
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

fn pin_file(root: &Path, path: &Path) -> Result<PinnedFile> {
    let (mut file, metadata) = open(path)?;
    let parquet = metadata.metadata();
    let bytes = file.metadata().map_err(Error::io("look at", path))?.len();
    let relative = path.strip_prefix(root).unwrap_or(path);
    let hive = relative
        .components()
        .filter_map(|c| c.as_os_str().to_str()?.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    Ok(PinnedFile {
        path: relative.to_string_lossy().into_owned(),
        bytes,
        rows: u64::try_from(parquet.file_metadata().num_rows()).unwrap_or(0),
        footer_sha256: footer_sha256(&mut file, bytes)
            .map_err(Error::io("read the footer of", path))?,
        row_groups: parquet
            .row_groups()
            .iter()
            .map(|g| u64::try_from(g.num_rows()).unwrap_or(0))
            .collect(),
        hive,
    })
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
