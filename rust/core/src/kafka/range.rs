//! Reads of a topic's partitions from known offsets: to a known end, then done, or on and on.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::Cluster;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::store::TopicRow;

/// Offsets `start..end` of one partition; `end` is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionRange {
    pub partition: i32,
    pub start: i64,
    pub end: i64,
}

impl PartitionRange {
    /// The end of one that is read on and on.
    pub const OPEN: i64 = i64::MAX;

    fn is_open(&self) -> bool {
        self.end == Self::OPEN
    }
}

/// All that a job's topic holds of it now: from where its records begin, or the log does, to the last stable offsets.
///
/// # Errors
/// [`Error::Topic`] or [`Error::Kafka`] if the offsets can't be read.
pub fn since_start(cluster: &Cluster, topic: &TopicRow) -> Result<Vec<PartitionRange>> {
    let ends = cluster.watermarks(&topic.name, topic.partitions)?;
    let ranges = ends.into_iter().map(|(partition, low, end)| {
        let start = topic.start.iter().find(|s| s.0 == partition);
        PartitionRange {
            partition,
            start: start.map_or(low, |s| s.1.max(low)),
            end,
        }
    });
    Ok(ranges.collect())
}

/// How long one poll waits, so that a cancel is noticed soon.
const POLL: Duration = Duration::from_millis(100);

/// Gives every committed record of the ranges to `each`, in order within a partition, and returns at the end of all.
///
/// Ends by *position*: transaction markers, aborted transactions and compacted holes count as passed. Blocking.
///
/// # Errors
/// [`Error::Topic`] if a start is no longer in the log or no record arrives for the cluster's timeout;
/// [`Error::Interrupted`]; and what `each` returns.
pub fn read_ranges(
    cluster: &Cluster,
    topic: &str,
    ranges: &[PartitionRange],
    stage: &'static str,
    ctx: &Context,
    mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<()>,
) -> Result<()> {
    follow_ranges(cluster, topic, ranges, stage, ctx, |message| {
        message.map_or(Ok(()), &mut each)
    })
}

/// The same, and `each` is called with `None` too, several times a second while nothing comes. Ranges that end at
/// [`PartitionRange::OPEN`] are read until there is an error, a cancel among them; connections that are lost are waited for.
///
/// # Errors
/// As [`read_ranges`]; what `each` returns may be of another type.
pub fn follow_ranges<E: From<Error>>(
    cluster: &Cluster,
    topic: &str,
    ranges: &[PartitionRange],
    stage: &'static str,
    ctx: &Context,
    mut each: impl FnMut(Option<&BorrowedMessage<'_>>) -> Result<(), E>,
) -> Result<(), E> {
    let mut open: HashMap<i32, PartitionRange> = ranges
        .iter()
        .filter(|r| r.start < r.end)
        .map(|r| (r.partition, *r))
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    // The log may start past what was asked for: that is a loss to name, not to skip.
    let reader = cluster.reader(None)?;
    let failed = |partition: i32, offset: i64, reason: String| Error::Topic {
        topic: topic.to_owned(),
        partition: Some(partition),
        offset: Some(offset),
        reason,
    };
    let mut assignment = TopicPartitionList::new();
    for range in open.values() {
        let (low, _) = cluster.watermark(reader.client(), topic, range.partition)?;
        if low > range.start {
            let reason = format!(
                "the log now starts at {low}: what was before has expired by the topic's retention"
            );
            return Err(failed(range.partition, range.start, reason).into());
        }
        assignment
            .add_partition_offset(topic, range.partition, Offset::Offset(range.start))
            .map_err(|e| cluster.error("assign partitions", e))?;
    }
    reader
        .assign(&assignment)
        .map_err(|e| cluster.error("assign partitions", e))?;

    // The clock is asked when nothing comes, not for every record.
    let (mut last_sign, mut heard) = (Instant::now(), false);
    while !open.is_empty() {
        ctx.check(stage)?;
        match reader.poll(POLL) {
            None => {
                if std::mem::take(&mut heard) {
                    last_sign = Instant::now();
                }
                let bounded = open.values().filter(|r| !r.is_open());
                let stuck = bounded.min_by_key(|r| r.partition);
                if let Some(range) = stuck.filter(|_| last_sign.elapsed() > cluster.timeout()) {
                    return Err(failed(
                        range.partition,
                        range.start,
                        format!(
                            "nothing came for {} s before the end {}",
                            cluster.timeout().as_secs(),
                            range.end
                        ),
                    )
                    .into());
                }
                each(None)?;
            }
            Some(Ok(message)) => {
                heard = true;
                let partition = message.partition();
                let Some(range) = open.get(&partition) else {
                    continue;
                };
                let end = range.end;
                if message.offset() < end {
                    each(Some(&message))?;
                }
                if message.offset() + 1 >= end {
                    done(&reader, topic, partition, &mut open);
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                heard = true;
                if open.get(&partition).is_some_and(|range| !range.is_open()) {
                    done(&reader, topic, partition, &mut open);
                }
            }
            Some(Err(e)) => match e.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                    return Err(Error::Topic {
                        topic: topic.to_owned(),
                        partition: None,
                        offset: None,
                        reason: "the log no longer has an offset that was to be read (expired by retention)".into(),
                    }
                    .into());
                }
                Some(
                    RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic,
                ) => {
                    return Err(Error::Topic {
                        topic: topic.to_owned(),
                        partition: None,
                        offset: None,
                        reason: "was deleted while it was read".into(),
                    }
                    .into());
                }
                // Lost connections are mended by the client; the time-out above bounds the wait.
                _ if e.rdkafka_error_code().is_some_and(transient) => {}
                _ => return Err(cluster.error(format!("read {topic}"), e).into()),
            },
        }
    }
    Ok(())
}

fn transient(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::Resolve
            // Tokens are renewed: the client tries again with the next.
            | RDKafkaErrorCode::Authentication
    )
}

fn done(
    reader: &BaseConsumer,
    topic: &str,
    partition: i32,
    open: &mut HashMap<i32, PartitionRange>,
) {
    if open.remove(&partition).is_some() && !open.is_empty() {
        let mut ended = TopicPartitionList::new();
        ended.add_partition(topic, partition);
        // A partition that stays assigned only brings records that are skipped.
        let _ = reader.incremental_unassign(&ended);
    }
}
