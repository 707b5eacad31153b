//! Where a driver gets its records from and gives its verdicts to.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use kappaflow_avro::AvroSchema;

use super::decode::Decoders;
use super::finish::Finished;
use super::queue::lock;
use super::task::Task;
use super::verdict::Verdict;
use super::worker::Worker;
use crate::error::Result;
use crate::job::template::Row;
use crate::registry::SchemaRegistry;

/// First wait before a record is tried again; doubles with each try, and is up to a half longer by chance.
const BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(2);
/// How often a wait for records looks for itself.
const TICK: Duration = Duration::from_millis(50);

/// Records that are given to the service together: row i is task i.
pub struct Taken {
    pub tasks: Vec<Task>,
    pub records: RecordBatch,
}

/// See the module. One a driver.
pub struct Desk {
    pub worker: Arc<Worker>,
    decoders: Decoders,
    max_attempts: u32,
}

impl Desk {
    pub fn new(
        worker: Arc<Worker>,
        registry: Arc<dyn SchemaRegistry>,
        ingress: AvroSchema,
        max_attempts: u32,
    ) -> Self {
        Self {
            worker,
            decoders: Decoders::new(registry, ingress),
            max_attempts: max_attempts.max(1),
        }
    }

    /// Waits until at least so many records are ready, or the worker stops; from `until` on one is enough. May be dropped
    /// at any time.
    pub async fn ready(&self, least: usize, until: Duration) {
        loop {
            let news = self.worker.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if !self.worker.goes_on() {
                return;
            }
            let now = self.worker.now();
            let wait = {
                let allowed = self.allowed(now);
                let mut state = self.worker.state();
                let ready = state.schedule.ready(now);
                if allowed.is_none() && (ready >= least.max(1) || ready > 0 && now >= until) {
                    return;
                }
                let next = [state.schedule.next_try(), Some(until), allowed];
                let next = next.into_iter().flatten().filter(|at| *at > now).min();
                next.map_or(TICK, |at| at.saturating_sub(now).min(TICK))
            };
            let _ = tokio::time::timeout(wait, news).await;
        }
    }

    /// `None`: the budget has calls. Else when it may have.
    fn allowed(&self, now: Duration) -> Option<Duration> {
        let mut budget = lock(&self.worker.budget);
        (budget.available(now) == 0).then(|| budget.next(now).unwrap_or(Duration::MAX))
    }

    /// Takes records that are ready, at most so many; `behind` as in [`super::schedule::Schedule::take`]. What can't be
    /// read becomes a dead letter. `None`: there was nothing.
    ///
    /// # Errors
    /// If the registry can't be asked for a schema.
    pub fn take(&mut self, max_records: usize, behind: bool) -> Result<Option<Taken>> {
        let now = self.worker.now();
        let mut tasks = {
            let mut budget = lock(&self.worker.budget);
            let most = max_records.min(budget.available(now));
            let tasks = self.worker.state().schedule.take(now, most, behind);
            budget.spend(tasks.len());
            tasks
        };
        if tasks.is_empty() {
            return Ok(None);
        }
        let (groups, undecodable) = self.decoders.decode(tasks.iter().map(|t| &t.record))?;
        let mut groups = groups.into_iter();
        let first = groups.next();
        if groups.len() == 0 && undecodable.is_empty() {
            for task in &mut tasks {
                task.way.calls += 1;
            }
            return Ok(first.map(|(_, records)| Taken { tasks, records }));
        }
        // One schema at a time, so that what is taken together is called together.
        let mut tasks: Vec<Option<Task>> = tasks.into_iter().map(Some).collect();
        let mut pick = |row: usize| tasks.get_mut(row).and_then(Option::take);
        let dead = undecodable.into_iter().filter_map(|(row, detail)| {
            let reason = "Undecodable".to_owned();
            Some((
                pick(row)?,
                Verdict::DeadLetter { reason, detail },
                Vec::new(),
            ))
        });
        self.give_rows(dead.collect());
        let taken = first.map(|(rows, records)| {
            let tasks = rows.into_iter().filter_map(&mut pick);
            let called = tasks.map(|mut task| {
                task.way.calls += 1;
                task
            });
            Taken {
                tasks: called.collect(),
                records,
            }
        });
        self.put_back(tasks.into_iter().flatten());
        Ok(taken)
    }

