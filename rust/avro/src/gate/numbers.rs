//! Numbers to int, long, float and double.

use std::fmt::Display;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_buffer::{BooleanBuffer, ScalarBuffer, i256};
use arrow_schema::DataType;

use super::Site;
use super::decimals::rescale_256;
use super::digits::{self, Digits, Float, Misfit};
use super::text::convert_text;
use crate::cpu::{self, Work};
use crate::error::EncodeError;
use crate::plan::{Lossy, is_text};
use crate::reasons::*;

/// 2^63 as a float: the first that is too large for a long.
const TWO_63: f64 = 9_223_372_036_854_775_808.0;

/// Converts every value; the ones that can't be are rejected, unless null.
pub(super) fn convert<A: ArrowPrimitiveType, T: Copy + Default>(
    site: &mut Site<'_>,
    f: impl Fn(A::Native) -> Result<T, &'static str>,
) -> Result<Vec<T>, EncodeError> {
    let fast = |v| f(v).map_or((T::default(), false), |converted| (converted, true));
    convert_by::<A, T>(site, |values| Pass { values, fast }.run(), &f)
}

/// The common pass is one straight loop, which says of all values whether they are right; a second one, made if not all
/// are, asks which, and whether they are null.
fn convert_by<A: ArrowPrimitiveType, T: Copy + Default>(
    site: &mut Site<'_>,
    pass: impl FnOnce(&[A::Native]) -> (Vec<T>, bool),
    f: impl Fn(A::Native) -> Result<T, &'static str>,
) -> Result<Vec<T>, EncodeError> {
    let array = site
        .array
        .as_primitive_opt::<A>()
        .ok_or_else(|| site.malformed())?;
    let (out, all) = pass(array.values());
    if !all {
        for (i, value) in array.values().iter().enumerate() {
            if let Err(reason) = f(*value) {
                site.reject(i, reason);
            }
        }
    }
    Ok(out)
}

/// Values, and what converts one and says whether it is right.
struct Pass<'a, N, F> {
    values: &'a [N],
    fast: F,
}

impl<N: Copy, T, F: Fn(N) -> (T, bool)> Work for Pass<'_, N, F> {
    type Done = (Vec<T>, bool);

    #[inline(always)]
    fn run(self) -> Self::Done {
        let mut all = true;
        let mut out = Vec::with_capacity(self.values.len());
        out.extend(self.values.iter().map(|value| {
            let (converted, is_right) = (self.fast)(*value);
            all &= is_right;
            converted
        }));
        (out, all)
    }
}

