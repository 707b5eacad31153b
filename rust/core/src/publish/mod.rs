//! Publish: every row of the snapshot is acknowledged by the broker or rejected by name, whatever dies on the way.
//!
//! A split is the unit. Before anything of it is sent, the store notes where the topic ends; a publisher that died is
//! followed by one that reads back from there, learns which rows arrived, and sends the rest. A receipt closes a split
//! when nothing of it is unknown, and a closed split is never sent again.

mod books;
mod encode;
mod keeper;
mod keeping;
mod keys;
mod letters;
mod limits;
mod meter;
mod order;
mod pacing;
mod pass;
mod policy;
mod readback;
mod region;
mod rehearsal;
mod rejects;
pub mod remote;
mod resume;
mod routing;
mod sample;
mod source;
mod split;
mod stream;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use kappaflow_avro::AvroSchema;
use serde::Serialize;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::job::KeyFormat;
use crate::registry::SchemaRegistry;
use crate::session::Session;
use crate::store::{Child, RejectCount, Role, SplitRow, SplitState};

use books::StoreBooks;
use limits::PaceLimits;
use remote::Takeover;
use routing::Routing;

pub(crate) use keys::KeySchema;
pub use meter::Waited;
pub use policy::RejectPolicy;
pub use rehearsal::{Rehearsal, rehearse};
pub use rejects::RejectRow;
pub(crate) use sample::sample;
pub use stream::{StreamReceipt, publish_stream};
pub use target::StreamTarget;

/// What to publish.
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    /// One child job; `None`: every placed one.
    pub child: Option<String>,
}

/// What a publish has done, and what is in the topics because of it and earlier ones.
#[derive(Clone, Debug, Serialize)]
pub struct PublishReceipt {
    pub job: String,
    pub children: Vec<String>,
    /// `rows = acknowledged + rejected`.
    pub rows: u64,
    pub acknowledged: u64,
    pub rejected: u64,
    /// Rows that a publisher before this one had sent without closing their split.
    pub read_back: u64,
    /// Records beyond the first of their row that a read-back met. They are in the topic; landing keeps one.
    pub doubled: u64,
    pub splits: Vec<SplitReceipt>,
    pub rejects: Vec<RejectCount>,
    /// Records of rejected rows that the dead-letter topic took of this call.
    pub rejects_sent: u64,
    /// Where the rejected rows are kept, if there are any.
    pub rejects_path: Option<String>,
    /// Bytes of the payloads and keys that this call sent.
    pub bytes: u64,
    pub waited: Waited,
    /// What this call waited for most: `source`, `encoder`, `broker` or `pacing`; `client`: its own work.
    pub limit: &'static str,
    pub seconds: f64,
    /// Rows this call got acknowledged, by its seconds.
    pub rows_per_s: f64,
}

/// The receipt of a split.
#[derive(Clone, Debug, Serialize)]
pub struct SplitReceipt {
    pub split: u32,
    pub child: String,
    /// Relative to the snapshot's root.
    pub file: String,
    pub rows: u32,
    pub acknowledged: u64,
    pub rejected: u64,
    /// `(partition, first offset, last offset)` of the acknowledged rows.
    pub ranges: Vec<(i32, i64, i64)>,
}

/// Publishes the rows of the placed child jobs, or of one, to the ingress topics of their regions. Safe to repeat: what
/// is closed is confirmed from its receipts, what is open is resumed.
///
/// # Errors
/// [`Error::NotReady`] if nothing is placed or another process publishes the child; [`Error::SourceChanged`];
/// [`Error::Plan`]; [`Error::TooManyRejects`]; [`Error::Topic`] if the topic was recreated or has expired past what must
/// be read back; [`Error::Publish`] if rows are still not delivered after several attempts; [`Error::Interrupted`].
pub async fn publish(
    session: &Session,
    options: PublishOptions,
    ctx: &Context,
) -> Result<PublishReceipt> {
    let began = Instant::now();
    let children = chosen(session, options.child.as_deref()).await?;
    let _locks = children
        .iter()
        .map(|c| lock(session, &c.name))
        .collect::<Result<Vec<File>>>()?;
    let regions: BTreeSet<&String> = children.iter().filter_map(|c| c.region.as_ref()).collect();
    let mut takeovers = BTreeMap::new();
    for region in regions {
        // What others have closed meanwhile is not sent again.
        let takeover = remote::take(session, region, ctx).await?;
        takeovers.insert(region.clone(), takeover);
    }
    let mut by_region: BTreeMap<String, Vec<(Child, Vec<SplitRow>)>> = BTreeMap::new();
    for child in &children {
        session.store.activate(session.id, &child.name).await?;
        let splits = session.store.splits(session.id, Some(&child.name)).await?;
        let open = splits.iter().any(|s| s.state != SplitState::Closed);
        if let (true, Some(region)) = (open, child.region.clone()) {
            by_region
                .entry(region)
                .or_default()
                .push((child.clone(), splits));
        }
    }
    let mut done = region::Done::default();
    for (name, children) in by_region {
        let mut run = prepare(session, &name, ctx).await?;
        let takeover = takeovers.get(&name);
        run.taken_over = takeover.into_iter().flat_map(Takeover::splits).collect();
        let mut books = StoreBooks {
            runtime: run.runtime.clone(),
            store: session.store.clone(),
            job: session.id,
        };
        let ran = tokio::task::spawn_blocking(move || run.publish(&mut books, children))
            .await
            .map_err(|e| Error::Kafka {
                region: name.clone(),
                what: "publish".into(),
                reason: format!("the publisher ended unexpectedly: {e}"),
            })??;
        done.add(&ran);
    }
    for takeover in takeovers.into_values() {
        takeover.end(session).await?;
    }
    receipt(session, &children, options.child.as_deref(), &done, began).await
}

