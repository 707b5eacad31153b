//! Landing in other processes, which see neither the store nor the job file: Spark's executors.
//!
//! One process holds the store and the table: it gives out the partitions that have something new, one a task, and
//! commits what all tasks hand over at once. A task drains its partition as a lander does, but for the commit. So one
//! that is tried again, runs twice or dies leaves files that no commit names, and nothing else. All answers to an input
//! are in one partition: a task has whole families.

mod task;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::ranges::{ranges, starts};
use super::{
    CONFLICTS, LandOptions, LandSummary, Plan, RegionLanding, note_landed, plans, summary,
};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::files::unique_name;
use crate::session::Session;
use crate::table::{CommitError, CommitRequest, DATA, Table, blocking};

pub use task::{Landed, land_range};

use task::{Handed, Order, Piece};

/// What is to be landed elsewhere.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tasks {
    /// What partitions of a region have in common, as JSON.
    pub orders: Vec<String>,
    /// Each partition as JSON, with the index of its order.
    pub pieces: Vec<(usize, String)>,
    /// Offsets that the pieces have, together.
    pub records: u64,
}

/// A landing in other processes, seen from the one that holds the store.
pub struct RemoteLand {
    session: Session,
    table: Arc<Table>,
    /// Regions that are not landed yet, as the orders of the last tasks are.
    open: Vec<Open>,
    landings: Vec<RegionLanding>,
    began: Instant,
}

struct Open {
    plan: Arc<Plan>,
    /// Another lander was first, so often.
    conflicts: u32,
    /// Pieces that were given out.
    pieces: usize,
    landing: RegionLanding,
}

impl RemoteLand {
    /// # Errors
    /// As [`super::land`] before it reads a record.
    pub async fn open(session: Session, region: Option<String>) -> Result<Self> {
        let options = LandOptions {
            region,
            ..LandOptions::default()
        };
        let table = Arc::new(Table::of(&session.job)?);
        let plans = plans(&session, &options).await?;
        Ok(Self {
            open: plans.into_iter().map(Open::new).collect(),
            session,
            table,
            landings: Vec::new(),
            began: Instant::now(),
        })
    }

    /// What there is to land now, region by region. One that has nothing new is done.
    ///
    /// # Errors
    /// [`Error::Topic`], [`Error::Kafka`], [`Error::Table`]; [`Error::Interrupted`].
    pub async fn tasks(&mut self, ctx: &Context) -> Result<Tasks> {
        let mut tasks = Tasks::default();
        for mut open in std::mem::take(&mut self.open) {
            let (plan, table, ctx) = (Arc::clone(&open.plan), Arc::clone(&self.table), ctx.clone());
            let output = self.session.job.file.output.clone();
            let (base, location) = (self.session.job.dir.clone(), table.location().to_path_buf());
            let given = move || {
                give(
                    &plan,
                    &table,
                    |seen| Order::new(&plan, base, output, seen),
                    &ctx,
                )
            };
            let (order, pieces, landing) = blocking(&location, given).await?;
            open.landing = landing;
            open.pieces = pieces.len();
            if pieces.is_empty() {
                self.done(open.landing).await?;
                continue;
            }
            for piece in pieces {
                tasks.records += piece.records();
                tasks.pieces.push((tasks.orders.len(), piece.text()?));
            }
            tasks.orders.push(order.text()?);
            self.open.push(open);
        }
        Ok(tasks)
    }

    /// Commits what the tasks have handed over, each with the index of its order. Whether all is landed; if not, another
    /// lander was first, and there are other tasks.
    ///
    /// # Errors
    /// [`Error::Table`] if a task has not answered or its files can't be seen from here; [`Error::TooManyDeadLetters`];
    /// [`Error::Fenced`]. What is of other regions stays landed.
    pub async fn commit(&mut self, landed: Vec<(usize, Landed)>) -> Result<bool> {
        let mut by_order: HashMap<usize, Vec<Landed>> = HashMap::new();
        for (order, landed) in landed {
            by_order.entry(order).or_default().push(landed);
        }
        for (order, mut open) in std::mem::take(&mut self.open).into_iter().enumerate() {
            let landed = by_order.remove(&order).unwrap_or_default();
            let (table, location) = (Arc::clone(&self.table), self.table.location().to_path_buf());
            let (open, committed) = blocking(&location, move || {
                let committed = open.commit(&table, landed)?;
                Ok((open, committed))
            })
            .await?;
            match committed {
                true => self.done(open.landing).await?,
                false => self.open.push(open),
            }
        }
        Ok(self.open.is_empty())
    }

