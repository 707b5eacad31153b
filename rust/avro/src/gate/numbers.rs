//! Numbers to int, long, float and double.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_buffer::{ScalarBuffer, i256};
use arrow_schema::DataType;

use super::{Site, decimals};
use crate::error::EncodeError;

/// 2^63 as a float: the first that is too large for a long.
const TWO_63: f64 = 9_223_372_036_854_775_808.0;

/// Converts every value; the ones that can't be are rejected, unless null. The common pass is one straight loop that
/// only learns whether all could be; a second one, made if not, asks which, and whether they are null.
pub(super) fn convert<A: ArrowPrimitiveType, T: Copy + Default>(
    site: &mut Site<'_>,
    f: impl Fn(A::Native) -> Result<T, &'static str>,
) -> Result<Vec<T>, EncodeError> {
    let array = site
        .array
        .as_primitive_opt::<A>()
        .ok_or_else(|| site.malformed())?;
    let mut all = true;
    let out = array
        .values()
        .iter()
        .map(|value| {
            let converted = f(*value);
            all &= converted.is_ok();
            converted.unwrap_or_default()
        })
        .collect();
    if !all {
        for (i, value) in array.values().iter().enumerate() {
            if let Err(reason) = f(*value) {
                site.reject(i, reason);
            }
        }
    }
    Ok(out)
}

fn whole(v: f64) -> Result<(), &'static str> {
    if v.is_nan() {
        Err("NaN is not a whole number, and is not taken as null")
    } else if v.is_infinite() {
        Err("infinite")
    } else if v.fract() != 0.0 {
        Err("not a whole number")
    } else {
        Ok(())
    }
}

fn float_to_int(v: f64) -> Result<i32, &'static str> {
    let converted = v as i32;
    if f64::from(converted) == v {
        Ok(converted)
    } else {
        whole(v).and(Err(INT))
    }
}

fn float_to_long(v: f64) -> Result<i64, &'static str> {
    let converted = v as i64;
    // i64::MAX as a float is 2^63, which is no long.
    if converted as f64 == v && v < TWO_63 {
        Ok(converted)
    } else {
        whole(v).and(Err(LONG))
    }
}

const INT: &str = "out of range of int";
const LONG: &str = "out of range of long";

/// Decimals as longs; `range` says what they are out of.
fn decimal_longs(site: &mut Site<'_>, range: &'static str) -> Result<Vec<i64>, EncodeError> {
    let long = |v: i256, scale| {
        decimals::rescale_256(v, scale, 0, "not a whole number", range)?
            .to_i128()
            .and_then(|v| i64::try_from(v).ok())
            .ok_or(range)
    };
    let small = |v: i128, scale| long(i256::from_i128(v), scale);
    match *site.array.data_type() {
        DataType::Decimal32(_, s) => convert::<Decimal32Type, _>(site, |v| small(v.into(), s)),
        DataType::Decimal64(_, s) => convert::<Decimal64Type, _>(site, |v| small(v.into(), s)),
        DataType::Decimal128(_, s) => convert::<Decimal128Type, _>(site, |v| small(v, s)),
        DataType::Decimal256(_, s) => convert::<Decimal256Type, _>(site, |v| long(v, s)),
        _ => Err(site.malformed()),
    }
}

pub(super) fn ints(site: &mut Site<'_>) -> Result<ScalarBuffer<i32>, EncodeError> {
    Ok(match site.array.data_type() {
        DataType::Int32 => site.array.as_primitive::<Int32Type>().values().clone(),
        DataType::Int8 => convert::<Int8Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::Int16 => convert::<Int16Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt8 => convert::<UInt8Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt16 => convert::<UInt16Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::Int64 => {
            convert::<Int64Type, _>(site, |v| i32::try_from(v).map_err(|_| INT))?.into()
        }
        DataType::UInt32 => {
            convert::<UInt32Type, _>(site, |v| i32::try_from(v).map_err(|_| INT))?.into()
        }
        DataType::UInt64 => {
            convert::<UInt64Type, _>(site, |v| i32::try_from(v).map_err(|_| INT))?.into()
        }
        DataType::Float16 => convert::<Float16Type, _>(site, |v| float_to_int(v.to_f64()))?.into(),
        DataType::Float32 => convert::<Float32Type, _>(site, |v| float_to_int(v.into()))?.into(),
        DataType::Float64 => convert::<Float64Type, _>(site, float_to_int)?.into(),
        _ => {
            let mut out = Vec::with_capacity(site.array.len());
            for (i, v) in decimal_longs(site, INT)?.into_iter().enumerate() {
                out.push(i32::try_from(v).unwrap_or_else(|_| {
                    site.reject(i, INT);
                    0
                }));
            }
            out.into()
        }
    })
}

