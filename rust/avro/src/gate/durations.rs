//! Avro's duration: months, days and milliseconds, each an unsigned little-endian number of 32 bits.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    UInt32Type,
};
use arrow_schema::{DataType, TimeUnit};

use super::numbers::convert;
use super::{Data, Site};
use crate::error::EncodeError;

const RANGE: &str = "out of range of duration";

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
                site.reject(element, "a part of the duration is null");
            }
        }
    }
    Ok(Data::Fixed(12, out.into()))
}

/// An Arrow duration, which is so many units of time: months and days are none.
pub(super) fn millis(site: &mut Site<'_>) -> Result<Data, EncodeError> {
    let DataType::Duration(unit) = *site.array.data_type() else {
        return Err(site.malformed());
    };
    let whole = |v: i64, per_milli: i64| {
        if v < 0 {
            return Err("negative, and an Avro duration is not");
        }
        if v % per_milli != 0 {
            return Err("would lose precision");
        }
        u32::try_from(v / per_milli).map_err(|_| RANGE)
    };
    let millis = match unit {
        TimeUnit::Second => convert::<DurationSecondType, _>(site, |v| {
            whole(v.checked_mul(1_000).ok_or(RANGE)?, 1)
        })?,
        TimeUnit::Millisecond => convert::<DurationMillisecondType, _>(site, |v| whole(v, 1))?,
        TimeUnit::Microsecond => convert::<DurationMicrosecondType, _>(site, |v| whole(v, 1_000))?,
        TimeUnit::Nanosecond => {
            convert::<DurationNanosecondType, _>(site, |v| whole(v, 1_000_000))?
        }
    };
    let mut out = vec![0; millis.len().saturating_mul(12)];
    for (slot, millis) in out.chunks_exact_mut(12).zip(millis) {
        slot[8..].copy_from_slice(&millis.to_le_bytes());
    }
    Ok(Data::Fixed(12, out.into()))
}
