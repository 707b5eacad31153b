//! A pass over a transport that fails at will: what it tells its keeper is what happened.

use std::collections::HashMap;
use std::sync::mpsc::sync_channel;

use proptest::prelude::*;
use roaring::RoaringBitmap;

use super::*;
use crate::identity::JobId;
use crate::kafka::transport::{Failure, Origin};
use crate::publish::encode::Chunk;
use crate::publish::split::Tally;

/// Takes a few rows at a time; gives some up, some of them after the "broker" has them.
#[derive(Default)]
struct Flaky {
    room: usize,
    /// Every so many rows one fails; 0: none.
    fails_every: usize,
    persisted_though: bool,
    queued: Vec<(u32, u32)>,
    log: Vec<(u32, u32)>,
    sent: HashMap<(u32, u32), u32>,
    count: usize,
    transactions: Option<Transactions>,
}

/// What the "broker" does with commits: their answers, in turn, then only good ones.
#[derive(Default)]
struct Transactions {
    answers: Vec<Answer>,
    /// Where the open one begins in the log.
    open: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Later,
    Refused,
    /// Committed, though nobody is told.
    Lost,
}

impl Transport for Flaky {
    fn send(&mut self, origin: Origin, rows: &Rows, range: Range<usize>) -> Result<usize, String> {
        let room = self.room.saturating_sub(self.queued.len());
        let taken = room.min(range.len());
        for seq in &rows.seqs[range.start..range.start + taken] {
            self.queued.push((origin.slot, *seq));
            *self.sent.entry((origin.slot, *seq)).or_default() += 1;
        }
        Ok(taken)
    }

    fn hurry(&mut self) {}

    fn reports(&mut self, _: Duration, into: &mut Vec<Report>) {
        for (slot, seq) in self.queued.drain(..) {
            self.count += 1;
            let fails = self.fails_every > 0 && self.count.is_multiple_of(self.fails_every);
            let offset = self.log.len() as i64;
            if !fails || self.persisted_though {
                self.log.push((slot, seq));
            }
            into.push(if fails {
                Report::Failed {
                    slot,
                    seq,
                    partition: 0,
                    failure: Failure {
                        possibly_persisted: self.persisted_though,
                        batch_too_large: false,
                        reason: "timed out".into(),
                    },
                }
            } else {
                Report::Acknowledged {
                    slot,
                    first_seq: seq,
                    count: 1,
                    partition: 0,
                    first_offset: offset,
                }
            });
        }
    }

    fn in_flight(&self) -> u64 {
        self.queued.len() as u64
    }

    fn trouble(&self) -> Option<&str> {
        None
    }

    fn transactional(&self) -> bool {
        self.transactions.is_some()
    }

    fn begin(&mut self) -> Result<(), String> {
        let transactions = self.transactions.as_mut().expect("asked for");
        assert_eq!(transactions.open, None);
        transactions.open = Some(self.log.len());
        Ok(())
    }

    fn commit(&mut self) -> Result<bool, String> {
        assert_eq!(self.queued.len(), 0, "all is reported before a commit");
        let transactions = self.transactions.as_mut().expect("asked for");
        match transactions.answers.pop() {
            Some(Answer::Later) => Ok(false),
            Some(Answer::Refused) => Err("refused".into()),
            Some(Answer::Lost) => {
                transactions.open = None;
                Err("no answer".into())
            }
            None => {
                transactions.open = None;
                Ok(true)
            }
        }
    }

    fn abort(&mut self) {
        self.queued.clear();
        if let Some(from) = self.transactions.as_mut().and_then(|t| t.open.take()) {
            self.log.truncate(from);
        }
    }
}

#[derive(Default)]
struct Books {
    opened: Vec<u32>,
    closed: Vec<u32>,
    rejected: usize,
    most_rejects: usize,
    /// What a store would keep of open splits: acknowledged rows, and the offset where read-back starts.
    noted: BTreeMap<u32, (RoaringBitmap, i64)>,
    /// Notes until the publisher dies; `None`: it lives.
    life: Option<u32>,
}

