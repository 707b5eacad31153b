//! One fate a row: set algebra over what the stages have seen. Pure.
//!
//! By precedence landed > filtered > dead-lettered > rejected > missing. Evidence that overlaps is counted, and is no
//! failure: a dead letter whose row landed after all is *mended*; a row that was done more than once is *done twice*.

use roaring::RoaringBitmap;

/// What is known of the rows of one split.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Rows of the split: seqs `0..rows` are expected.
    pub rows: u32,
    /// The broker has acknowledged them.
    pub acknowledged: RoaringBitmap,
    /// The schema's gate refused them.
    pub rejected: RoaringBitmap,
    /// A complete family is in the table.
    pub landed: RoaringBitmap,
    /// A verdict says that the service has no answer.
    pub filtered: RoaringBitmap,
    /// They are in the dead-letter topic.
    pub dead_lettered: RoaringBitmap,
    /// One stage has seen them more than once: answers, verdicts or dead letters of several attempts.
    pub again: RoaringBitmap,
    /// The ingress log has dropped records that no worker had passed, and these may have been among them.
    pub may_have_expired: RoaringBitmap,
}

/// The fates of the rows of one split. The first seven are disjoint, and together they are the expected rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fates {
    pub landed: RoaringBitmap,
    pub filtered: RoaringBitmap,
    pub dead_lettered: RoaringBitmap,
    pub rejected: RoaringBitmap,
    /// Missing: the broker never acknowledged them.
    pub never_sent: RoaringBitmap,
    /// Missing: acknowledged, and dropped from the log by its retention before a worker passed them.
    pub expired: RoaringBitmap,
    /// Missing: acknowledged, and without a trace.
    pub lost: RoaringBitmap,
    /// Landed or filtered, and in the dead-letter topic too.
    pub mended: RoaringBitmap,
    /// Worked on more than once.
    pub done_twice: RoaringBitmap,
    /// Seen somewhere, though the split has no such row.
    pub unexpected: RoaringBitmap,
}

/// Decides the fate of every row of a split.
pub fn fates(seen: &Evidence) -> Fates {
    let mut expected = RoaringBitmap::new();
    expected.insert_range(0..seen.rows);
    let evidence = [
        &seen.acknowledged,
        &seen.rejected,
        &seen.landed,
        &seen.filtered,
        &seen.dead_lettered,
    ];
    let mut unexpected = RoaringBitmap::new();
    for set in evidence {
        unexpected |= set;
    }
    unexpected -= &expected;

    let mut left = expected.clone();
    let mut take = |set: &RoaringBitmap| {
        let taken = &left & set;
        left -= set;
        taken
    };
    let landed = take(&seen.landed);
    let filtered = take(&seen.filtered);
    let dead_lettered = take(&seen.dead_lettered);
    let rejected = take(&seen.rejected);
    let never_sent = &left - &seen.acknowledged;
    let sent = &left & &seen.acknowledged;
    let expired = &sent & &seen.may_have_expired;
    let lost = &sent - &seen.may_have_expired;
    Fates {
        mended: (&landed | &filtered) & &seen.dead_lettered,
        done_twice: (&seen.again | &(&seen.landed & &seen.filtered)) & &expected,
        landed,
        filtered,
        dead_lettered,
        rejected,
        never_sent,
        expired,
        lost,
        unexpected,
    }
}

impl Fates {
    pub fn missing(&self) -> u64 {
        self.never_sent.len() + self.expired.len() + self.lost.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// The obvious way: a map from row to fate, one row at a time.
    fn reference(seen: &Evidence) -> HashMap<u32, &'static str> {
        (0..seen.rows)
            .map(|row| {
                let fate = if seen.landed.contains(row) {
                    "landed"
                } else if seen.filtered.contains(row) {
                    "filtered"
                } else if seen.dead_lettered.contains(row) {
                    "dead_lettered"
                } else if seen.rejected.contains(row) {
                    "rejected"
                } else if !seen.acknowledged.contains(row) {
                    "never_sent"
                } else if seen.may_have_expired.contains(row) {
                    "expired"
                } else {
                    "lost"
                };
                (row, fate)
            })
            .collect()
    }

    fn set() -> impl Strategy<Value = RoaringBitmap> {
        (
            prop::collection::vec(0u32..40, 0..30),
            prop::option::of(0u32..40),
        )
            .prop_map(|(some, from)| {
                let mut set: RoaringBitmap = some.into_iter().collect();
                if let Some(from) = from {
                    set.insert_range(from..36);
                }
                set
            })
    }

    proptest! {
        #[test]
        fn every_row_has_the_fate_that_the_obvious_way_gives(
            rows in 0u32..38,
            (acknowledged, rejected, landed, filtered) in (set(), set(), set(), set()),
            (dead_lettered, again, may_have_expired) in (set(), set(), set()),
        ) {
            let seen = Evidence { rows, acknowledged, rejected, landed, filtered, dead_lettered, again, may_have_expired };
            let fates = fates(&seen);
            let by_fate = [
                ("landed", &fates.landed),
                ("filtered", &fates.filtered),
                ("dead_lettered", &fates.dead_lettered),
                ("rejected", &fates.rejected),
                ("never_sent", &fates.never_sent),
                ("expired", &fates.expired),
                ("lost", &fates.lost),
            ];
            let wanted = reference(&seen);
            let mut got = HashMap::new();
            for (fate, rows) in by_fate {
                for row in rows {
                    prop_assert!(got.insert(row, fate).is_none(), "row {} has two fates", row);
                }
            }
            prop_assert_eq!(&got, &wanted);
            let missing = wanted.values().filter(|f| ["never_sent", "expired", "lost"].contains(f)).count();
            prop_assert_eq!(fates.missing(), missing as u64);
            for row in 0..50u32 {
                let inside = row < rows;
                let any = [&seen.acknowledged, &seen.rejected, &seen.landed, &seen.filtered, &seen.dead_lettered]
                    .iter()
                    .any(|s| s.contains(row));
                prop_assert_eq!(fates.unexpected.contains(row), any && !inside);
                let good = seen.landed.contains(row) || seen.filtered.contains(row);
                prop_assert_eq!(fates.mended.contains(row), inside && good && seen.dead_lettered.contains(row));
                let twice = seen.again.contains(row) || (seen.landed.contains(row) && seen.filtered.contains(row));
                prop_assert_eq!(fates.done_twice.contains(row), inside && twice);
            }
        }
    }
}
