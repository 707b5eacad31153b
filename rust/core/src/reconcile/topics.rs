//! What the verdict and dead-letter topics of a region say, and whether its ingress log has dropped anything.

use std::collections::BTreeMap;

use kappaflow_avro::framing;
use rdkafka::message::{BorrowedMessage, Message};
use roaring::RoaringBitmap;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::identity::{HEADER, Identity, JobId};
use crate::kafka::{Cluster, PartitionRange, header, read_ranges};
use crate::store::{Role, SplitRow, TopicRow};
use crate::verdict::{REASON_HEADER, STAGE_HEADER, STAGE_LAND, STAGE_PUBLISH, Verdicts};

const STAGE: &str = "reconcile";

/// Rows of one fate, each under the reason that came first.
#[derive(Debug, Default)]
pub struct Causes {
    pub rows: BTreeMap<u32, RoaringBitmap>,
    pub by_reason: BTreeMap<String, BTreeMap<u32, RoaringBitmap>>,
    /// Rows seen more than once.
    pub again: BTreeMap<u32, RoaringBitmap>,
}

impl Causes {
    pub fn add(&mut self, split: u32, rows: &RoaringBitmap, reason: &str) {
        let known = self.rows.entry(split).or_default();
        let both = &*known & rows;
        if !both.is_empty() {
            *self.again.entry(split).or_default() |= both;
        }
        let new = rows - &*known;
        if new.is_empty() {
            return;
        }
        *known |= &new;
        let reasons = match self.by_reason.get_mut(reason) {
            Some(reasons) => reasons,
            None => self.by_reason.entry(reason.to_owned()).or_default(),
        };
        *reasons.entry(split).or_default() |= new;
    }
}

/// Gathered over all regions.
#[derive(Debug, Default)]
pub struct Said {
    pub filtered: Causes,
    pub dead_lettered: Causes,
    /// Rows whose ingress records may have been dropped before a worker passed them.
    pub may_have_expired: BTreeMap<u32, RoaringBitmap>,
    /// Roles whose topics have lost their beginning: what an earlier reconcile noted counts too.
    pub cut: Vec<Role>,
    pub notes: Vec<String>,
}

/// One region, with the topics the job has there.
pub struct RegionTopics {
    pub cluster: Cluster,
    pub topics: Vec<TopicRow>,
    pub group: String,
    /// Whether rows are spread by key: then a row's partition is not known from its number.
    pub keyed: bool,
}

impl Said {
    /// Reads a region to its last stable offsets of now. Blocking.
    ///
    /// # Errors
    /// [`Error::Topic`] if a topic is not the one the job began with, [`Error::Kafka`], [`Error::Interrupted`].
    pub fn read(
        &mut self,
        region: &RegionTopics,
        job: JobId,
        splits: &[SplitRow],
        ctx: &Context,
    ) -> Result<()> {
        for topic in &region.topics {
            match topic.role {
                Role::Verdict => self.verdicts(region, topic, job, ctx)?,
                Role::Deadletter => self.dead_letters(region, topic, job, ctx)?,
                Role::Ingress if topic.removed => {}
                Role::Ingress => self.expiry(region, topic, job, splits)?,
                Role::Egress | Role::Receipts => {}
            }
        }
        Ok(())
    }

