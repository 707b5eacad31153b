//! The limiter: how many calls a service gets at once. Pure: the clock is an argument.
//!
//! A service has slots: threads, cores, connections to what it calls itself. Fewer calls than that waste it; more only
//! wait in it, and make every answer late. The number is found by what it changes, not by a latency taken for good: see
//! [`adaptive`]. [`cpu`] holds the processors' load instead.

mod adaptive;
mod cpu;
#[cfg(test)]
mod cpu_tests;
mod pair;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

use adaptive::Adaptive;
use cpu::CpuTarget;

/// How the limit is found. Limits of zero count as one, a `max` below `min` as `min`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LimiterSettings {
    /// It is given.
    Static(u32),
    /// Where more calls at once stop making more answers.
    Adaptive { min: u32, max: u32, start: u32 },
    /// Where the processors of the machine are busy for `target_share` of the time (0 to 1).
    Cpu {
        target_share: f64,
        min: u32,
        max: u32,
        start: u32,
    },
}

/// A call that ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    /// From when the service was called to when it had answered: no queue of ours, no back-off.
    pub took: Duration,
    /// Calls under way when it began, with itself.
    pub in_flight: u32,
    pub how: How,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With a verdict on the record, whichever: the service did its work.
    Answered,
    /// Without one: an error of the service, or its deadline passed.
    Failed,
    /// Turned away: 429, 503, no connection.
    Busy,
    /// With a verdict, to a second or later attempt: its time says nothing of the service's queue.
    Retried,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Limiter {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Static(u32),
    Adaptive(Box<Adaptive>),
    Cpu(CpuTarget),
}

impl Limiter {
    pub fn new(settings: LimiterSettings) -> Self {
        let kind = match settings {
            LimiterSettings::Static(limit) => Kind::Static(limit.max(1)),
            LimiterSettings::Adaptive { min, max, start } => {
                Kind::Adaptive(Box::new(Adaptive::new(Bounds::new(min, max), start)))
            }
            LimiterSettings::Cpu {
                target_share,
                min,
                max,
                start,
            } => Kind::Cpu(CpuTarget::new(target_share, Bounds::new(min, max), start)),
        };
        Self { kind }
    }

    /// Calls that may be under way now, at least one.
    pub fn limit(&self) -> u32 {
        match &self.kind {
            Kind::Static(limit) => *limit,
            Kind::Adaptive(adaptive) => adaptive.limit(),
            Kind::Cpu(cpu) => cpu.limit(),
        }
    }

    /// Takes note of a call that ended. `now` is the time since any fixed moment and never goes back.
    pub fn ended(&mut self, now: Duration, ended: &Ended) {
        match &mut self.kind {
            Kind::Static(_) => {}
            Kind::Adaptive(adaptive) => adaptive.ended(now.as_secs_f64(), ended),
            Kind::Cpu(cpu) => cpu.ended(ended),
        }
    }

    /// Takes note of the share (0 to 1) of the processors' time that was busy since the last call of this, by whomever.
    /// Of use for [`LimiterSettings::Cpu`] alone; once a second is enough.
    pub fn cpu(&mut self, now: Duration, busy_share: f64) {
        if let Kind::Cpu(cpu) = &mut self.kind {
            cpu.busy(now.as_secs_f64(), busy_share);
        }
    }

    /// Whether the limit went down of late because the service takes less. More workers would not help it then.
    pub fn is_shrinking(&self) -> bool {
        match &self.kind {
            Kind::Static(_) => false,
            Kind::Adaptive(adaptive) => adaptive.is_shrinking(),
            Kind::Cpu(cpu) => cpu.is_shrinking(),
        }
    }
}

/// Where a limit may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    min: u32,
    max: u32,
}

impl Bounds {
    fn new(min: u32, max: u32) -> Self {
        let min = min.max(1);
        Self {
            min,
            max: max.max(min),
        }
    }

    fn clamp(self, limit: u32) -> u32 {
        limit.clamp(self.min, self.max)
    }

    /// The nearest whole limit.
    fn nearest(self, limit: f64) -> u32 {
        // Out of the range of u32 the cast saturates.
        self.clamp(limit.round() as u32)
    }
}
