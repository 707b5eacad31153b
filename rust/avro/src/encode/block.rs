//! A block of slots: field by field into words, then slot by slot into the output.

use std::ops::Range;

use super::cpu;
use super::fields::{Field, Values};
use super::sink::Sink;
use super::stage::{Stage, Step};
use super::words::{BLOCK, Word};
use crate::error::EncodeError;

/// Fields, and what is to be written for a block of their slots.
pub(super) struct Block<'a> {
    fields: Vec<Field<'a>>,
    stage: Stage,
}

/// The elements of all lists of a column, encoded a block at a time when a list comes to them.
pub(super) struct Elements<'a> {
    block: Block<'a>,
    total: usize,
    /// Which of them the block holds.
    held: Range<usize>,
}

impl<'a> Block<'a> {
    pub(super) fn new(fields: Vec<Field<'a>>) -> Self {
        Self {
            fields,
            stage: Stage::default(),
        }
    }

    /// More bytes than `slots` slots can take.
    pub(super) fn bound(&self, slots: usize) -> usize {
        self.fields
            .iter()
            .fold(0_usize, |sum, field| sum.saturating_add(field.bound(slots)))
    }

    /// Encodes up to [`BLOCK`] slots, for [`Block::write`] to write.
    pub(super) fn fill(&mut self, from: usize, count: usize) -> Result<(), EncodeError> {
        cpu::fill(&mut self.stage, &self.fields, from, count)
    }

    /// Writes slots of the block, counted from its first, and says after each where the output ends.
    #[inline]
    pub(super) fn write(
        &mut self,
        slots: impl Iterator<Item = usize>,
        sink: &mut Sink,
        mut written: impl FnMut(usize, usize),
    ) {
        let Self { fields, stage } = self;
        for slot in slots {
            for step in &stage.steps {
                match *step {
                    Step::Narrow { from, to } => sink.words(&stage.narrow.0[from..to], slot),
                    Step::Wide { from, to } => sink.words(&stage.wide.0[from..to], slot),
                    Step::Bytes { field, span } => {
                        let span = &stage.spans[span];
                        let (at, len) = (span.at[slot % BLOCK], span.len[slot % BLOCK]);
                        let source = span.source[slot % BLOCK] as usize;
                        sink.word(span.words[slot % BLOCK]);
                        match fields[field].sources.get(source) {
                            Some(source) => sink.bytes(source, at, len),
                            None => sink.outside(),
                        }
                    }
                    Step::List { field, span } => {
                        let span = &stage.spans[span];
                        let (at, len) = (span.at[slot % BLOCK], span.len[slot % BLOCK]);
                        sink.word(span.words[slot % BLOCK]);
                        if let Values::List(_, elements) = &mut fields[field].values {
                            elements.write(at, len, sink);
                        }
                        // The empty block that ends a list is the length of one that has no elements.
                        sink.word(u64::counted(u32::from(len > 0)));
                    }
                }
            }
            written(slot, sink.len());
        }
    }
}

impl<'a> Elements<'a> {
    pub(super) fn new(fields: Vec<Field<'a>>, total: usize) -> Self {
        Self {
            block: Block::new(fields),
            total,
            held: 0..0,
        }
    }

    pub(super) fn bound(&self) -> usize {
        self.block.bound(self.total)
    }

    /// Writes the elements of a list.
    fn write(&mut self, mut at: usize, len: usize, sink: &mut Sink) {
        let end = at.saturating_add(len);
        while at < end {
            if !self.held.contains(&at) {
                // Lists come in the order of their elements: this is the first that was not written yet, or is not to be.
                let count = BLOCK.min(self.total.saturating_sub(at));
                if count == 0 {
                    return sink.outside();
                }
                if let Err(error) = self.block.fill(at, count) {
                    return sink.fail(error);
                }
                self.held = at..at + count;
            }
            let first = self.held.start;
            let to = end.min(self.held.end);
            self.block.write(at - first..to - first, sink, |_, _| {});
            at = to;
        }
    }
}
