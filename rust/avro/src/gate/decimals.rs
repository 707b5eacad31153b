//! Decimals, integers, floats and text to decimal.

use std::fmt::LowerExp;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrowNativeTypeOp};
use arrow_buffer::{OffsetBuffer, ScalarBuffer, i256};
use arrow_schema::DataType;

use super::digits::{Digits, Misfit};
use super::numbers::convert;
use super::text::convert_text;
use super::{Data, Site, zeros};
use crate::cpu;
use crate::error::EncodeError;
use crate::plan::Lossy;
use crate::reasons::*;
use crate::types::DecimalType;

/// 10^n, if it fits.
fn ten_to(n: u32) -> Option<i256> {
    if n <= 38 {
        return Some(i256::from_i128(10_i128.pow(n)));
    }
    i256::from_i128(10).pow_checked(n).ok()
}

/// Moves the point from `from` digits to `to`; what that would lose is an error, unless a loss is declared.
pub(super) fn rescale_256(
    v: i256,
    from: i8,
    to: i64,
    lossy: Option<Lossy>,
    loss: &'static str,
    range: &'static str,
) -> Result<i256, &'static str> {
    let shift = to - i64::from(from);
    if shift == 0 || v == i256::ZERO {
        return Ok(v);
    }
    // Scales lie between -128 and 127.
    let by = shift.unsigned_abs() as u32;
    if shift > 0 {
        let factor = ten_to(by).ok_or(range)?;
        return v.mul_checked(factor).map_err(|_| range);
    }
    let Some(factor) = ten_to(by) else {
        // A power of ten that doesn't fit is more than twice any number of 76 digits.
        return match lossy {
            Some(_) if has_digits(v, 76) => Ok(i256::ZERO),
            Some(_) => Err(range),
            None => Err(loss),
        };
    };
    let (quotient, rest) = (
        v.checked_div(factor).ok_or(loss)?,
        v.checked_rem(factor).ok_or(loss)?,
    );
    if rest == i256::ZERO {
        return Ok(quotient);
    }
    let half = factor.wrapping_sub(rest.wrapping_abs()) <= rest.wrapping_abs();
    match lossy.ok_or(loss)? {
        Lossy::Round if half && v.is_negative() => Ok(quotient.wrapping_sub(i256::ONE)),
        Lossy::Round if half => Ok(quotient.wrapping_add(i256::ONE)),
        Lossy::Round | Lossy::Truncate => Ok(quotient),
    }
}

/// The same for 128 bits, which most decimals fit in; `None` where it takes more, or is not exact.
fn rescale_128(v: i128, from: i8, to: i64) -> Option<i128> {
    let shift = to - i64::from(from);
    let factor = 10_i128.checked_pow(u32::try_from(shift.unsigned_abs()).ok()?)?;
    if shift >= 0 {
        return v.checked_mul(factor);
    }
    (v % factor == 0).then(|| v / factor)
}

/// Whether a number has at most `precision` digits.
pub(crate) fn has_digits(v: i256, precision: usize) -> bool {
    let limit = u32::try_from(precision)
        .ok()
        .and_then(ten_to)
        .unwrap_or(i256::MAX);
    v != i256::MIN && v < limit && v.wrapping_neg() < limit
}

/// What a decimal field takes.
struct Target {
    scale: i64,
    precision: usize,
    /// 10^precision, if 128 bits hold it: values lie strictly between its negative and it.
    limit_128: Option<i128>,
    lossy: Option<Lossy>,
}

impl Target {
    fn new(to: DecimalType, lossy: Option<Lossy>) -> Self {
        // Precisions above 76 are refused when a schema is parsed, so 10^precision fits.
        let limit_128 = u32::try_from(to.precision)
            .ok()
            .and_then(ten_to)
            .and_then(i256::to_i128);
        Self {
            scale: i64::try_from(to.scale).unwrap_or(i64::MAX),
            precision: to.precision,
            limit_128,
            lossy,
        }
    }

