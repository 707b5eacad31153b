//! A snapshot cut into splits: bounded, ordered, repeatable pieces.

use serde::{Deserialize, Serialize};

use super::Snapshot;
use crate::error::{Error, Result};

/// A bounded, ordered, repeatable piece: row groups `first..first + count` of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Number in the job, dense from 0.
    pub split: u32,
    pub child: String,
    /// Index into [`Snapshot::files`].
    pub file: usize,
    pub row_group_first: usize,
    pub row_group_count: usize,
    /// Row of the file at which the split starts, of those that pass the filter: row in file = first_row + seq.
    pub first_row: u64,
    pub rows: u32,
}

impl Snapshot {
    /// Cuts the snapshot into splits of up to `split_rows` rows, and names the child job of each.
    ///
    /// # Errors
    /// [`Error::Source`] if `child_by` is no Hive key of a file, or a row group has 2³² rows or more.
    pub fn splits(&self, child_by: Option<&str>, split_rows: u32) -> Result<Vec<Split>> {
        let mut splits = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            let child = match child_by {
                None => "all".to_owned(),
                Some(key) => file.hive.get(key).cloned().ok_or_else(|| Error::Source {
                    path: self.path(index),
                    reason: format!("its path has no folder {key}=…, which source.child_by names"),
                })?,
            };
            let (mut first, mut first_row) = (0, 0);
            while first < file.row_groups.len() {
                if file.row_groups[first] == 0 {
                    first += 1;
                    continue;
                }
                let mut count = 1;
                let mut rows = file.row_groups[first];
                while let Some(more) = file.row_groups.get(first + count) {
                    if rows + more > u64::from(split_rows) {
                        break;
                    }
                    rows += more;
                    count += 1;
                }
                let narrow = |_| Error::Source {
                    path: self.path(index),
                    reason: format!(
                        "row group {first} has {rows} rows; a split holds fewer than 2^32"
                    ),
                };
                splits.push(Split {
                    split: u32::try_from(splits.len()).map_err(narrow)?,
                    child: child.clone(),
                    file: index,
                    row_group_first: first,
                    row_group_count: count,
                    first_row,
                    rows: u32::try_from(rows).map_err(narrow)?,
                });
                first_row += rows;
                first += count;
            }
        }
        Ok(splits)
    }
}
