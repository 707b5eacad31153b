//! Reading a datum: every length is held against what remains before anything is taken for it.

use crate::error::DecodeError;
use crate::wire::unzigzag;

/// Memory that the elements of a message's arrays and maps may take beyond their bytes, whatever its length.
const FREE_BYTES: usize = 16 << 20;
/// The same, for each byte of the message.
const FREE_PER_BYTE: usize = 64;
/// Bytes and strings of up to so many are copied by the chunk.
const SHORT: usize = 16;
/// What an element of no bytes costs at least: nothing in the message bounds their number.
const EMPTY_ELEMENT: usize = 256;

/// What went wrong, where; the column adds its path. Boxed, so that what is read comes back in registers.
#[derive(Debug)]
pub(super) struct Fault(Box<What>);

#[derive(Debug)]
enum What {
    Truncated(usize),
    LengthTooLarge {
        at: usize,
        length: i64,
        remaining: usize,
    },
    TooManyElements {
        at: usize,
        count: usize,
        message: usize,
    },
    Invalid {
        at: usize,
        reason: String,
    },
    Full,
}

impl Fault {
    #[cold]
    pub(super) fn of(self, path: &str) -> Box<DecodeError> {
        let path = path.to_owned();
        Box::new(match *self.0 {
            What::Truncated(at) => DecodeError::Truncated { path, at },
            What::LengthTooLarge {
                at,
                length,
                remaining,
            } => DecodeError::LengthTooLarge {
                path,
                at,
                length,
                remaining,
            },
            What::TooManyElements { at, count, message } => DecodeError::TooManyElements {
                path,
                at,
                count,
                message,
            },
            What::Invalid { at, reason } => DecodeError::Invalid { path, at, reason },
            What::Full => DecodeError::BatchFull { path },
        })
    }

    #[cold]
    pub(super) fn full() -> Self {
        Self(Box::new(What::Full))
    }

    #[cold]
    fn truncated(at: usize) -> Self {
        Self(Box::new(What::Truncated(at)))
    }
}

/// A block of an array or a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// Its elements; none end the array.
    pub(super) count: usize,
    /// Where the writer says that it ends.
    end: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// What was not read yet.
    rest: &'a [u8],
    /// Bytes of the whole datum.
    len: usize,
    /// Memory that elements may still take.
    free: usize,
    /// The branch of a union that was read last.
    pub(super) branch: u8,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(datum: &'a [u8]) -> Self {
        Self {
            rest: datum,
            len: datum.len(),
            free: Self::allowance(datum.len()),
            branch: 0,
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

    #[inline(always)]
    pub(super) fn long(&mut self) -> Result<i64, Fault> {
        match self.rest {
            [a, rest @ ..] if *a < 0x80 => {
                self.rest = rest;
                Ok(unzigzag(u64::from(*a)))
            }
            [a, b, rest @ ..] if *b < 0x80 => {
                self.rest = rest;
                Ok(unzigzag(u64::from(a & 0x7f) | u64::from(*b) << 7))
            }
            _ => self.long_number(),
        }
    }

    /// A number of more than two bytes, most of the time.
    #[inline(never)]
    fn long_number(&mut self) -> Result<i64, Fault> {
        let Some(eight) = self.rest.first_chunk::<8>() else {
            return self.long_by_byte();
        };
        let word = u64::from_le_bytes(*eight);
        // The first byte without its high bit is the last one of the number.
        let last = (!word & 0x8080_8080_8080_8080).trailing_zeros();
        if last == u64::BITS {
            return self.long_by_byte();
        }
        // Seven bits of each byte, put together in pairs, in fours, in eights.
        let sevens = word & (u64::MAX >> (63 - last)) & 0x7f7f_7f7f_7f7f_7f7f;
        let pairs = sevens & 0x007f_007f_007f_007f | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
        let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
        let z = fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4;
        self.advance(last as usize / 8 + 1);
        Ok(unzigzag(z))
    }

    /// A number of nine or ten bytes, or one near the end of the datum.
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

    /// Of a union of two, the number that is not `null`.
    #[inline(always)]
    pub(super) fn optional_long(&mut self, null: u8) -> Result<Option<i64>, Fault> {
        match self.rest {
            [branch @ (0 | 2), rest @ ..] if *branch == null << 1 => {
                self.rest = rest;
                Ok(None)
            }
            [0 | 2, a, rest @ ..] if *a < 0x80 => {
                self.rest = rest;
                Ok(Some(unzigzag(u64::from(*a))))
            }
            [0 | 2, a, b, rest @ ..] if *b < 0x80 => {
                self.rest = rest;
                Ok(Some(unzigzag(u64::from(a & 0x7f) | u64::from(*b) << 7)))
            }
            _ => match self.present(null)? {
                true => self.long().map(Some),
                false => Ok(None),
            },
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
        let branch = self.long()?;
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
        let length = self.long()?;
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

    /// As [`Reader::bytes`], appended.
    #[inline(always)]
    pub(super) fn bytes_into(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let size = self.length()?;
        if self.short_into(size, out).is_none() {
            out.extend_from_slice(self.take(size)?);
        }
        Ok(())
    }

    /// A string, appended.
    #[inline(always)]
    pub(super) fn text_into(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        const HIGH_BITS: u128 = 0x8080_8080_8080_8080_8080_8080_8080_8080;
        let size = self.length()?;
        let start = out.len();
        if let Some(chunk) = self.short_into(size, out) {
            let beyond = u128::MAX.checked_shl(8 * size as u32).unwrap_or(0);
            if u128::from_le_bytes(*chunk) & HIGH_BITS & !beyond == 0 {
                return Ok(());
            }
        } else {
            out.extend_from_slice(self.take(size)?);
        }
        let text = out.get(start..).unwrap_or_default();
        if std::str::from_utf8(text).is_err() {
            return Err(self.invalid("not UTF-8"));
        }
        Ok(())
    }

    /// Appends so many bytes if they are few, and not the last ones of the datum. A copy of a size that is known is two
    /// instructions; what is too much of it is cut off again.
    #[inline(always)]
    fn short_into(&mut self, size: usize, out: &mut Vec<u8>) -> Option<&'a [u8; SHORT]> {
        let chunk = self.rest.first_chunk::<SHORT>().filter(|_| size <= SHORT)?;
        let end = out.len() + size;
        out.extend_from_slice(chunk);
        out.truncate(end);
        self.advance(size);
        Some(chunk)
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
        let length = self.long()?;
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
