//! What the threads of a worker share: the partitions it holds, its credit, its counts, its queues.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::admission::Admission;
use super::egress::Done;
use super::partitions::{Batch, Dropped, Partitions};
use super::queue::{Queue, lock};
use super::summary::WorkSummary;
use crate::error::{Error, Result};
use crate::store::Store;

/// How long a revoke, or the end of a run, waits for what is under way. Then it is done again by whoever is next.
pub const DRAIN: Duration = Duration::from_secs(3);
/// A commit that doesn't show at the broker after this is sent again.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// What reaches the consumer's thread from others.
#[derive(Debug)]
pub enum Mail {
    /// All of a batch is delivered.
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
    pub queue: Queue<Batch>,
    pub mail: Arc<Queue<Mail>>,
    /// One past the last ingress offset, summed over the partitions and less their starts; −1: not known yet.
    pub total: AtomicI64,
    state: Mutex<State>,
    aborted: AtomicBool,
}

/// What changes under the lock. Never held over a call of the Kafka client: it may call back.
pub struct State {
    pub partitions: Partitions,
    pub admission: Admission,
    pub summary: WorkSummary,
    /// Offsets handed to the client for commit. An entry goes when the broker doesn't have it, so that it is sent again.
    pub sent: HashMap<i32, i64>,
    /// Partitions whose commits don't show at the broker: the offset it has, and since when it was seen to be behind.
    behind: HashMap<i32, (i64, Instant)>,
    pub failed: Option<Error>,
    pub finish: bool,
}

impl Worker {
    pub fn new(
        topic: String,
        store: Store,
        partitions: Partitions,
        admission: Admission,
        region: &str,
    ) -> Self {
        Self {
            topic,
            store,
            runtime: tokio::runtime::Handle::current(),
            queue: Queue::new(),
            mail: Arc::new(Queue::new()),
            total: AtomicI64::new(-1),
            state: Mutex::new(State {
                partitions,
                admission,
                summary: WorkSummary {
                    region: region.to_owned(),
                    ..WorkSummary::default()
                },
                sent: HashMap::new(),
                behind: HashMap::new(),
                failed: None,
                finish: false,
            }),
            aborted: AtomicBool::new(false),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Ends all threads now; what is under way is given up.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        self.queue.close();
    }

    /// Whether the threads go on.
    pub fn goes_on(&self) -> bool {
        !self.aborted.load(Ordering::Acquire)
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
                Mail::Done(done) => state.complete(&done),
                Mail::Failed(error) => {
                    state.failed.get_or_insert(error);
                }
                Mail::Pass(partition, upto) => state.partitions.pass(partition, upto),
                Mail::Committed(offsets, limit) => {
                    for (partition, offset) in offsets {
                        state.confirm(&self.topic, partition, offset, limit);
                    }
                }
                Mail::Finish => state.finish = true,
            }
        }
    }

    /// Waits for what is under way in these partitions; nothing more of them begins.
    pub fn drain(&self, partitions: &[i32]) {
        let of_these = |b: &Batch| partitions.contains(&b.partition);
        let queued = self.queue.take(of_these);
        {
            let mut state = self.state();
            for batch in &queued {
                state.release(Dropped::of(&batch.records));
            }
            for partition in partitions {
                let dropped = state.partitions.stop_admitting(*partition);
                state.release(dropped);
            }
        }
        // What was taken back from the queue stays open in the frontier, so it is never committed.
        let withdrawn = |p: i32| queued.iter().filter(|b| b.partition == p).count();
        let end = Instant::now() + DRAIN;
        while self.goes_on() && Instant::now() < end {
            {
                let state = self.state();
                let busy = |p: &i32| state.partitions.running(*p) > withdrawn(*p);
                if state.failed.is_some() || !partitions.iter().any(busy) {
                    return;
                }
            }
            self.read_mail(Duration::from_millis(50));
        }
    }

    /// Offsets that may be committed and were not yet.
    pub fn to_commit(&self, only: Option<&[i32]>) -> Result<Option<TopicPartitionList>> {
        let mut state = self.state();
        let moved: Vec<(i32, i64)> = state
            .partitions
            .positions()
            .filter(|(p, _)| only.is_none_or(|only| only.contains(p)))
            .filter(|(p, position)| state.sent.get(p).is_none_or(|sent| sent < position))
            .collect();
        if moved.is_empty() {
            return Ok(None);
        }
        let mut list = TopicPartitionList::new();
        for (partition, position) in moved {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(position))
                .map_err(|e| Error::Topic {
                    topic: self.topic.clone(),
                    partition: Some(partition),
                    offset: Some(position),
                    reason: format!("can't be committed: {e}"),
                })?;
            state.sent.insert(partition, position);
        }
        Ok(Some(list))
    }

    /// Commits now and waits for the broker's word.
    pub fn commit_sync(&self, consumer: &BaseConsumer<Member>, only: Option<&[i32]>) -> Result<()> {
        let Some(list) = self.to_commit(only)? else {
            return Ok(());
        };
        let result = consumer.commit(&list, CommitMode::Sync);
        self.committed(&list, result.map_err(|e| e.to_string()))
    }

    fn committed(&self, list: &TopicPartitionList, result: Result<(), String>) -> Result<()> {
        let mut state = self.state();
        for element in list.elements() {
            let partition = element.partition();
            match (&result, element.offset()) {
                (Ok(()), Offset::Offset(offset)) => {
                    state.summary.committed.insert(partition, offset);
                }
                _ => {
                    state.sent.remove(&partition);
                }
            }
        }
        result.map_err(|reason| Error::Topic {
            topic: self.topic.clone(),
            partition: None,
            offset: None,
            reason: format!(
                "its offsets can't be committed ({reason}); what was done since the last commit will be done again"
            ),
        })
    }

    fn assigned(&self, partitions: &[i32]) {
        // A new attempt a rebalance, so that two processings of one input can be told apart in the landed table.
        let attempt = self.runtime.block_on(self.store.next("attempt"));
        let mut state = self.state();
        match attempt.and_then(|a| {
            u32::try_from(a).map_err(|_| Error::Store {
                url: "(the job's)".into(),
                what: "count attempts".into(),
                reason: format!("{a} attempts are more than an identity can hold"),
            })
        }) {
            Ok(attempt) => {
                for partition in partitions {
                    let dropped = state.partitions.assign(*partition, attempt);
                    state.release(dropped);
                    state.forget(*partition);
                }
            }
            Err(error) => {
                state.failed.get_or_insert(error);
            }
        }
    }

    fn let_go(&self, partitions: &[i32]) {
        let mut state = self.state();
        for partition in partitions {
            let dropped = state.partitions.revoke(*partition);
            state.release(dropped);
            state.forget(*partition);
        }
    }
}

