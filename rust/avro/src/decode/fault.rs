//! What is wrong with a message.

use crate::error::DecodeError;

/// What went wrong, where; the column adds its path. Boxed, so that what is read comes back in registers.
#[derive(Debug)]
pub(super) struct Fault(pub(super) Box<What>);

#[derive(Debug)]
pub(super) enum What {
    Truncated(usize),
    LengthTooLarge {
        at: usize,
        length: i64,
        remaining: usize,
    },
    TooManyElements {
        at: usize,
        count: usize,
        message: usize,
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
            What::TooManyElements { at, count, message } => DecodeError::TooManyElements {
                path,
                at,
                count,
                message,
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
    pub(super) fn truncated(at: usize) -> Self {
        Self(Box::new(What::Truncated(at)))
    }
}
