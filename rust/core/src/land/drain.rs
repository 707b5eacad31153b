//! One drain of one region's egress topic, from where the table ends to the last stable offsets of now, or on and on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kappaflow_avro::AvroSchema;
use kappaflow_avro::framing::{self, SchemaKey, VALUE_HEADER};
use rdkafka::message::{BorrowedMessage, Message};

use super::families::{At, Duplicates, Families, Offer};
use super::ranges::{ranges, starts};
use super::writer::Writer;
use super::{LandUntil, LandedRange, Plan, RegionLanding};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::files::unique_name;
use crate::identity::{EgressIdentity, HEADER};
use crate::kafka::{PartitionRange, follow_ranges, header};
use crate::registry::{self, RegistryError};
use crate::table::{Advance, CommitError, CommitRequest, Position, Seen, TableCommit, offset_key};

const STAGE: &str = "land";
/// Payload bytes of incomplete families that are held in memory.
const HELD_BYTES: usize = 256 << 20;
const REPORT: Duration = Duration::from_millis(200);

/// How a drain ended early.
pub(super) enum Ended {
    /// What was not committed is not landed.
    Failed(Error),
    /// By the table's answer to a commit.
    Commit(CommitError),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Lands one drain. What is committed is counted in `landing`.
///
/// # Errors
/// [`Error::Topic`], [`Error::Kafka`], [`Error::Table`], [`Error::Interrupted`], or the table's: nothing was landed since
/// the last commit.
pub(super) fn drain(
    plan: &Plan,
    table: &dyn TableCommit,
    ctx: &Context,
    landing: &mut RegionLanding,
) -> Result<(), Ended> {
    ctx.check(STAGE)?;
    let state = table.state()?;
    let starts = starts(plan, &state);
    let ranges = ranges(plan, &starts)?;
    let seen = table.seen(&state)?;
    let landed = seen.of(plan.job).map(|(s, seen)| (s, seen.landed.clone()));
    let region = &plan.cluster.region.name;
    landing.version = state.version;
    let total = match plan.until {
        LandUntil::Now => Some(ranges.iter().map(|r| r.end.abs_diff(r.start)).sum()),
        LandUntil::Stopped => None,
    };
    let mut lander = Lander {
        plan,
        table,
        starts: &starts,
        committed: starts.clone(),
        families: Families::new(landed, HELD_BYTES),
        counted: Counted::default(),
        writer: Writer::new(table, plan.job, region, plan.commit_bytes, &plan.egress)?,
        past: ranges.iter().map(|r| (r.partition, r.start)).collect(),
        since: Instant::now(),
        landing,
        records: 0,
        foreign: 0,
        total,
        ctx,
        reported: Instant::now(),
    };
    lander.report();
    let read = follow_ranges(
        &plan.cluster,
        &plan.topic.name,
        &ranges,
        STAGE,
        ctx,
        |message| lander.step(message),
    );
    lander.report();
    match (read, plan.until) {
        (Err(Ended::Failed(Error::Interrupted { .. })), LandUntil::Stopped) => {}
        (read, _) => read?,
    }
    for range in ranges.iter().filter(|r| r.end != PartitionRange::OPEN) {
        // What there is up to the end and is no record of ours: markers, holes.
        lander.past.insert(range.partition, range.end);
    }
    lander.commit()
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

/// What the commits so far have counted.
#[derive(Default)]
struct Counted {
    records: u64,
    foreign: u64,
    rows: u64,
    inputs: u64,
    duplicates: Duplicates,
}

struct Lander<'a> {
    plan: &'a Plan,
    table: &'a dyn TableCommit,
    /// Where the drain began.
    starts: &'a BTreeMap<i32, Position>,
    /// What the table says.
    committed: BTreeMap<i32, Position>,
    families: Families<Held>,
    counted: Counted,
    writer: Writer<'a>,
    /// By partition, one past what was read.
    past: BTreeMap<i32, i64>,
    /// When the last commit was.
    since: Instant,
    landing: &'a mut RegionLanding,
    /// Read, and not this job's, so far.
    records: u64,
    foreign: u64,
    total: Option<u64>,
    ctx: &'a Context,
    reported: Instant,
}

impl Lander<'_> {
    /// Takes a record, if there is one, and does what is due.
    fn step(&mut self, message: Option<&BorrowedMessage<'_>>) -> Result<(), Ended> {
        if let Some(message) = message {
            self.take(message)?;
            self.past.insert(message.partition(), message.offset() + 1);
        }
        if self.writer.bytes() >= self.plan.commit_bytes {
            self.commit()?;
        }
        if self.reported.elapsed() >= REPORT {
            if self.since.elapsed() >= self.plan.commit_every {
                self.commit()?;
            }
            self.report();
        }
        Ok(())
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<()> {
        let (partition, offset) = (message.partition(), message.offset());
        self.records += 1;
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
            self.foreign += 1;
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
            reason: format!("the record {reason}. Nothing was landed since the last commit"),
        }
    }

