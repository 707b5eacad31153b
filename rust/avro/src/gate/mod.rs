//! The gate: a columnar pass that converts every column to what Avro will say, and names the rows that can't be.
//!
//! Its result is a tree of [`Lane`]s, plain buffers of already converted values. The encoder needs to know nothing of
//! Arrow types or rules, and a value of a row that passed can't fail any more.

mod decimals;
mod digits;
mod durations;
mod nested;
mod nulls;
mod numbers;
mod text;
mod times;

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowTimestampType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayRef, PrimitiveArray, UInt64Array, new_null_array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, TimeUnit};
use serde::Serialize;

pub(crate) use decimals::has_digits;

use crate::error::EncodeError;
use crate::plan::{Branch, Child, Node, Rule};
use crate::reasons::NULL;

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
/// An element that belongs to no row: below a null, or outside every list.
const NO_ROW: u32 = u32::MAX;

/// One column of a batch, converted.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) branch: Branch,
    /// `None` when no slot is null.
    pub(crate) nulls: Option<NullBuffer>,
    pub(crate) data: Data,
}

/// Converted values. A slot that is null, or of a rejected row, may hold anything.
#[derive(Debug)]
pub(crate) enum Data {
    /// No bytes at all.
    Null,
    /// The same bytes in every row.
    Const(Arc<[u8]>),
    Boolean(BooleanBuffer),
    Int(ScalarBuffer<i32>),
    Long(ScalarBuffer<i64>),
    Float(ScalarBuffer<f32>),
    Double(ScalarBuffer<f64>),
    /// A decimal's digits: a length, and two's complement in as few bytes as hold the sign.
    Unscaled(ScalarBuffer<i64>),
    /// Length and bytes.
    Bytes(OffsetBuffer<i32>, Buffer),
    LargeBytes(OffsetBuffer<i64>, Buffer),
    View(arrow_array::BinaryViewArray),
    /// Bytes without a length, this many a slot.
    Fixed(usize, Buffer),
    Array(Ranges, Box<Lane>),
    Map(Ranges, Box<Lane>, Box<Lane>),
    Record(Vec<Lane>),
    /// In each slot the value of one member: its place among the lanes, or the byte of the null branch.
    Members(Vec<Member>, Vec<Lane>),
    /// Bytes for a null, and a lane for what is none.
    OrDefault(NullBuffer, Arc<[u8]>, Box<Lane>),
}

/// Which member of a union holds the value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Member {
    Null(u8),
    At(u8),
}

/// Where the elements of each list lie; one more offset than lists.
#[derive(Debug)]
pub(crate) struct Ranges(pub(crate) Vec<usize>);

/// The top-level row of each element of a (nested) column.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// The column is at the top.
    Same,
    /// By element; [`NO_ROW`] where there is none.
    Of(&'a [u32]),
}

