//! A service process: started, told what to call, ready.

use std::fs::{File, OpenOptions};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_schema::Schema;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::process::{Guard, MARK_BYTES, describe, tail, wait};
use super::wire::{self, Frame, WireError};
use crate::error::{Error, Result};
use crate::work::service_error;

/// How often a wait looks at the process and at the caller's wish.
const TICK: Duration = Duration::from_millis(20);
/// How long a process that is dying by itself is given to say why.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// How long a process may take to leave once its socket is closed.
const FAREWELL: Duration = Duration::from_secs(4);

/// What all processes of a service share.
#[derive(Debug)]
pub struct Spec {
    /// `service.callable`, for messages.
    pub name: String,
    /// Records handed over at once, at most.
    pub batch_records: usize,
    pub processes: u32,
    /// Records that one process has at once, if its callable is a coroutine function.
    pub share: usize,
    /// The interpreter.
    pub python: PathBuf,
    /// A directory that holds the package `kappaflow`, for an interpreter in which it isn't installed.
    pub package_dir: Option<PathBuf>,
    /// Working directory of the processes: the job file's.
    pub dir: PathBuf,
    /// Where they print to.
    pub log: PathBuf,
    /// The start frame's head, without `mark`.
    pub start: Value,
    /// The schema in which answers come back.
    pub answers: Arc<Schema>,
    pub deadline: Duration,
    pub start_timeout: Duration,
}

/// A process that is ready. Dropped, it is ended at once.
pub struct Process {
    child: Option<Child>,
    mark: File,
    /// Its socket, to be closed where nothing runs the tasks that have its halves.
    socket: std::os::unix::net::UnixStream,
    to: mpsc::Sender<Vec<u8>>,
    from: mpsc::Receiver<Result<Frame, WireError>>,
    /// Whether its callable is a coroutine function: records are then worked on at once, and answered in any order.
    pub at_once: bool,
}

impl Spec {
    pub fn error(&self, reason: impl Into<String>) -> Error {
        service_error(&self.name, reason)
    }

    /// Starts a process, imports the callable and warms it up. `frames`: that may be on their way to it at once.
    ///
    /// # Errors
    /// [`Error::Service`]: what was wrong with the service, and what to do about it. `None`: `go` said to stop.
    pub async fn launch(
        self: &Arc<Self>,
        frames: usize,
        go: &dyn Fn() -> bool,
    ) -> Result<Option<Process>> {
        let spec = self;
        let dir = tempfile::Builder::new()
            .prefix("kappaflow-")
            .tempdir()
            .map_err(|e| self.error(format!("can't make a directory for its socket: {e}")))?;
        let path = dir.path().join("s");
        let mark_path = dir.path().join("mark");
        let io = |what, path: &PathBuf| Error::io(what, path.clone());
        let listener = UnixListener::bind(&path).map_err(io("make the socket", &path))?;
        std::fs::write(&mark_path, [0xff; MARK_BYTES]).map_err(io("write", &mark_path))?;
        let mark = File::open(&mark_path).map_err(io("open", &mark_path))?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spec.log)
            .map_err(io("open the log", &spec.log))?;
        let log_from = log.metadata().map_or(0, |m| m.len());
        let errors = log.try_clone().map_err(io("open the log", &spec.log))?;

        let mut command = Command::new(&spec.python);
        command
            // -P: files beside the working directory must not shadow the standard library.
            .args(["-P", "-u", "-X", "faulthandler", "-m", "kappaflow.service"])
            .arg(&path)
            .current_dir(&spec.dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        if let Some(package_dir) = &spec.package_dir {
            let mut paths = vec![package_dir.clone()];
            if let Some(known) = std::env::var_os("PYTHONPATH") {
                paths.extend(std::env::split_paths(&known));
            }
            if let Ok(joined) = std::env::join_paths(paths) {
                command.env("PYTHONPATH", joined);
            }
        }
        let child = command.spawn().map_err(|e| {
            self.error(format!(
                "the interpreter {} can't be started: {e}. Give another with --python",
                spec.python.display()
            ))
        })?;
        let mut guard = Guard(Some(child));
        let deadline = Instant::now() + spec.start_timeout;
        let mut socket = loop {
            match tokio::time::timeout(TICK, listener.accept()).await {
                Ok(Ok((socket, _))) => break socket,
                Ok(Err(e)) => return Err(io("accept on the socket", &path)(e)),
                Err(_) if !go() => return Ok(None),
                Err(_) => {}
            }
            if let Some(status) = guard.exited() {
                return Err(self.silent(status, log_from));
            }
            if Instant::now() > deadline {
                return Err(self.error("its process did not connect in time"));
            }
        };
        let found = {
            let greeting = self.greet(&mut socket, &mark_path);
            tokio::pin!(greeting);
            loop {
                match tokio::time::timeout(TICK, &mut greeting).await {
                    Ok(found) => break found,
                    Err(_) if !go() => return Ok(None),
                    Err(_) if Instant::now() < deadline => {}
                    Err(_) => {
                        return Err(self.error(format!(
                            "it did not get ready within {} s (import and warm-up)",
                            spec.start_timeout.as_secs()
                        )));
                    }
                }
            }
        };
        let at_once = match found {
            Ok(Ok(at_once)) => at_once,
            Ok(Err(reason)) | Err(WireError::Garbage(reason)) => return Err(self.error(reason)),
            Err(WireError::Closed) => {
                let status = guard.0.as_mut().and_then(|c| wait(c, LAST_WORDS));
                let status = status.map_or("is gone".into(), describe);
                let said = tail(&spec.log, log_from);
                return Err(self.error(format!(
                    "its process {status} while it started; it printed: {said}"
                )));
            }
        };
        let clone = |socket: UnixStream| {
            let socket = socket.into_std()?;
            Ok((socket.try_clone()?, UnixStream::from_std(socket)?))
        };
        let (closed_by, socket) = clone(socket).map_err(io("use the socket", &path))?;
        let (read, write) = socket.into_split();
        let (to, frames_to) = mpsc::channel(frames.max(1));
        let (frames_from, from) = mpsc::channel(16);
        tokio::spawn(send_all(write, frames_to));
        tokio::spawn(receive_all(read, frames_from));
        // Both sides have the socket and the mark open: nothing of them is left behind, however this worker ends.
        drop(dir);
        Ok(Some(Process {
            child: guard.0.take(),
            mark,
            socket: closed_by,
            to,
            from,
            at_once,
        }))
    }

