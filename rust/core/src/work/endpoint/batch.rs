//! Which records share a request. Pure.
//!
//! Of a request that failed as a whole nobody knows which record is to blame. So its records go again with at most half
//! as many together, until one that fails is alone: then it is to blame, and its neighbours never are.

use std::ops::Range;
use std::time::Duration;

/// What one request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Records at most.
    pub records: u32,
    /// Bytes of records at most; what is larger goes alone.
    pub bytes: usize,
    /// How long a record that could go waits for others.
    pub linger: Duration,
}

/// What counts of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Records that it may share a request with, itself among them, since larger requests with it have failed.
    pub most: Option<u32>,
    pub bytes: usize,
}

/// Cuts records into requests. Without a batch each is one.
pub fn cut(records: &[Share], batch: Option<Batching>) -> Vec<Range<usize>> {
    let (most, bytes) = batch.map_or((1, 0), |b| (b.records, b.bytes));
    let mut cuts = Vec::new();
    let mut begun = 0;
    let (mut room, mut left) = (0, 0);
    for (row, record) in records.iter().enumerate() {
        let own = record.most.map_or(most, |own| own.min(most)).max(1) as usize;
        room = own.min(room);
        if row > begun && (row - begun >= room || record.bytes > left) {
            cuts.push(begun..row);
            begun = row;
        }
        if row == begun {
            (room, left) = (own, bytes);
        }
        left = left.saturating_sub(record.bytes);
    }
    if begun < records.len() {
        cuts.push(begun..records.len());
    }
    cuts
}

/// With how many its records go again, where a request with so many failed. `None`: the one record is to blame.
pub fn halved(records: usize) -> Option<u32> {
    match records {
        0 | 1 => None,
        more => Some(u32::try_from(more / 2).unwrap_or(u32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    use proptest::prelude::*;

    use super::*;

    fn batch(records: u32, kib: usize) -> Batching {
        Batching {
            records,
            bytes: kib << 10,
            linger: Duration::ZERO,
        }
    }

    fn share(most: Option<u32>, bytes: usize) -> Share {
        Share { most, bytes }
    }

    #[test]
    fn requests_are_cut_by_number_by_size_and_by_what_failed_before() {
        let small = [share(None, 10); 5];
        assert_eq!(cut(&small, None), [0..1, 1..2, 2..3, 3..4, 4..5]);
        assert_eq!(cut(&small, Some(batch(2, 1))), [0..2, 2..4, 4..5]);
        let large = [
            share(None, 600),
            share(None, 400),
            share(None, 100),
            share(None, 9_000),
        ];
        assert_eq!(cut(&large, Some(batch(10, 1))), [0..2, 2..3, 3..4]);
        let known = [
            share(None, 1),
            share(Some(2), 1),
            share(Some(1), 1),
            share(None, 1),
        ];
        assert_eq!(cut(&known, Some(batch(10, 1))), [0..2, 2..3, 3..4]);
    }

    proptest! {
        #[test]
        fn every_record_goes_once_in_order_and_within_the_bounds(
            records in prop::collection::vec((prop::option::of(1u32..20), 0usize..3_000), 0..200),
            most in 1u32..50,
        ) {
            let records: Vec<Share> = records.into_iter().map(|(most, bytes)| share(most, bytes)).collect();
            let cuts = cut(&records, Some(batch(most, 4)));
            let rows: Vec<usize> = cuts.iter().cloned().flatten().collect();
            prop_assert_eq!(rows, (0..records.len()).collect::<Vec<_>>());
            for cut in cuts {
                let together = &records[cut];
                prop_assert!(!together.is_empty() && together.len() <= most as usize);
                let bytes: usize = together.iter().map(|r| r.bytes).sum();
                prop_assert!(together.len() == 1 || bytes <= 4 << 10);
                prop_assert!(together.iter().all(|r| r.most.is_none_or(|m| together.len() <= m as usize)));
            }
        }

        /// A service refuses every request that has a record of these in it.
        #[test]
        fn only_those_to_blame_are_blamed_and_soon(
            records in 1usize..120,
            most in 1u32..64,
            poison in prop::collection::btree_set(0usize..120, 0..5),
        ) {
            let batch = batch(most, 1024);
            let poison: BTreeSet<usize> = poison.into_iter().filter(|row| *row < records).collect();
            let mut ready: VecDeque<(usize, Option<u32>)> = (0..records).map(|row| (row, None)).collect();
            let mut verdicts: BTreeMap<usize, bool> = BTreeMap::new();
            let mut calls: BTreeMap<usize, u32> = BTreeMap::new();
            while !ready.is_empty() {
                let taken: Vec<_> = ready.drain(..ready.len().min(most as usize)).collect();
                let shares: Vec<Share> = taken.iter().map(|(_, most)| share(*most, 1)).collect();
                for cut in cut(&shares, Some(batch)) {
                    let together = &taken[cut];
                    let fails = together.iter().any(|(row, _)| poison.contains(row));
                    for (row, _) in together {
                        *calls.entry(*row).or_default() += 1;
                        match halved(together.len()).filter(|_| fails) {
                            Some(half) => ready.push_back((*row, Some(half))),
                            None => prop_assert!(verdicts.insert(*row, !fails).is_none()),
                        }
                    }
                }
            }
            prop_assert_eq!(verdicts.len(), records);
            for (row, answered) in verdicts {
                prop_assert_eq!(answered, !poison.contains(&row));
                prop_assert!(calls[&row] <= most.ilog2() + 1);
            }
        }
    }
}
