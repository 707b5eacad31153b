//! Work: ingress records through the service, answers to egress, and offsets committed only where all is delivered.
//!
//! One thread polls and commits ([`consumer`]) and never waits for anything else; a driver for each service process, or
//! one for an endpoint, takes records and gives verdicts ([`desk`]); one thread encodes what is finished and sends it
//! ([`finish`], [`egress`]); the client's own threads count acknowledgements. What they share is in [`worker`]; what
//! decides is pure: [`schedule`], [`frontier`], [`admission`]. When a run ends is asked of the store and the broker
//! ([`ending`]).

mod above;
mod admission;
mod allowance;
mod answers;
pub(crate) mod budget;
mod chosen;
mod commit;
mod consumer;
mod decode;
mod delivery;
mod desired;
mod desk;
mod drivers;
mod egress;
mod ending;
mod endpoint;
mod finish;
mod frontier;
mod group;
mod grpc;
mod http;
pub mod limiter;
mod member;
pub mod metrics;
pub mod native;
mod processors;
mod python;
mod queue;
mod ranges;
pub mod replicas;
mod scaling;
mod schedule;
mod share;
mod slots;
mod start;
mod summary;
mod task;
#[cfg(test)]
mod testing;
mod transactions;
mod verdict;
mod watch;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::store::Role;
use allowance::Allowance;
use ending::{EVERY, Ending};
use metrics::{Exposed, Labels, Metrics};
use native::Natives;
use worker::{Mail, Worker};

pub(crate) use slots::Slots;

pub use scaling::{RegionReplicas, ReplicasOptions, region_replicas};
pub use summary::WorkSummary;
pub use watch::{WatchOptions, WatchSummary, watch};

/// When a worker's run ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// When the ingress is done: published whole, and worked on.
    #[default]
    Done,
    /// When what is in the topic as it begins is worked on.
    Now,
    /// When it is told to stop, whatever is done by then: that is no error.
    Stopped,
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "done" => Ok(Self::Done),
            "now" => Ok(Self::Now),
            "stopped" => Ok(Self::Stopped),
            _ => Err(format!("until {text:?}: expected done, now or stopped")),
        }
    }
}

/// How a worker runs.
#[derive(Clone, Debug)]
pub struct WorkOptions {
    pub region: String,
    pub until: Until,
    /// The interpreter of the service processes.
    pub python: PathBuf,
    /// A directory that holds the package `kappaflow`, put on the interpreter's path, where it isn't installed.
    pub package_dir: Option<PathBuf>,
    /// Longest time for the service's import and warm-up, in milliseconds (default 120,000).
    pub start_timeout_ms: u64,
    /// A name that this worker keeps over restarts, so that a restart within the session time-out moves no partition.
    pub instance_id: Option<String>,
    /// Where `/metrics`, `/healthz`, `/readyz` and `/replicas` are answered. `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Services in Rust that the program has in it.
    pub natives: Natives,
}

impl WorkOptions {
    pub fn new(region: impl Into<String>, python: impl Into<PathBuf>) -> Self {
        Self {
            region: region.into(),
            until: Until::Done,
            python: python.into(),
            package_dir: None,
            start_timeout_ms: 120_000,
            instance_id: None,
            listen: None,
            natives: Natives::default(),
        }
    }
}

/// Works on the ingress of a region until it is done: all splits placed there are closed and the group has committed
/// all they left in the topic, its own partitions and those of other workers. Or until [`WorkOptions::until`].
///
/// # Errors
/// [`Error::NotReady`] before `dispatch`; [`Error::Service`] if the service can't start, and [`Error::Listen`] if the
/// address of `listen` can't be had, before anything is consumed;
/// [`Error::Topic`] or [`Error::Kafka`] if the broker refuses; [`Error::Interrupted`] after a graceful stop. What was
/// delivered is committed in each case, and a next run goes on from there.
pub async fn work(session: &Session, options: WorkOptions, ctx: &Context) -> Result<WorkSummary> {
    let metrics = measured(session, &options.region).await?;
    let exposed = Exposed::start(options.listen, &metrics).await?;
    let worked = run(session, options, &metrics, Arc::default(), ctx).await;
    exposed.stop().await;
    worked
}

