//! The records a worker holds: which may be given to the service now, which wait and for what, and how far each partition
//! may be committed. Pure; times are since any fixed moment.
//!
//! Every assignment of a partition has an epoch. What was read under one epoch and is finished under another (or when
//! the partition is gone) is stale: its answers are delivered, but it moves no frontier.
//!
//! Where order is kept, records share a *lane*: all of a key, or all of a partition. One record of a lane is with the
//! service at a time, also while it waits to be tried again; those behind it wait, and hold back nobody else.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::frontier::Frontier;
use super::task::{Dropped, Lane, Record, Task, Way};
use crate::job::Order;

#[derive(Debug)]
struct Partition {
    epoch: u64,
    attempt: u32,
    frontier: Frontier,
    /// Records handed over and not delivered.
    running: usize,
    /// Of them, those that have their verdict.
    delivering: usize,
    /// When what is not below the frontier was admitted, by offset, and the broker's time of it.
    admitted: VecDeque<(i64, Duration, Option<i64>)>,
    /// It is about to go: nothing more of it begins.
    closing: bool,
}

/// Records that are worked on in order.
#[derive(Debug, Default)]
struct Line {
    /// Those that are ready, with the service, or wait to be tried again.
    out: usize,
    /// Those behind, in the order of the log.
    waiting: VecDeque<Task>,
}

/// See the module.
#[derive(Debug)]
pub struct Schedule {
    order: Order,
    held: BTreeMap<i32, Partition>,
    epochs: u64,
    ready: VecDeque<Task>,
    lines: HashMap<Lane, Line>,
    /// Records that are tried again, by when.
    later: BTreeMap<(Duration, u64), Task>,
    /// Records that may have killed their process: each is called alone.
    suspects: VecDeque<Task>,
    /// Tasks in `ready`, `lines`, `later` and `suspects`.
    kept: usize,
    numbers: u64,
}

impl Schedule {
    pub fn new(order: Order) -> Self {
        Self {
            order,
            held: BTreeMap::new(),
            epochs: 0,
            ready: VecDeque::new(),
            lines: HashMap::new(),
            later: BTreeMap::new(),
            suspects: VecDeque::new(),
            kept: 0,
            numbers: 0,
        }
    }

    /// Begins a new epoch of a partition, where an earlier holder has done `before`. An earlier epoch, if it is still
    /// held, ends: what it had is stale.
    pub fn assign(&mut self, partition: i32, attempt: u32, before: BTreeSet<i64>) -> Dropped {
        let dropped = self.revoke(partition);
        self.epochs += 1;
        self.held.insert(
            partition,
            Partition {
                epoch: self.epochs,
                attempt,
                frontier: Frontier::resumed(before),
                running: 0,
                delivering: 0,
                admitted: VecDeque::new(),
                closing: false,
            },
        );
        dropped
    }

    /// Lets a partition go, and what of it waits.
    pub fn revoke(&mut self, partition: i32) -> Dropped {
        let dropped = self.stop_admitting(partition);
        self.held.remove(&partition);
        self.lines.retain(|lane, _| lane.partition != partition);
        dropped
    }

    /// Drops what of a partition waits, without letting it go: nothing more of it will begin. The offsets stay open in
    /// the frontier, so nothing behind them is committed.
    pub fn stop_admitting(&mut self, partition: i32) -> Dropped {
        if let Some(p) = self.held.get_mut(&partition) {
            p.closing = true;
        }
        let mut dropped = Dropped::default();
        let mut stays = |task: &Task| {
            let goes = task.partition == partition;
            if goes {
                dropped.add(&task.record);
            }
            !goes
        };
        self.ready.retain(&mut stays);
        self.later.retain(|_, task| stays(task));
        self.suspects.retain(&mut stays);
        for line in self.lines.values_mut() {
            line.waiting.retain(&mut stays);
        }
        self.kept = self
            .kept
            .saturating_sub(usize::try_from(dropped.records).unwrap_or(0));
        dropped
    }

