//! Who has how many of a service's slots, where several jobs share them. Pure.
//!
//! Weighted max-min: slots are dealt by weight, and what a job has no use for is dealt to the others. What is no whole slot
//! goes round: [`divide`] rounds so that in every turn all slots are dealt, and over the turns each job has its exact part.
//! So with more jobs than slots each has one in turn, and with parts that are whole nothing ever moves.
//!
//! A slot is never taken from a call: who is above its part begins no more calls until it is below.

use std::collections::BTreeMap;

/// What a job would use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Want {
    /// Above 0.
    pub weight: f64,
    /// Calls that it has under way, or could begin now.
    pub calls: u32,
}

/// Parts are whole if they are so within this; sums of them are no further off.
const EXACT: f64 = 1e9;
/// Multiples of it are spread evenly over 0 to 1, however many.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// Each one's slots in a turn. Together they are all slots, or all that is wanted.
pub fn divide(slots: u32, wants: &[Want], turn: u64) -> Vec<u32> {
    // Turns are seconds: far below 2⁵³.
    let offset = (turn as f64 * GOLDEN).fract();
    let mut sum = 0.0;
    let mut dealt = 0;
    let parts = fair(slots, wants);
    let whole = parts.iter().zip(wants).map(|(part, want)| {
        sum += part;
        let upto = (sum * EXACT).round() / EXACT;
        // At most the slots that there are.
        let upto = (upto + offset).floor() as u32;
        let mine = (upto - dealt).min(want.calls);
        dealt = upto;
        mine
    });
    whole.collect()
}

/// Each one's exact part: as much of a common level, times its weight, as it has use for.
fn fair(slots: u32, wants: &[Want]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wants.len()).collect();
    let level = |i: &usize| wants.get(*i).map_or(0.0, |w| f64::from(w.calls) / w.weight);
    order.sort_by(|a, b| level(a).total_cmp(&level(b)));
    let mut left = f64::from(slots);
    let mut weights: f64 = wants.iter().map(|w| w.weight).sum();
    let mut parts = vec![0.0; wants.len()];
    for i in order {
        if let (Some(want), Some(part)) = (wants.get(i), parts.get_mut(i)) {
            *part = f64::from(want.calls).min(left * want.weight / weights);
            left -= *part;
            weights -= want.weight;
        }
    }
    parts
}

/// A job at the table.
#[derive(Clone, Copy, Debug)]
struct Seat {
    weight: f64,
    /// Calls that it can have under way at most.
    most: u32,
    taken: u32,
    /// Calls that it could begin besides.
    ready: u32,
    /// The same, of records that its driver has taken already and not called yet.
    in_hand: u32,
}

/// The jobs that share a service's slots.
#[derive(Clone, Debug, Default)]
pub struct Table {
    seats: BTreeMap<u64, Seat>,
    next: u64,
}

impl Table {
    /// A job sits down; its number.
    pub fn join(&mut self, weight: f64) -> u64 {
        self.next += 1;
        let seat = Seat {
            weight: weight.max(1e-6),
            most: u32::MAX,
            taken: 0,
            ready: 0,
            in_hand: 0,
        };
        self.seats.insert(self.next, seat);
        self.next
    }

    /// It leaves; what it had taken is free.
    pub fn leave(&mut self, seat: u64) {
        self.seats.remove(&seat);
    }

    /// Calls that it can have under way at most, whatever there is.
    pub fn bound(&mut self, seat: u64, most: u32) {
        if let Some(seat) = self.seats.get_mut(&seat) {
            seat.most = most;
        }
    }

    /// Calls that it could begin now.
    pub fn wants(&mut self, seat: u64, ready: u32) {
        if let Some(seat) = self.seats.get_mut(&seat) {
            seat.ready = ready;
        }
    }

    /// Records that its driver has in hand, and waits for slots to call: nobody else counts them.
    pub fn holds(&mut self, seat: u64, in_hand: u32) {
        if let Some(seat) = self.seats.get_mut(&seat) {
            seat.in_hand = in_hand;
        }
    }

