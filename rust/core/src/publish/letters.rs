//! Rejects on their way to the dead-letter topic. Each is acknowledged before it counts as sent.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use roaring::RoaringBitmap;

use super::rejects::RejectRow;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::identity::{HEADER, Identity, JobId};
use crate::kafka::transport::Origin;
use crate::kafka::{Cluster, PartitionRange, ProduceOptions, Signed, header, read_ranges};
use crate::store::TopicRow;
use crate::verdict::{
    COLUMN_HEADER, FILE_HEADER, LEFT_OUT_HEADER, REASON_HEADER, ROW_HEADER, STAGE_HEADER,
    STAGE_PUBLISH, VALUE_HEADER,
};

/// How long to wait for reports before looking whether somebody wants to stop.
const WAIT: Duration = Duration::from_millis(50);
/// Room for the headers of a record: names, identity, column, reason, value, file.
const HEADER_BYTES: usize = 8 * 1024;
/// A header's text is no longer than this.
const TEXT_BYTES: usize = 1_000;

/// Where rejected rows come from, for the headers.
pub struct Place<'a> {
    /// Relative to the snapshot's root; empty for a stream.
    pub file: &'a str,
    /// Row of the file that is number 0 of the split.
    pub first_row: u64,
}

/// Sends rejects to one dead-letter topic.
pub struct Letters {
    cluster: Cluster,
    produce: ProduceOptions,
    partitions: u32,
    /// Rows whose letters an earlier publish has delivered, by split.
    there: BTreeMap<u32, RoaringBitmap>,
    producer: Option<Signed<BaseProducer<Acks>>>,
    /// Letters sent that are not known to be acknowledged.
    unsettled: u64,
    /// Letters acknowledged.
    pub delivered: u64,
    ctx: Context,
}

