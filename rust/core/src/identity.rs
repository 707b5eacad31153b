//! A record's identity and the pure functions that route it.
//!
//! Every ingress record carries `(job, split, seq)` in one small header, every egress record the same plus
//! `(attempt, child, of)`. Partitions are functions of identity, so that a duplicate always meets its twin.

use std::fmt;

/// Name of the header that carries the identity.
pub const HEADER: &str = "kf-id";
/// Version byte of the header layout.
pub const VERSION: u8 = 1;
/// Bytes of an ingress identity: version 1, job 8, split 4, seq 4, all big-endian.
pub const INGRESS_LEN: usize = 17;
/// Bytes of an egress identity: ingress, attempt 4, child 4, of 4.
pub const EGRESS_LEN: usize = 29;
/// Rows with neighbouring `seq` that share a partition when a topic has no key, so that batches stay full.
pub const SPREAD_RUN: u32 = 1_000;

/// A job's number; shown as 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for JobId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// `(job, split, seq)`: which source row a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub job: JobId,
    pub split: u32,
    pub seq: u32,
}

/// Which answer a record is: child `child` of `of` from one attempt at an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EgressIdentity {
    pub input: Identity,
    /// Tells two processings of one input apart (a crash, a rebalance); larger is later within one store.
    pub attempt: u32,
    pub child: u32,
    pub of: u32,
}

/// Why a header is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("header {HEADER} has version {0}, this build reads version {VERSION}")]
    Version(u8),
    #[error("header {HEADER} has {got} bytes, expected {expected}")]
    Length { got: usize, expected: usize },
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Identity {
    pub fn to_bytes(self) -> [u8; INGRESS_LEN] {
        let mut out = [0; INGRESS_LEN];
        out[0] = VERSION;
        out[1..9].copy_from_slice(&self.job.0.to_be_bytes());
        out[9..13].copy_from_slice(&self.split.to_be_bytes());
        out[13..17].copy_from_slice(&self.seq.to_be_bytes());
        out
    }

    /// Reads an ingress identity.
    ///
    /// # Errors
    /// If the length or the version byte is not what this build writes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IdentityError> {
        check(bytes, INGRESS_LEN)?;
        Ok(Self::read(bytes))
    }

    fn read(bytes: &[u8]) -> Self {
        let mut job = [0; 8];
        job.copy_from_slice(&bytes[1..9]);
        Self {
            job: JobId(u64::from_be_bytes(job)),
            split: u32_at(bytes, 9),
            seq: u32_at(bytes, 13),
        }
    }

    /// The partition of a record without a key: runs of [`SPREAD_RUN`] rows, splits starting at different partitions.
    pub fn partition(self, partitions: u32) -> i32 {
        let run = u64::from(self.split).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let slot = (run + u64::from(self.seq / SPREAD_RUN)) % u64::from(partitions.max(1));
        // `partitions` is a Kafka partition count, itself an i32.
        i32::try_from(slot).unwrap_or(0)
    }
}

impl EgressIdentity {
    pub fn to_bytes(self) -> [u8; EGRESS_LEN] {
        let mut out = [0; EGRESS_LEN];
        out[..INGRESS_LEN].copy_from_slice(&self.input.to_bytes());
        out[17..21].copy_from_slice(&self.attempt.to_be_bytes());
        out[21..25].copy_from_slice(&self.child.to_be_bytes());
        out[25..29].copy_from_slice(&self.of.to_be_bytes());
        out
    }

    /// Reads an egress identity.
    ///
    /// # Errors
    /// If the length or the version byte is not what this build writes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IdentityError> {
        check(bytes, EGRESS_LEN)?;
        Ok(Self {
            input: Identity::read(bytes),
            attempt: u32_at(bytes, 17),
            child: u32_at(bytes, 21),
            of: u32_at(bytes, 25),
        })
    }
}

fn check(bytes: &[u8], expected: usize) -> Result<(), IdentityError> {
    match bytes.first() {
        Some(&v) if v != VERSION => Err(IdentityError::Version(v)),
        _ if bytes.len() != expected => Err(IdentityError::Length {
            got: bytes.len(),
            expected,
        }),
        _ => Ok(()),
    }
}

/// The partition Java's default partitioner gives a key, so that any client agrees.
pub fn key_partition(key: &[u8], partitions: u32) -> i32 {
    let slot = (murmur2(key) & 0x7fff_ffff) % partitions.max(1);
    i32::try_from(slot).unwrap_or(0)
}

/// MurmurHash2 as Kafka's `org.apache.kafka.common.utils.Utils.murmur2` computes it (seed 0x9747b28c).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    // Kafka keys are far below 4 GiB; the length is only mixed into the seed.
    let mut h: u32 = 0x9747_b28c ^ (data.len() as u32);
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn identities_survive_the_wire(job: u64, split: u32, seq: u32, attempt: u32, child: u32, of: u32) {
            let input = Identity { job: JobId(job), split, seq };
            prop_assert_eq!(Identity::from_bytes(&input.to_bytes()), Ok(input));
            let egress = EgressIdentity { input, attempt, child, of };
            prop_assert_eq!(EgressIdentity::from_bytes(&egress.to_bytes()), Ok(egress));
        }

        #[test]
        fn partitions_are_in_range(split: u32, seq: u32, count in 1u32..1_000, key: Vec<u8>) {
            let id = Identity { job: JobId(1), split, seq };
            prop_assert!((0..count as i32).contains(&id.partition(count)));
            prop_assert!((0..count as i32).contains(&key_partition(&key, count)));
        }
    }

    #[test]
    fn murmur2_is_kafkas() {
        // Values of Kafka's own UtilsTest.testMurmur2.
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn a_wrong_header_is_named() {
        assert_eq!(
            Identity::from_bytes(&[2; 17]),
            Err(IdentityError::Version(2))
        );
        assert_eq!(
            EgressIdentity::from_bytes(&[1; 17]),
            Err(IdentityError::Length {
                got: 17,
                expected: 29
            })
        );
        assert_eq!(
            Identity::from_bytes(&[]),
            Err(IdentityError::Length {
                got: 0,
                expected: 17
            })
        );
    }
}
