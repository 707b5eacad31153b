//! Admission: how many records, and how many bytes of them, are under way at once. Pure.
//!
//! Credit is taken when a record is read and given back when all of it is delivered. Out of credit, the worker stops
//! reading; the client's own bounded prefetch fills and stops too. Only when no credit comes back for [`PATIENCE`] do
//! the partitions pause, so that the client can be polled for the group's life without handing over records: pausing
//! discards what was prefetched and resuming takes the client up to a second. They resume at half.

use std::time::Duration;

/// How long a worker out of credit may leave the client unpolled.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// The share of what could be done in the time of a drain that a worker may hold.
pub const SHARE: f64 = 0.8;

/// How many records a worker may hold, so that all it holds is done within `drain` if it has to leave:
/// `share · concurrency · drain / p99`, never less than it may work on at once.
///
/// The paper's rule, to fetch no more than p99 allows within `session.timeout.ms`, is this one with the session's
/// time-out as `drain` and a share of 1.
pub fn bound(share: f64, concurrency: u32, drain: Duration, p99: Duration) -> u64 {
    let records =
        share * f64::from(concurrency) * drain.as_secs_f64() / p99.as_secs_f64().max(1e-9);
    // Beyond u64 it is u64::MAX.
    (records as u64).max(u64::from(concurrency))
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// What the job file allows.
    most_records: u64,
    /// What is allowed now.
    max_records: u64,
    max_bytes: u64,
    records: u64,
    bytes: u64,
    paused: bool,
    /// Since when there is no credit, on the caller's clock.
    full_since: Option<Duration>,
}

/// What to do with the partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Pause,
    Resume,
}

impl Admission {
    /// Limits of zero count as one: a worker that admits nothing never ends.
    pub fn new(max_records: u64, max_bytes: u64) -> Self {
        Self {
            most_records: max_records.max(1),
            max_records: max_records.max(1),
            max_bytes: max_bytes.max(1),
            records: 0,
            bytes: 0,
            paused: false,
            full_since: None,
        }
    }

    /// Holds no more records than [`bound`] says from now on, nor more than the job file does.
    pub fn hold(&mut self, records: u64) {
        self.max_records = records.clamp(1, self.most_records);
    }

    /// Records and bytes for which there is credit; while the partitions are paused, any number of what may still come.
    pub fn credit(&self) -> (u64, u64) {
        if self.paused {
            return (u64::MAX, u64::MAX);
        }
        let records = self.max_records.saturating_sub(self.records);
        (records, self.max_bytes.saturating_sub(self.bytes))
    }

    /// Takes credit for one record. The record that crosses a limit is still admitted: it has been read.
    pub fn admit(&mut self, bytes: u64) {
        self.records += 1;
        self.bytes += bytes;
    }

    /// Gives credit back.
    pub fn release(&mut self, records: u64, bytes: u64) {
        self.records = self.records.saturating_sub(records);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether the partitions must pause or may resume now; `None` if they stay as they are. `now` is the time since
    /// any fixed moment.
    pub fn change(&mut self, now: Duration) -> Option<Change> {
        if !self.is_full() {
            self.full_since = None;
        }
        let low = self.records <= self.max_records / 2 && self.bytes <= self.max_bytes / 2;
        if self.paused {
            self.paused = !low;
            return low.then_some(Change::Resume);
        }
        if self.is_full() {
            let since = *self.full_since.get_or_insert(now);
            self.paused = now.saturating_sub(since) >= PATIENCE;
        }
        self.paused.then_some(Change::Pause)
    }

    /// Whether there is no credit: nothing more may be read.
    pub fn is_full(&self) -> bool {
        self.records >= self.max_records || self.bytes >= self.max_bytes
    }

    /// Whether the client must be left alone: out of credit, and its partitions not paused.
    pub fn must_wait(&self) -> bool {
        self.is_full() && !self.paused
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_more_than_the_limit_and_never_stuck(
            max_records in 1u64..50,
            max_bytes in 1u64..5_000,
            sizes in prop::collection::vec((1u64..600, any::<prop::sample::Index>()), 1..300),
        ) {
            let mut admission = Admission::new(max_records, max_bytes);
            let mut held: Vec<u64> = Vec::new();
            let mut now = Duration::ZERO;
            for (size, pick) in sizes {
                if admission.is_paused() || admission.is_full() {
                    let bytes = held.remove(pick.index(held.len()));
                    admission.release(1, bytes);
                } else {
                    admission.admit(size);
                    held.push(size);
                }
                now += PATIENCE / 3;
                let changed = admission.change(now);
                prop_assert!(held.len() as u64 <= max_records);
                prop_assert!(held.iter().sum::<u64>() < max_bytes + 600);
                if held.is_empty() {
                    prop_assert!(!admission.is_paused());
                }
                if changed == Some(Change::Resume) {
                    prop_assert!(held.len() as u64 <= max_records / 2);
                }
            }
        }
    }

    #[test]
    fn what_is_held_is_done_within_a_drain() {
        let ms = Duration::from_millis;
        // 8 at once, each 100 ms: 3 s are enough for 240; four fifths of them.
        assert_eq!(bound(SHARE, 8, ms(3_000), ms(100)), 192);
        assert_eq!(bound(SHARE, 8, ms(3_000), Duration::from_secs(60)), 8);
        assert_eq!(bound(SHARE, 8, ms(3_000), Duration::ZERO), 19_200_000_000);
        let mut admission = Admission::new(5_000, 1 << 20);
        admission.hold(192);
        assert_eq!(admission.credit().0, 192);
        admission.hold(19_200_000_000);
        assert_eq!(admission.credit().0, 5_000);
    }

    #[test]
    fn the_papers_rule_is_a_special_case() {
        // One at a time with a p99 of 200 ms and a session of 10 s: no more than 50 may be fetched.
        let (session, p99) = (Duration::from_secs(10), Duration::from_millis(200));
        assert_eq!(bound(1.0, 1, session, p99), 50);
    }

    #[test]
    fn pauses_when_nothing_moves_and_resumes_at_half() {
        let mut admission = Admission::new(4, 1_000);
        let ms = Duration::from_millis;
        for _ in 0..4 {
            assert!(!admission.is_full());
            admission.admit(1);
        }
        assert!(admission.is_full());
        assert_eq!(admission.change(ms(10)), None);
        assert_eq!(admission.change(ms(400)), None);
        // Credit that comes back in time starts the patience anew.
        admission.release(1, 1);
        assert_eq!(admission.change(ms(450)), None);
        admission.admit(1);
        assert_eq!(admission.change(ms(500)), None);
        assert_eq!(admission.change(ms(999)), None);
        assert_eq!(admission.change(ms(1_000)), Some(Change::Pause));
        assert_eq!(admission.change(ms(1_001)), None);
        admission.release(1, 1);
        assert_eq!(admission.change(ms(1_002)), None);
        admission.release(1, 1);
        assert_eq!(admission.change(ms(1_003)), Some(Change::Resume));
    }
}
