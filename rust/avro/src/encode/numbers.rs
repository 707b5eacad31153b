//! Numbers, and the lengths of texts and lists, as words: each function is a straight loop over a block.

use std::ops::Range;

use arrow_buffer::BooleanBuffer;
use arrow_buffer::bit_chunk_iterator::BitChunks;

use super::words::{Head, WideWords, Word, Words};
use crate::wire::zigzag;

#[inline(always)]
fn each<T: Copy, W: Word>(values: &[T], head: Head, out: &mut W::Block, f: impl Fn(T) -> (W, u32)) {
    head.each(values.iter().copied(), out, f);
}

/// Booleans.
#[inline(always)]
pub(super) fn bits(values: &BooleanBuffer, range: Range<usize>, head: Head, out: &mut Words) {
    let (from, count) = (values.offset() + range.start, range.len());
    let chunks = BitChunks::new(values.values(), from, count);
    for (chunk, out) in chunks.iter_padded().zip(out.chunks_mut(64)) {
        for (bit, word) in (0..64).zip(out) {
            *word = head.word(chunk >> bit & 1, 1);
        }
    }
}

/// Of how many bytes the longest varint is.
#[inline(always)]
pub(super) fn int_length(values: &[i32]) -> u32 {
    let most = values.iter().fold(0, |most, v| most | zigzag_int(*v));
    varint_len(most.into())
}

/// Ints whose varints are of at most so many bytes.
#[inline(always)]
pub(super) fn ints(values: &[i32], head: Head, longest: u32, out: &mut Words) {
    // Each is a loop of its own: what it costs grows with the length.
    match longest {
        1 => each(values, head, out, |v| (u64::from(zigzag_int(v)), 1)),
        2 => each(values, head, out, |v| short::<2>(zigzag_int(v))),
        3 => each(values, head, out, |v| short::<3>(zigzag_int(v))),
        4 => each(values, head, out, |v| short::<4>(zigzag_int(v))),
        _ => each(values, head, out, |v| varint(u64::from(zigzag_int(v)))),
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
pub(super) fn longs(values: &[i64], head: Head, (longest, shortest): (u32, u32), out: &mut Words) {
    match longest {
        1 => each(values, head, out, |v| (zigzag(v), 1)),
        2 => each(values, head, out, |v| short::<2>(zigzag(v) as u32)),
        3 => each(values, head, out, |v| short::<3>(zigzag(v) as u32)),
        4 => each(values, head, out, |v| short::<4>(zigzag(v) as u32)),
        // Times and keys mostly are: nothing is left to decide by value.
        _ if longest == shortest => {
            let more = continued(longest);
            each(values, head, out, |v| (spread(zigzag(v)) | more, longest));
        }
        _ => each(values, head, out, |v| varint(zigzag(v))),
    }
}

/// Any longs.
#[inline(always)]
pub(super) fn wide_longs(values: &[i64], head: Head, lengths: (u32, u32), out: &mut WideWords) {
    // Times of microseconds mostly are of eight bytes.
    if lengths == (8, 8) {
        let more = continued(8);
        return each(values, head, out, |v| {
            (u128::from(spread(zigzag(v)) | more), 8)
        });
    }
    each(values, head, out, wide_long);
}

#[inline(always)]
fn wide_long(v: i64) -> (u128, u32) {
    let z = zigzag(v);
    if z < 1 << 56 {
        let (bytes, len) = varint(z);
        return (u128::from(bytes), len);
    }
    // Eight bytes that all go on, and one or two for the eight bits that are left.
    let low = u128::from(spread(z & ((1 << 56) - 1)) | 0x8080_8080_8080_8080);
    let (high, len) = varint(z >> 56);
    (low | u128::from(high) << 64, 8 + len)
}

/// Of bytes that a length is written as, so that it fits into a narrow word with its head.
const LENGTH: u32 = 6;

/// Lengths, unless one is longer than any memory; gives how many bytes the longest is written as.
#[inline(always)]
pub(super) fn lengths(lengths: &[usize], head: Head, out: &mut Words) -> Option<usize> {
    let most = lengths.iter().fold(0, |most, len| most | len);
    let longest = varint_len((most as u64).saturating_mul(2));
    match longest {
        1 => each(lengths, head, out, |len| (2 * len as u64, 1)),
        2 => each(lengths, head, out, |len| short::<2>(2 * len as u32)),
        _ if longest <= LENGTH => {
            each(lengths, head, out, |len| varint(2 * len as u64));
        }
        _ => return None,
    }
    Some(longest as usize)
}

/// The varint of a number below 2^(7 N), without a branch; N is at most 4.
#[inline(always)]
fn short<const N: u32>(z: u32) -> (u64, u32) {
    let mut bytes = z & 0x7f;
    let mut len = 1;
    let mut k = 1;
    while k < N {
        let more = u32::from(z >> (7 * k) != 0);
        bytes |= (z & (0x7f << (7 * k))) << k | more << (8 * k - 1);
        len += more;
        k += 1;
    }
    (u64::from(bytes), len)
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
pub(super) fn unscaled<W: Word>(values: &[i64], head: Head, out: &mut W::Block) {
    each(values, head, out, |v| {
        let len = signed_len(magnitude(v));
        let bytes = (v as u64).swap_bytes() >> (64 - 8 * len);
        (W::from(bytes) << 8 | W::from(2 * len as u8), 1 + len)
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
    use super::super::words::{BLOCK, WordBlock, is_narrow};
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

    fn written<B: WordBlock>(block: &B, slot: usize) -> Vec<u8> {
        let mut stage = [0; _];
        let len = block.store(slot, &mut stage, 0);
        assert!(len < size_of::<B::Word>());
        stage[..len].to_vec()
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
                    let mut out = Words::EMPTY;
                    ints(&block, head, int_length(&block), &mut out);
                    for (slot, v) in block.iter().enumerate() {
                        assert_eq!(written(&out, slot), slow(i64::from(*v)), "{v} of {block:?}");
                    }
                }
                let lengths = long_lengths(block);
                if is_narrow(head, lengths.0 as usize) {
                    let mut out = Words::EMPTY;
                    longs(block, head, lengths, &mut out);
                    for (slot, v) in block.iter().enumerate() {
                        assert_eq!(written(&out, slot), slow(*v), "{v} of {block:?}");
                    }
                }
                let mut out = WideWords::EMPTY;
                wide_longs(block, head, lengths, &mut out);
                for (slot, v) in block.iter().enumerate() {
                    assert_eq!(written(&out, slot), slow(*v), "{v} of {block:?}");
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
                let mut out = WideWords::EMPTY;
                unscaled::<u128>(&[v], head, &mut out);
                assert_eq!(written(&out, 0), expected, "{v}");
                if is_narrow(head, 9 - redundant) {
                    let mut out = Words::EMPTY;
                    unscaled::<u64>(&[v], head, &mut out);
                    assert_eq!(written(&out, 0), expected, "{v}");
                }
            }
        }
    }

    #[test]
    fn booleans_are_of_their_slots() {
        let values: BooleanBuffer = (0..3 * BLOCK).map(|i| i % 3 == 0).collect();
        for values in [values.slice(0, BLOCK), values.slice(5, 2 * BLOCK)] {
            for range in [0..BLOCK, 3..70, 9..10, 7..7] {
                let mut out = Words::EMPTY;
                bits(&values, range.clone(), Head::of(2), &mut out);
                for (slot, i) in range.enumerate() {
                    assert_eq!(written(&out, slot), [2, u8::from(values.value(i))]);
                }
            }
        }
    }
}
