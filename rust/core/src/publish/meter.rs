//! How fast a publish goes, how long it still takes, and what it waits for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The rate that is shown is that of so long.
const WINDOW: Duration = Duration::from_secs(10);

/// Where a publisher's time went, in seconds. What is in none of them is its own work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Waited {
    /// For rows to be read from the source.
    pub source_s: f64,
    /// For rows to be encoded.
    pub encoder_s: f64,
    /// For the broker to take what is queued, or to acknowledge it.
    pub broker_s: f64,
    /// Because of `limits.max_lag_*` or `limits.max_rows_per_s`.
    pub pacing_s: f64,
}

impl Waited {
    pub fn add(&mut self, other: &Self) {
        self.source_s += other.source_s;
        self.encoder_s += other.encoder_s;
        self.broker_s += other.broker_s;
        self.pacing_s += other.pacing_s;
    }

    /// What the publisher waited for most (`source`, `encoder`, `broker`, `pacing`), or `client` if that was less than
    /// half of `seconds`: then it was busy itself.
    pub fn limit(&self, seconds: f64) -> &'static str {
        let most = [
            ("source", self.source_s),
            ("encoder", self.encoder_s),
            ("broker", self.broker_s),
            ("pacing", self.pacing_s),
        ]
        .into_iter()
        .max_by(|a, b| a.1.total_cmp(&b.1));
        match most {
            Some((name, waited)) if waited * 2.0 >= seconds => name,
            _ => "client",
        }
    }
}

/// What the source's thread did with its time.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceTime {
    pub read: Duration,
    pub encode: Duration,
}

/// Counts what is acknowledged, for a line of progress.
#[derive(Debug, Default)]
pub struct Meter {
    /// When, rows and bytes.
    samples: VecDeque<(Instant, u64, u64)>,
}

impl Meter {
    /// Takes in that `rows` and `bytes` were done by `now`.
    pub fn sample(&mut self, now: Instant, rows: u64, bytes: u64) {
        self.samples.push_back((now, rows, bytes));
        while self.samples.len() > 2
            && self
                .samples
                .get(1)
                .is_some_and(|(at, ..)| now.saturating_duration_since(*at) > WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Rows and bytes a second of the last seconds, once there were some.
    pub fn rates(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let seconds = last.0.saturating_duration_since(first.0).as_secs_f64();
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds.max(1e-9);
        let (rows, bytes) = (rate(first.1, last.1), rate(first.2, last.2));
        (seconds > 0.0 && rows >= 1.0).then_some((rows, bytes))
    }

    /// The rates, and how long `left` more rows take at them: `410,000 rows/s, 37.1 MB/s, 12 s left`.
    pub fn show(&self, left: Option<u64>) -> String {
        let Some((rows, bytes)) = self.rates() else {
            return String::new();
        };
        let megabytes = bytes / 1e6;
        let left = left.map_or(String::new(), |left| {
            format!(", {} left", duration(left as f64 / rows))
        });
        format!(
            "{} rows/s, {megabytes:.1} MB/s{left}",
            thousands(rows as u64)
        )
    }
}

fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn duration(seconds: f64) -> String {
    let whole = seconds.ceil() as u64;
    match whole {
        ..60 => format!("{whole} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut meter = Meter::default();
        let start = Instant::now();
        assert_eq!(meter.show(Some(5)), "");
        // Slow at first, then 1,000 rows a second.
        meter.sample(start, 0, 0);
        for s in 1..=30u64 {
            meter.sample(start + Duration::from_secs(100 + s), s * 1_000, s * 90_000);
        }
        assert_eq!(meter.show(None), "1,000 rows/s, 0.1 MB/s");
        for (left, shown) in [
            (59_500, "1 min 0 s"),
            (1_500, "2 s"),
            (7_260_000, "2 h 1 min"),
        ] {
            assert!(
                meter.show(Some(left)).ends_with(&format!(", {shown} left")),
                "{}",
                meter.show(Some(left))
            );
        }
    }

    #[test]
    fn the_limit_is_what_was_waited_for_most() {
        let waited = Waited {
            source_s: 3.0,
            encoder_s: 0.0,
            broker_s: 6.0,
            pacing_s: 1.0,
        };
        assert_eq!(waited.limit(10.0), "broker");
        assert_eq!(waited.limit(20.0), "client");
        assert_eq!(Waited::default().limit(1.0), "client");
    }
}
