//! Tells the books of a pass what becomes of its splits, keeps their rejects, and shows progress.

use std::collections::BTreeMap;

use super::books::{Books, Receipt};
use super::keeping::{Keeper, Pace, Slot, Turn};
use super::letters::{Letters, Place};
use super::meter::Meter;
use super::region::RegionRun;
use super::rejects::{self, RejectCounts, RejectFile, RejectRow};
use crate::context::Progress;
use crate::error::{Error, Result};
use crate::snapshot::Split;
use crate::store::Child;

/// The rejects of a split that is not closed: their file, if they are kept here, and what a receipt says of them.
pub struct SplitRejects {
    file: Option<RejectFile>,
    counts: RejectCounts,
}

impl SplitRejects {
    /// For the person who has to look at the rejects of a split that stays open; the next run writes them anew.
    pub fn keep(mut self) -> Result<()> {
        self.file.as_mut().map_or(Ok(()), RejectFile::finish)
    }
}

/// Keeps the books of a child.
pub struct ChildKeeper<'a> {
    pub run: &'a RegionRun,
    pub books: &'a mut dyn Books,
    pub child: &'a Child,
    pub splits: &'a [Split],
    /// By slot.
    pub rejects: &'a mut BTreeMap<u32, SplitRejects>,
    /// Of the whole job.
    pub counts: &'a mut RejectCounts,
    pub letters: &'a mut Letters,
    /// Rows of the child that were acknowledged before this pass.
    pub acknowledged_before: u64,
}

impl Keeper for ChildKeeper<'_> {
    fn turn(&mut self) -> Result<Turn> {
        self.books.turn()
    }

    fn open(&mut self, slot: &mut Slot, ends: &BTreeMap<i32, i64>) -> Result<()> {
        let noted: Vec<(i32, i64)> = ends.iter().map(|(p, o)| (*p, *o)).collect();
        self.books.open(slot.origin.split, &noted)?;
        slot.noted = Some(noted);
        Ok(())
    }

    fn note(&mut self, slot: &mut Slot, ends: &BTreeMap<i32, i64>) -> Result<()> {
        let noted: Vec<(i32, i64)> = ends.iter().map(|(p, o)| (*p, *o)).collect();
        self.books.note(slot.origin.split, &noted, &slot.tally)?;
        slot.noted = Some(noted);
        Ok(())
    }

    fn close(&mut self, slot: &Slot) -> Result<()> {
        let mut counts = RejectCounts::default();
        if let Some(rejects) = self.rejects.get_mut(&slot.origin.slot) {
            // Before the receipt: a closed split is not looked at again. What fails here fails again when the pass, on
            // its way out, tries to close what is complete.
            rejects.file.as_mut().map_or(Ok(()), RejectFile::finish)?;
            self.letters.settle()?;
            counts = rejects.counts.clone();
        }
        self.books.close(&Receipt {
            split: slot.origin.split,
            acknowledged: &slot.tally.acknowledged,
            rejected: &slot.tally.rejected,
            ranges: &slot.tally.extents.ranges(),
            rejects: &counts.list(),
        })?;
        self.rejects.remove(&slot.origin.slot);
        Ok(())
    }

    fn rejected(&mut self, slot: &Slot, rejects: &[RejectRow]) -> Result<()> {
        let run = self.run;
        let of_split = slot.origin.slot;
        if let Some(split) = self.splits.get(of_split as usize) {
            let (file, first_row) = (file_of(run, split), split.first_row);
            let kept = self
                .rejects
                .entry(of_split)
                .or_insert_with(|| SplitRejects {
                    file: run
                        .work_dir
                        .as_ref()
                        .map(|dir| RejectFile::new(dir, split.split, file, first_row)),
                    counts: RejectCounts::default(),
                });
            if let Some(file) = &mut kept.file {
                file.add(rejects)?;
            }
            for reject in rejects {
                kept.counts.add(&reject.column, &reject.reason, 1);
                self.counts.add(&reject.column, &reject.reason, 1);
            }
            let place = Place { file, first_row };
            self.letters.send(slot.origin, &place, rejects)?;
        }
        match &run.max_rejects {
            Some((limit, shown)) if self.counts.total() > *limit => Err(Error::TooManyRejects {
                rejected: self.counts.total(),
                limit: format!("{shown} of {} rows", run.job_rows),
                summary: self.counts.summary(),
                kept: match &run.work_dir {
                    Some(dir) => rejects::dir(dir).display().to_string(),
                    None => format!("topic {}", self.letters.topic()),
                },
            }),
            _ => Ok(()),
        }
    }

    fn progress(&mut self, acknowledged: u64, meter: &Meter, pace: &Pace<'_>) {
        let done = self.acknowledged_before + acknowledged;
        let left = self.child.rows.saturating_sub(done);
        self.run.ctx.report(Progress {
            stage: "publish",
            label: self.child.name.clone(),
            done,
            total: Some(self.child.rows),
            note: note(meter, Some(left), pace.held),
            figures: pace.figures(meter),
        });
    }
}

/// A line of progress: how fast, and what holds the publish back.
pub fn note(meter: &Meter, left: Option<u64>, held: &str) -> String {
    let rate = meter.show(left);
    match (rate.is_empty(), held.is_empty()) {
        (_, true) => rate,
        (true, false) => held.to_owned(),
        (false, false) => format!("{rate}; {held}"),
    }
}

fn file_of<'a>(run: &'a RegionRun, split: &Split) -> &'a str {
    let file = run.snapshot.files.get(split.file);
    file.map_or("", |f| f.path.as_str())
}
