//! The Confluent wire frame: `0x00`, then the schema id as a big-endian u32, then the datum.

use crate::error::FrameError;

/// Bytes before the datum.
pub const FRAME_BYTES: usize = 5;

/// Splits a message into schema id and datum.
///
/// # Errors
/// [`FrameError`] when the message is shorter than a frame or doesn't start with `0x00`.
pub fn split(message: &[u8]) -> Result<(u32, &[u8]), FrameError> {
    match message {
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [byte, ..] if *byte != 0 => Err(FrameError::BadMagic { byte: *byte }),
        _ => Err(FrameError::TooShort {
            length: message.len(),
        }),
    }
}

/// Appends the frame for schema `id` to `out`.
pub fn write(id: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&bytes(id));
}

/// The frame for schema `id`.
#[must_use]
pub fn bytes(id: u32) -> [u8; FRAME_BYTES] {
    let [a, b, c, d] = id.to_be_bytes();
    [0, a, b, c, d]
}
