//! What the threads of a worker share: the records it holds, its credit, its counts, its queues.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use super::admission::Admission;
use super::budget::Budget;
use super::commit::Sent;
use super::delivery::Done;
use super::finish::Finished;
use super::metrics::{Metrics, PartitionFigures};
use super::queue::{Queue, lock};
use super::schedule::Schedule;
use super::slots::Seat;
use super::summary::WorkSummary;
use super::task::{Dropped, Record};
use super::transactions::Joint;
use crate::error::Error;
use crate::store::Store;

/// How long a revoke, or the end of a run, waits for what is under way. Then it is done again by whoever is next.
pub const DRAIN: Duration = Duration::from_secs(3);

/// What reaches the consumer's thread from others.
#[derive(Debug)]
pub enum Mail {
    /// These are delivered.
    Done(Done),
    /// The worker can't go on.
    Failed(Error),
    /// There is no record between a partition's frontier and this offset.
    Pass(i32, i64),
    /// What the broker has as the group's offsets, by partition, and how long a commit may take.
    Committed(Vec<(i32, i64)>, Duration),
    /// The ingress is done: leave.
    Finish,
}

/// See the module.
pub struct Worker {
    pub topic: String,
    pub store: Store,
    pub runtime: tokio::runtime::Handle,
    /// Records with a verdict, on their way to the egress. Bounded by admission: each holds credit.
    pub finished: Queue<Finished>,
    pub mail: Arc<Queue<Mail>>,
    /// Records may be ready for the service, or the worker stops.
    pub news: Notify,
    pub metrics: Arc<Metrics>,
    /// If answers and offsets are committed in transactions.
    pub joint: Option<Joint>,
    /// Calls that may be under way, over all drivers.
    pub seat: Seat,
    /// Calls that may begin, over all drivers.
    pub budget: Mutex<Budget>,
    /// Why no calls begin, if that is for something outside.
    pub waits: Mutex<Option<String>>,
    /// Where each partition's log ends, as the client heard last.
    pub(super) ends: Mutex<HashMap<i32, i64>>,
    /// One past the last ingress offset, summed over the partitions and less their starts; −1: not known yet.
    pub total: AtomicI64,
    /// Read and not admitted yet. Only the consumer's thread is here.
    inbox: Mutex<Vec<Read>>,
    began: Instant,
    state: Mutex<State>,
    aborted: AtomicBool,
}

/// What was read of a partition: a record, or the offset of what is none of ours.
pub type Read = (i32, std::result::Result<Record, i64>);

/// What changes under the lock. Never held over a call of the Kafka client: it may call back.
pub struct State {
    pub schedule: Schedule,
    pub admission: Admission,
    pub summary: WorkSummary,
    /// Offsets handed to the client for commit. An entry goes when the broker doesn't have it, so that it is sent again.
    pub(super) sent: HashMap<i32, Sent>,
    /// Partitions whose commits don't show at the broker: the offset it has, and since when it was seen to be behind.
    pub(super) behind: HashMap<i32, (i64, Instant)>,
    pub failed: Option<Error>,
    pub finish: bool,
}

impl Worker {
    pub fn new(
        topic: String,
        store: Store,
        schedule: Schedule,
        admission: Admission,
        budget: Budget,
        seat: Seat,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            topic,
            store,
            runtime: tokio::runtime::Handle::current(),
            finished: Queue::new(),
            mail: Arc::new(Queue::new()),
            news: Notify::new(),
            joint: None,
            seat,
            budget: Mutex::new(budget),
            waits: Mutex::default(),
            ends: Mutex::default(),
            total: AtomicI64::new(-1),
            inbox: Mutex::default(),
            began: Instant::now(),
            state: Mutex::new(State {
                schedule,
                admission,
                summary: WorkSummary {
                    region: metrics.labels.region.clone(),
                    ..WorkSummary::default()
                },
                sent: HashMap::new(),
                behind: HashMap::new(),
                failed: None,
                finish: false,
            }),
            aborted: AtomicBool::new(false),
            metrics,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Ends all threads now; what is under way is given up.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        self.seat.leave();
        self.finished.close();
        self.news.notify_waiters();
    }

    /// The time on the worker's clock.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether the threads go on.
    pub fn goes_on(&self) -> bool {
        !self.aborted.load(Ordering::Acquire)
    }

    /// Keeps what was read until [`Worker::admit`].
    pub fn read(&self, read: Read) {
        lock(&self.inbox).push(read);
    }

