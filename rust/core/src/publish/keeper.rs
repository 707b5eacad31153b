//! Keeps the books of a pass in the store: open splits, receipts, rejects, progress.

use std::collections::BTreeMap;

use super::letters::{Letters, Place};
use super::pass::{Keeper, Slot};
use super::region::RegionRun;
use super::rejects::{self, RejectCounts, RejectRow};
use crate::context::Progress;
use crate::error::{Error, Result};
use crate::snapshot::Split;
use crate::store::Child;

/// Keeps the books of a child in the store.
pub struct StoreKeeper<'a> {
    pub run: &'a RegionRun,
    pub child: &'a Child,
    pub splits: &'a [Split],
    /// Of the whole job.
    pub rejects: &'a mut RejectCounts,
    pub letters: &'a mut Letters,
    /// Rows of the child that were acknowledged before this pass.
    pub acknowledged_before: u64,
}

impl Keeper for StoreKeeper<'_> {
    fn open(&mut self, slot: &mut Slot, ends: &BTreeMap<i32, i64>) -> Result<()> {
        let noted: Vec<(i32, i64)> = ends.iter().map(|(p, o)| (*p, *o)).collect();
        self.run.runtime.block_on(self.run.store.open_split(
            self.run.job,
            slot.origin.split,
            &noted,
        ))?;
        slot.noted = Some(noted);
        Ok(())
    }

    fn close(&mut self, slot: &Slot) -> Result<()> {
        let run = self.run;
        if let Some(split) = self.splits.get(slot.origin.slot as usize) {
            // Before the receipt: a closed split is not looked at again.
            write_rejects(run, split, slot)?;
            let place = Place {
                file: file_of(run, split),
                first_row: split.first_row,
            };
            self.letters.deliver(slot.origin, &place, &slot.rejects)?;
        }
        let mut counts = RejectCounts::default();
        slot.rejects
            .iter()
            .for_each(|r| counts.add(&r.column, &r.reason, 1));
        run.runtime.block_on(run.store.close_split(
            run.job,
            slot.origin.split,
            &slot.tally.acknowledged,
            &slot.tally.rejected,
            &slot.tally.extents.ranges(),
            &counts.list(),
        ))
    }

    fn rejected(&mut self, rejects: &[RejectRow]) -> Result<()> {
        for reject in rejects {
            self.rejects.add(&reject.column, &reject.reason, 1);
        }
        match &self.run.max_rejects {
            Some((limit, shown)) if self.rejects.total() > *limit => Err(Error::TooManyRejects {
                rejected: self.rejects.total(),
                limit: format!("{shown} of {} rows", self.run.job_rows),
                summary: self.rejects.summary(),
                kept: rejects::dir(&self.run.work_dir).display().to_string(),
            }),
            _ => Ok(()),
        }
    }

    fn keeps_rejects(&self) -> bool {
        true
    }

    fn progress(&mut self, acknowledged: u64) {
        self.run.ctx.report(Progress {
            stage: "publish",
            label: self.child.name.clone(),
            done: self.acknowledged_before + acknowledged,
            total: Some(self.child.rows),
            note: String::new(),
        });
    }
}

/// Writes the rejects that a split has so far.
pub fn write_rejects(run: &RegionRun, split: &Split, slot: &Slot) -> Result<()> {
    rejects::write(
        &run.work_dir,
        split.split,
        file_of(run, split),
        split.first_row,
        &slot.rejects,
    )
}

fn file_of<'a>(run: &'a RegionRun, split: &Split) -> &'a str {
    let file = run.snapshot.files.get(split.file);
    file.map_or("", |f| f.path.as_str())
}
