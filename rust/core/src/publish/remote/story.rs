//! What the receipts topic tells of one split: who may publish it, how far it is, its receipt. Values only.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::publish::region::Done;
use crate::store::RejectCount;

/// A record of the receipts topic. The set of rows that some carry travels beside it, in a header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub version: u8,
    /// 16 hex digits: the topic may be shared.
    pub job: String,
    pub split: u32,
    /// Whose it is.
    pub attempt: String,
    #[serde(flatten)]
    pub what: What,
}

/// What an attempt at a split, or the process that gives splits out, has to tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// Wants to publish the split: whoever does gives way. It is taken for dead when it is silent for `lease_ms`.
    Claim { host: String, lease_ms: u64 },
    /// Is still there.
    Here { beat: u64 },
    /// Publishes from now on.
    Begin,
    /// How far it is; the rows are those acknowledged.
    Note(Noted),
    /// The same, of a publisher that keeps its books in the store.
    Given(Noted),
    /// Ends without a receipt: it gave way, or failed.
    Yield { failure: Option<Failure> },
    /// Every row is acknowledged or rejected; the rows are those rejected.
    Close(Closed),
    /// What an attempt did, for the totals.
    Spent { done: Done },
}

/// Where a read-back of the split starts, and what is acknowledged before that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Noted {
    pub noted: Vec<(i32, i64)>,
    /// `(partition, first offset, last offset)`
    pub ranges: Vec<(i32, i64, i64)>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// [`crate::Error::kind`]
    pub kind: String,
    pub message: String,
    pub host: String,
}

/// The receipt of a split, but for its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    pub acknowledged: u64,
    /// `(partition, first offset, last offset)` of the acknowledged rows.
    pub ranges: Vec<(i32, i64, i64)>,
    pub rejects: Vec<RejectCount>,
}

/// The present state of a split, as its records tell it in their order.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// Who publishes, or did when it was last heard of.
    pub holder: Option<String>,
    /// The latest who wants to.
    pub claimant: Option<String>,
    /// How far it is, with the rows acknowledged.
    pub noted: Option<(Noted, RoaringBitmap)>,
    /// The receipt, with the rows rejected.
    pub closed: Option<(Closed, RoaringBitmap)>,
    /// The last failure that was told.
    pub failure: Option<Failure>,
    /// Summed over all attempts.
    pub done: Done,
    /// How often the split was claimed.
    pub claims: u32,
    /// The longest lease of those who claimed it, in milliseconds.
    pub lease_ms: u64,
}

impl Story {
    /// Takes in the next record. What somebody notes who had to give way is no news: another goes on from what was known
    /// before. A receipt is true whoever writes it, and the first one counts.
    pub fn add(&mut self, attempt: &str, what: What, rows: RoaringBitmap) {
        let is = |who: &Option<String>| who.as_deref() == Some(attempt);
        match what {
            What::Claim { lease_ms, .. } => {
                self.claims += 1;
                self.lease_ms = self.lease_ms.max(lease_ms);
                self.claimant = Some(attempt.to_owned());
            }
            What::Here { .. } => {}
            What::Begin => {
                if is(&self.claimant) {
                    self.holder = self.claimant.take();
                }
            }
            What::Note(noted) => {
                if is(&self.holder) {
                    self.noted = Some((noted, rows));
                }
            }
            What::Given(noted) => self.noted = Some((noted, rows)),
            What::Yield { failure } => {
                if is(&self.holder) {
                    self.holder = None;
                }
                if is(&self.claimant) {
                    self.claimant = None;
                }
                self.failure = failure.or(self.failure.take());
            }
            What::Close(closed) => {
                self.closed.get_or_insert((closed, rows));
            }
            What::Spent { done } => self.done.add(&done),
        }
    }

