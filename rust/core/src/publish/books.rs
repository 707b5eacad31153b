//! Where what is known of splits is kept, so that a publisher that dies is followed by one that knows.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use tokio::runtime::Handle;

use super::keeping::Turn;
use super::split::Tally;
use crate::error::Result;
use crate::identity::JobId;
use crate::store::{RejectCount, Stage, Store};

/// What a closed split has become: every row is in one of the two sets.
#[derive(Clone, Copy, Debug)]
pub struct Receipt<'a> {
    pub split: u32,
    pub acknowledged: &'a RoaringBitmap,
    pub rejected: &'a RoaringBitmap,
    /// `(partition, first offset, last offset)` of the acknowledged rows.
    pub ranges: &'a [(i32, i64, i64)],
    /// The rejected rows, counted.
    pub rejects: &'a [RejectCount],
}

/// The books of a job. What they return from is durable. Blocking.
pub trait Books: Send {
    /// Rows noted as acknowledged, by split.
    fn known(&self) -> Result<BTreeMap<u32, RoaringBitmap>>;
    /// Before anything of a split is sent: none of its records can be before `noted`.
    fn open(&mut self, split: u32, noted: &[(i32, i64)]) -> Result<()>;
    /// More of an open split is acknowledged; what is not yet is at these offsets or behind them.
    fn note(&mut self, split: u32, noted: &[(i32, i64)], tally: &Tally) -> Result<()>;
    /// Every row of a split is acknowledged or rejected.
    fn close(&mut self, receipt: &Receipt<'_>) -> Result<()>;
    /// A line of the job's timeline.
    fn event(&mut self, child: &str, what: &str, detail: serde_json::Value) -> Result<()>;
    /// Whether rows may be sent now; who keeps the books alone always may.
    fn turn(&mut self) -> Result<Turn> {
        Ok(Turn::Go)
    }
}

/// Books in the store.
pub struct StoreBooks {
    pub runtime: Handle,
    pub store: Store,
    pub job: JobId,
}

impl Books for StoreBooks {
    fn known(&self) -> Result<BTreeMap<u32, RoaringBitmap>> {
        self.runtime
            .block_on(self.store.ledger(self.job, Stage::Acknowledged))
    }

    fn open(&mut self, split: u32, noted: &[(i32, i64)]) -> Result<()> {
        self.runtime
            .block_on(self.store.open_split(self.job, split, noted))
    }

    fn note(&mut self, split: u32, noted: &[(i32, i64)], tally: &Tally) -> Result<()> {
        self.runtime.block_on(self.store.note_split(
            self.job,
            split,
            noted,
            &tally.acknowledged,
            &tally.extents.ranges(),
        ))
    }

    fn close(&mut self, receipt: &Receipt<'_>) -> Result<()> {
        self.runtime.block_on(self.store.close_split(
            self.job,
            receipt.split,
            receipt.acknowledged,
            receipt.rejected,
            receipt.ranges,
            receipt.rejects,
        ))
    }

    fn event(&mut self, child: &str, what: &str, detail: serde_json::Value) -> Result<()> {
        self.runtime
            .block_on(self.store.note(self.job, "publish", child, what, detail))
    }
}
