//! How long calls take: counted once for all time in the buckets that OpenTelemetry advises, and once over a sliding
//! window, finely, for p50 and p99. Nothing waits, nothing allocates.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::counts::micros;

/// How a call may end, by the names that [`super::Metrics::record_call`] takes; the last stands for any other.
pub const HOWS: [&str; 8] = [
    "answered",
    "filtered",
    "retry",
    "dead_letter",
    "busy",
    "deadline",
    "died",
    "other",
];
const BUSY: &str = "busy";
/// Those of [`HOWS`] that are no failure come first.
pub const GOOD: usize = 2;
/// The upper bounds, in seconds, that OpenTelemetry advises for `messaging.process.duration`; above the last: all others.
pub const BOUNDS_S: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// An octave of times is cut in so many parts, so that a time is told to within 1/32 of itself.
const PARTS_BITS: u32 = 4;
const PARTS: usize = 1 << PARTS_BITS;
/// Longer times (19 hours) count as such.
const TOP_BITS: u32 = 36;
const CELLS: usize = (TOP_BITS - PARTS_BITS + 1) as usize * PARTS;
/// The window: so many slices of ten seconds, the one under way included.
const SLICES: usize = 6;
const SLICE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Calls {
    ends: [Ends; HOWS.len()],
    slices: Box<[Slice; SLICES]>,
    /// What the last window that had any call said, in µs.
    last_p99_us: AtomicU64,
}

/// Calls that ended in one way.
#[derive(Debug, Default)]
struct Ends {
    buckets: [AtomicU64; BOUNDS_S.len() + 1],
    sum_us: AtomicU64,
}

#[derive(Debug)]
struct Slice {
    /// Which ten seconds it holds, counted from one; 0: none yet.
    number: AtomicU64,
    cells: [AtomicU32; CELLS],
}

impl Default for Calls {
    fn default() -> Self {
        let slice = |_| Slice {
            number: AtomicU64::new(0),
            cells: std::array::from_fn(|_| AtomicU32::new(0)),
        };
        Self {
            ends: std::array::from_fn(|_| Ends::default()),
            slices: Box::new(std::array::from_fn(slice)),
            last_p99_us: AtomicU64::new(0),
        }
    }
}

/// All calls that ended in one way since the beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Calls by bucket: up to each of [`BOUNDS_S`], then above them.
    pub buckets: [u64; BOUNDS_S.len() + 1],
    pub sum_s: f64,
}

impl Calls {
    /// Counts `n` calls of this length. A call that ends at the turn of a slice may be missing in the window.
    pub fn record(&self, took: Duration, how: &str, n: u32, now: Duration) {
        let (us, seconds) = (micros(took), took.as_secs_f64());
        let end = HOWS.iter().position(|h| *h == how);
        let end = &self.ends[end.unwrap_or(HOWS.len() - 1)];
        let bucket = BOUNDS_S.partition_point(|bound| *bound < seconds);
        end.buckets[bucket].fetch_add(u64::from(n), Ordering::Relaxed);
        end.sum_us.fetch_add(us * u64::from(n), Ordering::Relaxed);

        // The time of a call that was turned away says nothing of those that are taken.
        if how == BUSY {
            return;
        }
        let number = number(now);
        let slice = &self.slices[place(number)];
        let held = slice.number.load(Ordering::Acquire);
        if held != number {
            // One thread begins the slice anew. What others count meanwhile may be lost.
            let first =
                slice
                    .number
                    .compare_exchange(held, number, Ordering::AcqRel, Ordering::Relaxed);
            if first.is_ok() {
                for cell in &slice.cells {
                    cell.store(0, Ordering::Relaxed);
                }
            }
        }
        slice.cells[cell(us)].fetch_add(n, Ordering::Relaxed);
    }

    /// The last minute's calls, by cell.
    fn window(&self, now: Duration) -> [u64; CELLS] {
        let current = number(now);
        let oldest = current.saturating_sub(SLICES as u64 - 1).max(1);
        let mut cells = [0_u64; CELLS];
        for slice in self.slices.iter() {
            let held = slice.number.load(Ordering::Acquire);
            if (oldest..=current).contains(&held) {
                for (sum, cell) in cells.iter_mut().zip(&slice.cells) {
                    *sum += u64::from(cell.load(Ordering::Relaxed));
                }
            }
        }
        cells
    }

    /// The mean time of the last minute's calls, to within 1/32 of itself. `None`: there was none.
    pub fn mean(&self, now: Duration) -> Option<Duration> {
        let cells = self.window(now);
        let (mut total, mut sum_us) = (0_u64, 0_u64);
        for (at, count) in cells.iter().enumerate() {
            total += count;
            sum_us = sum_us.saturating_add(count.saturating_mul(middle_us(at)));
        }
        sum_us.checked_div(total).map(Duration::from_micros)
    }

    /// The time within which so large a share of the last minute's calls ended, to within 1/32 of itself. `None`: there
    /// was none. Takes some µs: to be asked a few times a second.
    pub fn quantile(&self, share: f64, now: Duration) -> Option<Duration> {
        let cells = self.window(now);
        let total: u64 = cells.iter().sum();
        if total == 0 {
            return None;
        }
        // The nearest rank: counts are far below 2⁵³.
        let rank = ((share * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (at, count) in cells.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(Duration::from_micros(middle_us(at)));
            }
        }
        None
    }

