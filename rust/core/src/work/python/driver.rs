//! What a service process is given, and what is made of its answers and of its death.
//!
//! A callable that takes records one after the other has one batch, and a second, full one behind it, so that it never
//! waits. A coroutine function has as many records at once as its share of the concurrency is.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::blame::{Open, blame};
use super::launch::{Process, Spec};
use super::pace::Pace;
use super::process::describe;
use super::wire::{self, Frame, WireError};
use crate::error::Result;
use crate::work::desk::{Desk, Taken};
use crate::work::limiter::{Ended, How};
use crate::work::task::{Lane, Task};
use crate::work::verdict::Verdict;

/// How often the process is looked at.
const TICK: Duration = Duration::from_millis(50);
/// What a process may take for a batch outside of the calls themselves (decoding, building the answers), at least.
const OVERHEAD: Duration = Duration::from_secs(60);
/// How much longer than its deadline a coroutine is waited for: its own process ends it in time.
const GRACE: Duration = Duration::from_secs(2);
/// Processes that may die one after the other, without one record worked on in between, before the service as a whole
/// is held to be broken rather than each of its records.
const DEATHS_IN_A_ROW: u32 = 30;
/// How long records that are ready wait for others, while the process has some to work on.
const LINGER: Duration = Duration::from_millis(2);

/// A service in one process, which is replaced when it dies.
pub struct PythonDriver {
    spec: Arc<Spec>,
    process: Process,
    /// Of the worker's processes, from 0.
    number: u32,
    /// Records that it may have at once, if it takes them at once.
    share: usize,
    pace: Pace,
    open: VecDeque<Open>,
    /// Calls of it that the worker counts as under way.
    counted: u32,
    /// Whether the one record that it has was to be called alone.
    alone: bool,
    batches: u64,
    /// When it was handed records last, on the worker's clock.
    handed: Duration,
    /// When the process answered last.
    answered: Instant,
    /// What it was seen doing last, and since when.
    seen: (Option<[u64; 3]>, Instant),
    deaths: u32,
    restarts: u64,
}

