//! Encoded values as machine words. A word holds the bytes of a value, with the number of its union branch before them,
//! in the order of writing from its lowest byte on, and their count in its highest byte. It is written by one store of
//! fixed size, of which what lies beyond the count is overwritten by the next. Whole blocks are made by straight loops.

use std::ops::{BitAnd, BitOr, Shl};

use arrow_buffer::bit_chunk_iterator::BitChunks;

/// Slots that are encoded before they are written: as many as a byte numbers, as each block costs something beforehand.
pub(super) const BLOCK: usize = 256;
/// Words of a block. It is a little longer than a power of two, so that the blocks of many fields don't fall on the same
/// few lines of the cache.
pub(super) type Words = [u64; BLOCK + 8];
/// Wide words of a block: the lower halves, and the higher ones with the count.
pub(super) type WideWords = [Words; 2];

/// Bytes of the stage that rows are written to on their way to the output; the elements of a block of lists mostly stay in
/// it. Places are taken modulo this, a power of two, so that the compiler sees that they are in it.
pub(super) const STAGE: usize = 16384;
pub(super) type StageBytes = [u8; STAGE + 128];

/// Where a word has its count; of a wide one, its higher half.
const COUNT_AT: u32 = 56;
pub(super) const COUNT: u64 = 0xff << COUNT_AT;

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
        match self.len {
            0 => bytes | counted,
            _ => bytes << 8 | W::from(self.byte) | counted,
        }
    }

    /// Fills a block with the words of values, of which `f` says the bytes and how many they are.
    #[inline(always)]
    pub(super) fn each<T: Copy, W: Word>(
        self,
        values: impl Iterator<Item = T>,
        out: &mut W::Block,
        f: impl Fn(T) -> (W, u32),
    ) {
        // A loop for each, which the compiler makes of the shortest alone.
        match self.len {
            0 => W::fill(
                out,
                values.map(|value| {
                    let (bytes, len) = f(value);
                    Self::NONE.word(bytes, len)
                }),
            ),
            _ => {
                let head = Self::of(self.byte);
                W::fill(
                    out,
                    values.map(|value| {
                        let (bytes, len) = f(value);
                        head.word(bytes, len)
                    }),
                );
            }
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
    /// What a block of them is kept in.
    type Block: WordBlock;
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

    /// Fills a block from its first slot on.
    fn fill(block: &mut Self::Block, words: impl Iterator<Item = Self>);
}

/// A block of words, to be written.
pub(super) trait WordBlock {
    type Word: Word<Block = Self>;
    const EMPTY: Self;

    /// Makes words of the bytes of texts, with their lengths and the head before them.
    fn tell_lengths(&mut self, lengths: impl Iterator<Item = usize>, head: Head);

    /// Sets the words of slots that have no value.
    fn patch(&mut self, valid: &BitChunks<'_>, word: Self::Word);

    /// Writes the word of a slot to `stage[at..]`, wrapping around at [`STAGE`]; gives where it ends.
    fn store(&self, slot: usize, stage: &mut StageBytes, at: usize) -> usize;
}

/// The place behind a word that was written to `at`. `last` has the word's count.
#[inline(always)]
const fn behind(last: u64, at: usize) -> usize {
    at + (last >> COUNT_AT) as usize
}

/// What comes before a text, and the count of its word, where they stand.
#[inline(always)]
const fn around(len: usize, head: Head) -> (u64, u64) {
    let before = (2 * len as u64) << (8 * head.len) | head.byte as u64;
    (before, (1 + head.len as u64 + len as u64) << COUNT_AT)
}

impl WordBlock for Words {
    type Word = u64;
    const EMPTY: Self = [0; _];

    #[inline(always)]
    fn tell_lengths(&mut self, lengths: impl Iterator<Item = usize>, head: Head) {
        let by = 8 * (1 + head.len);
        for (word, len) in self.iter_mut().zip(lengths) {
            let (before, count) = around(len, head);
            *word = (*word << by | before) & !COUNT | count;
        }
    }

    #[inline(always)]
    fn patch(&mut self, valid: &BitChunks<'_>, word: u64) {
        patch(valid, self, word);
    }

    #[inline(always)]
    fn store(&self, slot: usize, stage: &mut StageBytes, at: usize) -> usize {
        let word = self[slot % BLOCK];
        let to = at % STAGE;
        stage[to..to + size_of::<u64>()].copy_from_slice(&word.to_le_bytes());
        behind(word, at)
    }
}

impl WordBlock for WideWords {
    type Word = u128;
    const EMPTY: Self = [Words::EMPTY; 2];

    #[inline(always)]
    fn tell_lengths(&mut self, lengths: impl Iterator<Item = usize>, head: Head) {
        let [low, high] = self;
        let by = 8 * (1 + head.len);
        for ((low, high), len) in low.iter_mut().zip(high).zip(lengths) {
            let (before, count) = around(len, head);
            *high = (*high << by | *low >> (u64::BITS - by)) & !COUNT | count;
            *low = *low << by | before;
        }
    }

    #[inline(always)]
    fn patch(&mut self, valid: &BitChunks<'_>, word: u128) {
        let [low, high] = self;
        patch(valid, low, word as u64);
        patch(valid, high, (word >> u64::BITS) as u64);
    }

    #[inline(always)]
    fn store(&self, slot: usize, stage: &mut StageBytes, at: usize) -> usize {
        let [low, high] = self;
        let high = high[slot % BLOCK];
        let to = at % STAGE;
        let room = &mut stage[to..to + size_of::<u128>()];
        room[..8].copy_from_slice(&low[slot % BLOCK].to_le_bytes());
        room[8..].copy_from_slice(&high.to_le_bytes());
        behind(high, at)
    }
}

/// Sets each value of which the bit is not set, and those behind the last bit up to a multiple of 64. Every value is
/// written: to look for those that are to be set is to guess, again and again, whether there is one more.
#[inline(always)]
pub(super) fn patch<T: Copy>(valid: &BitChunks<'_>, values: &mut [T], missing: T) {
    let (chunks, _) = values.as_chunks_mut::<64>();
    for (bits, values) in valid.iter_padded().zip(chunks) {
        for (number, value) in values.iter_mut().enumerate() {
            *value = match bits & 1 << number {
                0 => missing,
                _ => *value,
            };
        }
    }
}

/// What is the same of both sizes.
macro_rules! word {
    () => {
        const ZERO: Self = 0;

        #[inline(always)]
        fn low(len: usize) -> Self {
            (1 << (8 * (len & Self::MOST))) - 1
        }

        #[inline(always)]
        fn load(data: &[u8], at: usize) -> Self {
            if let Some(rest) = data.get(at..)
                && let Some(bytes) = rest.first_chunk()
            {
                return Self::from_le_bytes(*bytes);
            }
            near_the_end(data, at)
        }
    };
}

impl Word for u64 {
    type Block = Words;
    word!();

    #[inline(always)]
    fn of_view(view: u128) -> Self {
        (view >> 32) as Self
    }

    #[inline(always)]
    fn fill(block: &mut Words, words: impl Iterator<Item = Self>) {
        for (out, word) in block.iter_mut().zip(words) {
            *out = word;
        }
    }
}

impl Word for u128 {
    type Block = WideWords;
    word!();

    #[inline(always)]
    fn of_view(view: u128) -> Self {
        view >> 32
    }

    #[inline(always)]
    fn fill([low, high]: &mut WideWords, words: impl Iterator<Item = Self>) {
        for ((low, high), word) in low.iter_mut().zip(high).zip(words) {
            (*low, *high) = (word as u64, (word >> 64) as u64);
        }
    }
}

/// What is left of the data, where it is shorter than a word.
#[cold]
fn near_the_end<W: Word>(data: &[u8], at: usize) -> W {
    let rest = data.get(at..).unwrap_or_default();
    rest.iter()
        .rev()
        .fold(W::ZERO, |word, byte| word << 8 | W::from(*byte))
}

/// Whether values of up to `len` bytes fit into narrow words behind the head.
pub(super) fn is_narrow(head: Head, len: usize) -> bool {
    len + head.len() <= u64::MOST
}

/// Texts that fit into a word with their length and head. What was loaded behind a text is left in the word, as it is
/// beyond the count: clearing it would take a shift by each text's length. In two loops: texts are loaded one by one from
/// wherever they are, and the rest is done for many at once.
#[inline(always)]
pub(super) fn texts<W: Word>(
    texts: impl Iterator<Item = W>,
    lengths: impl Iterator<Item = usize>,
    head: Head,
    out: &mut W::Block,
) {
    W::fill(out, texts);
    out.tell_lengths(lengths, head);
}

/// Values of the same length, which may be 0.
#[inline(always)]
pub(super) fn plain<W: Word>(
    values: impl Iterator<Item = W>,
    len: u32,
    head: Head,
    out: &mut W::Block,
) {
    head.each(values, out, |bytes| (bytes, len));
}

/// A byte 0 behind each list that has so many elements, unless it has none.
#[inline(always)]
pub(super) fn ends(lengths: impl Iterator<Item = usize>, out: &mut Words) {
    Head::NONE.each(lengths, out, |len| (0_u64, u32::from(len > 0)));
}

/// Heads alone.
#[inline(always)]
pub(super) fn same(head: Head, out: &mut Words) {
    out.fill(head.alone());
}

#[cfg(test)]
mod tests {
    use arrow_buffer::BooleanBuffer;

    use super::*;

    #[test]
    fn values_without_a_bit_are_set() {
        for (from, count) in [(0, BLOCK), (3, 200), (7, 64), (1, 63), (60, 5), (9, 0)] {
            let has = |slot: usize| slot % 3 != 1 && slot / 64 != 1;
            let bits =
                BooleanBuffer::collect_bool(from + count, |bit| bit >= from && has(bit - from));
            let valid = BitChunks::new(bits.values(), from, count);
            let (mut narrow, mut wide) = (Words::EMPTY, WideWords::EMPTY);
            narrow.patch(&valid, u64::MAX);
            wide.patch(&valid, u128::MAX);
            let [low, high] = &wide;
            let found = narrow.iter().zip(low.iter().zip(high));
            for (slot, (narrow, (low, high))) in found.enumerate().take(count) {
                let expected = if has(slot) { 0 } else { u64::MAX };
                let found = [*narrow, *low, *high];
                assert_eq!(found, [expected; 3], "{slot} of {count} from {from}");
            }
        }
    }

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