    async fn done(&mut self, mut landing: RegionLanding) -> Result<()> {
        landing.seconds = self.began.elapsed().as_secs_f64();
        note_landed(&self.session, &landing).await?;
        self.landings.push(landing);
        Ok(())
    }

    /// What was done, once all is landed.
    ///
    /// # Errors
    /// [`Error::NotReady`] before that; [`Error::Table`].
    pub async fn finish(self) -> Result<LandSummary> {
        if !self.open.is_empty() {
            return Err(Error::NotReady {
                what: "not all tasks of this landing are committed".into(),
                fix: "land again: what is committed stays landed".into(),
            });
        }
        summary(&self.session, self.table, self.landings, self.began).await
    }
}

/// A region's order and its pieces, and where its landing stands without them.
fn give(
    plan: &Plan,
    table: &Table,
    order: impl FnOnce(String) -> Order,
    ctx: &Context,
) -> Result<(Order, Vec<Piece>, RegionLanding)> {
    let state = table.state()?;
    let mut landing = RegionLanding::of(plan);
    landing.version = state.version;
    let starts = starts(plan, &state);
    let ranges = ranges(plan, &starts, ctx, &mut landing)?;
    let new = ranges.iter().filter(|range| range.start < range.end);
    let pieces = new.filter_map(|range| Some(Piece::new(range, *starts.get(&range.partition)?)));
    let pieces = pieces.collect();
    // Where the tasks see no such directory, they say so.
    table.storage().make()?;
    let landed = table.seen(&state)?.alone(plan.job);
    Ok((
        order(task::packed(&landed, table.location())?),
        pieces,
        landing,
    ))
}

impl Open {
    fn new(plan: Plan) -> Self {
        Self {
            landing: RegionLanding::of(&plan),
            plan: Arc::new(plan),
            conflicts: 0,
            pieces: 0,
        }
    }

    /// Whether it is in the table, and not another lander's.
    fn commit(&mut self, table: &Table, landed: Vec<Landed>) -> Result<bool> {
        let plan = &self.plan;
        let refused = |reason: String| Error::Table {
            table: table.location().to_path_buf(),
            reason,
        };
        if landed.len() != self.pieces {
            return Err(refused(format!(
                "{} of {} tasks have answered: nothing of them is landed",
                landed.len(),
                self.pieces
            )));
        }
        let mut all = Handed::default();
        for landed in landed {
            all.add(landed, &mut self.landing).map_err(refused)?;
        }
        let letters = self.landing.counts.dead_lettered;
        if letters > plan.max_dead_letters {
            return Err(Error::TooManyDeadLetters {
                limit: plan.max_dead_letters,
                summary: format!("{letters} by all tasks together"),
                topic: plan.dead_letter.name.clone(),
                so_far: " with their reasons, and nothing of this is landed".into(),
            });
        }
        check_files(table, &all)?;
        if all.offsets.is_empty() {
            return Ok(true);
        }
        let id = unique_name();
        all.files
            .iter_mut()
            .for_each(|file| file.commit.clone_from(&id));
        let request = CommitRequest {
            id,
            job: plan.job,
            schema: plan.egress.json().to_owned(),
            files: all.files,
            staged: plan.staged,
            offsets: all.offsets,
            tokens: plan.tokens.clone(),
            seen: all.seen,
            re_published: self.landing.counts.duplicates.re_published,
        };
        match table.commit(&request) {
            Ok(committed) => {
                self.landing.version = committed.version;
                self.landing.commits = 1;
                Ok(true)
            }
            Err(CommitError::Conflict { .. }) if self.conflicts < CONFLICTS => {
                self.conflicts += 1;
                Ok(false)
            }
            Err(e) => Err(e.at(table.location())),
        }
    }
}

/// That what the tasks have written is in the table's place, and not on disks of their own.
fn check_files(table: &Table, all: &Handed) -> Result<()> {
    let there = table.storage().list(DATA)?;
    let there: HashMap<&str, u64> = there.iter().map(|f| (f.name.as_str(), f.bytes)).collect();
    for file in &all.files {
        let found = there.get(file.path.as_str());
        if found != Some(&file.bytes) {
            let found = found.map_or("is not there".into(), |bytes| format!("has {bytes} bytes"));
            return Err(Error::Table {
                table: table.location().to_path_buf(),
                reason: format!(
                    "a task has written {} with {} bytes, which {found} as seen from here: the table has to be on a file \
                     system that all of these machines see, or in an object store. Nothing of this is landed",
                    file.path, file.bytes
                ),
            });
        }
    }
    Ok(())
}
