//! Rejects on their way to the dead-letter topic. Each is acknowledged before it counts as sent.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::rejects::RejectRow;
use crate::context::Context;
use crate::error::Result;
use crate::identity::{HEADER, Identity, JobId};
use crate::kafka::transport::Origin;
use crate::kafka::{
    Acknowledged, Cluster, Outgoing, ProduceOptions, header, read_ranges, since_start,
};
use crate::store::TopicRow;
use crate::verdict::{
    COLUMN_HEADER, FILE_HEADER, LEFT_OUT_HEADER, REASON_HEADER, ROW_HEADER, STAGE_HEADER,
    STAGE_PUBLISH, VALUE_HEADER, header_text,
};

/// Room for the headers of a record: names, identity, column, reason, value, file.
const HEADER_BYTES: usize = 8 * 1024;

/// Where rejected rows come from, for the headers.
pub struct Place<'a> {
    /// Relative to the snapshot's root; empty for a stream.
    pub file: &'a str,
    /// Row of the file that is number 0 of the split.
    pub first_row: u64,
}

/// Sends rejects to one dead-letter topic.
pub struct Letters {
    sender: Acknowledged,
    partitions: u32,
    /// Rows whose letters an earlier publish has delivered, by split.
    there: BTreeMap<u32, RoaringBitmap>,
}

impl Letters {
    /// `produce` says which topic, and how large its messages may be. No broker is contacted yet.
    pub fn new(cluster: Cluster, produce: ProduceOptions, partitions: u32, ctx: Context) -> Self {
        Self {
            sender: Acknowledged::new(cluster, produce, "publish", ctx),
            partitions,
            there: BTreeMap::new(),
        }
    }

    pub fn topic(&self) -> &str {
        self.sender.topic()
    }

    /// Letters acknowledged.
    pub fn delivered(&self) -> u64 {
        self.sender.delivered
    }

    /// Learns which letters of these splits a publisher before this one has delivered, so that they are not doubled.
    ///
    /// # Errors
    /// [`Error::Kafka`], [`Error::Interrupted`].
    pub fn read_back(&mut self, topic: &TopicRow, job: JobId, splits: &[u32]) -> Result<()> {
        let cluster = self.sender.cluster();
        let ranges = since_start(cluster, topic)?;
        let there = &mut self.there;
        read_ranges(
            cluster,
            &topic.name,
            &ranges,
            "publish",
            &self.sender.ctx,
            |message| {
                if header(message, STAGE_HEADER) == Some(STAGE_PUBLISH.as_bytes())
                    && let Some(Ok(id)) = header(message, HEADER).map(Identity::from_bytes)
                    && id.job == job
                    && splits.contains(&id.split)
                {
                    there.entry(id.split).or_default().insert(id.seq);
                }
                Ok(())
            },
        )
    }

    /// Gives the rejects that are not there yet to the broker's client, whose queue is bounded.
    ///
    /// # Errors
    /// [`Error::Topic`] if one was not taken; [`Error::Kafka`]; [`Error::Interrupted`].
    pub fn send(&mut self, origin: Origin, place: &Place<'_>, rejects: &[RejectRow]) -> Result<()> {
        for reject in rejects {
            let there = self.there.get(&origin.split);
            if there.is_none_or(|there| !there.contains(reject.row)) {
                self.send_one(origin, place, reject)?;
            }
        }
        Ok(())
    }

    /// Waits until the broker has all that was sent.
    ///
    /// # Errors
    /// [`Error::Topic`] if one was not acknowledged; [`Error::Interrupted`].
    pub fn settle(&mut self) -> Result<()> {
        self.sender.settle()
    }

    fn send_one(&mut self, origin: Origin, place: &Place<'_>, reject: &RejectRow) -> Result<()> {
        let identity = origin.identity(reject.row);
        let row = (place.first_row + u64::from(reject.row)).to_string();
        let id = identity.to_bytes();
        let mut headers = vec![
            (HEADER, &id[..]),
            (STAGE_HEADER, STAGE_PUBLISH.as_bytes()),
            (REASON_HEADER, header_text(&reject.reason)),
            (COLUMN_HEADER, header_text(&reject.column)),
            (VALUE_HEADER, header_text(&reject.value)),
            (FILE_HEADER, header_text(place.file)),
            (ROW_HEADER, row.as_bytes()),
        ];
        let room = self.sender.largest_record().saturating_sub(HEADER_BYTES);
        let payload = reject.payload.as_deref().filter(|p| p.len() <= room);
        let left_out = match (&reject.payload, payload) {
            (Some(whole), None) => format!("{} bytes", whole.len()),
            _ => String::new(),
        };
        if !left_out.is_empty() {
            // A row that no message holds is still rejected by name.
            headers.push((LEFT_OUT_HEADER, left_out.as_bytes()));
        }
        self.sender.send(&Outgoing {
            partition: identity.partition(self.partitions),
            key: None,
            headers: &headers,
            payload: payload.map(str::as_bytes),
        })
    }
}
