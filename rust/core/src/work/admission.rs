//! Admission: how many records, and how many bytes of them, are under way at once. Pure.
//!
//! Credit is taken when a record is read and given back when all of it is delivered. Out of credit, the partitions
//! pause; they resume at half, because pausing discards what the client has prefetched.

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    max_records: u64,
    max_bytes: u64,
    records: u64,
    bytes: u64,
    paused: bool,
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

    /// Whether the partitions must pause or may resume now; `None` if they stay as they are.
    pub fn change(&mut self) -> Option<Change> {
        let full = self.records >= self.max_records || self.bytes >= self.max_bytes;
        let low = self.records <= self.max_records / 2 && self.bytes <= self.max_bytes / 2;
        match (self.paused, full, low) {
            (false, true, _) => {
                self.paused = true;
                Some(Change::Pause)
            }
            (true, _, true) => {
                self.paused = false;
                Some(Change::Resume)
            }
            _ => None,
        }
    }

    /// Whether reading must stop before anything else is done.
    pub fn change_is_due(&self) -> bool {
        !self.paused && (self.records >= self.max_records || self.bytes >= self.max_bytes)
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
            for (size, pick) in sizes {
                if admission.is_paused() {
                    let bytes = held.remove(pick.index(held.len()));
                    admission.release(1, bytes);
                } else {
                    admission.admit(size);
                    held.push(size);
                }
                let changed = admission.change();
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
    fn pauses_when_full_and_resumes_at_half() {
        let mut admission = Admission::new(4, 1_000);
        for _ in 0..3 {
            admission.admit(1);
            assert_eq!(admission.change(), None);
        }
        admission.admit(1);
        assert_eq!(admission.change(), Some(Change::Pause));
        admission.release(1, 1);
        assert_eq!(admission.change(), None);
        admission.release(1, 1);
        assert_eq!(admission.change(), Some(Change::Resume));
    }
}
