//! What of the records that are finished goes into the next transaction, and the commit that it carries. Pure.

use std::collections::{BTreeMap, HashMap};

use super::above;
use super::commit::Sent;
use super::finish::Fate;
use super::frontier::Frontier;
use super::schedule::Schedule;

/// What a commit says of a partition.
pub struct Place {
    pub position: i64,
    above: Vec<i64>,
    pub metadata: String,
}

impl Place {
    /// `None` if not all that is done can be told, or nothing was admitted.
    fn of(frontier: &Frontier) -> Option<Self> {
        let position = frontier.position()?;
        let above: Vec<i64> = frontier.above().collect();
        let metadata = above::write(position, above.iter().copied());
        let is_whole = above::read(position, &metadata).len() == above.len();
        is_whole.then_some(Self {
            position,
            above,
            metadata,
        })
    }

    pub fn sent(&self) -> Sent {
        Sent {
            offset: self.position,
            above: self.above.len(),
        }
    }
}

/// What goes into a transaction.
pub struct Chosen {
    pub now: Vec<Fate>,
    /// What is not told of in this commit.
    pub later: Vec<Fate>,
    /// What is no longer this worker's.
    pub stale: Vec<Fate>,
    /// What the commit says, where it isn't what was committed last.
    pub places: BTreeMap<i32, Place>,
}

