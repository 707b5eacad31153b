//! Workers, services, a log with holes, rebalances and crashes, from a seed: what is committed was delivered, always; the
//! records of a lane meet the service in their order; the log is finished in the end; and what a worker knew to be done
//! is not done again. A seed that fails replays by its number: `KAPPAFLOW_SEED=17 cargo test -p kappaflow-core simulation`.

use std::collections::{BTreeMap, BTreeSet};

use super::super::above;
use super::*;
use crate::work::testing::{Random, record};

/// What the service was handed at once, and how far it is.
struct Frame {
    /// Those not called yet, in order.
    tasks: VecDeque<Task>,
    /// Lanes of which one has to be tried again: those behind it are not called.
    blocked: BTreeSet<i64>,
}

struct Worker {
    schedule: Schedule,
    /// Where reading is, by partition held.
    reading: BTreeMap<i32, i64>,
    frames: Vec<Frame>,
    /// Has its verdict and is not delivered.
    delivering: Vec<Task>,
    /// By lane, the offset that was called last in this epoch and whether it has its verdict.
    called: BTreeMap<(u64, i64), (i64, bool)>,
}

struct World {
    seed: u64,
    random: Random,
    order: Order,
    logs: Vec<Vec<i64>>,
    keys: usize,
    workers: Vec<Worker>,
    owner: Vec<Option<usize>>,
    committed: Vec<(i64, String)>,
    delivered: BTreeMap<(i32, i64), u64>,
    /// What was open or not committed when a worker crashed or lost a partition.
    open: u64,
    now: Duration,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let partitions = 1 + random.below(4);
        let logs = (0..partitions)
            .map(|_| {
                let mut at = -1;
                (0..random.below(80))
                    .map(|_| {
                        let hole = if random.one_in(5) { random.below(4) } else { 0 };
                        at += 1 + hole as i64;
                        at
                    })
                    .collect()
            })
            .collect();
        let order = [Order::None, Order::Key, Order::Partition][random.below(3)];
        let keys = 1 + random.below(12);
        let count = 1 + random.below(3);
        Self {
            seed,
            order,
            logs,
            keys,
            workers: (0..count).map(|_| Worker::new(order)).collect(),
            owner: vec![None; partitions],
            committed: vec![(0, String::new()); partitions],
            delivered: BTreeMap::new(),
            open: 0,
            now: Duration::ZERO,
            random,
        }
    }

    /// A key that is a function of the offset; some records have none.
    fn key(&self, offset: i64) -> Option<usize> {
        let key = (offset as usize).wrapping_mul(2_654_435_761) >> 7;
        (!key.is_multiple_of(11)).then_some(key % self.keys)
    }

    fn lane(&self, partition: i32, offset: i64) -> Option<i64> {
        match self.order {
            Order::None => None,
            Order::Partition => Some(i64::from(partition) << 32),
            Order::Key => Some((i64::from(partition) << 32) + 1 + self.key(offset)? as i64),
        }
    }

    fn end(&self, partition: usize) -> i64 {
        self.logs[partition].last().map_or(0, |o| o + 1)
    }

    /// One run; returns how many records were done more than once.
    fn run(mut self) -> u64 {
        let mut steps = 0u64;
        while (0..self.logs.len()).any(|p| self.committed[p].0 < self.end(p)) {
            steps += 1;
            assert!(
                steps < 100_000,
                "seed {}: the log is not finished",
                self.seed
            );
            self.now += Duration::from_millis(self.random.below(20) as u64);
            let w = self.random.below(self.workers.len());
            match self.random.below(100) {
                0..4 => self.rebalance(w, steps),
                4..5 => self.crash(w),
                5..30 => self.read(w),
                30..45 => self.take(w),
                45..70 => self.call(w),
                70..90 => self.deliver(w),
                _ => (0..self.logs.len())
                    .filter(|p| self.owner[*p] == Some(w))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|p| self.commit(p)),
            }
        }
        let logs = self.logs.iter().enumerate();
        let expected: BTreeSet<(i32, i64)> = logs
            .flat_map(|(p, log)| log.iter().map(move |o| (p as i32, *o)))
            .collect();
        let seen: BTreeSet<(i32, i64)> = self.delivered.keys().copied().collect();
        assert_eq!(seen, expected, "seed {}", self.seed);
        let twice = self.delivered.values().map(|n| n - 1).sum();
        assert!(
            twice <= self.open,
            "seed {}: {twice} of {}",
            self.seed,
            self.open
        );
        twice
    }

    /// A partition moves, or is assigned for the first time. A graceful revoke waits for what runs, and commits.
    fn rebalance(&mut self, w: usize, steps: u64) {
        let p = self.random.below(self.logs.len());
        if let Some(old) = self.owner[p].take() {
            let graceful = self.random.one_in(2);
            if graceful {
                self.workers[old].schedule.stop_admitting(p as i32);
                for _ in 0..2_000 {
                    if self.workers[old].schedule.running(p as i32) == 0 {
                        break;
                    }
                    self.call(old);
                    self.deliver(old);
                }
                self.owner[p] = Some(old);
                self.commit(p);
                self.owner[p] = None;
                let open = self.workers[old].schedule.running(p as i32);
                assert_eq!(open, 0, "seed {}: {open} left after a drain", self.seed);
            } else {
                self.open += self.uncommitted(p, old);
            }
            let worker = &mut self.workers[old];
            worker.schedule.revoke(p as i32);
            worker.reading.remove(&(p as i32));
        }
        let (position, metadata) = self.committed[p].clone();
        let before = above::read(position, &metadata);
        let worker = &mut self.workers[w];
        worker.schedule.assign(p as i32, steps as u32, before);
        worker.reading.insert(p as i32, position);
        self.owner[p] = Some(w);
    }

    /// Everything the worker knew is gone.
    fn crash(&mut self, w: usize) {
        for p in 0..self.logs.len() {
            if self.owner[p] == Some(w) {
                self.open += self.uncommitted(p, w);
                self.owner[p] = None;
            }
        }
        self.workers[w] = Worker::new(self.order);
    }

    fn read(&mut self, w: usize) {
        let held: Vec<(i32, i64)> = self.workers[w]
            .reading
            .iter()
            .map(|(p, at)| (*p, *at))
            .collect();
        for (p, at) in held {
            let log = &self.logs[p as usize];
            let Some(offset) = log.iter().copied().find(|o| *o >= at) else {
                self.workers[w]
                    .schedule
                    .pass(p, log.last().map_or(0, |o| o + 1));
                continue;
            };
            let key = self.key(offset);
            let worker = &mut self.workers[w];
            worker.schedule.admit(self.now, p, record(offset, key));
            worker.reading.insert(p, offset + 1);
        }
    }

    fn take(&mut self, w: usize) {
        let (most, behind) = (1 + self.random.below(6), self.random.one_in(2));
        let schedule = &mut self.workers[w].schedule;
        let tasks = match schedule.take_suspect() {
            Some(task) => vec![task],
            None => schedule.take(self.now, most, behind),
        };
        assert!(tasks.len() <= most);
        if !tasks.is_empty() {
            self.workers[w].frames.push(Frame {
                tasks: tasks.into(),
                blocked: BTreeSet::new(),
            });
        }
    }

    /// The service comes to the next record of one of its frames.
    fn call(&mut self, w: usize) {
        if self.workers[w].frames.is_empty() {
            return;
        }
        let at = self.random.below(self.workers[w].frames.len());
        let Some(mut task) = self.workers[w].frames[at].tasks.pop_front() else {
            self.workers[w].frames.swap_remove(at);
            return;
        };
        let lane = self.lane(task.partition, task.record.offset);
        let retry = self.random.one_in(6);
        let died = self.random.one_in(40);
        let (now, seed) = (self.now, self.seed);
        let pause = Duration::from_millis(self.random.below(100) as u64);
        let worker = &mut self.workers[w];
        if lane.is_some_and(|lane| worker.frames[at].blocked.contains(&lane)) {
            worker.schedule.put_back(task);
            return;
        }
        if died {
            // The process dies: this one is a suspect, those behind it were never called.
            let frame = worker.frames.swap_remove(at);
            task.way.deaths += 1;
            worker.schedule.suspect(task);
            for task in frame.tasks {
                worker.schedule.put_back(task);
            }
            return;
        }
        if let Some(lane) = lane {
            let offset = task.record.offset;
            let before = worker.called.insert((task.epoch, lane), (offset, !retry));
            let in_turn = match before {
                Some((last, true)) => last < offset,
                Some((last, false)) => last == offset,
                None => true,
            };
            assert!(
                in_turn,
                "seed {seed}: {offset} of lane {lane} after {before:?}"
            );
        }
        task.way.calls += 1;
        if retry {
            worker.frames[at].blocked.extend(lane);
            worker.schedule.again(task, now + pause);
        } else {
            worker
                .schedule
                .settled(task.partition, task.epoch, task.lane);
            worker.delivering.push(task);
        }
    }

    /// Anything under way is delivered, also what is stale.
    fn deliver(&mut self, w: usize) {
        if self.workers[w].delivering.is_empty() {
            return;
        }
        let at = self.random.below(self.workers[w].delivering.len());
        let worker = &mut self.workers[w];
        let task = worker.delivering.swap_remove(at);
        let (p, offset) = (task.partition, task.record.offset);
        *self.delivered.entry((p, offset)).or_default() += 1;
        let moved = worker.schedule.complete(p, task.epoch, &[offset]);
        let held = worker.reading.contains_key(&p);
        assert!(
            held || !moved,
            "seed {}: what is stale moved a frontier",
            self.seed
        );
    }

    fn commit(&mut self, p: usize) {
        let Some(w) = self.owner[p] else { return };
        let schedule = &self.workers[w].schedule;
        if let Some((_, position)) = schedule.positions().find(|(n, _)| *n == p as i32) {
            let committed = self.committed[p].0;
            assert!(
                position >= committed,
                "seed {}: a commit went backwards",
                self.seed
            );
            let from = self.logs[p].partition_point(|o| *o < committed);
            let missing = self.logs[p][from..]
                .iter()
                .take_while(|o| **o < position)
                .find(|o| !self.delivered.contains_key(&(p as i32, **o)));
            assert_eq!(
                missing, None,
                "seed {}: committed past an undelivered offset",
                self.seed
            );
            self.committed[p] = (position, above::write(position, schedule.above(p as i32)));
        }
    }

    /// What is done twice if a partition goes now: what runs, and what is delivered and told by no commit.
    fn uncommitted(&self, p: usize, w: usize) -> u64 {
        let (position, metadata) = &self.committed[p];
        let told = above::read(*position, metadata);
        let delivered = self
            .delivered
            .range((p as i32, *position)..=(p as i32, i64::MAX));
        let untold = delivered.filter(|((_, offset), _)| !told.contains(offset));
        untold.count() as u64 + self.workers[w].schedule.running(p as i32) as u64
    }
}

