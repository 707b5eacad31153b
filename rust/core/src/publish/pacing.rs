//! How fast a publish may go: a cap on its rate, and on how far it may be ahead of the service. Values and a clock that
//! is given; who watches the service is behind a trait.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::kafka::GroupSeen;

/// The rate's credit grows no further than this: after a pause the cap is not exceeded for longer.
const BURST: Duration = Duration::from_millis(100);
/// Below this share of the allowed lag (one in so many) nothing is sent, so that batches don't shrink to single rows.
const LEAST_SHARE: u64 = 50;

/// Looks at the group that consumes what is published.
pub trait Watch: Send {
    /// The latest look, once there was one.
    fn seen(&mut self) -> Option<GroupSeen>;
}

/// How far a publish may be ahead of its consumers.
pub struct LagCap {
    /// Most records that are published and not committed.
    pub most_records: u64,
    /// Most bytes of them, by the mean size of what was sent.
    pub most_bytes: u64,
    pub watch: Box<dyn Watch>,
    /// How long to be held back by a group that has no member and moves nothing.
    pub consumer_timeout: Duration,
    /// For messages.
    pub topic: String,
    pub group: String,
    /// Where a partition without a commit begins.
    pub start: BTreeMap<i32, i64>,
}

/// What has gone out so far.
#[derive(Clone, Copy, Debug)]
pub struct Out<'a> {
    /// Where each partition ends at least.
    pub ends: &'a BTreeMap<i32, i64>,
    pub in_flight: u64,
    /// Rows and bytes that were sent.
    pub rows: u64,
    pub bytes: u64,
}

/// Says how many rows may be sent now.
#[derive(Default)]
pub struct Pacer {
    rate: Option<Rate>,
    lag: Option<LagCap>,
    /// Since when the group has moved nothing while its lag held the publish back, and where it was: its commits, summed.
    held: Option<(Instant, i64)>,
    /// Records that were not worked on at the last look.
    behind: Option<u64>,
    note: String,
}

struct Rate {
    per_s: f64,
    credit: f64,
    at: Option<Instant>,
}

impl Pacer {
    /// `max_rows_per_s` is a cap on the rate; absent: none.
    pub fn new(max_rows_per_s: Option<u32>, lag: Option<LagCap>) -> Self {
        Self {
            rate: max_rows_per_s.map(|per_s| Rate {
                per_s: f64::from(per_s),
                credit: 0.0,
                at: None,
            }),
            lag,
            held: None,
            behind: None,
            note: String::new(),
        }
    }

    /// Rows that may be sent at `now`; 0: wait.
    ///
    /// # Errors
    /// [`Error::NoConsumer`] if nobody has taken what is there for as long as was allowed.
    pub fn room(&mut self, now: Instant, out: Out<'_>) -> Result<usize> {
        Ok(self.lag_room(now, out)?.min(self.by_rate(now)))
    }

    /// The same by the lag alone.
    ///
    /// # Errors
    /// As [`Self::room`].
    pub fn lag_room(&mut self, now: Instant, out: Out<'_>) -> Result<usize> {
        self.note.clear();
        Ok(usize::try_from(self.by_lag(now, out)?).unwrap_or(usize::MAX))
    }

    /// The same by the rate alone.
    pub fn rate_room(&mut self, now: Instant) -> usize {
        self.note.clear();
        self.by_rate(now)
    }

