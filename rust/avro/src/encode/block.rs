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
    /// Where the bytes of the elements that were encoded last begin, and those of the last one end.
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
                Step::Narrow { at, .. } => pieces.narrow(&stage.narrow.0[at]),
                Step::Wide { from, to, .. } => pieces.wide(&stage.wide.0[from..to]),
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
            ends: [0; _],
        }
    }

    pub(super) fn bound(&self) -> usize {
        self.block.bound(self.total)
    }

    /// Encodes the elements of a block of lists, one after the other whichever lists they are of: how many a list has
    /// can't be foretold, and its bytes are copied as one piece. `offsets` has one more than there are lists; the span
    /// says where their elements lie, and then where their bytes do.
    #[inline(always)]
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
    #[inline(always)]
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
        let mut places = &mut span.at[lists.start..=lists.end];
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
        let places = &span.at[lists.start..=lists.end];
        let lengths = span.len[lists].iter_mut();
        for ((len, from), to) in lengths.zip(places).zip(places.iter().skip(1)) {
            *len = to - from;
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
    use super::super::words::Word;
    use super::*;
    use crate::cpu::Form;
    use crate::gate::{Data, Lane};
    use crate::plan::Branch;

    /// A word of so many bytes, all of them this one, and another behind them.
    fn word<W: Word>(byte: u8, len: usize) -> W {
        let behind: u8 = if len < W::MOST { 0xee } else { 0 };
        let bytes = (0..len).fold(W::from(behind), |bytes, _| bytes << 8 | W::from(byte));
        bytes | W::counted(len as u32)
    }

    /// Words of every kind, in every order of up to four, with texts of no bytes between them.
    #[test]
    fn what_is_packed_is_what_was_there() {
        const COUNT: usize = 3;
        const NARROW: [usize; 3] = [1, 3, 7];
        const WIDE: [usize; 4] = [2, 8, 13, 15];
        let texts = NARROW.len() + WIDE.len();
        let kinds = texts + 1;
        let len = |most: usize, slot: usize| most - slot.min(most);
        for (length, number) in (1..=4).flat_map(|n| (0..kinds.pow(n)).map(move |i| (n, i))) {
            let (mut stage, mut expected) = (Stage::default(), vec![Vec::new(); COUNT]);
            let sequence: Vec<usize> = (0..length).map(|k| number / kinds.pow(k) % kinds).collect();
            for (byte, kind) in (1..).zip(&sequence) {
                let most = [&NARROW[..], &WIDE, &[2]].concat()[*kind];
                for (slot, expected) in expected.iter_mut().enumerate() {
                    expected.resize(expected.len() + len(most, slot), byte);
                }
                let narrow = |slot| word::<u64>(byte, len(most, slot));
                match *kind {
                    kind if kind < NARROW.len() => {
                        u64::fill(stage.narrow(most), (0..COUNT).map(narrow));
                    }
                    kind if kind < texts => {
                        let wide = |slot| word::<u128>(byte, len(most, slot));
                        u128::fill(stage.wide(most), (0..COUNT).map(wide));
                    }
                    _ => {
                        let mut span = stage.empty_span();
                        span.most = most;
                        u64::fill(&mut span.words, (0..COUNT).map(narrow));
                        stage.span(span, COUNT, |span| Step::Bytes { field: 0, span });
                    }
                }
                stage.pack(COUNT);
            }
            let block = Block {
                fields: vec![Field::constant(&[], None)],
                stage,
            };
            let (mut sink, mut ends) = (Sink::default(), [0; COUNT]);
            block.write(&ALL[..COUNT], &mut sink, &mut ends);
            assert!(sink.finish().unwrap() == expected.concat(), "{sequence:?}");
        }
    }

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
        let lanes: Vec<Lane> = data
            .map(|data| Lane {
                branch: Branch::Union {
                    null: None,
                    value: 2,
                },
                nulls: None,
                data,
            })
            .collect();
        let alone = lanes.chunks(1);
        for lanes in alone.chain(lanes.windows(2)).chain([&lanes[..]]) {
            let mut fields = Vec::new();
            for lane in lanes {
                flatten(lane, None, &mut fields);
            }
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
                assert_eq!(words(form), plain, "{form:?} of {lanes:?}");
            }
        }
    }
}