    fn small(&self, v: i128, from: i8) -> Result<i256, &'static str> {
        match (rescale_128(v, from, self.scale), self.limit_128) {
            (Some(v), Some(limit)) if -limit < v && v < limit => Ok(i256::from_i128(v)),
            _ => self.large(i256::from_i128(v), from),
        }
    }

    fn large(&self, v: i256, from: i8) -> Result<i256, &'static str> {
        self.fits(rescale_256(
            v, from, self.scale, self.lossy, PRECISION, OF_DECIMAL,
        )?)
    }

    fn fits(&self, v: i256) -> Result<i256, &'static str> {
        has_digits(v, self.precision).then_some(v).ok_or(OF_DECIMAL)
    }

    fn text(&self, text: &str) -> Result<i256, &'static str> {
        let digits = Digits::parse(text).ok_or(DECIMAL)?;
        let scaled = digits.scaled(self.scale, self.lossy);
        self.fits(scaled.map_err(|misfit| match misfit {
            Misfit::Loss => PRECISION,
            Misfit::Range => OF_DECIMAL,
        })?)
    }

    /// By the fewest digits that read back as the same float.
    fn float(&self, v: impl LowerExp, finite: bool, nan: bool) -> Result<i256, &'static str> {
        match (finite, nan) {
            (true, _) => self.text(&format!("{v:e}")),
            (_, true) => Err("NaN is no decimal number, and is not taken as null"),
            _ => Err("infinite"),
        }
    }
}

pub(super) fn decimals(
    site: &mut Site<'_>,
    to: DecimalType,
    lossy: Option<Lossy>,
) -> Result<Data, EncodeError> {
    if let Some(values) = unscaled(site.array, to) {
        return Ok(Data::Unscaled(values.into()));
    }
    let t = Target::new(to, lossy);
    let values: Vec<i256> = match *site.array.data_type() {
        DataType::Decimal32(_, s) => convert::<Decimal32Type, _>(site, |v| t.small(v.into(), s))?,
        DataType::Decimal64(_, s) => convert::<Decimal64Type, _>(site, |v| t.small(v.into(), s))?,
        DataType::Decimal128(_, s) => convert::<Decimal128Type, _>(site, |v| t.small(v, s))?,
        DataType::Decimal256(_, s) => convert::<Decimal256Type, _>(site, |v| t.large(v, s))?,
        DataType::Int8 => convert::<Int8Type, _>(site, |v| t.small(v.into(), 0))?,
        DataType::Int16 => convert::<Int16Type, _>(site, |v| t.small(v.into(), 0))?,
        DataType::Int32 => convert::<Int32Type, _>(site, |v| t.small(v.into(), 0))?,
        DataType::Int64 => convert::<Int64Type, _>(site, |v| t.small(v.into(), 0))?,
        DataType::UInt8 => convert::<UInt8Type, _>(site, |v| t.small(v.into(), 0))?,
        DataType::UInt16 => convert::<UInt16Type, _>(site, |v| t.small(v.into(), 0))?,
        DataType::UInt32 => convert::<UInt32Type, _>(site, |v| t.small(v.into(), 0))?,
        DataType::UInt64 => convert::<UInt64Type, _>(site, |v| t.small(v.into(), 0))?,
        DataType::Float16 => {
            convert::<Float16Type, _>(site, |v| t.float(v.to_f32(), v.is_finite(), v.is_nan()))?
        }
        DataType::Float32 => {
            convert::<Float32Type, _>(site, |v| t.float(v, v.is_finite(), v.is_nan()))?
        }
        DataType::Float64 => {
            convert::<Float64Type, _>(site, |v| t.float(v, v.is_finite(), v.is_nan()))?
        }
        _ => convert_text(site, |text| t.text(text))?,
    };
    Ok(match to.fixed {
        Some(size) => fixed(site, &values, size)?,
        None => variable(&values),
    })
}