    /// Records that the service was not called with.
    fn put_back(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut state = self.worker.state();
        for task in tasks {
            let dropped = state.schedule.put_back(task);
            state.release(dropped);
        }
        drop(state);
        self.worker.news.notify_waiters();
    }

    /// The same of records that were counted as called.
    pub fn put_back_called(&self, tasks: Vec<Task>) {
        self.put_back(tasks.into_iter().map(|mut task| {
            task.way.calls = task.way.calls.saturating_sub(1);
            task
        }));
    }

    /// Records that may have killed their process; the last first.
    pub fn suspect(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut state = self.worker.state();
        for task in tasks {
            let dropped = state.schedule.suspect(task);
            state.release(dropped);
        }
    }

    /// A record that is to be called alone.
    ///
    /// # Errors
    /// As [`Desk::take`].
    pub fn take_suspect(&mut self) -> Result<Option<Taken>> {
        let now = self.worker.now();
        let mut task = {
            let mut budget = lock(&self.worker.budget);
            if budget.available(now) == 0 {
                return Ok(None);
            }
            let Some(task) = self.worker.state().schedule.take_suspect() else {
                return Ok(None);
            };
            budget.spend(1);
            task
        };
        let (groups, _) = self.decoders.decode([&task.record])?;
        task.way.calls += 1;
        Ok(groups.into_iter().next().map(|(_, records)| Taken {
            tasks: vec![task],
            records,
        }))
    }

    /// Verdicts with the answers of the answered ones, in their order.
    pub fn give_batch(&self, verdicts: Vec<(Task, Verdict)>, answers: RecordBatch) {
        let found = verdicts
            .into_iter()
            .map(|(task, verdict)| (task, verdict, ()));
        let finished = self.settle(found.collect());
        let finished: Vec<_> = finished.into_iter().map(|(t, v, ())| (t, v)).collect();
        if !finished.is_empty() {
            self.worker
                .finished
                .push(Finished::Batch(finished, answers));
        }
    }

    /// Verdicts, each with its answers.
    pub fn give_rows(&self, verdicts: Vec<(Task, Verdict, Vec<Row>)>) {
        let finished = self.settle(verdicts);
        if !finished.is_empty() {
            self.worker.finished.push(Finished::Rows(finished));
        }
    }

    /// Keeps what is to be tried again, lets those behind go on, and hands on what is finished.
    fn settle<A>(&self, verdicts: Vec<(Task, Verdict, A)>) -> Vec<(Task, Verdict, A)> {
        let mut finished = Vec::with_capacity(verdicts.len());
        let now = self.worker.now();
        let mut state = self.worker.state();
        for (mut task, verdict, answers) in verdicts {
            match verdict {
                Verdict::Held => {
                    task.way.calls = task.way.calls.saturating_sub(1);
                    let dropped = state.schedule.put_back(task);
                    state.release(dropped);
                }
                Verdict::Apart { most, wait } => {
                    task.way.share = Some(most);
                    let at = if wait { now + back_off(&task) } else { now };
                    let dropped = state.schedule.again(task, at);
                    state.release(dropped);
                }
                Verdict::Retry { after, .. } if task.way.tries + 1 < self.max_attempts => {
                    task.way.tries += 1;
                    let at = now + back_off(&task).max(after.unwrap_or_default());
                    let dropped = state.schedule.again(task, at);
                    state.release(dropped);
                }
                verdict => {
                    let Task {
                        partition,
                        epoch,
                        lane,
                        ..
                    } = task;
                    state.schedule.settled(partition, epoch, lane);
                    finished.push((task, verdict, answers));
                }
            }
        }
        drop(state);
        self.worker.news.notify_waiters();
        finished
    }
}

/// Spread by the record's identity, so that records that failed together are not tried again together.
fn back_off(task: &Task) -> Duration {
    let doubled = BACK_OFF
        .saturating_mul(1 << task.way.tries.saturating_sub(1).min(10))
        .min(LONGEST_BACK_OFF);
    let identity = task.record.identity;
    let spread = u64::from(identity.seq)
        .wrapping_add(u64::from(identity.split) << 32)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        >> 32;
    doubled + doubled.mul_f64(0.5 * spread as f64 / f64::from(u32::MAX))
}
