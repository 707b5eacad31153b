//! Elements of arrays, and entries of maps.

use super::arrays::{Arrays, Block};
use super::block::{Across, Ahead, Cursor};
use super::column::{Column, Offsets, Store};
use super::fault::Fault;
use super::feed::{Along, One, Optional};
use super::read::{Action, Done, Op, Read};
use super::reader::Reader;
use super::skip::Skip;
use super::source::Source;
use crate::cpu;

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
        let path = self.path;
        let of = |fault: Fault| fault.of(path);
        if Blocks::begin(r, optional).map_err(of)? {
            while let Some(block) = blocks.next(r).map_err(of)? {
                len += block.count;
                match into {
                    Inside::Items(items) => op.read(items, Along(r, block.count))?,
                    Inside::Entries(keys, values) => {
                        for _ in 0..block.count {
                            Read::Text.values(keys, One(r))?;
                            op.read(values, One(r))?;
                        }
                    }
                }
                r.check_end(block).map_err(of)?;
            }
        }
        self.end(len)
    }

    /// The next list of each of many messages.
    pub(super) fn read_across(mut self, across: Across<'_, '_>, optional: Optional<'_>) -> Done {
        let mut optional = optional;
        match &self.elements.skip {
            Some(over) => cpu::run(SideBySide {
                over,
                lists: self,
                across,
                optional,
            }),
            None => {
                let path = self.path;
                across.one_by_one(
                    |r| self.read_along(r, &mut optional),
                    |fault| fault.of(path),
                )
            }
        }
    }

    /// Ends a slot.
    fn end(&mut self, len: usize) -> Done {
        let end = Offsets::of(len).map_err(|fault| fault.of(self.path))?;
        self.offsets.0.push(end);
        Ok(())
    }
}

/// Lists of many messages: where their elements begin is found first, and then those are read side by side.
struct SideBySide<'l, 'c, 'f, 'a> {
    over: &'l Skip,
    lists: Lists<'c>,
    across: Across<'f, 'a>,
    optional: Optional<'l>,
}

impl cpu::Work for SideBySide<'_, '_, '_, '_> {
    type Done = Done;

    #[inline(always)]
    fn run(self) -> Done {
        let (lists, across, mut optional) = (self.lists, self.across, self.optional);
        let blocks = Blocks {
            min_size: lists.min_size,
            cost: lists.cost,
        };
        let mut found = Found::new(lists.into, &lists.elements.op, across.bytes);
        let mut len = lists.offsets.last();
        let of = |fault: Fault| fault.of(lists.path);
        // No closures hold what loops: they would be compiled once, for both processors.
        for cursor in across.cursors {
            let mut r = Ahead::new(across.bytes, *cursor, *across.free);
            if Blocks::begin(&mut r, &mut optional).map_err(of)? {
                while let Some(block) = blocks.next(&mut r).map_err(of)? {
                    len += block.count;
                    found.elements(&mut r, block.count, self.over, lists.path)?;
                    r.check_end(block).map_err(of)?;
                }
            }
            *cursor = r.cursor();
            *across.free = *r.free();
            lists.offsets.0.push(Offsets::of(len).map_err(of)?);
        }
        found.end().map_err(of)?;
        found.read()
    }
}

/// Elements as they are found. Text that one begins with, as a map's entry does with its key, is read at once; what is
/// left of it is read later, side by side with that of others.
struct Found<'f, 'a> {
    texts: Option<Texts<'f>>,
    rest: Option<(&'f Op, &'f mut Column)>,
    bytes: &'a [u8],
    /// Where what is left of an element begins.
    cursors: Vec<Cursor>,
}

/// A column of text.
struct Texts<'f> {
    valid: Option<&'f mut Vec<bool>>,
    offsets: &'f mut Offsets,
    data: &'f mut Vec<u8>,
    /// Where the text ends; behind it there may be anything.
    end: usize,
}

impl Texts<'_> {
    #[inline(always)]
    fn read(&mut self, r: &mut Ahead<'_>) -> Result<(), Fault> {
        r.bytes_to(self.data, &mut self.end)?;
        // All are in range if the last one is.
        self.offsets.0.push(self.end as i32);
        Ok(())
    }
}

impl<'f, 'a> Found<'f, 'a> {
    fn new(into: Inside<'f>, op: &'f Op, bytes: &'a [u8]) -> Self {
        let (first, rest) = match into {
            Inside::Items(items) if matches!(op, Op::One(Action::Value(Read::Text))) => {
                (Some(items), None)
            }
            Inside::Items(items) => (None, Some((op, items))),
            Inside::Entries(keys, values) => (Some(keys), Some((op, values))),
        };
        let texts = first.and_then(|column| match &mut column.store {
            Store::Bytes(offsets, data) => Some(Texts {
                valid: column.valid.as_mut(),
                end: data.len(),
                offsets,
                data,
            }),
            _ => None,
        });
        Self {
            texts,
            rest,
            bytes,
            cursors: Vec::with_capacity(SIDE_BY_SIDE),
        }
    }

    /// Takes the elements of a block. The loops are apart, so that each has in registers what it needs.
    #[inline(always)]
    fn elements(&mut self, r: &mut Ahead<'a>, count: usize, over: &Skip, path: &str) -> Done {
        let of = |fault: Fault| fault.of(path);
        match (&mut self.texts, &self.rest) {
            (Some(texts), None) => {
                for _ in 0..count {
                    texts.read(r).map_err(of)?;
                }
            }
            (None, _) => {
                for _ in 0..count {
                    self.add(r.cursor())?;
                    over.skip(r).map_err(of)?;
                }
            }
            (Some(_), Some(_)) => {
                for _ in 0..count {
                    if let Some(texts) = &mut self.texts {
                        texts.read(r).map_err(of)?;
                    }
                    self.add(r.cursor())?;
                    over.skip(r).map_err(of)?;
                }
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn add(&mut self, rest: Cursor) -> Done {
        if self.cursors.len() == SIDE_BY_SIDE {
            self.read()?;
        }
        self.cursors.push(rest);
        Ok(())
    }

    /// Ends the text.
    fn end(&mut self) -> Result<(), Fault> {
        let Some(texts) = &mut self.texts else {
            return Ok(());
        };
        texts.data.truncate(texts.end);
        if let Some(valid) = &mut texts.valid {
            valid.resize(texts.offsets.0.len() - 1, true);
        }
        Offsets::of(texts.end).map(drop)
    }

    #[inline(never)]
    fn read(&mut self) -> Done {
        let Some((op, column)) = &mut self.rest else {
            return Ok(());
        };
        let across = Across {
            bytes: self.bytes,
            cursors: &mut self.cursors,
            // There are no lists in what can be passed over without reading it.
            free: &mut 0,
        };
        op.read(column, across)?;
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
    /// Whether there is a list.
    #[inline(always)]
    fn begin<'a>(r: &mut impl Source<'a>, optional: &mut Optional<'_>) -> Result<bool, Fault> {
        let Some((valid, null)) = optional else {
            return Ok(true);
        };
        let present = r.present(*null)?;
        valid.push(present);
        Ok(present)
    }

    /// The next block of a list, if it has another.
    #[inline(always)]
    fn next<'a>(self, r: &mut impl Source<'a>) -> Result<Option<Block>, Fault> {
        let block = r.block(self.min_size, self.cost)?;
        Ok((block.count > 0).then_some(block))
    }
}
