//! Messages that are read side by side. They are copied one after the other, with room behind the last, so that a value
//! is read without asking where its message ends: a message that was not read to its very end is at fault. No byte is
//! read twice and no length is beyond its message, so what is read past an end is no more than a few bytes of the next.

use super::fault::Fault;
use super::reader::{Reader, allowance};
use super::source::Source;

/// Messages of a block.
const MESSAGES: usize = 128;
/// Bytes of a block: about what a processor has at hand. A message of more is read by itself.
const BYTES: usize = 64 << 10;
/// Bytes and strings of up to so many are copied by the chunk.
const SHORT: usize = 64;
/// For so many bytes more there is room made at once.
const ROOM: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Block<'d> {
    /// As they were given.
    pub(super) datums: Vec<&'d [u8]>,
    bytes: Vec<u8>,
    /// Where each is, and where it was read to.
    cursors: Vec<Cursor>,
}

/// Where the next byte of a message is in its block, and where the message ends.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Cursor {
    next: u32,
    end: u32,
}

impl<'d> Block<'d> {
    pub(super) fn clear(&mut self) {
        self.datums.clear();
        self.bytes.clear();
        self.cursors.clear();
    }

    /// Takes a message, if there is room for it.
    pub(super) fn add(&mut self, datum: &'d [u8]) -> bool {
        let (start, end) = (self.bytes.len(), self.bytes.len() + datum.len());
        if self.datums.len() == MESSAGES || end > BYTES {
            return false;
        }
        self.datums.push(datum);
        self.bytes.extend_from_slice(datum);
        // They are far below 2³².
        let (next, end) = (start as u32, end as u32);
        self.cursors.push(Cursor { next, end });
        true
    }

    /// Has all messages read. Gives the memory that they take at most, beyond what any row takes, if all are sound.
    pub(super) fn read<E>(
        &mut self,
        read: impl FnOnce(Across<'_, '_>) -> Result<(), E>,
    ) -> Option<usize> {
        let len = self.bytes.len();
        self.bytes.resize(len + SHORT, 0);
        // What all take together is less than what they might one by one; if it is too much, they are asked that.
        let mut free = allowance(len);
        let across = Across {
            bytes: &self.bytes,
            cursors: &mut self.cursors,
            free: &mut free,
        };
        read(across).ok()?;
        let whole = self.cursors.iter().all(|c| c.next == c.end);
        whole.then(|| allowance(len) - free + len)
    }
}

/// The next value of each of several messages.
pub(super) struct Across<'f, 'a> {
    pub(super) bytes: &'a [u8],
    pub(super) cursors: &'f mut [Cursor],
    pub(super) free: &'f mut usize,
}

impl<'a> Across<'_, 'a> {
    /// The same again.
    pub(super) fn again(&mut self) -> Across<'_, 'a> {
        Across {
            bytes: self.bytes,
            cursors: self.cursors,
            free: self.free,
        }
    }

    /// As [`super::feed::Feed::each`], each message being read as one that is by itself.
    pub(super) fn one_by_one<E>(
        self,
        mut f: impl FnMut(&mut Reader<'a>) -> Result<(), E>,
        fault: impl Fn(Fault) -> E,
    ) -> Result<(), E> {
        for cursor in self.cursors {
            let message = self.bytes.get(cursor.next as usize..cursor.end as usize);
            let Some(message) = message else {
                return Err(fault(Fault::truncated(cursor.end as usize)));
            };
            let mut r = Reader::of_many(message, *self.free);
            f(&mut r)?;
            cursor.next = cursor.end - r.remaining() as u32;
            *self.free = *r.free();
        }
        Ok(())
    }
}

/// A message in its block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead<'a> {
    bytes: &'a [u8],
    at: Cursor,
    free: usize,
}

impl<'a> Ahead<'a> {
    #[inline(always)]
    pub(super) fn new(bytes: &'a [u8], cursor: Cursor, free: usize) -> Self {
        Self {
            bytes,
            at: cursor,
            free,
        }
    }

    #[inline(always)]
    pub(super) fn cursor(&self) -> Cursor {
        self.at
    }

    /// As [`Source::bytes`], to a place in `out`, beyond which there may be anything: room is made for many at once. Of
    /// few bytes too many are copied: a copy of a size that is known takes neither a call nor a guess.
    #[inline(always)]
    pub(super) fn bytes_to(&mut self, out: &mut Vec<u8>, place: &mut usize) -> Result<(), Fault> {
        let size = self.length()?;
        let room = out.get_mut(*place..).and_then(<[u8]>::first_chunk_mut);
        match (self.chunk::<SHORT>(), room) {
            (Some(chunk), Some(room)) if size <= SHORT => {
                *room = *chunk;
                self.pass(size);
            }
            _ => {
                let bytes = self.take(size)?;
                long_bytes_to(bytes, out, *place);
            }
        }
        *place += size;
        Ok(())
    }
}

#[inline(never)]
fn long_bytes_to(bytes: &[u8], out: &mut Vec<u8>, place: usize) {
    let end = place + bytes.len();
    if out.len() < end + SHORT {
        out.resize(end + ROOM, 0);
    }
    if let Some(room) = out.get_mut(place..end) {
        room.copy_from_slice(bytes);
    }
}

impl<'a> Source<'a> for Ahead<'a> {
    #[inline(always)]
    fn at(&self) -> usize {
        self.at.next as usize
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.at.end as usize
    }

    #[inline(always)]
    fn remaining(&self) -> usize {
        self.at.end.saturating_sub(self.at.next) as usize
    }

    #[inline(always)]
    fn free(&mut self) -> &mut usize {
        &mut self.free
    }

    #[inline(always)]
    fn checks_text(&self) -> bool {
        false
    }

    #[inline(always)]
    fn first(&self) -> Option<u8> {
        self.bytes.get(self.at()).copied()
    }

    #[inline(always)]
    fn chunk<const N: usize>(&self) -> Option<&'a [u8; N]> {
        let from = self.at();
        self.bytes.get(from..from + N)?.first_chunk()
    }

    #[inline(always)]
    fn pass(&mut self, size: usize) {
        self.at.next += size as u32;
    }

    #[inline(always)]
    fn take(&mut self, size: usize) -> Result<&'a [u8], Fault> {
        let from = self.at();
        self.skip_size(size)?;
        Ok(self.bytes.get(from..from + size).unwrap_or_default())
    }
}
