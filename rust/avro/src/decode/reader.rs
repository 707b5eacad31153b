//! Reading a datum: every length is held against what remains before anything is taken for it.

use super::fault::{Fault, What};
use crate::wire::unzigzag;

/// Memory that the elements of a message's arrays and maps may take beyond their bytes, whatever its length.
const FREE_BYTES: usize = 16 << 20;
/// The same, for each byte of the message.
const FREE_PER_BYTE: usize = 64;
/// Bytes and strings of up to so many are copied by the chunk.
const SHORT: usize = 32;
/// For so many bytes more there is room made at once.
const ROOM: usize = 512;
/// What an element of no bytes costs at least: nothing in the message bounds their number.
const EMPTY_ELEMENT: usize = 256;

/// A block of an array or a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// Its elements; none end the array.
    pub(super) count: usize,
    /// Where the writer says that it ends.
    end: Option<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    /// What was not read yet.
    rest: &'a [u8],
    /// Bytes of the whole datum.
    len: usize,
    /// Memory that elements may still take.
    free: usize,
    /// The branch of a union that was read last.
    pub(super) branch: u8,
    checks_text: bool,
}

/// The first number of so many bytes, and its size, if it ends among them.
#[inline(always)]
const fn varint(word: u64) -> Option<(u64, usize)> {
    // The first byte without its high bit is the last one of the number.
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    let last = ends.trailing_zeros();
    // Seven bits of each byte, put together in pairs, in fours, in eights.
    let sevens = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
    let pairs = sevens & 0x007f_007f_007f_007f | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    let eights = fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4;
    Some((eights, last as usize / 8 + 1))
}

impl<'a> Reader<'a> {
    pub(super) const fn new(datum: &'a [u8]) -> Self {
        Self {
            rest: datum,
            len: datum.len(),
            free: Self::allowance(datum.len()),
            branch: 0,
            checks_text: true,
        }
    }

    /// One that takes any bytes for text: whoever reads checks the columns.
    pub(super) const fn of_many(datum: &'a [u8]) -> Self {
        Self {
            checks_text: false,
            ..Self::new(datum)
        }
    }

    const fn allowance(len: usize) -> usize {
        FREE_BYTES.saturating_add(FREE_PER_BYTE.saturating_mul(len))
    }

    pub(super) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next byte's number.
    const fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    /// Passes over bytes that are known to be there.
    #[inline(always)]
    fn advance(&mut self, size: usize) {
        self.rest = self.rest.get(size..).unwrap_or_default();
    }

    /// Memory that what was read takes at most, beyond what any row takes.
    pub(super) const fn taken(&self) -> usize {
        Self::allowance(self.len) - self.free + self.len
    }

    #[cold]
    pub(super) fn invalid(&self, reason: impl Into<String>) -> Fault {
        Fault(Box::new(What::Invalid {
            at: self.at(),
            reason: reason.into(),
        }))
    }

    #[cold]
    fn too_large(&self, length: i64) -> Fault {
        let remaining = self.remaining();
        Fault(Box::new(What::LengthTooLarge {
            at: self.at(),
            length,
            remaining,
        }))
    }

