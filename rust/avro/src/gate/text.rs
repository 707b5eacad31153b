//! Strings and bytes, and what is read from them.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::{Array, BinaryViewArray};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;

use super::{Data, Site, zeros};
use crate::error::EncodeError;
use crate::plan::{Lossy, TextZone, is_text};
use crate::reasons::*;
use crate::temporal::{Reading, trimmed};
use crate::types::{EnumType, SubSecond};
use crate::uuid;

/// Calls `f` with every valid slot of a string array.
pub(super) fn each_text<'a>(
    site: &mut Site<'a>,
    mut f: impl FnMut(&mut Site<'a>, usize, &'a str),
) -> Result<(), EncodeError> {
    let array = site.array;
    macro_rules! walk {
        ($strings:expr) => {{
            let strings = $strings;
            for i in 0..strings.len() {
                if strings.is_valid(i) {
                    f(site, i, strings.value(i));
                }
            }
        }};
    }
    match array.data_type() {
        DataType::Utf8 => walk!(array.as_string::<i32>()),
        DataType::LargeUtf8 => walk!(array.as_string::<i64>()),
        DataType::Utf8View => walk!(array.as_string_view()),
        _ => return Err(site.malformed()),
    }
    Ok(())
}

/// Converts every valid slot, trimmed of spaces. A text that is the same as the one before is not read again: tables are
/// often sorted by time, or by what else their texts say.
pub(super) fn convert_text<T: Copy + Default>(
    site: &mut Site<'_>,
    f: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Vec<T>, EncodeError> {
    let mut out = vec![T::default(); site.array.len()];
    let mut before: Option<(&str, T)> = None;
    each_text(site, |site, i, value| {
        if let Some((text, converted)) = before
            && text == value
        {
            out[i] = converted;
            return;
        }
        match f(trimmed(value)) {
            Ok(converted) => {
                out[i] = converted;
                before = Some((value, converted));
            }
            Err(reason) => site.reject(i, reason),
        }
    })?;
    Ok(out)
}

/// Calls `f` with the bytes of every valid slot of a binary or string array.
fn each_bytes(
    site: &mut Site<'_>,
    mut f: impl FnMut(&mut Site<'_>, usize, &[u8]),
) -> Result<(), EncodeError> {
    let array = site.array;
    macro_rules! walk {
        ($values:expr) => {{
            let values = $values;
            for i in 0..values.len() {
                if values.is_valid(i) {
                    f(site, i, values.value(i));
                }
            }
        }};
    }
    match array.data_type() {
        DataType::Binary => walk!(array.as_binary::<i32>()),
        DataType::LargeBinary => walk!(array.as_binary::<i64>()),
        DataType::BinaryView => walk!(array.as_binary_view()),
        DataType::FixedSizeBinary(_) => walk!(array.as_fixed_size_binary()),
        _ => return each_text(site, |site, i, value| f(site, i, value.as_bytes())),
    }
    Ok(())
}

pub(super) fn text(site: &mut Site<'_>) -> Result<Data, EncodeError> {
    if !is_text(site.array.data_type()) {
        each_bytes(site, |site, i, value| {
            if std::str::from_utf8(value).is_err() {
                site.reject(i, UTF8);
            }
        })?;
    }
    bytes(site)
}

/// The bytes as they are: no copy, whatever the Arrow type.
pub(super) fn bytes(site: &mut Site<'_>) -> Result<Data, EncodeError> {
    let array = site.array;
    Ok(match array.data_type() {
        DataType::Utf8 => {
            let a = array.as_string::<i32>();
            Data::Bytes(a.offsets().clone(), a.values().clone())
        }
        DataType::LargeUtf8 => {
            let a = array.as_string::<i64>();
            Data::LargeBytes(a.offsets().clone(), a.values().clone())
        }
        DataType::Binary => {
            let a = array.as_binary::<i32>();
            Data::Bytes(a.offsets().clone(), a.values().clone())
        }
        DataType::LargeBinary => {
            let a = array.as_binary::<i64>();
            Data::LargeBytes(a.offsets().clone(), a.values().clone())
        }
        DataType::BinaryView => views(array.as_binary_view().clone()),
        DataType::Utf8View => views(array.as_string_view().clone().to_binary_view()),
        DataType::FixedSizeBinary(_) => {
            let a = array.as_fixed_size_binary();
            let size = usize::try_from(a.value_length()).unwrap_or(0);
            let offsets = OffsetBuffer::<i64>::from_lengths(std::iter::repeat_n(size, a.len()));
            Data::LargeBytes(offsets, fixed_values(a))
        }
        _ => return Err(site.malformed()),
    })
}

/// Views, with room behind short buffers: texts are copied in pieces larger than they are, for which there is no room at
/// the end of a buffer. Those of a column that says the same few over and over all lie there.
fn views(array: BinaryViewArray) -> Data {
    const SHORT: usize = 1024;
    const ROOM: usize = 64;
    let buffer = |buffer: &Buffer| match buffer.len() {
        0..SHORT => [&buffer[..], &[0; ROOM]].concat().into(),
        _ => buffer.clone(),
    };
    let buffers = array.data_buffers().iter().map(buffer).collect();
    Data::View(array, buffers)
}

fn fixed_values(array: &arrow_array::FixedSizeBinaryArray) -> Buffer {
    // value_data() is of the slice already.
    array.values().clone()
}

pub(super) fn fixed(site: &mut Site<'_>, size: usize) -> Result<Data, EncodeError> {
    if let Some(array) = site.array.as_fixed_size_binary_opt() {
        return Ok(Data::Fixed(size, fixed_values(array)));
    }
    let mut out = zeros(site.array.len(), size)?;
    each_bytes(site, |site, i, value| {
        match out.get_mut(i * size..(i + 1) * size) {
            Some(slot) if value.len() == size => slot.copy_from_slice(value),
            _ => site.reject(i, of_size(size)),
        }
    })?;
    Ok(Data::Fixed(size, out.into()))
}

pub(super) fn symbols(site: &mut Site<'_>, e: &EnumType) -> Result<ScalarBuffer<i32>, EncodeError> {
    let numbers: HashMap<&str, i32> = e.symbols.iter().map(String::as_str).zip(0..).collect();
    let mut out = vec![0; site.array.len()];
    each_text(site, |site, i, value| match numbers.get(value) {
        Some(number) => out[i] = *number,
        None => site.reject(i, symbol(&e.name)),
    })?;
    Ok(out.into())
}

/// Uuids, from text or from 16 bytes, to a fixed or to text.
pub(super) fn uuids(site: &mut Site<'_>, to_fixed: bool) -> Result<Data, EncodeError> {
    const BAD: &str = "not a uuid (8-4-4-4-12 hexadecimal digits)";
    let from_text = is_text(site.array.data_type());
    if from_text && !to_fixed {
        each_text(site, |site, i, value| {
            if uuid::parse(value).is_none() {
                site.reject(i, BAD);
            }
        })?;
        return bytes(site);
    }
    if !from_text && to_fixed {
        return fixed(site, 16);
    }
    if from_text {
        let mut out = vec![0; site.array.len().saturating_mul(16)];
        each_text(site, |site, i, value| match uuid::parse(value) {
            Some(bytes) => out[i * 16..(i + 1) * 16].copy_from_slice(&bytes),
            None => site.reject(i, BAD),
        })?;
        return Ok(Data::Fixed(16, out.into()));
    }
    let mut out = vec![0; site.array.len().saturating_mul(36)];
    each_bytes(site, |site, i, value| match value.try_into() {
        Ok(bytes) => out[i * 36..(i + 1) * 36].copy_from_slice(&uuid::text(bytes)),
        Err(_) => site.reject(i, of_size(16)),
    })?;
    let offsets = OffsetBuffer::<i64>::from_lengths(std::iter::repeat_n(36, site.array.len()));
    Ok(Data::LargeBytes(offsets, out.into()))
}

pub(super) fn timestamps(
    site: &mut Site<'_>,
    unit: SubSecond,
    zone: &TextZone,
    lossy: Option<Lossy>,
) -> Result<ScalarBuffer<i64>, EncodeError> {
    let counts = convert_text(site, |text| {
        let reading = Reading::parse(text)?;
        let offset = match (zone, reading.offset) {
            (TextZone::Refused, Some(_)) => {
                return Err(A_ZONE);
            }
            (TextZone::Refused, None) => 0,
            (_, Some(offset)) => offset,
            (TextZone::Assumed(zone), None) => zone.offset_of_reading(reading.seconds)?,
            (TextZone::Required, None) => {
                return Err(NO_ZONE);
            }
        };
        reading.count(unit, offset, lossy)
    })?;
    Ok(counts.into())
}
