//! What a worker counts and measures, for those who watch it: a page for Prometheus, probes, OTLP.
//!
//! [`Metrics`] is written by the worker's threads and costs them some nanoseconds; [`families`] says once what each
//! figure is called and how it is read, and [`prometheus`] and [`otlp`] export by that list. [`listen`] serves.

mod board;
mod calls;
mod counts;
mod families;
mod listen;
mod otlp;
mod prometheus;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::queue::lock;
use super::summary::Tally;
use crate::error::Result;
use calls::Calls;
use counts::micros;

pub use board::Board;
pub use counts::{ByReason, Counter, Gauge, Pause, REASONS};
pub use listen::{Listener, address};
pub use otlp::Otlp;

/// A worker whose consumer has not come round for so long is not alive: it polls many times a second, and waits for no
/// service; only a broker may hold it, for as long as a commit takes.
pub const ALIVE: Duration = Duration::from_secs(30);
/// No number of replicas is known yet.
const UNKNOWN: u64 = u64::MAX;

/// Whose figures they are.
#[derive(Clone, Debug)]
pub struct Labels {
    /// The callable or the URL of the job file.
    pub service: String,
    /// The consumer group.
    pub group: String,
    pub region: String,
    /// The ingress topic.
    pub topic: String,
}

/// Everything by which a worker's figures are to be seen. Ends when it goes; [`stop`](Self::stop) exports a last time.
pub struct Exposed {
    _listener: Option<Listener>,
    otlp: Option<Otlp>,
}

impl Exposed {
    /// Begins to listen, if an address is given, and to export, if the environment says where to. Within a runtime.
    ///
    /// # Errors
    /// [`Error::Listen`](crate::Error::Listen) if the address can't be had; [`Error::Service`](crate::Error::Service) if
    /// the environment's settings for OTLP can't be used.
    pub async fn start(listen: Option<SocketAddr>, metrics: &Arc<Metrics>) -> Result<Self> {
        let listener = match listen {
            Some(address) => Some(Listener::start(address, Board::of(metrics)).await?),
            None => None,
        };
        Ok(Self {
            _listener: listener,
            otlp: Otlp::start(metrics)?,
        })
    }

    pub async fn stop(self) {
        if let Some(otlp) = self.otlp {
            otlp.stop().await;
        }
    }
}

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The service starts, or the group is not joined yet.
    Starting,
    /// It takes records.
    Ready,
    /// It takes no more, and ends.
    Draining,
}

/// A partition that the worker holds.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionFigures {
    pub partition: i32,
    /// From the frontier to the log's end. `None`: the end is not known.
    pub lag_records: Option<u64>,
    /// Age of the oldest record that has no delivered verdict, by its timestamp; 0 without such a record.
    pub lag_s: Option<f64>,
}

/// What a worker counts and measures. Shared; every call may come from any thread.
///
/// Who calls what:
/// - the consumer, each turn: [`turned`](Self::turned); per burst and partition: [`consumed`](Self::consumed); while it
///   reads nothing though it could, and after: [`pause`](Self::pause);
/// - the consumer, a few times a second: `in_flight`, `buffered`, `limit`, `partitions`, `oldest_open_ms`, `gaps`,
///   `shrinking` by [`Gauge::set`]; [`set_partitions`](Self::set_partitions);
///   [`set_desired_replicas`](Self::set_desired_replicas);
/// - the consumer, once: [`set_phase`](Self::set_phase) `Ready` when it holds its first assignment, `Draining` when it
///   stops to admit for good; `commits` and `commit_failures` by [`Counter::add`];
/// - lanes, when a call ends: [`record_call`](Self::record_call), or [`record_calls`](Self::record_calls) for a batch;
///   `restarts` when a process was replaced;
/// - the finisher, when all that follows from records is delivered: `read`, `answered`, `children`, `filtered`,
///   `dead_lettered`, `retried`; [`sent`](Self::sent) for what the broker acknowledged, by topic; `stale_dropped`;
/// - admission and the limiter: [`p99`](Self::p99).
#[derive(Debug)]
pub struct Metrics {
    pub labels: Labels,
    /// Records with the service now.
    pub in_flight: Gauge,
    /// Records taken from the broker that wait for the service.
    pub buffered: Gauge,
    /// Records that may be with the service at once.
    pub limit: Gauge,
    /// Partitions held.
    pub partitions: Gauge,
    /// Age of the record that is open for the longest, since it was taken, in milliseconds.
    pub oldest_open_ms: Gauge,
    /// Offsets done that lie above their partition's frontier.
    pub gaps: Gauge,
    /// 1 while the limiter takes the limit down, else 0.
    pub shrinking: Gauge,
    /// Records finished: all that follows from them is delivered.
    pub read: Counter,
    pub answered: Counter,
    pub children: Counter,
    pub filtered: ByReason,
    pub dead_lettered: ByReason,
    pub retried: Counter,
    pub stale_dropped: Counter,
    pub restarts: Counter,
    pub commits: Counter,
    pub commit_failures: Counter,
    /// Tries to export over OTLP that did not arrive.
    otlp_failures: Counter,
    calls: Calls,
    pauses: counts::Pauses,
    consumed: Mutex<BTreeMap<i32, u64>>,
    sent: Mutex<BTreeMap<String, u64>>,
    held: Mutex<Vec<PartitionFigures>>,
    desired: AtomicU64,
    phase: AtomicU8,
    turned_us: AtomicU64,
    began: Instant,
    /// Where calls are told to as well while OTLP is on.
    durations: OnceLock<otlp::Durations>,
}

