//! Publishing in other processes, which see neither the store nor the job file: Spark's executors.
//!
//! One process holds the store: it gives out the splits that are not closed, and takes receipts into its books. A split
//! is published by attempts, of which several may run at once and any may die. What an attempt knows it writes to the
//! receipts topic, from which the next one goes on, and from which the receipts are taken, also by a later process if
//! this one dies. Of the receipts of a split the first one counts.

mod attempt;
mod books;
mod kept;
mod lead;
mod log;
mod presence;
mod story;
mod takeover;
mod task;

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Instant;

use serde::Serialize;
use serde_json::json;

use super::rejects::RejectCounts;
use super::{PublishReceipt, chosen, lock, prepare, receipt, region};
use crate::context::{Context, Progress};
use crate::dispatch;
use crate::error::{Error, Result};
use crate::kafka::Wish;
use crate::session::Session;
use crate::store::{Child, Role, SplitRow, SplitState, TopicRow};

pub use attempt::{Attempted, publish_split};
pub use takeover::Takeover;
pub use task::{Order, Piece};

use lead::Lead;

/// How splits are given out.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// One child job; `None`: every placed one.
    pub child: Option<String>,
    /// An attempt that is silent for so long is taken for dead, in milliseconds.
    pub lease_ms: u64,
    /// So many splits are published at once, about: each gets its part of `limits.max_rows_per_s`.
    pub parallelism: u32,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            child: None,
            lease_ms: 10_000,
            parallelism: 1,
        }
    }
}

/// What is to be published elsewhere.
#[derive(Clone, Debug, Serialize)]
pub struct Tasks {
    /// What splits of a region have in common, as JSON.
    pub orders: Vec<String>,
    /// Each split as JSON, with the index of its order.
    pub pieces: Vec<(usize, String)>,
}

/// How many splits have their receipt in the store.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Taken {
    pub closed: usize,
    pub open: usize,
}

/// A publish in other processes, seen from the one that holds the store.
pub struct RemotePublish {
    session: Session,
    child: Option<String>,
    children: Vec<Child>,
    /// Two that publish a child at once would send rows twice.
    _locks: Vec<File>,
    leads: Vec<Lead>,
    /// By region, as the leads are.
    orders: Vec<String>,
    /// Of the whole job.
    rejects: RejectCounts,
    began: Instant,
}

impl RemotePublish {
    /// Places the child jobs if they are not, and takes what an earlier publish has left in the receipts topics.
    ///
    /// # Errors
    /// As [`super::publish`] before it sends a row.
    pub async fn open(session: Session, options: RemoteOptions, ctx: &Context) -> Result<Self> {
        let began = Instant::now();
        if let Some(column) = &session.job.file.topics.order_by {
            return Err(session.job.error(
                "topics.order_by",
                format!(
                    "publishes splits one after the other, by {column:?}, and elsewhere they are published at once; \
                     publish this job here"
                ),
            ));
        }
        let child = options.child.clone();
        let children = match chosen(&session, child.as_deref()).await {
            Err(Error::NotReady { .. }) => {
                dispatch::dispatch(&session, ctx).await?;
                chosen(&session, child.as_deref()).await?
            }
            chosen => chosen?,
        };
        let locks = children
            .iter()
            .map(|c| lock(&session, &c.name))
            .collect::<Result<Vec<File>>>()?;
        let mut this = Self {
            rejects: session
                .store
                .reject_counts(session.id)
                .await?
                .into_iter()
                .collect(),
            session,
            child,
            children,
            _locks: locks,
            leads: Vec::new(),
            orders: Vec::new(),
            began,
        };
        this.open_leads(&options, ctx).await?;
        for lead in &mut this.leads {
            lead.take(&this.session, &mut this.rejects, ctx).await?;
            lead.give(&this.session).await?;
        }
        this.note(
            "begin",
            |lead, child| json!({"rows": child.rows, "region": lead.region(), "by": "elsewhere"}),
        )
        .await?;
        Ok(this)
    }

