//! A block of slots: field by field into words, then slot by slot into the output.

use std::ops::Range;

use super::fields::{Field, Values};
use super::sink::Sink;
use super::stage::{Stage, Step};
use super::words::{BLOCK, Word};
use crate::cpu;
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
        cpu::run(Fill {
            stage: &mut self.stage,
            fields: &self.fields,
            from,
            count,
        })
    }

    /// Writes slots of the block, counted from its first, and says after each where the output ends.
    #[inline(always)]
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
                        sink.text(&stage.spans[span], &fields[field].sources, slot);
                    }
                    Step::List { field, span } => {
                        let span = &stage.spans[span];
                        let (at, len) = (span.at[slot % BLOCK], span.len[slot % BLOCK]);
                        sink.word(span.words[slot % BLOCK]);
                        if len > 0
                            && let Values::List(_, elements) = &mut fields[field].values
                        {
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

    /// The same of slots in a row. Most elements take one step, which is looked at once and not for every one of them.
    #[inline(always)]
    fn write_range(&mut self, slots: Range<usize>, sink: &mut Sink) {
        let Self { fields, stage } = self;
        match stage.steps[..] {
            [Step::Narrow { from, to }] => sink.run(&stage.narrow.0[from..to], slots),
            [Step::Wide { from, to }] => sink.run(&stage.wide.0[from..to], slots),
            [Step::Bytes { field, span }] => {
                let (span, sources) = (&stage.spans[span], &fields[field].sources[..]);
                for slot in slots {
                    sink.text(span, sources, slot);
                }
            }
            _ => cpu::run(Steps {
                block: self,
                slots,
                sink,
            }),
        }
    }
}

/// What [`Block::write`] is asked for elements that take several steps.
struct Steps<'w, 'a> {
    block: &'w mut Block<'a>,
    slots: Range<usize>,
    sink: &'w mut Sink,
}

impl cpu::Work for Steps<'_, '_> {
    type Done = ();

    #[inline(always)]
    fn run(self) {
        self.block.write(self.slots, self.sink, |_, _| {});
    }
}

/// What [`Block::fill`] is asked.
struct Fill<'w, 'a> {
    stage: &'w mut Stage,
    fields: &'w [Field<'a>],
    from: usize,
    count: usize,
}

impl cpu::Work for Fill<'_, '_> {
    type Done = Result<(), EncodeError>;

    #[inline(always)]
    fn run(self) -> Self::Done {
        self.stage.fill_all(self.fields, self.from, self.count)
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
    #[inline(always)]
    fn write(&mut self, at: usize, len: usize, sink: &mut Sink) {
        let end = at.saturating_add(len);
        if self.held.start <= at && end <= self.held.end {
            let first = self.held.start;
            self.block.write_range(at - first..end - first, sink);
        } else {
            self.write_more(at, end, sink);
        }
    }

    /// Elements of which the block holds some at most.
    #[inline(never)]
    fn write_more(&mut self, mut at: usize, end: usize, sink: &mut Sink) {
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
            self.block.write_range(at - first..to - first, sink);
            at = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::flatten;
    use super::*;
    use crate::gate::{Data, Lane};
    use crate::plan::Branch;

    /// Tests run on new processors: this is what runs on old ones.
    #[test]
    fn both_forms_make_the_same_words() {
        let longs: Vec<i64> = (0..BLOCK as u32)
            .map(|i| (i64::MIN >> (i % 64)) ^ i64::from(i))
            .collect();
        let ints = |bits: u32| -> Vec<i32> { longs.iter().map(|v| (*v >> bits) as i32).collect() };
        let data = [0, 36, 43, 50, 57]
            .map(|bits| Data::Int(ints(bits).into()))
            .into_iter()
            .chain([0, 8, 40, 50].map(|bits| {
                let fewer: Vec<i64> = longs.iter().map(|v| v >> bits).collect();
                Data::Long(fewer.into())
            }))
            .chain([0, 16].map(|bits| {
                let fewer: Vec<i64> = longs.iter().map(|v| v >> bits).collect();
                Data::Unscaled(fewer.into())
            }));
        for data in data {
            let lane = Lane {
                branch: Branch::Union {
                    null: None,
                    value: 2,
                },
                nulls: None,
                data,
            };
            let mut fields = Vec::new();
            flatten(&lane, None, &mut fields);
            let mut old = Stage::default();
            old.fill_all(&fields, 0, BLOCK).unwrap();
            let mut new = Block::new(fields);
            new.fill(0, BLOCK).unwrap();
            assert_eq!(old.narrow.0, new.stage.narrow.0, "{lane:?}");
            assert_eq!(old.wide.0, new.stage.wide.0, "{lane:?}");
        }
    }
}
