//! The elements of arrays and maps, which stand in blocks: how many, and maybe of how many bytes.

use super::fault::{Fault, What};
use super::source::Source;

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

/// Blocks of elements out of a source.
pub(super) trait Arrays<'a>: Source<'a> {
    /// The next block of an array or a map. `min_size` is the fewest bytes of an element, `cost` the memory that it
    /// takes beside what its bytes hold.
    #[inline(always)]
    fn block(&mut self, min_size: usize, cost: usize) -> Result<Block, Fault> {
        let (length, end) = self.block_length()?;
        // Most lists have one block and this.
        if length == 0 {
            return Ok(Block { count: 0, end });
        }
        let Ok(count) = usize::try_from(length.unsigned_abs()) else {
            return Err(self.too_large(length));
        };
        let cost = match min_size {
            0 => cost.max(EMPTY_ELEMENT),
            // Most are too few for this to be asked by a division.
            _ if count.saturating_mul(min_size) > self.remaining() => {
                return Err(self.too_large(length));
            }
            _ => cost,
        };
        let Some(free) = self.free().checked_sub(count.saturating_mul(cost)) else {
            return Err(self.too_many(count));
        };
        *self.free() = free;
        Ok(Block { count, end })
    }

    #[cold]
    #[inline(never)]
    fn too_many(self, count: usize) -> Fault {
        Fault(Box::new(What::TooManyElements {
            at: self.at(),
            count,
            message: self.end(),
        }))
    }

    /// The number of elements, negative where the writer says how many bytes they are, and where those end.
    #[inline(always)]
    fn block_length(&mut self) -> Result<(i64, Option<usize>), Fault> {
        let length = match self.short_count() {
            Some(count) => return Ok((count as i64, None)),
            None => self.long()?,
        };
        match length >= 0 {
            true => Ok((length, None)),
            false => {
                let (end, after) = self.block_end()?;
                *self = after;
                Ok((length, Some(end)))
            }
        }
    }

    /// Where the writer says that a block ends.
    #[inline(never)]
    fn block_end(mut self) -> Result<(usize, Self), Fault> {
        let bytes = self.long()?;
        match usize::try_from(bytes) {
            Ok(size) if size <= self.remaining() => Ok((self.at() + size, self)),
            _ => Err(self.too_large(bytes)),
        }
    }

    /// Whether a block that was read ends where the writer said.
    #[inline(always)]
    fn check_end(&self, block: Block) -> Result<(), Fault> {
        match block.end {
            Some(end) if end != self.at() => Err(self.no_end(end)),
            _ => Ok(()),
        }
    }

    #[cold]
    #[inline(never)]
    fn no_end(self, end: usize) -> Fault {
        self.invalid(format!("the writer says that the block ends at byte {end}"))
    }

    /// Passes over an array or a map; `min_size` is the fewest bytes of an element.
    fn skip_blocks(
        &mut self,
        min_size: usize,
        mut element: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        loop {
            match self.block_length()? {
                (0, _) => return Ok(()),
                (_, Some(end)) => {
                    self.take(end - self.at())?;
                }
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

impl<'a, S: Source<'a>> Arrays<'a> for S {}