    /// Whether this attempt may publish.
    pub fn is_of(&self, attempt: &str) -> bool {
        self.closed.is_none() && self.claimant.is_none() && self.holder.as_deref() == Some(attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noted(offset: i64) -> Noted {
        Noted {
            noted: vec![(0, offset)],
            ranges: vec![],
        }
    }

    fn tell(story: &mut Story, attempt: &str, what: What) {
        story.add(attempt, what, RoaringBitmap::new());
    }

    fn claim() -> What {
        What::Claim {
            host: "h".into(),
            lease_ms: 10_000,
        }
    }

    #[test]
    fn a_later_attempt_goes_on_from_what_the_earlier_noted_before_it_gave_way() {
        let mut story = Story::default();
        tell(&mut story, "a", claim());
        tell(&mut story, "a", What::Begin);
        assert!(story.is_of("a"));
        tell(&mut story, "a", What::Note(noted(1)));
        tell(&mut story, "b", claim());
        assert!(!story.is_of("a") && !story.is_of("b"));
        tell(&mut story, "a", What::Note(noted(2)));
        tell(&mut story, "a", What::Yield { failure: None });
        tell(&mut story, "b", What::Begin);
        assert!(story.is_of("b"));
        // What was stopped, and goes on as if nothing had happened.
        tell(&mut story, "a", What::Note(noted(9)));
        assert_eq!(story.noted.as_ref().unwrap().0, noted(2));
        let closed = |acknowledged| Closed {
            acknowledged,
            ranges: vec![],
            rejects: vec![],
        };
        tell(&mut story, "a", What::Close(closed(1)));
        tell(&mut story, "b", What::Close(closed(2)));
        assert_eq!(story.closed.as_ref().unwrap().0, closed(1));
        assert!(!story.is_of("b"));
    }

    #[test]
    fn of_two_that_wait_the_later_begins() {
        let mut story = Story::default();
        for who in ["a", "b"] {
            tell(&mut story, who, claim());
        }
        tell(&mut story, "a", What::Begin);
        assert!(!story.is_of("a"));
        tell(&mut story, "b", What::Begin);
        assert!(story.is_of("b"));
        let failure = Failure {
            kind: "kafka".into(),
            message: "m".into(),
            host: "h".into(),
        };
        tell(
            &mut story,
            "b",
            What::Yield {
                failure: Some(failure.clone()),
            },
        );
        tell(&mut story, "c", claim());
        tell(&mut story, "c", What::Yield { failure: None });
        assert_eq!(
            (story.holder, story.claimant, story.failure),
            (None, None, Some(failure))
        );
    }

    proptest! {
        /// Whatever is told in whichever order, at most one attempt may publish, and only its notes count.
        #[test]
        fn one_may_publish(steps in prop::collection::vec((0u8..4, 0u8..5), 0..60)) {
            let mut story = Story::default();
            for (at, (who, what)) in steps.into_iter().enumerate() {
                let who = who.to_string();
                let before = story.clone();
                let what = match what {
                    0 => claim(),
                    1 => What::Begin,
                    2 => What::Note(noted(at as i64)),
                    3 => What::Yield { failure: None },
                    _ => What::Here { beat: 1 },
                };
                let begins = what == What::Begin;
                tell(&mut story, &who, what);
                let free = (0..4).filter(|w| story.is_of(&w.to_string())).count();
                prop_assert!(free <= 1);
                if story.noted != before.noted {
                    prop_assert_eq!(before.holder.as_deref(), Some(who.as_str()));
                }
                if story.holder != before.holder && story.holder.is_some() {
                    prop_assert!(begins && before.claimant == story.holder);
                }
            }
        }
    }

    #[test]
    fn an_entry_reads_as_it_was_written() {
        let entry = Entry {
            version: 1,
            job: "00".into(),
            split: 3,
            attempt: "a".into(),
            what: What::Note(noted(7)),
        };
        let text = serde_json::to_string(&entry).unwrap();
        assert!(text.contains(r#""what":"note""#), "{text}");
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry);
    }
}
