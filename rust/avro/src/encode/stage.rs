//! What is to be written for each slot of a block, as the fields have it, one after the other.

use arrow_buffer::NullBuffer;
use arrow_buffer::bit_chunk_iterator::BitChunks;

use super::pack;
use super::sink::{SHORT, TEXT};
use super::words::{BLOCK, Head, WideWords, Word, WordBlock, Words, patch};

/// The words and bytes of each slot of a block.
#[derive(Default)]
pub(super) struct Stage {
    /// In the order of writing.
    pub(super) steps: Vec<Step>,
    /// Blocks of words, and how many are in use. The last ones of them are of the last steps.
    pub(super) narrow: (Vec<Words>, usize),
    pub(super) wide: (Vec<WideWords>, usize),
    /// In boxes, as a span is kilobytes, and goes from one list to the other with each block.
    pub(super) spans: Vec<Box<Span>>,
    /// Spans of earlier blocks, to be used again.
    spare: Vec<Box<Span>>,
}

#[derive(Clone, Copy)]
pub(super) enum Step {
    /// Narrow words, of at most so many bytes.
    Narrow { at: usize, most: usize },
    /// The words of consecutive wide blocks; those of the last one are of at most so many bytes.
    Wide { from: usize, to: usize, most: usize },
    /// The words of a span, each followed by bytes out of the sources of the field.
    Bytes { field: usize, span: usize },
    /// The words of a span, each followed by elements of the field.
    List { field: usize, span: usize },
}

impl Step {
    /// Most bytes of the words that another may be packed with.
    const fn most(self) -> usize {
        match self {
            Self::Narrow { most, .. } | Self::Wide { most, .. } => most,
            Self::Bytes { .. } | Self::List { .. } => 0,
        }
    }
}

/// What is too long for words, and what comes before it: a head, a length. Below a null, there are 0 of it.
pub(super) struct Span {
    pub(super) words: Words,
    /// Most bytes of a word.
    pub(super) most: usize,
    /// Whether none is longer than [`SHORT`], or no list than [`TEXT`].
    pub(super) is_short: bool,
    /// Where it begins; behind the last slot, where what is of the slot before it ends.
    pub(super) at: [usize; BLOCK + 1],
    pub(super) len: [usize; BLOCK],
    /// Which of the field's sources it lies in.
    pub(super) source: [u32; BLOCK],
}

impl Default for Span {
    fn default() -> Self {
        Self {
            words: [0; _],
            most: 0,
            is_short: false,
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
        slots.clear(&mut self.source);
        slots.clear(&mut self.len);
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
        slots.clear(&mut self.len);
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

    /// Words of at most so many bytes, to be filled.
    pub(super) fn narrow(&mut self, most: usize) -> &mut Words {
        let at = self.narrow.1;
        self.steps.push(Step::Narrow { at, most });
        next(&mut self.narrow)
    }

    /// The same of wide ones.
    pub(super) fn wide(&mut self, most: usize) -> &mut WideWords {
        let (from, to) = (self.wide.1, self.wide.1 + 1);
        self.steps.push(Step::Wide { from, to, most });
        next(&mut self.wide)
    }

    /// Makes one of the last step and the one before it, as long as they fit.
    #[inline(always)]
    pub(super) fn pack(&mut self, count: usize) {
        while let [.., before, last] = self.steps[..]
            && let Some(packed) = self.packed(before, last, count)
        {
            self.steps.truncate(self.steps.len() - 2);
            self.steps.push(packed);
        }
    }

    /// What these two steps become, if they fit.
    #[inline(always)]
    fn packed(&mut self, before: Step, last: Step, count: usize) -> Option<Step> {
        use Step::{Bytes, List, Narrow, Wide};

        let (narrow, used) = &mut self.narrow;
        let most = before.most() + last.most();
        match (before, last) {
            (Narrow { at, .. }, Narrow { at: behind, .. }) => {
                let [before, .., words] = &mut narrow[at..=behind] else {
                    return None;
                };
                if most <= u64::MOST {
                    pack::narrow(before, words, count);
                    *used = behind;
                    return Some(Narrow { at, most });
                }
                let (from, to) = (self.wide.1, self.wide.1 + 1);
                pack::widened(before, words, next(&mut self.wide), count);
                *used = at;
                Some(Wide { from, to, most })
            }
            // Before a single block: of several, it is the last one that is of so many bytes.
            (Narrow { at, .. }, Wide { from, to, .. }) if most <= u128::MOST && to == from + 1 => {
                pack::wide_behind(&narrow[at], &mut self.wide.0[from], count);
                *used = at;
                Some(Wide { from, to, most })
            }
            (Wide { from, to, .. }, Narrow { at, .. }) if most <= u128::MOST => {
                pack::behind_wide(&mut self.wide.0[to - 1], &narrow[at], count);
                *used = at;
                Some(Wide { from, to, most })
            }
            (Wide { from, .. }, Wide { to, most, .. }) => Some(Wide { from, to, most }),
            (Narrow { at, most }, Bytes { span, .. } | List { span, .. }) => {
                let span = &mut self.spans[span];
                if most + span.most > u64::MOST {
                    return None;
                }
                pack::narrow_before(&narrow[at], &mut span.words, count);
                span.most += most;
                *used = at;
                Some(last)
            }
            _ => None,
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
    #[inline(always)]
    pub(super) fn span(
        &mut self,
        mut span: Box<Span>,
        count: usize,
        step: impl FnOnce(usize) -> Step,
    ) {
        let step = step(self.spans.len());
        let short = match step {
            Step::List { .. } => TEXT,
            _ => SHORT,
        };
        span.is_short = span.longest(count) <= short;
        self.steps.push(step);
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
    /// Most bytes of a word, where a value is of so many.
    pub(super) fn most(&self, value: usize) -> usize {
        (self.head.len() + value).max(self.null.len())
    }

    /// Where there are slots that have no value: which have one, 64 at a time, and what is written for the others.
    #[inline(always)]
    fn some_missing(&self) -> impl Iterator<Item = (BitChunks<'_>, Head)> {
        let nulls = self.nulls.map(|nulls| (nulls, self.null));
        let absent = self.absent.map(|absent| (absent, Head::NONE));
        nulls.into_iter().chain(absent).map(|(valid, head)| {
            let valid = valid.inner();
            let from = valid.offset() + self.from;
            (BitChunks::new(valid.values(), from, self.count), head)
        })
    }

    /// Sets the words of slots that have no value.
    #[inline(always)]
    pub(super) fn patch<B: WordBlock>(&self, out: &mut B) {
        for (valid, head) in self.some_missing() {
            out.patch(&valid, head.alone());
        }
    }

    /// Sets what is 0 where a slot has no value.
    #[inline(always)]
    pub(super) fn clear<T: Copy + Default>(&self, values: &mut [T]) {
        for (valid, _) in self.some_missing() {
            patch(&valid, values, T::default());
        }
    }
}
