//! Decimals on the wire: big-endian two's complement, of any length.

use arrow_buffer::i256;

/// What numbers of 64 bits are below that have at most `precision` digits.
pub(super) fn limit(precision: usize) -> u64 {
    let power = POWERS.get(precision).copied();
    power.map_or(u64::MAX, |power| u64::try_from(power).unwrap_or(u64::MAX))
}

/// The value, if it has at most `precision` digits, which are at most 38.
pub(super) fn narrow(bytes: &[u8], precision: usize) -> Option<i128> {
    let value = match bytes {
        [] => return None,
        // Most are written as short as they can be.
        [first, ..] if bytes.len() <= 8 => {
            let mut be = [sign(*first); 8];
            be[8 - bytes.len()..].copy_from_slice(bytes);
            i128::from(i64::from_be_bytes(be))
        }
        [first, ..] if bytes.len() <= 16 => {
            let mut be = [sign(*first); 16];
            be[16 - bytes.len()..].copy_from_slice(bytes);
            i128::from_be_bytes(be)
        }
        _ => return wide(bytes, precision)?.to_i128(),
    };
    (value.unsigned_abs() < *POWERS.get(precision)?).then_some(value)
}

/// The value, if it has at most `precision` digits, which are at most 76.
pub(crate) fn wide(bytes: &[u8], precision: usize) -> Option<i256> {
    let sign = sign(*bytes.first()?);
    let mut be = [sign; 32];
    match bytes.len().checked_sub(32) {
        None | Some(0) => be[32 - bytes.len()..].copy_from_slice(bytes),
        Some(extra) => {
            let (lead, low) = bytes.split_at(extra);
            if lead.iter().any(|b| *b != sign) || (low[0] & 0x80) != (sign & 0x80) {
                return None;
            }
            be.copy_from_slice(low);
        }
    }
    let value = i256::from_be_bytes(be);
    crate::gate::has_digits(value, precision).then_some(value)
}

const fn sign(first: u8) -> u8 {
    if first & 0x80 == 0 { 0 } else { 0xff }
}

/// Powers of ten up to the 38 digits of an i128.
const POWERS: [u128; 39] = {
    let mut powers = [1; 39];
    let mut i = 1;
    while i < 39 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_is_wide_where_both_are() {
        for value in [
            0,
            1,
            -1,
            99,
            100,
            -99,
            -100,
            127,
            128,
            -128,
            -129,
            i64::MAX.into(),
            i128::MAX,
            i128::MIN,
        ] {
            let be = value.to_be_bytes();
            for length in 0..=40 {
                // Cut short it is another number, and a longer one is the same with more of its sign.
                let bytes: Vec<u8> = match length {
                    0..=16 => be[16 - length..].to_vec(),
                    _ => [vec![sign(be[0]); length - 16], be.to_vec()].concat(),
                };
                for precision in [1, 2, 3, 19, 38] {
                    let expected = wide(&bytes, precision).and_then(i256::to_i128);
                    assert_eq!(narrow(&bytes, precision), expected, "{bytes:?} {precision}");
                }
            }
        }
    }
}
