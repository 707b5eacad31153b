//! The output: staged in a small buffer, where a store needs no look at the room, and moved on in pieces.

use super::words::{STAGE, StageBytes};
use crate::cpu;
use crate::error::EncodeError;

/// Bytes of a text that are copied as one piece of this size, where there is so much to read: to look closer at its
/// length would cost more, as no branch on it can be foretold.
pub(super) const TEXT: usize = 64;
/// The same where no text of a block is longer: half as many pieces lie across two lines of the cache.
pub(super) const SHORT: usize = 32;
/// The same of all elements of a list, unless no list of a block is longer than a piece of a text.
pub(super) const LIST: usize = 128;
/// Longer texts don't go through the stage.
const MEDIUM: usize = 1024;
/// Most bytes that are staged between two looks at the room, but for what is longer than the pieces above.
pub(super) const GROUP: usize = 1024;

/// Bytes of rows that are staged: few, as they are not looked at again, and should not take the cache from what is.
const ROWS: usize = 1536;

/// Rows on their way into one buffer.
pub(super) struct Sink {
    output: Output,
    stage: Box<StageBytes>,
    /// The stage is emptied where it holds more than so many bytes.
    full: usize,
    /// Bytes in the stage.
    at: usize,
}

/// What has left the stage.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    /// Why what was asked for can't be written.
    error: Option<EncodeError>,
}

/// A sink that is written to, in parts that the loops have in registers. All that writes takes the place in the stage,
/// and gives the place behind what it wrote.
pub(super) struct Writer<'s> {
    pub(super) stage: &'s mut StageBytes,
    output: &'s mut Output,
    /// Bytes that have left the stage.
    left: usize,
    full: usize,
}

impl Default for Sink {
    fn default() -> Self {
        Self {
            output: Output::default(),
            stage: Box::new([0; _]),
            full: STAGE - GROUP - MEDIUM,
            at: 0,
        }
    }
}

impl Sink {
    /// A sink with room for so many bytes. What is not written of it is never touched, so it costs nothing.
    pub(super) fn with_bound(bound: usize) -> Result<Self, EncodeError> {
        let mut sink = Self {
            full: ROWS,
            ..Self::default()
        };
        let output = &mut sink.output.bytes;
        output
            .try_reserve_exact(bound)
            .map_err(|_| EncodeError::TooLarge { bytes: bound })?;
        Ok(sink)
    }

    /// The parts to write with, and where the next byte goes. [`Sink::stop`] is told where the last one went.
    #[inline(always)]
    pub(super) fn start(&mut self) -> (Writer<'_>, usize) {
        let writer = Writer {
            stage: &mut self.stage,
            left: self.output.bytes.len(),
            output: &mut self.output,
            full: self.full,
        };
        (writer, self.at)
    }

    pub(super) const fn stop(&mut self, at: usize) {
        self.at = at;
    }

    /// Bytes that were written.
    pub(super) const fn len(&self) -> usize {
        self.output.bytes.len() + self.at
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, EncodeError> {
        self.output.take(&self.stage[..self.at]);
        let Output { mut bytes, error } = self.output;
        if let Some(error) = error {
            return Err(error);
        }
        // The bound is generous: a batch may wait in a queue, and should hold what it uses.
        if bytes.capacity() / 2 > bytes.len() {
            bytes.shrink_to_fit();
        }
        Ok(bytes)
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.output.bytes.clear();
        self.at = 0;
    }

    /// Ends what [`Sink::encoded`] gives.
    pub(super) fn settle(&mut self) -> Result<(), EncodeError> {
        // What never left the stage is taken from there.
        if !self.output.bytes.is_empty() {
            self.output.take(&self.stage[..self.at]);
            // So that the last elements are copied as all others are.
            self.output.take(&[0; LIST]);
        }
        self.output.error.take().map_or(Ok(()), Err)
    }

    /// What was written, and anything behind it.
    pub(super) fn encoded(&self) -> &[u8] {
        match self.output.bytes.is_empty() {
            true => &self.stage[..],
            false => &self.output.bytes,
        }
    }
}

impl Writer<'_> {
    /// Bytes that were written up to a place.
    #[inline(always)]
    pub(super) const fn len(&self, at: usize) -> usize {
        self.left + at
    }

    /// Looks at the room, and gives the place where at least [`GROUP`] bytes are free.
    #[inline(always)]
    pub(super) fn room(&mut self, at: usize) -> usize {
        match at > self.full {
            true => {
                self.output.take(&self.stage[..at % STAGE]);
                self.left = self.output.bytes.len();
                0
            }
            false => at,
        }
    }

    /// `data[from..from + len]`, where there is room for `CHUNK` bytes.
    #[inline(always)]
    pub(super) fn bytes<const CHUNK: usize>(
        &mut self,
        at: usize,
        data: &[u8],
        from: usize,
        len: usize,
    ) -> usize {
        if let Some(rest) = data.get(from..)
            && let Some(chunk) = rest.first_chunk::<CHUNK>()
            && len <= CHUNK
        {
            let to = at % STAGE;
            self.stage[to..to + CHUNK].copy_from_slice(chunk);
            return at + len;
        }
        let at = self.output.long(self.stage, at, data, from, len);
        self.left = self.output.bytes.len();
        at
    }
}

impl Output {
    /// Takes over what is staged.
    #[inline(never)]
    fn take(&mut self, staged: &[u8]) {
        self.bytes.extend_from_slice(staged);
        // A new output mostly is in no cache. What is staged from now on goes where it ends, and lets that come meanwhile.
        let room = self.bytes.spare_capacity_mut();
        cpu::fetch(&room[..room.len().min(ROWS)]);
    }

    /// Bytes that are long, or near the end of their data. Leaves as much room in the stage as there was, up to a group.
    #[inline(never)]
    fn long(
        &mut self,
        stage: &mut StageBytes,
        mut at: usize,
        data: &[u8],
        from: usize,
        len: usize,
    ) -> usize {
        let rest = data.get(from..).unwrap_or_default();
        let Some(bytes) = rest.get(..len) else {
            self.error.get_or_insert(EncodeError::Malformed {
                column: "(batch)".to_owned(),
                reason: "a text or a list lies outside its data".to_owned(),
            });
            return at;
        };
        if at > STAGE - GROUP - MEDIUM || len > MEDIUM {
            self.take(&stage[..at]);
            at = 0;
        }
        if len > MEDIUM {
            self.take(bytes);
            return at;
        }
        stage[at..at + len].copy_from_slice(bytes);
        at + len
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
            let (mut writer, place) = sink.start();
            let place = writer.room(place);
            let place = writer.bytes::<SHORT>(place, &data, at, len);
            sink.stop(place);
            expected.extend_from_slice(&data[at..at + len]);
            assert_eq!(sink.len(), expected.len());
        }
        assert_eq!(sink.finish().unwrap(), expected);
    }

    #[test]
    fn what_is_not_there_or_does_not_fit_is_an_error() {
        for (at, len) in [(0, 3), (2, 1), (3, 0), (usize::MAX, 1), (0, usize::MAX)] {
            let mut sink = Sink::default();
            let (mut writer, place) = sink.start();
            let place = writer.bytes::<SHORT>(place, &[1, 2], at, len);
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
