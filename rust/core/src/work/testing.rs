//! What simulations and tests of several parts share.

use super::task::Record;
use crate::identity::{Identity, JobId};

/// SplitMix64: enough for a simulation, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// In (0, 1).
    pub fn share(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.share().ln()).sqrt() * (std::f64::consts::TAU * self.share()).cos()
    }
}

/// A record of which only the offset and the key matter.
pub fn record(offset: i64, key: Option<usize>) -> Record {
    Record {
        offset,
        timestamp_ms: None,
        identity: Identity {
            job: JobId(1),
            split: 0,
            seq: 0,
        },
        key: key.map(|key| key.to_be_bytes().to_vec()),
        schema: None,
        headers: Vec::new(),
        payload: Vec::new(),
    }
}
