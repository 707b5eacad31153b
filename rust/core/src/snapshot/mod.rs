//! The source at a point in time: Parquet files pinned by their footers, cut into repeatable splits and child jobs.

mod chunks;
mod cut;
mod filter;
mod list;
mod place;
mod planned;
mod reach;
mod request;
mod stores;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::{DataType, Schema, SchemaRef};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::rows::{self, Bound, Found, Layout};

pub(crate) use chunks::Chunks;
pub use cut::Split;
pub use filter::{Condition, Filter, Literal, Op, Test};
pub(crate) use place::{Ahead, Data, Opened, Unread};
pub use place::{Place, Remote};
pub use planned::{Planned, PlannedField, PlannedFile, SourcePlan};
pub(crate) use reach::without_scheme;
pub use reach::{Address, Reach};
pub use request::{Planner, reach, request, spec, take};
pub use stores::Service;
pub(crate) use stores::told;

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
    /// What an object store says of its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Its version, in a store that keeps versions: that one is read, whatever is newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Rows that pass the filter.
    pub rows: u64,
    /// SHA-256 of the Parquet footer: offsets, sizes and statistics of every column chunk.
    pub footer_sha256: String,
    /// Rows of each row group that pass the filter, in order.
    pub row_groups: Vec<u64>,
    /// Hive folder keys (`k=v`) on the path, or values that a plan gives for the whole file.
    pub hive: BTreeMap<String, String>,
}

/// The pinned source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// What the files' paths are relative to: a path, itself relative to the job file unless it is absolute, or a URL.
    pub root: PathBuf,
    pub files: Vec<PinnedFile>,
    /// What the planner said, if there was one.
    #[serde(default)]
    pub planned: Option<Planned>,
    /// Which columns and rows of the files are seen.
    #[serde(default, skip_serializing_if = "View::is_all")]
    pub view: View,
    /// How its files are reached from here; it is not kept with it.
    #[serde(skip)]
    pub reach: Reach,
}

/// Which columns and rows of the source are seen; by default all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub columns: Option<Vec<String>>,
    pub filter: Option<Filter>,
}

impl View {
    pub fn is_all(&self) -> bool {
        self.columns.is_none() && self.filter.is_none()
    }

