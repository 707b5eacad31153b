//! From the worker's desk to a service in Rust and back.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::answered::checked;
use super::{Call, NativeService};
use crate::error::Error;
use crate::work::desk::Desk;
use crate::work::endpoint::{Batching, Share, cut, failed, worst};
use crate::work::limiter::Ended;
use crate::work::service_error;
use crate::work::task::Task;
use crate::work::verdict::Verdict;
use crate::work::worker::Worker;

/// Calls at once, as many as the service takes.
#[derive(Clone)]
pub struct NativeDriver {
    pub name: String,
    pub service: Arc<dyn NativeService>,
    /// Records of a call at most.
    pub batch_records: u32,
    pub deadline: Duration,
    /// The schema in which answers are handed on.
    pub answers: SchemaRef,
}

/// Records of a call: row i is of task i.
type Records = (Vec<Task>, RecordBatch);
/// Their verdicts, and the rows of the answered ones.
type Found = (Vec<(Task, Verdict)>, RecordBatch);

impl NativeDriver {
    /// Works until the worker stops.
    ///
    /// # Errors
    /// If the service's answers can't be used; no record is to blame then. See [`Desk::take`].
    pub async fn run(self, desk: &mut Desk) -> Result<(), Error> {
        let driver = Arc::new(self);
        let wrong = |reason: String| service_error(&driver.name, reason);
        let mut waiting: VecDeque<Records> = VecDeque::new();
        let mut calls: JoinSet<Result<Found, Error>> = JoinSet::new();
        while desk.worker.goes_on() {
            let seat = &desk.worker.seat;
            seat.holds(waiting.len());
            while !waiting.is_empty() && seat.take(1) > 0 {
                if let Some(records) = waiting.pop_front() {
                    let (driver, worker) = (Arc::clone(&driver), Arc::clone(&desk.worker));
                    calls.spawn(async move { driver.call(records, &worker).await });
                }
            }
            seat.holds(waiting.len());
            // What was taken is called before more is.
            let room = match waiting.is_empty() {
                true => (seat.limit() as usize).saturating_sub(calls.len()),
                false => 0,
            };
            let (least, until) = match room {
                0 => (usize::MAX, Duration::MAX),
                _ => (1, Duration::ZERO),
            };
            tokio::select! {
                Some(first) = calls.join_next() => {
                    let (mut verdicts, mut rows) = (Vec::new(), Vec::new());
                    let mut next = Some(first);
                    let mut ended = 0;
                    while let Some(found) = next {
                        ended += 1;
                        let found = found.map_err(|e| wrong(format!("a call ended by itself: {e}")))?;
                        let (said, answers) = found?;
                        verdicts.extend(said);
                        rows.push(answers);
                        next = calls.try_join_next();
                    }
                    desk.worker.seat.count(0, ended);
                    let rows = concat_batches(&driver.answers, &rows).map_err(|e| wrong(e.to_string()))?;
                    desk.give_batch(verdicts, rows);
                }
                // Slots come from other jobs, too.
                () = desk.worker.seat.freed(), if room == 0 => {}
                () = desk.ready(least, until) => {
                    if room == 0 {
                        continue;
                    }
                    let most = room.saturating_mul(driver.batch_records as usize);
                    // One of a lane at a time: nobody knows in which order a service works through a batch.
                    if let Some(taken) = desk.take(most, false)? {
                        waiting.extend(driver.cut(taken.tasks, &taken.records));
                    }
                }
            }
        }
        Ok(())
    }

    /// Records by the calls that they share.
    fn cut(&self, tasks: Vec<Task>, records: &RecordBatch) -> Vec<Records> {
        let share = |task: &Task| Share {
            most: task.way.share,
            bytes: 0,
        };
        let batch = Batching {
            records: self.batch_records,
            bytes: 0,
            linger: Duration::ZERO,
        };
        let shares: Vec<Share> = tasks.iter().map(share).collect();
        let mut tasks = tasks.into_iter();
        let cuts = cut(&shares, Some(batch)).into_iter().map(|rows| {
            let of_call = tasks.by_ref().take(rows.len()).collect();
            (of_call, records.slice(rows.start, rows.len()))
        });
        cuts.collect()
    }

    async fn call(&self, (tasks, records): Records, worker: &Worker) -> Result<Found, Error> {
        let in_flight = worker.seat.count_calls(1, 0);
        let began = Instant::now();
        let call = Call {
            records,
            identities: tasks.iter().map(|t| t.record.identity).collect(),
            attempts: tasks.iter().map(|t| t.way.calls).collect(),
        };
        // What it can't go on with is of this call alone.
        let calling = AssertUnwindSafe(async { self.service.call(call).await }).catch_unwind();
        let came = tokio::time::timeout(self.deadline, calling).await;
        let took = began.elapsed();
        worker.seat.count_calls(0, 1);
        let verdict = match came {
            Ok(Ok(Ok(answered))) => {
                let (verdicts, rows) = checked(answered, tasks.len(), &self.answers)
                    .map_err(|reason| service_error(&self.name, format!("it gave {reason}")))?;
                return Ok(self.end(tasks, verdicts, rows, took, in_flight, worker));
            }
            Ok(Ok(Err(detail))) => Verdict::retry("Failed", detail),
            Ok(Err(panic)) => Verdict::retry("Panicked", told(&*panic)),
            Err(_) => {
                let deadline = self.deadline.as_millis();
                Verdict::retry("Deadline", format!("no answer within {deadline} ms"))
            }
        };
        let verdicts = vec![failed(tasks.len(), verdict); tasks.len()];
        let none = RecordBatch::new_empty(Arc::clone(&self.answers));
        Ok(self.end(tasks, verdicts, none, took, in_flight, worker))
    }

    fn end(
        &self,
        tasks: Vec<Task>,
        verdicts: Vec<Verdict>,
        rows: RecordBatch,
        took: Duration,
        in_flight: u32,
        worker: &Worker,
    ) -> Found {
        let said: Vec<(Task, Verdict)> = tasks.into_iter().zip(verdicts).collect();
        worker.seat.ended([Ended {
            took,
            in_flight,
            how: worst(said.iter().filter_map(|(task, verdict)| verdict.how(task))),
        }]);
        let mut counts: BTreeMap<_, u32> = BTreeMap::new();
        for (_, verdict) in &said {
            *counts.entry(verdict.name()).or_default() += 1;
        }
        for (name, records) in counts {
            worker.metrics.record_calls(took, name, records);
        }
        (said, rows)
    }
}

/// What a panic said.
fn told(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no text)".into())
}
