//! One drain of one region's egress topic, from where the table ends to the last stable offsets of now, or on and on.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rdkafka::message::{BorrowedMessage, Message};
use roaring::RoaringBitmap;
use tokio_util::sync::CancellationToken;

use super::families::{Duplicates, Families};
use super::group::Share;
use super::intake::Intake;
use super::letters::Letters;
use super::ranges::{ranges, starts};
use super::writer::Writer;
use super::{LandUntil, LandedRange, Plan, RegionLanding, STAGE};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::files::unique_name;
use crate::kafka::{PartitionRange, follow_ranges};
use crate::table::{
    Advance, CommitError, CommitRequest, Position, Seen, Storage, Table, offset_key,
};

/// Payload bytes of incomplete families that are held in memory.
const HELD_BYTES: usize = 256 << 20;
const REPORT: Duration = Duration::from_millis(200);
/// Records between looks at the clock: they come at least as often as polls time out.
const LOOK: u64 = 16;

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

/// Lands one drain, of all partitions or of a share. What is committed is counted in `landing`.
///
/// # Errors
/// [`Error::Topic`], [`Error::Kafka`], [`Error::Table`], [`Error::Interrupted`], or the table's: nothing was landed since
/// the last commit.
pub(super) fn drain(
    plan: &Plan,
    table: &Table,
    share: Option<&Share>,
    ctx: &Context,
    landing: &mut RegionLanding,
) -> Result<(), Ended> {
    ctx.check(STAGE)?;
    let state = table.state()?;
    let starts = starts(plan, &state);
    let mut ranges = ranges(plan, &starts, ctx, landing)?;
    if let Some(share) = share {
        ranges.retain(|range| share.partitions.contains(&range.partition));
    }
    landing.version = state.version;
    let begin = Begin {
        starts,
        ranges,
        landed: table.seen(&state)?.landed(plan.job),
        stop: share.map(|share| share.gone.clone()),
    };
    let (storage, commits) = (table.storage(), &mut &*table);
    read(plan, storage, begin, commits, ctx, landing)
}

/// Where a drain begins, and what it reads.
pub(super) struct Begin {
    pub starts: BTreeMap<i32, Position>,
    pub ranges: Vec<PartitionRange>,
    /// The job's inputs that are landed, by split.
    pub landed: Vec<(u32, RoaringBitmap)>,
    /// Ends it early; what was read is committed.
    pub stop: Option<CancellationToken>,
}

/// Takes what a drain lands.
pub(super) trait Commits {
    /// The table's version with it.
    ///
    /// # Errors
    /// The table's.
    fn commit(&mut self, request: CommitRequest) -> Result<u64, CommitError>;
}

impl Commits for &Table {
    fn commit(&mut self, request: CommitRequest) -> Result<u64, CommitError> {
        Table::commit(self, &request).map(|committed| committed.version)
    }
}

/// Lands what ranges have into files of a storage.
///
/// # Errors
/// As [`drain`].
pub(super) fn read(
    plan: &Plan,
    storage: &Storage,
    begin: Begin,
    commits: &mut dyn Commits,
    ctx: &Context,
    landing: &mut RegionLanding,
) -> Result<(), Ended> {
    let Begin {
        starts,
        ranges,
        landed,
        stop,
    } = begin;
    let total = match plan.until {
        LandUntil::Now => Some(ranges.iter().map(|r| r.end.abs_diff(r.start)).sum()),
        LandUntil::Stopped => None,
    };
    let mut lander = Lander {
        plan,
        commits,
        intake: Intake {
            plan,
            starts: &starts,
            families: Families::new(landed, HELD_BYTES),
            writer: Writer::new(storage, &plan.egress, plan.shape.clone())?,
            letters: Letters::new(plan, ctx),
            unreadable: HashMap::new(),
            records: 0,
            foreign: 0,
        },
        committed: starts.clone(),
        counted: Counted::default(),
        past: ranges.iter().map(|r| (r.partition, r.start)).collect(),
        since: Instant::now(),
        landing,
        total,
        ctx,
        reported: Instant::now(),
    };
    lander.report();
    let reading = ctx.scope();
    let read = follow_ranges(
        &plan.cluster,
        &plan.topic.name,
        &ranges,
        STAGE,
        &reading,
        |message| {
            if stop.as_ref().is_some_and(CancellationToken::is_cancelled) {
                reading.cancel.cancel();
            }
            lander.step(message)
        },
    );
    lander.report();
    let told_to_end = plan.until == LandUntil::Stopped
        || (reading.cancel.is_cancelled() && !ctx.cancel.is_cancelled());
    match read {
        // What was read is committed.
        Err(Ended::Failed(Error::Interrupted { .. })) if told_to_end => {}
        read => {
            read?;
            for range in ranges.iter().filter(|r| r.end != PartitionRange::OPEN) {
                // What there is up to the end and is no record of ours: markers, holes.
                lander.past.insert(range.partition, range.end);
            }
        }
    }
    lander.commit()
}

