//! Numbers, and the lengths of texts and lists, as words: each function is a straight loop over a block.

use super::words::{Head, Word, Words, each};
use crate::wire::zigzag;

#[inline(always)]
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
#[inline(always)]
pub(super) fn long_lengths(values: &[i64]) -> (u32, u32) {
    let (most, least) = values.iter().fold((0, u64::MAX), |(most, least), v| {
        (most | zigzag(*v), least.min(zigzag(*v)))
    });
    (varint_len(most), varint_len(least))
}

/// Longs whose varints are of at most 7 bytes, with the head.
#[inline(always)]
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
#[inline(always)]
pub(super) fn wide_longs(values: &[i64], head: Head, lengths: (u32, u32), out: &mut Words<u128>) {
    // Times of microseconds mostly are of eight bytes.
    if lengths == (8, 8) {
        for (word, v) in out.iter_mut().zip(values) {
            *word = head.word(u128::from(spread(zigzag(*v)) | continued(8)), 8);
        }
        return;
    }
    // As a closure it would be too large to be inlined.
    for (word, v) in out.iter_mut().zip(values) {
        *word = wide_long(*v, head);
    }
}

#[inline(always)]
fn wide_long(v: i64, head: Head) -> u128 {
    let z = zigzag(v);
    if z < 1 << 56 {
        let (bytes, len) = varint(z);
        return head.word(u128::from(bytes), len);
    }
    // Eight bytes that all go on, and one or two for the eight bits that are left.
    let low = u128::from(spread(z & ((1 << 56) - 1)) | 0x8080_8080_8080_8080);
    let (high, len) = varint(z >> 56);
    head.word(low | u128::from(high) << 64, 8 + len)
}

/// Of bytes that a length is written as, so that it fits into a narrow word with its head.
const LENGTH: u32 = 6;

/// Lengths, unless one is longer than any memory.
#[inline(always)]
pub(super) fn lengths(lengths: &[usize], head: Head, out: &mut Words<u64>) -> bool {
    let most = lengths.iter().fold(0, |most, len| most | len);
    match most {
        0..0x40 => each(lengths, out, |len| head.word(2 * len as u64, 1)),
        0x40..0x2000 => each(lengths, out, |len| short::<2>(2 * len as u32, head)),
        _ if most < 1 << (7 * LENGTH - 1) => each(lengths, out, |len| {
            let (bytes, len) = varint(2 * len as u64);
            head.word(bytes, len)
        }),
        _ => return false,
    }
    true
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
#[inline(always)]
pub(super) fn unscaled<W: Word>(values: &[i64], head: Head, out: &mut Words<W>) {
    each(values, out, |v| {
        let len = signed_len(magnitude(v));
        let bytes = (v as u64).swap_bytes() >> (64 - 8 * len);
        head.word(W::from(bytes) << 8 | W::from(2 * len as u8), 1 + len)
    });
}

/// Of how many bytes the longest is, without its length.
#[inline(always)]
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

#[cfg(test)]
mod tests {
    use super::super::words::{BLOCK, is_narrow, widen};
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
                wide_longs(block, head, lengths, &mut out);
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
}
