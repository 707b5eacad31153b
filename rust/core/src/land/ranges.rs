//! What a drain reads: from where the table ends, to the last stable offsets of now or on and on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{LandUntil, Plan, RegionLanding, STAGE};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::kafka::PartitionRange;
use crate::table::{Position, TableState, offset_key};

/// How much longer than a transaction may be open it is waited for: brokers look for those that ran out every 10 s
/// (`transaction.abort.timed.out.transaction.cleanup.interval.ms`).
const ABORTS_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);

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
pub fn ranges(
    plan: &Plan,
    starts: &BTreeMap<i32, Position>,
    ctx: &Context,
    landing: &mut RegionLanding,
) -> Result<Vec<PartitionRange>> {
    check_topic(plan)?;
    let topic = &plan.topic;
    let wrong = |partition: i32, reason| wrong(plan, Some(partition), reason);
    let ends = match plan.until {
        LandUntil::Now if plan.transactional => stable_ends(plan, ctx, landing)?,
        _ => plan.cluster.watermarks(&topic.name, topic.partitions)?,
    };
    ends.into_iter()
        .map(|(partition, _, end)| {
            let at = starts
                .get(&partition)
                .ok_or_else(|| wrong(partition, "has no noted start".into()))?;
            if end < at.reached {
                return Err(wrong(
                    partition,
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

/// # Errors
/// [`Error::Topic`] if it is not the very topic that the job began with.
pub fn check_topic(plan: &Plan) -> Result<()> {
    let topic = &plan.topic;
    let facts = plan.cluster.topic(&topic.name)?.ok_or_else(|| {
        let reason = "is gone: what was not landed yet is lost";
        wrong(plan, None, reason.into())
    })?;
    match (&facts.cluster_id, &facts.topic_id) == (&topic.cluster_id, &topic.topic_id) {
        true => Ok(()),
        false => Err(wrong(
            plan,
            None,
            "is not the topic this job began with: it was recreated, and what was not landed yet is lost; run the job under a new name or param".into(),
        )),
    }
}

fn wrong(plan: &Plan, partition: Option<i32>, reason: String) -> Error {
    Error::Topic {
        topic: plan.topic.name.clone(),
        partition,
        offset: None,
        reason,
    }
}

/// Log starts and last stable offsets, once no transaction is open that has sent anything by now: that of a worker which
/// died runs out by itself. What is still open after that is counted.
fn stable_ends(
    plan: &Plan,
    ctx: &Context,
    landing: &mut RegionLanding,
) -> Result<Vec<(i32, i64, i64)>> {
    let topic = &plan.topic;
    let sent = plan
        .cluster
        .high_watermarks(&topic.name, topic.partitions)?;
    let deadline = Instant::now() + plan.cluster.timeout() + ABORTS_WITHIN;
    loop {
        let stable = plan.cluster.watermarks(&topic.name, topic.partitions)?;
        let open = sent
            .iter()
            .zip(&stable)
            .map(|((_, _, sent), (_, _, stable))| sent.saturating_sub(*stable).max(0));
        landing.counts.open = open.map(i64::unsigned_abs).sum();
        if landing.counts.open == 0 || Instant::now() > deadline {
            return Ok(stable);
        }
        ctx.check(STAGE)?;
        ctx.report(Progress {
            stage: STAGE,
            label: landing.region.clone(),
            done: 0,
            total: None,
            note: format!(
                "waiting for open transactions of {} records",
                landing.counts.open
            ),
            figures: BTreeMap::new(),
        });
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Where each partition ends now: what a lander of a group waits for, whoever lands it.
pub fn goal(plan: &Plan, ctx: &Context, landing: &mut RegionLanding) -> Result<Vec<(i32, i64)>> {
    let topic = &plan.topic;
    let ends = match plan.until {
        LandUntil::Now if plan.transactional => stable_ends(plan, ctx, landing)?,
        _ => plan.cluster.watermarks(&topic.name, topic.partitions)?,
    };
    Ok(ends.into_iter().map(|(p, _, end)| (p, end)).collect())
}

/// Whether the table has come so far.
pub fn is_reached(plan: &Plan, state: &TableState, goal: &[(i32, i64)]) -> bool {
    let at = starts(plan, state);
    goal.iter()
        .all(|(partition, end)| at.get(partition).is_some_and(|at| at.reached >= *end))
}
