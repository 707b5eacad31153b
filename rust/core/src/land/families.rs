//! Whole families: of all answers to an input, one attempt's complete set lands, and nothing else ever does.
//!
//! All answers to an input are in one partition, one attempt's in order. The first family to become complete wins; what
//! comes of other attempts, or again, is a duplicate. A family still incomplete at the end of a drain holds its
//! partition's position back to its first record, so that the next drain reads it again. Pure: no Kafka, no files.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;

use crate::identity::{EgressIdentity, Identity};
use crate::table::SeenSplit;

/// Where a record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub partition: i32,
    pub offset: i64,
    /// An earlier drain has read this record already: if it is a duplicate, it was counted then.
    pub again: bool,
}

/// A record of a family that waits for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<P> {
    pub at: At,
    pub child: u32,
    pub payload: P,
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer<P> {
    /// The only answer to its input.
    Single,
    /// It completes a family: these, by child.
    Family(Vec<Member<P>>),
    /// Its family isn't whole yet.
    Held,
    /// Its input is landed, or this very answer is held already.
    Duplicate,
}

/// Why a record can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FamilyError {
    #[error("it says to be answer {child} of {of}")]
    Number { child: u32, of: u32 },
    #[error(
        "{held} bytes of incomplete families are held, more than {limit}: a worker died in many places, or its answers are spread over partitions"
    )]
    TooMuchHeld { held: usize, limit: usize },
}

#[derive(Debug)]
struct Open<P> {
    attempt: u32,
    of: u32,
    members: BTreeMap<u32, Member<P>>,
}

/// Counts of duplicate records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Duplicates {
    /// The same offset was read by an earlier drain already.
    pub re_read: u64,
    /// Another offset: the input was done, or its answer was sent, more than once.
    pub re_published: u64,
}

impl std::ops::Sub for Duplicates {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            re_read: self.re_read - earlier.re_read,
            re_published: self.re_published - earlier.re_published,
        }
    }
}

impl std::ops::AddAssign for Duplicates {
    fn add_assign(&mut self, other: Self) {
        self.re_read += other.re_read;
        self.re_published += other.re_published;
    }
}

/// The families of one job as they come in.
#[derive(Debug)]
pub struct Families<P> {
    /// Landed before, by commits.
    before: HashMap<u32, RoaringBitmap>,
    /// Landed since, and seen again.
    now: BTreeMap<u32, SeenSplit>,
    open: HashMap<(u32, u32), Vec<Open<P>>>,
    held_bytes: usize,
    limit: usize,
    pub duplicates: Duplicates,
    /// Inputs landed by this drain.
    pub inputs: u64,
}

impl<P: AsRef<[u8]>> Families<P> {
    /// Starts with what is landed already; at most `limit` bytes of payload are held.
    pub fn new(before: impl IntoIterator<Item = (u32, RoaringBitmap)>, limit: usize) -> Self {
        Self {
            before: before.into_iter().collect(),
            now: BTreeMap::new(),
            open: HashMap::new(),
            held_bytes: 0,
            limit,
            duplicates: Duplicates::default(),
            inputs: 0,
        }
    }

    /// Decides on one record. `payload` is called only if it has to be kept. What is whole counts as landed once
    /// [`Families::landed`] is called; another attempt's family may take its place until then.
    ///
    /// # Errors
    /// [`FamilyError`].
    pub fn offer(
        &mut self,
        at: At,
        id: EgressIdentity,
        payload: impl FnOnce() -> P,
    ) -> Result<Offer<P>, FamilyError> {
        let EgressIdentity {
            input,
            attempt,
            child,
            of,
        } = id;
        if child >= of {
            return Err(FamilyError::Number { child, of });
        }
        let key = (input.split, input.seq);
        if self.is_landed(key) {
            self.duplicate(key, at);
            return Ok(Offer::Duplicate);
        }
        if of == 1 {
            return Ok(Offer::Single);
        }
        let families = self.open.entry(key).or_default();
        let index = match families
            .iter()
            .position(|f| (f.attempt, f.of) == (attempt, of))
        {
            Some(index) => index,
            None => {
                families.push(Open {
                    attempt,
                    of,
                    members: BTreeMap::new(),
                });
                families.len() - 1
            }
        };
        if families[index].members.contains_key(&child) {
            self.duplicate(key, at);
            return Ok(Offer::Duplicate);
        }
        let payload = payload();
        self.held_bytes += payload.as_ref().len();
        let family = &mut families[index];
        family.members.insert(child, Member { at, child, payload });
        if family.members.len() as u64 == u64::from(of) {
            let whole = families.swap_remove(index);
            if families.is_empty() {
                self.open.remove(&key);
            }
            for member in whole.members.values() {
                self.held_bytes -= member.payload.as_ref().len();
            }
            return Ok(Offer::Family(whole.members.into_values().collect()));
        }
        if self.held_bytes > self.limit {
            return Err(FamilyError::TooMuchHeld {
                held: self.held_bytes,
                limit: self.limit,
            });
        }
        Ok(Offer::Held)
    }

