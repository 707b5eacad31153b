//! Dispatch: child jobs are placed on the regions with headroom, and the topics they need are prepared there.

mod headroom;

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use serde::Serialize;
use serde_json::json;

use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::kafka::{Cluster, IfMissing, Wish};
use crate::session::Session;
use crate::store::{ChildState, Placement, RegionRow, Role, TopicRow};

pub use headroom::choose;

/// Where every child job is, after a dispatch.
#[derive(Clone, Debug, Serialize)]
pub struct Dispatched {
    pub job: String,
    pub placed: Vec<Placement>,
    /// Children no region has room for now; dispatch again when capacity is released.
    pub waiting: Vec<String>,
    pub regions: Vec<RegionRow>,
}

/// Places waiting children, largest first, and prepares the regions that got any. Safe to repeat.
///
/// # Errors
/// [`Error::NoHeadroom`] if not a single child could be placed and none was before; [`Error::Kafka`] or
/// [`Error::Topic`] if a region can't be prepared (its placements stay, and the next call prepares it).
pub async fn dispatch(session: &Session, ctx: &Context) -> Result<Dispatched> {
    let names: Vec<String> = session
        .job
        .file
        .regions
        .iter()
        .map(|r| r.name.clone())
        .collect();
    regions(session).await?;
    let mut children = session.store.children(session.id).await?;
    children.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.name.cmp(&b.name)));
    let total = Some(children.len() as u64);
    let (mut placed, mut waiting) = (Vec::new(), Vec::new());
    for (done, child) in children.iter().enumerate() {
        ctx.check("dispatch")?;
        let now = session
            .store
            .reserve(session.id, &child.name, &names, choose)
            .await?;
        match now.as_ref().and_then(|c| Some((c, c.region.clone()?))) {
            Some((c, region)) => {
                if child.state == ChildState::Waiting {
                    let detail = json!({"region": region, "rows": c.rows, "token": c.token});
                    session
                        .store
                        .note(session.id, "dispatch", &c.name, "placed", detail)
                        .await?;
                }
                placed.push(Placement {
                    child: c.name.clone(),
                    region,
                    rows: c.rows,
                    token: c.token,
                });
            }
            None => waiting.push(child.name.clone()),
        }
        ctx.report(Progress {
            stage: "dispatch",
            label: child.name.clone(),
            done: done as u64 + 1,
            total,
            note: String::new(),
            figures: BTreeMap::new(),
        });
    }
    let regions = regions(session).await?;
    if placed.is_empty()
        && let Some(child) = children.first()
    {
        let room = regions
            .iter()
            .map(|r| format!("{} has {} of {}", r.name, r.headroom(), r.cap_max));
        return Err(Error::NoHeadroom {
            child: child.name.clone(),
            rows: child.rows,
            regions: room.collect::<Vec<_>>().join(", "),
        });
    }
    let given = names
        .iter()
        .filter(|name| placed.iter().any(|p| &p.region == *name));
    try_join_all(given.map(|region| prepare(session, region, ctx))).await?;
    placed.sort_by(|a, b| a.child.cmp(&b.child));
    Ok(Dispatched {
        job: session.id.to_string(),
        placed,
        waiting,
        regions,
    })
}

/// The job's regions and their load, over all jobs of the store.
///
/// # Errors
/// [`Error::Store`].
pub async fn regions(session: &Session) -> Result<Vec<RegionRow>> {
    let ours = &session.job.file.regions;
    for region in ours {
        session
            .store
            .put_region(&region.name, &region.bootstrap_servers, region.cap_max)
            .await?;
    }
    let mut rows = session.store.regions().await?;
    rows.retain(|row| ours.iter().any(|r| r.name == row.name));
    Ok(rows)
}

/// Registers the schemas, makes the job's four topics in a region (or checks them), notes their ids and starts, and
/// seeds the workers' group, so that nobody ever has to guess an offset.
async fn prepare(session: &Session, region: &str, ctx: &Context) -> Result<()> {
    // First: a schema that its subject does not take leaves no topic behind.
    let registry = session.registry(region)?;
    for role in [Role::Ingress, Role::Egress, Role::Verdict] {
        session
            .settle(&registry, region, role, ctx, "dispatch")
            .await?;
    }
    let cluster = session.cluster(region)?;
    let known = session.store.topics(session.id, region).await?;
    try_join_all(Role::ALL.map(|role| prepare_topic(session, &cluster, &known, role))).await?;
    let ingress = session.topic(region, Role::Ingress).await?;
    if ingress.removed {
        return Ok(());
    }
    let group = session.group(region);
    cluster
        .blocking(move |c| c.seed(&group, &ingress.name, &ingress.start))
        .await?;
    Ok(())
}

/// One of a region's topics: made or checked, and noted.
async fn prepare_topic(
    session: &Session,
    cluster: &Cluster,
    known: &[TopicRow],
    role: Role,
) -> Result<()> {
    let topics = &session.job.file.topics;
    let region = &cluster.region.name;
    let name = session.topic_name(region, role);
    if known.iter().any(|t| t.role == role && t.removed) {
        return Ok(());
    }
    let known = known.iter().any(|t| t.role == role);
    let mut wish = Wish::of(topics, session.job.file.limits.job_deadline_ms);
    wish.own_times = role == Role::Ingress && topics.timestamp_column.is_some();
    if known {
        wish.if_missing = IfMissing::Refuse(
            "is gone, though this job has used it; run the job under a new name or param".into(),
        );
    }
    let row = as_it_is(cluster, role, &name, &wish).await?;
    session.store.put_topic(session.id, &row).await
}

/// A topic as it is wished, made if it is missing and may be, to be noted for the job.
pub(crate) async fn as_it_is(
    cluster: &Cluster,
    role: Role,
    name: &str,
    wish: &Wish,
) -> Result<TopicRow> {
    let facts = cluster.ensure_topic(name, wish).await?;
    let asked = name.to_owned();
    let start = cluster
        .blocking(move |c| c.watermarks(&asked, facts.partitions))
        .await?;
    Ok(TopicRow {
        region: cluster.region.name.clone(),
        role,
        name: name.to_owned(),
        cluster_id: facts.cluster_id,
        topic_id: facts.topic_id,
        partitions: facts.partitions,
        // A topic that served before: this job's records begin where it ends now.
        start: start
            .iter()
            .map(|(partition, _, end)| (*partition, *end))
            .collect(),
        removed: false,
    })
}
