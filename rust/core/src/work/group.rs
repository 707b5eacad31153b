//! Membership of the worker's group, and what becomes of a partition whose log no longer has what was to be read next.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::member::Member;
use super::summary::Expired;
use super::worker::Worker;
use crate::error::{Error, Result};
use crate::job::{GroupProtocol, Limits};
use crate::kafka::{Cluster, Signed};

/// A member of the group, subscribed.
pub fn join(
    worker: &Arc<Worker>,
    cluster: &Cluster,
    group: &str,
    limits: &Limits,
    instance_id: Option<&str>,
) -> Result<Signed<BaseConsumer<Member>>> {
    // The client holds at most half of what the worker may hold, and fetches soon again when that is used up.
    let prefetch_kib = (u64::from(limits.max_in_flight_mib) * 512).clamp(512, 65_536);
    let mut config = cluster.config()?;
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set(
            "max.poll.interval.ms",
            limits.session_timeout_ms.max(300_000).to_string(),
        )
        .set(
            "queued.min.messages",
            limits.max_in_flight_records.max(1).to_string(),
        )
        .set("queued.max.messages.kbytes", prefetch_kib.to_string())
        // Where the logs end.
        .set("statistics.interval.ms", "2000")
        .set("fetch.queue.backoff.ms", "20")
        .set("fetch.wait.max.ms", "100");
    match limits.group_protocol {
        GroupProtocol::Classic => {
            let session = limits.session_timeout_ms;
            config
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", session.to_string())
                .set("heartbeat.interval.ms", (session / 3).to_string());
        }
        // The broker assigns, and says how long it waits for a member.
        GroupProtocol::Consumer => {
            config.set("group.protocol", "consumer");
        }
    }
    if let Some(instance_id) = instance_id {
        config.set("group.instance.id", instance_id);
    }
    let consumer: Signed<BaseConsumer<Member>> =
        cluster.connect("join the group", &config, Member(Arc::clone(worker)))?;
    consumer
        .subscribe(&[&worker.topic])
        .map_err(|e| cluster.error(format!("subscribe to {}", worker.topic), e))?;
    Ok(consumer)
}

/// Goes on where the log begins, in each partition whose log has lost what was to be read next, and keeps what is
/// missing. The client says that an offset is gone, but not which, and is silent afterwards; seeking does not wake it.
///
/// # Errors
/// If no partition of ours has lost anything, so that this isn't what is wrong; or the broker can't be asked.
pub fn go_on(worker: &Worker, cluster: &Cluster, consumer: &BaseConsumer<Member>) -> Result<()> {
    // What was read comes before what is missing.
    worker.admit();
    let held: Vec<i32> = worker.state().schedule.numbers().collect();
    let partitions = held.iter().max().map_or(0, |most| most.unsigned_abs() + 1);
    let starts: BTreeMap<i32, (i64, i64)> = cluster
        .watermarks(&worker.topic, partitions)?
        .into_iter()
        .map(|(partition, start, end)| (partition, (start, end)))
        .collect();
    let mut found = false;
    for (partition, next) in next_offsets(worker, cluster, consumer, &held)? {
        let Some((start, end)) = starts.get(&partition).copied() else {
            continue;
        };
        if next > end {
            return Err(Error::Topic {
                topic: worker.topic.clone(),
                partition: Some(partition),
                offset: Some(next),
                reason: format!(
                    "the log ends at {end}, before what was committed: the topic was recreated, or its brokers have lost records. Publish again under a new param"
                ),
            });
        }
        if next >= start {
            continue;
        }
        found = true;
        {
            let mut state = worker.state();
            state.schedule.pass(partition, start);
            state.summary.expired.push(Expired {
                partition,
                first: next,
                past: start,
            });
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&worker.topic, partition);
        let wrong = |e| cluster.error(format!("go on reading {}-{partition}", worker.topic), e);
        consumer.incremental_unassign(&list).map_err(wrong)?;
        list.set_partition_offset(&worker.topic, partition, Offset::Offset(start))
            .and_then(|()| consumer.incremental_assign(&list))
            .map_err(wrong)?;
    }
    // Each partition says it once: those that were seen to with the first say so still.
    if found || !worker.state().summary.expired.is_empty() {
        return Ok(());
    }
    Err(Error::Topic {
        topic: worker.topic.clone(),
        partition: None,
        offset: None,
        reason: "the broker does not have an offset that was to be read next, though no log begins after it: no offset is committed for the group. Run `kappaflow dispatch` again".into(),
    })
}

/// What each partition was to read next: behind what was admitted, else where the client is, else what is committed.
fn next_offsets(
    worker: &Worker,
    cluster: &Cluster,
    consumer: &BaseConsumer<Member>,
    held: &[i32],
) -> Result<BTreeMap<i32, i64>> {
    let wrong = |e| cluster.error(format!("ask where {} is read", worker.topic), e);
    let mut list = TopicPartitionList::new();
    for partition in held {
        list.add_partition(&worker.topic, *partition);
    }
    let committed = consumer
        .committed_offsets(list, cluster.timeout())
        .map_err(wrong)?;
    let at = consumer.position().map_err(wrong)?;
    let mut next = BTreeMap::new();
    for element in committed.elements().iter().chain(&at.elements()) {
        if let Offset::Offset(offset) = element.offset()
            && held.contains(&element.partition())
        {
            next.insert(element.partition(), offset);
        }
    }
    next.extend(worker.state().schedule.next_offsets());
    Ok(next)
}
