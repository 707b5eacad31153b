//! The files that a path names: a file, all below a directory, or those that a glob matches. On disk or in a store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::place::{Place, Remote};
use super::reach::{Address, Reach, without_scheme};
use crate::error::{Error, Result};

/// Files relative to a root, in path order.
pub struct Listed {
    /// As the source says it: a relative path stays relative.
    pub root: PathBuf,
    pub files: Vec<String>,
}

const GLOB: [char; 3] = ['*', '?', '['];

/// Lists what a path or URL names.
///
/// # Errors
/// [`Error::Source`] if nothing is there.
pub fn list(reach: &Reach, text: &str) -> Result<Listed> {
    let mut listed = match reach.place(&fixed(text))? {
        Place::Local(fixed) => list_local(text, &fixed, &reach.on_disk(text))?,
        Place::Remote(fixed) => list_remote(text, &fixed)?,
    };
    listed.files.sort();
    match listed.files.is_empty() {
        true => Err(Error::Source {
            path: reach.shown(text),
            reason: "no Parquet file there (expected *.parquet below it)".into(),
        }),
        false => Ok(listed),
    }
}

/// The part of a path before the first component with a glob in it; all of it, if there is none.
fn fixed(text: &str) -> String {
    let Some(glob) = text.find(GLOB) else {
        return text.to_owned();
    };
    let before = text.get(..glob).unwrap_or_default();
    let end = before.rfind('/').map_or(0, |slash| slash.max(1));
    before.get(..end).unwrap_or_default().to_owned()
}

/// What Spark and Hive write beside the data (`_SUCCESS`, `_metadata`, `.crc`) is not data.
fn is_visible(relative: &str) -> bool {
    relative
        .split('/')
        .all(|part| !part.starts_with(['_', '.']))
}

fn list_local(text: &str, fixed: &Path, whole: &Path) -> Result<Listed> {
    let source = |reason: String| Error::Source {
        path: whole.to_path_buf(),
        reason,
    };
    let given = PathBuf::from(without_scheme(text));
    if whole.is_file() {
        let name = whole
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        return Ok(Listed {
            root: given.parent().map(Path::to_path_buf).unwrap_or_default(),
            files: name.into_iter().collect(),
        });
    }
    let is_glob = text.contains(GLOB);
    if !is_glob && !whole.is_dir() {
        return Err(source("no such file or directory".into()));
    }
    let pattern = match is_glob {
        true => whole.to_string_lossy().into_owned(),
        false => format!("{}/**/*.parquet", Pattern::escape(&whole.to_string_lossy())),
    };
    let found = glob::glob(&pattern)
        .map_err(|e| source(format!("not a glob: {e}")))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| source(e.to_string()))?;
    let below = found.iter().filter(|path| path.is_file());
    let relative =
        below.filter_map(|path| Some(path.strip_prefix(fixed).ok()?.to_str()?.to_owned()));
    Ok(Listed {
        files: relative.filter(|path| is_visible(path)).collect(),
        root: match is_glob {
            true => PathBuf::from(self::fixed(without_scheme(text))),
            false => given,
        },
    })
}

fn list_remote(text: &str, fixed: &Remote) -> Result<Listed> {
    let wrong = |reason: String| Error::Source {
        path: text.into(),
        reason,
    };
    let is_glob = text.contains(GLOB);
    if !is_glob && !fixed.key.as_ref().is_empty() && fixed.head(None)?.is_some() {
        let (folder, name) = fixed
            .key
            .as_ref()
            .rsplit_once('/')
            .unwrap_or(("", fixed.key.as_ref()));
        return Ok(Listed {
            root: PathBuf::from(fixed.url_of(folder)),
            files: vec![name.to_owned()],
        });
    }
    let options = MatchOptions {
        require_literal_separator: true,
        ..MatchOptions::default()
    };
    let key = match Address::parse(text).map_err(wrong)? {
        Some(address) => address.key.to_owned(),
        None => String::new(),
    };
    let pattern = Pattern::new(&key).map_err(|e| wrong(format!("not a glob: {e}")))?;
    let is_wanted = |key: &str| match is_glob {
        true => pattern.matches_with(key, options),
        false => key.ends_with(".parquet"),
    };
    let prefix = fixed.key.as_ref();
    let relative = |key: &str| match prefix.is_empty() {
        true => Some(key.to_owned()),
        false => Some(key.strip_prefix(prefix)?.strip_prefix('/')?.to_owned()),
    };
    let keys = fixed.below()?;
    let found = keys
        .iter()
        .filter(|key| is_wanted(key))
        .filter_map(|key| relative(key));
    Ok(Listed {
        files: found.filter(|path| is_visible(path)).collect(),
        root: PathBuf::from(fixed.url_of(prefix)),
    })
}

/// Hive folder keys (`k=v`) of a relative path.
pub fn hive_keys(relative: &str) -> BTreeMap<String, String> {
    let keys = relative.split('/').filter_map(|part| part.split_once('='));
    keys.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fixed_ends_before_the_first_glob() {
        for (text, expected) in [
            ("data", "data"),
            ("data/*.parquet", "data"),
            ("*.parquet", ""),
            ("/*.parquet", "/"),
            ("/a/day=*/b", "/a"),
            ("s3://bucket/a/b?/c", "s3://bucket/a"),
            ("s3://bucket/*", "s3://bucket"),
        ] {
            assert_eq!(fixed(text), expected, "{text}");
        }
    }
}