impl Metrics {
    pub fn new(labels: Labels) -> Self {
        Self {
            labels,
            in_flight: Gauge::default(),
            buffered: Gauge::default(),
            limit: Gauge::default(),
            partitions: Gauge::default(),
            oldest_open_ms: Gauge::default(),
            gaps: Gauge::default(),
            shrinking: Gauge::default(),
            read: Counter::default(),
            answered: Counter::default(),
            children: Counter::default(),
            filtered: ByReason::default(),
            dead_lettered: ByReason::default(),
            retried: Counter::default(),
            stale_dropped: Counter::default(),
            restarts: Counter::default(),
            commits: Counter::default(),
            commit_failures: Counter::default(),
            otlp_failures: Counter::default(),
            calls: Calls::default(),
            pauses: counts::Pauses::default(),
            consumed: Mutex::default(),
            sent: Mutex::default(),
            held: Mutex::default(),
            desired: AtomicU64::new(UNKNOWN),
            phase: AtomicU8::new(Phase::Starting as u8),
            turned_us: AtomicU64::new(0),
            began: Instant::now(),
            durations: OnceLock::new(),
        }
    }

    /// A call of the service ended. `how`: `answered`, `filtered`, `retry`, `dead_letter`, `busy` (turned away),
    /// `deadline`, `died` (with its process); anything else counts as `other`.
    pub fn record_call(&self, took: Duration, how: &'static str) {
        self.record_calls(took, how, 1);
    }

    /// The same of `n` records of a batch, each with its own time.
    pub fn record_calls(&self, took: Duration, how: &'static str, n: u32) {
        self.calls.record(took, how, n, self.began.elapsed());
        if let Some(durations) = self.durations.get() {
            durations.record(took, how, n);
        }
    }

    /// p99 of the calls that ended in the last minute (those that were turned away left out, as in p50 and the mean), or in
    /// the last in which one did; `None`: none ever did. Takes some µs: to be asked a few times a second.
    pub fn p99(&self) -> Option<Duration> {
        self.calls.p99(self.began.elapsed())
    }

    /// The mean of the calls that ended in the last minute; `None`: none did.
    pub fn mean(&self) -> Option<Duration> {
        self.calls.mean(self.began.elapsed())
    }

    /// The median of the calls that ended in the last minute; `None`: none did.
    pub fn p50(&self) -> Option<Duration> {
        self.calls.quantile(0.5, self.began.elapsed())
    }

    /// These are finished: all that follows from them is delivered.
    pub(super) fn count(&self, tally: &Tally) {
        self.read.add(tally.read);
        self.answered.add(tally.answered);
        self.children.add(tally.children);
        self.retried.add(tally.retried);
        for (reason, n) in &tally.filtered {
            self.filtered.add(reason, *n);
        }
        for (reason, n) in &tally.dead_lettered {
            self.dead_lettered.add(reason, *n);
        }
    }

    /// Records were taken from the broker.
    pub fn consumed(&self, partition: i32, n: u64) {
        *lock(&self.consumed).entry(partition).or_default() += n;
    }

    /// Records were acknowledged in a topic of ours.
    pub fn sent(&self, topic: &str, n: u64) {
        let mut sent = lock(&self.sent);
        match sent.get_mut(topic) {
            Some(count) => *count += n,
            None => {
                sent.insert(topic.to_owned(), n);
            }
        }
    }

    /// Says whether the worker reads nothing for this cause; said again it changes nothing.
    pub fn pause(&self, cause: Pause, lasts: bool) {
        self.pauses.set(cause, lasts, self.began.elapsed());
    }

    /// All partitions that are held now.
    pub fn set_partitions(&self, held: Vec<PartitionFigures>) {
        *lock(&self.held) = held;
    }

    /// Records that wait in the partitions that are held.
    pub fn lag_records(&self) -> u64 {
        let held = lock(&self.held);
        held.iter().filter_map(|p| p.lag_records).sum()
    }

    /// How many workers there should be.
    pub fn set_desired_replicas(&self, n: u32) {
        self.desired.store(u64::from(n), Ordering::Relaxed);
    }

    /// `None`: nobody has said yet.
    pub fn desired_replicas(&self) -> Option<u64> {
        Some(self.desired.load(Ordering::Relaxed)).filter(|n| *n != UNKNOWN)
    }

    pub fn set_phase(&self, phase: Phase) {
        self.turned();
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// The consumer came round.
    pub fn turned(&self) {
        self.turned_us
            .store(micros(self.began.elapsed()), Ordering::Relaxed);
    }

    /// Whether the consumer came round lately. Before it runs there is nothing to tell: a service may start for minutes.
    pub fn is_alive(&self) -> bool {
        self.phase() == Phase::Starting || self.silent_for() < ALIVE
    }

    fn silent_for(&self) -> Duration {
        let turned = Duration::from_micros(self.turned_us.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(turned)
    }
}

#[cfg(test)]
pub(super) fn example() -> Metrics {
    Metrics::new(Labels {
        service: "service:cost".into(),
        group: "kappaflow-flights".into(),
        region: "west".into(),
        topic: "flights-ingress".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_alive_while_it_starts_and_while_it_turns() {
        let mut metrics = example();
        metrics.began = Instant::now().checked_sub(2 * ALIVE).unwrap();
        assert!(metrics.is_alive());
        metrics.set_phase(Phase::Ready);
        assert!(metrics.is_alive());
        metrics.turned_us.store(0, Ordering::Relaxed);
        assert!(!metrics.is_alive());
        metrics.turned();
        assert!(metrics.is_alive());
        metrics.set_phase(Phase::Draining);
        assert_eq!(metrics.phase(), Phase::Draining);
    }
}
