//! One drain of one region's egress topic, from where the table ends to the last stable offsets of now.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kappaflow_avro::AvroSchema;
use kappaflow_avro::framing::{self, SchemaKey, VALUE_HEADER};
use rdkafka::message::{BorrowedMessage, Message};

use super::families::{At, Families, Offer};
use super::writer::Writer;
use super::{LandedRange, Plan, RegionLanding};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::files::unique_name;
use crate::identity::{EgressIdentity, HEADER};
use crate::kafka::{PartitionRange, header, read_ranges};
use crate::registry::{self, RegistryError};
use crate::table::{
    Advance, CommitError, CommitRequest, Position, Seen, TableCommit, TableState, offset_key,
};

const STAGE: &str = "land";
/// Payload bytes of incomplete families that are held in memory.
const HELD_BYTES: usize = 256 << 20;
const REPORT: Duration = Duration::from_millis(200);

/// Lands one drain. The inner error is the table's answer to the commit.
///
/// # Errors
/// [`Error::Topic`], [`Error::Kafka`], [`Error::Table`], [`Error::Interrupted`]: nothing was committed.
pub(super) fn drain(
    plan: &Plan,
    table: &dyn TableCommit,
    ctx: &Context,
) -> Result<Result<RegionLanding, CommitError>> {
    ctx.check(STAGE)?;
    let state = table.state()?;
    let starts = starts(plan, &state);
    let ranges = ranges(plan, &starts)?;
    let seen = table.seen(&state)?;
    let landed = seen.of(plan.job).map(|(s, seen)| (s, seen.landed.clone()));
    let commit = unique_name();
    let region = &plan.cluster.region.name;
    let mut lander = Lander {
        plan,
        starts: &starts,
        families: Families::new(landed, HELD_BYTES),
        writer: Writer::new(table, plan.job, region, &commit, &plan.egress)?,
        landing: RegionLanding {
            region: region.clone(),
            topic: plan.topic.name.clone(),
            version: state.version,
            ..RegionLanding::default()
        },
        total: ranges.iter().map(|r| r.end.abs_diff(r.start)).sum(),
        ctx,
        reported: Instant::now(),
    };
    lander.report();
    read_ranges(
        &plan.cluster,
        &plan.topic.name,
        &ranges,
        STAGE,
        ctx,
        |message| lander.take(message),
    )?;
    lander.report();
    lander.finish(table, &ranges, commit)
}

/// Where the table says this job's landing of each partition is, or where its records begin.
fn starts(plan: &Plan, state: &TableState) -> BTreeMap<i32, Position> {
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

/// The ranges to read: to the last stable offsets of now, of the very topic the job began with.
fn ranges(plan: &Plan, starts: &BTreeMap<i32, Position>) -> Result<Vec<PartitionRange>> {
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
                end,
            })
        })
        .collect()
}

/// A record of a family that is not complete yet.
struct Held {
    schema: SchemaKey,
    datum: Vec<u8>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.datum
    }
}

struct Lander<'a> {
    plan: &'a Plan,
    starts: &'a BTreeMap<i32, Position>,
    families: Families<Held>,
    writer: Writer<'a>,
    landing: RegionLanding,
    total: u64,
    ctx: &'a Context,
    reported: Instant,
}

