//! Hours of the week in which a service may be called. Pure: the time is an argument.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;

/// See the module. None at all: always.
#[derive(Clone, Debug)]
pub struct Windows {
    zone: TimeZone,
    spans: Vec<Span>,
}

/// In minutes of the week, as clocks show it; it may go on into the next week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    begin: u32,
    length: u32,
}

/// A window that opens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opens {
    minute: u32,
}

impl fmt::Display for Opens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = DAYS[(self.minute / DAY % 7) as usize];
        let (hour, minute) = (self.minute % DAY / 60, self.minute % 60);
        write!(f, "{day} {hour:02}:{minute:02}")
    }
}

impl Windows {
    /// Of texts such as `mon-fri 20:00-06:00`, `sat-sun` or `22:00-24:00`: days, on which it begins, and hours, either of
    /// which may be left out. `zone` is a name of the IANA time zone database.
    ///
    /// # Errors
    /// What can't be read, and what is expected.
    pub fn new(texts: &[String], zone: &str) -> Result<Self, String> {
        let mut spans = Vec::new();
        for text in texts {
            spans.extend(spans_of(text).ok_or_else(|| {
                format!("{text:?}: expected days, hours or both, as \"mon-fri 20:00-06:00\", \"sat-sun\" or \"22:00-24:00\"")
            })?);
        }
        Ok(Self {
            zone: TimeZone::get(zone).map_err(|e| format!("time zone {zone:?}: {e}"))?,
            spans,
        })
    }

    /// `None`: the service may be called now. Else the window that opens next.
    pub fn closed(&self, unix: Duration) -> Option<Opens> {
        let seconds = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
        let now = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        let now = now.to_zoned(self.zone.clone());
        let number = |n: i8| u32::from(n.unsigned_abs());
        let day = number(now.weekday().to_monday_zero_offset());
        let at = day * DAY + number(now.hour()) * 60 + number(now.minute());
        let is_open = |s: &Span| (at + WEEK - s.begin) % WEEK < s.length;
        if self.spans.iter().any(is_open) {
            return None;
        }
        let until = |s: &&Span| (s.begin + WEEK - at) % WEEK;
        let next = self.spans.iter().min_by_key(until)?;
        Some(Opens { minute: next.begin })
    }
}

fn spans_of(text: &str) -> Option<Vec<Span>> {
    let text = text.to_ascii_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    let (days, hours) = match words.as_slice() {
        [one] if one.contains(':') => ("mon-sun", *one),
        [days] => (*days, "00:00-24:00"),
        [days, hours] => (*days, *hours),
        _ => return None,
    };
    let (from, to) = hours.split_once('-')?;
    let (from, to) = (minutes(from).filter(|m| *m < DAY)?, minutes(to)?);
    // Until the same hour would be a day or nothing: a whole day is said by leaving the hours out.
    if from == to {
        return None;
    }
    let length = (to + DAY - from - 1) % DAY + 1;
    let (first, last) = days.split_once('-').unwrap_or((days, days));
    let number = |day: &str| DAYS.iter().position(|d| *d == day);
    let (first, last) = (number(first)?, number(last)?);
    let count = (last + 7 - first) % 7 + 1;
    let begin = |day: usize| u32::try_from((first + day) % 7).map(|day| day * DAY + from);
    (0..count)
        .map(|day| {
            Some(Span {
                begin: begin(day).ok()?,
                length,
            })
        })
        .collect()
}

