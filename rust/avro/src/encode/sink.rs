//! The output: staged in a small buffer, where a store needs no look at the room, and moved on in pieces.

use std::ops::Range;

use super::stage::Span;
use super::words::{BLOCK, STAGE, StageBytes, Word, Words};
use crate::error::EncodeError;

/// Bytes of a text that are copied as one piece of this size, where there is so much to read: to look closer at its
/// length would cost more, as no branch on it can be foretold.
const SHORT: usize = 64;
/// Longer texts don't go through the stage.
const MEDIUM: usize = 1024;

/// Rows on their way into one buffer.
pub(super) struct Sink {
    out: Vec<u8>,
    stage: Box<StageBytes>,
    /// Bytes in the stage.
    at: usize,
    /// Why what was asked for can't be written.
    error: Option<EncodeError>,
}

impl Default for Sink {
    fn default() -> Self {
        Self {
            out: Vec::new(),
            stage: Box::new([0; _]),
            at: 0,
            error: None,
        }
    }
}

impl Sink {
    /// Most words that are written at once.
    pub(super) const RUN: usize = 64;

    /// A sink with room for so many bytes. What is not written of it is never touched, so it costs nothing.
    pub(super) fn with_bound(bound: usize) -> Result<Self, EncodeError> {
        let mut sink = Self::default();
        sink.out
            .try_reserve_exact(bound)
            .map_err(|_| EncodeError::TooLarge { bytes: bound })?;
        Ok(sink)
    }

    pub(super) const fn len(&self) -> usize {
        self.out.len() + self.at
    }

    /// Moves what is staged to the output.
    fn flush(&mut self) {
        self.out.extend_from_slice(&self.stage[..self.at]);
        self.at = 0;
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, EncodeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.flush();
        // The bound is generous: a batch may wait in a queue, and should hold what it uses.
        if self.out.capacity() / 2 > self.out.len() {
            self.out.shrink_to_fit();
        }
        Ok(self.out)
    }

    /// Takes note of bytes that aren't there.
    #[cold]
    pub(super) fn outside(&mut self) {
        self.fail(EncodeError::Malformed {
            column: "(batch)".to_owned(),
            reason: "a text or a list lies outside its data".to_owned(),
        });
    }

    /// Takes note of an error, unless there was one before.
    #[cold]
    pub(super) fn fail(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }

    #[inline(always)]
    fn room(&mut self, bytes: usize) {
        if self.at > STAGE - bytes {
            self.flush();
        }
    }

    /// The words of one slot, of at most [`Sink::RUN`] blocks.
    #[inline(always)]
    pub(super) fn words<W: Word>(&mut self, blocks: &[Words<W>], slot: usize) {
        debug_assert!(blocks.len() <= Self::RUN && slot < BLOCK);
        self.room(Self::RUN * size_of::<u128>());
        let (stage, mut at) = (&mut *self.stage, self.at);
        let mut fours = blocks.chunks_exact(4);
        // A loop of its own for each word would be a third of what is to be done.
        for [a, b, c, d] in fours.by_ref().filter_map(|four| four.first_chunk()) {
            at += a[slot % BLOCK].store(stage, at);
            at += b[slot % BLOCK].store(stage, at);
            at += c[slot % BLOCK].store(stage, at);
            at += d[slot % BLOCK].store(stage, at);
        }
        for words in fours.remainder() {
            at += words[slot % BLOCK].store(stage, at);
        }
        self.at = at;
    }

    /// The words of slots in a row.
    #[inline(always)]
    pub(super) fn run<W: Word>(&mut self, blocks: &[Words<W>], slots: Range<usize>) {
        /// Room that is asked for once for all of them, as they are few in most lists.
        const ROOM: usize = STAGE / 2;
        if slots.len() * blocks.len() * size_of::<W>() > ROOM {
            for slot in slots {
                self.words(blocks, slot);
            }
            return;
        }
        self.room(ROOM);
        let (stage, mut at) = (&mut *self.stage, self.at);
        for slot in slots {
            for words in blocks {
                at += words[slot % BLOCK].store(stage, at);
            }
        }
        self.at = at;
    }

