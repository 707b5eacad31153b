//! Decimal numbers as text, of any length, read exactly.

use std::fmt::LowerExp;
use std::str::FromStr;

use arrow_array::ArrowNativeTypeOp;
use arrow_buffer::i256;

use crate::plan::Lossy;
use crate::reasons::{NUMBER, PRECISION};

/// Past this no digit counts, and no exponent is worth knowing.
const FAR: i64 = 1 << 40;

/// A number: its digits, times ten to the exponent. Neither the first digit nor the last is zero; zero has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digits {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

/// Why a number is no integer of 256 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Digits would be lost.
    Loss,
    /// Too many digits.
    Range,
}

impl Digits {
    /// `[+-]digits[.digits][e[+-]digits]`, spaces around it allowed; `None` if it is no such thing.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().as_bytes();
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let (number, mut exponent) = match rest.iter().position(|c| matches!(c, b'e' | b'E')) {
            Some(at) => (&rest[..at], parse_exponent(&rest[at + 1..])?),
            None => (rest, 0),
        };
        let mut digits = Vec::with_capacity(number.len());
        let (mut any, mut point) = (false, false);
        for c in number {
            match c {
                b'.' if !point => point = true,
                b'0'..=b'9' => {
                    any = true;
                    exponent -= i64::from(point);
                    if *c != b'0' || !digits.is_empty() {
                        digits.push(c - b'0');
                    }
                }
                _ => return None,
            }
        }
        if !any {
            return None;
        }
        let zeros = digits.iter().rev().take_while(|d| **d == 0).count();
        digits.truncate(digits.len() - zeros);
        // No text is so long that its length overflows this.
        exponent += zeros as i64;
        if digits.is_empty() {
            exponent = 0;
        }
        Some(Self {
            negative: negative && !digits.is_empty(),
            digits,
            exponent,
        })
    }

    /// Digits before the point that `text`, which this was read from, spells out: zeros of a whole number are digits of
    /// it, and those of a power of ten are not.
    fn whole(&self, text: &str) -> usize {
        let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
        let digits = mantissa.bytes().filter(u8::is_ascii_digit);
        let spelled = digits.skip_while(|c| *c == b'0').count();
        let before = (self.digits.len() as i64).saturating_add(self.exponent);
        spelled.min(usize::try_from(before).unwrap_or(0))
    }

    /// The number times ten to the `scale`, as an integer.
    pub(super) fn scaled(&self, scale: i64, lossy: Option<Lossy>) -> Result<i256, Misfit> {
        let shift = self.exponent.saturating_add(scale);
        let (kept, zeros, up) = match usize::try_from(-shift) {
            Ok(cut @ 1..) => {
                let lossy = lossy.ok_or(Misfit::Loss)?;
                let kept = self.digits.len().saturating_sub(cut);
                let first_lost = match cut.cmp(&self.digits.len()) {
                    std::cmp::Ordering::Greater => 0,
                    _ => self.digits.get(kept).copied().unwrap_or(0),
                };
                (kept, 0, lossy == Lossy::Round && first_lost >= 5)
            }
            _ => (self.digits.len(), shift, false),
        };
        // 256 bits hold 77 digits at most.
        let zeros = match kept {
            0 => 0,
            _ if kept as i64 + zeros > 77 => return Err(Misfit::Range),
            _ => zeros as usize,
        };
        let mut value = i256::ZERO;
        for digit in self.digits[..kept].iter().chain(&[0; 77][..zeros]) {
            value = value
                .mul_checked(i256::from_i128(10))
                .and_then(|v| v.add_checked(i256::from_i128((*digit).into())))
                .map_err(|_| Misfit::Range)?;
        }
        if up {
            value = value.add_checked(i256::ONE).map_err(|_| Misfit::Range)?;
        }
        Ok(if self.negative {
            value.wrapping_neg()
        } else {
            value
        })
    }
}

fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_i64;
    for c in digits {
        if !c.is_ascii_digit() {
            return None;
        }
        value = (value * 10 + i64::from(c - b'0')).min(FAR);
    }
    Some(if negative { -value } else { value })
}

/// A binary floating-point number.
pub(super) trait Float: Copy + FromStr + LowerExp + Default {
    /// Every decimal number of so many digits is told apart from its neighbours.
    const DIGITS: usize;
    fn is_normal(self) -> bool;
    fn is_infinite(self) -> bool;
}

