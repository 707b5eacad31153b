//! How a message says which schema it was written with, in the two forms that registry clients know: a prefix, `0x00`
//! and the schema id as a big-endian u32 before the datum; or a header, [`VALUE_HEADER`], that carries `0x01` and the
//! schema's GUID, while the message is the bare datum.

use std::fmt;
use std::str::FromStr;

use crate::error::FrameError;

/// Bytes before the datum in the prefixed form.
pub const FRAME_BYTES: usize = 5;
/// The header that names the schema of a message's value.
pub const VALUE_HEADER: &str = "__value_schema_id";
/// Bytes of a header's value that carries a GUID.
pub const GUID_HEADER_BYTES: usize = 17;

const ID_MAGIC: u8 = 0;
const GUID_MAGIC: u8 = 1;

/// What an encoder puts before each datum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// `0x00` and this schema id.
    Id(u32),
    /// Nothing: the message's header names the schema, see [`Guid::header`].
    Guid,
}

impl Frame {
    /// The bytes before each datum, if there are any.
    #[must_use]
    pub const fn prefix(self) -> Option<[u8; FRAME_BYTES]> {
        match self {
            Self::Id(id) => Some(bytes(id)),
            Self::Guid => None,
        }
    }
}

/// A schema id frames with itself.
impl From<u32> for Frame {
    fn from(id: u32) -> Self {
        Self::Id(id)
    }
}

/// A schema's GUID in its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// The value of [`VALUE_HEADER`].
    #[must_use]
    pub fn header(self) -> [u8; GUID_HEADER_BYTES] {
        let mut out = [GUID_MAGIC; GUID_HEADER_BYTES];
        out[1..].copy_from_slice(&self.0);
        out
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// From 8-4-4-4-12 hexadecimal digits, as registries write it.
impl FromStr for Guid {
    type Err = FrameError;

    fn from_str(text: &str) -> Result<Self, FrameError> {
        let bad = || FrameError::BadGuid {
            text: text.chars().take(60).collect(),
        };
        if text.len() != 36 {
            return Err(bad());
        }
        let mut digits = Vec::with_capacity(32);
        for (i, c) in text.chars().enumerate() {
            match (i, c.to_digit(16)) {
                (8 | 13 | 18 | 23, None) if c == '-' => {}
                (8 | 13 | 18 | 23, _) | (_, None) => return Err(bad()),
                (_, Some(digit)) => digits.push(digit as u8),
            }
        }
        let mut out = [0; 16];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(out))
    }
}

/// The schema that a message names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaKey {
    /// By its id.
    Id(u32),
    /// By its GUID.
    Guid(Guid),
}

impl fmt::Display for SchemaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "id {id}"),
            Self::Guid(guid) => write!(f, "GUID {guid}"),
        }
    }
}

/// The schema and the datum of a message, whichever form it has: the header decides where there is one.
///
/// # Errors
/// [`FrameError`] when neither the header nor the message's first bytes name a schema.
pub fn read<'a>(
    header: Option<&[u8]>,
    message: &'a [u8],
) -> Result<(SchemaKey, &'a [u8]), FrameError> {
    match header {
        Some(header) => Ok((parse_header(header)?, message)),
        None => split(message).map(|(id, datum)| (SchemaKey::Id(id), datum)),
    }
}

/// The schema that the value of [`VALUE_HEADER`] names: by GUID, or by id, which clients write there too.
///
/// # Errors
/// [`FrameError::BadHeader`] when it is neither.
pub fn parse_header(value: &[u8]) -> Result<SchemaKey, FrameError> {
    match value {
        [ID_MAGIC, a, b, c, d] => Ok(SchemaKey::Id(u32::from_be_bytes([*a, *b, *c, *d]))),
        [GUID_MAGIC, guid @ ..] if guid.len() == 16 => {
            let mut out = [0; 16];
            out.copy_from_slice(guid);
            Ok(SchemaKey::Guid(Guid(out)))
        }
        _ => Err(FrameError::BadHeader {
            length: value.len(),
            first: value.first().copied(),
        }),
    }
}

/// Splits a message with a prefix into schema id and datum.
///
/// # Errors
/// [`FrameError`] when the message is shorter than a frame or doesn't start with `0x00`.
pub fn split(message: &[u8]) -> Result<(u32, &[u8]), FrameError> {
    match message {
        [ID_MAGIC, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [byte, ..] if *byte != ID_MAGIC => Err(FrameError::BadMagic { byte: *byte }),
        _ => Err(FrameError::TooShort {
            length: message.len(),
        }),
    }
}

/// Appends the prefix for schema `id` to `out`.
pub fn write(id: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&bytes(id));
}

/// The prefix for schema `id`.
#[must_use]
pub const fn bytes(id: u32) -> [u8; FRAME_BYTES] {
    let [a, b, c, d] = id.to_be_bytes();
    [ID_MAGIC, a, b, c, d]
}
