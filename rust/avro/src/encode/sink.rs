//! The output: staged in a small buffer, where a store needs no look at the room, and moved on in pieces.

use super::stage::Span;
use super::words::{BLOCK, STAGE, StageBytes, Word, Words};
use crate::error::EncodeError;

/// Bytes of a text that are copied as one piece of this size, where there is so much to read: to look closer at its
/// length would cost more, as no branch on it can be foretold.
const SHORT: usize = 64;
/// The same of all elements of a list.
const LIST: usize = 128;
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

    /// Where the next byte goes in the stage. It is handed on and given back by all that writes, so that the loops have
    /// it in a register; [`Sink::stop`] takes it when all is written.
    pub(super) const fn start(&self) -> usize {
        self.at
    }

    pub(super) fn stop(&mut self, at: usize) {
        self.at = at;
    }

    /// Bytes that were written up to a place in the stage.
    #[inline(always)]
    pub(super) const fn len(&self, at: usize) -> usize {
        self.out.len() + at
    }

    /// Moves what is staged to the output.
    #[inline(never)]
    fn flush(&mut self, at: usize) {
        self.out.extend_from_slice(&self.stage[..at]);
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, EncodeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.flush(self.at);
        // The bound is generous: a batch may wait in a queue, and should hold what it uses.
        if self.out.capacity() / 2 > self.out.len() {
            self.out.shrink_to_fit();
        }
        Ok(self.out)
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.out.clear();
        self.at = 0;
    }

    /// Ends what [`Sink::encoded`] gives.
    pub(super) fn settle(&mut self) -> Result<(), EncodeError> {
        self.flush(self.at);
        // So that the last elements are copied as all others are.
        self.out.extend_from_slice(&[0; LIST]);
        self.error.take().map_or(Ok(()), Err)
    }

    /// What was written, and anything behind it.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.out
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
    fn room(&mut self, at: usize, bytes: usize) -> usize {
        match at > STAGE - bytes {
            true => {
                self.flush(at);
                0
            }
            false => at,
        }
    }

    /// The words of one slot, of at most [`Sink::RUN`] blocks.
    #[inline(always)]
    pub(super) fn words<W: Word>(&mut self, at: usize, blocks: &[Words<W>], slot: usize) -> usize {
        debug_assert!(blocks.len() <= Self::RUN && slot < BLOCK);
        let mut at = self.room(at, Self::RUN * size_of::<u128>());
        let stage = &mut *self.stage;
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
        at
    }

    /// The word of a slot, and the bytes that it is the length of.
    #[inline(always)]
    pub(super) fn text(&mut self, at: usize, span: &Span, sources: &[&[u8]], slot: usize) -> usize {
        let slot = slot % BLOCK;
        let mut at = self.room(at, size_of::<u64>() + SHORT);
        at += span.words[slot].store(&mut self.stage, at);
        match sources.get(span.source[slot] as usize) {
            Some(source) => self.bytes::<SHORT>(at, source, span.at[slot], span.len[slot]),
            None => {
                self.outside();
                at
            }
        }
    }

    /// The word of a slot, and the elements that it is the number of.
    #[inline(always)]
    pub(super) fn list(&mut self, at: usize, span: &Span, elements: &[u8], slot: usize) -> usize {
        let slot = slot % BLOCK;
        let mut at = self.room(at, 2 * size_of::<u64>() + LIST);
        at += span.words[slot].store(&mut self.stage, at);
        at = self.bytes::<LIST>(at, elements, span.at[slot], span.len[slot]);
        at + u64::counted(span.source[slot]).store(&mut self.stage, at)
    }

    /// `data[from..from + len]`, where there is room for `CHUNK` bytes. Leaves room for a word.
    #[inline(always)]
    fn bytes<const CHUNK: usize>(
        &mut self,
        at: usize,
        data: &[u8],
        from: usize,
        len: usize,
    ) -> usize {
        match data
            .get(from..)
            .and_then(|rest| rest.first_chunk::<CHUNK>())
        {
            Some(chunk) if len <= CHUNK => {
                let to = at % STAGE;
                self.stage[to..to + CHUNK].copy_from_slice(chunk);
                at + len
            }
            _ => self.long(at, data, from, len),
        }
    }

    /// Bytes that are long, or near the end of their data.
    #[inline(never)]
    fn long(&mut self, at: usize, data: &[u8], from: usize, len: usize) -> usize {
        let rest = data.get(from..).unwrap_or_default();
        match rest.get(..len) {
            Some(bytes) if len <= MEDIUM => {
                let at = self.room(at, MEDIUM + size_of::<u64>());
                self.stage[at..at + len].copy_from_slice(bytes);
                at + len
            }
            Some(bytes) => {
                self.flush(at);
                self.out.extend_from_slice(bytes);
                0
            }
            None => {
                self.outside();
                at
            }
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
        let (mut expected, mut place) = (Vec::new(), sink.start());
        let lengths = (0..140).chain([1000, 1024, 1025, 4000, 4096, 5000]);
        for (at, len) in lengths.flat_map(|len| [0, 1, 900, 6000 - len].map(|at| (at, len))) {
            place = sink.room(place, SHORT);
            place = sink.bytes::<SHORT>(place, &data, at, len);
            expected.extend_from_slice(&data[at..at + len]);
            assert_eq!(sink.len(place), expected.len());
        }
        sink.stop(place);
        assert_eq!(sink.finish().unwrap(), expected);
    }

    #[test]
    fn words_go_over_the_end_of_the_stage() {
        let mut blocks = vec![[0_u64; _]; Sink::RUN];
        for (i, words) in (0..).zip(&mut blocks) {
            words[5] = (7 << 56) | (0x0706_0504_0302_0100 + i);
        }
        let mut sink = Sink::default();
        let place = (0..40).fold(sink.start(), |place, _| sink.words(place, &blocks, 5));
        sink.stop(place);
        let written = sink.finish().unwrap();
        assert_eq!(written.len(), 40 * Sink::RUN * 7);
        for (i, bytes) in written.chunks(7).enumerate() {
            assert_eq!(bytes, [(i % Sink::RUN) as u8, 1, 2, 3, 4, 5, 6]);
        }
    }

    #[test]
    fn what_is_not_there_or_does_not_fit_is_an_error() {
        for (at, len) in [(0, 3), (2, 1), (3, 0), (usize::MAX, 1), (0, usize::MAX)] {
            let mut sink = Sink::default();
            let place = sink.bytes::<SHORT>(0, &[1, 2], at, len);
            sink.stop(place);
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
