//! One split's book-keeping: which rows are acknowledged, rejected or unknown, and where they are. Values only.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

/// First and last offset by partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents(BTreeMap<i32, (i64, i64)>);

impl Extents {
    /// Takes in offsets `first..=last` of a partition.
    pub fn add(&mut self, partition: i32, first: i64, last: i64) {
        self.0
            .entry(partition)
            .and_modify(|(low, high)| {
                *low = first.min(*low);
                *high = last.max(*high);
            })
            .or_insert((first, last));
    }

    pub fn merge(&mut self, other: &Self) {
        for (partition, (first, last)) in &other.0 {
            self.add(*partition, *first, *last);
        }
    }

    /// `(partition, first offset, last offset)`, by partition.
    pub fn ranges(&self) -> Vec<(i32, i64, i64)> {
        self.0.iter().map(|(p, (f, l))| (*p, *f, *l)).collect()
    }
}

/// What a read-back found of one split.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub seqs: RoaringBitmap,
    pub extents: Extents,
    /// Records of rows that had been seen before.
    pub doubled: u64,
}

impl Seen {
    pub fn add(&mut self, seq: u32, partition: i32, offset: i64) {
        if !self.seqs.insert(seq) {
            self.doubled += 1;
        }
        self.extents.add(partition, offset, offset);
    }
}

/// What is known of the rows of one split. Every row is acknowledged, rejected, or not yet; nothing else counts.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub acknowledged: RoaringBitmap,
    pub rejected: RoaringBitmap,
    /// Failed in a way that leaves open whether the broker has them.
    pub unknown: RoaringBitmap,
    pub extents: Extents,
    /// Rows a read-back found that no acknowledgement had told of.
    pub read_back: u64,
    /// Records beyond the first of their row that the last read-back met.
    pub doubled: u64,
    pub in_flight: u64,
    /// The first reason given for a failure.
    pub first_failure: Option<String>,
}

impl Tally {
    /// Whether a row has still to be sent.
    #[cfg(test)]
    pub fn wants(&self, seq: u32) -> bool {
        !self.acknowledged.contains(seq) && !self.rejected.contains(seq)
    }

    /// Rows that need not be sent (again).
    pub fn done(&self) -> RoaringBitmap {
        &self.acknowledged | &self.rejected
    }

    /// What a publisher before this one has noted: rows acknowledged before the offsets where read-back starts.
    pub fn known(acknowledged: RoaringBitmap, ranges: &[(i32, i64, i64)]) -> Self {
        let mut tally = Self {
            acknowledged,
            ..Self::default()
        };
        for (partition, first, last) in ranges {
            tally.extents.add(*partition, *first, *last);
        }
        tally
    }

    pub fn sent(&mut self, count: u64) {
        self.in_flight += count;
    }

    /// The broker has rows `first_seq..first_seq + count` from `first_offset` on.
    pub fn acknowledge(&mut self, first_seq: u32, count: u32, partition: i32, first_offset: i64) {
        let Some(last_seq) = count.checked_sub(1).and_then(|n| first_seq.checked_add(n)) else {
            return;
        };
        self.in_flight = self.in_flight.saturating_sub(u64::from(count));
        self.acknowledged.insert_range(first_seq..=last_seq);
        if !self.unknown.is_empty() {
            self.unknown.remove_range(first_seq..=last_seq);
        }
        let last_offset = first_offset.saturating_add(i64::from(count) - 1);
        self.extents.add(partition, first_offset, last_offset);
    }

