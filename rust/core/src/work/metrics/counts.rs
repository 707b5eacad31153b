//! What metrics are made of: counters and gauges that any thread may touch, sums by reason, time by cause.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::work::queue::lock;

/// Reasons that are told apart; those met later are `other`, so that labels stay bounded.
pub const REASONS: usize = 100;
const OTHER: &str = "other";

/// What only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub fn set(&self, value: u64) {
        self.0
            .store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub fn add(&self, n: u64) {
        self.0
            .fetch_add(i64::try_from(n).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub fn sub(&self, n: u64) {
        self.0
            .fetch_sub(i64::try_from(n).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Never below zero, though threads that add and subtract may overtake each other for a moment.
    pub fn get(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// Counts by a text that somebody else chose.
#[derive(Debug, Default)]
pub struct ByReason(Mutex<BTreeMap<String, u64>>);

impl ByReason {
    pub fn add(&self, reason: &str, n: u64) {
        let mut counts = lock(&self.0);
        if let Some(count) = counts.get_mut(reason) {
            *count += n;
            return;
        }
        let known = counts.len() < REASONS;
        *counts
            .entry(if known { reason } else { OTHER }.to_owned())
            .or_default() += n;
    }

    pub fn get(&self) -> BTreeMap<String, u64> {
        lock(&self.0).clone()
    }
}

/// Why a worker reads nothing, though there may be something to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// It holds as much as it may.
    Credit,
    /// The service is full or down.
    Gate,
    /// No broker answers.
    Broker,
    /// Outside the hours in which the service may be called, or above its rate.
    Window,
}

impl Pause {
    pub const ALL: [Self; 4] = [Self::Credit, Self::Gate, Self::Broker, Self::Window];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Credit => "credit",
            Self::Gate => "gate",
            Self::Broker => "broker",
            Self::Window => "window",
        }
    }
}

/// Time spent in pauses, by cause; the one that lasts included.
#[derive(Debug, Default)]
pub struct Pauses([Paused; Pause::ALL.len()]);

#[derive(Debug, Default)]
struct Paused {
    ended_us: AtomicU64,
    /// Since when it lasts, in µs and one more; 0: it doesn't.
    since: AtomicU64,
}

impl Pauses {
    /// Says whether a pause lasts; said again it changes nothing. By one thread for each cause.
    pub fn set(&self, cause: Pause, lasts: bool, now: Duration) {
        let paused = &self.0[cause as usize];
        let since = paused.since.load(Ordering::Relaxed);
        if lasts == (since > 0) {
            return;
        }
        let now = micros(now) + 1;
        paused
            .since
            .store(if lasts { now } else { 0 }, Ordering::Relaxed);
        if !lasts {
            paused
                .ended_us
                .fetch_add(now.saturating_sub(since), Ordering::Relaxed);
        }
    }

    pub fn get(&self, cause: Pause, now: Duration) -> Duration {
        let paused = &self.0[cause as usize];
        let since = paused.since.load(Ordering::Relaxed);
        let lasting = match since {
            0 => 0,
            since => (micros(now) + 1).saturating_sub(since),
        };
        Duration::from_micros(paused.ended_us.load(Ordering::Relaxed) + lasting)
    }
}

pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn reasons_past_the_hundredth_are_other() {
        let counts = ByReason::default();
        for round in 1..=2 {
            for n in 0..150 {
                counts.add(&format!("reason {n}"), 1);
            }
            let found = counts.get();
            assert_eq!(found.len(), REASONS + 1);
            assert_eq!(found["reason 99"], round);
            assert_eq!(found[OTHER], round * 50);
        }
    }

    #[test]
    fn a_pause_counts_while_it_lasts_and_stays_counted() {
        let pauses = Pauses::default();
        pauses.set(Pause::Gate, true, s(0));
        pauses.set(Pause::Gate, true, s(1));
        assert_eq!(pauses.get(Pause::Gate, s(2)), s(2));
        pauses.set(Pause::Gate, false, s(3));
        pauses.set(Pause::Gate, false, s(4));
        pauses.set(Pause::Gate, true, s(10));
        assert_eq!(pauses.get(Pause::Gate, s(12)), s(5));
        assert_eq!(pauses.get(Pause::Credit, s(12)), s(0));
    }

    #[test]
    fn a_gauge_shows_nothing_below_zero() {
        let gauge = Gauge::default();
        gauge.sub(1);
        assert_eq!(gauge.get(), 0);
        gauge.add(3);
        assert_eq!(gauge.get(), 2);
    }
}
