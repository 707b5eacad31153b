//! A table as a bare directory, for readers that take every file they find: what the newest version names, and no more.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::Table;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::files::{sync_parent, unique_name};

const STAGE: &str = "export";
/// The file that Hadoop's and Spark's readers take for the sign that a directory is whole.
const SUCCESS: &str = "_SUCCESS";

/// What an export wrote.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ExportSummary {
    pub directory: PathBuf,
    /// The table's version that it is.
    pub version: u64,
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    pub seconds: f64,
}

/// Writes what readers see of a table to a directory on disk, which appears whole: files of the same disk are linked, others
/// copied. Partitions have their folders. Blocking.
///
/// # Errors
/// [`Error::Io`] if the directory is there already, or can't be written; [`Error::Table`]; [`Error::Interrupted`].
pub fn export(table: &Table, to: &Path, ctx: &Context) -> Result<ExportSummary> {
    let begun = Instant::now();
    if to.exists() {
        let taken = std::io::Error::other(
            "it is there already, and an export is never mixed with another: name a new one",
        );
        return Err(Error::io("export to", to)(taken));
    }
    let state = table.state()?;
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let temporary = to.with_file_name(format!(".{name}.{}", unique_name()));
    let mut done = ExportSummary {
        directory: to.to_path_buf(),
        version: state.version,
        ..ExportSummary::default()
    };
    let written = (|| {
        fs::create_dir_all(&temporary).map_err(Error::io("make the directory", &temporary))?;
        for file in &state.files {
            ctx.check(STAGE)?;
            let name = file
                .path
                .split_once('/')
                .map_or(file.path.as_str(), |p| p.1);
            let target = temporary.join(name);
            let folder = target.parent().unwrap_or(&temporary);
            fs::create_dir_all(folder).map_err(Error::io("make the directory", folder))?;
            let source = table.storage().local(&file.path)?;
            if fs::hard_link(&source, &target).is_err() {
                fs::copy(&source, &target).map_err(Error::io("copy to", &target))?;
            }
            done.files += 1;
            done.rows += file.rows;
            done.bytes += file.bytes;
        }
        let success = temporary.join(SUCCESS);
        fs::write(&success, "").map_err(Error::io("write", &success))?;
        fs::rename(&temporary, to).map_err(Error::io("rename to", to))?;
        sync_parent(to).map_err(Error::io("sync the directory of", to))
    })();
    if written.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    written?;
    done.seconds = begun.elapsed().as_secs_f64();
    Ok(done)
}