fn whole(v: f64) -> Result<(), &'static str> {
    if v.is_nan() {
        Err("NaN is not a whole number, and is not taken as null")
    } else if v.is_infinite() {
        Err("infinite")
    } else if v.fract() != 0.0 {
        Err(WHOLE)
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

/// The low bits of a sum with 1.5 · 2^52 are the whole number itself, if it is one that an int can be: a cast would look
/// at each value alone.
#[inline(always)]
fn float_to_int_fast(v: f64) -> (i32, bool) {
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    let converted = (v + SHIFT).to_bits() as i32;
    (converted, f64::from(converted) == v)
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

/// Converts floats of any width, as doubles.
fn each_float<T: Copy + Default>(
    site: &mut Site<'_>,
    f: impl Fn(f64) -> Result<T, &'static str>,
) -> Result<Vec<T>, EncodeError> {
    match site.array.data_type() {
        DataType::Float16 => convert::<Float16Type, _>(site, |v| f(v.to_f64())),
        DataType::Float32 => convert::<Float32Type, _>(site, |v| f(v.into())),
        _ => convert::<Float64Type, _>(site, f),
    }
}

/// Booleans as 0 and 1.
fn bits<T: From<bool>>(site: &Site<'_>) -> Result<Vec<T>, EncodeError> {
    let array = site
        .array
        .as_boolean_opt()
        .ok_or_else(|| site.malformed())?;
    Ok(array.values().iter().map(T::from).collect())
}

/// Decimals and text to long; `range` says what they are out of.
fn exact_longs(
    site: &mut Site<'_>,
    lossy: Option<Lossy>,
    range: &'static str,
) -> Result<Vec<i64>, EncodeError> {
    let long = |v: i256| v.to_i128().and_then(|v| i64::try_from(v).ok()).ok_or(range);
    let f = |v: i256, scale| long(rescale_256(v, scale, 0, lossy, WHOLE, range)?);
    match *site.array.data_type() {
        DataType::Decimal32(_, s) => {
            convert::<Decimal32Type, _>(site, |v| f(i256::from_i128(v.into()), s))
        }
        DataType::Decimal64(_, s) => {
            convert::<Decimal64Type, _>(site, |v| f(i256::from_i128(v.into()), s))
        }
        DataType::Decimal128(_, s) => {
            convert::<Decimal128Type, _>(site, |v| f(i256::from_i128(v), s))
        }
        DataType::Decimal256(_, s) => convert::<Decimal256Type, _>(site, |v| f(v, s)),
        _ => convert_text(site, |text| {
            if let Ok(v) = text.parse() {
                return Ok(v);
            }
            let digits = Digits::parse(text).ok_or(NUMBER)?;
            long(digits.scaled(0, lossy).map_err(|misfit| match misfit {
                Misfit::Loss => WHOLE,
                Misfit::Range => range,
            })?)
        }),
    }
}

/// Decimals and text to a float: by the text of a decimal, since that alone is sure to be read to the nearest.
fn exact_floats<F: Float>(
    site: &mut Site<'_>,
    nearest: bool,
    range: &'static str,
) -> Result<Vec<F>, EncodeError> {
    let f = |v: &dyn Display, scale: i8| {
        digits::float(&format!("{v}e{}", -i32::from(scale)), nearest, range)
    };
    match *site.array.data_type() {
        DataType::Decimal32(_, s) => convert::<Decimal32Type, _>(site, |v| f(&v, s)),
        DataType::Decimal64(_, s) => convert::<Decimal64Type, _>(site, |v| f(&v, s)),
        DataType::Decimal128(_, s) => convert::<Decimal128Type, _>(site, |v| f(&v, s)),
        DataType::Decimal256(_, s) => convert::<Decimal256Type, _>(site, |v| f(&v, s)),
        _ => convert_text(site, |text| digits::float(text, nearest, range)),
    }
}

pub(super) fn ints(
    site: &mut Site<'_>,
    lossy: Option<Lossy>,
) -> Result<ScalarBuffer<i32>, EncodeError> {
    Ok(match site.array.data_type() {
        DataType::Int32 => site.array.as_primitive::<Int32Type>().values().clone(),
        DataType::Int8 => convert::<Int8Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::Int16 => convert::<Int16Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt8 => convert::<UInt8Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt16 => convert::<UInt16Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::Int64 => {
            let fast = |v: i64| (v as i32, i64::from(v as i32) == v);
            let pass = |values: &_| cpu::run(Pass { values, fast });
            convert_by::<Int64Type, _>(site, pass, |v| i32::try_from(v).map_err(|_| INT))?.into()
        }
        DataType::UInt32 => {
            convert::<UInt32Type, _>(site, |v| i32::try_from(v).map_err(|_| INT))?.into()
        }
        DataType::UInt64 => {
            convert::<UInt64Type, _>(site, |v| i32::try_from(v).map_err(|_| INT))?.into()
        }
        DataType::Boolean => bits(site)?.into(),
        DataType::Float64 if lossy.is_none() => {
            let fast = float_to_int_fast;
            let pass = |values: &_| cpu::run(Pass { values, fast });
            convert_by::<Float64Type, _>(site, pass, float_to_int)?.into()
        }
        t if t.is_floating() => match lossy {
            None => each_float(site, float_to_int)?.into(),
            Some(lossy) => each_float(site, |v| float_to_int(lossy.whole(v)))?.into(),
        },
        _ => {
            let mut out = Vec::with_capacity(site.array.len());
            for (i, v) in exact_longs(site, lossy, INT)?.into_iter().enumerate() {
                out.push(i32::try_from(v).unwrap_or_else(|_| {
                    site.reject(i, INT);
                    0
                }));
            }
            out.into()
        }
    })
}

pub(super) fn longs(
    site: &mut Site<'_>,
    lossy: Option<Lossy>,
) -> Result<ScalarBuffer<i64>, EncodeError> {
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
        DataType::Boolean => bits(site)?.into(),
        t if t.is_floating() => match lossy {
            None => each_float(site, float_to_long)?.into(),
            Some(lossy) => each_float(site, |v| float_to_long(lossy.whole(v)))?.into(),
        },
        _ => exact_longs(site, lossy, LONG)?.into(),
    })
}

