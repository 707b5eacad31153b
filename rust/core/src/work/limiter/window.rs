//! What the calls of a stretch of time, all under one limit, say of the service. Pure.

/// The most calls that a window holds.
const MOST: usize = 8_192;
/// The least, or three times the limit if that is more.
const LEAST: usize = 64;
/// The shortest window, in seconds: the hiccups of the machine are of this size.
const SHORTEST: f64 = 0.02;
/// Share of the limit that must be in use for a window to say anything of it.
const USED: f64 = 0.9;
/// The standard error of a rate is at least this: no two stretches of time are quite alike.
const NOISE: f64 = 0.005;

/// The calls that ended since it was opened.
#[derive(Clone, Debug, Default)]
pub struct Window {
    opened: f64,
    /// Seconds that answered calls took.
    took: Vec<f32>,
    in_flight: u64,
    failed: u32,
    failed_took: f64,
}

impl Window {
    pub fn open(&mut self, now: f64) {
        self.took.clear();
        *self = Self {
            opened: now,
            took: std::mem::take(&mut self.took),
            ..Self::default()
        };
    }

    pub fn answered(&mut self, took: f64, in_flight: u32) {
        self.took.push(took as f32);
        self.in_flight += u64::from(in_flight);
    }

    pub fn failed(&mut self, took: f64) {
        self.failed += 1;
        self.failed_took += took;
    }

    /// Whether there is enough in it for one look.
    pub fn is_full(&self, now: f64, limit: u32) -> bool {
        let calls = self.took.len() + self.failed as usize;
        let enough = LEAST.max(3 * limit as usize).min(MOST);
        calls >= MOST || (calls >= enough && now - self.opened >= SHORTEST)
    }

    /// Whether not one call was answered.
    pub fn is_barren(&self) -> bool {
        self.took.is_empty()
    }

    /// Whether the limit was in use: where fewer calls were under way, it held nothing back.
    pub fn is_used(&self, limit: u32) -> bool {
        let mean = self.in_flight as f64 / (self.took.len() as f64).max(1.0);
        mean >= USED * f64::from(limit)
    }

    /// The time that a call may count for at most: twice the 98th percentile. Whatever is beyond says little of the queue,
    /// and would drown what the others say.
    pub fn cap(&mut self) -> f64 {
        if self.took.is_empty() {
            return f64::INFINITY;
        }
        let at = (self.took.len() - 1) * 98 / 100;
        let (_, found, _) = self.took.select_nth_unstable_by(at, f32::total_cmp);
        2.0 * f64::from(*found)
    }

    /// Adds it to what is known of its limit.
    pub fn add_to(&self, rate: &mut Rate, cap: f64) {
        let mut one = Rate {
            answered: self.took.len() as f64,
            in_flight: self.in_flight as f64,
            lost: self.failed_took,
            ..Rate::default()
        };
        for took in &self.took {
            let took = f64::from(*took).min(cap);
            one.took += took;
            one.squares += took * took;
        }
        let log = one.log();
        rate.answered += one.answered;
        rate.in_flight += one.in_flight;
        rate.lost += one.lost;
        rate.took += one.took;
        rate.squares += one.squares;
        rate.windows += 1.0;
        rate.logs += log;
        rate.log_squares += log * log;
    }
}

/// What is known of a limit: the answers a second under it, by Little's law. Sums over windows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    answered: f64,
    in_flight: f64,
    took: f64,
    squares: f64,
    /// Seconds in calls that failed.
    lost: f64,
    windows: f64,
    logs: f64,
    log_squares: f64,
}

impl Rate {
    pub fn windows(&self) -> f64 {
        self.windows
    }

    /// Logarithm of the answers a second: calls under way × answers of each a second.
    pub fn log(&self) -> f64 {
        let tiny = 1e-12;
        let mean_in_flight = self.in_flight / self.answered.max(1.0);
        (mean_in_flight.max(tiny) * self.answered.max(tiny) / (self.took + self.lost).max(tiny))
            .ln()
    }

    /// Logarithm of the calls that were under way.
    pub fn log_in_flight(&self) -> f64 {
        (self.in_flight / self.answered.max(1.0)).max(1.0).ln()
    }

    /// Variance of [`log`](Self::log): as the spread of the calls has it or as that of the windows has it, whichever is
    /// larger.
    pub fn variance(&self) -> f64 {
        let n = self.answered.max(1.0);
        let mean = (self.took / n).max(1e-12);
        let calls = (self.squares / n / (mean * mean) - 1.0).max(0.0) / n;
        let between = if self.windows >= 3.0 {
            let mean = self.logs / self.windows;
            (self.log_squares / self.windows - mean * mean).max(0.0) / (self.windows - 1.0)
        } else {
            0.0
        };
        calls.max(between) + NOISE * NOISE
    }
}
