//! What a table leaves behind: files of landers that were killed, files that were replaced, manifests and sidecars of
//! versions long past.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::manifest::{DIR, versions};
use super::{Entry, Table};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::store::now_ms;

const STAGE: &str = "clean";
/// So many versions are kept, however old: a lander that stood still finds that others have gone on.
const KEPT_VERSIONS: u64 = 100;

/// What a clean-up removed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CleanSummary {
    /// The table's directory or URL.
    pub table: String,
    /// Files that were replaced, as by a backfill or a compaction.
    pub replaced: u64,
    /// Files that no version ever named: of killed landers.
    pub orphans: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// Manifests, sidecars, temporary files, and copies on this machine's disk.
    pub others: u64,
    pub seconds: f64,
}

/// Removes what is older than that and is no part of the table. Safe while landers commit and readers read, if these take
/// less time; and killed at any point. Blocking.
///
/// # Errors
/// [`Error::Table`] if the table can't be read or a file can't be removed; [`Error::Interrupted`].
pub fn clean(table: &Table, older_than: Duration, ctx: &Context) -> Result<CleanSummary> {
    let begun = Instant::now();
    let before_ms = now_ms() - i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
    let mut done = CleanSummary {
        table: table.location().display().to_string(),
        ..CleanSummary::default()
    };
    let storage = table.storage();
    let remove = |name: &str| {
        ctx.check(STAGE)?;
        storage.remove(name).map_err(|e| Error::Table {
            table: table.location().to_path_buf(),
            reason: format!("can't remove {name}: {e}"),
        })
    };
    // Before the state is read: what is committed meanwhile is known to it.
    let orphans = table.orphans()?;
    let state = table.state()?;
    let files = storage.list(super::DATA)?;
    let bytes: HashMap<&str, u64> = files.iter().map(|f| (f.name.as_str(), f.bytes)).collect();
    let mut gone = Vec::new();
    let keeps_files = table.keeps_files();
    for (name, at_ms) in &state.removed {
        let there = bytes.get(name.as_str());
        if *at_ms < before_ms && !keeps_files {
            remove(name)?;
            done.replaced += 1;
            done.bytes += there.unwrap_or(&0);
            gone.push(name.clone());
        } else if keeps_files && there.is_none() {
            // The format's own means have removed it.
            gone.push(name.clone());
        }
    }
    table.forget(&gone).map_err(|e| e.at(table.location()))?;

    let is_old = |entry: &&Entry| entry.modified_ms < before_ms;
    for orphan in orphans.iter().filter(|f| is_old(f) && !keeps_files) {
        remove(&orphan.name)?;
        done.orphans += 1;
        done.bytes += orphan.bytes;
    }

    // By number: of commits that failed there may be any count, and the newest is among the first of them.
    let mut kept: HashSet<String> = versions(storage)?
        .into_iter()
        .filter(|(version, _)| version + KEPT_VERSIONS > state.version)
        .map(|(_, name)| name)
        .collect();
    kept.extend(state.seen.iter().map(|name| format!("{DIR}/{name}")));
    for other in storage.list(DIR)?.iter().filter(is_old) {
        if !kept.contains(&other.name) {
            remove(&other.name)?;
            done.others += 1;
        }
    }
    done.others += storage.clean_spool(before_ms)?;
    done.seconds = begun.elapsed().as_secs_f64();
    Ok(done)
}
