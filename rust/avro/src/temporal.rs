//! Zones, and dates and times as text.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

use crate::plan::Lossy;
use crate::reasons::*;
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

/// Where clocks are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Zone {
    /// Seconds east of UTC.
    Fixed(i64),
    /// A zone of the IANA database, whose clocks are set back and forward.
    Named(TimeZone),
}

/// Ours, and not the machine's: a job means the same on all of them.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

impl Zone {
    /// "UTC", a fixed offset, or an IANA name.
    pub(crate) fn parse(zone: &str) -> Option<Self> {
        match fixed_offset(zone) {
            Some(offset) => Some(Self::Fixed(offset)),
            None => ZONES.get(zone).ok().map(Self::Named),
        }
    }

    /// Seconds east of UTC where clocks read so many seconds since 1970-01-01T00:00:00.
    pub(crate) fn offset_of_reading(&self, seconds: i64) -> Result<i64, &'static str> {
        let zone = match self {
            Self::Fixed(offset) => return Ok(*offset),
            Self::Named(zone) => zone,
        };
        let reading = Offset::UTC.to_datetime(instant(seconds)?);
        match zone.to_ambiguous_timestamp(reading).offset() {
            AmbiguousOffset::Unambiguous { offset } => Ok(offset.seconds().into()),
            AmbiguousOffset::Fold { .. } => {
                Err("ambiguous local time: the zone's clocks were set back over it")
            }
            AmbiguousOffset::Gap { .. } => {
                Err("non-existent local time: the zone's clocks were set forward over it")
            }
        }
    }

    /// Seconds east of UTC at an instant, so many seconds since 1970-01-01T00:00:00Z.
    pub(crate) fn offset_at(&self, seconds: i64) -> Result<i64, &'static str> {
        match self {
            Self::Fixed(offset) => Ok(*offset),
            Self::Named(zone) => Ok(zone.to_offset(instant(seconds)?).seconds().into()),
        }
    }
}

fn instant(seconds: i64) -> Result<Timestamp, &'static str> {
    Timestamp::from_second(seconds).map_err(|_| OF_CALENDAR)
}

/// Divides a time, towards the past; a rest is an error unless a loss is declared.
pub(crate) fn coarser(v: i64, by: i64, lossy: Option<Lossy>) -> Result<i64, &'static str> {
    if v % by == 0 {
        return Ok(v / by);
    }
    let (whole, rest) = (v.div_euclid(by), v.rem_euclid(by));
    match lossy {
        None => Err(PRECISION),
        Some(Lossy::Truncate) => Ok(whole),
        // The divisor is 2 at least where there is a rest, so there is room for one more.
        Some(Lossy::Round) => Ok(whole + i64::from(rest >= by - rest)),
    }
}

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
            text.trim().as_bytes().split_first_chunk::<10>()
        else {
            return Err(BAD);
        };
        let days = parse_date(date).ok_or(BAD)?.ok_or(NO_SUCH_DAY)?;
        let (seconds, fraction, rest) = parse_clock(clock).ok_or(BAD)?.ok_or(NO_SUCH_TIME)?;
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

/// Days since 1970-01-01 of a date as text.
pub(crate) fn date(text: &str) -> Result<i32, &'static str> {
    const BAD: &str = "not a date (such as 2013-01-31)";
    let date = text.trim().as_bytes().try_into().map_err(|_| BAD)?;
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
    let clock = parse_clock(text.trim().as_bytes()).ok_or(BAD)?;
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
fn parse_date(text: &[u8; 10]) -> Option<Option<i64>> {
    let [y0, y1, y2, y3, b'-', mo0, mo1, b'-', d0, d1] = *text else {
        return None;
    };
    let year = two(y0, y1)? * 100 + two(y2, y3)?;
    let (month, day) = (two(mo0, mo1)?, two(d0, d1)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return Some(None);
    }
    Some(Some(days_from_civil(year, month, day)))
}

/// Seconds since midnight, part of a second, and the text after them.
type Clock<'a> = (i64, Fraction, &'a [u8]);

/// `HH:MM:SS` and a fraction, if there is such a time; `None` if it has another form.
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
    Some(Some((hour * 3_600 + minute * 60 + second, fraction, rest)))
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

    #[test]
    fn zones_whose_clocks_are_set() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let at = |text: &str| berlin.offset_of_reading(Reading::parse(text).unwrap().seconds);
        assert_eq!(at("2021-01-01T00:00:00"), Ok(3_600));
        assert_eq!(at("2021-07-01T00:00:00"), Ok(7_200));
        assert!(at("2021-03-28T02:30:00").is_err_and(|e| e.starts_with("non-existent")));
        assert!(at("2021-10-31T02:30:00").is_err_and(|e| e.starts_with("ambiguous")));
        assert_eq!(berlin.offset_at(1_635_640_200), Ok(7_200));
        assert_eq!(berlin.offset_at(1_635_643_800), Ok(3_600));
        assert!(berlin.offset_at(i64::MAX).is_err());
        // The rules of the last change on record hold on.
        assert_eq!(at("2150-07-01T12:00:00"), Ok(7_200));
        assert_eq!(at("9999-12-30T00:00:00"), Ok(3_600));
        assert_eq!(Zone::parse("+01:00"), Some(Zone::Fixed(3_600)));
        assert_eq!(Zone::parse("Mars/Olympus"), None);
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