/// What the commits so far have counted.
#[derive(Default)]
struct Counted {
    records: u64,
    foreign: u64,
    rows: u64,
    inputs: u64,
    dead_lettered: u64,
    duplicates: Duplicates,
}

struct Lander<'a> {
    plan: &'a Plan,
    commits: &'a mut dyn Commits,
    intake: Intake<'a>,
    /// What the table says.
    committed: BTreeMap<i32, Position>,
    counted: Counted,
    /// By partition, one past what was read.
    past: BTreeMap<i32, i64>,
    /// When the last commit was.
    since: Instant,
    landing: &'a mut RegionLanding,
    total: Option<u64>,
    ctx: &'a Context,
    reported: Instant,
}

impl Lander<'_> {
    /// Takes a record, if there is one, and does what is due.
    fn step(&mut self, message: Option<&BorrowedMessage<'_>>) -> Result<(), Ended> {
        if let Some(message) = message {
            self.intake.take(message)?;
            self.past.insert(message.partition(), message.offset() + 1);
        }
        if self.intake.writer.bytes() >= self.plan.shape.commit_bytes {
            self.commit()?;
        }
        // A clock for each record would be a tenth of the work.
        let look = message.is_none() || self.intake.records.is_multiple_of(LOOK);
        if look && self.reported.elapsed() >= REPORT {
            if self.since.elapsed() >= self.plan.commit_every {
                self.commit()?;
            }
            self.report();
        }
        Ok(())
    }

    fn report(&mut self) {
        self.reported = Instant::now();
        let counts = &self.landing.counts;
        let bytes = counts.bytes + self.intake.writer.bytes();
        let mut figures = BTreeMap::from([
            ("rows", self.intake.writer.rows as f64),
            ("bytes", bytes as f64),
            ("files", counts.files as f64),
        ]);
        let lag = self
            .total
            .map(|all| all.saturating_sub(self.intake.records));
        figures.extend(lag.map(|lag| ("lag_records", lag as f64)));
        self.ctx.report(Progress {
            stage: STAGE,
            label: self.landing.region.clone(),
            done: self.intake.records,
            total: self.total,
            note: format!(
                "{:.1} MB, {} files committed",
                bytes as f64 / 1e6,
                counts.files
            ),
            figures,
        });
    }

    /// Lands what was read since the last commit.
    fn commit(&mut self) -> Result<(), Ended> {
        self.since = Instant::now();
        let id = unique_name();
        let files = self.intake.writer.finish(&id)?;
        // The table passes them with this commit.
        self.intake.letters.settle()?;
        let holds = self.intake.families.holds();
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
        let duplicates = self.intake.families.duplicates;
        if offsets.values().any(|a| a.from != a.to) {
            let seen = self.intake.families.take_seen().into_iter();
            let (count, bytes) = (
                files.len() as u64,
                files.iter().map(|f| f.bytes).sum::<u64>(),
            );
            let request = CommitRequest {
                id,
                job: self.plan.job,
                schema: self.plan.egress.json().to_owned(),
                files,
                staged: self.plan.staged,
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
            let committed = self.commits.commit(request);
            if matches!(committed, Ok(_) | Err(CommitError::Ambiguous { .. })) {
                self.intake.writer.keep()?;
            }
            self.landing.version = committed.map_err(Ended::Commit)?;
            self.landing.commits += 1;
            self.landing.counts.files += count;
            self.landing.counts.bytes += bytes;
        }
        self.count(duplicates, &ends);
        Ok(())
    }

    /// Adds to the landing what is new since the last commit.
    fn count(&mut self, duplicates: Duplicates, ends: &BTreeMap<i32, Position>) {
        let (landing, counted) = (&mut *self.landing, &self.counted);
        landing.records += self.intake.records - counted.records;
        let counts = &mut landing.counts;
        counts.foreign += self.intake.foreign - counted.foreign;
        counts.landed += self.intake.writer.rows - counted.rows;
        counts.inputs += self.intake.families.inputs - counted.inputs;
        counts.dead_lettered += self.intake.letters.count - counted.dead_lettered;
        counts.duplicates += duplicates - counted.duplicates;
        counts.incomplete = self.intake.families.incomplete();
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
            records: self.intake.records,
            foreign: self.intake.foreign,
            rows: self.intake.writer.rows,
            inputs: self.intake.families.inputs,
            dead_lettered: self.intake.letters.count,
            duplicates,
        };
    }
}