fn to_float(v: i128, nearest: bool) -> Result<f32, &'static str> {
    let converted = v as f32;
    if nearest || converted as i128 == v {
        Ok(converted)
    } else {
        Err(NO_FLOAT)
    }
}

fn to_double(v: i128, nearest: bool) -> Result<f64, &'static str> {
    let converted = v as f64;
    if nearest || converted as i128 == v {
        Ok(converted)
    } else {
        Err(NO_DOUBLE)
    }
}

pub(super) fn floats(site: &mut Site<'_>, nearest: bool) -> Result<ScalarBuffer<f32>, EncodeError> {
    Ok(match site.array.data_type() {
        DataType::Float32 => site.array.as_primitive::<Float32Type>().values().clone(),
        DataType::Float16 => convert::<Float16Type, _>(site, |v| Ok(v.to_f32()))?.into(),
        DataType::Float64 => convert::<Float64Type, _>(site, |v| {
            let converted = v as f32;
            // NaN is a value of both types.
            if f64::from(converted) == v || v.is_nan() {
                Ok(converted)
            } else if converted.is_infinite() {
                Err(FLOAT)
            } else if nearest {
                Ok(converted)
            } else {
                Err(NO_FLOAT)
            }
        })?
        .into(),
        DataType::Int8 => convert::<Int8Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::Int16 => convert::<Int16Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt8 => convert::<UInt8Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::UInt16 => convert::<UInt16Type, _>(site, |v| Ok(v.into()))?.into(),
        DataType::Int32 => convert::<Int32Type, _>(site, |v| to_float(v.into(), nearest))?.into(),
        DataType::UInt32 => convert::<UInt32Type, _>(site, |v| to_float(v.into(), nearest))?.into(),
        DataType::Int64 => convert::<Int64Type, _>(site, |v| to_float(v.into(), nearest))?.into(),
        DataType::UInt64 => convert::<UInt64Type, _>(site, |v| to_float(v.into(), nearest))?.into(),
        _ => exact_floats(site, nearest, FLOAT)?.into(),
    })
}

pub(super) fn doubles(
    site: &mut Site<'_>,
    nearest: bool,
) -> Result<ScalarBuffer<f64>, EncodeError> {
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
        DataType::Int64 => convert::<Int64Type, _>(site, |v| to_double(v.into(), nearest))?.into(),
        DataType::UInt64 => {
            convert::<UInt64Type, _>(site, |v| to_double(v.into(), nearest))?.into()
        }
        _ => exact_floats(site, nearest, DOUBLE)?.into(),
    })
}

/// Booleans, and what stands for them: 0 and 1, or words.
pub(super) fn booleans(site: &mut Site<'_>) -> Result<BooleanBuffer, EncodeError> {
    if let Some(array) = site.array.as_boolean_opt() {
        return Ok(array.values().clone());
    }
    if is_text(site.array.data_type()) {
        let bits = convert_text(site, |text| {
            let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
            if is(&["true", "t", "yes", "y", "1"]) {
                Ok(true)
            } else if is(&["false", "f", "no", "n", "0"]) {
                Ok(false)
            } else {
                Err("not a boolean (true or false, t or f, yes or no, y or n, 1 or 0)")
            }
        })?;
        return Ok(bits.into());
    }
    let numbers = longs(site, None)?;
    for (i, number) in numbers.iter().enumerate() {
        if !matches!(number, 0 | 1) {
            site.reject(i, BIT);
        }
    }
    Ok(numbers.iter().map(|number| *number == 1).collect())
}
