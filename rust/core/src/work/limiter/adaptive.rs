//! The limit where more calls at once stop making more answers, found by trying. Pure.
//!
//! Two limits are compared, each for windows in turn (low, high, high, low), so that a service which drifts drifts for
//! both. By Little's law the answers a second are the calls under way over the time of each; if the service has `k` slots,
//! they grow with the limit up to `k` and not beyond, so that `k = low × rate(high) / rate(low)`, whatever the time of a
//! call. No latency is remembered as the best: one lucky call decides nothing, and a service that is busy with others is
//! no reason to rise. A pair is compared until what is known is sharp enough for the step between them; steps are
//! coarse at first and after a change, and fine where nothing moves. Between tests the limit rests, and is tested at once
//! if the rate changes. Upwards is looked more often than downwards: that takes no answers from anybody.
//!
//! A limit that isn't used is not tested: it holds nothing back, so nothing is learnt from it.

use super::pair::{COARSE, Found, Pair};
use super::window::{Rate, Window};
use super::{Bounds, Ended, How};

/// The same when the rate changed.
const CHANGED: f64 = 1.4;
/// The same where nothing moves.
const FINE: f64 = 1.2;
/// Where nothing moves, one test in so many looks downwards.
const DOWN: u32 = 3;
/// A limit is set this much above the slots that were found, for they are found with an error.
const MARGIN: f64 = 1.06;
/// A rest is as long as the test before, in windows, and longer the more tests moved nothing: by one more such length for
/// every so many tests, up to so many lengths.
const REST: (u32, u32) = (6, 2);
/// A rate that is off by more than this (of a logarithm) and four standard errors is unlike those before.
const ODD: f64 = 0.05;
/// A step of less than this share moves nothing to speak of.
const NEAR: f64 = 0.1;
/// Share of the calls that are turned away from which on they are no coincidence, and the calls that it is taken from, or
/// as many as the limit if that is more.
const AWAY: f64 = 0.1;
const AWAY_CALLS: u32 = 64;
/// Seconds for which a limit at which calls were turned away is not passed; doubled each time, up to the second figure.
const CEILING_S: (f64, f64) = (5.0, 300.0);

/// See the module.
#[derive(Clone, Debug)]
pub struct Adaptive {
    bounds: Bounds,
    /// The limit between tests.
    rest: u32,
    phase: Phase,
    window: Window,
    /// Calls that must still end before the window opens: those that began under another limit.
    settling: u32,
    /// The next test: how far, and whether upwards.
    ratio: f64,
    up: bool,
    /// Tests since it moved.
    unmoved: u32,
    ceiling: Option<Ceiling>,
    ceiling_s: f64,
    /// Windows in a row that were unlike those before.
    odd: u32,
    /// Windows of the last test.
    length: f64,
    /// Share of the calls of late that were turned away.
    away: f64,
    /// The most calls under way of which one was answered, in this window and the one before.
    proven: (u32, u32),
    /// The limit when a call was last answered.
    anchor: u32,
    shrinking: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Rest { windows: f64, seen: Rate },
    Test(Pair),
}

impl Phase {
    fn rest(windows: f64) -> Self {
        Self::Rest {
            windows,
            seen: Rate::default(),
        }
    }
}

/// Where calls were turned away.
#[derive(Clone, Copy, Debug)]
struct Ceiling {
    limit: u32,
    until: f64,
}

impl Adaptive {
    pub fn new(bounds: Bounds, start: u32) -> Self {
        let rest = bounds.clamp(start);
        Self {
            bounds,
            rest,
            phase: Phase::Rest {
                windows: 0.0,
                seen: Rate::default(),
            },
            window: Window::default(),
            settling: rest,
            ratio: COARSE,
            up: true,
            unmoved: 0,
            ceiling: None,
            ceiling_s: CEILING_S.0,
            odd: 0,
            length: 0.0,
            away: 0.0,
            proven: (0, 0),
            anchor: rest,
            shrinking: false,
        }
    }

    pub fn limit(&self) -> u32 {
        match &self.phase {
            Phase::Rest { .. } => self.rest,
            Phase::Test(pair) => pair.limit(),
        }
    }