    /// Takes slots for as many of `wanted` calls as may begin now; how many.
    pub fn take(&mut self, seat: u64, wanted: u32, slots: u32, turn: u64) -> u32 {
        let free = slots.saturating_sub(self.seats.values().map(|s| s.taken).sum());
        let allowed = self.allowed(seat, slots, turn);
        let Some(seat) = self.seats.get_mut(&seat) else {
            return 0;
        };
        let taken = wanted.min(free).min(allowed.saturating_sub(seat.taken));
        seat.taken += taken;
        seat.ready = seat.ready.saturating_sub(taken);
        taken
    }

    /// Counts calls that have begun without asking, and such as are over.
    pub fn count(&mut self, seat: u64, begun: u32, over: u32) {
        if let Some(seat) = self.seats.get_mut(&seat) {
            seat.taken = (seat.taken + begun).saturating_sub(over);
        }
    }

    /// Calls that a job may have under way now: its part, and what is nobody's.
    pub fn allowed(&self, seat: u64, slots: u32, turn: u64) -> u32 {
        // A worker by itself, which asks before every call.
        if self.seats.len() == 1 && self.seats.contains_key(&seat) {
            return slots;
        }
        let wants: Vec<Want> = self
            .seats
            .values()
            .map(|s| Want {
                weight: s.weight,
                calls: (s.taken.saturating_add(s.ready))
                    .saturating_add(s.in_hand)
                    .min(s.most.max(s.taken)),
            })
            .collect();
        let parts = divide(slots, &wants, turn);
        let kept = self.seats.values().zip(&parts);
        let kept: u32 = kept.map(|(s, part)| s.taken.max(*part)).sum();
        let mine = self.seats.keys().position(|number| *number == seat);
        mine.and_then(|at| parts.get(at))
            .map_or(0, |part| (part + slots.saturating_sub(kept)).min(slots))
    }

