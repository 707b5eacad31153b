//! What a publish would send, from the plan and a sample of the rows; nothing is sent and no broker is asked.

use std::collections::BTreeMap;

use kappaflow_avro::framing::Frame;
use kappaflow_avro::{CoercionPlan, PlanRow};
use roaring::RoaringBitmap;
use serde::Serialize;

use super::encode::{Maker, Recipe};
use super::keys::KeySchema;
use super::rejects::RejectCounts;
use super::{PublishOptions, RejectPolicy, Routing};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::job::KeyFormat;
use crate::kafka::DEFAULT_PARTITIONS;
use crate::kafka::transport::Origin;
use crate::rows::FileRows;
use crate::session::Session;
use crate::snapshot::Split;
use crate::store::{RejectCount, Role, SplitState};

/// Splits of which the first batch is looked at, spread evenly over all.
const SAMPLED_SPLITS: usize = 16;

/// What a publish would do.
#[derive(Debug, Serialize)]
pub struct Rehearsal {
    pub job: String,
    pub children: Vec<String>,
    /// Rows of the splits that are not closed, and how many those are.
    pub rows: u64,
    pub splits: usize,
    /// Of each ingress topic.
    pub partitions: u32,
    /// Field by field: its column, the rule, what may be rejected.
    pub plan: Vec<PlanRow>,
    pub sampled_rows: u64,
    /// What was rejected of the sample.
    pub rejects: Vec<RejectCount>,
    /// Mean payload and key of a row of the sample, in bytes; without headers, before compression.
    pub bytes_per_row: f64,
    /// That, for all rows that pass at the sample's rate.
    pub expected_bytes: u64,
    /// Rows of the sample that each partition got.
    pub sampled_by_partition: BTreeMap<i32, u64>,
}

/// Says what [`super::publish`] would send, after planning the job as `plan` does. Child jobs need not be placed.
///
/// # Errors
/// [`Error::Plan`], [`Error::Schema`], [`Error::Source`], [`Error::SourceChanged`], [`Error::Interrupted`];
/// [`Error::NotReady`] if there is no such child job.
pub async fn rehearse(
    session: &Session,
    options: PublishOptions,
    ctx: &Context,
) -> Result<Rehearsal> {
    let children = session.store.children(session.id).await?;
    let names: Vec<String> = children.iter().map(|c| c.name.clone()).collect();
    if let Some(child) = &options.child
        && !names.contains(child)
    {
        return Err(super::no_such_child(child, &children));
    }
    let child = options.child.as_deref();
    let open: Vec<Split> = session
        .store
        .splits(session.id, child)
        .await?
        .into_iter()
        .filter(|s| s.state != SplitState::Closed)
        .map(|s| s.split)
        .collect();
    let mut partitions = None;
    for region in &session.job.file.regions {
        let topics = session.store.topics(session.id, &region.name).await?;
        let ingress = topics.iter().find(|t| t.role == Role::Ingress);
        partitions = partitions.or(ingress.map(|t| t.partitions));
    }
    let wanted = session.job.file.topics.partitions;
    let partitions = partitions.or(wanted).unwrap_or(DEFAULT_PARTITIONS);
    let recipe = recipe(session, partitions)?;
    let (snapshot, ctx) = (session.snapshot.clone(), ctx.clone());
    let mut told = Rehearsal {
        job: session.id.to_string(),
        children: child.map_or(names, |name| vec![name.to_owned()]),
        rows: open.iter().map(|s| u64::from(s.rows)).sum(),
        splits: open.len(),
        partitions,
        plan: Vec::new(),
        sampled_rows: 0,
        rejects: Vec::new(),
        bytes_per_row: 0.0,
        expected_bytes: 0,
        sampled_by_partition: BTreeMap::new(),
    };
    let job = session.id;
    let task = tokio::task::spawn_blocking(move || {
        let mut counts = RejectCounts::default();
        let (mut passed, mut bytes) = (0_u64, 0_u64);
        let step = open.len().div_ceil(SAMPLED_SPLITS).max(1);
        for split in open.iter().step_by(step) {
            ctx.check("publish")?;
            let groups = split.row_group_first..split.row_group_first + split.row_group_count;
            let asked = |name: &str| recipe.asks(name);
            let mut rows = FileRows::open(&snapshot, split.file, groups, &job.to_string(), &asked)?;
            if told.plan.is_empty() {
                told.plan =
                    CoercionPlan::new(&rows.schema(), &recipe.schema, &recipe.plan_of_payload())?
                        .describe();
            }
            let failed = |reason: String| Error::Source {
                path: snapshot.path(split.file),
                reason: format!("split {}: {reason}", split.split),
            };
            let Some(batch) = rows.next() else { continue };
            let batch = batch?;
            let mut maker = Maker::new(recipe.clone(), batch.schema_ref())?;
            let origin = Origin {
                job,
                split: split.split,
                slot: 0,
            };
            let chunk = maker
                .chunk(origin, &batch, 0, &RoaringBitmap::new())
                .map_err(failed)?;
            told.sampled_rows += batch.num_rows() as u64;
            passed += chunk.rows.len() as u64;
            bytes += chunk.rows.bytes(0..chunk.rows.len()) as u64;
            for reject in &chunk.rejects {
                counts.add(&reject.column, &reject.reason, 1);
            }
            for partition in &chunk.rows.partitions {
                *told.sampled_by_partition.entry(*partition).or_default() += 1;
            }
        }
        told.rejects = counts.list();
        told.bytes_per_row = bytes as f64 / passed.max(1) as f64;
        let share = bytes as f64 / told.sampled_rows.max(1) as f64;
        told.expected_bytes = (share * told.rows as f64) as u64;
        Ok(told)
    });
    task.await
        .map_err(|e| session.job.error("source.path", e.to_string()))?
}

/// As for a publish, but for what only the broker and the registry know.
pub(super) fn recipe(session: &Session, partitions: u32) -> Result<Recipe> {
    let file = &session.job.file;
    let plan = file.schema.plan_options();
    let mut routing = Routing::of(&file.topics);
    if file.topics.key_format == KeyFormat::Avro && !file.topics.key.is_empty() {
        let schema = KeySchema::of(&session.ingress, &file.topics.key)?;
        routing.key_schema = Some(schema.into());
    }
    Ok(Recipe {
        schema: session.ingress.clone(),
        frame: Frame::Id(0),
        policy: RejectPolicy::new(&file.rejects, &file.topics.key, &plan),
        plan,
        routing,
        partitions,
        largest_record: usize::MAX,
        largest_for_topic: usize::MAX,
        max_message_bytes: u32::MAX,
    })
}
