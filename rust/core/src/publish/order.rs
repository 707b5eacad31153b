//! `topics.order_by`: the splits of a child job one after the other by a column, the rows of each checked to be so.
//!
//! Nothing is sorted: the source is, or it is refused. Which split comes first is told by the statistics of its row groups,
//! or by its folder.

use std::cmp::Ordering;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_ord::cmp::gt;
use arrow_ord::ord::make_comparator;
use arrow_schema::{ArrowError, Schema, SortOptions};
use arrow_select::concat::concat;
use kappaflow_avro::PlanOptions;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;

use super::routing::position;
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::snapshot::{Opened, Snapshot, Split};
use crate::store::{SplitRow, SplitState};

/// How a job file calls it.
pub const SETTING: &str = "topics.order_by";

/// The least and the greatest value of a split, each an array of one.
struct Span {
    least: ArrayRef,
    most: ArrayRef,
}

/// The splits of a child job in the order of a column: none begins before the one before it ends.
///
/// # Errors
/// [`Error::Source`] naming both splits if two overlap, or the one whose file does not tell; [`Error::SourceChanged`];
/// [`Error::NotReady`] if what was published so far is not the beginning.
pub fn sequence(
    snapshot: &Snapshot,
    job: JobId,
    plan: &PlanOptions,
    column: &str,
    rows: &[SplitRow],
) -> Result<Vec<SplitRow>> {
    let splits: Vec<Split> = rows.iter().map(|row| row.split.clone()).collect();
    let mut spans = Vec::with_capacity(splits.len());
    let mut open: Option<(usize, Opened)> = None;
    for split in &splits {
        let file = match open.take() {
            Some((file, opened)) if file == split.file => opened,
            _ => snapshot.reopen(split.file, &job.to_string())?,
        };
        let span = span(snapshot, &file, plan, column, split);
        spans.push(span.map_err(|reason| refused(snapshot, split, reason))?);
        open = Some((split.file, file));
    }
    let order = arrange(&spans, &splits, |split, reason| {
        refused(snapshot, split, reason)
    })?;
    let rows: Vec<SplitRow> = order.into_iter().map(|i| rows[i].clone()).collect();
    let begun = |row: &SplitRow| row.state != SplitState::Pending;
    let mut rest = rows.iter().skip_while(|row| begun(row));
    if let Some(new) = rest.next()
        && let Some(late) = rest.find(|row| begun(row))
    {
        return Err(Error::NotReady {
            what: format!(
                "split {} was published before split {}, which is before it in the order of {column:?}: {SETTING} was not in the job file then",
                late.split.split, new.split.split
            ),
            fix: format!("take {SETTING} out again, or run the job under a new name or param"),
        });
    }
    Ok(rows)
}

fn refused(snapshot: &Snapshot, split: &Split, reason: String) -> Error {
    Error::Source {
        path: snapshot.path(split.file),
        reason: format!("split {}: {reason}", split.split),
    }
}

fn arrange(
    spans: &[Span],
    splits: &[Split],
    refused: impl Fn(&Split, String) -> Error,
) -> Result<Vec<usize>> {
    let Some(first) = splits.first() else {
        return Ok(Vec::new());
    };
    let told = |e: ArrowError| {
        let why = format!("{SETTING}: the files have columns that can't be compared: {e}");
        refused(first, why)
    };
    let all = |of: fn(&Span) -> &ArrayRef| {
        let values: Vec<&dyn Array> = spans.iter().map(|s| of(s).as_ref()).collect();
        concat(&values)
    };
    let least = all(|s| &s.least).map_err(told)?;
    let most = all(|s| &s.most).map_err(told)?;
    let ascending = SortOptions::default();
    let by_least = make_comparator(&least, &least, ascending).map_err(told)?;
    let by_most = make_comparator(&most, &most, ascending).map_err(told)?;
    let ends_begins = make_comparator(&most, &least, ascending).map_err(told)?;
    let mut order: Vec<usize> = (0..splits.len()).collect();
    // Of equals the one that the source has first.
    order.sort_by(|a, b| by_least(*a, *b).then_with(|| by_most(*a, *b)));
    for pair in order.windows(2) {
        let [before, after] = *pair else { continue };
        if ends_begins(before, after) == Ordering::Greater {
            let (before, after) = (
                (&splits[before], show(&most, before)),
                (&splits[after], show(&least, after)),
            );
            return Err(refused(
                after.0,
                format!(
                    "begins at {}, before split {} has ended at {}; {SETTING} needs files and row groups that don't overlap in it: write the source sorted by that column",
                    after.1, before.0.split, before.1
                ),
            ));
        }
    }
    Ok(order)
}

