//! A block of slots: field by field into words, then slot by slot into the output.

use arrow_array::BinaryViewArray;
use arrow_buffer::NullBuffer;

use super::fields::{Field, Values};
use super::sink::Sink;
use super::words::{self, BLOCK, Head, Word, Words, is_narrow};
use crate::error::EncodeError;

/// Bytes of a view that has its text in it.
const INLINE: usize = 12;
/// How many narrow words are rather made wide than written in a step of their own.
const FEW: usize = 2;

/// Fields, and what is to be written for a block of their slots.
pub(super) struct Block<'a> {
    fields: Vec<Field<'a>>,
    stage: Stage<'a>,
}

/// The words and bytes of each slot of a block.
#[derive(Default)]
struct Stage<'a> {
    /// In the order of writing.
    steps: Vec<Step>,
    /// Blocks of words, and how many are in use.
    narrow: (Vec<Words<u64>>, usize),
    wide: (Vec<Words<u128>>, usize),
    spans: Vec<Span<'a>>,
}

#[derive(Clone, Copy)]
enum Step {
    /// The words of consecutive narrow blocks.
    Narrow { from: usize, to: usize },
    /// The words of consecutive wide blocks.
    Wide { from: usize, to: usize },
    /// The bytes that a span names.
    Span(usize),
}

