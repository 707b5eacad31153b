//! The limit at which the processors are busy for a given share of the time. Pure.
//!
//! The share grows with the calls under way, so the limit is moved in proportion, by half of what is missing, and only
//! when it is off by more than a tenth: a service beside other work is not driven to and fro by their noise.

use super::{Bounds, Ended, How};

/// Shortest time between two steps, in seconds.
const EVERY: f64 = 1.0;
/// Share of a measurement in what is believed.
const WEIGHT: f64 = 0.4;
/// Off by less than this (of a logarithm), nothing moves.
const BAND: f64 = 0.1;
/// The longest step (of a logarithm).
const STEP: f64 = 0.35;
/// Share of the limit that must be in use for it to rise.
const USED: f64 = 0.9;

/// See the module.
#[derive(Clone, Debug)]
pub struct CpuTarget {
    target: f64,
    bounds: Bounds,
    limit: f64,
    believed: Option<f64>,
    stepped: f64,
    /// Calls that ended since the last step, and how many were under way when each began.
    calls: u64,
    in_flight: u64,
    shrinking: bool,
}

impl CpuTarget {
    /// A target that is no share is made one.
    pub fn new(target: f64, bounds: Bounds, start: u32) -> Self {
        Self {
            target: if target > 0.01 { target.min(1.0) } else { 0.01 },
            bounds,
            limit: f64::from(bounds.clamp(start)),
            believed: None,
            stepped: f64::NEG_INFINITY,
            calls: 0,
            in_flight: 0,
            shrinking: false,
        }
    }

    pub fn limit(&self) -> u32 {
        self.bounds.nearest(self.limit)
    }

    pub fn is_shrinking(&self) -> bool {
        self.shrinking
    }

    pub fn ended(&mut self, ended: &Ended) {
        self.calls += 1;
        self.in_flight += u64::from(ended.in_flight);
        if ended.how == How::Busy && ended.in_flight <= self.limit() {
            self.limit = f64::from(self.bounds.clamp(ended.in_flight.saturating_sub(1)));
            self.shrinking = true;
        }
    }

    pub fn busy(&mut self, now: f64, share: f64) {
        if !share.is_finite() {
            return;
        }
        let share = share.clamp(0.001, 1.0);
        let believed = match self.believed {
            Some(before) => before + WEIGHT * (share - before),
            None => share,
        };
        self.believed = Some(believed);
        if now - self.stepped < EVERY {
            return;
        }
        let mean = self.in_flight as f64 / self.calls.max(1) as f64;
        let is_used = self.calls > 0 && mean >= USED * f64::from(self.limit());
        (self.stepped, self.calls, self.in_flight) = (now, 0, 0);
        let off = (self.target / believed).ln();
        if off.abs() < BAND {
            self.shrinking = false;
        } else if off < 0.0 || is_used {
            let before = f64::from(self.limit());
            let to = (self.limit * (off / 2.0).clamp(-STEP, STEP).exp())
                .clamp(f64::from(self.bounds.min), f64::from(self.bounds.max));
            let ratio = f64::from(self.bounds.nearest(to)) / before;
            // With few calls at once the next limit may be farther off than this one.
            if (off - ratio.ln()).abs() <= off.abs() {
                self.limit = to;
                self.believed = Some(believed * ratio);
            }
            self.shrinking = off < 0.0;
        }
    }
}