impl Lander<'_> {
    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<()> {
        let (partition, offset) = (message.partition(), message.offset());
        self.landing.records += 1;
        let again = self
            .starts
            .get(&partition)
            .is_some_and(|at| offset < at.reached);
        let at = At {
            partition,
            offset,
            again,
        };
        let bytes = header(message, HEADER)
            .ok_or_else(|| self.bad(at, format!("has no header {HEADER}")))?;
        let id = EgressIdentity::from_bytes(bytes).map_err(|e| self.bad(at, e.to_string()))?;
        if self.is_ours(at, id)? {
            let payload = message
                .payload()
                .ok_or_else(|| self.bad(at, "has no value".into()))?;
            let (schema, datum) = framing::read(header(message, VALUE_HEADER), payload)
                .map_err(|e| self.bad(at, e.to_string()))?;
            let held = || Held {
                schema,
                datum: datum.to_vec(),
            };
            let offer = self
                .families
                .offer(at, id, held)
                .map_err(|e| self.bad(at, e.to_string()))?;
            match offer {
                Offer::Single => self.write(at, id, schema, datum)?,
                Offer::Family(members) => {
                    for member in members {
                        let id = EgressIdentity {
                            child: member.child,
                            ..id
                        };
                        self.write(member.at, id, member.payload.schema, &member.payload.datum)?;
                    }
                }
                Offer::Held | Offer::Duplicate => {}
            }
            self.writer.flush_if_due()?;
        } else if !again {
            self.landing.foreign += 1;
        }
        if self.reported.elapsed() >= REPORT {
            self.report();
        }
        Ok(())
    }

    /// Whether the record is this job's, of a child job that is placed here.
    fn is_ours(&self, at: At, id: EgressIdentity) -> Result<bool> {
        if id.input.job != self.plan.job {
            return Ok(false);
        }
        match self.plan.splits.get(&id.input.split) {
            Some((rows, here)) if id.input.seq < *rows => Ok(*here),
            _ => Err(self.bad(
                at,
                format!(
                    "says to answer row {} of split {}, which the job does not have",
                    id.input.seq, id.input.split
                ),
            )),
        }
    }

    fn write(&mut self, at: At, id: EgressIdentity, schema: SchemaKey, datum: &[u8]) -> Result<()> {
        if !self.writer.knows(schema) {
            self.learn(at, schema)?;
        }
        self.writer.push(at, id, schema, datum).map_err(|e| {
            let name = self.plan.egress.full_name();
            self.bad(at, format!("can't be decoded as {name}: {e}"))
        })
    }

    /// Makes ready to read what was written with another schema.
    fn learn(&mut self, at: At, schema: SchemaKey) -> Result<()> {
        let text = match registry::by_ref(self.plan.registry.as_ref(), schema) {
            Ok(found) => found.schema,
            // The registry answered, and has no such schema: the record is at fault.
            Err(e @ (RegistryError::NotFound { .. } | RegistryError::Unusable { .. })) => {
                let reason = format!("was written with schema {schema}, which is not known: {e}");
                return Err(self.bad(at, reason));
            }
            Err(e) => return Err(e.into()),
        };
        let learnt = AvroSchema::parse(&text)
            .map_err(|e| e.to_string())
            .and_then(|written| {
                let resolved = self.writer.learn(schema, &written);
                resolved.map_err(|e| e.to_string())
            });
        learnt.map_err(|e| {
            let reason = format!(
                "was written with schema {schema}, which the job's schema.egress can't read: {e}"
            );
            self.bad(at, reason)
        })
    }

    fn bad(&self, at: At, reason: String) -> Error {
        Error::Topic {
            topic: self.plan.topic.name.clone(),
            partition: Some(at.partition),
            offset: Some(at.offset),
            reason: format!("the record {reason}. Nothing of this drain was landed"),
        }
    }

    fn report(&mut self) {
        self.reported = Instant::now();
        self.ctx.report(Progress {
            stage: STAGE,
            label: self.landing.region.clone(),
            done: self.landing.records,
            total: Some(self.total),
            note: String::new(),
            figures: BTreeMap::new(),
        });
    }

    fn finish(
        mut self,
        table: &dyn TableCommit,
        ranges: &[PartitionRange],
        commit: String,
    ) -> Result<Result<RegionLanding, CommitError>> {
        let files = self.writer.finish()?;
        self.landing.landed = self.writer.rows;
        self.landing.inputs = self.families.inputs;
        self.landing.duplicates = self.families.duplicates;
        self.landing.incomplete = self.families.incomplete();
        self.landing.files = files.len() as u64;
        self.landing.bytes = files.iter().map(|f| f.bytes).sum();
        let holds = self.families.holds();
        let mut offsets = BTreeMap::new();
        for range in ranges {
            let next = holds.get(&range.partition).map_or(range.end, |h| *h);
            self.landing.offsets.push(LandedRange {
                partition: range.partition,
                start: range.start,
                end: range.end,
                next,
            });
            if let Some(from) = self.starts.get(&range.partition) {
                let topic = &self.plan.topic;
                let to = Position {
                    next,
                    reached: range.end,
                };
                let key = offset_key(
                    self.plan.job,
                    &topic.cluster_id,
                    &topic.topic_id,
                    range.partition,
                );
                offsets.insert(key, Advance { from: *from, to });
            }
        }
        if offsets.values().all(|a| a.from == a.to) {
            return Ok(Ok(self.landing));
        }
        let seen = self.families.into_seen();
        let request = CommitRequest {
            id: commit,
            job: self.plan.job,
            schema: self.plan.egress.json().to_owned(),
            files,
            offsets,
            tokens: self.plan.tokens.clone(),
            seen: Seen(
                seen.into_iter()
                    .map(|(split, seen)| ((self.plan.job, split), seen))
                    .collect(),
            ),
            re_published: self.landing.duplicates.re_published,
        };
        self.ctx.check(STAGE)?;
        let committed = table.commit(&request);
        if matches!(committed, Ok(_) | Err(CommitError::Ambiguous { .. })) {
            self.writer.keep();
        }
        Ok(committed.map(|c| {
            self.landing.version = c.version;
            self.landing
        }))
    }
}