    async fn open_leads(&mut self, options: &RemoteOptions, ctx: &Context) -> Result<()> {
        let session = &self.session;
        let mut by_region: BTreeMap<String, Vec<(Child, Vec<SplitRow>)>> = BTreeMap::new();
        for child in &self.children {
            session.store.activate(session.id, &child.name).await?;
            let mut splits = session.store.splits(session.id, Some(&child.name)).await?;
            splits.retain(|s| s.state != SplitState::Closed);
            if let (false, Some(region)) = (splits.is_empty(), &child.region) {
                let here = by_region.entry(region.clone()).or_default();
                here.push((child.clone(), splits));
            }
        }
        for (region, children) in by_region {
            let run = prepare(session, &region, ctx).await?;
            // Of a publisher that kept its books in the store; attempts elsewhere do it for each other.
            let (run, splits) = run
                .cluster
                .clone()
                .blocking(move |_| {
                    run.fence(&children)?;
                    let splits: Vec<SplitRow> = children.into_iter().flat_map(|(_, s)| s).collect();
                    Ok((run, splits))
                })
                .await?;
            let receipts = receipts_topic(session, &run.cluster).await?;
            let at_once = u32::try_from(splits.len()).unwrap_or(u32::MAX);
            let (lease_ms, share) = (options.lease_ms, options.parallelism.min(at_once));
            let order = Order::new(session, &run, receipts.clone(), lease_ms, share);
            self.orders.push(order.text()?);
            let lead = Lead::new(session, run.cluster, receipts, splits).await?;
            self.leads.push(lead);
        }
        Ok(())
    }

    /// The splits that are not closed.
    ///
    /// # Errors
    /// [`Error::NotReady`] if the store knows splits of a file that the snapshot has not.
    pub fn tasks(&self) -> Result<Tasks> {
        let mut pieces = Vec::new();
        for (order, lead) in self.leads.iter().enumerate() {
            for split in lead.open() {
                let piece = Piece::new(&self.session.snapshot, &split.split)?;
                pieces.push((order, piece.text()?));
            }
        }
        Ok(Tasks {
            orders: self.orders.clone(),
            pieces,
        })
    }

    /// Takes what is new in the receipts topics into the store.
    ///
    /// # Errors
    /// What attempts have failed with, if trying again is of no use; [`Error::TooManyRejects`]; [`Error::Interrupted`].
    pub async fn poll(&mut self, ctx: &Context) -> Result<Taken> {
        let mut taken = Taken { closed: 0, open: 0 };
        for lead in &mut self.leads {
            lead.take(&self.session, &mut self.rejects, ctx).await?;
            taken.closed += lead.closed();
            taken.open += lead.open().count();
        }
        for child in &self.children {
            let leads = || self.leads.iter();
            let acknowledged: u64 = leads().map(|l| l.acknowledged(&child.name)).sum();
            let here: u64 = leads().map(|l| l.rows(&child.name)).sum();
            ctx.report(Progress {
                stage: "publish",
                label: child.name.clone(),
                done: child.rows.saturating_sub(here) + acknowledged,
                total: Some(child.rows),
                note: String::new(),
                figures: BTreeMap::new(),
            });
        }
        let file = &self.session.job.file;
        let rows = self.session.snapshot.rows();
        if let Some(limit) = &file.limits.max_rejects
            && self.rejects.total() > limit.of(rows)
        {
            return Err(Error::TooManyRejects {
                rejected: self.rejects.total(),
                limit: format!("{limit} of {rows} rows"),
                summary: self.rejects.summary(),
                kept: super::rejects::dir(&self.session.work_dir())
                    .display()
                    .to_string(),
            });
        }
        match self.leads.iter().find_map(Lead::lasting_failure) {
            Some(failure) => Err(failure),
            None => Ok(taken),
        }
    }