    /// Whether no job sat down before this one and is still there.
    pub fn is_first(&self, seat: u64) -> bool {
        self.seats.keys().next() == Some(&seat)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::work::testing::Random;

    fn of(wants: &[(f64, u32)]) -> Vec<Want> {
        wants
            .iter()
            .map(|(weight, calls)| Want {
                weight: *weight,
                calls: *calls,
            })
            .collect()
    }

    #[test]
    fn what_one_has_no_use_for_is_the_others() {
        let dealt = |slots, wants: &[(f64, u32)]| divide(slots, &of(wants), 0);
        assert_eq!(dealt(8, &[(1.0, 100)]), [8]);
        assert_eq!(dealt(8, &[(1.0, 100), (1.0, 100)]), [4, 4]);
        assert_eq!(dealt(8, &[(1.0, 100), (1.0, 1)]), [7, 1]);
        assert_eq!(dealt(8, &[(3.0, 100), (1.0, 100)]), [6, 2]);
        assert_eq!(dealt(8, &[(1.0, 2), (1.0, 1)]), [2, 1]);
        assert_eq!(dealt(8, &[(1.0, 0), (1.0, 9)]), [0, 8]);
        assert_eq!(dealt(8, &[]), [0; 0]);
    }

    #[test]
    fn a_record_in_hand_does_not_wait_for_the_end_of_another_job() {
        let mut table = Table::default();
        let (large, small) = (table.join(1.0), table.join(1.0));
        table.wants(large, 1_000);
        assert_eq!(table.take(large, 4, 4, 0), 4);
        // Its last record is with its driver: there is none that is ready.
        table.holds(small, 1);
        table.wants(small, 0);
        assert_eq!(table.take(small, 1, 4, 0), 0);
        table.count(large, 0, 1);
        assert_eq!(table.take(large, 1, 4, 0), 0);
        assert_eq!(table.take(small, 1, 4, 0), 1);
        table.holds(small, 0);
        table.count(small, 0, 1);
        assert_eq!(table.take(large, 1, 4, 0), 1);
    }

    proptest! {
        /// In each turn all is dealt, none above its use; over the turns each has its exact part, and waits no longer for a
        /// slot than thrice what its part says.
        #[test]
        fn all_is_dealt_and_over_the_turns_exactly(
            slots in 1u32..40,
            wants in prop::collection::vec((1u8..9, 0u32..60), 1..12),
            from in 0u64..1_000_000,
        ) {
            let wants: Vec<Want> = of(&wants.iter().map(|(w, c)| (f64::from(*w), *c)).collect::<Vec<_>>());
            let parts = fair(slots, &wants);
            let all: u32 = wants.iter().map(|w| w.calls).sum();
            let mut sums = vec![0u32; wants.len()];
            let mut since = vec![0u32; wants.len()];
            for turn in from..from + 400 {
                let dealt = divide(slots, &wants, turn);
                prop_assert_eq!(dealt.iter().sum::<u32>(), slots.min(all));
                for (i, n) in dealt.iter().enumerate() {
                    prop_assert!(*n <= wants[i].calls);
                    prop_assert!((f64::from(*n) - parts[i]).abs() < 1.0, "{} of {}", n, parts[i]);
                    sums[i] += n;
                    since[i] = if *n == 0 { since[i] + 1 } else { 0 };
                    prop_assert!(parts[i] == 0.0 || f64::from(since[i]) <= 3.0 / parts[i] + 1.0);
                }
            }
            for (sum, part) in sums.iter().zip(&parts) {
                prop_assert!((f64::from(*sum) / 400.0 - part).abs() < 0.05, "{} of {part}", f64::from(*sum) / 400.0);
            }
        }

        /// Parts are max-min: nobody could have more without taking it from one that has less for its weight.
        #[test]
        fn parts_are_max_min(slots in 1u32..40, wants in prop::collection::vec((1u8..9, 0u32..60), 1..12)) {
            let wants: Vec<Want> = of(&wants.iter().map(|(w, c)| (f64::from(*w), *c)).collect::<Vec<_>>());
            let parts = fair(slots, &wants);
            let level = |i: usize| parts[i] / wants[i].weight;
            for i in (0..wants.len()).filter(|i| parts[*i] + 1e-6 < f64::from(wants[*i].calls)) {
                for j in 0..wants.len() {
                    prop_assert!(level(j) <= level(i) + 1e-6, "{parts:?}");
                }
            }
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Jobs that come and go, with calls of any length: never above the limit, no slot idle that anybody could use, and
        /// while all have work, each has its part of the time.
        #[test]
        fn simulated(seed: u64) {
            let mut random = Random(seed);
            let slots = 1 + random.below(8) as u32;
            let weights: Vec<f64> = (0..2 + random.below(6)).map(|_| 1.0 + random.below(3) as f64).collect();
            let lengths: Vec<usize> = weights.iter().map(|_| 1 + random.below(30)).collect();
            let mut table = Table::default();
            let seats: Vec<u64> = weights.iter().map(|w| table.join(*w)).collect();
            // Of each: when its calls end; slots times steps that it had; whether it has work.
            let mut calls: Vec<Vec<u64>> = vec![Vec::new(); seats.len()];
            let mut had = vec![0.0; seats.len()];
            let mut works = vec![true; seats.len()];
            // At first all have work, then it comes and goes.
            let steady = 8_000;
            for now in 0..steady + 1_000u64 {
                if now >= steady && random.one_in(20) {
                    let one = random.below(seats.len());
                    works[one] = !works[one];
                }
                for (i, seat) in seats.iter().enumerate() {
                    let before = calls[i].len();
                    calls[i].retain(|end| *end > now);
                    table.count(*seat, 0, (before - calls[i].len()) as u32);
                    table.wants(*seat, if works[i] { 1_000 } else { 0 });
                }
                let first = random.below(seats.len());
                for i in (first..seats.len()).chain(0..first) {
                    let wanted = if works[i] { 50 } else { 0 };
                    for _ in 0..table.take(seats[i], wanted, slots, now / 100) {
                        calls[i].push(now + 1 + random.below(2 * lengths[i]) as u64);
                    }
                }
                let busy: usize = calls.iter().map(Vec::len).sum();
                prop_assert!(busy <= slots as usize, "seed {seed}: {busy} of {slots}");
                prop_assert!(busy == slots as usize || !works.contains(&true), "seed {seed}: {busy} of {slots}");
                if now < steady {
                    for (i, had) in had.iter_mut().enumerate() {
                        *had += calls[i].len() as f64;
                    }
                }
            }
            // Jain's index of what each had for its weight.
            let levels: Vec<f64> = had.iter().zip(&weights).map(|(had, weight)| had / weight).collect();
            let (sum, squares): (f64, f64) = (levels.iter().sum(), levels.iter().map(|l| l * l).sum());
            let jain = sum * sum / (levels.len() as f64 * squares);
            prop_assert!(jain > 0.95, "seed {seed}: {jain} of {levels:?}, weights {weights:?}, lengths {lengths:?}");
        }
    }
}
