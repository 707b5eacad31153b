//! Decisions read from the fuzzer's bytes.

/// The bytes not yet used. Where they end every decision is the first there is, so that short inputs are simple ones.
#[derive(Debug)]
pub struct Choices<'a>(pub &'a [u8]);

impl<'a> Choices<'a> {
    /// The next byte, or 0.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    /// A number below `n`, which is at most 256; 0 where there is nothing to choose.
    pub fn below(&mut self, n: usize) -> usize {
        match n {
            0 | 1 => 0,
            n => usize::from(self.byte()) % n,
        }
    }

    /// One of the options.
    pub fn one<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.below(options.len())]
    }

    /// At most `n` bytes; what is over stays.
    pub fn split(&mut self, n: usize) -> Choices<'a> {
        let (first, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        Choices(first)
    }

    /// Whether all bytes are used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
