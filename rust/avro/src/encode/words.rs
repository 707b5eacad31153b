//! Encoded values as machine words. A word holds the bytes of a value, with the number of its union branch before them,
//! in the order of writing from its lowest byte on, and their count in its highest byte. It is written by one store of
//! fixed size, of which what lies beyond the count is overwritten by the next. Whole blocks are made by straight loops.

use crate::wire::zigzag;

/// Slots that are encoded before they are written.
pub(super) const BLOCK: usize = 128;
/// Words of a block. It is a little longer than a power of two, so that the blocks of many fields don't fall on the same
/// few lines of the cache.
pub(super) type Words<W> = [W; BLOCK + 8];

/// Bytes of the stage that rows are written to on their way to the output. Places in it are taken modulo this, a power of
/// two, so that the compiler sees that they are in it.
pub(super) const STAGE: usize = 4096;
pub(super) type StageBytes = [u8; STAGE + 64];

/// What comes before each value of a field: the number of a union's branch, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    byte: u8,
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
    fn word<W: Word>(self, bytes: W, len: u32) -> W {
        bytes << (8 * self.len) | W::from(self.byte) | W::counted(len + self.len)
    }

    /// The head alone.
    pub(super) fn alone<W: Word>(self) -> W {
        self.word(W::ZERO, 0)
    }
}

/// A u64 for up to 7 bytes, or a u128 for up to 15.
pub(super) trait Word:
    Copy + From<u8> + From<u64> + std::ops::Shl<u32, Output = Self> + std::ops::BitOr<Output = Self>
{
    /// Most bytes of a value and its head.
    const MOST: usize = size_of::<Self>() - 1;
    const ZERO: Self;

    /// The count, where it stands in a word.
    #[inline(always)]
    fn counted(len: u32) -> Self {
        Self::from(u64::from(len)) << (8 * Self::MOST as u32)
    }

    /// The first `len` bytes of `data[at..]`; `len` is below the size of a word.
    fn load(data: &[u8], at: usize, len: usize) -> Self;

    /// The lowest `len` bytes.
    fn cut(bytes: u128, len: usize) -> Self;

    /// Writes the word to `stage[at..]`, wrapping around at [`STAGE`]; gives the count.
    fn store(self, stage: &mut StageBytes, at: usize) -> usize;
}

