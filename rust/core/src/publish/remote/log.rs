//! The receipts topic: records of a split in one partition, in their order.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::client::DefaultClientContext;
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use roaring::RoaringBitmap;
use tokio::runtime::Handle;

use super::story::{Entry, What};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::kafka::{Cluster, PartitionRange, ProduceOptions, Signed, header, read_ranges};
use crate::store::TopicRow;

/// Carries a record's set of rows, as a roaring bitmap.
const ROWS_HEADER: &str = "kf-rows";
/// Of a record's form.
const VERSION: u8 = 1;
/// Memory for records on their way, in MiB: one or two at a time.
const QUEUE_MIB: u32 = 16;
/// Room for what is in a record beside its rows.
const HEAD_BYTES: usize = 64 * 1024;

/// Writes records, each durable before the next.
pub struct Log {
    pub topic: TopicRow,
    cluster: Cluster,
    job: JobId,
    attempt: String,
    producer: Signed<FutureProducer>,
    largest: usize,
    timeout: Duration,
    runtime: Handle,
}

impl Log {
    /// `attempt` signs what is written. Blocking.
    ///
    /// # Errors
    /// [`Error::Kafka`] if the client refuses an option.
    pub fn new(
        cluster: Cluster,
        topic: TopicRow,
        job: JobId,
        attempt: String,
        runtime: Handle,
    ) -> Result<Self> {
        let options = runtime.block_on(cluster.topic_options(&topic.name));
        let produce =
            ProduceOptions::new(&topic.name, &options, "lz4", QUEUE_MIB, cluster.timeout());
        let mut config = cluster.config()?;
        produce.apply(&mut config, |o| cluster.region.kafka.contains_key(o));
        config.set("linger.ms", "1");
        let producer: Signed<FutureProducer> =
            cluster.connect("make a producer", &config, DefaultClientContext)?;
        cluster.introduce(producer.client(), &topic.name);
        Ok(Self {
            largest: produce.largest_record().saturating_sub(HEAD_BYTES),
            timeout: cluster.timeout() * 2,
            topic,
            cluster,
            job,
            attempt,
            producer,
            runtime,
        })
    }

    /// Where a split's records are.
    pub fn partition(topic: &TopicRow, split: u32) -> i32 {
        i32::try_from(split % topic.partitions.max(1)).unwrap_or(0)
    }

    /// Whether a set of rows fits into a record.
    pub fn fits(&self, rows: &RoaringBitmap) -> bool {
        rows.serialized_size() <= self.largest
    }

    /// Writes a record, and gives its offset once the broker has it. Blocking.
    ///
    /// # Errors
    /// [`Error::Topic`] if the broker does not take it.
    pub fn append(&self, split: u32, what: What, rows: &RoaringBitmap) -> Result<i64> {
        let sent = self.send(split, what, rows)?;
        let delivered = self
            .runtime
            .block_on(async { tokio::time::timeout(self.timeout, sent).await });
        match delivered {
            Ok(Ok(Ok(delivery))) => Ok(delivery.offset),
            Ok(Ok(Err((error, _)))) => Err(self.refused(error)),
            Ok(Err(_)) => Err(self.refused("the client was closed")),
            Err(_) => Err(self.refused("no answer from the broker")),
        }
    }

    /// Gives a record to the client, and does not wait.
    ///
    /// # Errors
    /// [`Error::Topic`] if it can't be sent.
    pub fn send(&self, split: u32, what: What, rows: &RoaringBitmap) -> Result<DeliveryFuture> {
        let entry = Entry {
            version: VERSION,
            job: self.job.to_string(),
            split,
            attempt: self.attempt.clone(),
            what,
        };
        let value = serde_json::to_vec(&entry).map_err(|e| self.refused(e))?;
        let mut set = Vec::with_capacity(rows.serialized_size());
        rows.serialize_into(&mut set).map_err(|e| self.refused(e))?;
        let headers = OwnedHeaders::new().insert(Header {
            key: ROWS_HEADER,
            value: Some(&set),
        });
        let key = split.to_string();
        let record = FutureRecord::to(&self.topic.name)
            .partition(Self::partition(&self.topic, split))
            .key(&key)
            .payload(&value)
            .headers(headers);
        self.producer
            .send_result(record)
            .map_err(|(error, _)| self.refused(error))
    }

    fn refused(&self, reason: impl ToString) -> Error {
        Error::Topic {
            topic: self.topic.name.clone(),
            partition: None,
            offset: None,
            reason: format!(
                "a record of how far the publish is was not taken: {}",
                reason.to_string()
            ),
        }
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

/// A message as a record of this job; `None` if it is another's.
///
/// # Errors
/// [`Error::Topic`] if it is of a version that is not known here.
pub fn parse(message: &BorrowedMessage<'_>, job: JobId) -> Result<Option<(Entry, RoaringBitmap)>> {
    let Some(Ok(entry)) = message
        .payload()
        .map(serde_json::from_slice::<serde_json::Value>)
    else {
        return Ok(None);
    };
    if entry.get("job").and_then(|j| j.as_str()) != Some(job.to_string().as_str()) {
        return Ok(None);
    }
    let wrong = |reason: String| Error::Topic {
        topic: message.topic().to_owned(),
        partition: Some(message.partition()),
        offset: Some(message.offset()),
        reason: format!("is no record of a publish: {reason}"),
    };
    let entry: Entry = serde_json::from_value(entry).map_err(|e| wrong(e.to_string()))?;
    if entry.version != VERSION {
        return Err(wrong(format!(
            "its version is {}, expected {VERSION}; use one version of KappaFlow for a job's publish",
            entry.version
        )));
    }
    let rows = match header(message, ROWS_HEADER) {
        Some(bytes) => RoaringBitmap::deserialize_from(bytes).map_err(|e| wrong(e.to_string()))?,
        None => RoaringBitmap::new(),
    };
    Ok(Some((entry, rows)))
}

/// Gives the job's records from the offsets `next` to the present end, and moves those on. Blocking.
///
/// # Errors
/// [`Error::Topic`] if the log starts later by now; [`Error::Kafka`]; [`Error::Interrupted`].
pub fn read_on(
    cluster: &Cluster,
    topic: &TopicRow,
    job: JobId,
    next: &mut BTreeMap<i32, i64>,
    ctx: &Context,
    mut each: impl FnMut(Entry, RoaringBitmap),
) -> Result<()> {
    let mut ranges = Vec::new();
    for (partition, _, end) in cluster.watermarks(&topic.name, topic.partitions)? {
        ranges.push(PartitionRange {
            partition,
            start: next.get(&partition).copied().unwrap_or(0),
            end,
        });
    }
    read_ranges(cluster, &topic.name, &ranges, "publish", ctx, |message| {
        if let Some((entry, rows)) = parse(message, job)? {
            each(entry, rows);
        }
        Ok(())
    })?;
    next.extend(ranges.iter().map(|r| (r.partition, r.end)));
    Ok(())
}