    fn each(
        &mut self,
        region: &RegionTopics,
        topic: &TopicRow,
        ctx: &Context,
        mut each: impl FnMut(&mut Self, &BorrowedMessage<'_>) -> Result<(), String>,
    ) -> Result<()> {
        same_topic(&region.cluster, topic)?;
        let mut ranges = Vec::new();
        for (partition, low, end) in region.cluster.watermarks(&topic.name, topic.partitions)? {
            let start = topic.start.iter().find(|s| s.0 == partition);
            let start = start.map_or(low, |s| s.1);
            if low > start {
                self.cut.push(topic.role);
                self.notes.push(format!(
                    "{} partition {partition} has lost offsets {start} to {low} by its retention: what an earlier reconcile noted of them counts",
                    topic.name
                ));
            }
            ranges.push(PartitionRange {
                partition,
                start: start.max(low),
                end,
            });
        }
        let mut strange: Option<(i32, i64, String)> = None;
        let mut strangers = 0u64;
        read_ranges(
            &region.cluster,
            &topic.name,
            &ranges,
            STAGE,
            ctx,
            |message| {
                if let Err(reason) = each(self, message) {
                    strangers += 1;
                    strange.get_or_insert((message.partition(), message.offset(), reason));
                }
                Ok(())
            },
        )?;
        if let Some((partition, offset, reason)) = strange {
            self.notes.push(format!(
                "{strangers} records of {} say nothing of a row; the first at partition {partition} offset {offset}: {reason}",
                topic.name
            ));
        }
        Ok(())
    }

    fn verdicts(
        &mut self,
        region: &RegionTopics,
        topic: &TopicRow,
        job: JobId,
        ctx: &Context,
    ) -> Result<()> {
        let job = job.to_string();
        self.each(region, topic, ctx, |said, message| {
            let payload = message.payload().ok_or("has no value")?;
            let (_, datum) = framing::split(payload).map_err(|e| e.to_string())?;
            let verdicts = Verdicts::decode(datum)?;
            if verdicts.job != job {
                return Ok(());
            }
            for range in verdicts.ranges {
                let number = |n: i64| u32::try_from(n).map_err(|_| format!("{n} is no row number"));
                let (split, first, last) = (
                    number(range.split)?,
                    number(range.first)?,
                    number(range.last)?,
                );
                if range.of == 0 {
                    let mut rows = RoaringBitmap::new();
                    rows.insert_range(first..=last);
                    said.filtered.add(split, &rows, reason(&range.reason));
                }
            }
            Ok(())
        })
    }

    fn dead_letters(
        &mut self,
        region: &RegionTopics,
        topic: &TopicRow,
        job: JobId,
        ctx: &Context,
    ) -> Result<()> {
        self.each(region, topic, ctx, |said, message| {
            let bytes = header(message, HEADER).ok_or_else(|| format!("has no header {HEADER}"))?;
            let id = Identity::from_bytes(bytes).map_err(|e| e.to_string())?;
            let stage = header(message, STAGE_HEADER).unwrap_or_default();
            // A row that the publisher rejected is told of by its receipt.
            if id.job == job && stage != STAGE_PUBLISH.as_bytes() {
                let why = header(message, REASON_HEADER).unwrap_or_default();
                let why = String::from_utf8_lossy(why);
                let mut row = RoaringBitmap::from_iter([id.seq]);
                if stage == STAGE_LAND.as_bytes()
                    && let Some(known) = said.dead_lettered.rows.get(&id.split)
                {
                    // The answers of one family are a letter each: that is not done twice.
                    row -= known;
                }
                said.dead_lettered.add(id.split, &row, reason(&why));
            }
            Ok(())
        })
    }

    /// Acknowledged rows below a log start that the workers had not reached.
    fn expiry(
        &mut self,
        region: &RegionTopics,
        topic: &TopicRow,
        job: JobId,
        splits: &[SplitRow],
    ) -> Result<()> {
        same_topic(&region.cluster, topic)?;
        let committed = region
            .cluster
            .committed(&region.group, &topic.name, topic.partitions)?;
        for (partition, low, _) in region.cluster.watermarks(&topic.name, topic.partitions)? {
            let passed = committed.iter().find(|c| c.0 == partition);
            let passed = passed.and_then(|c| c.1).unwrap_or(0);
            if passed >= low {
                continue;
            }
            for split in splits {
                let sent_before = |r: &&(i32, i64, i64)| r.0 == partition && r.1 < low;
                if split.ranges.iter().find(sent_before).is_none() {
                    continue;
                }
                let id = |seq| Identity {
                    job,
                    split: split.split.split,
                    seq,
                };
                let there = (0..split.split.rows)
                    .filter(|s| region.keyed || id(*s).partition(topic.partitions) == partition);
                self.may_have_expired
                    .entry(split.split.split)
                    .or_default()
                    .extend(there);
            }
        }
        Ok(())
    }
}

/// A cause that can be counted: what is before the first colon.
fn reason(text: &str) -> &str {
    match text.split(':').next().map(str::trim) {
        None | Some("") => "(no reason given)",
        Some(reason) => reason,
    }
}

fn same_topic(cluster: &Cluster, topic: &TopicRow) -> Result<()> {
    let wrong = |reason: &str| Error::Topic {
        topic: topic.name.clone(),
        partition: None,
        offset: None,
        reason: reason.to_owned(),
    };
    let facts = cluster
        .topic(&topic.name)?
        .ok_or_else(|| wrong("is gone, and with it what it said of the job's rows"))?;
    if (&facts.cluster_id, &facts.topic_id) == (&topic.cluster_id, &topic.topic_id) {
        return Ok(());
    }
    Err(wrong(
        "is not the topic this job began with: it was recreated, and what it said of the job's rows is gone; run the job under a new name or param",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts_and_a_second_look_is_noted() {
        let mut causes = Causes::default();
        causes.add(1, &RoaringBitmap::from_iter([1, 2]), "cancelled");
        causes.add(1, &RoaringBitmap::from_iter([2, 3]), "late");
        assert_eq!(causes.rows[&1], RoaringBitmap::from_iter([1, 2, 3]));
        assert_eq!(causes.again[&1], RoaringBitmap::from_iter([2]));
        assert_eq!(causes.by_reason["late"][&1], RoaringBitmap::from_iter([3]));
        assert_eq!(reason("NotArrived: flight 12"), "NotArrived");
        assert_eq!(reason(" : x"), "(no reason given)");
    }
}