impl Books {
    /// A write that is the last one of a publisher that dies.
    fn written(&mut self) -> Result<()> {
        match &mut self.life {
            Some(0) => Err(crate::error::Error::Interrupted { stage: "test" }),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Keeper for Books {
    fn open(&mut self, slot: &mut Slot, ends: &BTreeMap<i32, i64>) -> Result<()> {
        self.opened.push(slot.origin.split);
        self.note(slot, ends)
    }

    fn note(&mut self, slot: &mut Slot, ends: &BTreeMap<i32, i64>) -> Result<()> {
        let end = ends.get(&0).copied().unwrap_or(0);
        let note = (slot.tally.acknowledged.clone(), end);
        self.noted.insert(slot.origin.split, note);
        slot.noted = Some(vec![(0, end)]);
        self.written()
    }

    fn close(&mut self, slot: &Slot) -> Result<()> {
        self.closed.push(slot.origin.split);
        Ok(())
    }

    fn rejected(&mut self, _: &Slot, rejects: &[RejectRow]) -> Result<()> {
        self.rejected += rejects.len();
        if self.rejected > self.most_rejects {
            return Err(crate::error::Error::Interrupted { stage: "test" });
        }
        Ok(())
    }

    fn progress(&mut self, _: u64, _: &Meter, _: &Pace<'_>) {}
}

/// Chunks of the rows that the slots still want; every tenth row is rejected.
fn source(slots: &[Slot], rows: u32) -> Receiver<Result<Step>> {
    let (to, steps) = sync_channel(1_000);
    for (index, slot) in slots.iter().enumerate().filter(|(_, s)| !s.closed) {
        to.send(Ok(Step::Begin(index))).unwrap();
        let wanted: Vec<u32> = (0..rows).filter(|s| slot.tally.wants(*s)).collect();
        for part in wanted.chunks(7) {
            let (bad, good): (Vec<u32>, Vec<u32>) = part.iter().partition(|s| *s % 10 == 9);
            let mut chunk = Chunk::default();
            chunk.rows.partitions = vec![0; good.len()];
            chunk.rows.seqs = good;
            chunk.rejects = bad
                .into_iter()
                .map(|row| RejectRow {
                    row,
                    column: "c".into(),
                    value: String::new(),
                    reason: "bad".into(),
                    payload: None,
                })
                .collect();
            to.send(Ok(Step::Rows(index, chunk))).unwrap();
        }
        to.send(Ok(Step::End(index, rows, SourceTime::default())))
            .unwrap();
    }
    steps
}

/// A pass to its end.
fn run(
    transport: &mut Flaky,
    slots: &mut [Slot],
    keeper: &mut Books,
    ends: &mut BTreeMap<i32, i64>,
    steps: Receiver<Result<Step>>,
) -> Result<Ended> {
    let pass = Pass {
        transport,
        slots,
        keeper,
        ends,
        note_every: Duration::ZERO,
        pacer: &mut Pacer::default(),
        meter: &mut Meter::default(),
        ctx: &Context::default(),
    };
    pass.run(steps)
}

/// What is unknown is looked up in the log.
fn settle(slots: &mut [Slot], log: &[(u32, u32)]) {
    for slot in slots.iter_mut().filter(|s| !s.tally.unknown.is_empty()) {
        let mut seen = crate::publish::split::Seen::default();
        for (offset, (of, seq)) in log.iter().enumerate() {
            if *of == slot.origin.slot {
                seen.add(*seq, 0, offset as i64);
            }
        }
        slot.tally.settle(&seen);
    }
}

fn slots(count: u32) -> Vec<Slot> {
    let origin = |slot| Origin {
        job: JobId(1),
        split: slot + 10,
        slot,
    };
    (0..count).map(|slot| Slot::new(origin(slot))).collect()
}

/// Passes until every split is closed, `holds` behind each of them; after `flaky` ones the transport fails no more.
fn passes(
    flaky: u32,
    rows: u32,
    transport: &mut Flaky,
    slots: &mut [Slot],
    books: &mut Books,
    holds: impl Fn(&[Slot], &[(u32, u32)]) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut ends = BTreeMap::new();
    for round in 0.. {
        if slots.iter().all(|s| s.closed) {
            break;
        }
        prop_assert!(round < 2 * flaky, "no end");
        if round > flaky {
            transport.fails_every = 0;
        }
        slots.iter_mut().for_each(|s| s.rows = None);
        let steps = source(slots, rows);
        let ended = run(transport, slots, books, &mut ends, steps).unwrap();
        prop_assert_eq!(ended.failure.is_some(), slots.iter().any(|s| !s.closed));
        // Only a failed pass leaves anything unknown.
        settle(slots, &transport.log);
        holds(slots, &transport.log)?;
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_split_closes_once_and_no_row_that_is_there_is_sent_again(
        splits in 1u32..4,
        rows in 1u32..80,
        room in 1usize..20,
        fails_every in 0usize..40,
        persisted_though: bool,
    ) {
        let mut transport = Flaky { room, fails_every, persisted_though, ..Flaky::default() };
        let mut slots = slots(splits);
        let mut books = Books { most_rejects: usize::MAX, ..Books::default() };
        // A transport that fails the first row of each pass never gets anywhere.
        passes(500, rows, &mut transport, &mut slots, &mut books, |_, _| Ok(()))?;
        let expected: Vec<u32> = (0..splits).map(|s| s + 10).collect();
        books.closed.sort_unstable();
        prop_assert_eq!(&books.closed, &expected);
        prop_assert_eq!(&books.opened, &expected);
        let bad = (0..rows).filter(|s| s % 10 == 9).count();
        prop_assert_eq!(books.rejected, bad * splits as usize);
        // The log has each good row exactly once: nothing lost, nothing doubled.
        let mut log = transport.log.clone();
        log.sort_unstable();
        log.dedup();
        prop_assert_eq!(log.len(), transport.log.len());
        prop_assert_eq!(log.len(), (rows as usize - bad) * splits as usize);
        for slot in &slots {
            prop_assert_eq!(slot.tally.in_flight, 0);
            prop_assert_eq!(slot.tally.rejected.len(), bad as u64);
        }
    }
}

proptest! {
    /// Whatever is answered to commits, and whichever rows fail: a split that is closed is committed as a whole, and the
    /// log has each row once.
    #[test]
    fn a_transaction_is_there_as_a_whole_or_not_at_all(
        splits in 1u32..4,
        rows in 1u32..60,
        room in 1usize..20,
        fails_every in 0usize..60,
        persisted_though: bool,
        answers in prop::collection::vec(
            prop_oneof![Just(Answer::Later), Just(Answer::Refused), Just(Answer::Lost)], 0..6),
    ) {
        let transactions = Some(Transactions { answers, open: None });
        let mut transport = Flaky { room, fails_every, persisted_though, transactions, ..Flaky::default() };
        let mut slots = slots(splits);
        let mut books = Books { most_rejects: usize::MAX, ..Books::default() };
        // A split of more rows than pass in a row never gets anywhere.
        passes(50, rows, &mut transport, &mut slots, &mut books, |slots, log| {
            prop_assert!(slots.iter().all(|s| s.uncommitted.is_none()));
            let there: u64 = slots.iter().map(|s| s.tally.acknowledged.len()).sum();
            prop_assert_eq!(there, log.len() as u64);
            Ok(())
        })?;
        let bad = (0..rows).filter(|s| s % 10 == 9).count();
        let mut log = transport.log.clone();
        log.sort_unstable();
        log.dedup();
        prop_assert_eq!(log.len(), transport.log.len());
        prop_assert_eq!(log.len(), (rows as usize - bad) * splits as usize);
        prop_assert_eq!(books.rejected, bad * splits as usize);
        // Notes are of whole splits too: of one whose commit was found by looking, or of none.
        let notes: Vec<u64> = books.noted.values().map(|(rows, _)| rows.len()).collect();
        let whole = u64::from(rows) - bad as u64;
        prop_assert!(notes.iter().all(|n| [0, whole].contains(n)), "{notes:?}");
    }
}

proptest! {
    /// However often a publisher dies, and whatever it had noted by then: the next one learns from the note and from
    /// what is behind it which rows are there, sends the others, and none twice.
    #[test]
    fn what_was_noted_and_what_is_behind_it_is_all_there_is(
        rows in 1u32..120,
        room in 1usize..20,
        lives in prop::collection::vec(0u32..12, 0..6),
    ) {
        let mut transport = Flaky { room, ..Flaky::default() };
        let mut books = Books { most_rejects: usize::MAX, ..Books::default() };
        for life in lives.into_iter().map(Some).chain([None]) {
            books.life = life;
            // What was queued dies with its client; what the broker has stays.
            transport.queued.clear();
            let mut slots = slots(2);
            let mut ends = BTreeMap::from([(0, transport.log.len() as i64)]);
            for slot in &mut slots {
                let of = slot.origin.slot;
                let there: RoaringBitmap =
                    transport.log.iter().filter(|(s, _)| *s == of).map(|(_, seq)| *seq).collect();
                slot.closed = books.closed.contains(&slot.origin.split);
                if let Some((known, start)) = books.noted.get(&slot.origin.split) {
                    slot.noted = Some(vec![(0, *start)]);
                    slot.tally = Tally::known(known.clone(), &[]);
                    let mut seen = crate::publish::split::Seen::default();
                    let behind = transport.log.iter().enumerate().skip(*start as usize);
                    for (offset, (_, seq)) in behind.filter(|(_, (s, _))| *s == of) {
                        seen.add(*seq, 0, offset as i64);
                    }
                    slot.tally.settle(&seen);
                    prop_assert_eq!(&slot.tally.acknowledged, &there);
                }
            }
            let steps = source(&slots, rows);
            let ran = run(&mut transport, &mut slots, &mut books, &mut ends, steps);
            prop_assert_eq!(ran.is_ok(), life.is_none() || books.closed.len() == 2);
        }
        let mut log = transport.log.clone();
        log.sort_unstable();
        log.dedup();
        prop_assert_eq!(log.len(), transport.log.len());
        let bad = (0..rows).filter(|s| s % 10 == 9).count();
        prop_assert_eq!(log.len(), (rows as usize - bad) * 2);
    }
}

#[test]
fn one_reject_too_many_stops_the_pass_and_is_told() {
    let mut slots = slots(1);
    let steps = source(&slots, 50);
    let mut books = Books {
        most_rejects: 2,
        ..Books::default()
    };
    let mut transport = Flaky {
        room: 1_000,
        ..Flaky::default()
    };
    let ran = run(
        &mut transport,
        &mut slots,
        &mut books,
        &mut BTreeMap::new(),
        steps,
    );
    assert!(ran.is_err());
    assert_eq!(books.rejected, 3);
    assert!(books.closed.is_empty());
    // What was sent before has been waited for.
    assert_eq!(slots[0].tally.in_flight, 0);
    assert!(slots[0].tally.acknowledged.len() > 10);
}