    pub fn is_shrinking(&self) -> bool {
        self.shrinking
    }

    pub fn ended(&mut self, now: f64, ended: &Ended) {
        let took = ended.took.as_secs_f64();
        let turned_away = if ended.how == How::Busy { 1.0 } else { 0.0 };
        self.away += (turned_away - self.away) / f64::from(self.limit().max(AWAY_CALLS));
        match ended.how {
            How::Busy => return self.busy(now, ended.in_flight),
            How::Answered => {
                self.proven.0 = self.proven.0.max(ended.in_flight);
                self.anchor = self.limit();
            }
            How::Failed | How::Retried => {}
        }
        if self.settling > 0 {
            self.settling -= 1;
            if self.settling == 0 {
                self.open(now);
            }
            return;
        }
        match ended.how {
            How::Answered => self.window.answered(took, ended.in_flight),
            How::Failed => self.window.failed(took),
            How::Retried | How::Busy => {}
        }
        if self.window.is_full(now, self.limit()) {
            self.look(now);
        }
    }

    fn open(&mut self, now: f64) {
        self.proven = (0, self.proven.0);
        self.window.open(now);
    }

    /// Takes the window as a whole.
    fn look(&mut self, now: f64) {
        let before = self.limit();
        if self.window.is_barren() {
            self.lower(self.rest / 2);
            (self.ratio, self.up) = (COARSE, true);
        } else if self.window.is_used(before) {
            match self.phase {
                Phase::Rest { windows, seen } => self.rested(now, windows, seen),
                Phase::Test(pair) => self.tested(now, pair),
            }
        } else {
            self.phase = Phase::rest(0.0);
            self.shrinking = false;
        }
        self.changed(now, before);
    }

    /// After whatever may have changed the limit.
    fn changed(&mut self, now: f64, before: u32) {
        let limit = self.limit();
        if limit == before {
            self.open(now);
        } else {
            self.settling = limit.max(before).saturating_mul(2);
        }
    }

    fn rested(&mut self, now: f64, windows: f64, mut seen: Rate) {
        if self.is_odd(&seen, f64::INFINITY) {
            return self.test(now);
        }
        if self.odd == 0 {
            self.window.add_to(&mut seen, f64::INFINITY);
        }
        let windows = windows - 1.0;
        if windows <= 0.0 {
            self.test(now);
        } else {
            self.phase = Phase::Rest { windows, seen };
        }
    }

    /// Whether this window and the one before were unlike what was seen under their limits: the service has changed. The
    /// next test looks where it went.
    fn is_odd(&mut self, seen: &Rate, cap: f64) -> bool {
        if seen.windows() < 1.0 {
            return false;
        }
        let mut one = Rate::default();
        self.window.add_to(&mut one, cap);
        let moved = one.log() - seen.log();
        let noise = (one.variance() + seen.variance()).sqrt();
        if moved.abs() <= ODD + 4.0 * noise {
            self.odd = 0;
            return false;
        }
        self.odd += 1;
        if self.odd < 2 {
            return false;
        }
        self.odd = 0;
        self.up = moved > 0.0;
        self.ratio = self.ratio.max(CHANGED);
        true
    }

    /// Begins a test from where it rests, if there is room for one.
    fn test(&mut self, now: f64) {
        let top = self.top(now);
        if self.up && self.rest >= top || !self.up && self.rest <= self.bounds.min {
            // No room this way: it is as if the test had moved nothing.
            self.turn();
            return;
        }
        let rest = f64::from(self.rest);
        let (low, high) = if self.up {
            let high = self.bounds.nearest(rest * self.ratio).max(self.rest + 1);
            (self.rest, high.min(top))
        } else {
            let low = self.bounds.nearest(rest / self.ratio);
            (low.min(self.rest - 1).max(self.bounds.min), self.rest)
        };
        self.phase = Phase::Test(Pair::new(self.up, low, high));
    }

