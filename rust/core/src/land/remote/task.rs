//! What a process that sees neither the store nor the job file needs to land a partition, and what it gives back. No
//! secret is in it: those are references, resolved where they are used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use kappaflow_avro::AvroSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::job::{Output, Region};
use crate::kafka::{Cluster, PartitionRange};
use crate::land::drain::{Begin, Commits, Ended, read};
use crate::land::ranges::check_topic;
use crate::land::{LandUntil, Plan, RegionLanding};
use crate::registry;
use crate::snapshot::Reach;
use crate::store::TopicRow;
use crate::table::{
    Advance, CommitError, CommitRequest, DataFile, Position, Seen, Shape, Storage, blocking,
};

/// Of the form of what follows.
const VERSION: u32 = 1;

/// What the partitions of a region have in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    version: u32,
    job: String,
    region: Region,
    /// What paths are relative to.
    base: PathBuf,
    broker_timeout_ms: u64,
    topic: TopicRow,
    dead_letter: TopicRow,
    dead_letter_options: BTreeMap<String, String>,
    compression: String,
    max_dead_letters: u64,
    egress: String,
    /// Each split with its rows, and whether its child job is placed here.
    splits: Vec<(u32, u32, bool)>,
    output: Output,
    /// The inputs that are landed, as [`packed`].
    landed: String,
}

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    partition: i32,
    from: Position,
    end: i64,
}

/// What a task has landed, but for the commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Landed {
    landing: RegionLanding,
    files: Vec<DataFile>,
    offsets: BTreeMap<String, Advance>,
    seen: String,
}

/// Commits that are handed over as one.
#[derive(Default)]
pub struct Handed {
    pub files: Vec<DataFile>,
    pub offsets: BTreeMap<String, Advance>,
    pub seen: Seen,
}

impl Order {
    pub fn new(plan: &Plan, base: PathBuf, output: Output, landed: String) -> Self {
        let splits = plan.splits.iter();
        Self {
            version: VERSION,
            job: plan.job.to_string(),
            region: plan.cluster.region.clone(),
            base,
            broker_timeout_ms: plan.cluster.timeout().as_millis() as u64,
            topic: plan.topic.clone(),
            dead_letter: plan.dead_letter.clone(),
            dead_letter_options: plan.dead_letter_options.clone(),
            compression: plan.compression.clone(),
            max_dead_letters: plan.max_dead_letters,
            egress: plan.egress.json().to_owned(),
            splits: splits
                .map(|(split, (rows, here))| (*split, *rows, *here))
                .collect(),
            // Only commits ask the catalog.
            output: Output {
                catalog: BTreeMap::new(),
                ..output
            },
            landed,
        }
    }

    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self> {
        let order: Self = serde_json::from_str(text).map_err(wrong)?;
        match order.version {
            VERSION => Ok(order),
            other => Err(wrong(format!("its version is {other}, not {VERSION}"))),
        }
    }

    /// The table's files as they are reached from here. Within a runtime.
    fn storage(&self, host: &str) -> Result<Storage> {
        let reach = Reach::new(&self.base, self.output.options.clone());
        let spool = std::env::temp_dir().join("kappaflow-spool");
        let storage = Storage::new(reach.place(&self.output.path)?, spool);
        match storage.is_made() {
            true => Ok(storage),
            false => Err(Error::Table {
                table: storage.location().to_path_buf(),
                reason: elsewhere(host),
            }),
        }
    }

    fn plan(self, host: &str) -> Result<Plan> {
        let timeout = Duration::from_millis(self.broker_timeout_ms);
        let shown = self.region.registry.shown();
        if let Some(path) = shown.strip_prefix("dir:")
            && !self.base.join(path).is_dir()
        {
            return Err(Error::Table {
                table: self.base.join(path),
                reason: format!("the schema registry {}", elsewhere(host)),
            });
        }
        let job = self.job.parse().map_err(wrong)?;
        Ok(Plan {
            job,
            registry: registry::open(&self.region.registry, &self.base)?,
            cluster: Cluster::new(self.region, self.base, timeout),
            egress: AvroSchema::parse(&self.egress).map_err(wrong)?,
            shape: Shape::new(job, &self.topic.region, &self.output),
            topic: self.topic,
            dead_letter: self.dead_letter,
            dead_letter_options: self.dead_letter_options,
            compression: self.compression,
            max_dead_letters: self.max_dead_letters,
            splits: self
                .splits
                .into_iter()
                .map(|(split, rows, here)| (split, (rows, here)))
                .collect(),
            until: LandUntil::Now,
            // These are the driver's, which commits.
            tokens: BTreeMap::new(),
            group: None,
            transactional: false,
            staged: false,
            commit_every: Duration::from_millis(self.output.commit_ms),
        })
    }
}

