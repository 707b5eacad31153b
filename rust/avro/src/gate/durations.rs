//! Avro's duration (months, days and milliseconds, each an unsigned little-endian number of 32 bits), and Arrow's.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    UInt32Type,
};
use arrow_schema::{DataType, TimeUnit};

use super::numbers::convert;
use super::{Data, Site, per_second};
use crate::error::EncodeError;
use crate::plan::{Lossy, Unit};
use crate::reasons::*;
use crate::temporal::coarser;

/// A struct of the three parts.
pub(super) fn parts(site: &mut Site<'_>) -> Result<Data, EncodeError> {
    let array = site.array.as_struct_opt().ok_or_else(|| site.malformed())?;
    let mut out = vec![0; array.len().saturating_mul(12)];
    for (at, column) in array.columns().iter().enumerate() {
        let numbers = column
            .as_primitive_opt::<UInt32Type>()
            .ok_or_else(|| site.malformed())?;
        for (slot, number) in out.chunks_exact_mut(12).zip(numbers.values()) {
            slot[at * 4..(at + 1) * 4].copy_from_slice(&number.to_le_bytes());
        }
        if let Some(nulls) = numbers.nulls() {
            for element in (0..nulls.len()).filter(|i| nulls.is_null(*i)) {
                site.reject(element, NO_PART);
            }
        }
    }
    Ok(Data::Fixed(12, out.into()))
}

/// Converts the counts of an Arrow duration to those of `to` a second.
fn convert_counts<T: Copy + Default>(
    site: &mut Site<'_>,
    to: i64,
    lossy: Option<Lossy>,
    range: &'static str,
    f: impl Fn(i64) -> Result<T, &'static str>,
) -> Result<Vec<T>, EncodeError> {
    let DataType::Duration(unit) = *site.array.data_type() else {
        return Err(site.malformed());
    };
    let from = per_second(unit);
    let f = |v: i64| {
        f(if to >= from {
            v.checked_mul(to / from).ok_or(range)?
        } else {
            coarser(v, from / to, lossy)?
        })
    };
    match unit {
        TimeUnit::Second => convert::<DurationSecondType, _>(site, f),
        TimeUnit::Millisecond => convert::<DurationMillisecondType, _>(site, f),
        TimeUnit::Microsecond => convert::<DurationMicrosecondType, _>(site, f),
        TimeUnit::Nanosecond => convert::<DurationNanosecondType, _>(site, f),
    }
}

/// An Arrow duration, which is so many units of time: months and days are none.
pub(super) fn millis(site: &mut Site<'_>, lossy: Option<Lossy>) -> Result<Data, EncodeError> {
    let millis = convert_counts(site, 1_000, lossy, OF_DURATION, |v| {
        match u32::try_from(v) {
            Ok(millis) => Ok(millis),
            Err(_) if v < 0 => Err("negative, and an Avro duration is not"),
            Err(_) => Err(OF_DURATION),
        }
    })?;
    let mut out = vec![0; millis.len().saturating_mul(12)];
    for (slot, millis) in out.chunks_exact_mut(12).zip(millis) {
        slot[8..].copy_from_slice(&millis.to_le_bytes());
    }
    Ok(Data::Fixed(12, out.into()))
}

/// An Arrow duration as a number of units.
pub(super) fn count(
    site: &mut Site<'_>,
    long: bool,
    unit: Unit,
    lossy: Option<Lossy>,
) -> Result<Data, EncodeError> {
    let to = unit.per_second();
    if long {
        let range = LONG;
        return Ok(Data::Long(
            convert_counts(site, to, lossy, range, Ok)?.into(),
        ));
    }
    let range = INT;
    let ints = convert_counts(site, to, lossy, range, |v| {
        i32::try_from(v).map_err(|_| range)
    })?;
    Ok(Data::Int(ints.into()))
}
