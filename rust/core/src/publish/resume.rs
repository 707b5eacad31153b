//! What a publisher that died has left: its transactions are ended, its rows looked for, its books taken on.

use std::collections::BTreeMap;

use super::books::Books;
use super::keeper::SplitRejects;
use super::keeping::Slot;
use super::letters::Letters;
use super::readback;
use super::region::RegionRun;
use super::split::{Seen, Tally};
use crate::error::Result;
use crate::kafka::KafkaTransport;
use crate::kafka::transport::Origin;
use crate::snapshot::Split;
use crate::store::{Child, SplitRow, SplitState};

/// The splits of a child that are not closed: what they are, and what is known of them.
pub struct Book {
    pub splits: Vec<Split>,
    pub slots: Vec<Slot>,
    /// By slot.
    pub rejects: BTreeMap<u32, SplitRejects>,
}

/// The name of a child's transactions.
pub fn transactional_id(prefix: &str, child: &str) -> String {
    format!("{prefix}.{child}")
}

/// What it begins with where splits of a child are published at once, each in transactions of its own.
pub fn split_prefix(prefix: &str, split: u32) -> String {
    format!("{prefix}.{split}")
}

impl RegionRun {
    /// Ends what a publisher before this one may still have open, before it is looked for: its last commit goes through or
    /// is given up now, and it will never send again. Blocking.
    ///
    /// # Errors
    /// Those of [`KafkaTransport::new`].
    pub fn fence(&self, children: &[(Child, Vec<SplitRow>)]) -> Result<()> {
        let Some(prefix) = &self.transactional else {
            return Ok(());
        };
        let mut ids = Vec::new();
        for (child, splits) in children {
            if splits.iter().any(|s| s.state == SplitState::Open) {
                ids.push(transactional_id(prefix, &child.name));
            }
            let mine = |split: &&u32| splits.iter().any(|s| s.split.split == **split);
            for split in self.taken_over.iter().filter(mine) {
                ids.push(transactional_id(&split_prefix(prefix, *split), &child.name));
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        let mut produce = self.produce(&self.topic.name, &self.options(&self.topic.name));
        for id in ids {
            produce.transactional_id = Some(id);
            KafkaTransport::new(&self.cluster, &produce, &self.ctx)?;
        }
        Ok(())
    }

    /// What the topic has of the splits that a publisher before this one left open, read once for all of them.
    ///
    /// # Errors
    /// As [`readback::read_back`].
    pub(super) fn resume(
        &self,
        children: &[(Child, Vec<SplitRow>)],
        letters: &mut Letters,
    ) -> Result<BTreeMap<u32, Seen>> {
        let open: BTreeMap<u32, Vec<(i32, i64)>> = children
            .iter()
            .flat_map(|(_, splits)| splits)
            .filter(|s| s.state == SplitState::Open)
            .map(|s| (s.split.split, s.noted.clone()))
            .collect();
        if open.is_empty() {
            return Ok(BTreeMap::new());
        }
        readback::check_topic(&self.cluster, &self.dead_letter)?;
        let splits: Vec<u32> = open.keys().copied().collect();
        letters.read_back(&self.dead_letter, self.job, &splits)?;
        readback::read_back(&self.cluster, &self.topic, self.job, &open, &self.ctx)
    }

    /// The books of a child's splits that are not closed, with what is known of them and what was seen in the topic.
    pub(super) fn book(
        &self,
        splits: &[SplitRow],
        seen: &BTreeMap<u32, Seen>,
        books: &dyn Books,
    ) -> Result<Book> {
        let known = match splits.iter().any(|s| s.state == SplitState::Open) {
            true => books.known()?,
            false => BTreeMap::new(),
        };
        let mut book = Book {
            splits: Vec::new(),
            slots: Vec::new(),
            rejects: BTreeMap::new(),
        };
        for row in splits.iter().filter(|s| s.state != SplitState::Closed) {
            let slot =
                u32::try_from(book.slots.len()).map_err(|e| self.cluster.error("splits", e))?;
            let mut slot = Slot::new(Origin {
                job: self.job,
                split: row.split.split,
                slot,
            });
            if row.state == SplitState::Open {
                slot.noted = Some(row.noted.clone());
                if let Some(known) = known.get(&row.split.split) {
                    slot.tally = Tally::known(known.clone(), &row.ranges);
                    slot.noted_rows = known.len();
                }
            }
            if let Some(seen) = seen.get(&row.split.split) {
                slot.tally.settle(seen);
            }
            book.splits.push(row.split.clone());
            book.slots.push(slot);
        }
        Ok(book)
    }
}
