//! Reading one message, so that an error says what is wrong where.

use super::fault::Fault;
use super::source::Source;

/// Memory that the elements of a message's arrays and maps may take beyond their bytes, whatever its length.
const FREE_BYTES: usize = 16 << 20;
/// The same, for each byte of the message.
const FREE_PER_BYTE: usize = 64;
/// Bytes and strings of up to so many are copied by the chunk.
const SHORT: usize = 32;

/// Memory that the elements of a message so long may take, or of several messages.
pub(super) const fn allowance(len: usize) -> usize {
    FREE_BYTES.saturating_add(FREE_PER_BYTE.saturating_mul(len))
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    /// What was not read yet.
    rest: &'a [u8],
    /// Bytes of the whole datum.
    len: usize,
    /// Memory that elements may still take.
    free: usize,
    checks_text: bool,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(datum: &'a [u8]) -> Self {
        Self {
            rest: datum,
            len: datum.len(),
            free: allowance(datum.len()),
            checks_text: true,
        }
    }

    /// Of a message that is read with others: the rest of it, and what it may still take. Any bytes are text: whoever
    /// reads checks the columns.
    pub(super) const fn of_many(rest: &'a [u8], free: usize) -> Self {
        Self {
            rest,
            len: rest.len(),
            free,
            checks_text: false,
        }
    }

    /// Memory that what was read takes at most, beyond what any row takes.
    pub(super) const fn taken(&self) -> usize {
        allowance(self.len) - self.free + self.len
    }

    /// As [`Source::bytes`], appended. Of few bytes, which aren't the last ones of the datum, too many are copied and cut
    /// off again: a copy of a size that is known takes neither a call nor a guess.
    #[inline(always)]
    pub(super) fn bytes_into(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
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
        // Most is, and that is found in fewer steps.
        match text.is_ascii() || std::str::from_utf8(text).is_ok() {
            true => Ok(()),
            false => Err(self.invalid("not UTF-8")),
        }
    }
}

impl<'a> Source<'a> for Reader<'a> {
    #[inline(always)]
    fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline(always)]
    fn free(&mut self) -> &mut usize {
        &mut self.free
    }

    #[inline(always)]
    fn first(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    #[inline(always)]
    fn chunk<const N: usize>(&self) -> Option<&'a [u8; N]> {
        self.rest.first_chunk()
    }

    #[inline(always)]
    fn pass(&mut self, size: usize) {
        self.rest = self.rest.get(size..).unwrap_or_default();
    }

    #[inline(always)]
    fn take(&mut self, size: usize) -> Result<&'a [u8], Fault> {
        match self.rest.split_at_checked(size) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(self.truncated()),
        }
    }
}