pub(super) fn longs(site: &mut Site<'_>) -> Result<ScalarBuffer<i64>, EncodeError> {
    Ok(match site.array.data_type() {
        DataType::Int64 => site.array.as_primitive::<Int64Type>().values().clone(),
        DataType::Int8 => convert::<Int8Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::Int16 => convert::<Int16Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::Int32 => convert::<Int32Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt8 => convert::<UInt8Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt16 => convert::<UInt16Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt32 => convert::<UInt32Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt64 => {
            convert::<UInt64Type, _>(site, |v| i64::try_from(v).map_err(|_| LONG))?.into()
        }
        DataType::Float16 => convert::<Float16Type, _>(site, |v| float_to_long(v.to_f64()))?.into(),
        DataType::Float32 => convert::<Float32Type, _>(site, |v| float_to_long(v.into()))?.into(),
        DataType::Float64 => convert::<Float64Type, _>(site, float_to_long)?.into(),
        _ => decimal_longs(site, LONG)?.into(),
    })
}

fn to_float(v: i128) -> Result<f32, &'static str> {
    let converted = v as f32;
    if converted as i128 == v {
        Ok(converted)
    } else {
        Err("not exactly representable as float")
    }
}

fn to_double(v: i128) -> Result<f64, &'static str> {
    let converted = v as f64;
    if converted as i128 == v {
        Ok(converted)
    } else {
        Err("not exactly representable as double")
    }
}

pub(super) fn floats(site: &mut Site<'_>) -> Result<ScalarBuffer<f32>, EncodeError> {
    Ok(match site.array.data_type() {
        DataType::Float32 => site.array.as_primitive::<Float32Type>().values().clone(),
        DataType::Float16 => convert::<Float16Type, _>(site, |v| Ok(v.to_f32()))?.into(),
        DataType::Float64 => convert::<Float64Type, _>(site, |v| {
            let converted = v as f32;
            // NaN is a value of both types.
            if f64::from(converted) == v || v.is_nan() {
                Ok(converted)
            } else {
                Err("not exactly representable as float")
            }
        })?
        .into(),
        DataType::Int8 => convert::<Int8Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::Int16 => convert::<Int16Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt8 => convert::<UInt8Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt16 => convert::<UInt16Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::Int32 => convert::<Int32Type, _>(site, |v| to_float(v.into()))?.into(),
        DataType::UInt32 => convert::<UInt32Type, _>(site, |v| to_float(v.into()))?.into(),
        DataType::Int64 => convert::<Int64Type, _>(site, |v| to_float(v.into()))?.into(),
        DataType::UInt64 => convert::<UInt64Type, _>(site, |v| to_float(v.into()))?.into(),
        _ => return Err(site.malformed()),
    })
}

pub(super) fn doubles(site: &mut Site<'_>) -> Result<ScalarBuffer<f64>, EncodeError> {
    Ok(match site.array.data_type() {
        DataType::Float64 => site.array.as_primitive::<Float64Type>().values().clone(),
        DataType::Float16 => convert::<Float16Type, _>(site, |v| Ok(v.to_f64()))?.into(),
        DataType::Float32 => convert::<Float32Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::Int8 => convert::<Int8Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::Int16 => convert::<Int16Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::Int32 => convert::<Int32Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt8 => convert::<UInt8Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt16 => convert::<UInt16Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt32 => convert::<UInt32Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::Int64 => convert::<Int64Type, _>(site, |v| to_double(v.into()))?.into(),
        DataType::UInt64 => convert::<UInt64Type, _>(site, |v| to_double(v.into()))?.into(),
        _ => return Err(site.malformed()),
    })
}
