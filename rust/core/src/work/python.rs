//! A Python callable in a subprocess of our own entry module. Never `multiprocessing`: inside a task it hangs.

use std::fs::{File, OpenOptions};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_schema::Schema;
use serde_json::{Value, json};

use super::process::{Guard, MARK_BYTES, describe, read_mark, tail, wait};
use super::service::{Call, CallError, Reply, Service};
use super::wire::{self, WireError};
use crate::error::{Error, Result};

/// How often a wait looks at the process, the mark and the caller's wish.
const TICK: Duration = Duration::from_millis(50);
/// What a process may take for a batch outside of the calls themselves (decoding, building the answers), at least.
const OVERHEAD: Duration = Duration::from_secs(60);
/// How long a process may take to leave once its socket is closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// What all processes of a service share.
#[derive(Debug)]
pub struct Spec {
    /// `service.callable`, for messages.
    pub name: String,
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

/// A service in one process, which is replaced when it dies.
pub struct PythonService {
    spec: Arc<Spec>,
    process: Option<Process>,
    calls: u64,
    starts: u64,
}

struct Process {
    child: Child,
    socket: UnixStream,
    mark: File,
}

impl PythonService {
    /// Starts the process, imports the callable and warms it up.
    ///
    /// # Errors
    /// [`Error::Service`]: what was wrong with the service, and what to do about it. `None`: `go` said to stop.
    pub fn start(spec: Arc<Spec>, go: &dyn Fn() -> bool) -> Result<Option<Self>> {
        let mut service = Self {
            spec,
            process: None,
            calls: 0,
            starts: 0,
        };
        Ok(service.launch(go)?.then_some(service))
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        Error::Service {
            service: self.spec.name.clone(),
            reason: reason.into(),
        }
    }