    /// A row was not delivered, or nobody knows.
    pub fn fail(&mut self, seq: u32, possibly_persisted: bool, reason: &str) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if possibly_persisted && !self.acknowledged.contains(seq) {
            self.unknown.insert(seq);
        }
        if self.first_failure.is_none() {
            self.first_failure = Some(reason.to_owned());
        }
    }

    /// Learns from a read-back of everything since the noted offsets: what was unknown is there, or is not.
    pub fn settle(&mut self, seen: &Seen) {
        let before = self.acknowledged.len();
        self.acknowledged |= &seen.seqs;
        // A row that was rejected was never sent by a publisher with this schema; what the topic has counts.
        self.rejected -= &seen.seqs;
        self.read_back += self.acknowledged.len() - before;
        self.doubled = seen.doubled;
        self.extents.merge(&seen.extents);
        self.unknown.clear();
    }

    /// A transaction that was not committed is given up: back to what was known `before` it. Whether the topic has any of
    /// it is unknown, since an answer to a commit may be lost.
    pub fn take_back(&mut self, before: Self) {
        self.unknown |= &self.acknowledged - &before.acknowledged;
        self.unknown |= before.unknown;
        self.acknowledged = before.acknowledged;
        self.extents = before.extents;
    }

    /// Whether each of `rows` rows is acknowledged or rejected.
    pub fn complete(&self, rows: u32) -> bool {
        self.in_flight == 0
            && self.unknown.is_empty()
            && self.acknowledged.len() + self.rejected.len() == u64::from(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What happens to one record on the way.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Acknowledged,
        /// Refused: the broker does not have it.
        Refused,
        /// Timed out, though the broker has it.
        TimedOutThere,
        TimedOutLost,
    }

    fn fate() -> impl Strategy<Value = Fate> {
        prop_oneof![
            4 => Just(Fate::Acknowledged),
            1 => Just(Fate::Refused),
            1 => Just(Fate::TimedOutThere),
            1 => Just(Fate::TimedOutLost),
        ]
    }

    proptest! {
        /// Whatever happens to the records, settling and sending the rest ends with every row exactly accounted for,
        /// and no row that is known to be there is sent again.
        #[test]
        fn every_row_ends_accounted_for(
            rows in 1u32..200,
            rejected in proptest::collection::btree_set(0u32..200, 0..20),
            fates in proptest::collection::vec(proptest::collection::vec(fate(), 200), 1..4),
            backwards: bool,
        ) {
            let mut tally = Tally::default();
            let mut log: Vec<(u32, i32, i64)> = Vec::new();
            for seq in rejected.iter().filter(|s| **s < rows) {
                tally.rejected.insert(*seq);
            }
            let clean = vec![Fate::Acknowledged; 200];
            for round in fates.iter().chain([&clean]) {
                let mut wanted: Vec<u32> = (0..rows).filter(|s| tally.wants(*s)).collect();
                tally.sent(wanted.len() as u64);
                if backwards {
                    wanted.reverse();
                }
                for seq in wanted {
                    prop_assert!(!log.iter().any(|(s, _, _)| *s == seq), "row {} sent though it is there", seq);
                    let (partition, offset) = (i32::from(seq % 3 == 0), log.len() as i64);
                    match round[seq as usize] {
                        Fate::Acknowledged => {
                            log.push((seq, partition, offset));
                            tally.acknowledge(seq, 1, partition, offset);
                        }
                        Fate::Refused => tally.fail(seq, false, "refused"),
                        Fate::TimedOutThere => {
                            log.push((seq, partition, offset));
                            tally.fail(seq, true, "timed out");
                        }
                        Fate::TimedOutLost => tally.fail(seq, true, "timed out"),
                    }
                }
                prop_assert_eq!(tally.in_flight, 0);
                let mut seen = Seen::default();
                log.iter().for_each(|(seq, partition, offset)| seen.add(*seq, *partition, *offset));
                tally.settle(&seen);
                let there: RoaringBitmap = log.iter().map(|(seq, _, _)| *seq).collect();
                prop_assert_eq!(&tally.acknowledged, &there);
            }
            prop_assert!(tally.complete(rows));
            prop_assert_eq!(tally.doubled, 0);
            for (partition, first, last) in tally.extents.ranges() {
                let offsets: Vec<i64> =
                    log.iter().filter(|(_, p, _)| *p == partition).map(|(_, _, o)| *o).collect();
                prop_assert_eq!(offsets.iter().min(), Some(&first));
                prop_assert_eq!(offsets.iter().max(), Some(&last));
            }
        }

        #[test]
        fn runs_count_like_single_rows(first in 0u32..1_000, count in 1u32..500, offset in 0i64..1_000) {
            let (mut run, mut single) = (Tally::default(), Tally::default());
            run.sent(u64::from(count));
            single.sent(u64::from(count));
            run.acknowledge(first, count, 1, offset);
            for i in 0..count {
                single.acknowledge(first + i, 1, 1, offset + i64::from(i));
            }
            prop_assert_eq!(run.acknowledged, single.acknowledged);
            prop_assert_eq!(run.extents, single.extents);
            prop_assert_eq!(run.in_flight, single.in_flight);
        }
    }

    #[test]
    fn doubled_records_are_counted_once_each() {
        let mut seen = Seen::default();
        for offset in 0..3 {
            seen.add(7, 0, offset);
        }
        let mut tally = Tally::default();
        tally.settle(&seen);
        assert_eq!((tally.doubled, tally.read_back), (2, 1));
        assert_eq!(tally.extents.ranges(), [(0, 0, 2)]);
    }
}