    /// Takes a record that was read. `false`: it needs no work, because it is of no partition that is held, was read
    /// before, or was done by an earlier holder.
    pub fn admit(&mut self, now: Duration, partition: i32, record: Record) -> bool {
        let Some(p) = self.held.get_mut(&partition).filter(|p| !p.closing) else {
            return false;
        };
        if !matches!(p.frontier.admit(record.offset), Ok(true)) {
            return false;
        }
        p.admitted
            .push_back((record.offset, now, record.timestamp_ms));
        let task = Task {
            partition,
            epoch: p.epoch,
            attempt: p.attempt,
            lane: Lane::of(self.order, partition, &record),
            record,
            way: Way::default(),
        };
        self.kept += 1;
        match task.lane.map(|lane| self.lines.entry(lane).or_default()) {
            Some(line) if line.out > 0 => line.waiting.push_back(task),
            Some(line) => {
                line.out = 1;
                self.ready.push_back(task);
            }
            None => self.ready.push_back(task),
        }
        true
    }

    /// Takes an offset that needs no work: a record of another job in a shared topic.
    pub fn skip(&mut self, partition: i32, offset: i64) {
        if let Some(p) = self.held.get_mut(&partition)
            && matches!(p.frontier.admit(offset), Ok(true))
        {
            // Just admitted, so it is open.
            let _ = p.frontier.done(offset);
        }
    }

    /// Records that may be given to the service now, at most so many. With `behind`, a record may be followed by others
    /// of its lane: for a service that takes them in turn, and none after one that has to be tried again.
    pub fn take(&mut self, now: Duration, max_records: usize, behind: bool) -> Vec<Task> {
        self.wake(now);
        let mut taken = Vec::with_capacity(max_records.min(self.ready.len()));
        while taken.len() < max_records
            && let Some(task) = self.ready.pop_front()
        {
            let lane = task.lane;
            taken.push(task);
            let Some(line) = lane.filter(|_| behind).and_then(|l| self.lines.get_mut(&l)) else {
                continue;
            };
            // More than one out: what was handed over behind it has not come back yet.
            if line.out > 1 {
                continue;
            }
            while taken.len() < max_records
                && let Some(next) = line.waiting.pop_front()
            {
                line.out += 1;
                taken.push(next);
            }
        }
        for task in &taken {
            if let Some(p) = self.held.get_mut(&task.partition) {
                p.running += 1;
            }
        }
        self.kept -= taken.len();
        taken
    }

    fn wake(&mut self, now: Duration) {
        while let Some(first) = self.later.first_entry()
            && first.key().0 <= now
        {
            // Older than what came meanwhile.
            self.ready.push_front(first.remove());
        }
    }

    /// Records that are ready now.
    pub fn ready(&mut self, now: Duration) -> usize {
        self.wake(now);
        self.ready.len()
    }

    /// When the next record is to be tried again.
    pub fn next_try(&self) -> Option<Duration> {
        self.later.first_key_value().map(|((at, _), _)| *at)
    }

    /// A record has its verdict: the next of its lane may begin.
    pub fn settled(&mut self, partition: i32, epoch: u64, lane: Option<Lane>) {
        let held = self.held.get_mut(&partition);
        if let Some(p) = held.filter(|p| p.epoch == epoch) {
            p.delivering += 1;
            self.leave(lane);
        }
    }

    /// A record is to be tried again at a time, and those behind it wait for it.
    pub fn again(&mut self, task: Task, at: Duration) -> Dropped {
        self.back(task, |schedule, task| {
            schedule.numbers += 1;
            schedule.later.insert((at, schedule.numbers), task);
        })
    }

    /// A record that may have killed its process: it is to be called alone, the last one that is named first.
    pub fn suspect(&mut self, task: Task) -> Dropped {
        self.back(task, |schedule, task| schedule.suspects.push_front(task))
    }

    /// A record to be called alone.
    pub fn take_suspect(&mut self) -> Option<Task> {
        let task = self.suspects.pop_front()?;
        self.kept -= 1;
        if let Some(p) = self.held.get_mut(&task.partition) {
            p.running += 1;
        }
        Some(task)
    }

    /// A record that the service was not called with after all.
    pub fn put_back(&mut self, task: Task) -> Dropped {
        self.back(task, |schedule, task| {
            let lane = task.lane;
            let Some(line) = lane.and_then(|lane| schedule.lines.get_mut(&lane)) else {
                schedule.ready.push_front(task);
                return;
            };
            let offset = task.record.offset;
            let place = line.waiting.partition_point(|t| t.record.offset < offset);
            line.waiting.insert(place, task);
            schedule.leave(lane);
        })
    }

