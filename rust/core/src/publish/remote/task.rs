//! What a process that sees neither the store nor the job file needs to publish a split. No secret is in it: those are
//! references, resolved where they are used.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kappaflow_avro::framing::{Frame, GUID_HEADER_BYTES};
use kappaflow_avro::{AvroSchema, PlanOptions};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::job::{Region, Rejects, Topics};
use crate::kafka::Cluster;
use crate::publish::keys::KeySchema;
use crate::publish::limits::PaceLimits;
use crate::publish::policy::RejectPolicy;
use crate::publish::region::RegionRun;
use crate::publish::resume::split_prefix;
use crate::publish::routing::Routing;
use crate::registry::Stamp;
use crate::session::Session;
use crate::snapshot::{PinnedFile, Reach, Snapshot, Split};
use crate::store::{RejectCount, TopicRow};

/// Of the form of what follows.
const VERSION: u32 = 1;

/// What the splits of a region have in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    version: u32,
    pub job: String,
    region: Region,
    /// What paths are relative to.
    base: PathBuf,
    broker_timeout_ms: u64,
    pub topic: TopicRow,
    dead_letter: TopicRow,
    pub receipts: TopicRow,
    group: String,
    schema: String,
    frame_id: Option<u32>,
    schema_header: Option<[u8; GUID_HEADER_BYTES]>,
    key_id: Option<u32>,
    plan: PlanOptions,
    topics: Topics,
    rejects: Rejects,
    queue_mib: u32,
    transactional: Option<String>,
    pace: PaceLimits,
    max_rejects: Option<(u64, String)>,
    rejects_before: Vec<RejectCount>,
    job_rows: u64,
    /// Without its files.
    snapshot: Snapshot,
    source_options: BTreeMap<String, String>,
    /// An attempt that is silent for so long is taken for dead, in milliseconds.
    pub lease_ms: u64,
}

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    pub split: Split,
    file: PinnedFile,
}

impl Order {
    /// `run` is how the region would be published here; `share` of so many processes each gets its part of the rate.
    pub fn new(
        session: &Session,
        run: &RegionRun,
        receipts: TopicRow,
        lease_ms: u64,
        share: u32,
    ) -> Self {
        let file = &session.job.file;
        let pace = PaceLimits {
            max_rows_per_s: run
                .pace
                .max_rows_per_s
                .map(|rate| (rate / share.max(1)).max(1)),
            ..run.pace
        };
        Self {
            version: VERSION,
            job: session.id.to_string(),
            region: run.cluster.region.clone(),
            base: session.job.dir.clone(),
            broker_timeout_ms: file.limits.broker_timeout_ms,
            topic: run.topic.clone(),
            dead_letter: run.dead_letter.clone(),
            receipts,
            group: run.group.clone(),
            schema: run.schema.json().to_owned(),
            frame_id: match run.stamp.frame {
                Frame::Id(id) => Some(id),
                Frame::Guid => None,
            },
            schema_header: run.stamp.header,
            key_id: run.routing.key_schema.as_ref().map(|key| key.id),
            plan: run.plan.clone(),
            topics: file.topics.clone(),
            rejects: file.rejects.clone(),
            queue_mib: run.queue_mib,
            transactional: run.transactional.clone(),
            pace,
            max_rejects: run.max_rejects.clone(),
            rejects_before: run.rejects_before.list(),
            job_rows: run.job_rows,
            snapshot: Snapshot {
                files: Vec::new(),
                ..session.snapshot.clone()
            },
            source_options: file.source.options.clone(),
            lease_ms,
        }
    }

