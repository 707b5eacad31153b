//! Elements of arrays, and entries of maps.

use super::column::{Column, Offsets};
use super::fault::Fault;
use super::feed::{Across, Along, Feed, One};
use super::read::{Done, Op, Read};
use super::reader::Reader;
use super::skip::Skip;

/// Elements that are read side by side.
const SIDE_BY_SIDE: usize = 512;

/// The elements of an array or the values of a map.
#[derive(Debug)]
pub(super) struct Elements {
    /// The fewest bytes of one.
    pub(super) min_size: usize,
    /// Memory that the reader's defaults take in one.
    pub(super) defaults: usize,
    pub(super) op: Op,
    /// How to get past one, if there are no arrays and no maps in it: what those take is counted by message, so they
    /// aren't read from a part of one.
    pub(super) skip: Option<Skip>,
}

impl Elements {
    /// Memory that one takes at most, beside what its bytes hold.
    pub(super) fn cost(&self, column: &Column) -> usize {
        column.cost.saturating_add(self.defaults)
    }
}

/// What elements are read into.
pub(super) enum Inside<'c> {
    Items(&'c mut Column),
    Entries(&'c mut Column, &'c mut Column),
}

impl Inside<'_> {
    /// The fewest bytes of one, and the memory that it takes beside what they hold.
    fn bounds(&self, elements: &Elements) -> (usize, usize) {
        match self {
            Self::Items(items) => (elements.min_size, elements.cost(items)),
            // A key is one byte at least.
            Self::Entries(keys, values) => {
                let cost = keys.cost.saturating_add(elements.cost(values));
                (elements.min_size.saturating_add(1), cost)
            }
        }
    }

    fn skip(&self, over: &Skip, r: &mut Reader<'_>) -> Result<(), Fault> {
        if let Self::Entries(..) = self {
            r.bytes()?;
        }
        over.skip(r)
    }

    /// The next elements of one message.
    fn read_along(&mut self, op: &Op, r: &mut Reader<'_>, count: usize) -> Done {
        match self {
            Self::Items(items) => op.read(items, Along(r, count)),
            Self::Entries(keys, values) => (0..count).try_for_each(|_| {
                Read::Text.values(keys, One(&mut *r))?;
                op.read(values, One(&mut *r))
            }),
        }
    }

    fn read_across(&mut self, op: &Op, readers: &mut [Reader<'_>]) -> Done {
        match self {
            Self::Items(items) => op.read(items, Across(readers)),
            Self::Entries(keys, values) => {
                Read::Text.values(keys, Across(&mut *readers))?;
                op.read(values, Across(readers))
            }
        }
    }
}

/// The arrays or maps of one message after the other.
pub(super) fn in_turn<'a>(
    feed: impl Feed<'a>,
    elements: &Elements,
    offsets: &mut Offsets,
    mut into: Inside<'_>,
    path: &str,
) -> Done {
    let bounds = into.bounds(elements);
    feed.each(|r| {
        blocks(r, offsets, bounds, path, |r, count| {
            into.read_along(&elements.op, r, count)
        })
    })
}

/// Those of many messages: where their elements begin is found first, and then those are read side by side.
pub(super) fn side_by_side<'a>(
    readers: &mut [Reader<'a>],
    elements: &Elements,
    offsets: &mut Offsets,
    mut into: Inside<'_>,
    path: &str,
) -> Done {
    let Some(over) = &elements.skip else {
        return in_turn(Across(readers), elements, offsets, into, path);
    };
    let bounds = into.bounds(elements);
    let mut found: Vec<Reader<'a>> = Vec::with_capacity(SIDE_BY_SIDE.min(4 * readers.len()));
    for r in readers {
        blocks(r, offsets, bounds, path, |r, count| {
            for _ in 0..count {
                if found.len() == SIDE_BY_SIDE {
                    into.read_across(&elements.op, &mut found)?;
                    found.clear();
                }
                found.push(r.clone());
                into.skip(over, r).map_err(|fault| fault.of(path))?;
            }
            Ok(())
        })?;
    }
    into.read_across(&elements.op, &mut found)
}

/// Reads the blocks of an array or a map, and ends its slot.
#[inline(always)]
fn blocks<'a>(
    r: &mut Reader<'a>,
    offsets: &mut Offsets,
    (min_size, cost): (usize, usize),
    path: &str,
    mut read: impl FnMut(&mut Reader<'a>, usize) -> Done,
) -> Done {
    let mut len = offsets.last();
    loop {
        let block = r.block(min_size, cost).map_err(|fault| fault.of(path))?;
        if block.count == 0 {
            let end = Offsets::of(len).map_err(|fault| fault.of(path))?;
            offsets.0.push(end);
            return Ok(());
        }
        read(r, block.count)?;
        r.check_end(block).map_err(|fault| fault.of(path))?;
        len += block.count;
    }
}