    fn report(&mut self) {
        self.reported = Instant::now();
        self.ctx.report(Progress {
            stage: STAGE,
            label: self.landing.region.clone(),
            done: self.records,
            total: self.total,
            note: String::new(),
            figures: BTreeMap::new(),
        });
    }

    /// Lands what was read since the last commit.
    fn commit(&mut self) -> Result<(), Ended> {
        self.since = Instant::now();
        let id = unique_name();
        let files = self.writer.finish(&id)?;
        let holds = self.families.holds();
        let topic = &self.plan.topic;
        let mut offsets = BTreeMap::new();
        let mut ends = BTreeMap::new();
        for (partition, past) in &self.past {
            let Some(from) = self.committed.get(partition).copied() else {
                continue;
            };
            let to = Position {
                next: holds.get(partition).map_or(*past, |held| *held),
                reached: *past.max(&from.reached),
            };
            ends.insert(*partition, to);
            let key = offset_key(
                self.plan.job,
                &topic.cluster_id,
                &topic.topic_id,
                *partition,
            );
            offsets.insert(key, Advance { from, to });
        }
        let duplicates = self.families.duplicates;
        if offsets.values().any(|a| a.from != a.to) {
            let seen = self.families.take_seen().into_iter();
            let (count, bytes) = (
                files.len() as u64,
                files.iter().map(|f| f.bytes).sum::<u64>(),
            );
            let request = CommitRequest {
                id,
                job: self.plan.job,
                schema: self.plan.egress.json().to_owned(),
                files,
                offsets,
                tokens: self.plan.tokens.clone(),
                seen: Seen(
                    seen.map(|(split, seen)| ((self.plan.job, split), seen))
                        .collect(),
                ),
                re_published: duplicates.re_published - self.counted.duplicates.re_published,
            };
            if self.plan.until == LandUntil::Now {
                self.ctx.check(STAGE)?;
            }
            let committed = self.table.commit(&request);
            if matches!(committed, Ok(_) | Err(CommitError::Ambiguous { .. })) {
                self.writer.keep();
            }
            self.landing.version = committed.map_err(Ended::Commit)?.version;
            self.landing.commits += 1;
            self.landing.files += count;
            self.landing.bytes += bytes;
        }
        self.count(duplicates, &ends);
        Ok(())
    }

    /// Adds to the landing what is new since the last commit.
    fn count(&mut self, duplicates: Duplicates, ends: &BTreeMap<i32, Position>) {
        let (landing, counted) = (&mut *self.landing, &self.counted);
        landing.records += self.records - counted.records;
        landing.foreign += self.foreign - counted.foreign;
        landing.landed += self.writer.rows - counted.rows;
        landing.inputs += self.families.inputs - counted.inputs;
        landing.duplicates += duplicates - counted.duplicates;
        landing.incomplete = self.families.incomplete();
        for (partition, to) in ends {
            let found = landing
                .offsets
                .iter_mut()
                .find(|o| o.partition == *partition);
            match found {
                Some(range) => (range.end, range.next) = (to.reached, to.next),
                None => landing.offsets.push(LandedRange {
                    partition: *partition,
                    start: self
                        .committed
                        .get(partition)
                        .map_or(to.next, |from| from.next),
                    end: to.reached,
                    next: to.next,
                }),
            }
        }
        self.committed.extend(ends);
        self.counted = Counted {
            records: self.records,
            foreign: self.foreign,
            rows: self.writer.rows,
            inputs: self.families.inputs,
            duplicates,
        };
    }
}
