//! Dates and times as text.

use super::{coarser, fixed_offset, two};
use crate::plan::Lossy;
use crate::reasons::{LONG, PRECISION, TIME};
use crate::types::SubSecond;

/// A calendar date and clock reading as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Seconds since 1970-01-01T00:00:00 of the reading, zone not taken into account.
    pub(crate) seconds: i64,
    fraction: Fraction,
    /// Seconds east of UTC, if the text says.
    pub(crate) offset: Option<i64>,
}

/// A part of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Fraction {
    nanos: i64,
    /// What is finer than nanoseconds: nothing, or whether it is half of one at least.
    finer: Option<bool>,
}

impl Fraction {
    /// Counts of `per_second`.
    fn count(self, per_second: i64, lossy: Option<Lossy>) -> Result<i64, &'static str> {
        if self == Self::default() {
            return Ok(0);
        }
        let grain = 1_000_000_000 / per_second;
        match (self.finer, lossy) {
            (None, _) => coarser(self.nanos, grain, lossy),
            (Some(_), None) => Err(PRECISION),
            (Some(half), Some(Lossy::Round)) if grain == 1 => Ok(self.nanos + i64::from(half)),
            // The nanoseconds are cut off, which is on the same side of any half.
            (Some(_), Some(_)) => coarser(self.nanos, grain, lossy),
        }
    }
}

impl Reading {
    /// Parses RFC 3339, a space allowed for the `T`, the zone optional.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const BAD: &str = "not an RFC 3339 timestamp (such as 2013-01-01T05:00:00Z)";
        const NO_SUCH_DAY: &str = "not an RFC 3339 timestamp: no such day in the calendar";
        const NO_SUCH_TIME: &str = "not an RFC 3339 timestamp: no such time of day";
        let Some((date, [b'T' | b't' | b' ', clock @ ..])) =
            trimmed(text).as_bytes().split_first_chunk::<10>()
        else {
            return Err(BAD);
        };
        let days = parse_date(date).ok_or(BAD)?.ok_or(NO_SUCH_DAY)?;
        let (seconds, fraction, rest) = parse_clock(clock).ok_or(BAD)?.ok_or(NO_SUCH_TIME)?;
        let offset = match rest {
            [] => None,
            [b'Z'] => Some(0),
            // The text was cut at ASCII bytes, so what is left is a string again.
            rest => Some(
                std::str::from_utf8(rest)
                    .ok()
                    .and_then(zone_suffix)
                    .ok_or(BAD)?,
            ),
        };
        Ok(Self {
            seconds: days * 86_400 + seconds,
            fraction,
            offset,
        })
    }

    /// Counts of `unit` since the epoch, `offset` seconds east of UTC taken away.
    pub(crate) fn count(
        self,
        unit: SubSecond,
        offset: i64,
        lossy: Option<Lossy>,
    ) -> Result<i64, &'static str> {
        let fraction = self.fraction.count(unit.per_second(), lossy)?;
        // Before the epoch the whole seconds may be out of range where the sum with their fraction is not.
        let count = i128::from(self.seconds - offset) * i128::from(unit.per_second());
        i64::try_from(count + i128::from(fraction)).map_err(|_| LONG)
    }
}

/// The text without spaces around it; most have none, which is seen at their ends.
#[inline]
pub(crate) fn trimmed(text: &str) -> &str {
    match text.as_bytes() {
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => text,
        _ => text.trim(),
    }
}

/// Days since 1970-01-01 of a date as text.
pub(crate) fn date(text: &str) -> Result<i32, &'static str> {
    const BAD: &str = "not a date (such as 2013-01-31)";
    let date = trimmed(text).as_bytes().try_into().map_err(|_| BAD)?;
    const NO_SUCH_DAY: &str = "not a date: no such day in the calendar";
    let days = parse_date(date).ok_or(BAD)?.ok_or(NO_SUCH_DAY)?;
    i32::try_from(days).map_err(|_| BAD)
}

/// Counts of `per_second` since midnight of a time of day as text.
pub(crate) fn time_of_day(
    text: &str,
    per_second: i64,
    lossy: Option<Lossy>,
) -> Result<i64, &'static str> {
    const BAD: &str = "not a time of day (such as 05:00:00)";
    const NO_SUCH_TIME: &str = "not a time of day: none has such hours, minutes or seconds";
    let clock = parse_clock(trimmed(text).as_bytes()).ok_or(BAD)?;
    match clock.ok_or(NO_SUCH_TIME)? {
        (seconds, fraction, []) => {
            let count = seconds * per_second + fraction.count(per_second, lossy)?;
            // The last moment of a day may round to the next.
            (count < 86_400 * per_second).then_some(count).ok_or(TIME)
        }
        _ => Err(BAD),
    }
}

/// `YYYY-MM-DD`, if there is such a day; `None` if it has another form.
#[inline]
fn parse_date(text: &[u8; 10]) -> Option<Option<i64>> {
    let [y0, y1, y2, y3, b'-', mo0, mo1, b'-', d0, d1] = *text else {
        return None;
    };
    let year = two(y0, y1)? * 100 + two(y2, y3)?;
    let (month, day) = (two(mo0, mo1)?, two(d0, d1)?);
    Some(days_from_civil(year, month, day))
}

/// Seconds since midnight, part of a second, and the text after them.
type Clock<'a> = (i64, Fraction, &'a [u8]);

