//! A block of slots: field by field into words, then slot by slot into the output.

use std::ops::Range;

use super::fields::{Field, Values};
use super::sink::Sink;
use super::stage::{Span, Stage, Step};
use super::words::{BLOCK, Words};
use crate::cpu;
use crate::error::EncodeError;

/// Fields, and what is to be written for a block of their slots.
pub(super) struct Block<'a> {
    fields: Vec<Field<'a>>,
    stage: Stage,
}

/// The elements of all lists of a column.
pub(super) struct Elements<'a> {
    block: Block<'a>,
    total: usize,
    /// Those of a block of lists, encoded.
    sink: Sink,
    /// Where the bytes of each list begin, and those of the last one end.
    places: [usize; BLOCK + 1],
    /// The same of the elements that were encoded last.
    ends: [usize; BLOCK + 1],
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
            fields: &mut self.fields,
            from,
            count,
        })
    }

    /// Writes slots of the block, counted from its first, and says after each where the output ends.
    #[inline(always)]
    pub(super) fn write(
        &self,
        slots: impl Iterator<Item = usize>,
        sink: &mut Sink,
        mut written: impl FnMut(usize, usize),
    ) {
        let pieces: Vec<Piece<'_>> = self
            .stage
            .steps
            .iter()
            .map(|step| self.piece(*step))
            .collect();
        let mut at = sink.start();
        // Most elements take one step, which is looked at once and not for every one of them.
        match pieces[..] {
            [Piece::Narrow(words)] => {
                for slot in slots {
                    at = sink.words(at, words, slot);
                    written(slot, sink.len(at));
                }
            }
            [Piece::Wide(words)] => {
                for slot in slots {
                    at = sink.words(at, words, slot);
                    written(slot, sink.len(at));
                }
            }
            [Piece::Bytes(span, sources)] => {
                for slot in slots {
                    at = sink.text(at, span, sources, slot);
                    written(slot, sink.len(at));
                }
            }
            _ => {
                for slot in slots {
                    for piece in &pieces {
                        at = match *piece {
                            Piece::Narrow(words) => sink.words(at, words, slot),
                            Piece::Wide(words) => sink.words(at, words, slot),
                            Piece::Bytes(span, sources) => sink.text(at, span, sources, slot),
                            Piece::List(span, elements) => sink.list(at, span, elements, slot),
                        };
                    }
                    written(slot, sink.len(at));
                }
            }
        }
        sink.stop(at);
    }

    fn piece(&self, step: Step) -> Piece<'_> {
        let Self { fields, stage } = self;
        match step {
            Step::Narrow { from, to } => Piece::Narrow(&stage.narrow.0[from..to]),
            Step::Wide { from, to } => Piece::Wide(&stage.wide.0[from..to]),
            Step::Bytes { field, span } => Piece::Bytes(&stage.spans[span], &fields[field].sources),
            Step::List { field, span } => {
                let encoded = match &fields[field].values {
                    Values::List(_, elements) => elements.sink.encoded(),
                    _ => &[],
                };
                Piece::List(&stage.spans[span], encoded)
            }
        }
    }
}

/// What a step writes.
enum Piece<'s> {
    Narrow(&'s [Words<u64>]),
    Wide(&'s [Words<u128>]),
    Bytes(&'s Span, &'s [&'s [u8]]),
    List(&'s Span, &'s [u8]),
}

/// What [`Block::fill`] is asked.
struct Fill<'w, 'a> {
    stage: &'w mut Stage,
    fields: &'w mut [Field<'a>],
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
            sink: Sink::default(),
            places: [0; _],
            ends: [0; _],
        }
    }

    pub(super) fn bound(&self) -> usize {
        self.block.bound(self.total)
    }

    /// Encodes the elements of a block of lists, one after the other whichever lists they are of: how many a list has
    /// can't be foretold, and its bytes are copied as one piece. `offsets` has one more than there are lists; the span
    /// says where their elements lie, and then where their bytes do.
    pub(super) fn encode(&mut self, offsets: &[usize], span: &mut Span) -> Result<(), EncodeError> {
        self.sink.clear();
        let count = offsets.len() - 1;
        // What is below a null may be anything, and is passed over.
        let is_dead =
            |span: &Span, slot: usize| (span.len[slot] == 0) & (offsets[slot] != offsets[slot + 1]);
        let mut from = 0;
        // There mostly is none, which is found faster than where one is.
        if (0..count).fold(false, |any, slot| any | is_dead(span, slot)) {
            for slot in 0..count {
                if is_dead(span, slot) {
                    self.encode_run(offsets, from..slot, span)?;
                    from = slot + 1;
                }
            }
        }
        self.encode_run(offsets, from..count, span)?;
        self.sink.settle()
    }

    /// The same of lists of which one begins where the one before it ends, as do their bytes.
    fn encode_run(
        &mut self,
        offsets: &[usize],
        lists: Range<usize>,
        span: &mut Span,
    ) -> Result<(), EncodeError> {
        let mut offsets = &offsets[lists.start..=lists.end];
        let (Some(first), Some(end)) = (offsets.first(), offsets.last()) else {
            return Ok(());
        };
        let (mut at, end) = (*first, *end);
        let mut places = &mut self.places[..offsets.len()];
        loop {
            let count = BLOCK.min(end - at);
            self.ends[0] = self.sink.len(self.sink.start());
            if count > 0 {
                self.block.fill(at, count)?;
                cpu::run(Write {
                    block: &self.block,
                    count,
                    sink: &mut self.sink,
                    ends: &mut self.ends,
                });
            }
            let (here, later) =
                offsets.split_at(offsets.partition_point(|offset| *offset <= at + count));
            let (known, unknown) = places.split_at_mut(here.len());
            for (place, offset) in known.iter_mut().zip(here) {
                *place = self.ends[(offset - at).min(BLOCK)];
            }
            (offsets, places) = (later, unknown);
            at += count;
            if at == end {
                break;
            }
        }
        for (slot, place) in lists.zip(self.places.windows(2)) {
            span.at[slot] = place[0];
            span.len[slot] = place[1] - place[0];
        }
        Ok(())
    }
}

/// What [`Block::write`] is asked of elements.
struct Write<'w, 'a> {
    block: &'w Block<'a>,
    count: usize,
    sink: &'w mut Sink,
    /// Where the output ends before the first and behind each.
    ends: &'w mut [usize; BLOCK + 1],
}

impl cpu::Work for Write<'_, '_> {
    type Done = ();

    #[inline(always)]
    fn run(self) {
        self.block.write(0..self.count, self.sink, |slot, end| {
            self.ends[slot + 1] = end
        });
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
            old.fill_all(&mut fields, 0, BLOCK).unwrap();
            let mut new = Block::new(fields);
            new.fill(0, BLOCK).unwrap();
            assert_eq!(old.narrow.0, new.stage.narrow.0, "{lane:?}");
            assert_eq!(old.wide.0, new.stage.wide.0, "{lane:?}");
        }
    }
}