/// The digits of a decimal of the same scale, if all of them are in range and fit into 64 bits: then there is nothing to
/// move, to reject or to widen.
fn unscaled(array: &dyn Array, to: DecimalType) -> Option<Vec<i64>> {
    fn all<T: Copy + Into<i128>>(values: &[T], precision: usize) -> Option<Vec<i64>> {
        let limit = 10_i64.checked_pow(u32::try_from(precision).ok()?);
        let limit = limit.unwrap_or(i64::MAX).unsigned_abs();
        let (longs, most) = cpu::run(Longs(values))?;
        (most < limit).then_some(longs)
    }
    if to.fixed.is_some() {
        return None;
    }
    match *array.data_type() {
        DataType::Decimal32(_, s) if usize::try_from(s) == Ok(to.scale) => {
            all(array.as_primitive::<Decimal32Type>().values(), to.precision)
        }
        DataType::Decimal64(_, s) if usize::try_from(s) == Ok(to.scale) => {
            all(array.as_primitive::<Decimal64Type>().values(), to.precision)
        }
        DataType::Decimal128(_, s) if usize::try_from(s) == Ok(to.scale) => all(
            array.as_primitive::<Decimal128Type>().values(),
            to.precision,
        ),
        _ => None,
    }
}

/// Digits as longs, if all of them fit, and the largest without its sign.
struct Longs<'a, T>(&'a [T]);

impl<T: Copy + Into<i128>> cpu::Work for Longs<'_, T> {
    type Done = Option<(Vec<i64>, u64)>;

    #[inline(always)]
    fn run(self) -> Self::Done {
        // Bits of what doesn't fit into a long: two comparisons of 128 bits a value would cost more.
        let (mut lost, mut most) = (0_i128, 0_u64);
        let mut longs = Vec::with_capacity(self.0.len());
        longs.extend(self.0.iter().map(|v| {
            let v: i128 = (*v).into();
            let long = v as i64;
            lost |= v ^ i128::from(long);
            most = most.max(long.unsigned_abs());
            long
        }));
        (lost == 0).then_some((longs, most))
    }
}

/// Two's complement, big-endian, in as few bytes as hold the sign.
fn variable(values: &[i256]) -> Data {
    let mut bytes = Vec::with_capacity(values.len() * 8);
    let mut offsets = Vec::with_capacity(values.len() + 1);
    offsets.push(0_i64);
    for value in values {
        let be = value.to_be_bytes();
        bytes.extend_from_slice(&be[redundant(&be)..]);
        offsets.push(bytes.len() as i64);
    }
    Data::LargeBytes(OffsetBuffer::new(ScalarBuffer::from(offsets)), bytes.into())
}

/// Two's complement, big-endian, sign-extended to the size.
fn fixed(site: &mut Site<'_>, values: &[i256], size: usize) -> Result<Data, EncodeError> {
    let mut bytes = zeros(values.len(), size)?;
    // A chunk has at least one byte; of a fixed of none there is nothing to fill.
    let mut slots = bytes.chunks_exact_mut(size.max(1));
    for (i, value) in values.iter().enumerate() {
        let be = value.to_be_bytes();
        let needed = be.len() - redundant(&be);
        if needed > size {
            site.reject(i, OF_DECIMAL);
        }
        let Some(slot) = slots.next().filter(|slot| needed <= slot.len()) else {
            continue;
        };
        let (lead, low) = slot.split_at_mut(size - needed);
        lead.fill(if value.is_negative() { 0xff } else { 0 });
        low.copy_from_slice(&be[be.len() - needed..]);
    }
    Ok(Data::Fixed(size, bytes.into()))
}

/// How many leading bytes only repeat the sign; at least one byte is left.
fn redundant(be: &[u8; 32]) -> usize {
    let sign = if be[0] & 0x80 == 0 { 0 } else { 0xff };
    let mut n = 0;
    while n < 31 && be[n] == sign && (be[n + 1] & 0x80) == (sign & 0x80) {
        n += 1;
    }
    n
}
