//! Variable-length integers out of a word: which byte is the last one is computed, and not looked for.

use crate::wire::unzigzag;

/// The first number of so many bytes, and its size, if it ends among them.
#[inline(always)]
pub(super) const fn varint(word: u64) -> Option<(i64, usize)> {
    // The first byte without its high bit is the last one of the number.
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    let last = ends.trailing_zeros();
    // Seven bits of each byte, put together in pairs, in fours, in eights.
    let sevens = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
    let pairs = sevens & 0x007f_007f_007f_007f | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    let eights = fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4;
    Some((unzigzag(eights), last as usize / 8 + 1))
}

/// The same of four bytes.
#[inline(always)]
pub(super) const fn varint_of_four(word: u32) -> Option<(i32, usize)> {
    let ends = !word & 0x8080_8080;
    if ends == 0 {
        return None;
    }
    let sevens = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f;
    let pairs = sevens & 0x007f_007f | (sevens & 0x7f00_7f00) >> 1;
    let fours = pairs & 0x3fff | (pairs & 0x3fff_0000) >> 2;
    let size = ends.trailing_zeros() as usize / 8 + 1;
    Some((((fours >> 1) as i32) ^ -((fours & 1) as i32), size))
}