    fn silent(&self, status: ExitStatus, log_from: u64) -> Error {
        let said = tail(&self.log, log_from);
        let missing = ["No module named 'kappaflow", "No module named kappaflow"];
        let hint = if missing.iter().any(|text| said.contains(text)) {
            format!(
                ". Install kappaflow for {}, or give another interpreter with --python",
                self.python.display()
            )
        } else {
            String::new()
        };
        self.error(format!(
            "its process {} before it said hello{hint}; it printed: {said}",
            describe(status)
        ))
    }

    /// Hello, start, ready; or why it can't start.
    async fn greet(
        &self,
        socket: &mut UnixStream,
        mark: &Path,
    ) -> Result<Result<bool, String>, WireError> {
        let (hello, _) = wire::receive(socket).await?;
        let spoken = hello.get("protocol").and_then(Value::as_u64);
        if spoken != Some(wire::VERSION) {
            return Err(WireError::Garbage(format!(
                "kappaflow of this interpreter speaks protocol {hello}, this worker {}: install the same versions",
                wire::VERSION
            )));
        }
        let schema = wire::schema_to_ipc(&self.answers).map_err(WireError::Garbage)?;
        let mut start = self.start.clone();
        start["type"] = json!("start");
        start["protocol"] = json!(wire::VERSION);
        start["mark"] = json!(mark.to_string_lossy());
        let frame = wire::frame(&start, &schema).map_err(WireError::Garbage)?;
        let sent = socket.write_all(&frame).await;
        sent.map_err(|_| WireError::Closed)?;
        let (head, _) = wire::receive(socket).await?;
        if head.get("type") == Some(&json!("ready")) {
            return Ok(Ok(head.get("at_once") == Some(&json!(true))));
        }
        let reason = head.get("reason").and_then(Value::as_str);
        let lines = head.get("lines").and_then(Value::as_array);
        let lines = lines.into_iter().flatten().filter_map(Value::as_str);
        let mut text = reason.unwrap_or("failed to start").to_owned();
        for line in lines {
            text.push_str("\n  ");
            text.push_str(line);
        }
        Ok(Err(text))
    }
}

async fn send_all(mut socket: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if socket.write_all(&frame).await.is_err() {
            // The reader sees it too, and says so.
            return;
        }
    }
}

async fn receive_all(mut socket: OwnedReadHalf, frames: mpsc::Sender<Result<Frame, WireError>>) {
    loop {
        let frame = wire::receive(&mut socket).await;
        let last = frame.is_err();
        if frames.send(frame).await.is_err() || last {
            return;
        }
    }
}

impl Process {
    /// Sends a frame. That the process is gone is seen by [`Process::receive`].
    pub async fn send(&self, frame: Vec<u8>) {
        let _ = self.to.send(frame).await;
    }

    /// The next frame. May be dropped at any time.
    pub async fn receive(&mut self) -> Result<Frame, WireError> {
        self.from.recv().await.unwrap_or(Err(WireError::Closed))
    }

    /// What the process was seen doing last: batch, row, count of calls.
    pub fn mark(&self) -> Option<[u64; 3]> {
        super::process::read_mark(&self.mark)
    }

    /// Ends the process at once, and says how it ended.
    pub fn end(&mut self, hung: bool) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        if !hung && let Some(status) = wait(&mut child, LAST_WORDS) {
            return Some(status);
        }
        let _ = child.kill();
        child.wait().ok()
    }

    /// Lets the process, which has nothing to do, end by itself.
    pub fn leave(mut self) {
        // It reads to the end; were the socket closed, it would take this worker for dead.
        let _ = self.socket.shutdown(Shutdown::Write);
        if let Some(child) = self.child.as_mut() {
            let _ = wait(child, FAREWELL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