/// `HH:MM`, up to 24:00.
fn minutes(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok())?
    };
    let (hour, minute) = (number(hour)?, number(minute).filter(|m| *m < 60)?);
    Some(hour * 60 + minute).filter(|m| *m <= DAY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn windows(texts: &[&str], zone: &str) -> Windows {
        let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        Windows::new(&texts, zone).unwrap()
    }

    fn closed(windows: &Windows, time: &str) -> Option<String> {
        let time: Timestamp = time.parse().unwrap();
        let unix = Duration::from_secs(time.as_second().unsigned_abs());
        windows.closed(unix).map(|opens| opens.to_string())
    }

    #[test]
    fn nights_and_week_ends() {
        let nights = windows(&["mon-fri 20:00-06:00", "sat-sun"], "Europe/Berlin");
        // 2013-01-31 was a Thursday; Berlin is an hour ahead.
        assert_eq!(
            closed(&nights, "2013-01-31T18:59:59Z"),
            Some("thu 20:00".into())
        );
        assert_eq!(closed(&nights, "2013-01-31T19:00:00Z"), None);
        assert_eq!(closed(&nights, "2013-02-01T04:59:59Z"), None);
        assert_eq!(
            closed(&nights, "2013-02-01T05:00:00Z"),
            Some("fri 20:00".into())
        );
        assert_eq!(closed(&nights, "2013-02-02T12:00:00Z"), None);
        // Sunday ends at midnight, and Monday has no night before it.
        assert_eq!(
            closed(&nights, "2013-02-03T23:00:00Z"),
            Some("mon 20:00".into())
        );
    }

    #[test]
    fn a_span_goes_on_into_the_next_week_and_days_may_wrap() {
        let late = windows(&["sun 23:00-01:00", "sat-mon 12:00-12:30"], "UTC");
        assert_eq!(closed(&late, "2013-02-03T23:30:00Z"), None);
        assert_eq!(closed(&late, "2013-02-04T00:59:00Z"), None);
        assert_eq!(
            closed(&late, "2013-02-04T01:00:00Z"),
            Some("mon 12:00".into())
        );
        assert_eq!(closed(&late, "2013-02-04T12:10:00Z"), None);
        assert_eq!(
            closed(&late, "2013-02-05T12:10:00Z"),
            Some("sat 12:00".into())
        );
    }

    #[test]
    fn clocks_that_are_put_forward_move_the_window_with_them() {
        let night = windows(&["02:30-04:00"], "Europe/Berlin");
        // On 2013-03-31 there is no 02:30: the clocks go from 02:00 to 03:00, at 01:00 UTC.
        assert_eq!(
            closed(&night, "2013-03-31T00:59:00Z"),
            Some("sun 02:30".into())
        );
        assert_eq!(closed(&night, "2013-03-31T01:00:00Z"), None);
        assert_eq!(
            closed(&night, "2013-03-31T02:00:00Z"),
            Some("mon 02:30".into())
        );
    }

    #[test]
    fn what_is_no_window_is_named() {
        for wrong in [
            "",
            "noon",
            "mon-",
            "20:00",
            "20:00-20:00",
            "24:00-06:00",
            "20:00-24:01",
            "8:00-9:00",
            "mon 20:00-06:00 x",
            "20:60-21:00",
            "mon-fry 10:00-11:00",
            "+1:00-02:00",
        ] {
            let error = Windows::new(&[wrong.to_owned()], "UTC").unwrap_err();
            assert!(
                error.starts_with(&format!("{wrong:?}: expected days")),
                "{error}"
            );
        }
        let error = Windows::new(&[], "Europe/Berlyn").unwrap_err();
        assert!(
            error.starts_with("time zone \"Europe/Berlyn\": "),
            "{error}"
        );
        assert_eq!(closed(&windows(&[], "UTC"), "2013-01-01T00:00:00Z"), None);
    }

    proptest! {
        /// Whatever the window, it is open for its length of each week, and what is said to open next does.
        #[test]
        fn open_as_long_as_it_says(from in 0u32..DAY, length in 1u32..DAY, first in 0usize..7, count in 1usize..=7) {
            let to = (from + length - 1) % DAY + 1;
            let clock = |m: u32| format!("{:02}:{:02}", m / 60, m % 60);
            let text = format!("{}-{} {}-{}", DAYS[first], DAYS[(first + count - 1) % 7], clock(from), clock(to));
            let windows = windows(&[&text], "UTC");
            let minute = |m: u32| windows.closed(Duration::from_secs(u64::from(m) * 60));
            let open = (0..WEEK).filter(|m| minute(*m).is_none()).count();
            prop_assert_eq!(open as u32, length * count as u32);
            if let Some(opens) = minute(0) {
                // The Unix epoch was a Thursday.
                prop_assert_eq!(minute((opens.minute + WEEK - 3 * DAY) % WEEK), None);
            }
        }
    }
}
