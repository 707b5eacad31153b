//! Verdicts that leave another number of egress records than one, as ranges of neighbours.

use std::collections::BTreeMap;

use super::task::Record;
use crate::verdict::VerdictRange;

/// Verdicts of one batch that leave another number of egress records than one.
#[derive(Default)]
pub struct Ranges(BTreeMap<(u32, u32), (usize, String)>);

impl Ranges {
    pub fn add(&mut self, record: &Record, of: usize, reason: &str) {
        let id = record.identity;
        self.0.insert((id.split, id.seq), (of, reason.to_owned()));
    }

    /// Split and seq of the first record.
    pub fn first(&self) -> Option<(u32, u32)> {
        self.0.first_key_value().map(|(place, _)| *place)
    }

    pub fn merged(&self) -> Vec<VerdictRange> {
        let mut ranges: Vec<VerdictRange> = Vec::new();
        for ((split, seq), (of, reason)) in &self.0 {
            let (split, seq) = (i64::from(*split), i64::from(*seq));
            let of = i64::try_from(*of).unwrap_or(i64::MAX);
            match ranges.last_mut() {
                Some(last)
                    if (last.split, last.last + 1, last.of, &last.reason)
                        == (split, seq, of, reason) =>
                {
                    last.last = seq;
                }
                _ => ranges.push(VerdictRange {
                    split,
                    first: seq,
                    last: seq,
                    of,
                    reason: reason.clone(),
                }),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Identity, JobId};
    use crate::work::testing;

    #[test]
    fn neighbours_with_one_verdict_share_a_range() {
        let mut ranges = Ranges::default();
        for (split, seq, of, reason) in [
            (0, 5, 0, "Cancelled"),
            (0, 4, 0, "Cancelled"),
            (0, 6, 0, "Other"),
            (0, 8, 3, ""),
            (1, 9, 3, ""),
        ] {
            let identity = Identity {
                job: JobId(1),
                split,
                seq,
            };
            let record = Record {
                identity,
                ..testing::record(0, None)
            };
            ranges.add(&record, of, reason);
        }
        let merged: Vec<_> = ranges
            .merged()
            .into_iter()
            .map(|r| (r.split, r.first, r.last, r.of))
            .collect();
        assert_eq!(
            merged,
            [(0, 4, 5, 0), (0, 6, 6, 0), (0, 8, 8, 3), (1, 9, 9, 3)]
        );
    }
}