async fn chosen(session: &Session, child: Option<&str>) -> Result<Vec<Child>> {
    let Some(name) = child else {
        return session.placed(None).await;
    };
    let all = session.store.children(session.id).await?;
    match all.iter().find(|c| c.name == name) {
        Some(found) if found.region.is_some() => Ok(vec![found.clone()]),
        Some(_) => Err(Error::NotReady {
            what: format!("child job {name} is placed in no region yet"),
            fix: "run `kappaflow dispatch` on the job file first".into(),
        }),
        None => Err(no_such_child(name, &all)),
    }
}

fn no_such_child(name: &str, all: &[Child]) -> Error {
    let names: Vec<&str> = all.iter().map(|c| c.name.as_str()).collect();
    Error::NotReady {
        what: format!("there is no child job {name:?}"),
        fix: format!("choose one of: {}", names.join(", ")),
    }
}

/// Two publishers of one child would send rows twice: the second says so. The lock ends with its process.
fn lock(session: &Session, child: &str) -> Result<File> {
    let dir = session.work_dir();
    let safe: String = child
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-._".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let path = dir.join(format!("publish-{safe}.lock"));
    let file = File::create(&path).map_err(Error::io("make the lock file", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::NotReady {
            what: format!("child job {child} is being published by another process"),
            fix: "wait until it has ended, or end it".into(),
        }),
        // Some shared file systems have no locks: then there is none to take.
        Err(std::fs::TryLockError::Error(_)) => Ok(file),
    }
}

async fn prepare(session: &Session, region: &str, ctx: &Context) -> Result<region::RegionRun> {
    let topic = session.topic(region, Role::Ingress).await?;
    let dead_letter = session.topic(region, Role::Deadletter).await?;
    let cluster = session.cluster(region)?;
    let registry = session.registry(region)?;
    let settled = session
        .settle(&registry, region, Role::Ingress, ctx, "publish")
        .await?;
    let file = &session.job.file;
    let plan = file.schema.plan_options();
    let routing = routing(session, &registry, &topic.name, &settled.schema, ctx).await?;
    let rows = session.snapshot.rows();
    Ok(region::RegionRun {
        runtime: tokio::runtime::Handle::current(),
        job: session.id,
        job_rows: rows,
        work_dir: Some(session.work_dir()),
        snapshot: Arc::new(session.snapshot.clone()),
        schema: settled.schema,
        stamp: settled.stamp,
        policy: RejectPolicy::new(&file.rejects, &file.topics.key, &plan),
        plan,
        routing,
        compression: file.topics.compression.clone(),
        queue_mib: file.limits.publish_queue_mib,
        transactional: file.topics.transactional.then(|| session.group(region)),
        taken_over: Vec::new(),
        max_rejects: file
            .limits
            .max_rejects
            .as_ref()
            .map(|limit| (limit.of(rows), limit.to_string())),
        rejects_before: session
            .store
            .reject_counts(session.id)
            .await?
            .into_iter()
            .collect(),
        pace: PaceLimits::of(&file.limits),
        group: session.group(region),
        cluster,
        topic,
        dead_letter,
        ctx: ctx.clone(),
    })
}

/// What rows are routed by; the schema of keys is registered now, before a record is sent.
async fn routing(
    session: &Session,
    registry: &Arc<dyn SchemaRegistry>,
    topic: &str,
    schema: &AvroSchema,
    ctx: &Context,
) -> Result<Routing> {
    let (topics, declared) = (&session.job.file.topics, &session.job.file.schema);
    let key_schema = match topics.key_format {
        KeyFormat::Avro if !topics.key.is_empty() => {
            let key = KeySchema::of(schema, &topics.key)?;
            let policy = declared.policy(Role::Ingress);
            Some(Arc::new(key.settled(registry, policy, topic, ctx).await?))
        }
        _ => None,
    };
    Ok(Routing {
        key_schema,
        ..Routing::of(topics)
    })
}

async fn receipt(
    session: &Session,
    children: &[Child],
    child: Option<&str>,
    done: &region::Done,
    began: Instant,
) -> Result<PublishReceipt> {
    let names: Vec<String> = children.iter().map(|c| c.name.clone()).collect();
    let splits: Vec<SplitReceipt> = session
        .store
        .splits(session.id, child)
        .await?
        .into_iter()
        .filter(|s| s.state == SplitState::Closed && names.contains(&s.split.child))
        .map(|s| SplitReceipt {
            split: s.split.split,
            file: session
                .snapshot
                .files
                .get(s.split.file)
                .map(|f| f.path.clone())
                .unwrap_or_default(),
            child: s.split.child,
            rows: s.split.rows,
            acknowledged: s.acknowledged,
            rejected: s.rejected,
            ranges: s.ranges,
        })
        .collect();
    let rejected: u64 = splits.iter().map(|s| s.rejected).sum();
    let seconds = began.elapsed().as_secs_f64();
    Ok(PublishReceipt {
        job: session.id.to_string(),
        children: names,
        rows: splits.iter().map(|s| u64::from(s.rows)).sum(),
        acknowledged: splits.iter().map(|s| s.acknowledged).sum(),
        rejected,
        read_back: done.read_back,
        doubled: done.doubled,
        rejects_sent: done.rejects_sent,
        rejects: session.store.reject_counts_of(session.id, child).await?,
        rejects_path: (rejected > 0).then(|| {
            rejects::dir(&session.work_dir())
                .to_string_lossy()
                .into_owned()
        }),
        splits,
        bytes: done.bytes,
        waited: done.waited,
        limit: done.waited.limit(done.seconds),
        seconds,
        rows_per_s: done.acknowledged as f64 / seconds.max(1e-9),
    })
}