    /// The word of a slot, and the bytes that it is the length of.
    #[inline(always)]
    pub(super) fn text(&mut self, span: &Span, sources: &[&[u8]], slot: usize) {
        let slot = slot % BLOCK;
        self.word(span.words[slot]);
        match sources.get(span.source[slot] as usize) {
            Some(source) => self.bytes(source, span.at[slot], span.len[slot]),
            None => self.outside(),
        }
    }

    #[inline(always)]
    pub(super) fn word(&mut self, word: u64) {
        self.room(size_of::<u64>());
        self.at += word.store(&mut self.stage, self.at);
    }

    /// `data[at..at + len]`.
    #[inline(always)]
    pub(super) fn bytes(&mut self, data: &[u8], at: usize, len: usize) {
        let rest = data.get(at..).unwrap_or_default();
        match rest.first_chunk::<SHORT>() {
            Some(chunk) if len <= SHORT => {
                self.room(SHORT);
                let to = self.at % STAGE;
                self.stage[to..to + SHORT].copy_from_slice(chunk);
                self.at += len;
            }
            _ => self.long(rest, len),
        }
    }

    /// Bytes that are long, or near the end of their data.
    #[inline(never)]
    fn long(&mut self, rest: &[u8], len: usize) {
        match rest.get(..len) {
            Some(bytes) if len <= MEDIUM => {
                self.room(MEDIUM);
                self.stage[self.at..self.at + len].copy_from_slice(bytes);
                self.at += len;
            }
            Some(bytes) => {
                self.flush();
                self.out.extend_from_slice(bytes);
            }
            None => self.outside(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_every_length_and_place() {
        let data: Vec<u8> = (0..=255).cycle().take(6000).collect();
        let mut sink = Sink::default();
        let mut expected = Vec::new();
        let lengths = (0..140).chain([1000, 1024, 1025, 4000, 4096, 5000]);
        for (at, len) in lengths.flat_map(|len| [0, 1, 900, 6000 - len].map(|at| (at, len))) {
            sink.bytes(&data, at, len);
            expected.extend_from_slice(&data[at..at + len]);
            assert_eq!(sink.len(), expected.len());
        }
        assert_eq!(sink.finish().unwrap(), expected);
    }

    #[test]
    fn words_go_over_the_end_of_the_stage() {
        let mut blocks = vec![[0_u64; _]; Sink::RUN];
        for (i, words) in (0..).zip(&mut blocks) {
            words[5] = (7 << 56) | (0x0706_0504_0302_0100 + i);
        }
        let mut sink = Sink::default();
        for _ in 0..40 {
            sink.words(&blocks, 5);
            // Few slots and many, of which one has a word that says anything.
            sink.run(&blocks[..], 4..7);
            sink.run(&blocks[..], 0..BLOCK);
        }
        let written = sink.finish().unwrap();
        assert_eq!(written.len(), 3 * 40 * Sink::RUN * 7);
        for (i, bytes) in written.chunks(7).enumerate() {
            assert_eq!(bytes, [(i % Sink::RUN) as u8, 1, 2, 3, 4, 5, 6]);
        }
    }

    #[test]
    fn what_is_not_there_or_does_not_fit_is_an_error() {
        for (at, len) in [(0, 3), (2, 1), (3, 0), (usize::MAX, 1), (0, usize::MAX)] {
            let mut sink = Sink::default();
            sink.bytes(&[1, 2], at, len);
            let outside = len > 0;
            assert_eq!(
                matches!(sink.finish(), Err(EncodeError::Malformed { .. })),
                outside,
                "{at} {len}"
            );
        }
        assert!(matches!(
            Sink::with_bound(usize::MAX),
            Err(EncodeError::TooLarge { .. })
        ));
    }
}
