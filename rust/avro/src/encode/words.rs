//! Encoded values as machine words. A word holds the bytes of a value, with the number of its union branch before them,
//! in the order of writing from its lowest byte on, and their count in its highest byte. It is written by one store of
//! fixed size, of which what lies beyond the count is overwritten by the next. Whole blocks are made by straight loops.

use std::ops::{BitAnd, BitOr, Shl};

/// Slots that are encoded before they are written.
pub(super) const BLOCK: usize = 128;
/// Words of a block. It is a little longer than a power of two, so that the blocks of many fields don't fall on the same
/// few lines of the cache.
pub(super) type Words<W> = [W; BLOCK + 8];

/// Bytes of the stage that rows are written to on their way to the output. Places in it are taken modulo this, a power of
/// two, so that the compiler sees that they are in it.
pub(super) const STAGE: usize = 4096;
pub(super) type StageBytes = [u8; STAGE + 128];

/// What comes before each value of a field: the number of a union's branch, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) byte: u8,
    len: u32,
}

impl Head {
    pub(super) const NONE: Self = Self { byte: 0, len: 0 };

    pub(super) const fn of(byte: u8) -> Self {
        Self { byte, len: 1 }
    }

    pub(super) const fn len(self) -> usize {
        self.len as usize
    }

    /// The word of a value of `len` bytes behind this head.
    #[inline(always)]
    pub(super) fn word<W: Word>(self, bytes: W, len: u32) -> W {
        let counted = W::counted(len + self.len);
        // Asked once a block: the compiler makes a loop of each case.
        match self.len {
            0 => bytes | counted,
            _ => bytes << 8 | W::from(self.byte) | counted,
        }
    }

    /// The head alone.
    pub(super) fn alone<W: Word>(self) -> W {
        self.word(W::ZERO, 0)
    }
}

/// A u64 for up to 7 bytes, or a u128 for up to 15.
pub(super) trait Word:
    Copy + From<u8> + From<u64> + Shl<u32, Output = Self> + BitOr<Output = Self> + BitAnd<Output = Self>
{
    /// Most bytes of a value and its head.
    const MOST: usize = size_of::<Self>() - 1;
    const ZERO: Self;

    /// The count, where it stands in a word.
    #[inline(always)]
    fn counted(len: u32) -> Self {
        Self::from(u64::from(len)) << (8 * Self::MOST as u32)
    }

    /// All bits of the lowest `len` bytes, which are fewer than a word has.
    fn low(len: usize) -> Self;

    /// The bytes from `data[at]` on, as many as a word has, whatever they belong to; zeros behind the data.
    fn load(data: &[u8], at: usize) -> Self;

    /// The bytes of a view that has its text in it.
    fn of_view(view: u128) -> Self;

    /// Writes the word to `stage[at..]`, wrapping around at [`STAGE`]; gives the count.
    fn store(self, stage: &mut StageBytes, at: usize) -> usize;
}

macro_rules! word {
    ($ty:ty) => {
        impl Word for $ty {
            const ZERO: Self = 0;

            #[inline(always)]
            fn low(len: usize) -> Self {
                (1 << (8 * (len & Self::MOST))) - 1
            }

            #[inline(always)]
            fn load(data: &[u8], at: usize) -> Self {
                match data.get(at..).and_then(|rest| rest.first_chunk()) {
                    Some(bytes) => <$ty>::from_le_bytes(*bytes),
                    None => near_the_end(data, at),
                }
            }

            #[inline(always)]
            fn of_view(view: u128) -> Self {
                (view >> 32) as $ty
            }

            #[inline(always)]
            fn store(self, stage: &mut StageBytes, at: usize) -> usize {
                let at = at % STAGE;
                stage[at..at + size_of::<Self>()].copy_from_slice(&self.to_le_bytes());
                (self >> (8 * Self::MOST)) as usize
            }
        }
    };
}

word!(u64);
word!(u128);

/// What is left of the data, where it is shorter than a word.
#[cold]
fn near_the_end<W: Word>(data: &[u8], at: usize) -> W {
    let rest = data.get(at..).unwrap_or_default();
    rest.iter()
        .rev()
        .fold(W::ZERO, |word, byte| word << 8 | W::from(*byte))
}

#[inline(always)]
pub(super) fn each<T: Copy, W>(values: &[T], out: &mut Words<W>, f: impl Fn(T) -> W) {
    for (word, value) in out.iter_mut().zip(values) {
        *word = f(*value);
    }
}

/// Whether values of up to `len` bytes fit into narrow words behind the head.
pub(super) fn is_narrow(head: Head, len: usize) -> bool {
    len + head.len() <= u64::MOST
}

/// Texts that fit into a word with their length and head. What was loaded behind a text is left in the word, as it is
/// beyond the count: clearing it would take a shift by each text's length.
#[inline(always)]
pub(super) fn texts<W: Word>(
    texts: impl Iterator<Item = (W, usize)>,
    head: Head,
    out: &mut Words<W>,
) {
    let room = W::low(W::MOST - 1 - head.len());
    for (word, (bytes, len)) in out.iter_mut().zip(texts) {
        *word = head.word((bytes & room) << 8 | W::from(2 * len as u8), 1 + len as u32);
    }
}

/// Values of the same length, which may be 0.
#[inline(always)]
pub(super) fn plain<W: Word>(
    values: impl Iterator<Item = W>,
    len: u32,
    head: Head,
    out: &mut Words<W>,
) {
    for (word, bytes) in out.iter_mut().zip(values) {
        *word = head.word(bytes, len);
    }
}

/// The same words, wide.
#[inline(always)]
pub(super) fn widen(narrow: &Words<u64>, out: &mut Words<u128>) {
    const COUNT: u64 = 0xff << 56;
    each(narrow, out, |word| {
        u128::from(word & !COUNT) | u128::from(word & COUNT) << 64
    });
}

/// Heads alone.
#[inline(always)]
pub(super) fn same(head: Head, out: &mut Words<u64>) {
    out.fill(head.alone());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_stay_within_the_data() {
        let data: Vec<u8> = (1..=20).collect();
        for at in 0..=data.len() {
            for len in 0..=15.min(data.len() - at) {
                let mut out = data[at..at + len].to_vec();
                out.resize(16, 0);
                let wide = u128::load(&data, at) & u128::low(len);
                assert_eq!(wide.to_le_bytes()[..], out);
                if len < 8 {
                    let narrow = u64::load(&data, at) & u64::low(len);
                    assert_eq!(narrow.to_le_bytes()[..], out[..8]);
                }
            }
        }
        assert_eq!(u64::load(&data, 21), 0);
        assert_eq!(u64::load(&data, usize::MAX), 0);
    }
}