/// What a split holds of the column, by its row groups' statistics or its folder.
fn span(
    snapshot: &Snapshot,
    opened: &Opened,
    plan: &PlanOptions,
    column: &str,
    split: &Split,
) -> Result<Span, String> {
    let arrow = opened.metadata.schema();
    let Ok(at) = position(arrow, plan, SETTING, column) else {
        let hive = &snapshot.files[split.file].hive;
        let value = hive
            .get(column)
            .ok_or_else(|| format!("has no column or folder {column:?}, which {SETTING} names"))?;
        let value = folder(value);
        return Ok(Span {
            least: value.clone(),
            most: value,
        });
    };
    let groups = split.row_group_first..split.row_group_first + split.row_group_count;
    let all = opened.metadata.metadata().row_groups();
    let groups = all.get(groups).unwrap_or_default();
    let parquet = opened.metadata.parquet_schema();
    let told = StatisticsConverter::try_new(arrow.field(at).name(), arrow, parquet);
    let extremes = told.and_then(|told| {
        Ok((
            told.row_group_mins(groups.iter())?,
            told.row_group_maxes(groups.iter())?,
        ))
    });
    // What old writers noted was ordered by other rules.
    let leaf = (0..parquet.num_columns()).find(|leaf| parquet.get_column_root_idx(*leaf) == at);
    let trusted = groups.iter().all(|group| {
        let noted = leaf.and_then(|leaf| group.columns().get(leaf)?.statistics());
        noted.is_none_or(|s| !s.is_min_max_deprecated() || s.is_min_max_backwards_compatible())
    });
    let (least, most) = extremes.map_err(|e| format!("{SETTING} = {column:?}: {e}"))?;
    match (
        extreme(&least, Ordering::Less)?,
        extreme(&most, Ordering::Greater)?,
    ) {
        (Some(least), Some(most)) if trusted => Ok(Span { least, most }),
        _ => Err(format!(
            "its row groups don't tell the least and the greatest {column:?}, which {SETTING} needs: they hold nulls only, or were written without statistics"
        )),
    }
}

/// A folder's value: a number if it is one, otherwise text, in which dates are in order too.
fn folder(text: &str) -> ArrayRef {
    match text.parse::<i64>() {
        Ok(number) => Arc::new(Int64Array::from(vec![number])),
        Err(_) => Arc::new(StringArray::from(vec![text])),
    }
}

/// The value that comes before, or after, all others; `None` if some are not known.
fn extreme(values: &ArrayRef, wanted: Ordering) -> Result<Option<ArrayRef>, String> {
    if values.null_count() > 0 || values.is_empty() {
        return Ok(None);
    }
    let compare = make_comparator(values, values, SortOptions::default())
        .map_err(|e| format!("{SETTING}: values can't be compared: {e}"))?;
    let best = (1..values.len()).fold(0, |best, i| match compare(i, best) == wanted {
        true => i,
        false => best,
    });
    Ok(Some(values.slice(best, 1)))
}

fn show(values: &dyn Array, row: usize) -> String {
    ArrayFormatter::try_new(values, &FormatOptions::default())
        .map(|shown| shown.value(row).to_string())
        .unwrap_or_else(|_| "a value that can't be shown".into())
}

/// Watches that no row of a split comes before the one before it.
pub struct Sorted<'a> {
    column: &'a str,
    at: usize,
    last: Option<ArrayRef>,
    path: PathBuf,
    split: &'a Split,
}

impl<'a> Sorted<'a> {
    /// # Errors
    /// [`Error::Schema`] if there is no such column.
    pub fn new(
        column: &'a str,
        arrow: &Schema,
        plan: &PlanOptions,
        path: PathBuf,
        split: &'a Split,
    ) -> Result<Self> {
        Ok(Self {
            column,
            at: position(arrow, plan, SETTING, column)?,
            last: None,
            path,
            split,
        })
    }

    /// Looks at a batch whose first row is number `base` of the split.
    ///
    /// # Errors
    /// [`Error::Source`] naming the first row that is out of order, or that has no value.
    pub fn check(&mut self, batch: &RecordBatch, base: u32) -> Result<()> {
        let values = batch.column(self.at);
        let Some(last) = values.len().checked_sub(1) else {
            return Ok(());
        };
        let at = |row: usize| self.split.first_row + u64::from(base) + row as u64;
        let refused = |row: usize, why: String| Error::Source {
            path: self.path.clone(),
            reason: format!(
                "row {} (split {}): {why}; {SETTING} needs rows in the order of that column: write the source sorted by it",
                at(row),
                self.split.split
            ),
        };
        let nulls = values.logical_nulls();
        if let Some(row) = nulls.and_then(|nulls| (!nulls.inner()).set_indices().next()) {
            return Err(refused(row, format!("{} is null", self.column)));
        }
        let falls = |before: &ArrayRef, after: &ArrayRef| {
            let falls = gt(before, after).map_err(|e| refused(0, e.to_string()))?;
            Ok::<_, Error>(falls.values().set_indices().next())
        };
        if let Some(before) = &self.last
            && falls(before, &values.slice(0, 1))?.is_some()
        {
            let why = format!(
                "{} = {} comes after {}",
                self.column,
                show(values, 0),
                show(before, 0)
            );
            return Err(refused(0, why));
        }
        if let Some(i) = falls(&values.slice(0, last), &values.slice(1, last))? {
            let (before, after) = (show(values, i), show(values, i + 1));
            let why = format!("{} = {after} comes after {before}", self.column);
            return Err(refused(i + 1, why));
        }
        self.last = Some(values.slice(last, 1));
        Ok(())
    }
}
