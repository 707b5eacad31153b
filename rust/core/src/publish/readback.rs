//! Reading back what a publisher has sent: the topic itself says which rows arrived.

use std::collections::{BTreeMap, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::message::Message;

use super::split::Seen;
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::identity::{HEADER, Identity, JobId};
use crate::kafka::{Cluster, PartitionRange, header, read_ranges};
use crate::store::TopicRow;

/// Kafka's own limit of how long a transaction may be open (`transaction.max.timeout.ms`).
const LONGEST_TRANSACTION: Duration = Duration::from_secs(900);
const STABLE_RETRY: Duration = Duration::from_millis(200);

/// Checks that the topic is the one that the job began with.
///
/// # Errors
/// [`Error::Topic`] if it is gone, was made anew, or has another number of partitions.
pub fn check_topic(cluster: &Cluster, topic: &TopicRow) -> Result<()> {
    let refused = |reason: String| Error::Topic {
        topic: topic.name.clone(),
        partition: None,
        offset: None,
        reason,
    };
    let Some(now) = cluster.topic(&topic.name)? else {
        return Err(refused(
            "is gone: it was deleted after the job began, and what was in it is lost. Run the job under a new name or param".into(),
        ));
    };
    if now.cluster_id != topic.cluster_id {
        return Err(refused(format!(
            "is on cluster {} now, and the job began on cluster {}; point the region at that one, or run the job under a new name or param",
            now.cluster_id, topic.cluster_id
        )));
    }
    if now.topic_id != topic.topic_id {
        return Err(refused(format!(
            "was deleted and made anew (its id is {}, the job began with {}): what was in it is lost. Run the job under a new name or param",
            now.topic_id, topic.topic_id
        )));
    }
    if now.partitions != topic.partitions {
        return Err(refused(format!(
            "has {} partitions now, the job began with {}; routing is a function of that number. Run the job under a new name or param",
            now.partitions, topic.partitions
        )));
    }
    Ok(())
}

/// Where each partition ends now.
pub fn ends(cluster: &Cluster, topic: &TopicRow) -> Result<BTreeMap<i32, i64>> {
    let watermarks = cluster.watermarks(&topic.name, topic.partitions)?;
    Ok(watermarks.iter().map(|(p, _, end)| (*p, *end)).collect())
}

/// Where each partition ends now, once every transaction that is open there has ended: what is behind the first of them
/// can't be read before.
fn stable_ends(cluster: &Cluster, topic: &TopicRow, ctx: &Context) -> Result<BTreeMap<i32, i64>> {
    let high = cluster.high_watermarks(&topic.name, topic.partitions)?;
    let began = Instant::now();
    loop {
        let stable = ends(cluster, topic)?;
        let Some((partition, offset)) = high
            .iter()
            .map(|(p, _, end)| (p, stable.get(p).copied().unwrap_or(0), *end))
            .find_map(|(p, stable, end)| (stable < end).then_some((*p, stable)))
        else {
            return Ok(high.into_iter().map(|(p, _, end)| (p, end)).collect());
        };
        if began.elapsed() >= LONGEST_TRANSACTION {
            return Err(Error::Topic {
                topic: topic.name.clone(),
                partition: Some(partition),
                offset: Some(offset),
                reason: format!(
                    "a transaction is open here for {} s, longer than a broker allows; end its producer, then run it again",
                    began.elapsed().as_secs()
                ),
            });
        }
        ctx.check("publish")?;
        ctx.report(Progress {
            stage: "publish",
            label: topic.name.clone(),
            done: 0,
            total: None,
            note: format!("partition {partition}: another publisher's transaction is open"),
            figures: BTreeMap::new(),
        });
        thread::sleep(STABLE_RETRY);
    }
}

/// Reads the topic from the noted offsets of `splits` to its present end, once, and says what is there of each.
///
/// # Errors
/// [`Error::Topic`] if the log starts past a noted offset: what was there can't be told any more.
pub fn read_back(
    cluster: &Cluster,
    topic: &TopicRow,
    job: JobId,
    splits: &BTreeMap<u32, Vec<(i32, i64)>>,
    ctx: &Context,
) -> Result<BTreeMap<u32, Seen>> {
    let mut starts: BTreeMap<i32, i64> = BTreeMap::new();
    for (partition, offset) in splits.values().flatten() {
        let start = starts.entry(*partition).or_insert(*offset);
        *start = (*start).min(*offset);
    }
    let ends = stable_ends(cluster, topic, ctx)?;
    let ranges: Vec<PartitionRange> = starts
        .iter()
        .map(|(partition, start)| PartitionRange {
            partition: *partition,
            start: *start,
            end: ends.get(partition).copied().unwrap_or(*start),
        })
        .collect();
    let mut seen: HashMap<u32, Seen> = splits.keys().map(|s| (*s, Seen::default())).collect();
    read_ranges(cluster, &topic.name, &ranges, "publish", ctx, |message| {
        // Records of others may share the topic; what is no identity of ours is theirs.
        let identity = header(message, HEADER).map(Identity::from_bytes);
        if let Some(Ok(identity)) = identity
            && identity.job == job
            && let Some(of_split) = seen.get_mut(&identity.split)
        {
            of_split.add(identity.seq, message.partition(), message.offset());
        }
        Ok(())
    })?;
    Ok(seen.into_iter().collect())
}