impl PythonDriver {
    /// Starts the process. `None`: `go` said to stop.
    ///
    /// # Errors
    /// See [`Spec::launch`].
    pub async fn start(
        spec: Arc<Spec>,
        number: u32,
        go: &dyn Fn() -> bool,
    ) -> Result<Option<Self>> {
        let share = spec.share;
        let Some(process) = spec.launch(share + 2, go).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            pace: Pace::new(spec.batch_records),
            spec,
            process,
            number,
            share,
            open: VecDeque::new(),
            counted: 0,
            alone: false,
            batches: 0,
            handed: Duration::ZERO,
            answered: Instant::now(),
            seen: (None, Instant::now()),
            deaths: 0,
            restarts: 0,
        }))
    }

    /// Calls that it has under way at once, at most.
    pub fn concurrency(&self) -> u32 {
        let calls = if self.process.at_once { self.share } else { 1 };
        u32::try_from(calls).unwrap_or(u32::MAX)
    }

    /// Works until the worker stops; how many processes were replaced.
    ///
    /// # Errors
    /// If the service can't be used at all; no record is to blame then.
    pub async fn run(mut self, desk: &mut Desk) -> Result<u64> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while desk.worker.goes_on() {
            if self.open.is_empty() {
                let suspect = desk.take_suspect()?;
                self.alone = suspect.is_some();
                self.hand_over(suspect, desk).await?;
            }
            let (most, least, until) = self.wish(desk.worker.seat.limit());
            tokio::select! {
                frame = self.process.receive() => match frame {
                    Ok(frame) => self.take_answers(&frame, desk)?,
                    Err(WireError::Closed) => self.died(None, desk).await?,
                    Err(WireError::Garbage(reason)) => return Err(self.wrong(&reason)),
                },
                () = desk.ready(least, until), if most > 0 => {
                    // At once, one of a lane at a time: those behind it would wait in places that others could have.
                    let taken = desk.take(most, !self.process.at_once)?;
                    self.handed = desk.worker.now();
                    self.hand_over(taken, desk).await?;
                }
                _ = tick.tick() => if let Some(limit) = self.is_late() {
                    self.died(Some(limit), desk).await?;
                },
            }
        }
        if self.open.is_empty() {
            self.process.leave();
        }
        Ok(self.restarts)
    }

    fn wrong(&self, reason: &str) -> crate::error::Error {
        let reason = format!("its process answered wrongly: {reason}");
        self.spec.error(reason)
    }

    /// Records that the process may be handed now at most; and how many are worth it, unless it is so late on the worker's
    /// clock. `limit`: calls that the worker may have under way.
    fn wish(&self, limit: u32) -> (usize, usize, Duration) {
        const NOW: Duration = Duration::ZERO;
        if self.alone {
            return (0, 1, NOW);
        }
        if self.process.at_once {
            let has: usize = self.open.iter().map(|o| o.left).sum();
            let share = limit.div_ceil(self.spec.processes) as usize;
            let share = share.min(self.share);
            let most = share.saturating_sub(has).min(self.spec.batch_records);
            // What is handed over together costs little more than one, and what begins together often ends together.
            let until = if has == 0 { NOW } else { self.handed + LINGER };
            return (most, (share / 8).clamp(1, most.max(1)), until);
        }
        if self.number >= limit {
            return (0, 1, NOW);
        }
        let batch = self.pace.batch();
        match self.open.len() {
            0 => (batch, 1, NOW),
            1 => (batch, batch, Duration::MAX),
            _ => (0, 1, NOW),
        }
    }

    /// Tells the worker how many calls the process has under way now; how many all have.
    fn count_calls(&mut self, desk: &Desk) -> u32 {
        let calls = if self.process.at_once {
            self.open.iter().map(|o| o.left).sum()
        } else {
            usize::from(!self.open.is_empty())
        };
        let before = std::mem::replace(&mut self.counted, u32::try_from(calls).unwrap_or(u32::MAX));
        desk.worker.seat.count(self.counted, before);
        desk.worker.seat.count_calls(self.counted, before)
    }

    async fn hand_over(&mut self, taken: Option<Taken>, desk: &Desk) -> Result<()> {
        let Some(Taken { tasks, records }) = taken else {
            return Ok(());
        };
        self.batches += 1;
        let mut lanes: HashMap<Lane, usize> = HashMap::new();
        let mut is_shared = false;
        let lane = |task: &Task| {
            let next = lanes.len();
            let number = *lanes.entry(task.lane?).or_insert(next);
            is_shared |= number < next;
            Some(number)
        };
        let lane: Vec<Option<usize>> = tasks.iter().map(lane).collect();
        let traces: Vec<_> = tasks
            .iter()
            .map(|t| t.record.text_header("traceparent"))
            .collect();
        let head = json!({
            "type": "batch",
            "id": self.batches,
            "split": tasks.iter().map(|t| t.record.identity.split).collect::<Vec<_>>(),
            "seq": tasks.iter().map(|t| t.record.identity.seq).collect::<Vec<_>>(),
            "attempt": tasks.iter().map(|t| t.way.calls).collect::<Vec<_>>(),
            "traceparent": traces.iter().any(Option::is_some).then_some(traces),
            // Records without lanes, and those that are alone in theirs, need none.
            "lane": is_shared.then_some(lane),
        });
        let body = wire::batch_to_ipc(&records).map_err(|e| self.spec.error(e))?;
        let frame = wire::frame(&head, &body).map_err(|e| self.spec.error(e))?;
        if self.open.is_empty() {
            self.seen = (None, Instant::now());
        }
        self.open.push_back(Open {
            id: self.batches,
            left: tasks.len(),
            tasks: tasks.into_iter().map(Some).collect(),
            sent: Instant::now(),
            in_flight: 0,
        });
        let in_flight = self.count_calls(desk);
        if let Some(open) = self.open.back_mut() {
            open.in_flight = in_flight;
        }
        self.process.send(frame).await;
        Ok(())
    }

    fn take_answers(&mut self, (head, body): &Frame, desk: &Desk) -> Result<()> {
        let found = wire::answers(head, body).map_err(|reason| self.wrong(&reason))?;
        let Some(at) = self.open.iter().position(|o| o.id == found.id) else {
            return Err(self.wrong(&format!("answers to batch {}, which is not open", found.id)));
        };
        let mut verdicts = Vec::with_capacity(found.verdicts.len());
        let mut counts: BTreeMap<&'static str, u32> = BTreeMap::new();
        let mut took = Duration::ZERO;
        let mut ended = Vec::with_capacity(found.verdicts.len());
        if let Some(open) = self.open.get_mut(at) {
            // One after the other, they share the time; at once, each has had it all.
            took = open.sent.elapsed();
            if !self.process.at_once {
                let records = open.tasks.len();
                let time = open.sent.max(self.answered).elapsed();
                self.pace.took(records, time);
                took = time / u32::try_from(records.max(1)).unwrap_or(u32::MAX);
            }
            for (row, verdict) in found.verdicts {
                let Some(task) = open.tasks.get_mut(row).and_then(Option::take) else {
                    let reason = format!("a second verdict on row {row} of batch {}", found.id);
                    return Err(self.wrong(&reason));
                };
                open.left -= 1;
                if verdict != Verdict::Held {
                    *counts.entry(verdict.name()).or_default() += 1;
                }
                if let Some(how) = verdict.how(&task) {
                    ended.push(Ended {
                        took,
                        in_flight: open.in_flight,
                        how,
                    });
                }
                verdicts.push((task, verdict));
            }
            if open.left == 0 {
                self.open.remove(at);
            }
        }
        self.count_calls(desk);
        desk.worker.seat.ended(ended);
        for (how, n) in counts {
            desk.worker.metrics.record_calls(took, how, n);
        }
        self.answered = Instant::now();
        self.deaths = 0;
        desk.give_batch(verdicts, found.answers);
        Ok(())
    }

    /// How long the process has been silent, if that is too long.
    fn is_late(&mut self) -> Option<Duration> {
        if self.open.is_empty() {
            return None;
        }
        let now = self.process.mark();
        if now != self.seen.0 {
            self.seen = (now, Instant::now());
        }
        let deadline = self.spec.deadline;
        let calling = now.is_some_and(|[id, row, _]| {
            let mut open = self.open.iter();
            open.any(|o| o.id == id && row < o.tasks.len() as u64)
        });
        let limit = match calling {
            // Its process moves the mark as long as it lives.
            true if self.process.at_once => deadline + GRACE,
            true => deadline,
            false => deadline.max(OVERHEAD),
        };
        (self.seen.1.elapsed() > limit).then_some(if calling { deadline } else { limit })
    }

    /// The process is gone, or has been silent for `late`: another takes its place, and its records are called again.
    async fn died(&mut self, late: Option<Duration>, desk: &Desk) -> Result<()> {
        let status = self.process.end(late.is_some());
        let (reason, detail) = match late {
            Some(limit) => {
                let limit = limit.as_millis();
                let detail = format!("no answer within {limit} ms, its process was killed");
                ("Deadline", detail)
            }
            None => {
                let ended = status.map_or("is gone".into(), describe);
                ("KilledProcess", format!("its process {ended}"))
            }
        };
        let how = if late.is_some() { "deadline" } else { "died" };
        if let Some(open) = self.open.front() {
            // It was idle until it was handed these, or busy with others.
            let took = open.sent.max(self.answered).elapsed();
            desk.worker.metrics.record_call(took, how);
            desk.worker.seat.ended([Ended {
                took,
                in_flight: open.in_flight,
                how: How::Failed,
            }]);
        }
        self.deaths += 1;
        if self.deaths > DEATHS_IN_A_ROW {
            return Err(self.spec.error(format!(
                "its process died {} times in a row, without one record worked on in between; last: {detail}",
                self.deaths
            )));
        }
        let found = blame(
            self.open.drain(..),
            self.process.mark(),
            self.process.at_once,
        );
        self.count_calls(desk);
        desk.put_back_called(found.innocent);
        desk.suspect(found.others.into_iter().rev());
        if let Some(mut task) = found.marked {
            task.way.deaths += 1;
            if found.alone && task.way.deaths >= 2 {
                let reason = reason.to_owned();
                let detail = format!("{detail}; it did so again when it was alone");
                let verdict = Verdict::DeadLetter { reason, detail };
                desk.give_rows(vec![(task, verdict, Vec::new())]);
            } else {
                desk.suspect([task]);
            }
        }
        let go = || desk.worker.goes_on();
        if let Some(process) = self.spec.launch(self.share + 2, &go).await? {
            self.process = process;
            self.restarts += 1;
            desk.worker.metrics.restarts.add(1);
        }
        Ok(())
    }
}
