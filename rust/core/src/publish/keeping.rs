//! What a pass knows of each split, and what it tells whoever keeps the books.

use std::collections::BTreeMap;

use super::meter::Meter;
use super::rejects::RejectRow;
use super::split::Tally;
use crate::error::Result;
use crate::kafka::transport::Origin;

/// A split on its way.
#[derive(Debug)]
pub struct Slot {
    pub origin: Origin,
    pub tally: Tally,
    /// Rows of the split, once the source has given all of them.
    pub rows: Option<u32>,
    /// Where read-back starts; `None` before anything was sent.
    pub noted: Option<Vec<(i32, i64)>>,
    /// Rows that were acknowledged when that was noted.
    pub noted_rows: u64,
    /// What was known before the transaction that is open, if one is: until it is committed, nothing more is.
    pub uncommitted: Option<Box<Tally>>,
    pub closed: bool,
}

impl Slot {
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            tally: Tally::default(),
            rows: None,
            noted: None,
            noted_rows: 0,
            uncommitted: None,
            closed: false,
        }
    }

    /// Whether every row is acknowledged or rejected.
    pub fn complete(&self) -> bool {
        self.uncommitted.is_none() && self.rows.is_some_and(|rows| self.tally.complete(rows))
    }
}

/// What holds a pass back.
#[derive(Clone, Copy, Debug)]
pub struct Pace<'a> {
    /// In words; empty if nothing does just now.
    pub held: &'a str,
    /// Records that the workers have not done; `None` where no limit is on them.
    pub behind: Option<u64>,
    /// How long the pass has waited because of limits, in seconds.
    pub waited_s: f64,
}

impl Pace<'_> {
    /// For metrics, with the rates.
    pub fn figures(&self, meter: &Meter) -> BTreeMap<&'static str, f64> {
        let mut figures = BTreeMap::from([
            ("held_back", f64::from(u8::from(!self.held.is_empty()))),
            ("pacing_waited_s", self.waited_s),
        ]);
        if let Some((rows, bytes)) = meter.rates() {
            figures.extend([("rows_per_s", rows), ("bytes_per_s", bytes)]);
        }
        // A count far below 2⁵³.
        figures.extend(self.behind.map(|lag| ("lag_records", lag as f64)));
        figures
    }
}

/// Whether a publisher may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Go,
    /// Not now.
    Wait,
    /// Another publishes from now on.
    Stop,
}

/// What a pass tells whoever keeps the books.
pub trait Keeper {
    /// Asked again and again while there is something to send.
    fn turn(&mut self) -> Result<Turn> {
        Ok(Turn::Go)
    }
    /// Before anything of a split is sent; `ends` are offsets that none of its records can be before.
    fn open(&mut self, slot: &mut Slot, ends: &BTreeMap<i32, i64>) -> Result<()>;
    /// More of an open split is acknowledged; what is not yet is at these offsets or behind them.
    fn note(&mut self, slot: &mut Slot, ends: &BTreeMap<i32, i64>) -> Result<()>;
    /// Every row of the split is acknowledged or rejected.
    fn close(&mut self, slot: &Slot) -> Result<()>;
    /// Rows of the split were rejected, which it is told of once; an error stops the pass.
    fn rejected(&mut self, slot: &Slot, rejects: &[RejectRow]) -> Result<()>;
    /// Rows acknowledged by this pass so far, how fast, and what holds it back; called a few times a second.
    fn progress(&mut self, acknowledged: u64, meter: &Meter, pace: &Pace<'_>);
}
