//! The workers of a process, for who watches it: the one that it is, or those of a fleet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Metrics, Phase};
use crate::work::queue::lock;

/// See the module.
#[derive(Debug, Default)]
pub struct Board {
    workers: Mutex<Vec<Arc<Metrics>>>,
    /// A fleet is ready without a job, too, until it ends.
    is_fleet: bool,
    ends: AtomicBool,
}

impl Board {
    /// That of a worker by itself.
    pub fn of(metrics: &Arc<Metrics>) -> Arc<Self> {
        let board = Self::default();
        board.add(metrics);
        Arc::new(board)
    }

    /// That of a fleet.
    pub fn of_fleet() -> Arc<Self> {
        Arc::new(Self {
            is_fleet: true,
            ..Self::default()
        })
    }

    pub fn add(&self, metrics: &Arc<Metrics>) {
        lock(&self.workers).push(Arc::clone(metrics));
    }

    pub fn remove(&self, metrics: &Arc<Metrics>) {
        lock(&self.workers).retain(|known| !Arc::ptr_eq(known, metrics));
    }

    /// The fleet takes no more, and ends.
    pub fn end(&self) {
        self.ends.store(true, Ordering::Release);
    }

    pub fn workers(&self) -> Vec<Arc<Metrics>> {
        lock(&self.workers).clone()
    }

    /// Where the process is in its life.
    pub fn phase(&self) -> Phase {
        match self.is_fleet {
            true if self.ends.load(Ordering::Acquire) => Phase::Draining,
            true => Phase::Ready,
            false => lock(&self.workers)
                .first()
                .map_or(Phase::Starting, |m| m.phase()),
        }
    }

    /// For how long the consumer that is stuck for the longest has not come round. `None`: none is stuck.
    pub fn stuck_for(&self) -> Option<Duration> {
        let workers = self.workers();
        let stuck = workers.iter().filter(|m| !m.is_alive());
        stuck.map(|m| m.silent_for()).max()
    }

    /// How many processes there should be for all jobs together. `None`: nobody has said yet.
    pub fn desired_replicas(&self) -> Option<u64> {
        let workers = self.workers();
        let known = workers.iter().filter_map(|m| m.desired_replicas());
        known.reduce(|a, b| a + b)
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn a_fleet_is_ready_without_jobs_and_wants_what_they_want_together() {
        let board = Board::of_fleet();
        assert_eq!(
            (board.phase(), board.desired_replicas()),
            (Phase::Ready, None)
        );
        let jobs = [Arc::new(example()), Arc::new(example())];
        jobs.iter().for_each(|job| board.add(job));
        jobs[0].set_desired_replicas(2);
        assert_eq!(board.desired_replicas(), Some(2));
        jobs[1].set_desired_replicas(3);
        assert_eq!(board.desired_replicas(), Some(5));
        board.remove(&jobs[0]);
        assert_eq!(board.desired_replicas(), Some(3));
        assert_eq!(board.stuck_for(), None);
        board.end();
        assert_eq!(board.phase(), Phase::Draining);
        assert_eq!(Board::of(&jobs[0]).phase(), Phase::Starting);
    }
}
