//! Work: ingress records through the service, answers to egress, and offsets committed only where all is delivered.
//!
//! One thread polls and commits ([`consumer`]) and never waits for anything else; one thread for each service process
//! takes batches, calls the service and sends what follows ([`handle`], [`egress`]); the client's own threads count
//! acknowledgements. What they share is in [`worker`]; what decides is pure: [`frontier`], [`admission`],
//! [`partitions`]. When a run ends is asked of the store and the broker ([`ending`]).

mod admission;
mod consumer;
mod decode;
mod egress;
mod ending;
mod frontier;
mod handle;
mod http;
mod partitions;
mod process;
mod python;
mod queue;
mod ranges;
mod service;
mod start;
mod summary;
mod watch;
mod wire;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::store::Role;
use ending::{EVERY, Ending};
use worker::{Mail, Worker};

pub use summary::WorkSummary;
pub use watch::{WatchOptions, WatchSummary, watch};

/// How a worker runs.
#[derive(Clone, Debug)]
pub struct WorkOptions {
    pub region: String,
    /// Wait for publishing that has not ended (default). Without it the run ends at what is in the topic when it begins.
    pub follow: bool,
    /// The interpreter of the service processes.
    pub python: PathBuf,
    /// A directory that holds the package `kappaflow`, put on the interpreter's path, where it isn't installed.
    pub package_dir: Option<PathBuf>,
    /// Longest time for the service's import and warm-up, in milliseconds (default 120,000).
    pub start_timeout_ms: u64,
}

impl WorkOptions {
    pub fn new(region: impl Into<String>, python: impl Into<PathBuf>) -> Self {
        Self {
            region: region.into(),
            follow: true,
            python: python.into(),
            package_dir: None,
            start_timeout_ms: 120_000,
        }
    }
}

/// Works on the ingress of a region until it is done: all splits placed there are closed and the group has committed
/// all they left in the topic, its own partitions and those of other workers.
///
/// # Errors
/// [`Error::NotReady`] before `dispatch`; [`Error::Service`] if the service can't start, before anything is consumed;
/// [`Error::Topic`] or [`Error::Kafka`] if the broker refuses; [`Error::Interrupted`] after a graceful stop. What was
/// delivered is committed in each case, and a next run goes on from there.
pub async fn work(session: &Session, options: WorkOptions, ctx: &Context) -> Result<WorkSummary> {
    let began = Instant::now();
    if session.topic(&options.region, Role::Ingress).await?.removed {
        // What was in it has been worked on and explained.
        return Ok(WorkSummary {
            region: options.region,
            ..WorkSummary::default()
        });
    }
    let ending = Ending::new(session, &options.region, options.follow).await?;
    let worker = start::worker(session, &options).await?;
    // Whatever ends this future ends the threads.
    let _leave = Leave(Arc::clone(&worker));
    let mut running = start::start(session, &options, &worker, ctx).await?;
    let label = options.region.clone();
    let note =
        |what: &'static str, detail| session.store.note(session.id, "work", &label, what, detail);
    note("begin", json!({"pid": std::process::id()})).await?;

    let ended = tokio::select! {
        ended = running.ended() => ended,
        seen = finish(ending, &worker, ctx) => match seen {
            Ok(()) => running.ended().await,
            Err(error) => {
                worker.mail.push(Mail::Failed(error));
                running.ended().await
            }
        },
    };
    worker.abort();
    let restarts = running.join().await;
    let mut summary = worker.state().summary.clone();
    summary.service_restarts = restarts;
    summary.seconds = began.elapsed().as_secs_f64();
    // Seconds of a run are far above zero; the count of rows is exact up to 2⁵³.
    summary.rows_per_s = summary.read as f64 / summary.seconds.max(1e-9);
    let detail = json!({
        "pid": std::process::id(),
        "read": summary.read,
        "children": summary.children,
        "restarts": restarts,
        "error": ended.as_ref().err().map(ToString::to_string),
    });
    note("end", detail).await?;
    ended.map(|()| summary)
}

/// Tells the worker to leave once the ingress is done.
async fn finish(mut ending: Ending<'_>, worker: &Worker, ctx: &Context) -> Result<()> {
    let mut before: Option<ending::Look> = None;
    loop {
        if let Some(look) = ending.look().await? {
            if let Some(total) = look.total {
                let total = i64::try_from(total).unwrap_or(i64::MAX);
                worker.total.store(total, Ordering::Release);
            }
            let committed = look.partitions.iter().map(|(p, at, _)| (*p, *at));
            let limit = ending.timeout();
            worker
                .mail
                .push(Mail::Committed(committed.collect(), limit));
            if look.is_done() {
                worker.mail.push(Mail::Finish);
                return Ok(());
            }
            // A frontier that rests below the end with nothing to do: there may be no record between.
            let idle = worker.state().partitions.is_idle();
            if let Some(before) = before.as_ref().filter(|_| idle) {
                for (now, then) in look.partitions.iter().zip(&before.partitions) {
                    let (partition, at, Some(end)) = *now else {
                        continue;
                    };
                    let resting = at < end && now == then;
                    let ours = worker.state().partitions.numbers().any(|p| p == partition);
                    if resting && ours && ending.is_hole(partition, at, end, ctx).await? {
                        worker.mail.push(Mail::Pass(partition, end));
                    }
                }
            }
            before = Some(look);
        }
        tokio::time::sleep(EVERY).await;
        if ctx.cancel.is_cancelled() {
            // The consumer's thread sees it too, and ends the run.
            std::future::pending::<()>().await;
        }
    }
}

/// Ends the worker's threads when it goes.
struct Leave(Arc<Worker>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn service_error(name: &str, reason: impl Into<String>) -> Error {
    Error::Service {
        service: name.to_owned(),
        reason: reason.into(),
    }
}

fn milliseconds(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
