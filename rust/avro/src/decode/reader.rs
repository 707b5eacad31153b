//! Reading one message, so that an error says what is wrong where.

use super::fault::Fault;
use super::source::Source;

/// Memory that the elements of a message's arrays and maps may take beyond their bytes, whatever its length.
const FREE_BYTES: usize = 16 << 20;
/// The same, for each byte of the message.
const FREE_PER_BYTE: usize = 64;

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
    fn checks_text(&self) -> bool {
        self.checks_text
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