impl Rows<'_> {
    #[inline]
    pub(crate) fn row(self, element: usize) -> Option<u32> {
        match self {
            // Batches are refused that have more rows than a u32 can number.
            Self::Same => u32::try_from(element).ok(),
            Self::Of(rows) => rows.get(element).copied().filter(|row| *row != NO_ROW),
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

    fn reject_row(&mut self, element: usize, reason: Cow<'static, str>) {
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

/// Zeros for so many slots, or an error where there is no memory for them.
pub(crate) fn zeros(slots: usize, size: usize) -> Result<Vec<u8>, EncodeError> {
    let bytes = slots.saturating_mul(size);
    // vec! would abort the process: what it will take is asked for first.
    Vec::<u8>::new()
        .try_reserve_exact(bytes)
        .map_err(|_| EncodeError::TooLarge { bytes })?;
    Ok(vec![0; bytes])
}

pub(crate) const fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Converts the columns of a record.
pub(crate) fn record(
    children: &[Child],
    columns: &[ArrayRef],
    rows: Rows<'_>,
    out: &mut Rejections,
) -> Result<Vec<Lane>, EncodeError> {
    let mut lanes = Vec::with_capacity(children.len());
    for child in children {
        lanes.push(match child {
            Child::Default(bytes) => Lane {
                branch: Branch::Bare,
                nulls: None,
                data: Data::Const(Arc::clone(bytes)),
            },
            Child::Column(position, node) => {
                let array = columns
                    .get(*position)
                    .ok_or_else(|| malformed(&node.path, "no such column"))?;
                lane(node, array, rows, out)?
            }
        });
    }
    Ok(lanes)
}

/// Converts one column.
pub(crate) fn lane(
    node: &Node,
    array: &ArrayRef,
    rows: Rows<'_>,
    out: &mut Rejections,
) -> Result<Lane, EncodeError> {
    let mut array = Cow::Borrowed(array);
    if array.as_any_dictionary_opt().is_some() {
        array = Cow::Owned(unpack(&array, &node.path)?);
    }
    if node.nan_is_null {
        array = Cow::Owned(nulls::where_nan(&array, &node.path)?);
    }
    let array: &dyn Array = array.as_ref();
    let nulls = match &node.rule {
        Rule::Null | Rule::NoValue => Some(NullBuffer::new_null(array.len())),
        _ => array
            .nulls()
            .filter(|nulls| nulls.null_count() > 0)
            .cloned(),
    };
    let mut site = Site {
        path: &node.path,
        array,
        rows,
        out,
    };
    let takes_null = node.null.is_some()
        || matches!(node.rule, Rule::Null | Rule::Members(_, Some(_)))
        || matches!(node.branch, Branch::Union { null: Some(_), .. });
    if let Some(nulls) = nulls.as_ref().filter(|_| !takes_null) {
        for element in (0..nulls.len()).filter(|i| nulls.is_null(*i)) {
            site.reject_row(element, NULL.into());
        }
    }
    let data = match &node.rule {
        Rule::Null | Rule::NoValue => Data::Null,
        Rule::Boolean => Data::Boolean(numbers::booleans(&mut site)?),
        Rule::Int(lossy) => Data::Int(numbers::ints(&mut site, *lossy)?),
        Rule::Long(lossy) => Data::Long(numbers::longs(&mut site, *lossy)?),
        Rule::Float(nearest) => Data::Float(numbers::floats(&mut site, *nearest)?),
        Rule::Double(nearest) => Data::Double(numbers::doubles(&mut site, *nearest)?),
        Rule::Date(lossy) => Data::Int(times::dates(&mut site, *lossy)?),
        Rule::TimeMillis(lossy) => Data::Int(times::time_millis(&mut site, *lossy)?),
        Rule::TimeMicros(lossy) => Data::Long(times::time_micros(&mut site, *lossy)?),
        Rule::Timestamp { unit, shift, lossy } => {
            Data::Long(times::timestamps(&mut site, *unit, shift, *lossy)?)
        }
        Rule::TimestampText { unit, zone, lossy } => {
            Data::Long(text::timestamps(&mut site, *unit, zone, *lossy)?)
        }
        Rule::Text => text::text(&mut site)?,
        Rule::Bytes => text::bytes(&mut site)?,
        Rule::Fixed(size) => text::fixed(&mut site, *size)?,
        Rule::Enum(e) => Data::Int(text::symbols(&mut site, e)?),
        Rule::Uuid { fixed } => text::uuids(&mut site, *fixed)?,
        Rule::DurationParts => durations::parts(&mut site)?,
        Rule::DurationMillis(lossy) => durations::millis(&mut site, *lossy)?,
        Rule::DurationCount { long, unit, lossy } => {
            durations::count(&mut site, *long, *unit, *lossy)?
        }
        Rule::Decimal(to, lossy) => decimals::decimals(&mut site, *to, *lossy)?,
        Rule::Array(items) => nested::array(&mut site, items)?,
        Rule::Map(keys, values) => nested::map(&mut site, keys, values)?,
        Rule::Record(children) => nested::record(&mut site, children)?,
        Rule::Members(members, null) => nested::members(&mut site, members, *null)?,
    };
    let lane = Lane {
        branch: node.branch,
        nulls,
        data,
    };
    Ok(match &node.null {
        None => lane,
        Some(default) => lane.or_default(default),
    })
}

/// A dictionary as its values: keys below nulls may be garbage, and are not looked at.
fn unpack(array: &ArrayRef, path: &str) -> Result<ArrayRef, EncodeError> {
    let Some(dictionary) = array.as_any_dictionary_opt() else {
        return Ok(Arc::clone(array));
    };
    let values = dictionary.values();
    if values.is_empty() {
        return Ok(new_null_array(values.data_type(), array.len()));
    }
    let keys = dictionary
        .normalized_keys()
        .into_iter()
        .map(|key| key as u64)
        .collect::<Vec<_>>();
    let keys = UInt64Array::new(keys.into(), dictionary.keys().nulls().cloned());
    let unpacked = arrow_select::take::take(values, &keys, None).map_err(|e| malformed(path, e))?;
    // Arrow loses count of values that have no bytes.
    if unpacked.len() != array.len() {
        return Err(malformed(path, "a dictionary of values of no size"));
    }
    // A dictionary of dictionaries is rare, but legal.
    if unpacked.as_any_dictionary_opt().is_some() {
        unpack(&unpacked, path)
    } else {
        Ok(unpacked)
    }
}
