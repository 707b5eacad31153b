//! The output buffer: reserved once, written without growing.

use crate::error::EncodeError;
use crate::wire::zigzag;

/// Bytes beyond the bound, so that a varint or a short string may be written as one fixed-size store.
const SLACK: usize = 16;
/// A buffer above this size is asked for before it is taken.
const ASK_ABOVE: usize = 256 << 20;

/// A buffer of the size that the rows can't outgrow. A write that would is dropped, and shows up in [`Sink::finish`].
pub(super) struct Sink {
    buffer: Vec<u8>,
    at: usize,
    overflowed: bool,
}

impl Sink {
    pub(super) fn with_bound(bound: usize) -> Result<Self, EncodeError> {
        let size = bound.saturating_add(SLACK);
        if size > isize::MAX as usize {
            return Err(EncodeError::TooLarge { bytes: bound });
        }
        // vec! would abort the process where there is no memory: what is large is asked for first.
        if size > ASK_ABOVE {
            Vec::<u8>::new()
                .try_reserve_exact(size)
                .map_err(|_| EncodeError::TooLarge { bytes: bound })?;
        }
        Ok(Self {
            buffer: vec![0; size],
            at: 0,
            overflowed: false,
        })
    }

    pub(super) const fn len(&self) -> usize {
        self.at
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, EncodeError> {
        if self.overflowed {
            let reason =
                "the rows outgrew their reckoned size; this is a defect of the encoder".to_owned();
            return Err(EncodeError::Malformed {
                column: "(batch)".to_owned(),
                reason,
            });
        }
        self.buffer.truncate(self.at);
        // The bound is generous: a batch may wait in a queue, and should hold what it uses.
        if self.buffer.capacity() / 2 > self.at {
            self.buffer.shrink_to_fit();
        }
        Ok(self.buffer)
    }

    #[inline(always)]
    pub(super) fn byte(&mut self, byte: u8) {
        match self.buffer.get_mut(self.at) {
            Some(slot) => {
                *slot = byte;
                self.at += 1;
            }
            None => self.overflowed = true,
        }
    }

    #[inline(always)]
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        match self.buffer.get_mut(self.at..self.at + bytes.len()) {
            Some(slot) => {
                slot.copy_from_slice(bytes);
                self.at += bytes.len();
            }
            None => self.overflowed = true,
        }
    }

    /// `data[from..to]`. Short values are copied as 16 bytes where both sides have them: cheaper than a call.
    #[inline(always)]
    pub(super) fn range(&mut self, data: &[u8], from: usize, to: usize) {
        let len = to.wrapping_sub(from);
        if len <= 16
            && let (Some(source), Some(slot)) = (
                data.get(from..from + 16),
                self.buffer.get_mut(self.at..self.at + 16),
            )
        {
            slot.copy_from_slice(source);
            self.at += len;
            return;
        }
        match data.get(from..to) {
            Some(bytes) => self.raw(bytes),
            None => self.overflowed = true,
        }
    }

    /// What comes before a value, if anything does, and the value as a zigzag varint: in one store, its bytes spread
    /// out by masks, with no loop whose length the data decides.
    #[inline(always)]
    pub(super) fn long(&mut self, head: Head, v: i64) {
        let z = zigzag(v);
        let Some(slot) = self
            .buffer
            .get_mut(self.at..self.at + 8)
            .filter(|_| z < 1 << 49)
        else {
            return self.long_slow(head, z);
        };
        let (bytes, len) = spread(z);
        slot.copy_from_slice(&(bytes << (8 * head.len) | head.byte).to_le_bytes());
        self.at += (len + head.len) as usize;
    }

    /// The same for an int, which always fits into one store.
    #[inline(always)]
    pub(super) fn int(&mut self, head: Head, v: i32) {
        self.long(head, i64::from(v));
    }

    /// The head alone.
    #[inline(always)]
    pub(super) fn head(&mut self, head: Head) {
        if head.len > 0 {
            self.byte(head.byte as u8);
        }
    }

    #[cold]
    fn long_slow(&mut self, head: Head, mut z: u64) {
        self.head(head);
        while z >= 0x80 {
            self.byte((z as u8) | 0x80);
            z >>= 7;
        }
        self.byte(z as u8);
    }
}

/// The number of a union's branch, or nothing.
#[derive(Clone, Copy)]
pub(super) struct Head {
    byte: u64,
    /// 0 or 1 bytes.
    len: u32,
}

impl Head {
    pub(super) const NONE: Self = Self { byte: 0, len: 0 };

    #[inline(always)]
    pub(super) const fn of(byte: u8) -> Self {
        Self {
            byte: byte as u64,
            len: 1,
        }
    }
}

/// The bytes of a varint below 2^56 in order, and how many there are.
#[inline(always)]
const fn spread(z: u64) -> (u64, u32) {
    // One or two bytes are so common that a branch, which mostly goes one way in a column, costs less than the masks.
    if z < 1 << 14 {
        let two = z >= 1 << 7;
        return (
            (z & 0x7f) | ((z & 0x3f80) << 1) | ((two as u64) << 7),
            1 + two as u32,
        );
    }
    let len = (70 - (z | 1).leading_zeros()) / 7;
    let x = (z & 0x0fff_ffff) | ((z & 0x00ff_ffff_f000_0000) << 4);
    let x = (x & 0x0000_3fff_0000_3fff) | ((x & 0x0fff_c000_0fff_c000) << 2);
    let x = (x & 0x007f_007f_007f_007f) | ((x & 0x3f80_3f80_3f80_3f80) << 1);
    let more = 0x8080_8080_8080_8080 & ((1_u64 << (8 * (len - 1))) - 1);
    (x | more, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::push_long;

    #[test]
    fn longs_are_as_in_the_slow_form() {
        let mut values = vec![0, i64::MIN, i64::MAX];
        for shift in 0..63 {
            for near in -2..=2 {
                values.push((1_i64 << shift).wrapping_add(near));
                values.push(-(1_i64 << shift) + near);
            }
        }
        for v in values {
            let mut expected = Vec::new();
            push_long(v, &mut expected);
            let mut sink = Sink::with_bound(10).unwrap();
            sink.long(Head::NONE, v);
            assert_eq!(sink.finish().unwrap(), expected, "{v}");
            let mut sink = Sink::with_bound(11).unwrap();
            sink.long(Head::of(2), v);
            assert_eq!(
                sink.finish().unwrap(),
                [&[2][..], &expected].concat(),
                "{v}"
            );
        }
    }

    #[test]
    fn writing_past_the_bound_is_an_error() {
        let mut sink = Sink::with_bound(0).unwrap();
        sink.raw(&[1; SLACK]);
        sink.byte(1);
        sink.long(Head::NONE, 5);
        assert!(sink.finish().is_err());
        assert!(matches!(
            Sink::with_bound(usize::MAX),
            Err(EncodeError::TooLarge { .. })
        ));
    }
}
