//! Land: egress records become files of the table, each input's answers once, up to the ends that were there when the
//! drain began, or on and on; files, offsets, fencing tokens and what was seen are one commit, made now and then.

mod drain;
pub mod families;
mod file_thread;
mod group;
mod intake;
mod letters;
mod ranges;
pub mod remote;
mod writer;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kappaflow_avro::AvroSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::job::OutputMode;
use crate::kafka::Cluster;
use crate::registry::SchemaRegistry;
use crate::session::Session;
use crate::store::{Role, TopicRow};
use crate::table::{CommitError, Shape, Table, blocking, token_key};
use drain::Ended;
use group::{Group, Share};

pub use families::Duplicates;

const STAGE: &str = "land";
/// How often it is looked whether the others of a group have landed their shares.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Drains are begun anew this often in a row when another lander was first.
const CONFLICTS: u32 = 5;

/// When a landing ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LandUntil {
    /// Where the egress ends as it begins.
    #[default]
    Now,
    /// When it is told to stop: what was read by then is committed, and that is no error.
    Stopped,
}

impl FromStr for LandUntil {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "now" => Ok(Self::Now),
            "stopped" => Ok(Self::Stopped),
            _ => Err(format!("until {text:?}: expected now or stopped")),
        }
    }
}

/// What to land.
#[derive(Clone, Debug, Default)]
pub struct LandOptions {
    /// One region, or all in which child jobs are placed.
    pub region: Option<String>,
    pub until: LandUntil,
    /// Several landers share the partitions of a region, each a process that is told so.
    pub shared: bool,
}

/// What a land did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LandSummary {
    pub job: String,
    /// The table's directory or URL.
    pub table: PathBuf,
    /// The table's version afterwards.
    pub version: u64,
    #[serde(flatten)]
    pub counts: LandCounts,
    /// Data files no commit names: of landers that were killed, or that are at work now.
    pub orphans: u64,
    pub regions: Vec<RegionLanding>,
    pub seconds: f64,
}

/// What became of records, and how much was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandCounts {
    /// Rows landed now.
    pub landed: u64,
    /// Inputs whose answers these rows are.
    pub inputs: u64,
    /// Records left out because their input was landed already.
    pub duplicates: Duplicates,
    /// Inputs with some answers of a family whose others have not come; they are read again by the next land.
    pub incomplete: u64,
    /// Records of other jobs, or of child jobs that are placed elsewhere now.
    pub foreign: u64,
    /// Records that can't be landed and are in the dead-letter topic.
    pub dead_lettered: u64,
    /// Records of transactions that were still open though they should have run out: they are not landed.
    pub open: u64,
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// What a land did in one region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RegionLanding {
    pub region: String,
    pub topic: String,
    #[serde(flatten)]
    pub counts: LandCounts,
    /// Records read.
    pub records: u64,
    /// The table's version with this landing.
    pub version: u64,
    /// Commits that were made.
    pub commits: u64,
    pub offsets: Vec<LandedRange>,
    pub seconds: f64,
}

/// A partition's part of a landing. All offsets are exclusive ends or starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandedRange {
    pub partition: i32,
    pub start: i64,
    /// The last stable offset when the drain began; of one that was told to stop, one past what was read.
    pub end: i64,
    /// Where the next land starts: `end`, or before it where an incomplete family is held.
    pub next: i64,
}

/// All a drain of one region needs, so that it can run on a thread of its own.
struct Plan {
    job: JobId,
    cluster: Cluster,
    registry: Arc<dyn SchemaRegistry>,
    egress: AvroSchema,
    topic: TopicRow,
    dead_letter: TopicRow,
    dead_letter_options: BTreeMap<String, String>,
    /// Of dead letters.
    compression: String,
    max_dead_letters: u64,
    /// By [`token_key`], of the child jobs placed here.
    tokens: BTreeMap<String, i64>,
    /// Every split of the job: its rows, and whether its child job is placed here.
    splits: HashMap<u32, (u32, bool)>,
    until: LandUntil,
    /// The group of landers that share the partitions, if there are several.
    group: Option<String>,
    /// Whether the workers answer in transactions.
    transactional: bool,
    shape: Shape,
    /// Whether what lands waits to be published.
    staged: bool,
    /// A commit is due when its files have as many bytes as their shape says, or so long after the last one.
    commit_every: Duration,
}