impl Piece {
    pub fn new(range: &PartitionRange, from: Position) -> Self {
        Self {
            partition: range.partition,
            from,
            end: range.end,
        }
    }

    pub fn records(&self) -> u64 {
        self.end.abs_diff(self.from.next)
    }

    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(wrong)
    }
}

impl Commits for Handed {
    fn commit(&mut self, request: CommitRequest) -> Result<u64, CommitError> {
        self.files.extend(request.files);
        for (key, advance) in request.offsets {
            let handed = self.offsets.entry(key).or_insert(advance);
            handed.to = advance.to;
        }
        self.seen.merge(&request.seen);
        Ok(0)
    }
}

impl Handed {
    /// Adds what a task has landed, of another partition than those before.
    ///
    /// # Errors
    /// Says why it can't be added.
    pub fn add(&mut self, landed: Landed, landing: &mut RegionLanding) -> Result<(), String> {
        let seen = STANDARD_NO_PAD
            .decode(&landed.seen)
            .map_err(|e| e.to_string())?;
        let seen = Seen::from_bytes(&seen).map_err(|e| format!("what a task has seen {e}"))?;
        if let Some((split, inputs)) = self.seen.overlap(&seen) {
            return Err(format!(
                "{inputs} inputs of split {split} were answered in more than one partition: land this job with \
                 `kappaflow land`, which takes each once"
            ));
        }
        self.seen.merge(&seen);
        self.files.extend(landed.files);
        self.offsets.extend(landed.offsets);
        landing.counts.add(&landed.landing.counts);
        landing.records += landed.landing.records;
        landing.offsets.extend(landed.landing.offsets);
        Ok(())
    }
}

/// The inputs that are landed, as text.
///
/// # Errors
/// [`Error::Io`] if they are more than have a form.
pub fn packed(seen: &Seen, table: &Path) -> Result<String> {
    let bytes = seen
        .to_bytes()
        .map_err(Error::io("tell what is seen of", table))?;
    Ok(STANDARD_NO_PAD.encode(bytes))
}

/// Lands a partition, but for the commit. `host` says where this is, for people. Within a runtime.
///
/// # Errors
/// As [`crate::land::land`]; [`Error::Table`] if the table's place can't be seen from here.
pub async fn land_range(order: &str, piece: &str, host: &str, ctx: &Context) -> Result<Landed> {
    let order = Order::parse(order)?;
    let piece: Piece = serde_json::from_str(piece).map_err(wrong)?;
    let (host, ctx, place) = (
        host.to_owned(),
        ctx.clone(),
        PathBuf::from(&order.output.path),
    );
    let storage = order.storage(&host)?;
    blocking(&place, move || land(order, &piece, &storage, &host, &ctx)).await
}

fn land(
    order: Order,
    piece: &Piece,
    storage: &Storage,
    host: &str,
    ctx: &Context,
) -> Result<Landed> {
    let seen = STANDARD_NO_PAD.decode(&order.landed).map_err(wrong)?;
    let seen = Seen::from_bytes(&seen).map_err(wrong)?;
    let plan = order.plan(host)?;
    check_topic(&plan)?;
    let begin = Begin {
        starts: BTreeMap::from([(piece.partition, piece.from)]),
        ranges: vec![PartitionRange {
            partition: piece.partition,
            start: piece.from.next,
            end: piece.end,
        }],
        landed: seen.landed(plan.job),
        stop: None,
    };
    let (mut handed, mut landing) = (Handed::default(), RegionLanding::of(&plan));
    match read(&plan, storage, begin, &mut handed, ctx, &mut landing) {
        Ok(()) => {}
        Err(Ended::Failed(e)) => return Err(e),
        Err(Ended::Commit(e)) => return Err(e.at(storage.location())),
    }
    Ok(Landed {
        landing,
        files: handed.files,
        offsets: handed.offsets,
        seen: packed(&handed.seen, storage.location())?,
    })
}

fn elsewhere(host: &str) -> String {
    format!(
        "is not there on {host}: files are written where partitions are landed, so it has to be on a file system that \
         all of these machines see, or in an object store or a service"
    )
}

fn wrong(reason: impl ToString) -> Error {
    Error::NotReady {
        what: format!(
            "the order to land a partition can't be used: {}",
            reason.to_string()
        ),
        fix: "install the same version of KappaFlow wherever a part of the job runs".into(),
    }
}