    #[inline(always)]
    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        match self.rest {
            [byte, rest @ ..] => {
                self.rest = rest;
                Ok(*byte)
            }
            [] => Err(Fault::truncated(self.len)),
        }
    }

    /// Numbers of one column are of several lengths, which can't be foretold, so they aren't told apart by branches.
    #[inline(always)]
    pub(super) fn long(&mut self) -> Result<i64, Fault> {
        let eight = self.rest.first_chunk();
        match eight.and_then(|eight| varint(u64::from_le_bytes(*eight))) {
            Some((z, size)) => {
                self.advance(size);
                Ok(unzigzag(z))
            }
            None => self.long_by_byte(),
        }
    }

    /// A number that has one byte, most of the time.
    #[inline(always)]
    fn short_long(&mut self) -> Result<i64, Fault> {
        match self.rest {
            [a, rest @ ..] if *a < 0x80 => {
                self.rest = rest;
                Ok(unzigzag(u64::from(*a)))
            }
            _ => self.long(),
        }
    }

    /// Passes over a number.
    #[inline(always)]
    pub(super) fn skip_number(&mut self) -> Result<(), Fault> {
        self.short_long().map(drop)
    }

    /// A number of nine or ten bytes, or one near the end of the datum.
    #[inline(never)]
    fn long_by_byte(&mut self) -> Result<i64, Fault> {
        let (mut z, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                return Err(self.invalid("a number of more than 64 bits"));
            }
            z |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(unzigzag(z));
            }
            shift += 7;
        }
    }

    #[inline(always)]
    pub(super) fn int(&mut self) -> Result<i32, Fault> {
        let v = self.long()?;
        self.in_int(v)
    }

    #[inline(always)]
    pub(super) fn in_int(&self, v: i64) -> Result<i32, Fault> {
        i32::try_from(v).map_err(|_| self.invalid(format!("{v} is out of range of int")))
    }

    /// The branch of a union of `branches`.
    #[inline]
    pub(super) fn union(&mut self, branches: usize) -> Result<usize, Fault> {
        let branch = self.short_long()?;
        match usize::try_from(branch) {
            Ok(index) if index < branches => Ok(index),
            _ => Err(self.invalid(format!("branch {branch} is not in the union"))),
        }
    }

    /// Of a union of two, whether the branch is not `null`.
    #[inline(always)]
    pub(super) fn present(&mut self, null: u8) -> Result<bool, Fault> {
        match self.rest {
            [branch @ (0 | 2), rest @ ..] => {
                self.rest = rest;
                Ok(*branch != null << 1)
            }
            _ => Ok(self.union(2)? != usize::from(null)),
        }
    }

    #[inline(always)]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        match self.rest.split_first_chunk::<N>() {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(*bytes)
            }
            None => Err(Fault::truncated(self.len)),
        }
    }

    #[inline(always)]
    pub(super) fn take(&mut self, size: usize) -> Result<&'a [u8], Fault> {
        match self.rest.split_at_checked(size) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(Fault::truncated(self.len)),
        }
    }

    /// The length of bytes or of a string, which the datum holds.
    #[inline(always)]
    fn length(&mut self) -> Result<usize, Fault> {
        let length = self.short_long()?;
        match usize::try_from(length) {
            Ok(size) if size <= self.remaining() => Ok(size),
            Ok(_) => Err(self.too_large(length)),
            Err(_) => Err(self.invalid(format!("negative length {length}"))),
        }
    }

    /// Bytes or a string: a length, and that many bytes.
    #[inline(always)]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let size = self.length()?;
        self.take(size)
    }

    /// As [`Reader::bytes`], appended. Of few bytes, which aren't the last ones of the datum, too many are copied and cut
    /// off again: a copy of a size that is known takes neither a call nor a guess.
    #[inline(always)]
    pub(super) fn bytes_into(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let size = self.length()?;
        match self.rest.first_chunk::<SHORT>() {
            Some(chunk) if size <= SHORT => {
                let end = out.len() + size;
                out.extend_from_slice(chunk);
                out.truncate(end);
                self.advance(size);
            }
            _ => out.extend_from_slice(self.take(size)?),
        }
        Ok(())
    }

    /// As [`Reader::bytes`], to a place in `out`, beyond which there may be anything: room is made for many at once.
    #[inline(always)]
    pub(super) fn bytes_to(&mut self, out: &mut Vec<u8>, place: &mut usize) -> Result<(), Fault> {
        let size = self.length()?;
        let room = out.get_mut(*place..).and_then(<[u8]>::first_chunk_mut);
        match (self.rest.first_chunk::<SHORT>(), room) {
            (Some(chunk), Some(room)) if size <= SHORT => {
                *room = *chunk;
                self.advance(size);
            }
            _ => self.long_bytes_to(size, out, *place)?,
        }
        *place += size;
        Ok(())
    }

    #[inline(never)]
    fn long_bytes_to(&mut self, size: usize, out: &mut Vec<u8>, place: usize) -> Result<(), Fault> {
        let bytes = self.take(size)?;
        let end = place + size;
        if out.len() < end + SHORT {
            out.resize(end + ROOM, 0);
        }
        if let Some(room) = out.get_mut(place..end) {
            room.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// A string, appended; that it is one may be left to a [`super::column::Column::check_text`] of many.
    #[inline(always)]
    pub(super) fn text_into(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let start = out.len();
        self.bytes_into(out)?;
        match out.get(start..) {
            Some(text) if self.checks_text => self.check_text(text),
            _ => Ok(()),
        }
    }

    #[inline(never)]
    fn check_text(&self, text: &[u8]) -> Result<(), Fault> {
        match std::str::from_utf8(text) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.invalid("not UTF-8")),
        }
    }

    /// Bytes that are a big-endian number of one byte to eight, if there is so much left of the datum that they are
    /// read at once.
    #[inline(always)]
    pub(super) fn big_endian(&mut self) -> Option<i64> {
        let [twice @ (2 | 4 | 6 | 8 | 10 | 12 | 14 | 16), rest @ ..] = self.rest else {
            return None;
        };
        let (eight, size) = (rest.first_chunk()?, usize::from(*twice / 2));
        self.rest = rest.get(size..)?;
        // The sign comes down with the shift.
        Some(i64::from_be_bytes(*eight) >> (64 - 8 * size))
    }

    /// The next block of an array or a map. `min_size` is the fewest bytes of an element, `cost` the memory that it
    /// takes beside what its bytes hold.
    pub(super) fn block(&mut self, min_size: usize, cost: usize) -> Result<Block, Fault> {
        let (length, end) = self.block_length()?;
        let Ok(count) = usize::try_from(length.unsigned_abs()) else {
            return Err(self.too_large(length));
        };
        let cost = match min_size {
            0 => cost.max(EMPTY_ELEMENT),
            _ if count > self.remaining() / min_size => return Err(self.too_large(length)),
            _ => cost,
        };
        let Some(free) = self.free.checked_sub(count.saturating_mul(cost)) else {
            return Err(Fault(Box::new(What::TooManyElements {
                at: self.at(),
                count,
                message: self.len,
            })));
        };
        self.free = free;
        Ok(Block { count, end })
    }

    /// The number of elements, negative where the writer says how many bytes they are, and where those end.
    fn block_length(&mut self) -> Result<(i64, Option<usize>), Fault> {
        let length = self.short_long()?;
        if length >= 0 {
            return Ok((length, None));
        }
        let bytes = self.long()?;
        match usize::try_from(bytes) {
            Ok(size) if size <= self.remaining() => Ok((length, Some(self.at() + size))),
            _ => Err(self.too_large(bytes)),
        }
    }

    /// Whether a block that was read ends where the writer said.
    pub(super) fn check_end(&self, block: Block) -> Result<(), Fault> {
        match block.end {
            Some(end) if end != self.at() => {
                Err(self.invalid(format!("the writer says that the block ends at byte {end}")))
            }
            _ => Ok(()),
        }
    }

    /// Passes over an array or a map; `min_size` is the fewest bytes of an element.
    pub(super) fn skip_blocks(
        &mut self,
        min_size: usize,
        mut element: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        loop {
            match self.block_length()? {
                (0, _) => return Ok(()),
                (_, Some(end)) => self.advance(end - self.at()),
                // Elements of no bytes are passed over by doing nothing.
                (_, None) if min_size == 0 => {}
                (length, None) => match usize::try_from(length) {
                    Ok(count) if count <= self.remaining() / min_size => {
                        for _ in 0..count {
                            element(self)?;
                        }
                    }
                    _ => return Err(self.too_large(length)),
                },
            }
        }
    }
}