/// Lands what the egress topics hold now, or on and on. Again, it lands what came since; killed at any point, nothing is
/// lost or twice.
///
/// # Errors
/// What has been committed by then stays landed.
/// [`Error::NotReady`] before dispatch; [`Error::Topic`] names a topic that is not the one the job began with;
/// [`Error::TooManyDeadLetters`] if more records can't be landed than the job allows; [`Error::Fenced`] if a child job was placed anew; [`Error::Table`] if a commit failed.
pub async fn land(session: &Session, options: LandOptions, ctx: &Context) -> Result<LandSummary> {
    let begun = Instant::now();
    let table = Arc::new(Table::of(&session.job)?);
    let location = table.location().to_path_buf();
    let mut tasks = Vec::new();
    for plan in plans(session, &options).await? {
        let (table, ctx) = (Arc::clone(&table), ctx.clone());
        let region = plan.cluster.region.name.clone();
        let task = move || land_region(&plan, table.as_ref(), &ctx);
        tasks.push((region, tokio::task::spawn_blocking(task)));
    }
    let mut landings = Vec::new();
    let mut failed = None;
    for (region, task) in tasks {
        let done = task.await.unwrap_or_else(|e| {
            Err(Error::Table {
                table: location.clone(),
                reason: format!("the lander of region {region} ended early: {e}"),
            })
        });
        match done {
            Ok(landing) => {
                note_landed(session, &landing).await?;
                landings.push(landing);
            }
            // The other regions' landings are awaited, since they commit by themselves.
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    if let Some(e) = failed {
        return Err(e);
    }
    summary(session, table, landings, begun).await
}

/// The plan of each region that lands, noted as started.
async fn plans(session: &Session, options: &LandOptions) -> Result<Vec<Plan>> {
    let placed = session.placed(options.region.as_deref()).await?;
    let regions: BTreeSet<String> = placed.into_iter().filter_map(|c| c.region).collect();
    let mut plans = Vec::new();
    for region in &regions {
        plans.push(plan(session, region, options).await?);
        session
            .store
            .note(session.id, STAGE, region, "started", json!({}))
            .await?;
    }
    Ok(plans)
}

async fn note_landed(session: &Session, landing: &RegionLanding) -> Result<()> {
    let detail = serde_json::to_value(landing).unwrap_or_default();
    session
        .store
        .note(session.id, STAGE, &landing.region, "landed", detail)
        .await
}

async fn summary(
    session: &Session,
    table: Arc<Table>,
    landings: Vec<RegionLanding>,
    begun: Instant,
) -> Result<LandSummary> {
    let location = table.location().to_path_buf();
    let (version, orphans) = blocking(&location, move || {
        Ok((table.state()?.version, table.orphans()?.len() as u64))
    })
    .await?;
    let mut counts = LandCounts::default();
    landings.iter().for_each(|l| counts.add(&l.counts));
    Ok(LandSummary {
        job: session.id.to_string(),
        table: location,
        version,
        counts,
        orphans,
        regions: landings,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

impl LandCounts {
    fn add(&mut self, other: &Self) {
        self.landed += other.landed;
        self.inputs += other.inputs;
        self.duplicates += other.duplicates;
        self.incomplete += other.incomplete;
        self.foreign += other.foreign;
        self.dead_lettered += other.dead_lettered;
        self.open += other.open;
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

impl RegionLanding {
    fn of(plan: &Plan) -> Self {
        Self {
            region: plan.cluster.region.name.clone(),
            topic: plan.topic.name.clone(),
            ..Self::default()
        }
    }
}

async fn plan(session: &Session, region: &str, options: &LandOptions) -> Result<Plan> {
    let children = session.placed(Some(region)).await?;
    let here = |child: &str| children.iter().any(|c| c.name == child);
    let splits = session.store.splits(session.id, None).await?;
    let output = &session.job.file.output;
    let cluster = session.cluster(region)?;
    let dead_letter = session.topic(region, Role::Deadletter).await?;
    Ok(Plan {
        job: session.id,
        dead_letter_options: cluster.topic_options(&dead_letter.name).await,
        dead_letter,
        compression: session.job.file.topics.compression.clone(),
        max_dead_letters: output.max_dead_letters,
        cluster,
        registry: session.registry(region)?,
        egress: session.egress.clone(),
        topic: session.topic(region, Role::Egress).await?,
        tokens: children
            .iter()
            .map(|c| (token_key(session.id, &c.name), c.token))
            .collect(),
        splits: splits
            .iter()
            .map(|s| (s.split.split, (s.split.rows, here(&s.split.child))))
            .collect(),
        until: options.until,
        group: options
            .shared
            .then(|| format!("{}.landers", session.group(region))),
        transactional: session.job.file.service.transactional,
        shape: Shape::new(session.id, region, output),
        staged: output.mode != OutputMode::Append,
        commit_every: Duration::from_millis(output.commit_ms),
    })
}

fn land_region(plan: &Plan, table: &Table, ctx: &Context) -> Result<RegionLanding> {
    let mut landing = RegionLanding::of(plan);
    let begun = Instant::now();
    match &plan.group {
        None => until_done(plan, table, None, ctx, &mut landing)?,
        Some(group) => in_group(plan, table, group, ctx, &mut landing)?,
    }
    landing.seconds = begun.elapsed().as_secs_f64();
    Ok(landing)
}

/// Drains, again if another lander was first.
fn until_done(
    plan: &Plan,
    table: &Table,
    share: Option<&Share>,
    ctx: &Context,
    landing: &mut RegionLanding,
) -> Result<()> {
    let (mut conflicts, mut commits) = (0, landing.commits);
    loop {
        let ended = drain::drain(plan, table, share, ctx, landing);
        if landing.commits > commits {
            (conflicts, commits) = (0, landing.commits);
        }
        match ended {
            Ok(()) => return Ok(()),
            // What the other lander landed is where the next drain starts.
            Err(Ended::Commit(CommitError::Conflict { .. })) if conflicts < CONFLICTS => {
                conflicts += 1;
            }
            Err(Ended::Commit(e)) => return Err(e.at(table.location())),
            Err(Ended::Failed(e)) => return Err(e),
        }
    }
}

/// Drains the shares that a group gives, until all that was there as it began is in the table, whoever has landed it.
fn in_group(
    plan: &Plan,
    table: &Table,
    group: &str,
    ctx: &Context,
    landing: &mut RegionLanding,
) -> Result<()> {
    let goal = ranges::goal(plan, ctx, landing)?;
    let group = Group::join(&plan.cluster, group, &plan.topic.name)?;
    let mut drained = None;
    loop {
        let taken = match (group.share(LOOK_EVERY, ctx), plan.until) {
            (Err(Error::Interrupted { .. }), LandUntil::Stopped) => return Ok(()),
            (taken, _) => taken?,
        };
        match taken {
            // The same share again: the others are at work on theirs.
            Some(taken) if drained.as_ref() == Some(&taken.share.partitions) => drop(taken),
            Some(taken) => {
                until_done(plan, table, Some(&taken.share), ctx, landing)?;
                let whole = !taken.share.gone.is_cancelled();
                drained = whole.then(|| taken.share.partitions.clone());
                continue;
            }
            None => drained = None,
        }
        if plan.until == LandUntil::Now && ranges::is_reached(plan, &table.state()?, &goal) {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
