//! Zones, and dates and times as text.

mod reading;

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

use crate::plan::Lossy;
use crate::reasons::{OF_CALENDAR, PRECISION};
pub(crate) use reading::{Reading, date, time_of_day, trimmed};

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
    (hours < 24 && minutes < 60).then_some(sign * i64::from(hours * 3600 + minutes * 60))
}

/// A number of two digits.
fn two(a: u8, b: u8) -> Option<u32> {
    (a.is_ascii_digit() && b.is_ascii_digit())
        .then(|| u32::from(a - b'0') * 10 + u32::from(b - b'0'))
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

#[cfg(test)]
mod tests {
    use super::*;

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