impl Chosen {
    /// The commit of all that is done when these are, after what was committed last.
    pub fn of(schedule: &Schedule, committed: &HashMap<i32, Sent>, fates: Vec<Fate>) -> Self {
        let mut chosen = Self {
            now: Vec::new(),
            later: Vec::new(),
            stale: Vec::new(),
            places: BTreeMap::new(),
        };
        let mut by_partition: BTreeMap<i32, Vec<Fate>> = BTreeMap::new();
        for fate in fates {
            if schedule.epoch(fate.0.partition) == Some(fate.0.epoch) {
                by_partition.entry(fate.0.partition).or_default().push(fate);
            } else {
                chosen.stale.push(fate);
            }
        }
        for partition in schedule.numbers() {
            let mut fates = by_partition.remove(&partition).unwrap_or_default();
            let Some(frontier) = schedule.frontier(partition) else {
                continue;
            };
            let with = |fates: &[Fate]| {
                let mut frontier = frontier.clone();
                for (task, _) in fates {
                    // A record is finished once, so its offset is open.
                    let _ = frontier.done(task.record.offset);
                }
                frontier
            };
            let all = with(&fates);
            let mut place = Place::of(&all);
            if let (None, Some(below)) = (&place, all.position()) {
                let (now, later): (Vec<Fate>, Vec<Fate>) = fates
                    .into_iter()
                    .partition(|(task, _)| task.record.offset < below);
                chosen.later.extend(later);
                place = Place::of(&with(&now));
                fates = now;
            }
            match place {
                Some(place) => {
                    chosen.now.append(&mut fates);
                    if committed.get(&partition) != Some(&place.sent()) {
                        chosen.places.insert(partition, place);
                    }
                }
                None => chosen.later.append(&mut fates),
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::job::Order;
    use crate::work::finish::Outcome;
    use crate::work::task::Task;
    use crate::work::testing::{Random, record};

    /// A worker that commits in transactions, and what who comes after it would take for done.
    struct Model {
        schedule: Schedule,
        committed: HashMap<i32, Sent>,
        taken: Vec<Task>,
        waiting: Vec<Fate>,
        answered: BTreeSet<i64>,
        told: (i64, String),
    }

    impl Model {
        fn new(records: i64, before: BTreeSet<i64>) -> Self {
            let mut schedule = Schedule::new(Order::None);
            schedule.assign(0, 1, before);
            for offset in 0..records {
                schedule.admit(Duration::ZERO, 0, record(offset, None));
            }
            let taken = schedule.take(Duration::ZERO, usize::MAX, false);
            Self {
                schedule,
                committed: HashMap::new(),
                taken,
                waiting: Vec::new(),
                answered: BTreeSet::new(),
                told: (0, String::new()),
            }
        }

        /// A transaction with those of the taken records that `which` names.
        fn commit(&mut self, which: impl Fn(i64) -> bool) {
            let (finished, left): (Vec<Task>, Vec<Task>) =
                self.taken.drain(..).partition(|t| which(t.record.offset));
            self.taken = left;
            let finished = finished.into_iter().map(|t| (t, Outcome::Answered(vec![])));
            self.waiting.extend(finished);
            let fates = std::mem::take(&mut self.waiting);
            let chosen = Chosen::of(&self.schedule, &self.committed, fates);
            self.waiting = chosen.later;
            assert!(chosen.stale.is_empty());
            assert!(chosen.now.is_empty() || !chosen.places.is_empty());
            let now: Vec<i64> = chosen.now.iter().map(|(t, _)| t.record.offset).collect();
            if let Some((task, _)) = chosen.now.first() {
                assert!(self.schedule.complete(0, task.epoch, &now));
            }
            for (partition, place) in chosen.places {
                self.committed.insert(partition, place.sent());
                self.told = (place.position, place.metadata);
            }
            for offset in now {
                assert!(self.answered.insert(offset), "{offset} is answered twice");
            }
        }

        /// What is done by the commit alone.
        fn done(&self) -> BTreeSet<i64> {
            let above = above::read(self.told.0, &self.told.1);
            (0..self.told.0).chain(above).collect()
        }
    }

    #[test]
    fn a_commit_tells_of_what_is_answered_and_of_nothing_else() {
        for seed in 0..300 {
            let mut random = Random(seed);
            let records = 1 + random.below(400) as i64;
            let mut model = Model::new(records, BTreeSet::new());
            while model.answered.len() < records as usize {
                let mut some: BTreeSet<i64> = BTreeSet::new();
                for _ in 0..random.below(60) {
                    some.insert(random.below(records as usize) as i64);
                }
                let rest = random.one_in(10);
                model.commit(|offset| rest || some.contains(&offset));
                assert_eq!(model.done(), model.answered, "seed {seed}");
            }
        }
    }

    #[test]
    fn what_a_commit_can_not_tell_waits_for_the_frontier() {
        let mut model = Model::new(60_000, BTreeSet::new());
        model.commit(|offset| offset % 2 == 1);
        assert!(model.answered.is_empty());
        // The first is done: what is told is the two at the front.
        model.commit(|offset| offset == 0);
        assert_eq!(model.answered, BTreeSet::from([0, 1]));
        assert_eq!(model.done(), model.answered);
        model.commit(|_| true);
        assert_eq!(model.answered.len(), 60_000);
        assert_eq!(model.done(), model.answered);
    }

    #[test]
    fn what_another_holder_has_done_is_told_on() {
        let before = BTreeSet::from([3, 4, 7]);
        let mut model = Model::new(10, before.clone());
        model.commit(|offset| offset == 5);
        let both: BTreeSet<i64> = before.iter().copied().chain([5]).collect();
        assert_eq!(model.done(), both);
        model.commit(|_| true);
        assert_eq!(model.done(), (0..10).collect());
        assert!(model.answered.is_disjoint(&before));
    }

    #[test]
    fn what_is_no_longer_held_is_left_to_others() {
        let mut model = Model::new(4, BTreeSet::new());
        let fates: Vec<Fate> = model
            .taken
            .drain(..)
            .map(|t| (t, Outcome::Answered(vec![])))
            .collect();
        model.schedule.assign(0, 2, BTreeSet::new());
        let chosen = Chosen::of(&model.schedule, &model.committed, fates);
        assert_eq!((chosen.now.len(), chosen.stale.len()), (0, 4));
        assert!(chosen.places.is_empty());
    }
}
