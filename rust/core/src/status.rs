//! Status: how far every part of a job is, from the store, the brokers and the table. Changes nothing.

use serde::Serialize;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::job::OutputMode;
use crate::session::Session;
use crate::store::{Child, RegionRow, Role, SplitState, TopicRow};
use crate::table::{Table, TableState, blocking, offset_key};

/// How far a job is.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub job: String,
    pub name: String,
    /// Rows of the source.
    pub rows: u64,
    pub children: Vec<Child>,
    pub splits: SplitCounts,
    /// Rows in closed splits that the broker acknowledged.
    pub acknowledged: u64,
    pub rejected: u64,
    pub regions: Vec<RegionStatus>,
    pub table: TableStatus,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SplitCounts {
    pub pending: u64,
    pub open: u64,
    pub closed: u64,
}

/// One region: its capacity, and how far the job is there (absent before it was prepared).
#[derive(Clone, Debug, Serialize)]
pub struct RegionStatus {
    #[serde(flatten)]
    pub region: RegionRow,
    pub headroom: u64,
    pub progress: Option<Lag>,
}

/// The landed table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TableStatus {
    pub path: String,
    pub version: u64,
    /// Files and rows of this job.
    pub files: u64,
    pub rows: u64,
    /// Whether readers see them: with another `output.mode` than `append`, once reconcile has published them.
    pub shown: bool,
}

/// How far a job is in one region. Records are counted from where the job's begin, over all partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lag {
    pub region: String,
    /// Ingress records that no worker has passed.
    pub lag: u64,
    pub ingress_end: u64,
    /// Ingress records before the workers' frontiers.
    pub committed: u64,
    /// All splits of the region's child jobs are closed: no more ingress will come.
    pub published: bool,
    pub egress_end: u64,
    /// Egress records that landers have read.
    pub landed: u64,
}

/// How far the job is.
///
/// # Errors
/// [`Error::Kafka`] if a region's cluster can't be asked, [`Error::Store`], [`Error::Table`].
pub async fn status(session: &Session, ctx: &Context) -> Result<Status> {
    let children = session.store.children(session.id).await?;
    let mut splits = SplitCounts::default();
    let (mut acknowledged, mut rejected) = (0, 0);
    for split in session.store.splits(session.id, None).await? {
        acknowledged += split.acknowledged;
        rejected += split.rejected;
        match split.state {
            SplitState::Pending => splits.pending += 1,
            SplitState::Open => splits.open += 1,
            SplitState::Closed => splits.closed += 1,
        }
    }
    let known = session.store.regions().await?;
    let mut regions = Vec::new();
    for region in &session.job.file.regions {
        ctx.check("status")?;
        let topics = session.store.topics(session.id, &region.name).await?;
        let progress = if topics.is_empty() {
            None
        } else {
            Some(lag(session, &region.name).await?)
        };
        let row = known.iter().find(|r| r.name == region.name).cloned();
        let row = row.unwrap_or(RegionRow {
            name: region.name.clone(),
            cap_max: region.cap_max,
            active: 0,
            queued: 0,
        });
        regions.push(RegionStatus {
            headroom: row.headroom(),
            region: row,
            progress,
        });
    }
    let state = table_state(session).await?;
    let job = session.id.to_string();
    let ours = || state.files_of(Some(session.id));
    Ok(Status {
        job: job.clone(),
        name: session.job.file.name.clone(),
        rows: session.snapshot.rows(),
        children,
        splits,
        acknowledged,
        rejected,
        regions,
        table: TableStatus {
            path: session.job.table().display().to_string(),
            version: state.version,
            files: ours().count() as u64,
            rows: ours().map(|f| f.rows).sum(),
            shown: session.job.file.output.mode == OutputMode::Append
                || (state.published.contains_key(&job)
                    && state.staged.iter().all(|f| f.job != job)),
        },
    })
}

/// How far the job is in a region: cheap enough for a sensor to ask every few seconds.
///
/// # Errors
/// [`Error::NotReady`] before dispatch has prepared the region; [`Error::Kafka`], [`Error::Topic`], [`Error::Table`].
pub async fn lag(session: &Session, region: &str) -> Result<Lag> {
    let ingress = session.topic(region, Role::Ingress).await?;
    let egress = session.topic(region, Role::Egress).await?;
    let published = session.published(region).await?;
    let state = table_state(session).await?;
    let landed = egress.start.iter().map(|(partition, start)| {
        let key = offset_key(session.id, &egress.cluster_id, &egress.topic_id, *partition);
        let reached = state.offsets.get(&key).map_or(*start, |at| at.reached);
        distance(*start, reached)
    });
    let landed = landed.sum();

    let cluster = session.cluster(region)?;
    let group = session.group(region);
    let asked = tokio::task::spawn_blocking(move || {
        cluster.contact()?;
        let (committed, ingress_ends) = match ingress.removed {
            // All of it was worked on before.
            true => (Vec::new(), Vec::new()),
            false => (
                cluster.committed(&group, &ingress.name, ingress.partitions)?,
                cluster.watermarks(&ingress.name, ingress.partitions)?,
            ),
        };
        let egress_ends = cluster.watermarks(&egress.name, egress.partitions)?;
        let passed: Vec<(i32, i64)> = committed
            .into_iter()
            .filter_map(|(partition, offset)| Some((partition, offset?)))
            .collect();
        Ok::<_, Error>((
            total(&ingress, ingress_ends.iter().map(|(p, _, end)| (*p, *end))),
            total(&ingress, passed.into_iter()),
            total(&egress, egress_ends.iter().map(|(p, _, end)| (*p, *end))),
        ))
    });
    let (ingress_end, committed, egress_end) = asked.await.map_err(|e| Error::Kafka {
        region: region.to_owned(),
        what: "read its offsets".into(),
        reason: e.to_string(),
    })??;
    Ok(Lag {
        region: region.to_owned(),
        lag: ingress_end.saturating_sub(committed),
        ingress_end,
        committed,
        published,
        egress_end,
        landed,
    })
}

fn distance(start: i64, end: i64) -> u64 {
    u64::try_from(end.saturating_sub(start)).unwrap_or(0)
}

/// Offsets counted from where the job's records begin.
fn total(topic: &TopicRow, ends: impl Iterator<Item = (i32, i64)>) -> u64 {
    ends.filter_map(|(partition, end)| {
        let start = topic.start.iter().find(|s| s.0 == partition)?;
        Some(distance(start.1, end))
    })
    .sum()
}

async fn table_state(session: &Session) -> Result<TableState> {
    let table = Table::of(&session.job)?;
    let location = table.location().to_path_buf();
    blocking(&location, move || table.state()).await
}
