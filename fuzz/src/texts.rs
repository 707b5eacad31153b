//! Numbers and times as text, read by the documented rules. Nothing of it is taken from the crate.

use num_bigint::BigInt;

use super::slots::DAY;

/// A decimal number with or without an exponent, blanks around it.
pub fn number_text(text: &str) -> Option<(BigInt, i32)> {
    let text = text.trim();
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    if digits != digits.trim() {
        return None;
    }
    let (v, scale) = decimal_text(digits)?;
    Some((v, scale - exponent.parse::<i32>().ok()?))
}

/// Digits with at most one point and one sign, blanks around them.
pub fn decimal_text(text: &str) -> Option<(BigInt, i32)> {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{before}{after}");
    if all.is_empty() || !all.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let v: BigInt = all.parse().ok()?;
    Some((
        if text.starts_with('-') { -v } else { v },
        after.len() as i32,
    ))
}

/// RFC 3339, a space allowed for the T and the zone optional: nanoseconds of the reading, and its offset in seconds.
pub fn timestamp_text(text: &str) -> Option<(i128, Option<i64>)> {
    let (day, rest) = (text.get(..10)?, text.get(11..)?);
    if !matches!(text.as_bytes()[10], b'T' | b't' | b' ') {
        return None;
    }
    let [year, month, day] = numbers(day, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(rest.get(..8)?, ':', [2, 2, 2])?;
    if hour > 23 || minute > 59 || second > 59 || !(1..=12).contains(&month) {
        return None;
    }
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in = |year: i64| {
        [
            31,
            if leap(year) { 29 } else { 28 },
            31,
            30,
            31,
            30,
            31,
            31,
            30,
            31,
            30,
            31,
        ]
    };
    if day < 1 || day > days_in(year)[month as usize - 1] {
        return None;
    }
    // Year by year from the epoch, and month by month.
    let in_year = |year: i64| if leap(year) { 366 } else { 365 };
    let mut days: i64 = if year >= 1970 {
        (1970..year).map(in_year).sum()
    } else {
        -(year..1970).map(in_year).sum::<i64>()
    };
    days += days_in(year)[..month as usize - 1].iter().sum::<i64>() + day - 1;
    let seconds = days * DAY + hour * 3600 + minute * 60 + second;

    let rest = &rest[8..];
    let (nanos, zone) = match rest.strip_prefix(['.', ',']) {
        None => (0, rest),
        Some(rest) => {
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            let (digits, zone) = rest.split_at(end);
            let shown = digits.trim_end_matches('0');
            if digits.is_empty() || shown.len() > 9 {
                return None;
            }
            (format!("{shown:0<9}").parse::<i64>().ok()?, zone)
        }
    };
    let offset = match zone {
        "" => None,
        "Z" | "z" => Some(0),
        zone => {
            let sign = match &zone[..zone.chars().next()?.len_utf8()] {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let zone = zone[1..].replacen(
                ':',
                "",
                usize::from(zone.len() == 6 && zone.get(3..4) == Some(":")),
            );
            let zone = if zone.len() == 2 {
                format!("{zone}00")
            } else {
                zone
            };
            if zone.len() != 4 || !zone.bytes().all(|c| c.is_ascii_digit()) {
                return None;
            }
            let (hours, minutes): (i64, i64) = (zone[..2].parse().ok()?, zone[2..].parse().ok()?);
            (hours < 24 && minutes < 60).then_some(Some(sign * (hours * 3600 + minutes * 60)))?
        }
    };
    Some((
        i128::from(seconds) * 1_000_000_000 + i128::from(nanos),
        offset,
    ))
}

fn numbers(text: &str, by: char, widths: [usize; 3]) -> Option<[i64; 3]> {
    let parts: Vec<&str> = text.split(by).collect();
    let mut out = [0; 3];
    if parts.len() != 3 {
        return None;
    }
    for ((part, width), out) in parts.iter().zip(widths).zip(&mut out) {
        if part.len() != width || !part.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        *out = part.parse().ok()?;
    }
    Some(out)
}
