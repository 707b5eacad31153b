//! Which inputs are landed: roaring bitmaps by job and split, kept as a sidecar that the commit names.
//!
//! Layout: `KFSEEN1\0`, number of entries (u32), then per entry job (u64), split (u32), and two bitmaps, each with its
//! length in bytes (u32) before it; all big-endian. At the end the first 8 bytes of the SHA-256 of what is before.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use sha2::{Digest, Sha256};

use super::identities::{Row, read_identities};
use super::{Storage, TableState};
use crate::context::Context;
use crate::error::Result;
use crate::identity::JobId;

const MAGIC: &[u8; 8] = b"KFSEEN1\0";

/// The inputs of one split.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeenSplit {
    /// One complete family is in the table.
    pub landed: RoaringBitmap,
    /// Answers came again after that, from another attempt or another copy.
    pub twice: RoaringBitmap,
}

/// The inputs of all jobs of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen(pub BTreeMap<(JobId, u32), SeenSplit>);

impl Seen {
    /// The landed inputs of one job, by split.
    pub fn of(&self, job: JobId) -> impl Iterator<Item = (u32, &SeenSplit)> {
        self.0
            .range((job, 0)..=(job, u32::MAX))
            .map(|((_, split), seen)| (*split, seen))
    }

    /// The landed inputs of one job alone, by split.
    pub fn landed(&self, job: JobId) -> Vec<(u32, RoaringBitmap)> {
        let of = self.of(job);
        of.map(|(split, seen)| (split, seen.landed.clone()))
            .collect()
    }

    /// Those of one job alone.
    pub fn alone(mut self, job: JobId) -> Self {
        self.0.retain(|(of, _), _| *of == job);
        self
    }

    /// Whether nothing is noted.
    pub fn is_empty(&self) -> bool {
        self.0
            .values()
            .all(|s| s.landed.is_empty() && s.twice.is_empty())
    }

    /// The first split with inputs that both have landed, and how many.
    pub fn overlap(&self, other: &Self) -> Option<(u32, u64)> {
        other.0.iter().find_map(|(key, theirs)| {
            let ours = self.0.get(key)?;
            let both = ours.landed.intersection_len(&theirs.landed);
            (both > 0).then_some((key.1, both))
        })
    }

    /// Adds what another has seen.
    pub fn merge(&mut self, other: &Self) {
        for (key, theirs) in &other.0 {
            let ours = self.0.entry(*key).or_default();
            ours.landed |= &theirs.landed;
            ours.twice |= &theirs.twice;
        }
    }

    pub fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        let count = u32::try_from(self.0.len()).map_err(std::io::Error::other)?;
        let mut out = MAGIC.to_vec();
        out.extend(count.to_be_bytes());
        for ((job, split), seen) in &self.0 {
            out.extend(job.0.to_be_bytes());
            out.extend(split.to_be_bytes());
            for set in [&seen.landed, &seen.twice] {
                let mut set = set.clone();
                set.optimize();
                let length = u32::try_from(set.serialized_size()).map_err(std::io::Error::other)?;
                out.extend(length.to_be_bytes());
                set.serialize_into(&mut out)?;
            }
        }
        let sum = Sha256::digest(&out);
        out.extend(&sum[..8]);
        Ok(out)
    }

    /// Reads what [`Seen::to_bytes`] wrote.
    ///
    /// # Errors
    /// Says what is wrong; a sidecar can be rebuilt from the table ([`rebuild`]).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (body, sum) = bytes
            .split_last_chunk::<8>()
            .ok_or_else(|| "is too short".to_owned())?;
        if Sha256::digest(body)[..8] != sum[..] {
            return Err("has another checksum than its content".into());
        }
        let mut rest = body
            .strip_prefix(MAGIC)
            .ok_or_else(|| "is of another layout".to_owned())?;
        let count = u32::from_be_bytes(take(&mut rest)?);
        let mut seen = Self::default();
        for _ in 0..count {
            let job = JobId(u64::from_be_bytes(take(&mut rest)?));
            let split = u32::from_be_bytes(take(&mut rest)?);
            let landed = bitmap(&mut rest)?;
            let twice = bitmap(&mut rest)?;
            seen.0.insert((job, split), SeenSplit { landed, twice });
        }
        Ok(seen)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, tail) = rest
        .split_first_chunk::<N>()
        .ok_or_else(|| "ends early".to_owned())?;
    *rest = tail;
    Ok(*head)
}

fn bitmap(rest: &mut &[u8]) -> Result<RoaringBitmap, String> {
    let length = u32::from_be_bytes(take(rest)?) as usize;
    let bytes = rest.get(..length).ok_or_else(|| "ends early".to_owned())?;
    *rest = &rest[length..];
    RoaringBitmap::deserialize_from(bytes).map_err(|e| e.to_string())
}

/// The landed inputs as the table's own identity columns say. Which came twice is not in them and is lost.
///
/// # Errors
/// If a live file can't be read.
pub fn rebuild(storage: &Storage, state: &TableState) -> Result<Seen> {
    let mut seen = Seen::default();
    let all = state.files_of(None);
    read_identities(storage, all, &Context::default(), |job, row: Row| {
        let split = seen.0.entry((job, row.split)).or_default();
        split.landed.insert(row.seq);
        Ok(())
    })?;
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sidecar_is_read_back(
            entries in prop::collection::btree_map((0u64..3, 0u32..5), (prop::collection::vec(0u32..200_000, 0..50), prop::collection::vec(0u32..9, 0..5)), 0..8),
            cut in 0usize..400,
        ) {
            let seen = Seen(entries.into_iter().map(|((job, split), (landed, twice))| ((JobId(job), split), SeenSplit {
                landed: landed.into_iter().collect(), twice: twice.into_iter().collect(),
            })).collect());
            let bytes = seen.to_bytes().unwrap();
            prop_assert_eq!(Seen::from_bytes(&bytes), Ok(seen));
            // Damage is told, never read as something else.
            let cut = cut.min(bytes.len().saturating_sub(1));
            prop_assert!(Seen::from_bytes(&bytes[..cut]).is_err());
            let mut flipped = bytes;
            flipped[cut] ^= 1;
            prop_assert!(Seen::from_bytes(&flipped).is_err());
        }
    }
}