impl Worker {
    fn new(order: Order) -> Self {
        Self {
            schedule: Schedule::new(order),
            reading: BTreeMap::new(),
            frames: Vec::new(),
            delivering: Vec::new(),
            called: BTreeMap::new(),
        }
    }
}

#[test]
fn nothing_is_lost_and_order_is_kept_whatever_happens() {
    if let Some(seed) = std::env::var("KAPPAFLOW_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
    {
        World::new(seed).run();
        return;
    }
    let twice: u64 = (0..12_000).map(|seed| World::new(seed).run()).sum();
    assert!(twice > 0, "the simulation has no crashes in it");
}

#[test]
fn dropped_work_is_given_back_and_blocks_the_frontier() {
    let mut schedule = Schedule::new(Order::None);
    schedule.assign(0, 1, BTreeSet::new());
    for offset in 0..3 {
        assert!(schedule.admit(Duration::ZERO, 0, record(offset, None)));
    }
    let batch = schedule.take(Duration::ZERO, 1, false);
    assert_eq!(schedule.stop_admitting(0).records, 2);
    assert!(schedule.complete(0, batch[0].epoch, &[0]));
    assert_eq!(schedule.positions().collect::<Vec<_>>(), [(0, 1)]);
    assert!(schedule.is_idle());
    assert!(!schedule.admit(Duration::ZERO, 0, record(3, None)));
    assert!(!schedule.admit(Duration::ZERO, 1, record(0, None)));
}

#[test]
fn a_slow_key_holds_back_only_itself() {
    let mut schedule = Schedule::new(Order::Key);
    schedule.assign(0, 1, BTreeSet::new());
    for offset in 0..40 {
        schedule.admit(Duration::ZERO, 0, record(offset, Some(offset as usize % 4)));
    }
    let slow = schedule.take(Duration::ZERO, 1, false).remove(0);
    let mut done = 0;
    loop {
        let taken = schedule.take(Duration::ZERO, 8, false);
        if taken.is_empty() {
            break;
        }
        assert!(taken.len() <= 3, "one of a key at a time");
        for task in taken {
            assert_ne!(task.lane, slow.lane);
            schedule.settled(0, task.epoch, task.lane);
            done += 1;
        }
    }
    assert_eq!(done, 30);
    schedule.settled(0, slow.epoch, slow.lane);
    let behind = schedule.take(Duration::ZERO, 8, true);
    let offsets: Vec<i64> = behind.iter().map(|t| t.record.offset).collect();
    assert_eq!(offsets, [4, 8, 12, 16, 20, 24, 28, 32]);
}
