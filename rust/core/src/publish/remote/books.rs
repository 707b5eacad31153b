//! Books of one split in the receipts topic.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::presence::Presence;
use super::story::{Closed, Noted, What};
use crate::error::{Error, Result};
use crate::publish::books::{Books, Receipt};
use crate::publish::keeping::Turn;
use crate::publish::split::Tally;

/// Books in the receipts topic, from which the process that gave the split out takes them into the store.
pub struct LogBooks<'a> {
    pub presence: &'a Presence,
    pub split: u32,
    pub acknowledged: RoaringBitmap,
}

impl Books for LogBooks<'_> {
    fn known(&self) -> Result<BTreeMap<u32, RoaringBitmap>> {
        Ok(BTreeMap::from([(self.split, self.acknowledged.clone())]))
    }

    fn open(&mut self, split: u32, noted: &[(i32, i64)]) -> Result<()> {
        let noted = Noted {
            noted: noted.to_vec(),
            ranges: Vec::new(),
        };
        let log = self.presence.log();
        log.append(split, What::Note(noted), &RoaringBitmap::new())
            .map(|_| ())
    }

    fn note(&mut self, split: u32, noted: &[(i32, i64)], tally: &Tally) -> Result<()> {
        let log = self.presence.log();
        if !log.fits(&tally.acknowledged) {
            // What was noted before is still true; more is read back after a death.
            return Ok(());
        }
        let noted = Noted {
            noted: noted.to_vec(),
            ranges: tally.extents.ranges(),
        };
        log.append(split, What::Note(noted), &tally.acknowledged)
            .map(|_| ())
    }

    fn close(&mut self, receipt: &Receipt<'_>) -> Result<()> {
        let log = self.presence.log();
        if !log.fits(receipt.rejected) {
            return Err(Error::Topic {
                topic: log.topic.name.clone(),
                partition: None,
                offset: None,
                reason: format!(
                    "takes no record with the numbers of {} rejected rows of split {}; cut the source into smaller splits \
                     (source.split_rows)",
                    receipt.rejected.len(),
                    receipt.split
                ),
            });
        }
        let closed = Closed {
            acknowledged: receipt.acknowledged.len(),
            ranges: receipt.ranges.to_vec(),
            rejects: receipt.rejects.to_vec(),
        };
        log.append(receipt.split, What::Close(closed), receipt.rejected)
            .map(|_| ())
    }

    /// The timeline is kept by who gives splits out.
    fn event(&mut self, _: &str, _: &str, _: serde_json::Value) -> Result<()> {
        Ok(())
    }

    fn turn(&mut self) -> Result<Turn> {
        self.presence.turn()
    }
}
