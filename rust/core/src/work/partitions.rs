//! The partitions a worker holds: what was read and waits, what is under way, and how far each may be committed. Pure.
//!
//! Every assignment of a partition has an epoch. What was read under one epoch and is finished under another (or when
//! the partition is gone) is stale: its answers are delivered, but it moves no frontier.

use std::collections::{BTreeMap, VecDeque};

use super::frontier::Frontier;
use crate::identity::Identity;

/// An ingress record that was read.
#[derive(Clone, Debug)]
pub struct Record {
    pub offset: i64,
    pub identity: Identity,
    pub key: Option<Vec<u8>>,
    /// The header that names the schema, if the record has it.
    pub schema: Option<Vec<u8>>,
    pub payload: Vec<u8>,
}

impl Record {
    /// What it counts for in admission: its bytes, and about what keeping it costs.
    pub fn weight(&self) -> u64 {
        (self.payload.len() + self.key.as_ref().map_or(0, Vec::len) + 96) as u64
    }
}

/// Records of one partition that are handed over together, in the order of the log.
#[derive(Debug)]
pub struct Batch {
    pub partition: i32,
    pub epoch: u64,
    /// The attempt of the epoch, as it goes into egress identities.
    pub attempt: u32,
    pub records: Vec<Record>,
}

impl Batch {
    pub fn weight(&self) -> u64 {
        self.records.iter().map(Record::weight).sum()
    }
}

#[derive(Debug)]
struct Partition {
    epoch: u64,
    attempt: u32,
    frontier: Frontier,
    waiting: VecDeque<Record>,
    /// Batches handed over and not complete.
    running: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Partitions {
    held: BTreeMap<i32, Partition>,
    epochs: u64,
    /// One batch of a partition at a time, so that records of a key meet the service in order.
    serial: bool,
    /// The partition served last; the next one is after it.
    turn: i32,
}

impl Partitions {
    pub fn new(serial: bool) -> Self {
        Self {
            serial,
            ..Self::default()
        }
    }

    /// Begins a new epoch of a partition. An earlier one, if it is still held, ends: what it had is stale.
    pub fn assign(&mut self, partition: i32, attempt: u32) -> Dropped {
        let dropped = self.revoke(partition);
        self.epochs += 1;
        self.held.insert(
            partition,
            Partition {
                epoch: self.epochs,
                attempt,
                frontier: Frontier::default(),
                waiting: VecDeque::new(),
                running: 0,
            },
        );
        dropped
    }

    /// Lets a partition go, and what of it waits.
    pub fn revoke(&mut self, partition: i32) -> Dropped {
        self.held
            .remove(&partition)
            .map_or_else(Dropped::default, |p| Dropped::of(&p.waiting))
    }

    /// Drops what of a partition waits, without letting it go: nothing more of it will begin.
    pub fn stop_admitting(&mut self, partition: i32) -> Dropped {
        self.held
            .get_mut(&partition)
            .map_or_else(Dropped::default, |p| {
                // Their offsets stay open in the frontier: nothing behind them is committed.
                Dropped::of(&std::mem::take(&mut p.waiting))
            })
    }

    /// Takes a record that was read. `false`: it is of no partition that is held, or was read before.
    pub fn admit(&mut self, partition: i32, record: Record) -> bool {
        let Some(p) = self.held.get_mut(&partition) else {
            return false;
        };
        if p.frontier.admit(record.offset).is_err() {
            return false;
        }
        p.waiting.push_back(record);
        true
    }

    /// Takes an offset that needs no work: a record of another job in a shared topic.
    pub fn skip(&mut self, partition: i32, offset: i64) {
        if let Some(p) = self.held.get_mut(&partition)
            && p.frontier.admit(offset).is_ok()
        {
            // Just admitted, so it is open.
            let _ = p.frontier.done(offset);
        }
    }

    /// The next batch, of the partitions in turn: a full one, or a part of one where `partial` says so.
    pub fn next_batch(&mut self, max_records: usize, partial: bool) -> Option<Batch> {
        let max_records = max_records.max(1);
        let wanted = if partial { 1 } else { max_records };
        let (serial, turn) = (self.serial, self.turn);
        let ready = |p: &Partition| p.waiting.len() >= wanted && !(serial && p.running > 0);
        let number = self
            .held
            .range(turn.saturating_add(1)..)
            .chain(self.held.range(..=turn))
            .find_map(|(number, p)| ready(p).then_some(*number))?;
        self.turn = number;
        let p = self.held.get_mut(&number)?;
        let count = p.waiting.len().min(max_records);
        p.running += 1;
        Some(Batch {
            partition: number,
            epoch: p.epoch,
            attempt: p.attempt,
            records: p.waiting.drain(..count).collect(),
        })
    }

    /// Notes that all of a batch is delivered. `false`: it is stale, and nothing moved.
    pub fn complete(&mut self, partition: i32, epoch: u64, offsets: &[i64]) -> bool {
        let Some(p) = self.held.get_mut(&partition) else {
            return false;
        };
        if p.epoch != epoch {
            return false;
        }
        p.running = p.running.saturating_sub(1);
        for offset in offsets {
            // A batch is completed once, so its offsets are open.
            let _ = p.frontier.done(*offset);
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

    /// Batches of the partition that were handed over and are not complete.
    pub fn running(&self, partition: i32) -> usize {
        self.held.get(&partition).map_or(0, |p| p.running)
    }

    /// Whether anything is under way or waits.
    pub fn is_idle(&self) -> bool {
        self.held
            .values()
            .all(|p| p.running == 0 && p.waiting.is_empty())
    }

    pub fn numbers(&self) -> impl Iterator<Item = i32> {
        self.held.keys().copied()
    }
}

/// What was let go before it began: its credit is to be given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub records: u64,
    pub bytes: u64,
}

impl Dropped {
    pub fn of<'r>(records: impl IntoIterator<Item = &'r Record>) -> Self {
        records.into_iter().fold(Self::default(), |sum, r| Self {
            records: sum.records + 1,
            bytes: sum.bytes + r.weight(),
        })
    }
}

#[cfg(test)]
#[path = "simulation.rs"]
mod simulation;