    /// Takes a record back that was handed over, unless its partition is gone or about to go.
    fn back(&mut self, task: Task, keep: impl FnOnce(&mut Self, Task)) -> Dropped {
        let mut dropped = Dropped::default();
        let held = self.held.get_mut(&task.partition);
        let Some(p) = held.filter(|p| p.epoch == task.epoch) else {
            dropped.add(&task.record);
            return dropped;
        };
        p.running = p.running.saturating_sub(1);
        if p.closing {
            dropped.add(&task.record);
        } else {
            self.kept += 1;
            keep(self, task);
        }
        dropped
    }

    fn leave(&mut self, lane: Option<Lane>) {
        let Some(lane) = lane else { return };
        let Some(line) = self.lines.get_mut(&lane) else {
            return;
        };
        line.out = line.out.saturating_sub(1);
        if line.out > 0 {
            return;
        }
        match line.waiting.pop_front() {
            Some(next) => {
                line.out = 1;
                self.ready.push_back(next);
            }
            None => {
                self.lines.remove(&lane);
            }
        }
    }

    /// Notes that these are delivered. `false`: they are stale, and nothing moved.
    pub fn complete(&mut self, partition: i32, epoch: u64, offsets: &[i64]) -> bool {
        let Some(p) = self.held.get_mut(&partition) else {
            return false;
        };
        if p.epoch != epoch {
            return false;
        }
        p.running = p.running.saturating_sub(offsets.len());
        p.delivering = p.delivering.saturating_sub(offsets.len());
        for offset in offsets {
            // A record is completed once, so its offset is open.
            let _ = p.frontier.done(*offset);
        }
        let position = p.frontier.position().unwrap_or(0);
        while p.admitted.front().is_some_and(|(o, ..)| *o < position) {
            p.admitted.pop_front();
        }
        true
    }

    /// Notes that a held partition has no records from its frontier to `upto`.
    pub fn pass(&mut self, partition: i32, upto: i64) {
        if let Some(p) = self.held.get_mut(&partition) {
            p.frontier.pass(upto);
        }
    }

    /// What may be committed, by partition.
    pub fn positions(&self) -> impl Iterator<Item = (i32, i64)> {
        self.held
            .iter()
            .filter_map(|(number, p)| Some((*number, p.frontier.position()?)))
    }

    /// What may be committed of a partition.
    pub fn position(&self, partition: i32) -> Option<i64> {
        self.held.get(&partition)?.frontier.position()
    }

    /// One past what was admitted last, by partition.
    pub fn next_offsets(&self) -> impl Iterator<Item = (i32, i64)> {
        self.held
            .iter()
            .filter_map(|(number, p)| Some((*number, p.frontier.next()?)))
    }

    /// What is done above the frontier of a partition, ascending.
    pub fn above(&self, partition: i32) -> impl Iterator<Item = i64> {
        self.held
            .get(&partition)
            .into_iter()
            .flat_map(|p| p.frontier.above())
    }

    /// The epoch of a held partition.
    pub fn epoch(&self, partition: i32) -> Option<u64> {
        Some(self.held.get(&partition)?.epoch)
    }

    pub fn frontier(&self, partition: i32) -> Option<&Frontier> {
        Some(&self.held.get(&partition)?.frontier)
    }

    /// Records of the partition that were handed over and are not delivered.
    pub fn running(&self, partition: i32) -> usize {
        self.held.get(&partition).map_or(0, |p| p.running)
    }

    /// Of the first record of a partition that is not delivered: when it was admitted, and the broker's time of it.
    pub fn oldest(&self, partition: i32) -> Option<(Duration, Option<i64>)> {
        let p = self.held.get(&partition)?;
        p.admitted.front().map(|(_, at, time)| (*at, *time))
    }

    /// Records that are with the service, and those that wait for it.
    pub fn counts(&self) -> (usize, usize) {
        let called = self
            .held
            .values()
            .map(|p| p.running.saturating_sub(p.delivering));
        (called.sum(), self.kept)
    }

    /// Whether anything is under way or waits.
    pub fn is_idle(&self) -> bool {
        self.kept == 0 && self.held.values().all(|p| p.running == 0)
    }

    pub fn numbers(&self) -> impl Iterator<Item = i32> {
        self.held.keys().copied()
    }
}

#[cfg(test)]
#[path = "simulation.rs"]
mod simulation;