/// What a worker of the job will be seen by.
pub(crate) async fn measured(session: &Session, region: &str) -> Result<Arc<Metrics>> {
    Ok(Arc::new(Metrics::new(Labels {
        service: session.job.file.service.name().to_owned(),
        group: session.group(region),
        region: region.to_owned(),
        topic: session.topic(region, Role::Ingress).await?.name,
    })))
}

/// The same as [`work`] for who shows the metrics itself, with slots of the service that others may share.
pub(crate) async fn run(
    session: &Session,
    options: WorkOptions,
    metrics: &Arc<Metrics>,
    slots: Arc<Slots>,
    ctx: &Context,
) -> Result<WorkSummary> {
    let began = Instant::now();
    if session.topic(&options.region, Role::Ingress).await?.removed {
        // What was in it has been worked on and explained.
        return Ok(WorkSummary {
            region: options.region,
            ..WorkSummary::default()
        });
    }
    let until = options.until;
    let ending = Ending::new(session, &options.region, options.until).await?;
    let worker = start::worker(session, &options, metrics, slots).await?;
    // Whatever ends this future ends the threads.
    let _leave = Leave(Arc::clone(&worker));
    let mut running = start::start(session, &options, &worker, ctx).await?;
    let label = options.region.clone();
    let note =
        |what: &'static str, detail| session.store.note(session.id, "work", &label, what, detail);
    note("begin", json!({"pid": std::process::id()})).await?;

    let mut allowance = Allowance::new(session).await?;
    let budget = async {
        match allowance.as_mut() {
            Some(allowance) => allowance.keep(&worker).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = running.ended() => ended,
        never = budget => match never {},
        never = desired::keep(session, &options.region, metrics, ctx), if options.listen.is_some() => match never {},
        seen = finish(ending, until, &worker, ctx) => match seen {
            Ok(()) => running.ended().await,
            Err(error) => {
                worker.mail.push(Mail::Failed(error));
                running.ended().await
            }
        },
    };
    worker.abort();
    if let Some(allowance) = allowance {
        allowance.leave().await;
    }
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
        "seconds": summary.seconds,
        "restarts": restarts,
        "expired": summary.expired,
        "error": ended.as_ref().err().map(ToString::to_string),
    });
    note("end", detail).await?;
    match ended {
        Err(Error::Interrupted { .. }) if until == Until::Stopped => {}
        ended => ended?,
    }
    match gone(&summary, &worker.topic) {
        Some(error) => Err(error),
        None => Ok(summary),
    }
}

/// What the log had lost, as an error: all else is done, and who runs the job is to know.
fn gone(summary: &WorkSummary, topic: &str) -> Option<Error> {
    let first = summary.expired.first()?;
    let ranges: Vec<String> = summary
        .expired
        .iter()
        .map(|e| format!("{}..{} of partition {}", e.first, e.past, e.partition))
        .collect();
    Some(Error::Topic {
        topic: topic.to_owned(),
        partition: Some(first.partition),
        offset: Some(first.first),
        reason: format!(
            "records had expired by retention before they were worked on: offsets {}. All others are done ({} records), and reconciliation lists the missing rows; publish them again under a new param, with a longer retention",
            ranges.join(", "),
            summary.read
        ),
    })
}

/// Tells the worker to leave once the ingress is done.
async fn finish(
    mut ending: Ending<'_>,
    until: Until,
    worker: &Worker,
    ctx: &Context,
) -> Result<()> {
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
            if until != Until::Stopped && look.is_done() {
                worker.mail.push(Mail::Finish);
                return Ok(());
            }
            // A frontier that rests below the end with nothing to do: there may be no record between.
            let idle = worker.state().schedule.is_idle();
            if let Some(before) = before.as_ref().filter(|_| idle) {
                for (now, then) in look.partitions.iter().zip(&before.partitions) {
                    let (partition, at, Some(end)) = *now else {
                        continue;
                    };
                    let resting = at < end && now == then;
                    let ours = worker.state().schedule.numbers().any(|p| p == partition);
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
