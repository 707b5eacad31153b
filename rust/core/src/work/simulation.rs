//! Workers, a log with holes, rebalances and crashes, from a seed: what is committed was delivered, always, and the log
//! is finished in the end. A seed that fails replays by its number.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::identity::JobId;

/// SplitMix64: enough for a simulation, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

struct Worker {
    partitions: Partitions,
    /// Where reading is, by partition held.
    reading: BTreeMap<i32, i64>,
    running: Vec<Batch>,
}

fn record(offset: i64) -> Record {
    Record {
        offset,
        identity: Identity {
            job: JobId(1),
            split: 0,
            seq: 0,
        },
        key: None,
        schema: None,
        payload: Vec::new(),
    }
}

/// One run; returns how many records were done more than once.
fn run(seed: u64) -> u64 {
    let mut random = Random(seed);
    let count = 1 + random.below(4) as i32;
    let logs: Vec<Vec<i64>> = (0..count)
        .map(|_| {
            let mut at = -1;
            (0..random.below(80))
                .map(|_| {
                    at += 1 + (random.below(5) == 0) as i64 * random.below(4) as i64;
                    at
                })
                .collect()
        })
        .collect();
    let end = |p: i32| logs[p as usize].last().map_or(0, |o| o + 1);
    let serial = random.below(2) == 0;
    let fresh = || Worker {
        partitions: Partitions::new(serial),
        reading: BTreeMap::new(),
        running: Vec::new(),
    };
    let mut workers: Vec<Worker> = (0..1 + random.below(3)).map(|_| fresh()).collect();
    let mut owner: Vec<Option<usize>> = vec![None; count as usize];
    let mut committed: Vec<i64> = vec![0; count as usize];
    let mut delivered: BTreeMap<(i32, i64), u64> = BTreeMap::new();
    let mut steps = 0;
    while (0..count).any(|p| committed[p as usize] < end(p)) {
        steps += 1;
        assert!(steps < 50_000, "seed {seed}: the log is not finished");
        let w = random.below(workers.len());
        match random.below(100) {
            // A partition moves (or is assigned for the first time); a graceful revoke commits first.
            0..5 => {
                let p = random.below(count as usize);
                if let Some(old) = owner[p].take() {
                    let worker = &mut workers[old];
                    if random.below(2) == 0 {
                        commit(&worker.partitions, p as i32, &mut committed);
                    }
                    worker.partitions.revoke(p as i32);
                    worker.reading.remove(&(p as i32));
                }
                workers[w].partitions.assign(p as i32, steps);
                workers[w].reading.insert(p as i32, committed[p]);
                owner[p] = Some(w);
            }
            // A crash: everything the worker knew is gone.
            5..6 => {
                workers[w] = fresh();
                for o in owner.iter_mut().filter(|o| **o == Some(w)) {
                    *o = None;
                }
            }
            6..50 => {
                let worker = &mut workers[w];
                let held: Vec<i32> = worker.reading.keys().copied().collect();
                for p in held {
                    let at = worker.reading[&p];
                    if let Some(offset) = logs[p as usize].iter().find(|o| **o >= at) {
                        assert!(worker.partitions.admit(p, record(*offset)));
                        worker.reading.insert(p, offset + 1);
                    }
                }
            }
            50..70 => {
                let partial = random.below(2) == 0;
                let size = 1 + random.below(6);
                let worker = &mut workers[w];
                if let Some(batch) = worker.partitions.next_batch(size, partial) {
                    if serial {
                        let twin =
                            |b: &Batch| (b.partition, b.epoch) == (batch.partition, batch.epoch);
                        assert!(!worker.running.iter().any(twin), "seed {seed}: two at once");
                    }
                    worker.running.push(batch);
                }
            }
            // Any batch under way is delivered, also a stale one.
            70..90 => {
                let worker = &mut workers[w];
                if !worker.running.is_empty() {
                    let at = random.below(worker.running.len());
                    let batch = worker.running.swap_remove(at);
                    let offsets: Vec<i64> = batch.records.iter().map(|r| r.offset).collect();
                    for offset in &offsets {
                        *delivered.entry((batch.partition, *offset)).or_default() += 1;
                    }
                    let held = owner[batch.partition as usize] == Some(w);
                    let moved = worker
                        .partitions
                        .complete(batch.partition, batch.epoch, &offsets);
                    assert!(
                        held || !moved,
                        "seed {seed}: a stale batch moved a frontier"
                    );
                }
            }
            _ => {
                for p in 0..count {
                    if owner[p as usize] == Some(w) {
                        commit(&workers[w].partitions, p, &mut committed);
                    }
                }
            }
        }
        for p in 0..count {
            let missing = logs[p as usize]
                .iter()
                .take_while(|o| **o < committed[p as usize])
                .find(|o| !delivered.contains_key(&(p, **o)));
            assert_eq!(
                missing, None,
                "seed {seed}: committed past an undelivered offset"
            );
        }
    }
    let expected: BTreeSet<(i32, i64)> = (0..count)
        .flat_map(|p| logs[p as usize].iter().map(move |o| (p, *o)))
        .collect();
    let seen: BTreeSet<(i32, i64)> = delivered.keys().copied().collect();
    assert_eq!(seen, expected, "seed {seed}");
    delivered.values().map(|n| n - 1).sum()
}

fn commit(partitions: &Partitions, partition: i32, committed: &mut [i64]) {
    if let Some((_, position)) = partitions.positions().find(|(p, _)| *p == partition) {
        let at = &mut committed[partition as usize];
        assert!(position >= *at, "a commit went backwards");
        *at = position;
    }
}

#[test]
fn nothing_is_lost_whatever_happens() {
    let twice: u64 = (0..3_000).map(run).sum();
    assert!(twice > 0, "the simulation has no crashes in it");
}

#[test]
fn dropped_work_is_given_back_and_blocks_the_frontier() {
    let mut partitions = Partitions::new(false);
    partitions.assign(0, 1);
    for offset in 0..3 {
        assert!(partitions.admit(0, record(offset)));
    }
    let batch = partitions.next_batch(1, true).unwrap();
    assert_eq!(partitions.stop_admitting(0).records, 2);
    assert!(partitions.complete(0, batch.epoch, &[0]));
    assert_eq!(partitions.positions().collect::<Vec<_>>(), [(0, 1)]);
    assert!(partitions.is_idle());
    assert!(!partitions.admit(1, record(0)));
}
