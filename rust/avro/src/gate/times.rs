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
use super::text::convert_text;
use super::{Site, per_second};
use crate::error::EncodeError;
use crate::plan::{Lossy, Shift};
use crate::reasons::*;
use crate::temporal::{self, coarser};
use crate::types::SubSecond;

const DAY: i64 = 86_400;

/// Converts the counts of a timestamp, of whatever unit, or of a date that counts milliseconds.
fn convert_counts<T: Copy + Default>(
    site: &mut Site<'_>,
    f: impl Fn(i64) -> Result<T, &'static str>,
) -> Result<Vec<T>, EncodeError> {
    match site.array.data_type() {
        DataType::Date32 => convert::<Date32Type, _>(site, |days| f(i64::from(days) * DAY)),
        DataType::Date64 => convert::<Date64Type, _>(site, f),
        DataType::Timestamp(TimeUnit::Second, _) => convert::<TimestampSecondType, _>(site, f),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            convert::<TimestampMillisecondType, _>(site, f)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            convert::<TimestampMicrosecondType, _>(site, f)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            convert::<TimestampNanosecondType, _>(site, f)
        }
        _ => Err(site.malformed()),
    }
}

/// What [`convert_counts`] counts a second.
fn counts_per_second(site: &Site<'_>) -> Result<i64, EncodeError> {
    match site.array.data_type() {
        DataType::Date32 => Ok(1),
        DataType::Date64 => Ok(1_000),
        DataType::Timestamp(unit, _) => Ok(per_second(*unit)),
        _ => Err(site.malformed()),
    }
}

pub(super) fn dates(
    site: &mut Site<'_>,
    lossy: Option<Lossy>,
) -> Result<ScalarBuffer<i32>, EncodeError> {
    if let Some(array) = site.array.as_primitive_opt::<Date32Type>() {
        return Ok(array.values().clone());
    }
    if crate::plan::is_text(site.array.data_type()) {
        return Ok(convert_text(site, temporal::date)?.into());
    }
    let day = DAY * counts_per_second(site)?;
    let days = convert_counts(site, |v| {
        let days = coarser(v, day, lossy).map_err(|_| NO_DAY)?;
        i32::try_from(days).map_err(|_| OF_DATE)
    })?;
    Ok(days.into())
}

/// A time of day of `from` units a second, in `to` units a second.
fn time_of_day(v: i64, from: i64, to: i64, lossy: Option<Lossy>) -> Result<i64, &'static str> {
    if !(0..DAY * from).contains(&v) {
        return Err(TIME);
    }
    if to >= from {
        return Ok(v * (to / from));
    }
    let v = coarser(v, from / to, lossy)?;
    // The last moment of a day may round to the next.
    (v < DAY * to).then_some(v).ok_or(TIME)
}

fn times(site: &mut Site<'_>, to: i64, lossy: Option<Lossy>) -> Result<Vec<i64>, EncodeError> {
    match site.array.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            convert::<Time32SecondType, _>(site, |v| time_of_day(v.into(), 1, to, lossy))
        }
        DataType::Time32(TimeUnit::Millisecond) => {
            convert::<Time32MillisecondType, _>(site, |v| time_of_day(v.into(), 1_000, to, lossy))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            convert::<Time64MicrosecondType, _>(site, |v| time_of_day(v, 1_000_000, to, lossy))
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            convert::<Time64NanosecondType, _>(site, |v| time_of_day(v, 1_000_000_000, to, lossy))
        }
        _ => convert_text(site, |text| temporal::time_of_day(text, to, lossy)),
    }
}

pub(super) fn time_millis(
    site: &mut Site<'_>,
    lossy: Option<Lossy>,
) -> Result<ScalarBuffer<i32>, EncodeError> {
    // Below 86,400,000, so it fits.
    Ok(times(site, 1_000, lossy)?
        .into_iter()
        .map(|v| i32::try_from(v).unwrap_or(0))
        .collect::<Vec<_>>()
        .into())
}

pub(super) fn time_micros(
    site: &mut Site<'_>,
    lossy: Option<Lossy>,
) -> Result<ScalarBuffer<i64>, EncodeError> {
    Ok(times(site, 1_000_000, lossy)?.into())
}

/// The counts as they are.
fn same(site: &Site<'_>) -> Option<ScalarBuffer<i64>> {
    let array = site.array;
    Some(match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => array
            .as_primitive_opt::<TimestampSecondType>()?
            .values()
            .clone(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => array
            .as_primitive_opt::<TimestampMillisecondType>()?
            .values()
            .clone(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => array
            .as_primitive_opt::<TimestampMicrosecondType>()?
            .values()
            .clone(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => array
            .as_primitive_opt::<TimestampNanosecondType>()?
            .values()
            .clone(),
        DataType::Date64 => array.as_primitive_opt::<Date64Type>()?.values().clone(),
        _ => return None,
    })
}

pub(super) fn timestamps(
    site: &mut Site<'_>,
    to: SubSecond,
    shift: &Shift,
    lossy: Option<Lossy>,
) -> Result<ScalarBuffer<i64>, EncodeError> {
    let (from, to) = (counts_per_second(site)?, to.per_second());
    if from == to
        && *shift == Shift::None
        && let Some(counts) = same(site)
    {
        return Ok(counts);
    }
    let scaled = |v: i64| {
        if to >= from {
            v.checked_mul(to / from).ok_or(LONG)
        } else {
            coarser(v, from / to, lossy)
        }
    };
    let shifted = |v: i64, east: i64| {
        // An offset is less than a day.
        scaled(v)?.checked_add(east * to).ok_or(LONG)
    };
    let seconds = |v: i64| v.div_euclid(from);
    let counts = match shift {
        Shift::None => convert_counts(site, scaled)?,
        Shift::ToInstant(zone) => {
            convert_counts(site, |v| shifted(v, -zone.offset_of_reading(seconds(v))?))?
        }
        Shift::ToLocal(zone) => convert_counts(site, |v| shifted(v, zone.offset_at(seconds(v))?))?,
    };
    Ok(counts.into())
}
