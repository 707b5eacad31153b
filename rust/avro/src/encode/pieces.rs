//! What the steps of a block write for a slot: each kind is compiled for itself, and alone where a block has one step.

use super::sink::{GROUP, LIST, SHORT, Sink, TEXT, Writer};
use super::stage::Span;
use super::words::{BLOCK, WideWords, WordBlock, Words};

/// Writes a slot at a place in the stage, and gives the place behind it.
pub(super) trait Put: Copy {
    fn put(self, out: &mut Writer<'_>, at: usize, slot: usize) -> usize;
}

/// A step, or as many words of one as are written at once.
#[derive(Clone, Copy)]
pub(super) enum Piece<'s> {
    Narrow(&'s Words),
    Wide1(&'s [WideWords; 1]),
    Wide2(&'s [WideWords; 2]),
    Wide3(&'s [WideWords; 3]),
    WideFours(&'s [[WideWords; 4]]),
    ShortText(Text<'s, SHORT>),
    Text(Text<'s>),
    TextOf(TextOf<'s>),
    ShortList(List<'s, TEXT>),
    List(List<'s>),
    /// A look at the room for those that follow.
    Room,
}

/// Words, and the bytes of the source that each is the length of; they are copied in pieces of so many.
#[derive(Clone, Copy)]
pub(super) struct Text<'s, const CHUNK: usize = TEXT> {
    pub(super) span: &'s Span,
    pub(super) source: &'s [u8],
}

/// The same where there are several sources.
#[derive(Clone, Copy)]
pub(super) struct TextOf<'s> {
    pub(super) span: &'s Span,
    pub(super) sources: &'s [&'s [u8]],
}

/// Words, and the encoded elements that each is the number of.
#[derive(Clone, Copy)]
pub(super) struct List<'s, const CHUNK: usize = LIST> {
    pub(super) span: &'s Span,
    pub(super) elements: &'s [u8],
}

impl Put for &Words {
    #[inline(always)]
    fn put(self, out: &mut Writer<'_>, at: usize, slot: usize) -> usize {
        self.store(slot, out.stage, at)
    }
}

impl<const N: usize> Put for &[WideWords; N] {
    #[inline(always)]
    fn put(self, out: &mut Writer<'_>, mut at: usize, slot: usize) -> usize {
        for block in self {
            at = block.store(slot, out.stage, at);
        }
        at
    }
}

impl Put for &[[WideWords; 4]] {
    #[inline(always)]
    fn put(self, out: &mut Writer<'_>, mut at: usize, slot: usize) -> usize {
        // A loop of its own for each word would be a third of what is to be done.
        for four in self {
            at = four.put(out, at, slot);
        }
        at
    }
}

impl<const CHUNK: usize> Put for Text<'_, CHUNK> {
    #[inline(always)]
    fn put(self, out: &mut Writer<'_>, at: usize, slot: usize) -> usize {
        let Self { span, source } = self;
        let at = span.words.store(slot, out.stage, at);
        let slot = slot % BLOCK;
        out.bytes::<CHUNK>(at, source, span.at[slot], span.len[slot])
    }
}

impl Put for TextOf<'_> {
    #[inline(always)]
    fn put(self, out: &mut Writer<'_>, at: usize, slot: usize) -> usize {
        let Self { span, sources } = self;
        let source = sources.get(span.source[slot % BLOCK] as usize);
        // Nothing can be read of a source that isn't there.
        let source = source.copied().unwrap_or_default();
        Text::<TEXT> { span, source }.put(out, at, slot)
    }
}

impl<const CHUNK: usize> Put for List<'_, CHUNK> {
    #[inline(always)]
    fn put(self, out: &mut Writer<'_>, at: usize, slot: usize) -> usize {
        let Self { span, elements } = self;
        let at = span.words.store(slot, out.stage, at);
        let slot = slot % BLOCK;
        out.bytes::<CHUNK>(at, elements, span.at[slot], span.len[slot])
    }
}

impl Put for Piece<'_> {
    #[inline(always)]
    fn put(self, out: &mut Writer<'_>, at: usize, slot: usize) -> usize {
        match self {
            Self::Narrow(words) => words.put(out, at, slot),
            Self::Wide1(words) => words.put(out, at, slot),
            Self::Wide2(words) => words.put(out, at, slot),
            Self::Wide3(words) => words.put(out, at, slot),
            Self::WideFours(words) => words.put(out, at, slot),
            Self::ShortText(text) => text.put(out, at, slot),
            Self::Text(text) => text.put(out, at, slot),
            Self::TextOf(text) => text.put(out, at, slot),
            Self::ShortList(list) => list.put(out, at, slot),
            Self::List(list) => list.put(out, at, slot),
            Self::Room => out.room(at),
        }
    }
}

impl Put for &[Piece<'_>] {
    #[inline(always)]
    fn put(self, out: &mut Writer<'_>, mut at: usize, slot: usize) -> usize {
        for piece in self {
            at = piece.put(out, at, slot);
        }
        at
    }
}

impl<A: Put, B: Put> Put for (A, B) {
    #[inline(always)]
    fn put(self, out: &mut Writer<'_>, at: usize, slot: usize) -> usize {
        let at = self.0.put(out, at, slot);
        self.1.put(out, at, slot)
    }
}

/// Pieces in the order of writing, with looks at the room between them.
pub(super) struct Pieces<'s> {
    all: Vec<Piece<'s>>,
    /// Most bytes of those behind the last look.
    taken: usize,
}

impl<'s> Pieces<'s> {
    /// Fours of words that are written without a look at the room.
    const FOURS: usize = GROUP / size_of::<[u128; 4]>();

