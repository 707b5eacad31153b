//! Dates, times of day and Arrow timestamps.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, TimeUnit};

use super::numbers::convert;
use super::{Site, per_second};
use crate::error::EncodeError;
use crate::types::SubSecond;

const DAY_MS: i64 = 86_400_000;
const LOSS: &str = "would lose precision";
const RANGE: &str = "out of range of long";

pub(super) fn dates(site: &mut Site<'_>) -> Result<ScalarBuffer<i32>, EncodeError> {
    Ok(match site.array.data_type() {
        DataType::Date32 => site.array.as_primitive::<Date32Type>().values().clone(),
        _ => convert::<Date64Type, _>(site, |ms| {
            if ms % DAY_MS != 0 {
                return Err("not a whole day");
            }
            i32::try_from(ms / DAY_MS).map_err(|_| "out of range of date")
        })?
        .into(),
    })
}

/// A time of day of `from` units a second, in `to` units a second.
fn time_of_day(v: i64, from: i64, to: i64) -> Result<i64, &'static str> {
    if !(0..86_400 * from).contains(&v) {
        return Err("not a time of day");
    }
    if to >= from {
        Ok(v * (to / from))
    } else if v % (from / to) == 0 {
        Ok(v / (from / to))
    } else {
        Err(LOSS)
    }
}

fn times(site: &mut Site<'_>, to: i64) -> Result<Vec<i64>, EncodeError> {
    match site.array.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            convert::<Time32SecondType, _>(site, |v| time_of_day(v.into(), 1, to))
        }
        DataType::Time32(TimeUnit::Millisecond) => {
            convert::<Time32MillisecondType, _>(site, |v| time_of_day(v.into(), 1_000, to))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            convert::<Time64MicrosecondType, _>(site, |v| time_of_day(v, 1_000_000, to))
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            convert::<Time64NanosecondType, _>(site, |v| time_of_day(v, 1_000_000_000, to))
        }
        _ => Err(site.malformed()),
    }
}

pub(super) fn time_millis(site: &mut Site<'_>) -> Result<ScalarBuffer<i32>, EncodeError> {
    // Below 86,400,000, so it fits.
    Ok(times(site, 1_000)?
        .into_iter()
        .map(|v| i32::try_from(v).unwrap_or(0))
        .collect::<Vec<_>>()
        .into())
}

pub(super) fn time_micros(site: &mut Site<'_>) -> Result<ScalarBuffer<i64>, EncodeError> {
    Ok(times(site, 1_000_000)?.into())
}

pub(super) fn timestamps(
    site: &mut Site<'_>,
    to: SubSecond,
    offset: i64,
) -> Result<ScalarBuffer<i64>, EncodeError> {
    let DataType::Timestamp(unit, _) = *site.array.data_type() else {
        return Err(site.malformed());
    };
    let (from, to) = (per_second(unit), to.per_second());
    if from == to && offset == 0 {
        return Ok(match unit {
            TimeUnit::Second => site
                .array
                .as_primitive::<TimestampSecondType>()
                .values()
                .clone(),
            TimeUnit::Millisecond => site
                .array
                .as_primitive::<TimestampMillisecondType>()
                .values()
                .clone(),
            TimeUnit::Microsecond => site
                .array
                .as_primitive::<TimestampMicrosecondType>()
                .values()
                .clone(),
            TimeUnit::Nanosecond => site
                .array
                .as_primitive::<TimestampNanosecondType>()
                .values()
                .clone(),
        });
    }
    let shift = offset * to;
    let f = |v: i64| {
        let converted = if to >= from {
            v.checked_mul(to / from).ok_or(RANGE)?
        } else if v % (from / to) == 0 {
            v / (from / to)
        } else {
            return Err(LOSS);
        };
        converted.checked_sub(shift).ok_or(RANGE)
    };
    Ok(match unit {
        TimeUnit::Second => convert::<TimestampSecondType, _>(site, f)?,
        TimeUnit::Millisecond => convert::<TimestampMillisecondType, _>(site, f)?,
        TimeUnit::Microsecond => convert::<TimestampMicrosecondType, _>(site, f)?,
        TimeUnit::Nanosecond => convert::<TimestampNanosecondType, _>(site, f)?,
    }
    .into())
}
