//! How many records are handed to a service process at once, where it takes them one after the other. Pure.

use std::time::Duration;

/// What a batch is to last: long enough that handing it over costs little beside it, short enough that a worker that has
/// to leave can wait for it, and that the processes share what is left at the end.
const LASTS: Duration = Duration::from_millis(100);
/// Records of the first batch, of which nothing is known yet.
const FIRST: usize = 8;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    most: usize,
    next: usize,
    /// Seconds a record, smoothed.
    each: Option<f64>,
}

impl Pace {
    /// `most`: records of a batch, however fast they are.
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            next: FIRST.min(most),
            each: None,
        }
    }

    /// Records of the next batch.
    pub fn batch(&self) -> usize {
        self.next
    }

    /// A batch of so many records took this time.
    pub fn took(&mut self, records: usize, time: Duration) {
        if records == 0 {
            return;
        }
        let now = time.as_secs_f64() / records as f64;
        // Slower counts at once, faster by and by: a batch that lasts too long costs more than one that is too small.
        let each = self
            .each
            .map_or(now, |each| now.max(0.7 * each + 0.3 * now));
        self.each = Some(each);
        let wanted = LASTS.as_secs_f64() / each.max(1e-9);
        // Beyond `most` it makes no difference.
        let wanted = wanted.min(self.most as f64) as usize;
        self.next = wanted.min(self.next.saturating_mul(4)).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(most: usize, each: Duration) -> Pace {
        let mut pace = Pace::new(most);
        for _ in 0..20 {
            let n = pace.batch();
            pace.took(n, each * n as u32);
        }
        pace
    }

    #[test]
    fn a_batch_lasts_a_tenth_of_a_second_and_no_more_than_it_may_have() {
        assert_eq!(settled(500, Duration::from_millis(1)).batch(), 100);
        assert_eq!(settled(500, Duration::from_micros(1)).batch(), 500);
        assert_eq!(settled(500, Duration::from_secs(1)).batch(), 1);
        assert_eq!(settled(0, Duration::ZERO).batch(), 1);
    }

    #[test]
    fn it_slows_at_once_and_grows_by_and_by() {
        let mut pace = settled(500, Duration::from_micros(10));
        pace.took(500, Duration::from_secs(5));
        assert_eq!(pace.batch(), 10);
        pace.took(10, Duration::from_millis(1));
        assert!(pace.batch() < 20, "{pace:?}");
        assert_eq!(settled(500, Duration::from_micros(10)).batch(), 500);
    }
}