    fn is_landed(&self, (split, seq): (u32, u32)) -> bool {
        let in_before = self.before.get(&split).is_some_and(|s| s.contains(seq));
        in_before || self.now.get(&split).is_some_and(|s| s.landed.contains(seq))
    }

    fn duplicate(&mut self, (split, seq): (u32, u32), at: At) {
        if at.again {
            self.duplicates.re_read += 1;
        } else {
            self.duplicates.re_published += 1;
            self.now.entry(split).or_default().twice.insert(seq);
        }
    }

    /// The family that an offer said is whole has been landed: those of the input's other attempts are duplicates from
    /// now on, though an earlier drain may have read them, because it could not know.
    pub fn landed(&mut self, input: Identity) {
        let (split, seq) = (input.split, input.seq);
        let key = (split, seq);
        let now = self.now.entry(split).or_default();
        now.landed.insert(seq);
        self.inputs += 1;
        for other in self.open.remove(&key).unwrap_or_default() {
            now.twice.insert(seq);
            for member in other.members.values() {
                self.held_bytes -= member.payload.as_ref().len();
                self.duplicates.re_published += 1;
            }
        }
    }

    /// Inputs with answers of which no attempt's are complete.
    pub fn incomplete(&self) -> u64 {
        self.open.len() as u64
    }

    /// Per partition, the first offset that the next drain has to read again.
    pub fn holds(&self) -> BTreeMap<i32, i64> {
        let mut holds = BTreeMap::new();
        let members = self
            .open
            .values()
            .flatten()
            .flat_map(|f| f.members.values());
        for at in members.map(|m| m.at) {
            let first = holds.entry(at.partition).or_insert(at.offset);
            *first = (*first).min(at.offset);
        }
        holds
    }

    /// What has landed and was seen again since the last commit, by split; it counts as committed from now on.
    pub fn take_seen(&mut self) -> BTreeMap<u32, SeenSplit> {
        let now = std::mem::take(&mut self.now);
        for (split, seen) in &now {
            *self.before.entry(*split).or_default() |= &seen.landed;
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Identity, JobId};
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashSet};

    type Record = (u32, u32, u32, u32);

    fn id((seq, attempt, child, of): Record) -> EgressIdentity {
        let input = Identity {
            job: JobId(1),
            split: 0,
            seq,
        };
        EgressIdentity {
            input,
            attempt,
            child: child % of,
            of,
        }
    }

    #[derive(Debug, Default, PartialEq)]
    struct Outcome {
        /// Offsets landed, by input: each input once.
        landed: BTreeMap<u32, Vec<i64>>,
        re_published: u64,
        twice: BTreeSet<u32>,
        incomplete: u64,
    }

    /// The obvious way: look at the whole log after each record, and take the first family that is whole.
    fn reference(log: &[Record]) -> Outcome {
        let mut out = Outcome::default();
        let mut copies = HashSet::new();
        for (end, record) in log.iter().enumerate() {
            let this = id(*record);
            let seq = this.input.seq;
            let of_input = |r: &&(usize, &Record)| id(*r.1).input.seq == seq;
            if out.landed.contains_key(&seq) || !copies.insert(this) {
                out.re_published += 1;
                out.twice.insert(seq);
                continue;
            }
            let so_far: Vec<_> = log[..=end].iter().enumerate().collect();
            let mut family: BTreeMap<u32, i64> = BTreeMap::new();
            for (offset, r) in so_far.iter().filter(of_input) {
                let other = id(**r);
                if (other.attempt, other.of) == (this.attempt, this.of) {
                    family.entry(other.child).or_insert(*offset as i64);
                }
            }
            if family.len() as u32 == this.of {
                let others: HashSet<_> = so_far
                    .iter()
                    .filter(of_input)
                    .map(|(_, r)| id(**r))
                    .filter(|o| (o.attempt, o.of) != (this.attempt, this.of))
                    .collect();
                out.re_published += others.len() as u64;
                if !others.is_empty() {
                    out.twice.insert(seq);
                }
                out.landed.insert(seq, family.into_values().collect());
            }
        }
        let all: HashSet<u32> = log.iter().map(|r| r.0).collect();
        out.incomplete = all.len() as u64 - out.landed.len() as u64;
        out
    }

