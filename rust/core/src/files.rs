//! Files that appear whole or not at all.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// A name nobody else picks: 32 hex digits from the operating system's randomness.
pub(crate) fn unique_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let half = || {
        // Every `RandomState` of a process differs; the first of each thread is seeded by the system.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
        hasher.write_u32(std::process::id());
        hasher.write_i64(crate::store::now_ms());
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(), half())
}

/// Creates a file with all of its text at once, or says `false` if the name is taken: the text goes to a temporary
/// file first, whose hard link under the name either appears whole or fails.
pub(crate) fn create_whole(path: &Path, text: &str) -> std::io::Result<bool> {
    let temporary = path.with_extension(format!("tmp-{}", unique_name()));
    let linked =
        write_synced(&temporary, text.as_bytes()).and_then(|()| fs::hard_link(&temporary, path));
    let removed = fs::remove_file(&temporary);
    match linked {
        Ok(()) => {
            removed?;
            sync_parent(path)?;
            Ok(true)
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

/// Writes a file under a temporary name and renames it, so that its name never shows a part of it.
pub(crate) fn replace_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("tmp-{}", unique_name()));
    write_synced(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })?;
    sync_parent(path)
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a new name in a directory outlive a crash of the machine.
pub(crate) fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}
