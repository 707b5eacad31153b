//! What is to be written for each slot of a block, as the fields have it, one after the other.

use arrow_buffer::NullBuffer;
use arrow_buffer::bit_chunk_iterator::BitChunks;

use super::words::{BLOCK, Head, WideWords, Word, WordBlock, Words};

/// How many narrow words are rather made wide than written in a step of their own.
const FEW: usize = 2;

/// The words and bytes of each slot of a block.
#[derive(Default)]
#[expect(
    clippy::vec_box,
    reason = "a span is kilobytes, and goes from one list to the other with each block"
)]
pub(super) struct Stage {
    /// In the order of writing.
    pub(super) steps: Vec<Step>,
    /// Blocks of words, and how many are in use.
    pub(super) narrow: (Vec<Words>, usize),
    pub(super) wide: (Vec<WideWords>, usize),
    pub(super) spans: Vec<Box<Span>>,
    /// Spans of earlier blocks, to be used again.
    spare: Vec<Box<Span>>,
}

#[derive(Clone, Copy)]
pub(super) enum Step {
    /// The words of consecutive narrow blocks.
    Narrow { from: usize, to: usize },
    /// The words of consecutive wide blocks.
    Wide { from: usize, to: usize },
    /// The words of a span, each followed by bytes out of the sources of the field.
    Bytes { field: usize, span: usize },
    /// The words of a span, each followed by elements of the field.
    List { field: usize, span: usize },
}

/// What is too long for words, and what comes before it: a head, a length. Below a null, there are 0 of it.
pub(super) struct Span {
    pub(super) words: Words,
    pub(super) at: [usize; BLOCK],
    pub(super) len: [usize; BLOCK],
    /// Which of the field's sources it lies in; of a list, 1 where an empty block ends it, as it has elements.
    pub(super) source: [u32; BLOCK],
}

impl Default for Span {
    fn default() -> Self {
        Self {
            words: [0; _],
            at: [0; _],
            len: [0; _],
            source: [0; _],
        }
    }
}

impl Span {
    /// Takes over where each slot's bytes or elements lie.
    #[inline(always)]
    pub(super) fn place(
        &mut self,
        slots: &Slots<'_>,
        places: impl Iterator<Item = (u32, usize, usize)>,
    ) {
        let lengths = self.at.iter_mut().zip(&mut self.len);
        for (((at, len), source), place) in lengths.zip(&mut self.source).zip(places) {
            (*source, *at, *len) = place;
        }
        slots.each(|slot, _| (self.source[slot], self.len[slot]) = (0, 0));
    }

    /// Most bytes of a slot.
    #[inline(always)]
    pub(super) fn longest(&self, count: usize) -> usize {
        self.len[..count]
            .iter()
            .fold(0, |longest, len| longest.max(*len))
    }

    /// The same where there is one source, by offsets, one more than there are slots.
    #[inline(always)]
    pub(super) fn between<T: Copy>(
        &mut self,
        slots: &Slots<'_>,
        offsets: &[T],
        f: impl Fn(T) -> usize,
    ) {
        let places = self.at.iter_mut().zip(&mut self.len);
        for ((at, len), place) in places.zip(between(offsets, f)) {
            (*at, *len) = place;
        }
        slots.each(|slot, _| self.len[slot] = 0);
    }
}

/// Where what is between offsets begins, and how long it is.
#[inline(always)]
pub(super) fn between<T: Copy>(
    offsets: &[T],
    f: impl Fn(T) -> usize,
) -> impl Iterator<Item = (usize, usize)> {
    let ends = offsets.iter().skip(1);
    offsets.iter().zip(ends).map(move |(from, to)| {
        let (from, to) = (f(*from), f(*to));
        (from, to.wrapping_sub(from))
    })
}

impl Stage {
    pub(super) fn clear(&mut self) {
        self.steps.clear();
        self.narrow.1 = 0;
        self.wide.1 = 0;
        self.spare.append(&mut self.spans);
    }

    pub(super) fn narrow(&mut self) -> &mut Words {
        let at = self.narrow.1;
        match self.steps.last_mut() {
            Some(Step::Narrow { to, .. }) => *to += 1,
            _ => self.steps.push(Step::Narrow {
                from: at,
                to: at + 1,
            }),
        }
        next(&mut self.narrow)
    }

    pub(super) fn wide(&mut self) -> &mut WideWords {
        self.widen_few(true);
        let at = self.wide.1;
        match self.steps.last_mut() {
            Some(Step::Wide { to, .. }) => *to += 1,
            _ => self.steps.push(Step::Wide {
                from: at,
                to: at + 1,
            }),
        }
        next(&mut self.wide)
    }

    /// Turns the last step into a wide one, if it is of few words and stands beside another: a step costs each slot more
    /// than a few words that are wider than they need be.
    pub(super) fn widen_few(&mut self, before_wide: bool) {
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
            // The count is the highest byte of both, and what is below it in the higher half is beyond the count.
            let [low, high] = next(&mut self.wide);
            *low = self.narrow.0[narrow];
            *high = self.narrow.0[narrow];
        }
        match self.steps.last_mut() {
            Some(Step::Wide { to, .. }) => *to = self.wide.1,
            _ => self.steps.push(Step::Wide {
                from: first,
                to: self.wide.1,
            }),
        }
    }

    /// A span to fill, and to give back to [`Stage::span`] or [`Stage::spare`].
    pub(super) fn empty_span(&mut self) -> Box<Span> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn spare(&mut self, span: Box<Span>) {
        self.spare.push(span);
    }

    /// Adds a span, and gives the step its number.
    pub(super) fn span(&mut self, span: Box<Span>, step: impl FnOnce(usize) -> Step) {
        self.widen_few(false);
        self.steps.push(step(self.spans.len()));
        self.spans.push(span);
    }
}

/// The next block of words; those of the block before are still in it.
fn next<B: WordBlock>((blocks, used): &mut (Vec<B>, usize)) -> &mut B {
    if *used == blocks.len() {
        blocks.push(B::EMPTY);
    }
    *used += 1;
    &mut blocks[*used - 1]
}

/// The slots of a block of a field, and which of them have no value.
pub(super) struct Slots<'a> {
    pub(super) from: usize,
    pub(super) count: usize,
    /// What is written before a value.
    pub(super) head: Head,
    /// What is written for a null.
    pub(super) null: Head,
    pub(super) nulls: Option<&'a NullBuffer>,
    /// Null where nothing is written.
    pub(super) absent: Option<&'a NullBuffer>,
}

impl Slots<'_> {
    /// Every slot that has no value, and what is written for it.
    #[inline(always)]
    pub(super) fn each(&self, mut f: impl FnMut(usize, Head)) {
        for (nulls, head) in [(self.nulls, self.null), (self.absent, Head::NONE)] {
            let Some(nulls) = nulls else { continue };
            let valid = nulls.inner();
            let valid = BitChunks::new(valid.values(), valid.offset() + self.from, self.count);
            let mut first = 0;
            for chunk in valid.iter_padded() {
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

    pub(super) fn patch<B: WordBlock>(&self, out: &mut B) {
        self.each(|slot, head| head.alone::<B::Word>().set(out, slot));
    }
}
