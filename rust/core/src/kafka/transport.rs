//! What the publisher needs of a way to the broker: batches of encoded rows with their identity in, reports out.
//!
//! Nothing here knows librdkafka, so that another transport (one that assembles record batches itself) fits behind it.

use std::ops::Range;
use std::time::Duration;

use crate::identity::{Identity, JobId};

/// Encoded rows of one split, in order.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Number in its split of each row.
    pub seqs: Vec<u32>,
    pub partitions: Vec<i32>,
    /// All payloads one after the other; row `i` is `buffer[offsets[i]..offsets[i + 1]]`.
    pub buffer: Vec<u8>,
    pub offsets: Vec<usize>,
    /// Keys one after the other, if the topic has any: row `i` has `key_offsets[i]..key_offsets[i + 1]`, none if empty.
    pub keys: Vec<u8>,
    pub key_offsets: Vec<usize>,
    /// Milliseconds since 1970 of each row; empty: the time at which it is sent.
    pub timestamps: Vec<i64>,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.seqs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }

    /// Bytes of the payloads and keys of some rows.
    pub fn bytes(&self, rows: Range<usize>) -> usize {
        let of = |offsets: &[usize]| match (offsets.get(rows.start), offsets.get(rows.end)) {
            (Some(from), Some(to)) => to.saturating_sub(*from),
            _ => 0,
        };
        of(&self.offsets) + of(&self.key_offsets)
    }

    /// The framed payload of row `i`.
    pub fn payload(&self, i: usize) -> &[u8] {
        slice(&self.buffer, &self.offsets, i)
    }

    /// The key of row `i`; empty for none.
    pub fn key(&self, i: usize) -> &[u8] {
        slice(&self.keys, &self.key_offsets, i)
    }
}

fn slice<'a>(bytes: &'a [u8], offsets: &[usize], i: usize) -> &'a [u8] {
    match (offsets.get(i), offsets.get(i + 1)) {
        (Some(from), Some(to)) => bytes.get(*from..*to).unwrap_or_default(),
        _ => &[],
    }
}

/// Which split rows belong to, and the publisher's own number of it, given back in reports.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub job: JobId,
    pub split: u32,
    pub slot: u32,
}

impl Origin {
    pub fn identity(self, seq: u32) -> Identity {
        Identity {
            job: self.job,
            split: self.split,
            seq,
        }
    }
}

/// What became of rows that were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The broker has rows `first_seq..first_seq + count` at `first_offset..first_offset + count`.
    Acknowledged {
        slot: u32,
        first_seq: u32,
        count: u32,
        partition: i32,
        first_offset: i64,
    },
    /// A row was not delivered, or nobody knows.
    Failed {
        slot: u32,
        seq: u32,
        partition: i32,
        failure: Failure,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Timed out in flight: the broker may have it.
    pub possibly_persisted: bool,
    /// The batch it was in was larger than the topic takes, which says nothing about the row.
    pub batch_too_large: bool,
    pub reason: String,
}

/// A way to the broker. One thread uses it at a time.
pub trait Transport: Send {
    /// Takes the rows of a range, in order; says how many it took. Fewer than there are: its queue is full.
    ///
    /// # Errors
    /// The reason why this transport will never take a row again.
    fn send(&mut self, origin: Origin, rows: &Rows, range: Range<usize>) -> Result<usize, String>;

    /// What was taken is all there is for now: it need not wait for fuller batches. May block for a few milliseconds.
    fn hurry(&mut self);

    /// Adds what became of rows, waiting up to `wait` for the first report.
    fn reports(&mut self, wait: Duration, into: &mut Vec<Report>);

    /// Rows taken and not reported yet.
    fn in_flight(&self) -> u64;

    /// The last thing that went wrong on the way to the broker (a refused connection), if any did.
    fn trouble(&self) -> Option<&str>;

    /// Whether rows are sent in transactions, each between [`Self::begin`] and [`Self::commit`].
    fn transactional(&self) -> bool {
        false
    }

    /// Begins a transaction: what is sent from here on is there for readers when it is committed.
    ///
    /// # Errors
    /// The reason why this transport will never take a row again.
    fn begin(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Commits what was sent since [`Self::begin`], all of which has been reported. `false`: no answer yet, ask again.
    ///
    /// # Errors
    /// Why it is not committed, or why nobody knows.
    fn commit(&mut self) -> Result<bool, String> {
        Ok(true)
    }

    /// Gives up what was sent since [`Self::begin`], and what is still queued. May block for a few seconds; what it can't
    /// end is ended by the next transport of the same name.
    fn abort(&mut self) {}

    /// Whether another transport of the same name has taken over: this one will never send again.
    fn fenced(&self) -> bool {
        false
    }
}
