//! Rows that can't be what the schema says, and how the gate names them.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowTimestampType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayRef, PrimitiveArray};
use arrow_buffer::NullBuffer;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, TimeUnit};
use serde::Serialize;

use crate::error::EncodeError;

/// A row that can't be what the schema says. One a row: its first bad value in the order of the schema's fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// Row in the batch, from 0.
    pub row: u32,
    /// Source column; a path in nested columns (`legs[].carrier`).
    pub column: String,
    /// The value as text, at most 200 characters.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Most characters of a value that a reject shows.
const SHOWN_CHARS: usize = 200;
/// The top-level row of each element of a (nested) column. It is looked for when an element is rejected, as few are.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// The column is at the top.
    Same,
    /// The column is of a struct.
    Member(Parent<'a>),
    /// The elements of lists, each of which begins where one of these says; the last is the end.
    Element(Parent<'a>, &'a [usize]),
}

/// A struct or a list. What is below a null belongs to no row.
#[derive(Clone, Copy)]
pub(crate) struct Parent<'a> {
    pub(crate) rows: &'a Rows<'a>,
    pub(crate) nulls: Option<&'a NullBuffer>,
}

impl Parent<'_> {
    fn row(self, slot: usize) -> Option<u32> {
        match self.nulls {
            Some(nulls) if nulls.is_null(slot) => None,
            _ => self.rows.row(slot),
        }
    }
}

impl Rows<'_> {
    fn row(self, element: usize) -> Option<u32> {
        match self {
            // Batches are refused that have more rows than a u32 can number.
            Self::Same => u32::try_from(element).ok(),
            Self::Member(parent) => parent.row(element),
            Self::Element(parent, starts) => {
                let after = starts.partition_point(|start| *start <= element);
                // Behind the last list, there is none.
                let list = after.checked_sub(1).filter(|_| after < starts.len())?;
                parent.row(list)
            }
        }
    }
}

/// The rows rejected so far.
#[derive(Debug)]
pub(crate) struct Rejections {
    bits: Vec<bool>,
    rejects: Vec<Reject>,
}

impl Rejections {
    pub(crate) fn new(rows: usize) -> Self {
        Self {
            bits: vec![false; rows],
            rejects: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rejects.is_empty()
    }

    pub(crate) fn is_rejected(&self, row: usize) -> bool {
        self.bits.get(row).copied().unwrap_or(true)
    }

    /// Sorted by row.
    pub(crate) fn into_rejects(mut self) -> Vec<Reject> {
        self.rejects.sort_by_key(|reject| reject.row);
        self.rejects
    }
}

/// A column under the gate.
pub(crate) struct Site<'a> {
    pub(crate) path: &'a str,
    pub(crate) array: &'a dyn Array,
    pub(crate) rows: Rows<'a>,
    pub(crate) out: &'a mut Rejections,
}

impl Site<'_> {
    /// Rejects the row of an element, unless the element is null, belongs to no row, or its row is rejected already.
    #[cold]
    pub(crate) fn reject(&mut self, element: usize, reason: impl Into<Cow<'static, str>>) {
        if self.array.is_null(element) {
            return;
        }
        self.reject_row(element, reason.into());
    }

    pub(super) fn reject_row(&mut self, element: usize, reason: Cow<'static, str>) {
        let Some(row) = self.rows.row(element) else {
            return;
        };
        let Some(bit) = self.out.bits.get_mut(row as usize) else {
            return;
        };
        if std::mem::replace(bit, true) {
            return;
        }
        let value = shown(self.array, element);
        self.out.rejects.push(Reject {
            row,
            column: self.path.to_owned(),
            value,
            reason: reason.into_owned(),
        });
    }

    /// An array of a type that the plan ruled out: the batch is not what its schema says.
    pub(crate) fn malformed(&self) -> EncodeError {
        malformed(
            self.path,
            format!("unexpected type {}", self.array.data_type()),
        )
    }
}

pub(crate) fn malformed(path: &str, reason: impl ToString) -> EncodeError {
    EncodeError::Malformed {
        column: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// A value as text, bounded.
fn shown(array: &dyn Array, element: usize) -> String {
    if element >= array.len() || array.is_null(element) {
        return "null".to_owned();
    }
    if let Some(strings) = array.as_string_opt::<i32>() {
        return bounded(strings.value(element));
    }
    if let Some(strings) = array.as_string_opt::<i64>() {
        return bounded(strings.value(element));
    }
    if let Some(strings) = array.as_string_view_opt() {
        return bounded(strings.value(element));
    }
    if let Some(bytes) = binary(array, element) {
        let more = if bytes.len() > SHOWN_CHARS / 2 - 1 {
            "…"
        } else {
            ""
        };
        return bytes
            .iter()
            .take(SHOWN_CHARS / 2 - 1)
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
            + more;
    }
    if let DataType::Timestamp(unit, Some(_)) = array.data_type() {
        // In UTC: a zone's name may be unknown, and its clock may read what no calendar has.
        let utc: ArrayRef = match unit {
            TimeUnit::Second => naive::<TimestampSecondType>(array, element),
            TimeUnit::Millisecond => naive::<TimestampMillisecondType>(array, element),
            TimeUnit::Microsecond => naive::<TimestampMicrosecondType>(array, element),
            TimeUnit::Nanosecond => naive::<TimestampNanosecondType>(array, element),
        };
        return shown(&utc, 0) + "Z";
    }
    let options = FormatOptions::default().with_null("null");
    match ArrayFormatter::try_new(array, &options) {
        Ok(formatter) => formatter
            .value(element)
            .try_to_string()
            .map_or_else(|_| "(unprintable)".to_owned(), |s| bounded(&s)),
        Err(_) => "(unprintable)".to_owned(),
    }
}

fn naive<T: ArrowTimestampType>(array: &dyn Array, element: usize) -> ArrayRef {
    let instant = array.as_primitive::<T>().value(element);
    Arc::new(PrimitiveArray::<T>::new(vec![instant].into(), None))
}

/// The bytes of a binary slot; the formatter would write all of them out.
fn binary(array: &dyn Array, element: usize) -> Option<&[u8]> {
    if let Some(bytes) = array.as_binary_opt::<i32>() {
        return Some(bytes.value(element));
    }
    if let Some(bytes) = array.as_binary_opt::<i64>() {
        return Some(bytes.value(element));
    }
    array.as_binary_view_opt().map(|bytes| bytes.value(element))
}

fn bounded(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!(
            "{}…",
            &text[..text[..end].char_indices().next_back().map_or(0, |(i, _)| i)]
        ),
    }
}