impl Float for f32 {
    const DIGITS: usize = f32::DIGITS as usize;
    fn is_normal(self) -> bool {
        f32::is_normal(self)
    }
    fn is_infinite(self) -> bool {
        f32::is_infinite(self)
    }
}

impl Float for f64 {
    const DIGITS: usize = f64::DIGITS as usize;
    fn is_normal(self) -> bool {
        f64::is_normal(self)
    }
    fn is_infinite(self) -> bool {
        f64::is_infinite(self)
    }
}

/// The float nearest to a number as text. It keeps what was written if, written with as many digits, it reads the
/// same; where it doesn't, it is taken only if `nearest` will do.
pub(super) fn float<F: Float>(
    text: &str,
    nearest: bool,
    range: &'static str,
) -> Result<F, &'static str> {
    let value: F = text.trim().parse().map_err(|_| NUMBER)?;
    // NaN and infinity, by name.
    let Some(written) = Digits::parse(text) else {
        return Ok(value);
    };
    if value.is_infinite() {
        return Err(range);
    }
    let count = written.digits.len().max(written.whole(text));
    let kept = nearest
        || count == 0
        || (count <= F::DIGITS && value.is_normal())
        || (count < 1_100 && Digits::parse(&format!("{value:.*e}", count - 1)) == Some(written));
    kept.then_some(value).ok_or(PRECISION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(text: &str, scale: i64, lossy: Option<Lossy>) -> Result<i128, Misfit> {
        let digits = Digits::parse(text).unwrap();
        digits.scaled(scale, lossy).map(|v| v.to_i128().unwrap())
    }

    #[test]
    fn numbers() {
        for (text, scale, value) in [
            ("517.0", 0, 517),
            (" -0.05 ", 2, -5),
            ("+1.5e3", 0, 1_500),
            (".5", 1, 5),
            ("5.", 0, 5),
            ("-0", 5, 0),
            ("0e99999999999999999999", 0, 0),
            ("12000E-3", 0, 12),
        ] {
            assert_eq!(scaled(text, scale, None), Ok(value), "{text}");
        }
        assert_eq!(scaled("0.5", 0, None), Err(Misfit::Loss));
        for bad in [
            "", " ", ".", "-", "1.2.3", "1e", "e5", "0x1", "1 2", "é", "1e5.0", "--1",
        ] {
            assert_eq!(Digits::parse(bad), None, "{bad}");
        }
        assert_eq!(scaled("1e77", 0, None), Err(Misfit::Range));
        assert_eq!(
            scaled("1e-99999999999999999999", 0, Some(Lossy::Round)),
            Ok(0)
        );
        assert_eq!(scaled("2.5", 0, Some(Lossy::Round)), Ok(3));
        assert_eq!(scaled("-2.5", 0, Some(Lossy::Round)), Ok(-3));
        assert_eq!(scaled("-2.9", 0, Some(Lossy::Truncate)), Ok(-2));
        assert_eq!(scaled("0.5", 0, Some(Lossy::Round)), Ok(1));
        assert_eq!(scaled("0.05", 0, Some(Lossy::Round)), Ok(0));
    }

    #[test]
    fn floats_that_read_back() {
        let double = |text| float::<f64>(text, false, "range");
        for text in [
            "0.1",
            "0.10000000000000001",
            "1e23",
            "1.0E7",
            "-0",
            "5e-324",
            "9007199254740992",
        ] {
            assert_eq!(double(text), Ok(text.parse().unwrap()), "{text}");
        }
        let exact = format!("{:.60}", 0.1);
        assert_eq!(double(&exact), Ok(0.1));
        for text in ["9007199254740993", "0.100000000000000012345678", "1e-400"] {
            assert_eq!(double(text), Err("would lose precision"), "{text}");
            assert!(float::<f64>(text, true, "range").is_ok(), "{text}");
        }
        assert_eq!(double("1e999"), Err("range"));
        assert_eq!(double("Infinity"), Ok(f64::INFINITY));
        assert!(double("NaN").unwrap().is_nan());
        assert_eq!(double("one"), Err("not a number"));
        let float = |text| float::<f32>(text, false, "range");
        for text in [
            "0.1",
            "0.1000000000000",
            "100000000000e-12",
            "1.2157522e9",
            "16777220",
        ] {
            assert_eq!(float(text), Ok(text.parse().unwrap()), "{text}");
        }
        // 1215752192, were it taken.
        assert_eq!(float("1215752190"), Err("would lose precision"));
        assert_eq!(float("1215752190e0"), Err("would lose precision"));
        assert_eq!(float("16777217"), Err("would lose precision"));
    }
}
