//! Words that fit into one become one, so that a slot is written by as few stores as hold its bytes: to store a word costs
//! more than to put it behind another, which straight loops do for many slots at once.

use super::words::{COUNT, WideWords, Words};

/// Bits of a byte, and of the half of a wide word.
const BYTE: u64 = 8;
const HALF: u64 = 64;

/// The count of a word, of a byte less than a half or of two of them, in bits.
#[inline(always)]
const fn bits(last: u64) -> u64 {
    (last >> (HALF - BYTE)) * BYTE
}

/// The count of two words that become one, where it stands.
#[inline(always)]
const fn counts(one: u64, other: u64) -> u64 {
    (one & COUNT) + (other & COUNT)
}

/// A shift by any number of bits.
#[inline(always)]
const fn up(bytes: u64, by: u64) -> u64 {
    if by < HALF { bytes << by } else { 0 }
}

#[inline(always)]
const fn down(bytes: u64, by: u64) -> u64 {
    if by < HALF { bytes >> by } else { 0 }
}

// What is behind the count of a word may be anything: of the first word it is cleared, and that of the second is behind
// the count of both. There, its count is too.

/// Puts each of the words behind the one before it, with which it is of no more bytes than fit.
#[inline(always)]
pub(super) fn narrow(before: &mut Words, words: &Words, count: usize) {
    for (before, word) in before[..count].iter_mut().zip(words) {
        *before = of_two(*before, *word);
    }
}

/// The same before words.
#[inline(always)]
pub(super) fn narrow_before(before: &Words, words: &mut Words, count: usize) {
    for (before, word) in before[..count].iter().zip(words) {
        *word = of_two(*before, *word);
    }
}

#[inline(always)]
const fn of_two(one: u64, other: u64) -> u64 {
    let by = bits(one);
    let bytes = (one & !(u64::MAX << by)) | (other << by);
    (bytes & !COUNT) | counts(one, other)
}

/// The same, where they become wide.
#[inline(always)]
pub(super) fn widened(before: &Words, words: &Words, [low, high]: &mut WideWords, count: usize) {
    let words = before[..count].iter().zip(words);
    for ((low, high), (one, other)) in low.iter_mut().zip(high).zip(words) {
        let by = bits(*one);
        *low = (one & !(u64::MAX << by)) | (other << by);
        *high = (down(*other, HALF - by) & !COUNT) | counts(*one, *other);
    }
}

/// The same of wide words behind narrow ones.
#[inline(always)]
pub(super) fn wide_behind(before: &Words, [low, high]: &mut WideWords, count: usize) {
    for ((low, high), one) in low.iter_mut().zip(high).zip(&before[..count]) {
        let by = bits(*one);
        let across = down(*low, HALF - by);
        let bytes = (*high << by) | across;
        *low = (one & !(u64::MAX << by)) | (*low << by);
        *high = (bytes & !COUNT) | counts(*one, *high);
    }
}

/// The same of narrow words behind wide ones.
#[inline(always)]
pub(super) fn behind_wide([low, high]: &mut WideWords, words: &Words, count: usize) {
    for ((low, high), other) in low.iter_mut().zip(high).zip(&words[..count]) {
        let by = bits(*high);
        let above = by.max(HALF) - HALF;
        let across = down(*other, HALF.wrapping_sub(by)) | up(*other, by.wrapping_sub(HALF));
        let bytes = (*high & !(u64::MAX << above)) | across;
        *low = (*low & !up(u64::MAX, by)) | up(*other, by);
        *high = (bytes & !COUNT) | counts(*high, *other);
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::{BLOCK, Word, WordBlock};
    use super::*;

    /// What is behind the count of a word.
    const ANYTHING: u64 = 0x005a_5a5a_5a5a_5a5a;

    /// A narrow word of so many bytes, all of them this one.
    fn word(len: u64, byte: u8) -> u64 {
        let bytes = u64::from_le_bytes([byte; 8]) & u64::low(len as usize);
        bytes | ANYTHING & !u64::low(len as usize) | len << 56
    }

    /// The halves of a wide one.
    fn halves(len: u64, byte: u8) -> [u64; 2] {
        let bytes = u128::from_le_bytes([byte; 16]) & u128::low(len as usize);
        let anything = u128::from(ANYTHING) << 64 | u128::from_le_bytes([0xa5; 16]) >> 64;
        let word = bytes | anything & !u128::low(len as usize) | u128::from(len) << 120;
        [word as u64, (word >> 64) as u64]
    }

    fn check<B: WordBlock>(block: &B, slot: usize, one: u64, other: u64) {
        let mut stage = [0; _];
        let len = block.store(slot, &mut stage, 0);
        let expected = [vec![1; one as usize], vec![2; other as usize]].concat();
        assert_eq!(stage[..len], expected, "{one} and {other}");
    }

    #[test]
    fn words_of_every_length() {
        let fits = |most: usize| {
            let pairs = (0..16_u64).flat_map(|one| (0..16).map(move |other| (one, other)));
            pairs.filter(move |(one, other)| (one + other) as usize <= most)
        };
        for (slot, (one, other)) in (0..BLOCK).cycle().zip(fits(u128::MOST)) {
            let count = slot + 1;
            let (mut before, mut words) = (Words::EMPTY, Words::EMPTY);
            let (mut wide, mut wide_before) = (WideWords::EMPTY, WideWords::EMPTY);
            let is_narrow = |len: u64| len as usize <= u64::MOST;
            if is_narrow(one) {
                before[slot] = word(one, 1);
                [wide[0][slot], wide[1][slot]] = halves(other, 2);
                wide_behind(&before, &mut wide, count);
                check(&wide, slot, one, other);
            }
            if is_narrow(other) {
                words[slot] = word(other, 2);
                [wide_before[0][slot], wide_before[1][slot]] = halves(one, 1);
                behind_wide(&mut wide_before, &words, count);
                check(&wide_before, slot, one, other);
            }
            if is_narrow(one) && is_narrow(other) {
                widened(&before, &words, &mut wide, count);
                check(&wide, slot, one, other);
            }
            if is_narrow(one + other) {
                let behind = words;
                narrow_before(&before, &mut words, count);
                check(&words, slot, one, other);
                narrow(&mut before, &behind, count);
                check(&before, slot, one, other);
            }
        }
    }
}
