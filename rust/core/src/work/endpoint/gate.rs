//! Whether a service may be called now: closed while it can't take more or is down, so that no record pays for it. Pure;
//! times are since any fixed moment.

use std::time::Duration;

/// First wait of a service that is down or says no time; doubles with each probe that fails.
pub const FIRST_WAIT: Duration = Duration::from_millis(100);
pub const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// No service is believed that asks for longer.
pub const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// A probe without an answer for so long is given up for another.
const PROBE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// Closed until then; behind it one call is let through, to see.
    until: Option<Duration>,
    /// Since when a call is on its way to see.
    probing: Option<Duration>,
    /// Times in a row that it had to stay closed.
    failures: u32,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    Call,
    /// The same, as the one that goes ahead to see whether the service takes calls again.
    Probe,
    /// Ask again after this time.
    Wait(Duration),
}

impl Gate {
    /// Asks for leave to call.
    pub fn ask(&mut self, now: Duration) -> Leave {
        let Some(until) = self.until else {
            return Leave::Call;
        };
        if now < until {
            return Leave::Wait(until - now);
        }
        match self.probing {
            Some(since) if now < since + PROBE => Leave::Wait(FIRST_WAIT),
            _ => {
                self.probing = Some(now);
                Leave::Probe
            }
        }
    }

    /// A call was answered: the service takes calls.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// A call had no whole answer. That closes no gate, but one that is closed stays so: the call was the one to see.
    pub fn unanswered(&mut self, now: Duration) {
        if self.until.is_some() {
            self.turned_away(now, None);
        }
    }

    /// A call was turned away, or met nobody. `after`: how long the service asks to be left alone.
    pub fn turned_away(&mut self, now: Duration, after: Option<Duration>) {
        // Calls that were under way together tell of one and the same trouble.
        let first = self.until.is_none_or(|until| now >= until);
        if first {
            self.failures = self.failures.saturating_add(1);
        }
        let doubled = FIRST_WAIT
            .saturating_mul(1 << (self.failures.saturating_sub(1)).min(10))
            .min(LONGEST_WAIT);
        let until = now + after.map_or(doubled, |asked| asked.min(LONGEST_ASKED));
        self.until = Some(self.until.map_or(until, |known| known.max(until)));
        self.probing = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_call_goes_first_and_the_others_follow_it() {
        let mut gate = Gate::default();
        assert_eq!(gate.ask(ms(0)), Leave::Call);
        gate.turned_away(ms(10), None);
        assert_eq!(gate.ask(ms(20)), Leave::Wait(ms(90)));
        assert_eq!(gate.ask(ms(110)), Leave::Probe);
        assert_eq!(gate.ask(ms(111)), Leave::Wait(FIRST_WAIT));
        gate.answered();
        assert_eq!(gate.ask(ms(112)), Leave::Call);
    }

    #[test]
    fn a_probe_without_an_answer_is_followed_by_another_soon() {
        let mut gate = Gate::default();
        gate.unanswered(ms(0));
        assert_eq!(gate.ask(ms(0)), Leave::Call);
        gate.turned_away(ms(0), None);
        assert_eq!(gate.ask(ms(100)), Leave::Probe);
        gate.unanswered(ms(5_000));
        assert_eq!(gate.ask(ms(5_000)), Leave::Wait(ms(200)));
        assert_eq!(gate.ask(ms(5_200)), Leave::Probe);
    }

    #[test]
    fn waits_double_by_probe_and_not_by_call() {
        let mut gate = Gate::default();
        for _ in 0..8 {
            gate.turned_away(ms(0), None);
        }
        assert_eq!(gate.ask(ms(0)), Leave::Wait(ms(100)));
        assert_eq!(gate.ask(ms(100)), Leave::Probe);
        gate.turned_away(ms(101), None);
        assert_eq!(gate.ask(ms(101)), Leave::Wait(ms(200)));
        let mut now = ms(101);
        for _ in 0..20 {
            now += LONGEST_WAIT;
            assert_eq!(gate.ask(now), Leave::Probe);
            gate.turned_away(now, None);
        }
        assert_eq!(gate.ask(now), Leave::Wait(LONGEST_WAIT));
    }

    #[test]
    fn what_the_service_asks_for_counts_within_reason() {
        let mut gate = Gate::default();
        gate.turned_away(ms(0), Some(ms(2_000)));
        gate.turned_away(ms(1), Some(ms(500)));
        assert_eq!(gate.ask(ms(1_000)), Leave::Wait(ms(1_000)));
        gate.turned_away(ms(1_000), Some(Duration::from_secs(86_400)));
        assert_eq!(gate.ask(ms(1_000)), Leave::Wait(LONGEST_ASKED));
    }

    #[test]
    fn a_probe_that_never_comes_back_is_followed_by_another() {
        let mut gate = Gate::default();
        gate.turned_away(ms(0), None);
        assert_eq!(gate.ask(ms(100)), Leave::Probe);
        assert_eq!(gate.ask(ms(100) + PROBE), Leave::Probe);
    }

    proptest! {
        /// Whatever happens, somebody gets leave again within the longest wait.
        #[test]
        fn nobody_waits_for_ever(events in prop::collection::vec((0u64..20_000, 0u8..3), 0..60)) {
            let (mut gate, mut now) = (Gate::default(), ms(0));
            for (step, what) in events {
                now += ms(step);
                match what {
                    0 => gate.turned_away(now, None),
                    1 => gate.answered(),
                    _ => drop(gate.ask(now)),
                }
            }
            now += PROBE + LONGEST_WAIT;
            prop_assert!(!matches!(gate.ask(now), Leave::Wait(_)));
        }
    }
}