    fn launch(&mut self, go: &dyn Fn() -> bool) -> Result<bool> {
        self.starts += 1;
        let spec = Arc::clone(&self.spec);
        let dir = tempfile::Builder::new()
            .prefix("kappaflow-")
            .tempdir()
            .map_err(|e| self.error(format!("can't make a directory for its socket: {e}")))?;
        let path = dir.path().join("s");
        let mark_path = dir.path().join("mark");
        let io = |what, path: &PathBuf| Error::io(what, path.clone());
        let listener = UnixListener::bind(&path).map_err(io("make the socket", &path))?;
        listener
            .set_nonblocking(true)
            .map_err(io("set up the socket", &path))?;
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
        let socket = loop {
            match listener.accept() {
                Ok((socket, _)) => break socket,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(io("accept on the socket", &path)(e)),
            }
            if !go() {
                return Ok(false);
            }
            if let Some(status) = guard.exited() {
                let said = tail(&spec.log, log_from);
                let hint = if said.contains("No module named 'kappaflow")
                    || said.contains("No module named kappaflow")
                {
                    format!(
                        ". Install kappaflow for {}, or give another interpreter with --python",
                        spec.python.display()
                    )
                } else {
                    String::new()
                };
                return Err(self.error(format!(
                    "its process {} before it said hello{hint}; it printed: {said}",
                    describe(status)
                )));
            }
            if Instant::now() > deadline {
                return Err(self.error("its process did not connect in time"));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        socket
            .set_nonblocking(false)
            .and_then(|()| socket.set_read_timeout(Some(TICK)))
            .and_then(|()| socket.set_write_timeout(Some(TICK)))
            .map_err(io("set up the socket", &path))?;
        let Some(child) = guard.0.take() else {
            return Err(self.error("its process is gone"));
        };
        self.process = Some(Process {
            child,
            socket,
            mark,
        });
        let ready = self.greet(&mark_path, log_from, deadline, go);
        if !matches!(ready, Ok(true)) {
            self.end();
        }
        // Both sides have the socket and the mark open: nothing of them is left behind, however this worker ends.
        drop(dir);
        ready
    }

    /// Hello, start, ready.
    fn greet(
        &mut self,
        mark: &std::path::Path,
        log_from: u64,
        deadline: Instant,
        go: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let spec = Arc::clone(&self.spec);
        let schema = wire::schema_to_ipc(&spec.answers).map_err(|e| self.error(e))?;
        let mut start = spec.start.clone();
        start["type"] = json!("start");
        start["protocol"] = json!(wire::VERSION);
        start["mark"] = json!(mark.to_string_lossy());
        let Some(process) = self.process.as_mut() else {
            return Ok(false);
        };
        let mut tick = || go() && Instant::now() < deadline;
        let socket = &mut process.socket;
        let mut talk = || {
            let (hello, _) = wire::receive(socket, &mut tick)?;
            let spoken = hello.get("protocol").and_then(Value::as_u64);
            if spoken != Some(wire::VERSION) {
                return Err(WireError::Garbage(format!(
                    "kappaflow of this interpreter speaks protocol {hello}, this worker {}: install the same versions",
                    wire::VERSION
                )));
            }
            wire::send(socket, &start, &schema, &mut tick)?;
            wire::receive(socket, &mut tick)
        };
        match talk() {
            Ok((head, _)) if head.get("type") == Some(&json!("ready")) => Ok(true),
            Ok((head, _)) => {
                let reason = head.get("reason").and_then(Value::as_str);
                let lines: Vec<&str> = head
                    .get("lines")
                    .and_then(Value::as_array)
                    .map(|lines| lines.iter().filter_map(Value::as_str).collect())
                    .unwrap_or_default();
                let mut text = reason.unwrap_or("failed to start").to_owned();
                for line in lines {
                    text.push_str("\n  ");
                    text.push_str(line);
                }
                Err(self.error(text))
            }
            Err(WireError::Ticked) if !go() => Ok(false),
            Err(WireError::Ticked) => Err(self.error(format!(
                "it did not get ready within {} s (import and warm-up)",
                spec.start_timeout.as_secs()
            ))),
            Err(WireError::Garbage(reason)) => Err(self.error(reason)),
            Err(WireError::Closed) => {
                let status = self.end().map_or("is gone".into(), describe);
                let said = tail(&spec.log, log_from);
                Err(self.error(format!(
                    "its process {status} while it started; it printed: {said}"
                )))
            }
        }
    }

    /// Ends the process at once, and says how it ended.
    fn end(&mut self) -> Option<ExitStatus> {
        let mut process = self.process.take()?;
        let _ = process.socket.shutdown(std::net::Shutdown::Both);
        // One that is dying by itself is given the time to say why.
        let mut status = wait(&mut process.child, TICK);
        if status.is_none() {
            let _ = process.child.kill();
            status = process.child.wait().ok();
        }
        status
    }
}

impl Service for PythonService {
    fn call(
        &mut self,
        call: &Call<'_>,
        go: &dyn Fn() -> bool,
    ) -> std::result::Result<Reply, CallError> {
        if self.process.is_none() && !self.launch(go).map_err(CallError::Fatal)? {
            return Err(CallError::Stopped);
        }
        self.calls += 1;
        let id = self.calls;
        let rows = call.identities.len();
        let head = json!({
            "type": "batch",
            "id": id,
            "split": call.identities.iter().map(|i| i.split).collect::<Vec<_>>(),
            "seq": call.identities.iter().map(|i| i.seq).collect::<Vec<_>>(),
            "attempt": call.attempts,
        });
        let body = wire::batch_to_ipc(call.records).map_err(|e| CallError::Fatal(self.error(e)))?;
        let deadline = self.spec.deadline;
        let Some(process) = self.process.as_mut() else {
            return Err(CallError::Stopped);
        };
        let Process { socket, mark, .. } = process;
        // What the process was seen doing last, and since when.
        let mut seen = (None, Instant::now());
        let mut late = None;
        let mut tick = || {
            let now = read_mark(mark, id);
            if now != seen.0 {
                seen = (now, Instant::now());
            }
            let calling = now.is_some_and(|(row, _)| row < rows);
            let limit = if calling {
                deadline
            } else {
                deadline.max(OVERHEAD)
            };
            if seen.1.elapsed() > limit {
                late = Some(limit);
            }
            late.is_none() && go()
        };
        let reply = wire::send(socket, &head, &body, &mut tick)
            .and_then(|()| wire::receive(socket, &mut tick));
        let marked = read_mark(mark, id)
            .map(|(row, _)| row)
            .filter(|row| *row < rows);
        match reply {
            Ok((head, body)) => wire::reply(&head, &body, id, rows).map_err(|reason| {
                CallError::Fatal(self.error(format!("its process answered wrongly: {reason}")))
            }),
            Err(WireError::Garbage(reason)) => {
                self.end();
                Err(CallError::Fatal(
                    self.error(format!("its process answered wrongly: {reason}")),
                ))
            }
            Err(WireError::Ticked) => {
                if let Some(process) = self.process.as_mut() {
                    let _ = process.child.kill();
                }
                self.end();
                match late {
                    Some(limit) => Err(CallError::Died {
                        marked,
                        reason: "Deadline",
                        detail: format!(
                            "no answer within {} ms, its process was killed",
                            limit.as_millis()
                        ),
                    }),
                    None => Err(CallError::Stopped),
                }
            }
            Err(WireError::Closed) => {
                let status = self.end().map_or("is gone".into(), describe);
                Err(CallError::Died {
                    marked,
                    reason: "KilledProcess",
                    detail: format!("its process {status}"),
                })
            }
        }
    }

    fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }
}

impl Drop for PythonService {
    fn drop(&mut self) {
        if let Some(process) = self.process.as_mut() {
            let _ = process.socket.shutdown(std::net::Shutdown::Both);
            let _ = wait(&mut process.child, FAREWELL);
        }
        self.end();
    }
}
