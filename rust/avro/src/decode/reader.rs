//! Reading a datum: every length is held against what remains before anything is taken for it.

use crate::error::DecodeError;
use crate::wire::unzigzag;

/// Elements of no bytes that one message may hold: their number is bounded by nothing in the message.
const MAX_EMPTY_ELEMENTS: usize = 65_536;

/// What went wrong, where; the column adds its path. Boxed, so that what is read comes back in registers.
#[derive(Debug)]
pub(super) struct Fault(Box<What>);

#[derive(Debug)]
enum What {
    Truncated(usize),
    LengthTooLarge {
        at: usize,
        length: i64,
        remaining: usize,
    },
    Invalid {
        at: usize,
        reason: String,
    },
    Full,
}

impl Fault {
    #[cold]
    pub(super) fn of(self, path: &str) -> Box<DecodeError> {
        let path = path.to_owned();
        Box::new(match *self.0 {
            What::Truncated(at) => DecodeError::Truncated { path, at },
            What::LengthTooLarge {
                at,
                length,
                remaining,
            } => DecodeError::LengthTooLarge {
                path,
                at,
                length,
                remaining,
            },
            What::Invalid { at, reason } => DecodeError::Invalid { path, at, reason },
            What::Full => DecodeError::BatchFull { path },
        })
    }

    #[cold]
    pub(super) fn full() -> Self {
        Self(Box::new(What::Full))
    }

    #[cold]
    fn truncated(at: usize) -> Self {
        Self(Box::new(What::Truncated(at)))
    }
}

pub(super) struct Reader<'a> {
    datum: &'a [u8],
    at: usize,
    empty_elements: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(datum: &'a [u8]) -> Self {
        Self {
            datum,
            at: 0,
            empty_elements: 0,
        }
    }

    pub(super) const fn remaining(&self) -> usize {
        self.datum.len() - self.at
    }

    #[cold]
    pub(super) fn invalid(&self, reason: impl Into<String>) -> Fault {
        Fault(Box::new(What::Invalid {
            at: self.at,
            reason: reason.into(),
        }))
    }

    #[cold]
    fn too_large(&self, length: i64) -> Fault {
        let remaining = self.remaining();
        Fault(Box::new(What::LengthTooLarge {
            at: self.at,
            length,
            remaining,
        }))
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self
            .datum
            .get(self.at)
            .ok_or_else(|| Fault::truncated(self.at))?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, Fault> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(unzigzag(first.into()));
        }
        let mut z = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.byte()?;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                return Err(self.invalid("a number of more than 64 bits"));
            }
            z |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(unzigzag(z));
            }
            shift += 7;
        }
    }

    #[inline]
    pub(super) fn int(&mut self) -> Result<i32, Fault> {
        let v = self.long()?;
        i32::try_from(v).map_err(|_| self.invalid(format!("{v} is out of range of int")))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        match self
            .datum
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<N>())
        {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(Fault::truncated(self.datum.len())),
        }
    }

    pub(super) fn take(&mut self, size: usize) -> Result<&'a [u8], Fault> {
        match self
            .at
            .checked_add(size)
            .and_then(|end| self.datum.get(self.at..end))
        {
            Some(bytes) => {
                self.at += size;
                Ok(bytes)
            }
            None => Err(Fault::truncated(self.datum.len())),
        }
    }

    /// Bytes or a string: a length, and that many bytes.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(size) if size <= self.remaining() => self.take(size),
            Ok(_) => Err(self.too_large(length)),
            Err(_) => Err(self.invalid(format!("negative length {length}"))),
        }
    }

    /// The number of elements in the next block of an array or a map; 0 ends it. `min_size` is the fewest bytes of one.
    pub(super) fn block(&mut self, min_size: usize) -> Result<usize, Fault> {
        let length = self.long()?;
        if length < 0 {
            let bytes = self.long()?;
            if usize::try_from(bytes).map_or(true, |bytes| bytes > self.remaining()) {
                return Err(self.too_large(bytes));
            }
        }
        let Ok(count) = usize::try_from(length.unsigned_abs()) else {
            return Err(self.too_large(length));
        };
        if min_size == 0 {
            self.empty_elements = self.empty_elements.saturating_add(count);
            if self.empty_elements > MAX_EMPTY_ELEMENTS {
                return Err(self.too_large(length));
            }
        } else if count > self.remaining() / min_size {
            return Err(self.too_large(length));
        }
        Ok(count)
    }
}
