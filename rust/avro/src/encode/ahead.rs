//! What blocks to come will read, asked for while there is other work. Columns mostly are in no cache; each block reads a
//! little of many of them, more than a processor follows by itself.

use std::ops::Range;

use arrow_buffer::BooleanBuffer;

use super::fields::{Field, Values};
use super::words::BLOCK;
use crate::cpu;

/// Most bytes of texts of a block that are asked for: a few long ones are followed by the processor.
const TEXTS: usize = 64 * BLOCK;

impl Field<'_> {
    /// Has what is one block behind these slots brought near.
    #[inline(always)]
    pub(super) fn fetch_ahead(&self, from: usize, count: usize) {
        let next = from + BLOCK..from + BLOCK + count;
        for nulls in [self.nulls, self.absent.as_ref()].into_iter().flatten() {
            bits(nulls.inner(), &next);
        }
        match &self.values {
            Values::None | Values::Const => {}
            Values::Boolean(bools) => bits(bools, &next),
            Values::Int(ints) => values(ints, &next),
            Values::Long(longs) | Values::Unscaled(longs) => values(longs, &next),
            Values::Float(floats) => values(floats, &next),
            Values::Double(doubles) => values(doubles, &next),
            Values::Bytes(offsets) => self.texts(offsets, &next, |o| o as usize),
            Values::LargeBytes(offsets) => self.texts(offsets, &next, |o| o as usize),
            Values::View(views) => values(views, &next),
            Values::Fixed(size) => {
                let next = next.start.saturating_mul(*size)..next.end.saturating_mul(*size);
                values(self.source(), &next);
            }
            Values::List(ranges, _) => values(ranges, &next),
            // The offsets are those of the list before it.
            Values::End(_) => {}
        }
    }

    /// Texts between offsets that were asked for one block ago, and the offsets of one block later.
    #[inline(always)]
    fn texts<T: Copy>(&self, offsets: &[T], next: &Range<usize>, f: impl Fn(T) -> usize) {
        values(offsets, &(next.start + BLOCK..next.end + BLOCK));
        let Some(first) = offsets.get(next.start) else {
            return;
        };
        let last = offsets.get(next.end).or(offsets.last()).unwrap_or(first);
        let (first, last) = (f(*first), f(*last));
        if last.wrapping_sub(first) <= TEXTS {
            values(self.source(), &(first..last));
        }
    }
}

/// Those of the values that there are.
#[inline(always)]
fn values<T>(values: &[T], range: &Range<usize>) {
    let end = range.end.min(values.len());
    cpu::fetch(values.get(range.start..end).unwrap_or_default());
}

#[inline(always)]
fn bits(bits: &BooleanBuffer, range: &Range<usize>) {
    let (from, to) = (bits.offset() + range.start, bits.offset() + range.end);
    values(bits.values(), &(from / 8..to.div_ceil(8)));
}
