//! A block of slots: field by field into words, then slot by slot into the output.

use arrow_array::BinaryViewArray;

use super::fields::{Field, Values};
use super::sink::Sink;
use super::stage::{INLINE, Source, Stage, Step};
use super::words::BLOCK;
use crate::error::EncodeError;

/// Fields, and what is to be written for a block of their slots.
pub(super) struct Block<'a> {
    fields: Vec<Field<'a>>,
    stage: Stage<'a>,
}

/// The elements of lists, encoded a block of lists at a time.
pub(super) struct Elements<'a> {
    block: Block<'a>,
    pub(super) written: Sink,
    /// Where each element begins, and where the last ends.
    pub(super) offsets: Vec<usize>,
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
        self.stage.clear();
        for (number, field) in self.fields.iter_mut().enumerate() {
            self.stage.fill(number, field, from, count)?;
        }
        self.stage.widen_few(false);
        Ok(())
    }

    /// Writes a slot of the block, counted from its first.
    #[inline]
    pub(super) fn write(&self, slot: usize, sink: &mut Sink) {
        for step in &self.stage.steps {
            match *step {
                Step::Narrow { from, to } => sink.words(&self.stage.narrow.0[from..to], slot),
                Step::Wide { from, to } => sink.words(&self.stage.wide.0[from..to], slot),
                Step::Span(number) => {
                    let span = &self.stage.spans[number];
                    let (at, len) = (span.at[slot % BLOCK], span.len[slot % BLOCK]);
                    match span.source {
                        Source::Data(data) => sink.bytes(data, at, len),
                        Source::Views(_) if len == 0 => {}
                        Source::Views(views) => view(views, at, len, sink),
                        Source::Elements(number) => {
                            if let Values::List(_, elements) = &self.fields[number].values {
                                sink.bytes(elements.written.as_slice(), at, len);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn view(views: &BinaryViewArray, at: usize, len: usize, sink: &mut Sink) {
    let view = views.views()[at];
    if len <= INLINE {
        return sink.bytes(&(view >> 32).to_le_bytes(), 0, len);
    }
    let (buffer, from) = ((view >> 64) as u32 as usize, (view >> 96) as usize);
    match views.data_buffers().get(buffer) {
        Some(data) => sink.bytes(data, from, len),
        None => sink.outside(),
    }
}

impl<'a> Elements<'a> {
    pub(super) fn new(fields: Vec<Field<'a>>) -> Self {
        Self {
            block: Block::new(fields),
            written: Sink::default(),
            offsets: Vec::new(),
        }
    }

    pub(super) fn bound(&self, elements: usize) -> usize {
        self.block.bound(elements)
    }

    pub(super) fn encode(&mut self, from: usize, to: usize) -> Result<(), EncodeError> {
        self.written.clear();
        self.offsets.clear();
        self.offsets.push(0);
        for first in (from..to).step_by(BLOCK) {
            let count = BLOCK.min(to - first);
            self.block.fill(first, count)?;
            for slot in 0..count {
                self.block.write(slot, &mut self.written);
                self.offsets.push(self.written.len());
            }
        }
        self.written.flush();
        self.written.check()
    }
}
