//! Random values, many of them at the edges of what a type holds.

use arrow_buffer::i256;

use super::choices::Choices;
use super::types::Ty;

pub fn integer(choices: &mut Choices<'_>) -> i128 {
    match choices.below(12) {
        10 => {
            let edge = choices.one(&[
                i128::from(i32::MAX),
                i128::from(i32::MIN),
                i128::from(i64::MAX),
                i128::from(i64::MIN),
                i128::from(u64::MAX),
                i128::from(u32::MAX),
                1 << 24,
                1 << 53,
                86_400,
                86_400_000_000_000,
            ]);
            edge + choices.below(3) as i128 - 1
        }
        11 => (0..8)
            .fold(0, |v: i64, _| v << 8 | i64::from(choices.byte()))
            .into(),
        9 => i128::from(choices.byte()) * 86_400_000,
        8 => i128::from(choices.byte()) * 1_000_000_000,
        _ => i128::from(choices.byte() as i8),
    }
}

pub fn float(choices: &mut Choices<'_>) -> f64 {
    match choices.below(12) {
        9 => integer(choices) as f64 / 2.0,
        10 => choices.one(&[
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -0.0,
            1e300,
            5e-324,
            0.1,
        ]),
        11 => f64::from_bits(integer(choices) as u64),
        _ => integer(choices) as f64,
    }
}

/// An unscaled decimal; many are multiples of powers of ten, so that they may lose digits without loss.
pub fn unscaled(choices: &mut Choices<'_>) -> i256 {
    let (small, zeros) = (i256::from_i128(integer(choices)), choices.below(9));
    let ten = i256::from_i128(10);
    match choices.below(8) {
        7 => ten
            .wrapping_pow(choices.below(77) as u32)
            .wrapping_sub(i256::from_i128(choices.below(3) as i128)),
        6 => small.wrapping_mul(i256::from_i128(i128::MAX)),
        _ => small.wrapping_mul(ten.wrapping_pow(zeros as u32)),
    }
}

pub fn text(ty: &Ty, choices: &mut Choices<'_>) -> String {
    let mut text = match ty {
        Ty::Nullable(ty, _) => return self::text(ty, choices),
        Ty::Enum(n) => format!("S{}", choices.below(n + 1)),
        Ty::Uuid { .. } => {
            let text = "0123ABcd-89ab-CDEF-0123-456789abcdef".to_owned();
            text.replacen('0', &char::from(choices.one(b"0fF9g-")).to_string(), 1)
        }
        Ty::Boolean => choices
            .one(&[
                "true", "F", "Yes", "n", "1", "0", "TRUE", "no", "2", "on", "", "truth",
            ])
            .to_owned(),
        Ty::Int | Ty::Long | Ty::Float | Ty::Double if choices.below(3) == 1 => {
            let (first, rest) = (choices.below(10), choices.byte());
            let exponent = choices.below(24) as i32 - 8;
            format!("{first}.{rest}{}{exponent}", choices.one(&["e", "E"]))
        }
        Ty::Date => {
            let year = choices.one(&[2013, 1970, 2000, 1900, 9999, 1]);
            let (month, day) = (1 + choices.below(13), 1 + choices.below(32));
            format!("{year:04}-{month:02}-{day:02}")
        }
        Ty::TimeMillis | Ty::TimeMicros => {
            let (hour, minute, second) = (choices.below(25), choices.below(61), choices.below(61));
            let fraction = choices.one(&["", ".5", ".25", ".000001", ".1234567", ".0000000", "."]);
            format!("{hour:02}:{minute:02}:{second:02}{fraction}")
        }
        Ty::Decimal { .. } | Ty::Int | Ty::Long | Ty::Float | Ty::Double => {
            let sign = choices.one(&["", "-", "+"]);
            let whole = integer(choices).unsigned_abs();
            match choices.below(4) {
                0 => format!("{sign}{whole}"),
                1 => format!("{sign}{whole}.{}", "0".repeat(choices.below(9))),
                2 => format!("{sign}.{whole}"),
                _ => format!("{sign}{whole}.{:03}", choices.byte()),
            }
        }
        Ty::Timestamp(_) | Ty::Local(_) => {
            let year = choices.one(&[2013, 1970, 2000, 1900, 1600, 9999, 0]);
            let (month, day) = (1 + choices.below(13), 1 + choices.below(32));
            let (hour, minute, second) = (choices.below(25), choices.below(61), choices.below(61));
            let fraction = choices.one(&[
                "",
                ".5",
                ".250",
                ".000001",
                ".123456789",
                ".1234567890",
                ".0000000001",
                ".",
            ]);
            let zone = choices.one(&[
                "Z",
                "",
                "+01:00",
                "-0530",
                "+02",
                "z",
                "+24:00",
                " UTC",
                "Europe/Berlin",
            ]);
            let t = choices.one(&["T", " ", "t", "_"]);
            format!(
                "{year:04}-{month:02}-{day:02}{t}{hour:02}:{minute:02}:{second:02}{fraction}{zone}"
            )
        }
        _ => choices
            .one(&[
                "",
                "a",
                "é",
                "日本",
                "a string that no view can hold inline",
                "\u{0}",
            ])
            .to_owned(),
    };
    match choices.below(24) {
        22 => text.push('x'),
        23 => drop(text.pop()),
        _ => {}
    }
    text
}

pub fn binary(ty: &Ty, choices: &mut Choices<'_>) -> Vec<u8> {
    let size = match ty {
        Ty::Nullable(ty, _) => return binary(ty, choices),
        Ty::Fixed(size) => *size,
        Ty::Uuid { .. } => 16,
        Ty::Duration => 12,
        Ty::String => {
            let mut bytes = text(ty, choices).into_bytes();
            if choices.below(16) == 15 {
                bytes.push(0xff);
            }
            return bytes;
        }
        _ => choices.below(20),
    };
    let size = if choices.below(16) == 15 {
        choices.below(40)
    } else {
        size
    };
    vec![choices.byte(); size]
}
