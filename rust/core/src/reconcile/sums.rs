//! The sums of a report: by child job, by cause, and the missing rows in the order of the source.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::Sets;
use super::ledger::Fates;
use super::report::{Cause, ChildLedger, LedgerReport, MissingRow};
use super::topics::Said;
use crate::error::Result;
use crate::session::Session;
use crate::snapshot::Snapshot;
use crate::store::{Child, SplitRow};

/// The ledger of each child job.
pub(super) fn by_child(
    children: &[Child],
    splits: &[SplitRow],
    fates: &BTreeMap<u32, Fates>,
    doubled: &BTreeMap<u32, u64>,
) -> Vec<ChildLedger> {
    let ledger = |child: &Child| {
        let mut sum = ChildLedger {
            child: child.name.clone(),
            region: child.region.clone(),
            ..ChildLedger::default()
        };
        for row in splits.iter().filter(|s| s.split.child == child.name) {
            sum.expected += u64::from(row.split.rows);
            sum.duplicated += doubled.get(&row.split.split).copied().unwrap_or(0);
            let Some(fates) = fates.get(&row.split.split) else {
                continue;
            };
            sum.landed += fates.landed.len();
            sum.filtered += fates.filtered.len();
            sum.dead_lettered += fates.dead_lettered.len();
            sum.rejected += fates.rejected.len();
            sum.missing += fates.missing();
            sum.unexpected += fates.unexpected.len();
            sum.done_twice += fates.done_twice.len();
            sum.mended += fates.mended.len();
        }
        sum.explained = sum.missing + sum.duplicated + sum.unexpected == 0;
        sum
    };
    children.iter().map(ledger).collect()
}

/// Rows by fate and reason, most first within a fate.
pub(super) async fn by_cause(
    session: &Session,
    said: &Said,
    fates: &BTreeMap<u32, Fates>,
) -> Result<Vec<Cause>> {
    let mut causes = Vec::new();
    let mut count = |fate: &'static str,
                     reasons: &BTreeMap<String, Sets>,
                     of: fn(&Fates) -> &RoaringBitmap| {
        let mut counted: Vec<Cause> = reasons
            .iter()
            .map(|(reason, sets)| Cause {
                fate,
                reason: reason.clone(),
                rows: sets
                    .iter()
                    .filter_map(|(split, rows)| Some(of(fates.get(split)?).intersection_len(rows)))
                    .sum(),
            })
            .filter(|cause| cause.rows > 0)
            .collect();
        counted.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.reason.cmp(&b.reason)));
        causes.extend(counted);
    };
    count("filtered", &said.filtered.by_reason, |f| &f.filtered);
    count("dead_lettered", &said.dead_lettered.by_reason, |f| {
        &f.dead_lettered
    });
    for reject in session.store.reject_counts(session.id).await? {
        causes.push(Cause {
            fate: "rejected",
            reason: format!("{}: {}", reject.field, reject.reason),
            rows: reject.count,
        });
    }
    Ok(causes)
}

/// The missing rows in the order of the source.
pub(super) fn missing_rows<'a>(
    snapshot: &'a Snapshot,
    splits: &'a [SplitRow],
    fates: &'a BTreeMap<u32, Fates>,
) -> impl Iterator<Item = MissingRow> + 'a {
    splits.iter().flat_map(move |row| {
        let split = &row.split;
        let fates = fates.get(&split.split);
        let kinds = fates.into_iter().flat_map(|f| {
            [
                ("never_sent", &f.never_sent),
                ("expired", &f.expired),
                ("lost", &f.lost),
            ]
        });
        kinds.flat_map(move |(why, rows)| {
            rows.iter().map(move |seq| MissingRow {
                split: split.split,
                seq,
                file: snapshot
                    .files
                    .get(split.file)
                    .map_or_else(String::new, |f| f.path.clone()),
                row_in_file: split.first_row + u64::from(seq),
                child: split.child.clone(),
                why,
            })
        })
    })
}

impl LedgerReport {
    /// Adds up the children and the kinds of missing rows.
    pub(super) fn sum(&mut self, fates: &BTreeMap<u32, Fates>) {
        for child in &self.children {
            self.expected += child.expected;
            self.landed += child.landed;
            self.filtered += child.filtered;
            self.dead_lettered += child.dead_lettered;
            self.rejected += child.rejected;
            self.missing += child.missing;
            self.duplicated += child.duplicated;
            self.unexpected += child.unexpected;
            self.done_twice += child.done_twice;
            self.mended += child.mended;
        }
        for fates in fates.values() {
            self.missing_by.never_sent += fates.never_sent.len();
            self.missing_by.expired += fates.expired.len();
            self.missing_by.lost += fates.lost.len();
        }
        self.explained = self.missing + self.duplicated + self.unexpected == 0;
    }
}
