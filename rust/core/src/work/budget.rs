//! How many calls a worker may begin: its share of a rate that all workers of a service have together, while a window is
//! open. Pure; times are since any fixed moment.
//!
//! Workers meet in the store, every [`BEAT`]. Who wants calls is counted from then on, but makes the first when all others
//! have seen it, so that together they never go above the rate; a share that is not renewed ends before the others take
//! it for theirs.

use std::time::Duration;

/// How often a worker says that it is there.
pub const BEAT: Duration = Duration::from_millis(500);
/// A worker that wants calls is seen by all others when it has wanted them for so long.
const SEEN: Duration = BEAT.saturating_mul(3);
/// A share that was not renewed for so long is used no more.
const HOLDS: Duration = BEAT.saturating_mul(6);
/// A worker that has not said for so long that it is there is gone, and its share is the others'.
pub const GONE: Duration = BEAT.saturating_mul(12);
/// Calls are let through in bursts of this time's worth, or one by one.
const BURST: Duration = Duration::from_millis(100);

/// A worker's last beat, as the store has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    pub seen: Duration,
    /// Since when it has wanted calls, and all others could know it.
    pub wants_since: Option<Duration>,
    /// The rate as its job has it; `None`: no limit.
    pub max_calls_per_s: Option<f64>,
}

impl Member {
    /// A worker's beat, after the one `before`.
    pub fn beat(before: Option<Self>, now: Duration, wants: bool, rate: Option<f64>) -> Self {
        let known = before.filter(|b| !b.is_gone(now));
        let since = known.and_then(|b| b.wants_since).unwrap_or(now);
        Self {
            seen: now,
            wants_since: wants.then_some(since),
            max_calls_per_s: rate,
        }
    }

    /// Whether it has not said for too long that it is there.
    pub fn is_gone(&self, now: Duration) -> bool {
        now >= self.seen + GONE
    }
}

/// What a worker was told at its last beat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Grant {
    /// As many calls as it likes.
    Free,
    /// Not more than so many a second.
    Rate(f64),
    /// None.
    Closed,
}

impl Grant {
    /// The share of a worker whose beat was just noted, beside the others.
    pub fn share(me: Member, others: &[Member]) -> Self {
        let now = me.seen;
        let there = others.iter().filter(|m| !m.is_gone(now));
        let mut rate = me.max_calls_per_s.unwrap_or(f64::INFINITY);
        let mut wanting = 1.0;
        for member in there.filter(|m| m.wants_since.is_some()) {
            rate = rate.min(member.max_calls_per_s.unwrap_or(f64::INFINITY));
            wanting += 1.0;
        }
        match me.wants_since {
            _ if rate.is_infinite() => Self::Free,
            Some(since) if now >= since + SEEN => Self::Rate(rate / wanting),
            _ => Self::Closed,
        }
    }
}

/// See the module. Without a grant there are no calls.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    grant: Grant,
    until: Duration,
    /// Calls that may begin, as of `filled`.
    calls: f64,
    filled: Duration,
}

impl Budget {
    /// One that limits nothing.
    pub const FREE: Self = Self {
        grant: Grant::Free,
        until: Duration::MAX,
        calls: 0.0,
        filled: Duration::ZERO,
    };

    /// One that waits for its first grant.
    pub const CLOSED: Self = Self {
        grant: Grant::Closed,
        ..Self::FREE
    };

    /// What holds from now on, until it is renewed or too old.
    pub fn grant(&mut self, now: Duration, grant: Grant) {
        self.fill(now);
        self.grant = grant;
        self.until = now + HOLDS;
        if let Grant::Rate(rate) = grant {
            self.calls = self.calls.min(burst(rate));
        }
    }

    /// Calls that may begin now.
    pub fn available(&mut self, now: Duration) -> usize {
        self.fill(now);
        match self.grant {
            _ if now >= self.until => 0,
            Grant::Free => usize::MAX,
            Grant::Closed => 0,
            // A burst is small.
            Grant::Rate(_) => self.calls as usize,
        }
    }

    /// When a call may begin, as things stand. `None`: not before the next grant.
    pub fn next(&mut self, now: Duration) -> Option<Duration> {
        if self.available(now) > 0 {
            return Some(now);
        }
        match self.grant {
            Grant::Rate(rate) => {
                let at = now + Duration::from_secs_f64((1.0 - self.calls).max(0.0) / rate);
                (at < self.until).then_some(at)
            }
            _ => None,
        }
    }

    /// So many calls begin.
    pub fn spend(&mut self, calls: usize) {
        if let Grant::Rate(_) = self.grant {
            self.calls -= calls as f64;
        }
    }

    fn fill(&mut self, now: Duration) {
        if let Grant::Rate(rate) = self.grant {
            let passed = now.min(self.until).saturating_sub(self.filled);
            self.calls = (self.calls + rate * passed.as_secs_f64()).min(burst(rate));
        }
        self.filled = self.filled.max(now);
    }
}

