//! Elements of arrays, and entries of maps.

use super::block::{Across, Ahead, Cursor};
use super::column::{Column, Offsets};
use super::feed::{Along, One, Optional};
use super::read::{Done, Op, Read};
use super::reader::Reader;
use super::skip::Skip;
use super::source::Source;

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

/// Arrays or maps of one column.
pub(super) struct Lists<'c> {
    elements: &'c Elements,
    offsets: &'c mut Offsets,
    into: Inside<'c>,
    path: &'c str,
    /// The fewest bytes of an element, or of an entry.
    min_size: usize,
    /// Memory that one takes beside what its bytes hold.
    cost: usize,
}

impl<'c> Lists<'c> {
    pub(super) fn new(
        elements: &'c Elements,
        offsets: &'c mut Offsets,
        into: Inside<'c>,
        path: &'c str,
    ) -> Self {
        let (min_size, cost) = match &into {
            Inside::Items(items) => (elements.min_size, elements.cost(items)),
            // A key is one byte at least.
            Inside::Entries(keys, values) => {
                let cost = keys.cost.saturating_add(elements.cost(values));
                (elements.min_size.saturating_add(1), cost)
            }
        };
        Self {
            elements,
            offsets,
            into,
            path,
            min_size,
            cost,
        }
    }

    /// The next list of one message.
    pub(super) fn read_along(&mut self, r: &mut Reader<'_>, optional: &mut Optional<'_>) -> Done {
        let (op, into) = (&self.elements.op, &mut self.into);
        let mut len = self.offsets.last();
        let blocks = Blocks {
            min_size: self.min_size,
            cost: self.cost,
        };
        let read = |r: &mut Reader<'_>, count| {
            len += count;
            match into {
                Inside::Items(items) => op.read(items, Along(r, count)),
                Inside::Entries(keys, values) => (0..count).try_for_each(|_| {
                    Read::Text.values(keys, One(&mut *r))?;
                    op.read(values, One(&mut *r))
                }),
            }
        };
        blocks.each(r, optional, self.path, read)?;
        self.end(len)
    }

    /// The next list of each of many messages: where their elements begin is found first, and then those are read side by
    /// side.
    pub(super) fn read_across(mut self, across: Across<'_, '_>, optional: Optional<'_>) -> Done {
        let mut optional = optional;
        let Some(over) = &self.elements.skip else {
            let path = self.path;
            return across.one_by_one(
                |r| self.read_along(r, &mut optional),
                |fault| fault.of(path),
            );
        };
        let blocks = Blocks {
            min_size: self.min_size,
            cost: self.cost,
        };
        let keyed = matches!(self.into, Inside::Entries(..));
        let mut found = Found {
            op: &self.elements.op,
            into: self.into,
            bytes: across.bytes,
            cursors: Vec::with_capacity(SIDE_BY_SIDE),
        };
        let mut len = self.offsets.last();
        for cursor in across.cursors {
            let mut r = Ahead::new(across.bytes, *cursor, *across.free);
            blocks.each(&mut r, &mut optional, self.path, |r, count| {
                len += count;
                for _ in 0..count {
                    found.add(r.cursor())?;
                    if keyed {
                        r.skip_bytes().map_err(|fault| fault.of(self.path))?;
                    }
                    over.skip(r).map_err(|fault| fault.of(self.path))?;
                }
                Ok(())
            })?;
            *cursor = r.cursor();
            *across.free = *r.free();
            let end = Offsets::of(len).map_err(|fault| fault.of(self.path))?;
            self.offsets.0.push(end);
        }
        found.read()
    }

    /// Ends a slot.
    fn end(&mut self, len: usize) -> Done {
        let end = Offsets::of(len).map_err(|fault| fault.of(self.path))?;
        self.offsets.0.push(end);
        Ok(())
    }
}

/// Elements that were found and not read yet.
struct Found<'f, 'a> {
    op: &'f Op,
    into: Inside<'f>,
    bytes: &'a [u8],
    cursors: Vec<Cursor>,
}

impl Found<'_, '_> {
    #[inline(always)]
    fn add(&mut self, element: Cursor) -> Done {
        if self.cursors.len() == SIDE_BY_SIDE {
            self.read()?;
        }
        self.cursors.push(element);
        Ok(())
    }

    fn read(&mut self) -> Done {
        let mut across = Across {
            bytes: self.bytes,
            cursors: &mut self.cursors,
            // There are no lists in what can be passed over without reading it.
            free: &mut 0,
        };
        match &mut self.into {
            Inside::Items(items) => self.op.read(items, across)?,
            Inside::Entries(keys, values) => {
                Read::Text.values(keys, across.again())?;
                self.op.read(values, across)?;
            }
        }
        self.cursors.clear();
        Ok(())
    }
}

/// What bounds the blocks of a list.
#[derive(Clone, Copy)]
struct Blocks {
    min_size: usize,
    cost: usize,
}

impl Blocks {
    /// Calls for each block of the next list, if there is one.
    #[inline(always)]
    fn each<'a, S: Source<'a>>(
        self,
        r: &mut S,
        optional: &mut Optional<'_>,
        path: &str,
        mut read: impl FnMut(&mut S, usize) -> Done,
    ) -> Done {
        if let Some((valid, null)) = optional {
            let present = r.present(*null).map_err(|fault| fault.of(path))?;
            valid.push(present);
            if !present {
                return Ok(());
            }
        }
        loop {
            let block = r.block(self.min_size, self.cost);
            let block = block.map_err(|fault| fault.of(path))?;
            if block.count == 0 {
                return Ok(());
            }
            read(r, block.count)?;
            r.check_end(block).map_err(|fault| fault.of(path))?;
        }
    }
}