    /// As a lander does it: in drains that end at `cuts`, each starting where the last one's holds say.
    fn drains(log: &[Record], cuts: &[usize]) -> Outcome {
        let mut out = Outcome::default();
        let (mut next, mut reached) = (0, 0);
        let mut before = RoaringBitmap::new();
        let mut ends: Vec<usize> = cuts.iter().map(|c| c % (log.len() + 1)).collect();
        ends.push(log.len());
        ends.sort_unstable();
        for end in ends {
            let mut families = Families::new([(0, before.clone())], 1 << 20);
            for (offset, record) in log.iter().enumerate().take(end).skip(next) {
                let at = At {
                    partition: 0,
                    offset: offset as i64,
                    again: offset < reached,
                };
                let seq = record.0;
                let landed = match families.offer(at, id(*record), || [0u8; 3]).unwrap() {
                    Offer::Single => vec![at.offset],
                    Offer::Family(members) => members.iter().map(|m| m.at.offset).collect(),
                    Offer::Held | Offer::Duplicate => continue,
                };
                families.landed(id(*record).input);
                assert!(
                    out.landed.insert(seq, landed).is_none(),
                    "input {seq} twice"
                );
            }
            next = families
                .holds()
                .get(&0)
                .map_or(end, |first| *first as usize);
            reached = end;
            out.re_published += families.duplicates.re_published;
            out.incomplete = families.incomplete();
            assert_eq!(families.held_bytes == 0, families.open.is_empty());
            for (_, split) in families.take_seen() {
                before |= &split.landed;
                out.twice.extend(split.twice);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn drains_of_any_length_land_what_one_look_at_the_whole_log_does(
            log in prop::collection::vec((0u32..4, 0u32..3, 0u32..3, 1u32..4), 0..40),
            cuts in prop::collection::vec(0usize..1000, 0..5),
        ) {
            prop_assert_eq!(drains(&log, &cuts), reference(&log));
        }
    }

    #[test]
    fn a_family_that_was_whole_and_not_landed_leaves_its_place_to_another() {
        let mut families = Families::new([], 1 << 20);
        let at = |offset| At {
            partition: 0,
            offset,
            again: false,
        };
        let mut offer = |offset, record| families.offer(at(offset), id(record), || [0u8; 3]);
        assert_eq!(offer(0, (5, 1, 0, 1)), Ok(Offer::Single));
        assert_eq!(offer(1, (5, 2, 0, 2)), Ok(Offer::Held));
        assert!(matches!(offer(2, (5, 2, 1, 2)), Ok(Offer::Family(two)) if two.len() == 2));
        assert_eq!((families.incomplete(), families.held_bytes), (0, 0));
        families.landed(id((5, 2, 1, 2)).input);
        let late = families.offer(at(3), id((5, 1, 0, 1)), || [0u8; 3]);
        assert_eq!(late, Ok(Offer::Duplicate));
        assert_eq!((families.inputs, families.duplicates.re_published), (1, 1));
    }

    #[test]
    fn wrong_numbers_and_too_much_held_are_told() {
        let mut families = Families::new([], 4);
        let at = At {
            partition: 0,
            offset: 0,
            again: false,
        };
        let mut wrong = id((0, 0, 0, 1));
        wrong.of = 0;
        let refused = families.offer(at, wrong, || [0u8; 3]);
        assert_eq!(refused, Err(FamilyError::Number { child: 0, of: 0 }));
        let held = families.offer(at, id((0, 0, 0, 2)), || [0u8; 3]);
        assert_eq!(held, Ok(Offer::Held));
        let refused = families.offer(at, id((1, 0, 0, 2)), || [0u8; 3]);
        assert_eq!(refused, Err(FamilyError::TooMuchHeld { held: 6, limit: 4 }));
    }
}