/// Calls that may begin at once.
fn burst(rate: f64) -> f64 {
    (rate * BURST.as_secs_f64()).max(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_share_is_of_the_smallest_rate_and_begins_when_it_was_seen() {
        let first = |now, wants, rate| Member::beat(None, now, wants, rate);
        let later = |before, now| Member::beat(Some(before), now, true, before.max_calls_per_s);
        let others = [
            first(ms(0), true, Some(60.0)),
            first(ms(0), true, None),
            first(ms(0), false, Some(1.0)),
        ];
        let me = first(ms(1), true, Some(90.0));
        assert_eq!(Grant::share(me, &others), Grant::Closed);
        let me = later(me, SEEN);
        assert_eq!(Grant::share(me, &others), Grant::Closed);
        let me = later(me, SEEN + ms(1));
        assert_eq!(Grant::share(me, &others), Grant::Rate(20.0));
        // The others are gone; and one that was gone itself begins anew.
        let me = later(me, GONE);
        assert_eq!(Grant::share(me, &others), Grant::Rate(90.0));
        assert_eq!(Grant::share(later(me, 2 * GONE), &[]), Grant::Closed);
        assert_eq!(
            Grant::share(first(ms(0), true, None), &others[1..2]),
            Grant::Free
        );
        assert_eq!(
            Grant::share(Member::beat(Some(me), GONE, false, Some(1.0)), &[]),
            Grant::Closed
        );
    }

    #[test]
    fn calls_come_at_their_rate_and_a_pause_saves_none_up() {
        let mut budget = Budget::CLOSED;
        assert_eq!((budget.available(ms(0)), budget.next(ms(0))), (0, None));
        budget.grant(ms(1_000), Grant::Rate(2.0));
        assert_eq!(budget.available(ms(1_000)), 0);
        assert_eq!(budget.next(ms(1_000)), Some(ms(1_500)));
        assert_eq!(budget.available(ms(1_500)), 1);
        budget.grant(ms(2_000), Grant::Rate(2.0));
        assert_eq!(budget.available(ms(4_000)), 1);
        budget.spend(1);
        assert_eq!(budget.available(ms(4_000)), 0);
        assert_eq!(budget.next(ms(4_000)), Some(ms(4_500)));
        // Nobody has renewed it.
        assert_eq!(budget.available(ms(2_000) + HOLDS), 0);
        assert_eq!(budget.next(ms(2_000) + HOLDS), None);
    }

    #[test]
    fn what_is_free_is_not_counted() {
        let mut budget = Budget::FREE;
        budget.spend(1_000);
        assert_eq!(budget.available(ms(0)), usize::MAX);
        budget.grant(ms(1), Grant::Free);
        assert_eq!(budget.available(ms(2)), usize::MAX);
        budget.grant(ms(3), Grant::Closed);
        assert_eq!(budget.available(ms(3)), 0);
    }

    proptest! {
        /// However it is asked and renewed, no more calls begin in a time than the rate and a burst allow.
        #[test]
        fn never_above_the_rate(rate in 0.2f64..5_000.0, steps in prop::collection::vec((0u64..700, 0usize..500), 1..200)) {
            let mut budget = Budget::CLOSED;
            let (mut now, mut calls) = (ms(0), 0);
            budget.grant(now, Grant::Rate(rate));
            for (step, wanted) in steps {
                now += ms(step);
                let begin = budget.available(now).min(wanted);
                budget.spend(begin);
                calls += begin;
                budget.grant(now, Grant::Rate(rate));
                prop_assert!(calls as f64 <= rate * now.as_secs_f64() + burst(rate) + 1e-6);
            }
        }

        /// Workers that come, go, die and lose the store: together they stay below the rate, but for each one's burst.
        #[test]
        fn together_never_above_the_rate(seed: u64) {
            let mut random = crate::work::testing::Random(seed);
            let rate = 40.0;
            // Of each: the budget, whether it wants calls, its last beat, until when it can't reach the store.
            let mut workers = [(Budget::CLOSED, false, ms(0), ms(0)); 5];
            let mut noted: [Option<Member>; 5] = [None; 5];
            let (mut calls, mut since) = (0.0, ms(0));
            for step in 0u64..6_000 {
                let now = ms(step * 10);
                for at in 0..workers.len() {
                    let (budget, wants, beat, silent) = &mut workers[at];
                    if random.one_in(300) {
                        *wants = !*wants;
                    }
                    if random.one_in(2_000) {
                        *silent = now + ms(random.below(9_000) as u64);
                    }
                    // Beats are late now and then, by up to a half.
                    let due = *beat + BEAT + if random.one_in(2) { BEAT / 2 } else { ms(0) };
                    if now >= due && now >= *silent {
                        *beat = now;
                        let me = Member::beat(noted[at].take(), now, *wants, Some(rate));
                        let others: Vec<Member> = noted.iter().flatten().copied().collect();
                        budget.grant(now, Grant::share(me, &others));
                        noted[at] = Some(me);
                    }
                    let begin = budget.available(now).min(20);
                    budget.spend(begin);
                    calls += begin as f64;
                }
                if (now - since) >= ms(5_000) {
                    let allowed = rate * 5.0 + 5.0 * burst(rate) * 2.0;
                    prop_assert!(calls <= allowed, "seed {seed}: {calls} calls in 5 s before {now:?}");
                    (calls, since) = (0.0, now);
                }
            }
        }
    }
}
