//! What is done above a frontier, as the metadata of its commit. Pure.
//!
//! `kf1:` and base64 of a form byte and its body: bits (0), one an offset from the committed one on, the lowest first; or
//! runs (1), LEB128 lengths of what is open and what is done in turn. The shorter of the two is written. What would be
//! longer than [`LONGEST`] is left out whole: then more is done again after a crash, and nothing is lost.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Bytes of metadata; a broker's default limit (`offset.metadata.max.bytes`) is 4,096.
pub const LONGEST: usize = 4_000;
const PREFIX: &str = "kf1:";
const BITS: u8 = 0;
const RUNS: u8 = 1;
/// What [`LONGEST`] holds in bytes.
const BODY: usize = (LONGEST - PREFIX.len()) / 4 * 3;
/// Offsets that metadata may speak of, whoever wrote it.
const SPAN: i64 = 1 << 20;

/// The metadata of a commit at `position`; empty where nothing is done above it, or too much to be told.
pub fn write(position: i64, done: impl Iterator<Item = i64>) -> String {
    let mut bits = vec![BITS];
    let mut runs = vec![RUNS];
    // The run of done offsets that is being read: its first, and one past its last.
    let mut run: Option<(i64, i64)> = None;
    let mut end = position;
    let mut close = |(first, past): (i64, i64)| {
        leb128(first.abs_diff(end), &mut runs);
        leb128(past.abs_diff(first), &mut runs);
        end = past;
    };
    for offset in done.filter(|offset| *offset >= position) {
        let at = offset.abs_diff(position);
        if at < 8 * BODY as u64 {
            let byte = 1 + (at / 8) as usize;
            bits.resize(bits.len().max(byte + 1), 0);
            if let Some(byte) = bits.get_mut(byte) {
                *byte |= 1 << (at % 8);
            }
        } else {
            bits.clear();
        }
        run = match run {
            Some((first, past)) if past == offset => Some((first, past + 1)),
            other => {
                other.map(&mut close);
                Some((offset, offset + 1))
            }
        };
    }
    let Some(last) = run else {
        return String::new();
    };
    close(last);
    // Cleared bits were too long.
    let body = if bits.first() == Some(&BITS) && bits.len() <= runs.len() {
        bits
    } else {
        runs
    };
    if body.len() > BODY {
        return String::new();
    }
    let mut text = PREFIX.to_owned();
    STANDARD_NO_PAD.encode_string(body, &mut text);
    text
}

/// What was done above `position`. Metadata of anybody else, or damaged, says nothing.
pub fn read(position: i64, metadata: &str) -> BTreeSet<i64> {
    let body = metadata
        .strip_prefix(PREFIX)
        .filter(|_| position.checked_add(SPAN).is_some())
        .and_then(|text| STANDARD_NO_PAD.decode(text).ok());
    match body.as_deref() {
        Some([BITS, bits @ ..]) => (position..)
            .zip(
                bits.iter()
                    .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)),
            )
            .filter_map(|(offset, done)| done.then_some(offset))
            .collect(),
        Some([RUNS, runs @ ..]) => of_runs(position, runs).unwrap_or_default(),
        _ => BTreeSet::new(),
    }
}

fn of_runs(position: i64, mut runs: &[u8]) -> Option<BTreeSet<i64>> {
    let (mut done, mut at) = (BTreeSet::new(), position);
    let limit = position.checked_add(SPAN)?;
    while !runs.is_empty() {
        let first = at.checked_add(unleb128(&mut runs)?)?;
        at = first.checked_add(unleb128(&mut runs)?)?;
        if at > limit {
            return None;
        }
        done.extend(first..at);
    }
    Some(done)
}

fn leb128(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn unleb128(bytes: &mut &[u8]) -> Option<i64> {
    let mut n = 0i64;
    for shift in (0..56).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= i64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            position in 0i64..1 << 40,
            gaps in prop::collection::vec((1i64..9, 1i64..300), 0..400),
        ) {
            let mut at = position;
            let mut done = BTreeSet::new();
            for (gap, run) in gaps {
                at += gap;
                done.extend(at..at + run);
                at += run;
            }
            let text = write(position, done.iter().copied());
            prop_assert!(text.len() <= LONGEST);
            prop_assert_eq!(text.is_empty(), done.is_empty());
            prop_assert_eq!(read(position, &text), done);
        }

        #[test]
        fn whatever_is_there_is_read(position in any::<i64>(), form in 0u8..3, body in prop::collection::vec(any::<u8>(), 0..200)) {
            let body = [&[form][..], &body].concat();
            let text = format!("{PREFIX}{}", STANDARD_NO_PAD.encode(body));
            prop_assert!(read(position, &text).len() <= SPAN as usize);
        }
    }

    #[test]
    fn the_worst_of_a_window_fits_and_what_does_not_is_left_out_whole() {
        let every_other = |n: i64| (0..n).map(|i| 2 * i + 1);
        let text = write(0, every_other(10_000));
        assert_eq!(read(0, &text).len(), 10_000);
        assert!(text.len() < LONGEST, "{}", text.len());
        assert_eq!(write(0, every_other(100_000)), "");
        // Far apart, but few.
        let far = [5, 10_000_000];
        assert_eq!(read(0, &write(0, far.into_iter())), BTreeSet::new());
        let near = [5, 900_000];
        assert_eq!(read(0, &write(0, near.into_iter())), near.into());
    }

    #[test]
    fn metadata_of_others_says_nothing() {
        for text in ["", "x", "kf1:", "kf1:!!", "kf1:AQ", "kf1:Af8"] {
            assert_eq!(read(3, text), BTreeSet::new(), "{text}");
        }
    }
}
