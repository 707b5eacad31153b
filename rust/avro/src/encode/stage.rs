//! What is to be written for each slot of a block, as the fields have it, one after the other.

use arrow_array::BinaryViewArray;
use arrow_buffer::NullBuffer;

use super::sink::Sink;
use super::words::{self, BLOCK, Head, Word, Words};

/// Bytes of a view that has its text in it.
pub(super) const INLINE: usize = 12;
/// How many narrow words are rather made wide than written in a step of their own.
const FEW: usize = 2;

/// The words and bytes of each slot of a block.
#[derive(Default)]
pub(super) struct Stage<'a> {
    /// In the order of writing.
    pub(super) steps: Vec<Step>,
    /// Blocks of words, and how many are in use.
    pub(super) narrow: (Vec<Words<u64>>, usize),
    pub(super) wide: (Vec<Words<u128>>, usize),
    pub(super) spans: Vec<Span<'a>>,
}

#[derive(Clone, Copy)]
pub(super) enum Step {
    /// The words of consecutive narrow blocks.
    Narrow { from: usize, to: usize },
    /// The words of consecutive wide blocks.
    Wide { from: usize, to: usize },
    /// The bytes that a span names.
    Span(usize),
}

/// Bytes of which there are too many for words.
pub(super) struct Span<'a> {
    pub(super) source: Source<'a>,
    pub(super) at: [usize; BLOCK],
    pub(super) len: [usize; BLOCK],
}

#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    Data(&'a [u8]),
    Views(&'a BinaryViewArray),
    /// The elements that the field of this number has encoded.
    Elements(usize),
}

impl<'a> Stage<'a> {
    pub(super) fn clear(&mut self) {
        self.steps.clear();
        self.narrow.1 = 0;
        self.wide.1 = 0;
        self.spans.clear();
    }

    pub(super) fn narrow(&mut self) -> &mut Words<u64> {
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

    pub(super) fn wide(&mut self) -> &mut Words<u128> {
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

    pub(super) fn span(&mut self, source: Source<'a>, at: [usize; BLOCK], len: [usize; BLOCK]) {
        self.widen_few(false);
        self.steps.push(Step::Span(self.spans.len()));
        self.spans.push(Span { source, at, len });
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
    pub(super) fn is_at_hand(self, len: usize) -> bool {
        match self {
            Self::Data(_) => true,
            Self::Views(_) => len <= INLINE,
            Self::Elements(_) => false,
        }
    }

    #[inline(always)]
    pub(super) fn load<W: Word>(self, at: usize, len: usize) -> W {
        match self {
            Self::Data(data) => W::load(data, at, len),
            Self::Views(views) => W::cut(views.views()[at] >> 32, len),
            Self::Elements(_) => W::ZERO,
        }
    }
}

/// Where each text of a block begins, and its length: 0 below a null.
pub(super) struct Texts {
    pub(super) at: [usize; BLOCK],
    pub(super) len: [usize; BLOCK],
}

impl Texts {
    #[inline(always)]
    pub(super) fn new(slots: &Slots<'_>, texts: impl Iterator<Item = (usize, usize)>) -> Self {
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
    pub(super) fn between<T: Copy>(
        slots: &Slots<'_>,
        offsets: &[T],
        f: impl Fn(T) -> usize,
    ) -> Self {
        let ends = offsets.iter().skip(1);
        let texts = offsets
            .iter()
            .zip(ends)
            .map(|(from, to)| (f(*from), f(*to).wrapping_sub(f(*from))));
        Self::new(slots, texts)
    }
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

    pub(super) fn patch<W: Word>(&self, out: &mut Words<W>) {
        self.each(|slot, head| out[slot] = head.alone());
    }
}
