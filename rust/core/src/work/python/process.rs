//! What is to be known of a child process: whether it lives, how it ended, what it was doing, what it printed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// Bytes of the mark: batch, row, count of calls; three u64.
pub const MARK_BYTES: usize = 24;
const SHOWN_LOG_BYTES: u64 = 2_000;

/// A process that isn't handed on is ended.
pub struct Guard(pub Option<Child>);

impl Guard {
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.0.as_mut().and_then(|c| c.try_wait().ok().flatten())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = self.0.as_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
            _ => return None,
        }
    }
}

/// Batch, row, count of calls.
pub fn read_mark(mark: &File) -> Option<[u64; 3]> {
    let mut bytes = [0; MARK_BYTES];
    mark.read_exact_at(&mut bytes, 0).ok()?;
    let mut words = bytes.chunks_exact(8).map(|word| {
        let mut eight = [0; 8];
        eight.copy_from_slice(word);
        u64::from_ne_bytes(eight)
    });
    Some([words.next()?, words.next()?, words.next()?])
}

pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("left with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

/// The end of what was printed since.
pub fn tail(log: &std::path::Path, from: u64) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(
            from.max(end.saturating_sub(SHOWN_LOG_BYTES)),
        ))?;
        let mut bytes = Vec::new();
        file.take(SHOWN_LOG_BYTES).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    match read() {
        Ok(text) if text.is_empty() => "(nothing)".into(),
        Ok(text) => text,
        Err(e) => format!("(the log {} can't be read: {e})", log.display()),
    }
}