/// `HH:MM:SS` and a fraction, if there is such a time; `None` if it has another form.
#[inline]
fn parse_clock(text: &[u8]) -> Option<Option<Clock<'_>>> {
    let [h0, h1, b':', m0, m1, b':', s0, s1, rest @ ..] = text else {
        return None;
    };
    let (hour, minute, second) = (two(*h0, *h1)?, two(*m0, *m1)?, two(*s0, *s1)?);
    if hour > 23 || minute > 59 || second > 59 {
        return Some(None);
    }
    let mut fraction = Fraction::default();
    let mut rest = rest;
    if let [b'.' | b',', after @ ..] = rest {
        let digits = after.iter().take_while(|c| c.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let (written, after) = after.split_at(digits);
        let (nanos, finer) = written.split_at(digits.min(9));
        fraction.nanos = nanos
            .iter()
            .fold(0, |sum, c| sum * 10 + i64::from(c - b'0'))
            * 10_i64.pow(9 - nanos.len() as u32);
        fraction.finer = finer
            .iter()
            .any(|c| *c != b'0')
            .then(|| finer.first().is_some_and(|c| *c >= b'5'));
        rest = after;
    }
    let seconds = hour * 3_600 + minute * 60 + second;
    Some(Some((seconds.into(), fraction, rest)))
}

fn zone_suffix(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("utc") {
        None
    } else {
        fixed_offset(text)
    }
}

/// Days of a year that is no leap year, before each month and before the next year.
const DAYS_BEFORE: [u32; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
/// Days of the proleptic Gregorian calendar from 0000-01-01 to 1970-01-01.
const TO_EPOCH: i64 = 719_528;

const fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar, if there is such a day.
fn days_from_civil(year: u32, month: u32, day: u32) -> Option<i64> {
    let from = DAYS_BEFORE.get((month as usize).checked_sub(1)?)?;
    let to = DAYS_BEFORE.get(month as usize)?;
    let leap = u32::from(is_leap(year));
    if day < 1 || day > to - from + if month == 2 { leap } else { 0 } {
        return None;
    }
    // The year 0 is a leap year.
    let leaps_before = year.div_ceil(4) - year.div_ceil(100) + year.div_ceil(400);
    let of_year = from + day - 1 + if month > 2 { leap } else { 0 };
    Some(i64::from(365 * year + leaps_before + of_year) - TO_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings() {
        let r = Reading::parse("2013-01-01T05:00:00Z").unwrap();
        assert_eq!(
            (r.seconds, r.fraction.nanos, r.offset),
            (1_357_016_400, 0, Some(0))
        );
        let r = Reading::parse("2013-01-01 05:00:00.25-05:00").unwrap();
        assert_eq!(
            r.count(SubSecond::Millis, r.offset.unwrap(), None),
            Ok(1_357_034_400_250)
        );
        assert_eq!(
            Reading::parse("1969-12-31T23:59:59.5Z")
                .unwrap()
                .count(SubSecond::Millis, 0, None),
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
        ] {
            assert!(Reading::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Reading::parse("2013-01-01T00:00:00.0001Z")
                .unwrap()
                .count(SubSecond::Millis, 0, None),
            Err("would lose precision")
        );
        let first = Reading::parse("1677-09-21T00:12:43.145224193Z").unwrap();
        let least = first.count(SubSecond::Nanos, 0, None);
        assert_eq!(least, Ok(i64::MIN + 1));
        assert_eq!(
            Reading::parse("9999-01-01T00:00:00Z")
                .unwrap()
                .count(SubSecond::Nanos, 0, None),
            Err("out of range of long")
        );
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let epoch = jiff::civil::date(1970, 1, 1);
        for year in (0..=2400).chain([9996, 9999]) {
            for (month, day) in (0..=13).flat_map(|month| (0..=32).map(move |day| (month, day))) {
                let theirs = jiff::civil::Date::new(year, month, day);
                let theirs = theirs.map(|date| epoch.duration_until(date).as_hours() / 24);
                let ours = days_from_civil(year as u32, month as u32, day as u32);
                assert_eq!(ours, theirs.ok());
            }
        }
    }

    #[test]
    fn losses() {
        let count = |text: &str, unit, lossy| Reading::parse(text).unwrap().count(unit, 0, lossy);
        let (round, truncate) = (Some(Lossy::Round), Some(Lossy::Truncate));
        for (text, rounded, cut) in [
            ("1970-01-01T00:00:00.0005", 1, 0),
            ("1970-01-01T00:00:00.00049999999999", 0, 0),
            ("1969-12-31T23:59:59.9995", 0, -1),
        ] {
            assert_eq!(count(text, SubSecond::Millis, None), Err(PRECISION));
            assert_eq!(count(text, SubSecond::Millis, round), Ok(rounded));
            assert_eq!(count(text, SubSecond::Millis, truncate), Ok(cut));
        }
        let finer = "1970-01-01T00:00:00.0000000015";
        assert_eq!(count(finer, SubSecond::Nanos, None), Err(PRECISION));
        assert_eq!(count(finer, SubSecond::Nanos, round), Ok(2));
        assert_eq!(count(finer, SubSecond::Nanos, truncate), Ok(1));
        assert_eq!(
            time_of_day("23:59:59.9999", 1_000, round),
            Err("not a time of day")
        );
        assert_eq!(
            time_of_day("23:59:59.9999", 1_000, truncate),
            Ok(86_399_999)
        );
        assert!(time_of_day("23:59:59Z", 1_000, None).is_err());
        assert_eq!(date(" 1970-01-02 "), Ok(1));
        assert!(date("1970-01-02T00:00:00").is_err() && date("1970-02-30").is_err());
        assert_eq!(coarser(-1, 1_000, truncate), Ok(-1));
        assert_eq!(coarser(i64::MAX, 2, round), Ok(1 << 62));
    }
}
