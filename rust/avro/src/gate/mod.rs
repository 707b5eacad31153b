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
mod reject;
mod text;
mod times;

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, UInt64Array, new_null_array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::TimeUnit;

pub(crate) use decimals::has_digits;
pub use reject::Reject;
pub(crate) use reject::{Rejections, Rows};

use crate::error::EncodeError;
use crate::plan::{Branch, Child, Node, Rule};
use crate::reasons::NULL;
use reject::{Site, malformed};

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
    /// The same by views into these buffers, which are those of the array or begin as they do.
    View(arrow_array::BinaryViewArray, Vec<Buffer>),
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
        for element in (!nulls.inner()).set_indices() {
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
