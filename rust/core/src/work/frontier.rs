//! The frontier of one partition: the offset before which everything is done, which is what may be committed. Pure.
//!
//! Offsets are admitted in the order of the log and may have holes (transaction markers, compaction); they are done in
//! any order. What is done above the frontier travels with the commit ([`Frontier::above`]), so that whoever is next
//! repeats only what was open.

use std::collections::{BTreeSet, VecDeque};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Frontier {
    /// Admitted and not below the frontier yet, in order; done or not.
    open: VecDeque<(i64, bool)>,
    /// One past the highest offset that was admitted or passed.
    next: Option<i64>,
    /// Done by an earlier holder of the partition, above where this one began.
    before: BTreeSet<i64>,
}

/// What a partition's offsets were told and don't fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// An offset below one that was admitted before: it is a redelivery, and is not admitted again.
    #[error(
        "offset {offset} was delivered again or out of order, {next} was expected or a later one"
    )]
    Backwards { offset: i64, next: i64 },
    /// An offset that is not open: never admitted, or done before.
    #[error("offset {offset} is not open")]
    NotOpen { offset: i64 },
}

impl Frontier {
    /// The frontier of one who begins where another has done these.
    pub fn resumed(before: BTreeSet<i64>) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }

    /// Notes that work on an offset begins. `false`: it was done before, and needs none.
    ///
    /// # Errors
    /// [`FrontierError::Backwards`] if the offset is not above all admitted ones; nothing changes.
    pub fn admit(&mut self, offset: i64) -> Result<bool, FrontierError> {
        if let Some(next) = self.next
            && offset < next
        {
            return Err(FrontierError::Backwards { offset, next });
        }
        let done = self.before.remove(&offset);
        if !(done && self.open.is_empty()) {
            self.open.push_back((offset, done));
        }
        self.next = Some(offset + 1);
        Ok(!done)
    }

    /// Notes that all of an offset is delivered.
    ///
    /// # Errors
    /// [`FrontierError::NotOpen`]; nothing changes.
    pub fn done(&mut self, offset: i64) -> Result<(), FrontierError> {
        let missing = FrontierError::NotOpen { offset };
        let at = self
            .open
            .binary_search_by_key(&offset, |(o, _)| *o)
            .map_err(|_| missing)?;
        let entry = self.open.get_mut(at).ok_or(missing)?;
        if entry.1 {
            return Err(missing);
        }
        entry.1 = true;
        while self.open.front().is_some_and(|(_, done)| *done) {
            self.open.pop_front();
        }
        Ok(())
    }

    /// Notes that the log holds no record from here to `upto` (exclusive): a hole at its end.
    pub fn pass(&mut self, upto: i64) {
        self.next = Some(self.next.map_or(upto, |next| next.max(upto)));
    }

    /// The offset to commit: everything below it is done. `None` before anything was admitted.
    pub fn position(&self) -> Option<i64> {
        self.open
            .front()
            .map_or(self.next, |(first, _)| Some(*first))
    }

    /// One past the highest offset that was admitted or passed.
    pub fn next(&self) -> Option<i64> {
        self.next
    }

    /// What is done above the frontier, ascending; also what another did and this one has not come to.
    pub fn above(&self) -> impl Iterator<Item = i64> {
        let here = self.open.iter().filter(|(_, done)| *done);
        here.map(|(offset, _)| *offset)
            .chain(self.before.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Ascending offsets with holes, and an order in which they are done.
    fn offsets_and_order() -> impl Strategy<Value = (Vec<i64>, Vec<usize>)> {
        prop::collection::vec(1i64..4, 1..60).prop_flat_map(|steps| {
            let offsets: Vec<i64> = steps
                .iter()
                .scan(-1, |at, step| {
                    *at += step;
                    Some(*at)
                })
                .collect();
            let order: Vec<usize> = (0..offsets.len()).collect();
            (Just(offsets), Just(order).prop_shuffle())
        })
    }

    proptest! {
        #[test]
        fn everything_below_the_frontier_is_done_and_nothing_more_is_held_back((offsets, order) in offsets_and_order()) {
            let mut frontier = Frontier::default();
            prop_assert_eq!(frontier.position(), None);
            for offset in &offsets {
                frontier.admit(*offset).unwrap();
            }
            let mut open: BTreeSet<i64> = offsets.iter().copied().collect();
            let end = offsets.last().unwrap() + 1;
            for i in order {
                let before = frontier.position();
                frontier.done(offsets[i]).unwrap();
                open.remove(&offsets[i]);
                prop_assert_eq!(frontier.position(), Some(open.first().copied().unwrap_or(end)));
                prop_assert!(frontier.position() >= before);
                prop_assert!(frontier.done(offsets[i]).is_err());
            }
        }

        #[test]
        fn admitting_and_acknowledging_may_interleave(steps in prop::collection::vec((any::<bool>(), 0usize..8), 1..200)) {
            let mut frontier = Frontier::default();
            let (mut next, mut open, mut end) = (0, Vec::new(), None);
            for (admit, n) in steps {
                if admit || open.is_empty() {
                    next += n as i64;
                    frontier.admit(next).unwrap();
                    open.push(next);
                    next += 1;
                    end = Some(next);
                } else {
                    let offset = open.remove(n % open.len());
                    frontier.done(offset).unwrap();
                }
                prop_assert_eq!(frontier.position(), open.iter().min().copied().or(end));
            }
        }
    }

    proptest! {
        #[test]
        fn one_who_goes_on_repeats_only_what_was_open((offsets, order) in offsets_and_order(), done in 0usize..60) {
            let mut first = Frontier::default();
            for offset in &offsets {
                first.admit(*offset).unwrap();
            }
            for i in order.iter().take(done) {
                first.done(offsets[*i]).unwrap();
            }
            let Some(position) = first.position() else { return Ok(()) };
            let above: BTreeSet<i64> = first.above().collect();
            let mut open: BTreeSet<i64> = order.iter().skip(done).map(|i| offsets[*i]).collect();
            let mut second = Frontier::resumed(above.clone());
            prop_assert_eq!(second.above().collect::<BTreeSet<_>>(), above);
            for offset in offsets.iter().filter(|o| **o >= position) {
                prop_assert_eq!(second.admit(*offset), Ok(open.contains(offset)));
            }
            while let Some(offset) = open.pop_last() {
                prop_assert_eq!(second.position(), open.first().copied().or(Some(offset)));
                second.done(offset).unwrap();
            }
            prop_assert!(second.above().next().is_none());
        }
    }

    #[test]
    fn wrong_offsets_change_nothing() {
        let mut frontier = Frontier::default();
        frontier.admit(5).unwrap();
        assert_eq!(
            frontier.admit(5),
            Err(FrontierError::Backwards { offset: 5, next: 6 })
        );
        assert_eq!(frontier.done(4), Err(FrontierError::NotOpen { offset: 4 }));
        assert_eq!(frontier.position(), Some(5));
    }

    #[test]
    fn a_hole_at_the_end_is_passed_only_behind_what_is_open() {
        let mut frontier = Frontier::default();
        frontier.admit(5).unwrap();
        frontier.pass(9);
        assert_eq!(frontier.position(), Some(5));
        frontier.done(5).unwrap();
        assert_eq!(frontier.position(), Some(9));
        frontier.pass(7);
        assert_eq!(frontier.position(), Some(9));
    }
}