impl State {
    fn forget(&mut self, partition: i32) {
        self.sent.remove(&partition);
        self.behind.remove(&partition);
    }

    pub fn release(&mut self, dropped: Dropped) {
        self.admission.release(dropped.records, dropped.bytes);
    }

    /// Compares what was sent for commit with what the broker has. An asynchronous commit reports nothing: one that was
    /// refused in the middle of a rebalance is noticed here, and sent again.
    fn confirm(&mut self, topic: &str, partition: i32, offset: i64, limit: Duration) {
        let Some(sent) = self.sent.get(&partition).copied() else {
            return;
        };
        if sent <= offset {
            self.summary.committed.insert(partition, offset);
            self.behind.remove(&partition);
            return;
        }
        let seen = self
            .behind
            .entry(partition)
            .or_insert((offset, Instant::now()));
        if seen.0 != offset {
            *seen = (offset, Instant::now());
        }
        if seen.1.elapsed() > limit {
            self.failed.get_or_insert_with(|| Error::Topic {
                topic: topic.to_owned(),
                partition: Some(partition),
                offset: Some(sent),
                reason: format!(
                    "the broker has not taken this commit for {} s, it still has {offset}; what was done since will be done again",
                    limit.as_secs()
                ),
            });
        } else if seen.1.elapsed() > PATIENCE {
            self.sent.remove(&partition);
        }
    }

    fn complete(&mut self, done: &Done) {
        self.admission
            .release(done.offsets.len() as u64, done.weight);
        if self
            .partitions
            .complete(done.partition, done.epoch, &done.offsets)
        {
            self.summary.add(&done.tally);
        } else {
            self.summary.stale_dropped += done.offsets.len() as u64;
        }
    }
}

/// The worker as the client calls it back. All of it runs inside `poll`, on the consumer's thread.
pub struct Member(pub Arc<Worker>);

impl ClientContext for Member {}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.0.assigned(&numbers(list)),
            Rebalance::Revoke(list) => {
                let partitions = numbers(list);
                if consumer.assignment_lost() {
                    // Somebody else may have them already: what is under way turns stale.
                    let queued = self.0.queue.take(|b| partitions.contains(&b.partition));
                    let mut state = self.0.state();
                    for batch in &queued {
                        state.release(Dropped::of(&batch.records));
                    }
                } else {
                    self.0.drain(&partitions);
                    // A commit that fails here is no failure of the run: the next owner does some records again.
                    let _ = self.0.commit_sync(consumer, Some(&partitions));
                }
                self.0.let_go(&partitions);
            }
            Rebalance::Error(_) => {}
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // A partition that joins flows or stands still like the others. The client remembers a pause from an earlier
        // assignment of the same partition, so that must be undone too.
        if let Rebalance::Assign(list) = rebalance {
            let paused = self.0.state().admission.is_paused();
            let _ = if paused {
                consumer.pause(list)
            } else {
                consumer.resume(list)
            };
        }
    }
}

fn numbers(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|e| e.partition()).collect()
}