    /// Admits what was read. Before anything becomes of the partitions, too: what was read under an assignment must not
    /// be taken for a later one's.
    pub fn admit(&self) {
        let read = std::mem::take(&mut *lock(&self.inbox));
        if read.is_empty() {
            return;
        }
        let now = self.now();
        let mut consumed: HashMap<i32, u64> = HashMap::new();
        let mut state = self.state();
        for (partition, record) in read {
            *consumed.entry(partition).or_default() += 1;
            match record {
                Ok(record) => {
                    let weight = record.weight();
                    if state.schedule.admit(now, partition, record) {
                        state.admission.admit(weight);
                    }
                }
                Err(offset) => {
                    state.summary.foreign += 1;
                    state.schedule.skip(partition, offset);
                }
            }
        }
        drop(state);
        for (partition, n) in consumed {
            self.metrics.consumed(partition, n);
        }
        self.news.notify_waiters();
    }

    /// Works off the mail.
    pub fn read_mail(&self, wait: Duration) {
        let mail = self.mail.drain(wait);
        if mail.is_empty() {
            return;
        }
        let mut state = self.state();
        for item in mail {
            match item {
                Mail::Done(done) => {
                    state.complete(&done, &self.metrics);
                    for (topic, n) in &done.sent {
                        self.metrics.sent(topic, *n);
                    }
                }
                Mail::Failed(error) => {
                    state.failed.get_or_insert(error);
                }
                Mail::Pass(partition, upto) => state.schedule.pass(partition, upto),
                Mail::Committed(offsets, limit) => {
                    for (partition, offset) in offsets {
                        state.confirm(&self.topic, partition, offset, limit);
                    }
                }
                Mail::Finish => state.finish = true,
            }
        }
    }

    /// Waits for what is under way in these partitions; nothing more of them begins. The group may go on to another
    /// generation meanwhile without a word here: `hear` is called so that transactions are of the newest.
    pub fn drain(&self, partitions: &[i32], hear: &dyn Fn()) {
        {
            let mut state = self.state();
            for partition in partitions {
                let dropped = state.schedule.stop_admitting(*partition);
                state.release(dropped);
            }
        }
        let end = Instant::now() + DRAIN;
        while self.goes_on() && Instant::now() < end {
            {
                let state = self.state();
                let busy = |p: &i32| state.schedule.running(*p) > 0;
                if state.failed.is_some() || !partitions.iter().any(busy) {
                    return;
                }
            }
            self.read_mail(Duration::from_millis(50));
            hear();
        }
    }

    /// Shows how it stands.
    pub fn show(&self) {
        let metrics = &self.metrics;
        let now = self.now();
        let unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64() * 1e3);
        let ends = lock(&self.ends);
        let mut held = Vec::new();
        let (mut gaps, mut oldest) = (0, Duration::ZERO);
        let (in_flight, buffered) = {
            let state = self.state();
            for partition in state.schedule.numbers() {
                let first = state.schedule.oldest(partition);
                let at = state.schedule.position(partition);
                let end = ends.get(&partition);
                gaps += state.schedule.above(partition).count() as u64;
                oldest = oldest.max(first.map_or(Duration::ZERO, |(at, _)| now.saturating_sub(at)));
                held.push(PartitionFigures {
                    partition,
                    lag_records: end
                        .zip(at)
                        .map(|(end, at)| u64::try_from(end - at).unwrap_or(0)),
                    // A record's time is of the broker's clock or the publisher's: it may be ahead of ours.
                    lag_s: match first {
                        None => Some(0.0),
                        Some((_, time)) => time.map(|ms| ((unix_ms - ms as f64) / 1e3).max(0.0)),
                    },
                });
            }
            state.schedule.counts()
        };
        metrics.limit.set(u64::from(self.seat.limit()));
        metrics.shrinking.set(u64::from(self.seat.is_shrinking()));
        metrics.in_flight.set(in_flight as u64);
        metrics.buffered.set(buffered as u64);
        metrics.gaps.set(gaps);
        metrics
            .oldest_open_ms
            .set(u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX));
        metrics.partitions.set(held.len() as u64);
        metrics.set_partitions(held);
    }
}

impl State {
    pub(super) fn forget(&mut self, partition: i32) {
        self.sent.remove(&partition);
        self.behind.remove(&partition);
    }

    pub fn release(&mut self, dropped: Dropped) {
        self.admission.release(dropped.records, dropped.bytes);
    }

    pub fn complete(&mut self, done: &Done, metrics: &Metrics) {
        for part in &done.parts {
            let records = part.offsets.len() as u64;
            self.admission.release(records, part.weight);
            if self
                .schedule
                .complete(part.partition, part.epoch, &part.offsets)
            {
                self.summary.add(&part.tally);
                metrics.count(&part.tally);
            } else {
                self.summary.stale_dropped += records;
                metrics.stale_dropped.add(records);
            }
        }
    }
}