/// Bytes of which there are too many for words.
struct Span<'a> {
    source: Source<'a>,
    at: [usize; BLOCK],
    len: [usize; BLOCK],
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Data(&'a [u8]),
    Views(&'a BinaryViewArray),
    /// The elements that the field of this number has encoded.
    Elements(usize),
}

/// The elements of lists, encoded a block of lists at a time.
pub(super) struct Elements<'a> {
    block: Block<'a>,
    written: Sink,
    /// Where each element begins, and where the last ends.
    offsets: Vec<usize>,
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

    fn encode(&mut self, from: usize, to: usize) -> Result<(), EncodeError> {
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

impl<'a> Stage<'a> {
    fn clear(&mut self) {
        self.steps.clear();
        self.narrow.1 = 0;
        self.wide.1 = 0;
        self.spans.clear();
    }

    fn narrow(&mut self) -> &mut Words<u64> {
        let at = self.narrow.1;
        match self.steps.last_mut() {
            Some(Step::Narrow { from, to }) if *to - *from < Sink::RUN => *to += 1,
            _ => self.steps.push(Step::Narrow {
                from: at,
                to: at + 1,
            }),
        }
        next(&mut self.narrow)
    }

    fn wide(&mut self) -> &mut Words<u128> {
        self.widen_few(true);
        let at = self.wide.1;
        match self.steps.last_mut() {
            Some(Step::Wide { from, to }) if *to - *from < Sink::RUN => *to += 1,
            _ => self.steps.push(Step::Wide {
                from: at,
                to: at + 1,
            }),
        }
        next(&mut self.wide)
    }

    /// Turns the last step into a wide one, if it is of few words and stands beside another: a step costs each slot more
    /// than a few words that are wider than they need be.
    fn widen_few(&mut self, before_wide: bool) {
        let [before @ .., Step::Narrow { from, to }] = &self.steps[..] else {
            return;
        };
        let (from, to) = (*from, *to);
        let few = to - from <= FEW;
        if !few || !(before_wide || matches!(before, [.., Step::Wide { .. }])) {
            return;
        }
        self.steps.pop();
        self.narrow.1 = from;
        let first = self.wide.1;
        for narrow in from..to {
            let wide = next(&mut self.wide);
            words::widen(&self.narrow.0[narrow], wide);
        }
        match self.steps.last_mut() {
            Some(Step::Wide { from, to }) if *to - *from < Sink::RUN - FEW => *to = self.wide.1,
            _ => self.steps.push(Step::Wide {
                from: first,
                to: self.wide.1,
            }),
        }
    }

    fn span(&mut self, source: Source<'a>, at: [usize; BLOCK], len: [usize; BLOCK]) {
        self.widen_few(false);
        self.steps.push(Step::Span(self.spans.len()));
        self.spans.push(Span { source, at, len });
    }

    fn fill(
        &mut self,
        number: usize,
        field: &mut Field<'a>,
        from: usize,
        count: usize,
    ) -> Result<(), EncodeError> {
        let range = from..from + count;
        let head = field.head;
        let slots = Slots {
            from,
            count,
            head,
            null: field.null,
            nulls: field.nulls,
            absent: field.absent.as_ref(),
        };
        match &mut field.values {
            Values::None => {
                let out = self.narrow();
                words::same(head, out);
                slots.patch(out);
            }
            Values::Const(bytes) if bytes.len() <= u64::MOST => {
                let value = u64::load(bytes, 0, bytes.len());
                let out = self.narrow();
                words::plain((0..count).map(|_| value), bytes.len() as u32, head, out);
                slots.patch(out);
            }
            Values::Const(bytes) => {
                let mut len = [bytes.len(); BLOCK];
                slots.each(|slot, _| len[slot] = 0);
                self.span(Source::Data(bytes), [0; BLOCK], len);
            }
            Values::Boolean(values) => {
                let out = self.narrow();
                let values = range.map(|slot| u64::from(values.value(slot)));
                words::plain(values, 1, head, out);
                slots.patch(out);
            }
            Values::Int(values) => {
                let out = self.narrow();
                words::ints(&values[range], head, out);
                slots.patch(out);
            }
            Values::Long(values) => self.longs(&values[range], &slots),
            Values::Float(values) => {
                let out = self.narrow();
                let bits = values[range].iter().map(|v| u64::from(v.to_bits()));
                words::plain(bits, 4, head, out);
                slots.patch(out);
            }
            Values::Double(values) => {
                let out = self.wide();
                let bits = values[range].iter().map(|v| u128::from(v.to_bits()));
                words::plain(bits, 8, head, out);
                slots.patch(out);
            }
            Values::Unscaled(values) => {
                let values = &values[range];
                if is_narrow(head, 1 + words::longest_unscaled(values)) {
                    let out = self.narrow();
                    words::unscaled(values, head, out);
                    slots.patch(out);
                } else {
                    let out = self.wide();
                    words::unscaled(values, head, out);
                    slots.patch(out);
                }
            }
            Values::Bytes(offsets, data) => {
                let texts = Texts::between(&slots, &offsets[from..=from + count], |o| o as usize);
                self.texts(texts, Source::Data(data), &slots)?;
            }
            Values::LargeBytes(offsets, data) => {
                let texts = Texts::between(&slots, &offsets[from..=from + count], |o| o as usize);
                self.texts(texts, Source::Data(data), &slots)?;
            }
            Values::View(array) => {
                let views = array.views()[range].iter();
                let texts = views
                    .enumerate()
                    .map(|(slot, v)| (from + slot, *v as u32 as usize));
                let texts = Texts::new(&slots, texts);
                self.texts(texts, Source::Views(array), &slots)?;
            }
            Values::Fixed(size, data) => {
                let size = *size;
                if is_narrow(head, size) {
                    let out = self.narrow();
                    let values = range.map(|slot| u64::load(data, slot * size, size));
                    words::plain(values, size as u32, head, out);
                    slots.patch(out);
                } else if size + head.len() <= u128::MOST {
                    let out = self.wide();
                    let values = range.map(|slot| u128::load(data, slot * size, size));
                    words::plain(values, size as u32, head, out);
                    slots.patch(out);
                } else {
                    if head != Head::NONE {
                        let out = self.narrow();
                        words::same(head, out);
                        slots.patch(out);
                    }
                    let texts = Texts::new(&slots, range.map(|slot| (slot * size, size)));
                    self.span(Source::Data(data), texts.at, texts.len);
                }
            }
            Values::List(ranges, elements) => {
                let ranges = &ranges[from..=from + count];
                let first = ranges[0];
                elements.encode(first, ranges[count])?;
                let mut lengths = [0; BLOCK];
                let mut end = [0; BLOCK];
                let (mut at, mut len) = ([0; BLOCK], [0; BLOCK]);
                let offsets = &elements.offsets;
                for (slot, (from, to)) in ranges.iter().zip(&ranges[1..]).enumerate().take(BLOCK) {
                    lengths[slot] = (to - from) as i64;
                    at[slot] = offsets[from - first];
                    len[slot] = offsets[to - first] - at[slot];
                    // The empty block that ends a list is the length of one that has no elements.
                    end[slot] = u32::from(from < to);
                }
                slots.each(|slot, _| (lengths[slot], len[slot], end[slot]) = (0, 0, 0));
                self.longs(&lengths[..count], &slots);
                self.span(Source::Elements(number), at, len);
                words::zeros(&end, self.narrow());
            }
        }
        Ok(())
    }

    fn longs(&mut self, values: &[i64], slots: &Slots<'_>) {
        let head = slots.head;
        let lengths = words::long_lengths(values);
        if is_narrow(head, lengths.0 as usize) {
            let out = self.narrow();
            words::longs(values, head, lengths, out);
            slots.patch(out);
        } else {
            let out = self.wide();
            words::wide_longs(values, head, out);
            slots.patch(out);
        }
    }

    fn texts(
        &mut self,
        texts: Texts,
        source: Source<'a>,
        slots: &Slots<'_>,
    ) -> Result<(), EncodeError> {
        let head = slots.head;
        let len = &texts.len[..slots.count];
        let longest = len.iter().fold(0, |longest, len| longest.max(*len));
        if is_narrow(head, 1 + longest) {
            let out = self.narrow();
            let load = |(at, len): (&usize, &usize)| (source.load(*at, *len), *len);
            words::texts(texts.at.iter().zip(len).map(load), head, out);
            slots.patch(out);
        } else if source.is_at_hand(longest) && 1 + longest + head.len() <= u128::MOST {
            let out = self.wide();
            let load = |(at, len): (&usize, &usize)| (source.load(*at, *len), *len);
            words::texts(texts.at.iter().zip(len).map(load), head, out);
            slots.patch(out);
        } else {
            if i32::try_from(longest).is_ok() {
                let mut lengths = [0; BLOCK];
                for (length, len) in lengths.iter_mut().zip(len) {
                    *length = *len as i32;
                }
                let out = self.narrow();
                words::ints(&lengths[..slots.count], head, out);
                slots.patch(out);
            } else {
                let lengths: Result<Vec<i64>, _> = len.iter().map(|l| i64::try_from(*l)).collect();
                let lengths = lengths.map_err(|_| EncodeError::TooLarge { bytes: longest })?;
                self.longs(&lengths, slots);
            }
            self.span(source, texts.at, texts.len);
        }
        Ok(())
    }
}

/// The next block of words; those of the block before are still in it.
fn next<W: Word>((blocks, used): &mut (Vec<Words<W>>, usize)) -> &mut Words<W> {
    if *used == blocks.len() {
        blocks.push([W::ZERO; _]);
    }
    *used += 1;
    &mut blocks[*used - 1]
}

impl Source<'_> {
    /// Whether a text of this length can be loaded from here.
    fn is_at_hand(self, len: usize) -> bool {
        match self {
            Self::Data(_) => true,
            Self::Views(_) => len <= INLINE,
            Self::Elements(_) => false,
        }
    }

    #[inline(always)]
    fn load<W: Word>(self, at: usize, len: usize) -> W {
        match self {
            Self::Data(data) => W::load(data, at, len),
            Self::Views(views) => W::cut(views.views()[at] >> 32, len),
            Self::Elements(_) => W::ZERO,
        }
    }
}

/// Where each text of a block begins, and its length: 0 below a null.
struct Texts {
    at: [usize; BLOCK],
    len: [usize; BLOCK],
}

impl Texts {
    #[inline(always)]
    fn new(slots: &Slots<'_>, texts: impl Iterator<Item = (usize, usize)>) -> Self {
        let (mut starts, mut lengths) = ([0; BLOCK], [0; BLOCK]);
        for ((start, length), (at, len)) in starts.iter_mut().zip(&mut lengths).zip(texts) {
            (*start, *length) = (at, len);
        }
        slots.each(|slot, _| lengths[slot] = 0);
        Self {
            at: starts,
            len: lengths,
        }
    }

    /// From offsets, one more than there are slots.
    #[inline(always)]
    fn between<T: Copy>(slots: &Slots<'_>, offsets: &[T], f: impl Fn(T) -> usize) -> Self {
        let ends = offsets.iter().skip(1);
        let texts = offsets
            .iter()
            .zip(ends)
            .map(|(from, to)| (f(*from), f(*to).wrapping_sub(f(*from))));
        Self::new(slots, texts)
    }
}

/// The slots of a block of a field, and which of them have no value.
struct Slots<'a> {
    from: usize,
    count: usize,
    /// What is written before a value.
    head: Head,
    /// What is written for a null.
    null: Head,
    nulls: Option<&'a NullBuffer>,
    /// Null where nothing is written.
    absent: Option<&'a NullBuffer>,
}

impl Slots<'_> {
    /// Every slot that has no value, and what is written for it.
    #[inline(always)]
    fn each(&self, mut f: impl FnMut(usize, Head)) {
        for (nulls, head) in [(self.nulls, self.null), (self.absent, Head::NONE)] {
            let Some(nulls) = nulls else { continue };
            let valid = nulls.inner().slice(self.from, self.count);
            let mut first = 0;
            for chunk in valid.bit_chunks().iter_padded() {
                let mut missing = !chunk;
                while missing != 0 {
                    let slot = first + missing.trailing_zeros() as usize;
                    if slot >= self.count {
                        break;
                    }
                    f(slot, head);
                    missing &= missing - 1;
                }
                first += 64;
            }
        }
    }

    fn patch<W: Word>(&self, out: &mut Words<W>) {
        self.each(|slot, head| out[slot] = head.alone());
    }
}
