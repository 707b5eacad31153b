//! Uuids: 16 bytes, and their one textual form (8-4-4-4-12 hexadecimal digits).

/// The 16 bytes of a uuid in its one textual form.
pub(crate) fn parse(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let (mut out, mut digits) = ([0; 16], 0);
    for (i, c) in text.iter().enumerate() {
        if matches!(i, 8 | 13 | 18 | 23) {
            if *c != b'-' {
                return None;
            }
            continue;
        }
        let digit = u8::try_from(char::from(*c).to_digit(16)?).ok()?;
        out[digits / 2] = out[digits / 2] << 4 | digit;
        digits += 1;
    }
    Some(out)
}

/// Lower case, with hyphens.
pub(crate) fn text(bytes: &[u8; 16]) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let (mut out, mut at) = ([b'-'; 36], 0);
    for byte in bytes {
        if matches!(at, 8 | 13 | 18 | 23) {
            at += 1;
        }
        out[at] = HEX[usize::from(byte >> 4)];
        out[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let written = "00112233-4455-6677-8899-aabbccddeeff";
        let bytes = parse(written).unwrap();
        assert_eq!(bytes[0..3], [0x00, 0x11, 0x22]);
        assert_eq!(text(&bytes), written.as_bytes());
        assert_eq!(parse(&written.to_uppercase()), Some(bytes));
        for bad in [
            "",
            "00112233445566778899aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeefg",
            "0011223-34455-6677-8899-aabbccddeeff",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