    /// p99 of the last minute, or, if nothing ended in it, of the last time something did; `None`: nothing ever did.
    pub fn p99(&self, now: Duration) -> Option<Duration> {
        let found = self.quantile(0.99, now);
        match found {
            Some(p99) => self
                .last_p99_us
                .store(micros(p99).max(1), Ordering::Relaxed),
            None => {
                let last = self.last_p99_us.load(Ordering::Relaxed);
                return (last > 0).then(|| Duration::from_micros(last));
            }
        }
        found
    }

    /// By the ways to end in [`HOWS`].
    pub fn distributions(&self) -> impl Iterator<Item = (usize, Distribution)> {
        self.ends.iter().enumerate().map(|(how, end)| {
            let buckets = std::array::from_fn(|at| end.buckets[at].load(Ordering::Relaxed));
            let sum_s = Duration::from_micros(end.sum_us.load(Ordering::Relaxed)).as_secs_f64();
            (how, Distribution { buckets, sum_s })
        })
    }
}

fn number(now: Duration) -> u64 {
    now.as_secs() / SLICE.as_secs() + 1
}

fn place(number: u64) -> usize {
    usize::try_from(number % SLICES as u64).unwrap_or(0)
}

/// Where a time is counted: the first cells hold one µs each, then each octave has [`PARTS`].
fn cell(us: u64) -> usize {
    let us = us.min((1 << TOP_BITS) - 1);
    let octave = u64::BITS - us.leading_zeros();
    let shift = octave.saturating_sub(PARTS_BITS + 1);
    let part = usize::try_from(us >> shift).unwrap_or(0);
    shift as usize * PARTS + part
}

/// The middle of what a cell counts.
fn middle_us(cell: usize) -> u64 {
    let shift = (cell / PARTS).saturating_sub(1);
    let part = (cell - shift * PARTS) as u64;
    (part << shift) + ((1_u64 << shift) / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_window_forgets_and_p99_remembers_the_last_one() {
        let calls = Calls::default();
        assert_eq!(calls.p99(ms(0)), None);
        for n in 1..=100 {
            calls.record(ms(n), "answered", 1, ms(1_000));
        }
        let p99 = calls.p99(ms(2_000)).unwrap();
        assert!(p99.abs_diff(ms(99)) <= ms(99) / 32, "{p99:?}");
        let p50 = calls.quantile(0.5, ms(2_000)).unwrap();
        assert!(p50.abs_diff(ms(50)) <= ms(50) / 32, "{p50:?}");
        assert_eq!(calls.quantile(0.5, ms(59_999)), Some(p50));
        let mean = calls.mean(ms(2_000)).unwrap();
        assert!(mean.abs_diff(ms(50)) <= ms(50) / 16, "{mean:?}");
        assert_eq!(calls.quantile(0.5, ms(60_000)), None);
        assert_eq!(calls.p99(ms(60_000)), Some(p99));
        // The same slice, a minute later: nothing of the old is left.
        calls.record(ms(7), "answered", 1, ms(61_000));
        let p99 = calls.p99(ms(61_000)).unwrap();
        assert!(p99.abs_diff(ms(7)) <= ms(7) / 32, "{p99:?}");
    }

    #[test]
    fn what_ended_is_counted_by_how_and_by_the_advised_bounds() {
        let calls = Calls::default();
        calls.record(ms(5), "answered", 3, ms(0));
        calls.record(ms(6), "answered", 1, ms(0));
        calls.record(ms(20_000), "deadline", 1, ms(0));
        calls.record(ms(1), "by magic", 1, ms(0));
        let before = (calls.mean(ms(0)), calls.p99(ms(0)));
        calls.record(ms(1), "busy", 100, ms(0));
        assert_eq!((calls.mean(ms(0)), calls.p99(ms(0))), before);
        let found: Vec<_> = calls.distributions().collect();
        assert_eq!(found[0].1.buckets[..3], [3, 1, 0]);
        assert!((found[0].1.sum_s - 0.021).abs() < 1e-9);
        assert_eq!(found[5].1.buckets[BOUNDS_S.len()], 1);
        assert_eq!(found[7].1.buckets[0], 1);
        assert_eq!(HOWS[..GOOD], ["answered", "filtered"]);
    }

    #[test]
    fn nothing_is_lost_among_threads() {
        let calls = Calls::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| calls.record(ms(3), "answered", 1, ms(0))));
            }
        });
        let all = calls.distributions().next().unwrap().1;
        assert_eq!(all.buckets.iter().sum::<u64>(), 40_000);
    }

    proptest! {
        #[test]
        fn a_cell_tells_its_times_to_within_a_32nd(us in 0_u64..(1 << TOP_BITS)) {
            let at = cell(us);
            prop_assert!(at < CELLS);
            prop_assert!(middle_us(at).abs_diff(us) <= us / 32 + u64::from(us >= 16), "{us} {at} {}", middle_us(at));
        }

        #[test]
        fn cells_are_in_the_order_of_time(a: u64, b: u64) {
            prop_assert_eq!(cell(a.min(b)) <= cell(a.max(b)), true);
        }
    }
}
