//! A block of slots: field by field into words, then slot by slot into the output.

use std::ops::Range;

use super::fields::{Field, Values};
use super::pieces::Pieces;
use super::sink::Sink;
use super::stage::{Span, Stage, Step};
use super::words::BLOCK;
use crate::cpu;
use crate::error::EncodeError;

/// Every slot of a block.
pub(super) const ALL: [u8; BLOCK] = {
    let mut all = [0; BLOCK];
    let mut slot = 0;
    while slot < BLOCK {
        all[slot] = slot as u8;
        slot += 1;
    }
    all
};

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

    /// Writes slots of the block, counted from its first, and says of each where the output ends behind it.
    #[inline(always)]
    pub(super) fn write(&self, slots: &[u8], sink: &mut Sink, ends: &mut [usize]) {
        let Self { fields, stage } = self;
        let mut pieces = Pieces::of_steps(stage.steps.len());
        for step in &stage.steps {
            match *step {
                Step::Narrow { from, to } => pieces.narrow(&stage.narrow.0[from..to]),
                Step::Wide { from, to } => pieces.wide(&stage.wide.0[from..to]),
                Step::Bytes { field, span } => {
                    let (field, span) = (&fields[field], &stage.spans[span]);
                    match field.values {
                        Values::View(_) => pieces.text_of(span, &field.sources),
                        _ => pieces.text(span, field.source()),
                    }
                }
                Step::List { field, span } => {
                    let encoded = match &fields[field].values {
                        Values::List(_, elements) => elements.sink.encoded(),
                        _ => &[],
                    };
                    pieces.list(&stage.spans[span], encoded);
                }
            }
        }
        pieces.write(slots, sink, ends);
    }
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
    pub(super) fn encode(
        &mut self,
        offsets: &[usize],
        span: &mut Span,
        may_be_null: bool,
    ) -> Result<(), EncodeError> {
        self.sink.clear();
        let count = offsets.len() - 1;
        // What is below a null may be anything, and is passed over.
        let is_dead =
            |span: &Span, slot: usize| (span.len[slot] == 0) & (offsets[slot] != offsets[slot + 1]);
        let mut from = 0;
        // There mostly is none, which is found faster than where one is.
        if may_be_null && (0..count).fold(false, |any, slot| any | is_dead(span, slot)) {
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
            self.ends[0] = self.sink.len();
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
        self.block
            .write(&ALL[..self.count], self.sink, &mut self.ends[1..]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::flatten;
    use super::*;
    use crate::cpu::Form;
    use crate::gate::{Data, Lane};
    use crate::plan::Branch;

    /// Tests run on new processors: this is what runs on old ones too.
    #[test]
    fn all_forms_make_the_same_words() {
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
            let mut words = |form: Form| {
                let mut stage = Stage::default();
                let fill = Fill {
                    stage: &mut stage,
                    fields: &mut fields,
                    from: 0,
                    count: BLOCK,
                };
                cpu::run_as(form, fill).unwrap();
                (stage.narrow.0, stage.wide.0)
            };
            let plain = words(Form::Plain);
            for form in [Form::Avx2, Form::Avx512] {
                assert_eq!(words(form), plain, "{form:?} of {lane:?}");
            }
        }
    }
}
