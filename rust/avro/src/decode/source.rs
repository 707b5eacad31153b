//! What values are read from: every length is held against what remains before anything is taken for it.

use super::fault::{Fault, What};
use super::varint::{varint, varint_of_four};
use crate::wire::unzigzag;

/// Bytes and strings of up to so many are appended by the chunk.
const SHORT: usize = 32;

/// A message, from where it was read to. One that fails may be left anywhere in the message.
///
/// What is rare takes it by value, and gives back what is left of it: its place in memory is nobody's then, and all that is
/// frequent has it in registers.
pub(super) trait Source<'a>: Copy {
    /// The next byte's number.
    fn at(&self) -> usize;

    /// Where the message ends.
    fn end(&self) -> usize;

    /// Bytes that the message still has.
    fn remaining(&self) -> usize;

    /// Memory that elements may still take.
    fn free(&mut self) -> &mut usize;

    /// Whether what has to be text is looked at as it is read, and not left to a
    /// [`super::column::Column::check_text`] of many.
    fn checks_text(&self) -> bool;

    /// The next byte.
    fn first(&self) -> Option<u8>;

    /// So many of the next bytes, which may be those of another message where this one has fewer.
    fn chunk<const N: usize>(&self) -> Option<&'a [u8; N]>;

    /// Passes over bytes that are there.
    fn pass(&mut self, size: usize);

    fn take(&mut self, size: usize) -> Result<&'a [u8], Fault>;

    #[inline(always)]
    fn byte(&mut self) -> Result<u8, Fault> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        match self.chunk() {
            Some(bytes) => {
                self.pass(N);
                Ok(*bytes)
            }
            None => Err(self.truncated()),
        }
    }

    /// The message ends before what is asked for.
    #[inline(always)]
    fn truncated(&self) -> Fault {
        Fault::truncated(self.end())
    }

    /// Numbers of one column are of several lengths, which can't be foretold, so they aren't told apart by branches.
    #[inline(always)]
    fn long(&mut self) -> Result<i64, Fault> {
        let eight = self.chunk().copied().map(u64::from_le_bytes);
        match eight.and_then(varint) {
            Some((v, size)) => {
                self.pass(size);
                Ok(v)
            }
            None => {
                let (v, after) = self.long_by_byte()?;
                *self = after;
                Ok(v)
            }
        }
    }

    /// A number that has one byte, most of the time.
    #[inline(always)]
    fn short_long(&mut self) -> Result<i64, Fault> {
        match self.first() {
            Some(byte) if byte < 0x80 => {
                self.pass(1);
                Ok(unzigzag(u64::from(byte)))
            }
            _ => self.long(),
        }
    }

    /// Most have four bytes at most, of which a number is made in fewer steps.
    #[inline(always)]
    fn int(&mut self) -> Result<i32, Fault> {
        let four = self.chunk().copied().map(u32::from_le_bytes);
        match four.and_then(varint_of_four) {
            Some((v, size)) => {
                self.pass(size);
                Ok(v)
            }
            None => {
                let v = self.long()?;
                self.in_int(v)
            }
        }
    }

    /// A number that is not negative, if it has one byte.
    #[inline(always)]
    fn short_count(&mut self) -> Option<usize> {
        match self.first() {
            Some(twice) if twice & 0x81 == 0 => {
                self.pass(1);
                Some(usize::from(twice >> 1))
            }
            _ => None,
        }
    }

    /// Of a union of two, whether the branch is not `null`.
    #[inline(always)]
    fn present(&mut self, null: u8) -> Result<bool, Fault> {
        match self.first() {
            Some(branch @ (0 | 2)) => {
                self.pass(1);
                Ok(branch != null << 1)
            }
            _ => {
                let (present, after) = self.present_at_length(null)?;
                *self = after;
                Ok(present)
            }
        }
    }

    /// Bytes that are a big-endian number of one byte to eight, if there is so much left that they are read at once.
    #[inline(always)]
    fn big_endian(&mut self) -> Option<i64> {
        let [twice @ (2 | 4 | 6 | 8 | 10 | 12 | 14 | 16), eight @ ..] = self.chunk::<9>()? else {
            return None;
        };
        let size = usize::from(*twice / 2);
        self.pass(1 + size);
        // The sign comes down with the shift.
        Some(i64::from_be_bytes(*eight.first_chunk()?) >> (64 - 8 * size))
    }

    #[cold]
    #[inline(never)]
    fn invalid(self, reason: impl Into<String>) -> Fault {
        Fault(Box::new(What::Invalid {
            at: self.at(),
            reason: reason.into(),
        }))
    }

    #[cold]
    #[inline(never)]
    fn too_large(self, length: i64) -> Fault {
        Fault(Box::new(What::LengthTooLarge {
            at: self.at(),
            length,
            remaining: self.remaining(),
        }))
    }

    /// A number of nine or ten bytes, or one near the end.
    #[inline(never)]
    fn long_by_byte(mut self) -> Result<(i64, Self), Fault> {
        let (mut z, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                return Err(self.invalid("a number of more than 64 bits"));
            }
            z |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((unzigzag(z), self));
            }
            shift += 7;
        }
    }

    /// Passes over bytes.
    #[inline(always)]
    fn skip_size(&mut self, size: usize) -> Result<(), Fault> {
        if size > self.remaining() {
            return Err(self.truncated());
        }
        self.pass(size);
        Ok(())
    }

    /// Passes over bytes or a string.
    #[inline(always)]
    fn skip_bytes(&mut self) -> Result<(), Fault> {
        let size = self.length()?;
        self.skip_size(size)
    }

    /// Passes over a number.
    #[inline(always)]
    fn skip_number(&mut self) -> Result<(), Fault> {
        let eight = self.chunk().copied().map(u64::from_le_bytes);
        match eight.map(|word| !word & 0x8080_8080_8080_8080) {
            None | Some(0) => self.long().map(drop),
            Some(ends) => {
                self.pass(ends.trailing_zeros() as usize / 8 + 1);
                Ok(())
            }
        }
    }

    #[inline(always)]
    fn in_int(&self, v: i64) -> Result<i32, Fault> {
        match i32::try_from(v) {
            Ok(int) => Ok(int),
            Err(_) => Err(self.no_int(v)),
        }
    }

    #[cold]
    #[inline(never)]
    fn no_int(self, v: i64) -> Fault {
        self.invalid(format!("{v} is out of range of int"))
    }

    /// As [`Source::present`], of a branch that is not written as short as it can be, or not there.
    #[cold]
    #[inline(never)]
    fn present_at_length(mut self, null: u8) -> Result<(bool, Self), Fault> {
        let branch = self.union(2)?;
        Ok((branch != usize::from(null), self))
    }

    /// The branch of a union of `branches`.
    #[inline(always)]
    fn union(&mut self, branches: usize) -> Result<usize, Fault> {
        let branch = self.short_long()?;
        match usize::try_from(branch) {
            Ok(index) if index < branches => Ok(index),
            _ => Err(self.no_branch(branch)),
        }
    }

    #[cold]
    #[inline(never)]
    fn no_branch(self, branch: i64) -> Fault {
        self.invalid(format!("branch {branch} is not in the union"))
    }

    /// The length of bytes or of a string, which the message holds.
    #[inline(always)]
    fn length(&mut self) -> Result<usize, Fault> {
        let length = match self.short_count() {
            Some(size) if size <= self.remaining() => return Ok(size),
            Some(size) => size as i64,
            None => self.long()?,
        };
        match usize::try_from(length) {
            Ok(size) if size <= self.remaining() => Ok(size),
            _ => Err(self.no_length(length)),
        }
    }

    #[cold]
    #[inline(never)]
    fn no_length(self, length: i64) -> Fault {
        match length < 0 {
            true => self.invalid(format!("negative length {length}")),
            false => self.too_large(length),
        }
    }

    /// Bytes or a string: a length, and that many bytes.
    #[inline(always)]
    fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let size = self.length()?;
        self.take(size)
    }

    /// As [`Source::bytes`], appended. Of few bytes, which aren't the last ones of all, too many are copied and cut off
    /// again: a copy of a size that is known takes neither a call nor a guess.
    #[inline(always)]
    fn bytes_into(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let size = self.length()?;
        match self.chunk::<SHORT>() {
            Some(chunk) if size <= SHORT => {
                let end = out.len() + size;
                out.extend_from_slice(chunk);
                out.truncate(end);
                self.pass(size);
            }
            _ => out.extend_from_slice(self.take(size)?),
        }
        Ok(())
    }

    /// A string, appended.
    #[inline(always)]
    fn text_into(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let start = out.len();
        self.bytes_into(out)?;
        match out.get(start..) {
            Some(text) if self.checks_text() => self.check_text(text),
            _ => Ok(()),
        }
    }

    #[inline(never)]
    fn check_text(&self, text: &[u8]) -> Result<(), Fault> {
        // Most is, and that is found in fewer steps.
        match text.is_ascii() || std::str::from_utf8(text).is_ok() {
            true => Ok(()),
            false => Err(self.invalid("not UTF-8")),
        }
    }
}