/// What the broker said of the letters in flight.
#[derive(Default)]
struct Acks(Mutex<(u64, Option<String>)>);

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // Poisoned only by a panic in these lines.
        let Ok(mut seen) = self.0.lock() else { return };
        match result {
            Ok(_) => seen.0 += 1,
            Err((error, _)) => {
                seen.1.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

impl Letters {
    /// `produce` says which topic, and how large its messages may be. No broker is contacted yet.
    pub fn new(cluster: Cluster, produce: ProduceOptions, partitions: u32, ctx: Context) -> Self {
        Self {
            cluster,
            produce,
            partitions,
            there: BTreeMap::new(),
            producer: None,
            unsettled: 0,
            delivered: 0,
            ctx,
        }
    }

    pub fn topic(&self) -> &str {
        &self.produce.topic
    }

    /// Learns which letters of these splits a publisher before this one has delivered, so that they are not doubled.
    ///
    /// # Errors
    /// [`Error::Kafka`], [`Error::Interrupted`].
    pub fn read_back(&mut self, topic: &TopicRow, job: JobId, splits: &[u32]) -> Result<()> {
        let mut ranges = Vec::new();
        for (partition, low, end) in self.cluster.watermarks(&topic.name, topic.partitions)? {
            let start = topic.start.iter().find(|s| s.0 == partition);
            ranges.push(PartitionRange {
                partition,
                start: start.map_or(low, |s| s.1.max(low)),
                end,
            });
        }
        let there = &mut self.there;
        read_ranges(
            &self.cluster,
            &topic.name,
            &ranges,
            "publish",
            &self.ctx,
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
        let there = self.there.get(&origin.split);
        let new: Vec<&RejectRow> = rejects
            .iter()
            .filter(|r| there.is_none_or(|there| !there.contains(r.row)))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None => self.producer()?,
        };
        let mut sent = Ok(());
        for reject in new {
            sent = self.send_one(&producer, origin, place, reject);
            if sent.is_err() {
                break;
            }
            self.unsettled += 1;
        }
        // Kept also where one was not taken: those before it may be on their way for other splits.
        self.producer = Some(producer);
        sent
    }

    /// Waits until the broker has all that was sent.
    ///
    /// # Errors
    /// [`Error::Topic`] if one was not acknowledged; [`Error::Interrupted`].
    pub fn settle(&mut self) -> Result<()> {
        if let Some(producer) = &self.producer {
            self.wait(producer, self.unsettled)?;
            self.delivered += std::mem::take(&mut self.unsettled);
        }
        Ok(())
    }

    fn producer(&self) -> Result<Signed<BaseProducer<Acks>>> {
        let mut config = self.cluster.config()?;
        self.produce
            .apply(&mut config, |o| self.cluster.region.kafka.contains_key(o));
        config.set("linger.ms", "1");
        let producer: Signed<BaseProducer<Acks>> =
            self.cluster
                .connect("make a producer", &config, Acks::default())?;
        self.cluster
            .introduce(producer.client(), &self.produce.topic);
        Ok(producer)
    }

    fn send_one(
        &self,
        producer: &BaseProducer<Acks>,
        origin: Origin,
        place: &Place<'_>,
        reject: &RejectRow,
    ) -> Result<()> {
        let identity = origin.identity(reject.row);
        let row = (place.first_row + u64::from(reject.row)).to_string();
        let mut headers = OwnedHeaders::new_with_capacity(8);
        let id = identity.to_bytes();
        for (key, value) in [
            (HEADER, &id[..]),
            (STAGE_HEADER, STAGE_PUBLISH.as_bytes()),
            (REASON_HEADER, start_of(&reject.reason)),
            (COLUMN_HEADER, start_of(&reject.column)),
            (VALUE_HEADER, start_of(&reject.value)),
            (FILE_HEADER, start_of(place.file)),
            (ROW_HEADER, row.as_bytes()),
        ] {
            let value = Some(value);
            headers = headers.insert(Header { key, value });
        }
        let room = self.produce.largest_record().saturating_sub(HEADER_BYTES);
        let payload = reject.payload.as_deref().filter(|p| p.len() <= room);
        if let (Some(whole), None) = (&reject.payload, payload) {
            // A row that no message holds is still rejected by name.
            let bytes = format!("{} bytes", whole.len());
            headers = headers.insert(Header {
                key: LEFT_OUT_HEADER,
                value: Some(bytes.as_bytes()),
            });
        }
        let mut message = BaseRecord::<(), str, ()>::to(&self.produce.topic)
            .partition(identity.partition(self.partitions))
            .headers(headers);
        if let Some(payload) = payload {
            message = message.payload(payload);
        }
        loop {
            match producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.ctx.check("publish")?;
                    message = back;
                    producer.poll(WAIT);
                }
                Err((error, _)) => return Err(self.undelivered(&error.to_string())),
            }
        }
    }

    fn wait(&self, producer: &BaseProducer<Acks>, sent: u64) -> Result<()> {
        // librdkafka gives up on a message by itself; this is for one that it forgets.
        let deadline = Instant::now() + self.produce.timeout * 2;
        loop {
            // Not flushed means that some are still on their way: what came back is counted below.
            let _ = producer.flush(WAIT);
            let mut seen = producer
                .context()
                .0
                .lock()
                .map_err(|_| self.undelivered("its reports broke off"))?;
            if let Some(reason) = &seen.1 {
                return Err(self.undelivered(reason));
            }
            if seen.0 >= sent {
                *seen = (0, None);
                return Ok(());
            }
            drop(seen);
            self.ctx.check("publish")?;
            if Instant::now() > deadline {
                return Err(self.undelivered("no answer from the broker"));
            }
        }
    }

    fn undelivered(&self, reason: &str) -> Error {
        Error::Topic {
            topic: self.produce.topic.clone(),
            partition: None,
            offset: None,
            reason: format!(
                "a rejected row was not taken ({reason}); its split stays open, publish again"
            ),
        }
    }
}

/// The first bytes of a text, cut between characters.
fn start_of(text: &str) -> &[u8] {
    let end = (0..=TEXT_BYTES.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(start_of("short"), b"short");
        let long = "é".repeat(TEXT_BYTES);
        let cut = std::str::from_utf8(start_of(&long)).unwrap();
        assert!(long.starts_with(cut) && cut.len() == TEXT_BYTES);
        assert_eq!(start_of(&format!("a{long}")).len(), TEXT_BYTES - 1);
    }
}
