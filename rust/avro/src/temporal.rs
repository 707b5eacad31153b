//! Zones and timestamps as text, without a calendar library: only what is exact.

use crate::types::SubSecond;

/// Seconds east of UTC of "UTC", "Z" or a fixed offset ("+01:00", "-0530", "+02"); `None` if it is none of these.
pub(crate) fn fixed_offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("utc") || zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let bytes = zone.as_bytes();
    let (sign, rest) = match bytes.split_first()? {
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest {
        [a, b] => (two(*a, *b)?, 0),
        [a, b, c, d] | [a, b, b':', c, d] => (two(*a, *b)?, two(*c, *d)?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn two(a: u8, b: u8) -> Option<i64> {
    (a.is_ascii_digit() && b.is_ascii_digit())
        .then(|| i64::from(a - b'0') * 10 + i64::from(b - b'0'))
}

/// A calendar date and clock reading as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Seconds since 1970-01-01T00:00:00 of the reading, zone not taken into account.
    pub(crate) seconds: i64,
    /// Nanoseconds in the second.
    pub(crate) nanos: i64,
    /// Seconds east of UTC, if the text says.
    pub(crate) offset: Option<i64>,
}

impl Reading {
    /// Parses RFC 3339, a space allowed for the `T`, the zone optional.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const BAD: &str = "not an RFC 3339 timestamp (such as 2013-01-01T05:00:00Z)";
        let b = text.as_bytes();
        let [
            y0,
            y1,
            y2,
            y3,
            b'-',
            mo0,
            mo1,
            b'-',
            d0,
            d1,
            b'T' | b't' | b' ',
            h0,
            h1,
            b':',
            mi0,
            mi1,
            b':',
            s0,
            s1,
            rest @ ..,
        ] = b
        else {
            return Err(BAD);
        };
        let pair = |a: &u8, b: &u8| two(*a, *b).ok_or(BAD);
        let year = pair(y0, y1)? * 100 + pair(y2, y3)?;
        let (month, day) = (pair(mo0, mo1)?, pair(d0, d1)?);
        let (hour, minute, second) = (pair(h0, h1)?, pair(mi0, mi1)?, pair(s0, s1)?);
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return Err("no such day in the calendar");
        }
        if hour > 23 || minute > 59 || second > 59 {
            return Err("no such time of day");
        }
        let (nanos, rest) = match rest {
            [b'.' | b',', rest @ ..] => {
                let digits = rest.iter().take_while(|c| c.is_ascii_digit()).count();
                if digits == 0 {
                    return Err(BAD);
                }
                let (fraction, rest) = rest.split_at(digits);
                if fraction.iter().skip(9).any(|c| *c != b'0') {
                    return Err("would lose precision (finer than nanoseconds)");
                }
                let value = fraction
                    .iter()
                    .take(9)
                    .fold(0, |sum, c| sum * 10 + i64::from(c - b'0'));
                (value * 10_i64.pow(9 - digits.min(9) as u32), rest)
            }
            rest => (0, rest),
        };
        let offset = match rest {
            [] => None,
            // The text was cut at ASCII bytes, so what is left is a string again.
            rest => Some(
                std::str::from_utf8(rest)
                    .ok()
                    .and_then(zone_suffix)
                    .ok_or(BAD)?,
            ),
        };
        let seconds =
            days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
        Ok(Self {
            seconds,
            nanos,
            offset,
        })
    }

    /// Counts of `unit` since the epoch, `offset` seconds east of UTC taken away.
    pub(crate) fn count(self, unit: SubSecond, offset: i64) -> Result<i64, &'static str> {
        let per_second = unit.per_second();
        let grain = 1_000_000_000 / per_second;
        if self.nanos % grain != 0 {
            return Err("would lose precision");
        }
        (self.seconds - offset)
            .checked_mul(per_second)
            .and_then(|whole| whole.checked_add(self.nanos / grain))
            .ok_or("out of range of long")
    }
}

fn zone_suffix(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("utc") {
        None
    } else {
        fixed_offset(text)
    }
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings() {
        let r = Reading::parse("2013-01-01T05:00:00Z").unwrap();
        assert_eq!((r.seconds, r.nanos, r.offset), (1_357_016_400, 0, Some(0)));
        let r = Reading::parse("2013-01-01 05:00:00.25-05:00").unwrap();
        assert_eq!(
            r.count(SubSecond::Millis, r.offset.unwrap()),
            Ok(1_357_034_400_250)
        );
        assert_eq!(
            Reading::parse("1969-12-31T23:59:59.5Z")
                .unwrap()
                .count(SubSecond::Millis, 0),
            Ok(-500)
        );
        assert_eq!(
            Reading::parse("2000-02-29T00:00:00").unwrap().seconds,
            951_782_400
        );
        assert_eq!(
            Reading::parse("0000-03-01T00:00:00").unwrap().seconds,
            -62_162_035_200
        );
        for bad in [
            "",
            "2013-01-01",
            "2013-02-29T00:00:00Z",
            "2013-01-01T24:00:00Z",
            "2013-01-01T00:00:60Z",
            "2013-01-01T00:00:00+25:00",
            "2013-01-01T00:00:00.Z",
            "2013-01-01T00:00:00é",
            "not a time",
            "2013-01-01T00:00:00 UTC",
            "2013-01-01T00:00:00.0000000001Z",
        ] {
            assert!(Reading::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Reading::parse("2013-01-01T00:00:00.0001Z")
                .unwrap()
                .count(SubSecond::Millis, 0),
            Err("would lose precision")
        );
        assert_eq!(
            Reading::parse("9999-01-01T00:00:00Z")
                .unwrap()
                .count(SubSecond::Nanos, 0),
            Err("out of range of long")
        );
    }

    #[test]
    fn offsets() {
        assert_eq!(fixed_offset("UTC"), Some(0));
        assert_eq!(fixed_offset("+01:00"), Some(3600));
        assert_eq!(fixed_offset("-0530"), Some(-19800));
        assert_eq!(fixed_offset("Europe/Berlin"), None);
        assert_eq!(fixed_offset("+1"), None);
    }
}