    /// None, with room for what most steps take.
    pub(super) fn of_steps(count: usize) -> Self {
        Self {
            all: Vec::with_capacity(2 * count),
            taken: 0,
        }
    }

    pub(super) fn narrow(&mut self, words: &'s Words) {
        self.push(size_of::<u64>(), Piece::Narrow(words));
    }

    pub(super) fn wide(&mut self, words: &'s [WideWords]) {
        let (fours, rest) = words.as_chunks();
        for fours in fours.chunks(Self::FOURS) {
            let bytes = size_of::<[u128; 4]>() * fours.len();
            self.push(bytes, Piece::WideFours(fours));
        }
        let bytes = size_of::<u128>() * rest.len();
        match rest {
            [] | [_, _, _, _, ..] => {}
            [_] => self.push_first(bytes, rest, Piece::Wide1),
            [_, _] => self.push_first(bytes, rest, Piece::Wide2),
            [_, _, _] => self.push_first(bytes, rest, Piece::Wide3),
        }
    }

    pub(super) fn text(&mut self, span: &'s Span, source: &'s [u8]) {
        let piece = match span.is_short {
            true => Piece::ShortText(Text { span, source }),
            false => Piece::Text(Text { span, source }),
        };
        self.push(size_of::<u64>() + TEXT, piece);
    }

