//! What the table itself says is landed: complete families, by its identity columns. Pure but for reading them.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;
use serde::Serialize;

use crate::table::Row;

/// Doubled rows that are kept as examples.
const EXAMPLES: usize = 20;

/// A row of the table that is there though its input has its answers already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DoubledRow {
    pub split: u32,
    pub seq: u32,
    pub child: u32,
    pub attempt: u32,
}

/// Gathers identities; a family's rows may come in any order.
#[derive(Debug, Default)]
pub struct Landed {
    /// Inputs with a complete family, by split.
    pub inputs: BTreeMap<u32, RoaringBitmap>,
    /// All rows seen.
    pub rows: u64,
    /// Rows beyond their input's one family, by split.
    pub doubled: BTreeMap<u32, u64>,
    pub doubled_examples: Vec<DoubledRow>,
    open: HashMap<(u32, u32), Open>,
}

#[derive(Debug)]
struct Open {
    attempt: u32,
    of: u32,
    children: RoaringBitmap,
}

impl Landed {
    pub fn push(&mut self, row: Row) {
        self.rows += 1;
        let inputs = self.inputs.entry(row.split).or_default();
        if inputs.contains(row.seq) {
            return self.double(row);
        }
        if row.of == 1 {
            // An open family of another attempt would be a mixed one.
            if let Some(mixed) = self.open.remove(&(row.split, row.seq)) {
                inputs.insert(row.seq);
                for child in mixed.children {
                    let attempt = mixed.attempt;
                    self.double(Row {
                        child,
                        attempt,
                        ..row
                    });
                }
            } else {
                inputs.insert(row.seq);
            }
            return;
        }
        let family = self
            .open
            .entry((row.split, row.seq))
            .or_insert_with(|| Open {
                attempt: row.attempt,
                of: row.of,
                children: RoaringBitmap::new(),
            });
        let fits = (family.attempt, family.of) == (row.attempt, row.of);
        if !fits || !family.children.insert(row.child) {
            return self.double(row);
        }
        if family.children.len() == u64::from(row.of) {
            inputs.insert(row.seq);
            self.open.remove(&(row.split, row.seq));
        }
    }

    fn double(&mut self, row: Row) {
        *self.doubled.entry(row.split).or_default() += 1;
        if self.doubled_examples.len() < EXAMPLES {
            self.doubled_examples.push(DoubledRow {
                split: row.split,
                seq: row.seq,
                child: row.child,
                attempt: row.attempt,
            });
        }
    }

    /// Inputs of which the table holds some answers and not all. A lander never makes such.
    pub fn torn(&self) -> u64 {
        self.open.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(seq: u32, attempt: u32, child: u32, of: u32) -> Row {
        Row {
            split: 3,
            seq,
            child,
            of,
            attempt,
        }
    }

    proptest! {
        #[test]
        fn whole_families_in_any_order_are_landed_and_copies_are_doubled(
            families in prop::collection::btree_map(0u32..50, (0u32..3, 1u32..4), 0..20),
            copies in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            shuffle in any::<u64>(),
        ) {
            let whole: Vec<Row> = families.iter()
                .flat_map(|(seq, (attempt, of))| (0..*of).map(|child| row(*seq, *attempt, child, *of)))
                .collect();
            let mut rows = whole.clone();
            if !whole.is_empty() {
                rows.extend(copies.iter().map(|i| *i.get(&whole)));
            }
            let mut order: Vec<usize> = (0..rows.len()).collect();
            order.sort_by_key(|i| (*i as u64 + 1).wrapping_mul(shuffle | 1));
            let mut landed = Landed::default();
            for i in order {
                landed.push(rows[i]);
            }
            let inputs: RoaringBitmap = families.keys().copied().collect();
            prop_assert_eq!(landed.inputs.get(&3).cloned().unwrap_or_default(), inputs);
            prop_assert_eq!(landed.doubled.get(&3).copied().unwrap_or(0), (rows.len() - whole.len()) as u64);
            prop_assert_eq!(landed.torn(), 0);
        }
    }

    #[test]
    fn a_family_that_lacks_an_answer_is_torn_and_not_landed() {
        let mut landed = Landed::default();
        landed.push(row(1, 0, 0, 2));
        assert_eq!((landed.torn(), landed.inputs[&3].len()), (1, 0));
        // A mixed family: the answer of another attempt doubles.
        landed.push(row(1, 7, 1, 2));
        assert_eq!(landed.doubled[&3], 1);
        landed.push(row(1, 0, 1, 2));
        assert_eq!((landed.torn(), landed.inputs[&3].len()), (0, 1));
    }
}
