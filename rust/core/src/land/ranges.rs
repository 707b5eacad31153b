//! What a drain reads: from where the table ends, to the last stable offsets of now or on and on.

use std::collections::BTreeMap;

use super::{LandUntil, Plan};
use crate::error::{Error, Result};
use crate::kafka::PartitionRange;
use crate::table::{Position, TableState, offset_key};

/// Where the table says this job's landing of each partition is, or where its records begin.
pub fn starts(plan: &Plan, state: &TableState) -> BTreeMap<i32, Position> {
    let topic = &plan.topic;
    topic
        .start
        .iter()
        .map(|(partition, start)| {
            let key = offset_key(plan.job, &topic.cluster_id, &topic.topic_id, *partition);
            let begin = Position {
                next: *start,
                reached: *start,
            };
            let at = state.offsets.get(&key).copied().unwrap_or(begin);
            (*partition, at)
        })
        .collect()
}

/// The ranges to read: to the last stable offsets of now or on and on, of the very topic the job began with.
pub fn ranges(plan: &Plan, starts: &BTreeMap<i32, Position>) -> Result<Vec<PartitionRange>> {
    let topic = &plan.topic;
    let wrong = |partition: Option<i32>, reason: String| Error::Topic {
        topic: topic.name.clone(),
        partition,
        offset: None,
        reason,
    };
    let facts = plan
        .cluster
        .topic(&topic.name)?
        .ok_or_else(|| wrong(None, "is gone: what was not landed yet is lost".into()))?;
    if (&facts.cluster_id, &facts.topic_id) != (&topic.cluster_id, &topic.topic_id) {
        return Err(wrong(
            None,
            "is not the topic this job began with: it was recreated, and what was not landed yet is lost; run the job under a new name or param".into(),
        ));
    }
    let ends = plan.cluster.watermarks(&topic.name, topic.partitions)?;
    ends.into_iter()
        .map(|(partition, _, end)| {
            let at = starts
                .get(&partition)
                .ok_or_else(|| wrong(Some(partition), "has no noted start".into()))?;
            if end < at.reached {
                return Err(wrong(
                    Some(partition),
                    format!(
                        "ends at offset {end}, but was landed to {} before: the cluster has lost records",
                        at.reached
                    ),
                ));
            }
            Ok(PartitionRange {
                partition,
                start: at.next,
                end: match plan.until {
                    LandUntil::Now => end,
                    LandUntil::Stopped => PartitionRange::OPEN,
                },
            })
        })
        .collect()
}