macro_rules! word {
    ($ty:ty) => {
        impl Word for $ty {
            const ZERO: Self = 0;

            #[inline(always)]
            fn load(data: &[u8], at: usize, len: usize) -> Self {
                let bytes = match data.get(at..).and_then(|rest| rest.first_chunk()) {
                    Some(bytes) => <$ty>::from_le_bytes(*bytes),
                    None => near_the_end(data, at),
                };
                bytes & ((1 << (8 * (len & Self::MOST))) - 1)
            }

            #[inline(always)]
            fn cut(bytes: u128, len: usize) -> Self {
                bytes as $ty & ((1 << (8 * (len & Self::MOST))) - 1)
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
fn each<T: Copy, W>(values: &[T], out: &mut Words<W>, f: impl Fn(T) -> W) {
    for (word, value) in out.iter_mut().zip(values) {
        *word = f(*value);
    }
}

/// Whether values of up to `len` bytes fit into narrow words behind the head.
pub(super) fn is_narrow(head: Head, len: usize) -> bool {
    len + head.len() <= u64::MOST
}

pub(super) fn ints(values: &[i32], head: Head, out: &mut Words<u64>) {
    let most = values.iter().fold(0, |most, v| most | zigzag_int(*v));
    // Each is a loop of its own: what it costs grows with the length.
    match most {
        0..0x80 => each(values, out, |v| head.word(u64::from(zigzag_int(v)), 1)),
        0x80..0x4000 => each(values, out, |v| short::<2>(zigzag_int(v), head)),
        0x4000..0x20_0000 => each(values, out, |v| short::<3>(zigzag_int(v), head)),
        0x20_0000..0x1000_0000 => each(values, out, |v| short::<4>(zigzag_int(v), head)),
        _ => each(values, out, |v| {
            let (bytes, len) = varint(u64::from(zigzag_int(v)));
            head.word(bytes, len)
        }),
    }
}

/// Of how many bytes the longest varint is, and the shortest.
pub(super) fn long_lengths(values: &[i64]) -> (u32, u32) {
    let (most, least) = values.iter().fold((0, u64::MAX), |(most, least), v| {
        (most | zigzag(*v), least.min(zigzag(*v)))
    });
    (varint_len(most), varint_len(least))
}

/// Longs whose varints are of at most 7 bytes, with the head.
pub(super) fn longs(
    values: &[i64],
    head: Head,
    (longest, shortest): (u32, u32),
    out: &mut Words<u64>,
) {
    match longest {
        1 => each(values, out, |v| head.word(zigzag(v), 1)),
        2 => each(values, out, |v| short::<2>(zigzag(v) as u32, head)),
        3 => each(values, out, |v| short::<3>(zigzag(v) as u32, head)),
        4 => each(values, out, |v| short::<4>(zigzag(v) as u32, head)),
        // Times and keys mostly are: nothing is left to decide by value.
        _ if longest == shortest => {
            let more = continued(longest);
            each(values, out, |v| {
                head.word(spread(zigzag(v)) | more, longest)
            });
        }
        _ => each(values, out, |v| {
            let (bytes, len) = varint(zigzag(v));
            head.word(bytes, len)
        }),
    }
}

/// Any longs.
pub(super) fn wide_longs(values: &[i64], head: Head, out: &mut Words<u128>) {
    each(values, out, |v| {
        let z = zigzag(v);
        if z < 1 << 56 {
            let (bytes, len) = varint(z);
            return head.word(u128::from(bytes), len);
        }
        // Eight bytes that all go on, and one or two for the eight bits that are left.
        let low = u128::from(spread(z & ((1 << 56) - 1)) | 0x8080_8080_8080_8080);
        let (high, len) = varint(z >> 56);
        head.word(low | u128::from(high) << 64, 8 + len)
    });
}

/// The varint of a number below 2^(7 N), without a branch; N is at most 4.
#[inline(always)]
fn short<const N: u32>(z: u32, head: Head) -> u64 {
    let mut bytes = z & 0x7f;
    let mut len = 1;
    let mut k = 1;
    while k < N {
        let more = u32::from(z >> (7 * k) != 0);
        bytes |= (z & (0x7f << (7 * k))) << k | more << (8 * k - 1);
        len += more;
        k += 1;
    }
    head.word(u64::from(bytes), len)
}

/// The varint of a number below 2^56, and its length.
#[inline(always)]
fn varint(z: u64) -> (u64, u32) {
    let len = varint_len(z);
    (spread(z) | continued(len), len)
}

#[inline(always)]
const fn varint_len(z: u64) -> u32 {
    (70 - (z | 1).leading_zeros()) / 7
}

/// Eight groups of seven bits, one a byte.
#[inline(always)]
const fn spread(z: u64) -> u64 {
    let x = (z & 0x0fff_ffff) | ((z & 0x00ff_ffff_f000_0000) << 4);
    let x = (x & 0x0000_3fff_0000_3fff) | ((x & 0x0fff_c000_0fff_c000) << 2);
    (x & 0x007f_007f_007f_007f) | ((x & 0x3f80_3f80_3f80_3f80) << 1)
}

/// The bits that say of each byte but the last that more follow.
#[inline(always)]
const fn continued(len: u32) -> u64 {
    0x8080_8080_8080_8080 & ((1 << (8 * (len - 1))) - 1)
}

#[inline(always)]
const fn zigzag_int(v: i32) -> u32 {
    ((v << 1) ^ (v >> 31)) as u32
}

/// Numbers as Avro's bytes: a length, and two's complement, big-endian, as short as holds the sign.
pub(super) fn unscaled<W: Word>(values: &[i64], head: Head, out: &mut Words<W>) {
    each(values, out, |v| {
        let len = signed_len(magnitude(v));
        let bytes = (v as u64).swap_bytes() >> (64 - 8 * len);
        head.word(W::from(bytes) << 8 | W::from(2 * len as u8), 1 + len)
    });
}

/// Of how many bytes the longest is, without its length.
pub(super) fn longest_unscaled(values: &[i64]) -> usize {
    signed_len(values.iter().fold(0, |most, v| most | magnitude(*v))) as usize
}

#[inline(always)]
const fn magnitude(v: i64) -> u64 {
    (v ^ (v >> 63)) as u64
}

#[inline(always)]
const fn signed_len(magnitude: u64) -> u32 {
    (72 - magnitude.leading_zeros()) / 8
}

/// Texts of at most 63 bytes that fit into a word with their length and head.
pub(super) fn texts<W: Word>(
    texts: impl Iterator<Item = (W, usize)>,
    head: Head,
    out: &mut Words<W>,
) {
    for (word, (bytes, len)) in out.iter_mut().zip(texts) {
        *word = head.word(bytes << 8 | W::from(2 * len as u8), 1 + len as u32);
    }
}

/// Values of the same length, which may be 0.
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
pub(super) fn widen(narrow: &Words<u64>, out: &mut Words<u128>) {
    const COUNT: u64 = 0xff << 56;
    each(narrow, out, |word| {
        u128::from(word & !COUNT) | u128::from(word & COUNT) << 64
    });
}

/// Heads alone.
pub(super) fn same(head: Head, out: &mut Words<u64>) {
    out.fill(head.alone());
}

/// A zero byte, or nothing, as `lengths` says.
pub(super) fn zeros(lengths: &[u32; BLOCK], out: &mut Words<u64>) {
    each(lengths, out, u64::counted);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::push_long;

    /// Every power of two and what is near it, both signs.
    fn boundaries() -> Vec<i64> {
        let mut values = vec![0, i64::MIN, i64::MAX];
        for shift in 0..63 {
            for near in -2..=2 {
                values.push((1_i64 << shift).wrapping_add(near));
                values.push(-(1_i64 << shift) + near);
            }
        }
        values
    }

    fn written<W: Word + Into<u128>>(word: W) -> Vec<u8> {
        let bytes = word.into().to_le_bytes();
        let len = usize::from(bytes[W::MOST]);
        assert!(len <= W::MOST);
        bytes[..len].to_vec()
    }

    fn expected(head: Head, value: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = vec![head.byte; head.len()];
        value(&mut out);
        out
    }

    const HEADS: [Head; 2] = [Head::NONE, Head::of(2)];

    #[test]
    fn numbers_are_as_in_the_slow_form() {
        let check = |block: &[i64]| {
            for head in HEADS {
                let slow = |v| expected(head, |out| push_long(v, out));
                if let Ok(block) = block
                    .iter()
                    .map(|v| i32::try_from(*v))
                    .collect::<Result<Vec<_>, _>>()
                {
                    let mut out = [0; BLOCK + 8];
                    ints(&block, head, &mut out);
                    for (v, word) in block.iter().zip(out) {
                        assert_eq!(written(word), slow(i64::from(*v)), "{v} of {block:?}");
                    }
                }
                let lengths = long_lengths(block);
                if is_narrow(head, lengths.0 as usize) {
                    let mut out = [0; BLOCK + 8];
                    longs(block, head, lengths, &mut out);
                    for (v, word) in block.iter().zip(out) {
                        assert_eq!(written(word), slow(*v), "{v} of {block:?}");
                    }
                }
                let mut out = [0; BLOCK + 8];
                wide_longs(block, head, &mut out);
                for (v, word) in block.iter().zip(out) {
                    assert_eq!(written(word), slow(*v), "{v} of {block:?}");
                }
            }
        };
        let values = boundaries();
        for v in &values {
            // Alone; beside one of one byte; beside one a little longer.
            check(&[*v]);
            check(&[*v, 0, *v]);
            check(&[*v, v.saturating_mul(128)]);
        }
        for block in values.chunks(BLOCK) {
            check(block);
        }
        check(&[]);
    }

    #[test]
    fn wide_words_hold_the_same() {
        let values = [0, -1, 63, 64, -(1 << 40)];
        let mut narrow = [0; BLOCK + 8];
        longs(&values, Head::of(2), long_lengths(&values), &mut narrow);
        let mut wide = [0; BLOCK + 8];
        widen(&narrow, &mut wide);
        for (narrow, wide) in narrow.iter().zip(wide) {
            assert_eq!(written(*narrow), written(wide));
        }
    }

    #[test]
    fn decimals_are_as_short_as_holds_the_sign() {
        for v in boundaries() {
            let be = v.to_be_bytes();
            let redundant = (0..7)
                .take_while(|i| {
                    (be[*i] == 0 && be[i + 1] < 0x80) || (be[*i] == 0xff && be[i + 1] >= 0x80)
                })
                .count();
            assert_eq!(longest_unscaled(&[0, v]), 8 - redundant, "{v}");
            for head in HEADS {
                let expected = expected(head, |out| {
                    push_long(8 - redundant as i64, out);
                    out.extend_from_slice(&be[redundant..]);
                });
                let mut out = [0_u128; BLOCK + 8];
                unscaled(&[v], head, &mut out);
                assert_eq!(written(out[0]), expected, "{v}");
                if is_narrow(head, 9 - redundant) {
                    let mut out = [0_u64; BLOCK + 8];
                    unscaled(&[v], head, &mut out);
                    assert_eq!(written(out[0]), expected, "{v}");
                }
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
                assert_eq!(u128::load(&data, at, len).to_le_bytes()[..], out);
                if len < 8 {
                    assert_eq!(u64::load(&data, at, len).to_le_bytes()[..], out[..8]);
                }
            }
        }
        assert_eq!(u64::load(&data, 21, 0), 0);
        assert_eq!(u64::load(&data, usize::MAX, 3), 0);
    }
}