    /// Takes the last records, and gives the receipt of all.
    ///
    /// # Errors
    /// As [`RemotePublish::poll`]; the last failure of an attempt, or [`Error::Publish`], if a split is not closed.
    pub async fn finish(&mut self, ctx: &Context) -> Result<PublishReceipt> {
        self.poll(ctx).await?;
        if let Some(error) = self.leads.iter().find_map(Lead::incomplete) {
            return Err(error);
        }
        let mut done = region::Done::default();
        self.leads.iter().for_each(|lead| done.add(&lead.done()));
        self.note("end", |_, child| json!({"rows": child.rows}))
            .await?;
        let receipt = receipt(
            &self.session,
            &self.children,
            self.child.as_deref(),
            &done,
            self.began,
        )
        .await?;
        let rows: u64 = self.children.iter().map(|child| child.rows).sum();
        match receipt.rows == rows {
            true => Ok(receipt),
            false => Err(Error::NotReady {
                what: format!("{} of {rows} rows have a receipt", receipt.rows),
                fix: "publish again: what is done stays done".into(),
            }),
        }
    }

    /// For a publish that is given up: keeps in the store how far it is, so that one without these processes goes on from
    /// there.
    ///
    /// # Errors
    /// [`Error::Store`]; those of reading the receipts topics.
    pub async fn leave(&mut self, error: &str, ctx: &Context) -> Result<()> {
        for lead in &mut self.leads {
            // What comes later is taken by the next publish.
            lead.take(&self.session, &mut self.rejects, ctx).await?;
            lead.keep(&self.session).await?;
        }
        self.note("stopped", |_, _| json!({"error": error})).await
    }

    async fn note(
        &self,
        what: &str,
        detail: impl Fn(&Lead, &Child) -> serde_json::Value,
    ) -> Result<()> {
        for child in &self.children {
            let lead = self.leads.iter().find(|lead| lead.rows(&child.name) > 0);
            if let Some(lead) = lead {
                let (store, job) = (&self.session.store, self.session.id);
                store
                    .note(job, "publish", &child.name, what, detail(lead, child))
                    .await?;
            }
        }
        Ok(())
    }
}

/// Takes what is in a region's receipts topic, if the job has one there: a publish that keeps its books in the store goes
/// on from what others have done, and those that are still at it give way.
///
/// # Errors
/// Those of reading the topic.
pub async fn take(session: &Session, region: &str, ctx: &Context) -> Result<Takeover> {
    let topics = session.store.topics(session.id, region).await?;
    let Some(receipts) = topics.into_iter().find(|t| t.role == Role::Receipts) else {
        return Ok(Takeover::default());
    };
    let splits = session.store.splits(session.id, None).await?;
    let children = session.store.children(session.id).await?;
    let here = |split: &SplitRow| {
        children
            .iter()
            .any(|c| c.name == split.split.child && c.region.as_deref() == Some(region))
    };
    let open: Vec<SplitRow> = splits
        .into_iter()
        .filter(|s| s.state != SplitState::Closed && here(s))
        .collect();
    if open.is_empty() {
        return Ok(Takeover::default());
    }
    let cluster = session.cluster(region)?;
    let mut lead = Lead::new(session, cluster.clone(), receipts.clone(), open).await?;
    let mut counts = RejectCounts::default();
    lead.take(session, &mut counts, ctx).await?;
    let takeover = Takeover::of(session, &cluster, &receipts, lead.held(), ctx).await?;
    // What they have done until they gave way.
    lead.take(session, &mut counts, ctx).await?;
    lead.keep(session).await?;
    Ok(takeover)
}

/// The region's receipts topic: made when it is first needed, and noted.
async fn receipts_topic(session: &Session, cluster: &crate::kafka::Cluster) -> Result<TopicRow> {
    let region = &cluster.region.name;
    let known = session.store.topics(session.id, region).await?;
    if let Some(known) = known.into_iter().find(|t| t.role == Role::Receipts) {
        let (checked, cluster) = (known.clone(), cluster.clone());
        cluster
            .blocking(move |c| super::readback::check_topic(c, &checked))
            .await?;
        return Ok(known);
    }
    let file = &session.job.file;
    let name = session.topic_name(region, Role::Receipts);
    let wish = Wish::of(&file.topics, file.limits.job_deadline_ms);
    let row = dispatch::as_it_is(cluster, Role::Receipts, &name, &wish).await?;
    session.store.put_topic(session.id, &row).await?;
    Ok(row)
}