    fn by_rate(&mut self, now: Instant) -> usize {
        let room = self.rate.as_mut().map_or(u64::MAX, |rate| rate.room(now));
        if room == 0 && self.note.is_empty() {
            self.note = "held back by limits.max_rows_per_s".into();
        }
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// So many rows were sent.
    pub fn sent(&mut self, rows: u64) {
        if let Some(rate) = &mut self.rate {
            rate.credit -= rows as f64;
        }
    }

    /// Records that were published and not worked on when that was last looked at; `None` where nobody asked to.
    pub fn behind(&self) -> Option<u64> {
        self.behind
    }

    /// What holds the publish back just now, or empty.
    pub fn note(&self) -> &str {
        &self.note
    }

    fn by_lag(&mut self, now: Instant, out: Out<'_>) -> Result<u64> {
        let Some(cap) = &mut self.lag else {
            return Ok(u64::MAX);
        };
        let Some(seen) = cap.watch.seen() else {
            self.note = format!("looking at group {}", cap.group);
            return Ok(0);
        };
        let behind = |(partition, end): (&i32, &i64)| {
            let from = seen.committed.get(partition);
            let from = from.or_else(|| cap.start.get(partition)).unwrap_or(end);
            u64::try_from(end - from).unwrap_or(0)
        };
        let lag = out.ends.iter().map(behind).sum::<u64>() + out.in_flight;
        self.behind = Some(lag);
        let mean = (out.bytes / out.rows.max(1)).max(1);
        let most = cap.most_records.min(cap.most_bytes / mean).max(1);
        let room = most.saturating_sub(lag);
        if room >= most.div_ceil(LEAST_SHARE) || lag == 0 {
            self.held = None;
            return Ok(room.max(1));
        }
        self.note = format!(
            "held back: {lag} records of {most} allowed are not yet worked on by group {}",
            cap.group
        );
        let at: i64 = seen.committed.values().sum();
        let since = match self.held {
            Some((since, before)) if at == before && seen.members == 0 => since,
            // It moves, or somebody is there.
            _ => now,
        };
        self.held = Some((since, at));
        let waited = now.saturating_duration_since(since);
        if waited >= cap.consumer_timeout {
            return Err(Error::NoConsumer {
                topic: cap.topic.clone(),
                group: cap.group.clone(),
                lag,
                limit: most,
                waited_s: waited.as_secs(),
            });
        }
        Ok(0)
    }
}

impl Rate {
    fn room(&mut self, now: Instant) -> u64 {
        let most = (self.per_s * BURST.as_secs_f64()).max(1.0);
        let passed = self
            .at
            .map_or(BURST, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        self.credit = (self.credit + passed.as_secs_f64() * self.per_s).min(most);
        if self.credit < 1.0 {
            return 0;
        }
        self.credit as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Option<GroupSeen>>>);

    impl Watch for Told {
        fn seen(&mut self) -> Option<GroupSeen> {
            self.0.lock().unwrap().clone()
        }
    }

    fn cap(most_records: u64, told: &Told) -> LagCap {
        LagCap {
            most_records,
            most_bytes: u64::MAX,
            watch: Box::new(told.clone()),
            consumer_timeout: Duration::from_secs(60),
            topic: "t".into(),
            group: "g".into(),
            start: BTreeMap::from([(0, 100)]),
        }
    }

    fn tell(told: &Told, committed: Option<i64>, members: usize) {
        *told.0.lock().unwrap() = Some(GroupSeen {
            committed: committed.map(|c| (0, c)).into_iter().collect(),
            members,
        });
    }

    fn room(pacer: &mut Pacer, at: Instant, end: i64, in_flight: u64) -> Result<usize> {
        let ends = BTreeMap::from([(0, end)]);
        let out = Out {
            ends: &ends,
            in_flight,
            rows: 10,
            bytes: 1_000,
        };
        pacer.room(at, out)
    }

    proptest! {
        /// Whatever is asked and when, no more rows go out than the rate gives, and one burst.
        #[test]
        fn the_rate_is_kept(per_s in 1u32..100_000, asks in prop::collection::vec((0u64..500, 0usize..5_000), 1..200)) {
            let mut pacer = Pacer::new(Some(per_s), None);
            let start = Instant::now();
            let (mut now, mut sent) = (start, 0u64);
            for (ms, wanted) in asks {
                now += Duration::from_millis(ms);
                let taken = room(&mut pacer, now, 0, 0).unwrap().min(wanted) as u64;
                pacer.sent(taken);
                sent += taken;
                let allowed = f64::from(per_s) * ((now - start) + BURST).as_secs_f64() + 1.0;
                prop_assert!(sent as f64 <= allowed, "{sent} of {allowed}");
            }
        }

        /// What is published and not committed never passes the cap, and a service that works is always given more.
        #[test]
        fn the_lag_is_kept(most in 1u64..10_000, steps in prop::collection::vec(0u64..5_000, 1..100)) {
            let told = Told::default();
            tell(&told, None, 1);
            let mut pacer = Pacer::new(None, Some(cap(most, &told)));
            let (mut end, mut committed) = (100, 100);
            for work in steps {
                let room = room(&mut pacer, Instant::now(), end, 0).unwrap();
                end += i64::try_from(room).unwrap();
                prop_assert!(u64::try_from(end - committed).unwrap() <= most);
                committed = (committed + i64::try_from(work).unwrap()).min(end);
                tell(&told, Some(committed), 1);
                prop_assert!(committed < end || super::tests::room(&mut pacer, Instant::now(), end, 0).unwrap() > 0);
            }
        }
    }

    #[test]
    fn bytes_count_by_the_mean_of_what_was_sent() {
        let told = Told::default();
        tell(&told, None, 1);
        let mut cap = cap(u64::MAX, &told);
        cap.most_bytes = 5_000;
        let mut pacer = Pacer::new(None, Some(cap));
        // 100 bytes a row: 50 may be under way, 30 are.
        assert_eq!(room(&mut pacer, Instant::now(), 120, 10).unwrap(), 20);
        assert_eq!(pacer.note(), "");
        assert_eq!(room(&mut pacer, Instant::now(), 150, 0).unwrap(), 0);
        assert!(
            pacer.note().contains("50 records of 50"),
            "{}",
            pacer.note()
        );
    }

    #[test]
    fn a_group_that_nobody_is_in_and_that_moves_nothing_ends_it() {
        let told = Told::default();
        let mut pacer = Pacer::new(None, Some(cap(10, &told)));
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(room(&mut pacer, at(0), 110, 0).unwrap(), 0);
        assert!(pacer.note().contains("looking"));
        tell(&told, Some(100), 0);
        assert_eq!(room(&mut pacer, at(1), 110, 0).unwrap(), 0);
        assert_eq!(room(&mut pacer, at(60), 110, 0).unwrap(), 0);
        // Something was worked on; then a member came, and went again.
        tell(&told, Some(101), 0);
        assert_eq!(room(&mut pacer, at(61), 111, 0).unwrap(), 0);
        tell(&told, Some(101), 1);
        assert_eq!(room(&mut pacer, at(200), 111, 0).unwrap(), 0);
        tell(&told, Some(101), 0);
        assert_eq!(room(&mut pacer, at(250), 111, 0).unwrap(), 0);
        let error = room(&mut pacer, at(260), 111, 0).unwrap_err();
        assert_eq!(error.kind(), "no_consumer");
        assert!(error.to_string().contains("10 records"), "{error}");
        // What is done is done: then there is room again.
        tell(&told, Some(111), 0);
        assert_eq!(room(&mut pacer, at(300), 111, 0).unwrap(), 10);
    }
}
