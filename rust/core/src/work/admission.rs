//! Admission: how many records, and how many bytes of them, are under way at once. Pure.
//!
//! Credit is taken when a record is read and given back when all of it is delivered. Out of credit, the worker stops
//! reading; the client's own bounded prefetch fills and stops too. Only when no credit comes back for [`PATIENCE`] do
//! the partitions pause, so that the client can be polled for the group's life without handing over records: pausing
//! discards what was prefetched and resuming takes the client up to a second. They resume at half.

use std::time::Duration;

/// How long a worker out of credit may leave the client unpolled.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
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
            max_records: max_records.max(1),
            max_bytes: max_bytes.max(1),
            records: 0,
            bytes: 0,
            paused: false,
            full_since: None,
        }
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