    pub(super) fn text_of(&mut self, span: &'s Span, sources: &'s [&'s [u8]]) {
        let text = TextOf { span, sources };
        self.push(size_of::<u64>() + TEXT, Piece::TextOf(text));
    }

    pub(super) fn list(&mut self, span: &'s Span, elements: &'s [u8]) {
        let piece = match span.is_short {
            true => Piece::ShortList(List { span, elements }),
            false => Piece::List(List { span, elements }),
        };
        self.push(size_of::<u64>() + LIST, piece);
    }

    fn push_first<const N: usize>(
        &mut self,
        bytes: usize,
        words: &'s [WideWords],
        piece: impl Fn(&'s [WideWords; N]) -> Piece<'s>,
    ) {
        if let Some(words) = words.first_chunk() {
            self.push(bytes, piece(words));
        }
    }

    fn push(&mut self, bytes: usize, piece: Piece<'s>) {
        if self.taken + bytes > GROUP {
            self.all.push(Piece::Room);
            self.taken = 0;
        }
        self.taken += bytes;
        self.all.push(piece);
    }

    /// Writes slots, and says of each where the output ends behind it.
    #[inline(always)]
    pub(super) fn write(&self, slots: &[u8], sink: &mut Sink, ends: &mut [usize]) {
        // Elements mostly are one piece, or a key and a value: which is looked at once and not for every one of them.
        match self.all[..] {
            [Piece::Narrow(words)] => each(words, slots, sink, ends),
            [Piece::Wide1(words)] => each(words, slots, sink, ends),
            [Piece::Wide2(words)] => each(words, slots, sink, ends),
            [Piece::Wide3(words)] => each(words, slots, sink, ends),
            [Piece::WideFours(words)] => each(words, slots, sink, ends),
            [Piece::ShortText(text)] => each(text, slots, sink, ends),
            [Piece::Text(text)] => each(text, slots, sink, ends),
            [Piece::TextOf(text)] => each(text, slots, sink, ends),
            [Piece::Text(key), Piece::Narrow(value)] => each((key, value), slots, sink, ends),
            [Piece::Text(key), Piece::Wide1(value)] => each((key, value), slots, sink, ends),
            [Piece::Text(key), Piece::Text(value)] => each((key, value), slots, sink, ends),
            _ => each(&self.all[..], slots, sink, ends),
        }
    }
}

/// Writes each of these slots, where there is room for a group.
#[inline(always)]
fn each(piece: impl Put, slots: &[u8], sink: &mut Sink, ends: &mut [usize]) {
    let (mut out, mut at) = sink.start();
    for (slot, end) in slots.iter().zip(ends) {
        at = out.room(at);
        at = piece.put(&mut out, at, usize::from(*slot));
        *end = out.len(at);
    }
    sink.stop(at);
}

#[cfg(test)]
mod tests {
    use super::super::block::ALL;
    use super::super::words::Word;
    use super::*;
    use crate::error::EncodeError;

    /// Words of one byte up to as many as fit, which say their slot and number.
    fn block<W: Word>(number: usize) -> W::Block {
        let mut block = W::Block::EMPTY;
        let len = |slot: usize| 1 + (slot + number) % W::MOST;
        W::fill(
            &mut block,
            (0..BLOCK).map(|slot| {
                let byte = W::from((slot ^ number) as u8);
                let bytes = (1..len(slot)).fold(byte, |bytes, _| bytes << 8 | byte);
                bytes | W::counted(len(slot) as u32)
            }),
        );
        block
    }

    fn expected<W: Word>(slot: usize, numbers: usize, out: &mut Vec<u8>) {
        for number in 0..numbers {
            let len = 1 + (slot + number) % W::MOST;
            out.resize(out.len() + len, (slot ^ number) as u8);
        }
    }

    /// Whatever number of words, alone or among others, and over the end of the stage.
    #[test]
    fn words_of_every_number() {
        for count in (0..9).chain([130, 300]) {
            let narrow: Vec<Words> = (0..count).map(block::<u64>).collect();
            let wide: Vec<WideWords> = (0..count).map(block::<u128>).collect();
            for (has_narrow, has_wide) in [(true, false), (false, true), (true, true)] {
                let (mut pieces, mut sink) = (Pieces::of_steps(2), Sink::default());
                let (mut ends, mut bytes) = ([0; BLOCK], Vec::new());
                if has_narrow {
                    narrow.iter().for_each(|words| pieces.narrow(words));
                }
                if has_wide {
                    pieces.wide(&wide);
                }
                pieces.write(&ALL, &mut sink, &mut ends);
                for (slot, end) in ends.into_iter().enumerate() {
                    if has_narrow {
                        expected::<u64>(slot, count, &mut bytes);
                    }
                    if has_wide {
                        expected::<u128>(slot, count, &mut bytes);
                    }
                    assert_eq!(end, bytes.len(), "{slot} of {count}");
                }
                assert!(sink.finish().unwrap() == bytes, "{count}");
            }
        }
    }

    #[test]
    fn a_source_that_is_not_there_is_an_error() {
        for (source, len, is_there) in [(0, 3, true), (1, 0, true), (1, 3, false)] {
            let mut span = Span::default();
            (span.source[0], span.len[0]) = (source, len);
            let (mut pieces, mut sink) = (Pieces::of_steps(1), Sink::default());
            pieces.text_of(&span, &[b"abc"]);
            pieces.write(&[0], &mut sink, &mut [0]);
            match sink.finish() {
                Ok(bytes) => assert_eq!((&bytes[..], is_there), (&b"abc"[..len], true)),
                Err(error) => {
                    assert!(matches!(error, EncodeError::Malformed { .. }) && !is_there);
                }
            }
        }
    }
}