    fn top(&self, now: f64) -> u32 {
        match self.ceiling {
            Some(ceiling) if now < ceiling.until => ceiling.limit,
            Some(Ceiling { limit, .. }) => self.bounds.clamp(limit.saturating_add(limit / 10 + 1)),
            None => self.bounds.max,
        }
    }

    fn tested(&mut self, now: f64, mut pair: Pair) {
        let cap = pair.cap(&mut self.window);
        if self.is_odd(pair.seen(), cap) {
            return self.test(now);
        }
        pair.add(&mut self.window);
        self.phase = Phase::Test(pair);
        if let Some(found) = pair.found(self.ratio) {
            self.conclude(now, pair, found);
        }
    }

    fn conclude(&mut self, now: f64, pair: Pair, found: Found) {
        if self
            .ceiling
            .is_some_and(|ceiling| pair.high > ceiling.limit)
        {
            // Nobody was turned away this time.
            self.ceiling = None;
            self.ceiling_s = CEILING_S.0;
        }
        match (found, pair.up) {
            (Found::Flat, true) | (Found::Full, false) => {
                self.shrinking = false;
                self.stay(&pair);
            }
            (Found::Full, true) | (Found::Flat, false) => self.go_on(now, &pair),
            (Found::Nothing, _) => self.stay(&pair),
            (Found::Slots(slots), _) => {
                let to = self.bounds.nearest(slots * MARGIN);
                let to = to.clamp(pair.low, pair.high);
                let rough = self.ratio > FINE && to != self.rest;
                self.move_to(to);
                self.stay(&pair);
                if rough {
                    (self.up, self.unmoved) = (pair.up, 0);
                }
            }
        }
    }

    /// Rests, and looks closer then.
    fn stay(&mut self, pair: &Pair) {
        self.length = pair.windows();
        self.ratio = self.ratio.sqrt().max(FINE);
        self.turn();
    }

    /// Rests, and looks the other way then if it is that one's turn.
    fn turn(&mut self) {
        self.up = !self.up || !self.unmoved.is_multiple_of(DOWN);
        let times = self.unmoved.div_ceil(REST.0).min(REST.1);
        self.phase = Phase::rest(self.length * f64::from(times));
        self.unmoved += 1;
    }

    /// Goes to the limit that was on trial, and looks farther with a longer step.
    fn go_on(&mut self, now: f64, pair: &Pair) {
        self.move_to(if pair.up { pair.high } else { pair.low });
        self.up = pair.up;
        let most = if pair.up {
            COARSE
        } else {
            self.ratio.max(CHANGED)
        };
        self.ratio = (self.ratio * self.ratio).min(most);
        self.test(now);
        if let Phase::Test(next) = &mut self.phase {
            *next = next.after(pair);
        }
    }

    fn move_to(&mut self, rest: u32) {
        if rest != self.rest {
            self.shrinking = rest < self.rest;
        }
        if f64::from(rest.abs_diff(self.rest)) > NEAR * f64::from(self.rest) {
            self.unmoved = 0;
        }
        self.rest = rest;
    }

    fn lower(&mut self, to: u32) {
        self.move_to(self.bounds.clamp(to));
        self.shrinking = true;
        self.phase = Phase::rest(0.0);
    }

    /// A call was turned away. With `n` under way it was one too many, unless others passed with as many.
    fn busy(&mut self, now: f64, in_flight: u32) {
        let before = self.limit();
        let passed = in_flight <= self.proven.0.max(self.proven.1);
        if passed && self.away < AWAY {
            return;
        }
        // A service that answers nobody is down: what it can take is not learnt from that.
        let to = self
            .bounds
            .clamp((in_flight.saturating_sub(1)).max(self.anchor / 2));
        if to >= before {
            return;
        }
        if self.ceiling.is_none_or(|ceiling| now >= ceiling.until) {
            self.ceiling_s = (self.ceiling_s * 2.0).min(CEILING_S.1);
        }
        self.ceiling = Some(Ceiling {
            limit: to,
            until: now + self.ceiling_s,
        });
        self.lower(to);
        // What is too much is known to the call: there is nothing to look for below it soon.
        (self.ratio, self.unmoved) = (FINE, 1);
        self.changed(now, before);
    }
}
