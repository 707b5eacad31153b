//! Two limits compared: what each answers in windows of its own, in turn. Pure.

use super::window::{Rate, Window};

/// The least gain (of a logarithm) that is one.
const TOLERANCE: f64 = 0.03;
/// From a limit to the next in a first, coarse step.
pub const COARSE: f64 = 2.0;
/// Windows of each limit that a finer step needs: where calls wait, those of one window resemble each other.
const WINDOWS: f64 = 3.0;
/// Windows after which nothing will be found.
const PATIENCE: f64 = 48.0;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Whether the high limit is the one on trial.
    pub up: bool,
    pub low: u32,
    pub high: u32,
    at_high: bool,
    lows: Rate,
    highs: Rate,
    /// The time that a call counts for at most, the same for both.
    cap: Option<f64>,
}

/// What was found.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    /// The high limit answers no more than the low one.
    Flat,
    /// It answers as much more as it has more calls.
    Full,
    /// This many slots, between the two.
    Slots(f64),
    /// Nothing, in all this time.
    Nothing,
}

impl Pair {
    /// Begins with the one that is not on trial.
    pub fn new(up: bool, low: u32, high: u32) -> Self {
        Self {
            up,
            low,
            high,
            at_high: !up,
            lows: Rate::default(),
            highs: Rate::default(),
            cap: None,
        }
    }

    /// Goes on from another in the same direction: what is known of the limit that both have stays.
    pub fn after(mut self, before: &Self) -> Self {
        self.cap = before.cap;
        if self.up {
            self.lows = before.highs;
        } else {
            self.highs = before.lows;
        }
        self.at_high = self.up;
        self
    }

    /// The limit that is in force.
    pub fn limit(&self) -> u32 {
        if self.at_high { self.high } else { self.low }
    }

    pub fn windows(&self) -> f64 {
        self.lows.windows() + self.highs.windows()
    }

    /// What is known of the limit in force.
    pub fn seen(&self) -> &Rate {
        if self.at_high {
            &self.highs
        } else {
            &self.lows
        }
    }

    /// See [`Window::cap`].
    pub fn cap(&mut self, window: &mut Window) -> f64 {
        *self.cap.get_or_insert_with(|| window.cap())
    }

    /// Adds a window of the limit in force, and changes sides: low, high, high, low, so that a service which drifts
    /// drifts for both.
    pub fn add(&mut self, window: &mut Window) {
        let cap = self.cap(window);
        let (this, other) = if self.at_high {
            (&mut self.highs, &self.lows)
        } else {
            (&mut self.lows, &self.highs)
        };
        window.add_to(this, cap);
        if this.windows() > other.windows() {
            self.at_high = !self.at_high;
        }
    }

    /// What is found by now, if it is sharp enough for a step of this `ratio`.
    pub fn found(&self, ratio: f64) -> Option<Found> {
        let fewer = self.lows.windows().min(self.highs.windows());
        if fewer < if ratio >= COARSE { 1.0 } else { WINDOWS } {
            return None;
        }
        let reach = self.highs.log_in_flight() - self.lows.log_in_flight();
        let gain = self.highs.log() - self.lows.log();
        let error = (self.highs.variance() + self.lows.variance()).sqrt();
        let rising = gain - 1.5 * error > reach / 2.0;
        let level = gain + 2.0 * error < TOLERANCE;
        let sharp = error <= TOLERANCE.max((reach / 4.0).min(ratio.ln() / 2.0));
        if !(sharp || rising || level) {
            return (self.windows() >= PATIENCE).then_some(Found::Nothing);
        }
        let tolerance = TOLERANCE.max(error);
        // Going down for a gain that might be none costs answers; not going up for one costs none.
        Some(if gain <= if self.up { tolerance } else { TOLERANCE } {
            Found::Flat
        } else if rising || gain >= reach - tolerance {
            Found::Full
        } else {
            Found::Slots(f64::from(self.low) * gain.exp())
        })
    }
}