    /// Whether no row of a file can pass, by its folder keys alone.
    fn leaves_out(&self, folders: &BTreeMap<String, String>) -> Result<bool, String> {
        let Some(filter) = &self.filter else {
            return Ok(false);
        };
        for group in &filter.0 {
            let mut never = false;
            for condition in group {
                if let Some(folder) = folders.get(&condition.column) {
                    let folder = (folder != HIVE_NULL).then_some(folder.as_str());
                    never |= !condition.passes(folder)?;
                }
            }
            if !never {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Snapshot {
    /// Lists and pins what a path or URL (a file, a directory or a glob) names, in path order.
    ///
    /// # Errors
    /// [`Error::Source`] if nothing matches, a file is not Parquet, or it can't be read.
    pub fn pin(path: &str, reach: &Reach, view: View) -> Result<Self> {
        let listed = list::list(reach, path)?;
        let mut snapshot = Self {
            root: listed.root,
            files: Vec::with_capacity(listed.files.len()),
            planned: None,
            view,
            reach: reach.clone(),
        };
        for relative in listed.files {
            let hive = list::hive_keys(&relative);
            if !snapshot.leaves_out(&relative, &hive)? {
                let opened = snapshot.open(&relative, None)?;
                snapshot.add(PinnedFile::of(relative, hive, &opened), &opened)?;
            }
        }
        Ok(snapshot)
    }

    /// Whether no row of a file can pass the filter, by its folder keys alone.
    fn leaves_out(&self, relative: &str, folders: &BTreeMap<String, String>) -> Result<bool> {
        self.view
            .leaves_out(folders)
            .map_err(|reason| Error::Source {
                path: self.reach.shown(&self.text(relative)),
                reason,
            })
    }

    /// Adds a file, whose rows that pass are counted.
    fn add(&mut self, mut file: PinnedFile, opened: &Opened) -> Result<()> {
        let path = self.reach.shown(&self.text(&file.path));
        let wrong = |reason: String| Error::Source {
            path: path.clone(),
            reason,
        };
        let fields = self.planned.as_ref().and_then(|p| p.fields.as_deref());
        for column in self.view.columns.iter().flatten() {
            if let Found::Unknown(known) = Found::find(column, &opened.metadata, fields)
                && !file.hive.contains_key(column)
            {
                let known: Vec<String> =
                    known.into_iter().chain(file.hive.keys().cloned()).collect();
                return Err(wrong(format!(
                    "source.columns names {column:?}, which is not there; there are: {}",
                    known.join(", ")
                )));
            }
        }
        if let Some(filter) = &self.view.filter {
            let bound = Bound::new(filter, &opened.metadata, fields, &file.hive).map_err(wrong)?;
            file.row_groups = match bound {
                Bound::Everything => file.row_groups,
                Bound::Nothing => vec![0; file.row_groups.len()],
                Bound::Rows(predicate) => {
                    rows::count_passing(opened, &predicate, &file).map_err(wrong)?
                }
            };
            file.rows = file.row_groups.iter().sum();
        }
        self.files.push(file);
        Ok(())
    }

    /// The filter as it is for a file.
    pub(crate) fn bound(&self, file: usize, metadata: &ArrowReaderMetadata) -> Result<Bound> {
        let Some(filter) = &self.view.filter else {
            return Ok(Bound::Everything);
        };
        let fields = self.planned.as_ref().and_then(|p| p.fields.as_deref());
        Bound::new(filter, metadata, fields, &self.files[file].hive).map_err(|reason| {
            Error::Source {
                path: self.path(file),
                reason,
            }
        })
    }

    /// What was kept of it, reached from where it is read.
    pub fn reached_by(mut self, reach: Reach) -> Self {
        self.reach = match &self.planned {
            Some(planned) => reach.with(&planned.options),
            None => reach,
        };
        self
    }

    pub fn rows(&self) -> u64 {
        self.files.iter().map(|f| f.rows).sum()
    }

    /// The path or URL of a file.
    pub fn path(&self, file: usize) -> PathBuf {
        self.reach.shown(&self.text(&self.files[file].path))
    }

    fn text(&self, relative: &str) -> String {
        // A URL that is joined to nothing, or a path to a URL, is text; it has no components that matter.
        self.root.join(relative).to_string_lossy().into_owned()
    }

    fn open(&self, relative: &str, version: Option<&str>) -> Result<Opened> {
        let place = self.reach.place(&self.text(relative))?;
        place.open(version)?.ok_or_else(|| Error::Source {
            path: place.shown(),
            reason: "no such file".into(),
        })
    }

    /// SHA-256 over every pinned file: what the job's identity takes of the snapshot.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        if let Some(planned) = &self.planned {
            hash.update(format!("{}\n", planned.pin));
        }
        if !self.view.is_all() {
            hash.update(serde_json::to_string(&self.view).unwrap_or_default());
            hash.update("\n");
        }
        for file in &self.files {
            hash.update(format!(
                "{}\0{}\0{}\n",
                file.path, file.bytes, file.footer_sha256
            ));
            // It tells of the content; a time does not.
            if let Some(etag) = &file.etag {
                hash.update(format!("{etag}\n"));
            }
        }
        hex(&hash.finalize())
    }

    /// Opens a file and checks that it is still what was pinned.
    ///
    /// # Errors
    /// [`Error::SourceChanged`] if it vanished or differs, [`Error::Source`] if it can't be read.
    pub(crate) fn reopen(&self, file: usize, job: &str) -> Result<Opened> {
        let pinned = &self.files[file];
        let place = self.reach.place(&self.text(&pinned.path))?;
        let changed = |reason: String| self.changed(file, job, reason);
        let opened = match place.open(pinned.version.as_deref()) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Err(changed("it is gone".into())),
            // What is on disk and is no Parquet any more was changed; a store may be out of reach.
            Err(Error::Source { reason, .. }) if reason.starts_with(place::NOT_PARQUET) => {
                return Err(changed(reason));
            }
            Err(e) => return Err(e),
        };
        match pinned.differs(&opened.facts) {
            Some(reason) => Err(changed(reason)),
            None => Ok(opened),
        }
    }

    /// The error of a file that is another than was pinned.
    pub(crate) fn changed(&self, file: usize, job: &str, reason: String) -> Error {
        Error::SourceChanged {
            path: self.path(file),
            job: job.to_owned(),
            reason,
        }
    }

    /// How the columns of a file become those of the source; folder keys only as they are `asked` for.
    pub(crate) fn layout(
        &self,
        file: usize,
        metadata: &ArrowReaderMetadata,
        asked: &dyn Fn(&str) -> bool,
    ) -> Layout {
        let fields = self.planned.as_ref().and_then(|p| p.fields.as_deref());
        let columns = self.view.columns.as_deref();
        Layout::new(metadata, fields, columns, &self.files[file].hive, asked)
    }

    /// The columns of the source, without folder keys: those of the first file, which all files must share. A column
    /// that a file lacks by the plan is that of another.
    ///
    /// # Errors
    /// [`Error::Source`] names the file whose columns differ.
    pub fn schema(&self) -> Result<SchemaRef> {
        let columns = |file: usize| {
            let pinned = &self.files[file];
            let opened = self.open(&pinned.path, pinned.version.as_deref())?;
            Ok::<_, Error>(self.layout(file, &opened.metadata, &|_| false).schema())
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

impl PinnedFile {
    fn of(path: String, hive: BTreeMap<String, String>, opened: &Opened) -> Self {
        let parquet = opened.metadata.metadata();
        let facts = &opened.facts;
        let groups = parquet.row_groups().iter();
        Self {
            path,
            bytes: facts.bytes,
            modified_ms: facts.modified_ms,
            etag: facts.etag.clone(),
            version: facts.version.clone(),
            rows: u64::try_from(parquet.file_metadata().num_rows()).unwrap_or(0),
            footer_sha256: facts.footer_sha256.clone(),
            row_groups: groups
                .map(|g| u64::try_from(g.num_rows()).unwrap_or(0))
                .collect(),
            hive,
        }
    }

    /// What tells that the file is another now.
    fn differs(&self, now: &place::Facts) -> Option<String> {
        let (bytes, was) = (now.bytes, self.bytes);
        if bytes != was {
            return Some(format!("{bytes} bytes now, {was} then"));
        }
        if now.footer_sha256 != self.footer_sha256 {
            return Some("its Parquet footer differs".into());
        }
        match (&now.etag, &self.etag) {
            (Some(now), Some(then)) if now != then => {
                return Some(format!("its etag is {now} now, {then} then"));
            }
            // A store may write the same content again for reasons of its own.
            (Some(_), Some(_)) => return None,
            _ => {}
        }
        match (now.modified_ms, self.modified_ms) {
            (Some(now), Some(then)) if now != then => {
                Some(format!("written at {} now, {} then", at(now), at(then)))
            }
            _ => None,
        }
    }
}

/// A time as people read it, in UTC.
fn at(ms: u64) -> String {
    let at = i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| format!("{ms} ms"), |at| at.to_string())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