    /// What [`Order::parse`] reads.
    ///
    /// # Errors
    /// [`Error::NotReady`] if it has no form in JSON.
    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| wrong(&e.to_string()))
    }

    /// # Errors
    /// [`Error::NotReady`] if another version of KappaFlow has written it.
    pub fn parse(text: &str) -> Result<Self> {
        let order: Self = serde_json::from_str(text).map_err(|e| wrong(&e.to_string()))?;
        match order.version {
            VERSION => Ok(order),
            other => Err(wrong(&format!("its version is {other}, not {VERSION}"))),
        }
    }

    /// # Errors
    /// [`Error::NotReady`] if it is none.
    pub fn id(&self) -> Result<JobId> {
        self.job.parse().map_err(|_| wrong("it has no job id"))
    }

    pub fn cluster(&self) -> Cluster {
        let timeout = Duration::from_millis(self.broker_timeout_ms);
        Cluster::new(self.region.clone(), self.base.clone(), timeout)
    }

    /// The split's file as a snapshot of its own.
    pub fn snapshot(&self, piece: &Piece) -> Snapshot {
        let mut snapshot = self.snapshot.clone();
        snapshot.files.push(piece.file.clone());
        snapshot.reached_by(Reach::new(&self.base, self.source_options.clone()))
    }

    /// How the split is published. Within a runtime.
    ///
    /// # Errors
    /// [`Error::Schema`] if the schema can't be used.
    pub fn run(&self, piece: &Piece, ctx: &Context) -> Result<RegionRun> {
        let schema = AvroSchema::parse(&self.schema).map_err(|e| Error::Schema {
            what: format!("of topic {}", self.topic.name),
            reason: e.to_string(),
        })?;
        let key_schema = match self.key_id {
            None => None,
            Some(id) => Some(Arc::new(KeySchema {
                id,
                ..KeySchema::of(&schema, &self.topics.key)?
            })),
        };
        Ok(RegionRun {
            runtime: Handle::current(),
            job: self.id()?,
            job_rows: self.job_rows,
            work_dir: None,
            snapshot: Arc::new(self.snapshot(piece)),
            schema,
            stamp: Stamp {
                frame: self.frame_id.map_or(Frame::Guid, Frame::Id),
                header: self.schema_header,
            },
            plan: self.plan.clone(),
            routing: Routing {
                key_schema,
                ..Routing::of(&self.topics)
            },
            policy: RejectPolicy::new(&self.rejects, &self.topics.key, &self.plan),
            compression: self.topics.compression.clone(),
            queue_mib: self.queue_mib,
            // Splits of a child are published at once: each has a name of its own.
            transactional: self
                .transactional
                .as_ref()
                .map(|prefix| split_prefix(prefix, piece.split.split)),
            taken_over: Vec::new(),
            max_rejects: self.max_rejects.clone(),
            rejects_before: self.rejects_before.iter().cloned().collect(),
            pace: self.pace,
            group: self.group.clone(),
            cluster: self.cluster(),
            topic: self.topic.clone(),
            dead_letter: self.dead_letter.clone(),
            ctx: ctx.clone(),
        })
    }
}

impl Piece {
    /// # Errors
    /// [`Error::NotReady`] if the snapshot has no such file.
    pub fn new(snapshot: &Snapshot, split: &Split) -> Result<Self> {
        let file = snapshot
            .files
            .get(split.file)
            .ok_or_else(|| Error::NotReady {
                what: format!(
                    "split {} is of file {} of a snapshot of {} files",
                    split.split,
                    split.file,
                    snapshot.files.len()
                ),
                fix: "give the job's store back as it was when the snapshot was pinned".into(),
            })?;
        Ok(Self {
            file: file.clone(),
            split: Split {
                file: 0,
                ..split.clone()
            },
        })
    }

    /// What [`Piece::parse`] reads.
    ///
    /// # Errors
    /// [`Error::NotReady`] if it has no form in JSON.
    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| wrong(&e.to_string()))
    }

    /// # Errors
    /// [`Error::NotReady`] if another version of KappaFlow has written it.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| wrong(&e.to_string()))
    }
}

fn wrong(reason: &str) -> Error {
    Error::NotReady {
        what: format!("the order to publish a split can't be used: {reason}"),
        fix: "install the same version of KappaFlow wherever a part of the job runs".into(),
    }
}
