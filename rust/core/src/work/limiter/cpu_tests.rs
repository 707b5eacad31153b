//! The processors' share on a simulated machine.

use std::time::Duration;

use super::{Ended, How, Limiter, LimiterSettings};
use crate::work::testing::Random;

fn ended(in_flight: u32) -> Ended {
    Ended {
        took: Duration::from_millis(10),
        in_flight,
        how: How::Answered,
    }
}

/// A machine whose processors are busy by `per_call` for each call, and by `others` besides, as seen once a second with
/// noise. Returns the busy shares.
fn machine(
    limiter: &mut Limiter,
    per_call: f64,
    others: impl Fn(u64) -> f64,
    seconds: std::ops::Range<u64>,
) -> Vec<f64> {
    let mut random = Random(11);
    seconds
        .map(|second| {
            let limit = limiter.limit();
            for _ in 0..50 {
                limiter.ended(Duration::from_secs(second), &ended(limit));
            }
            let busy = (per_call * f64::from(limit) + others(second)).min(1.0);
            let seen = (busy + 0.1 * (random.share() - 0.5)).clamp(0.0, 1.0);
            limiter.cpu(Duration::from_secs(second), seen);
            busy
        })
        .collect()
}

fn half_busy(max: u32) -> Limiter {
    Limiter::new(LimiterSettings::Cpu {
        target_share: 0.5,
        min: 1,
        max,
        start: 4,
    })
}

#[test]
fn holds_the_processors_at_their_share() {
    for per_call in [0.3, 0.05, 0.004, 0.0005] {
        let busy = machine(&mut half_busy(2_000), per_call, |_| 0.0, 0..300);
        let mean = busy[100..].iter().sum::<f64>() / 200.0;
        // One call more or less may be farther off than this.
        let near = 0.07f64.max(per_call / 2.0 + 0.05);
        assert!(
            (mean - 0.5).abs() < near,
            "{per_call} a call: {mean:.3} busy"
        );
        let calm = busy[100..]
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .count();
        assert!(
            calm > 170,
            "{per_call} a call: moved {} times in 200 s",
            199 - calm
        );
    }
}

#[test]
fn gives_way_to_others_on_the_processors() {
    let mut limiter = half_busy(100);
    let busy = machine(
        &mut limiter,
        0.02,
        |s| if (100..200).contains(&s) { 0.3 } else { 0.0 },
        0..300,
    );
    for part in [50..100, 150..200, 250..300] {
        let mean = busy[part.clone()].iter().sum::<f64>() / 50.0;
        assert!((mean - 0.5).abs() < 0.08, "{part:?}: {mean:.3} busy");
    }
    machine(&mut limiter, 0.02, |_| 0.9, 300..360);
    assert_eq!(limiter.limit(), 1);
    assert!(limiter.is_shrinking());
}

#[test]
fn idle_processors_do_not_raise_a_limit_that_is_not_used() {
    let mut limiter = half_busy(100);
    for second in 0..100 {
        limiter.ended(Duration::from_secs(second), &ended(1));
        limiter.cpu(Duration::from_secs(second), 0.02);
    }
    assert_eq!(limiter.limit(), 4);
}
