//! The splits of a region that are published elsewhere, and what the receipts topic tells of them.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use tokio::runtime::Handle;

use super::kept::KeptRejects;
use super::log::{Log, read_on};
use super::story::{Closed, Noted, Story, What};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::kafka::Cluster;
use crate::publish::region::Done;
use crate::publish::rejects::RejectCounts;
use crate::session::Session;
use crate::store::{Role, SplitRow, SplitState, Stage, TopicRow};

/// Signs what is told of publishers that keep their books in the store.
const STORE: &str = "store";
/// Kinds of errors that another attempt may not meet.
const PASSING: [&str; 6] = [
    "kafka",
    "publish",
    "registry",
    "io",
    "interrupted",
    "internal",
];

/// A region of a publish that happens elsewhere.
pub struct Lead {
    cluster: Cluster,
    job: JobId,
    ingress: String,
    receipts: TopicRow,
    splits: BTreeMap<u32, Led>,
    /// Where the receipts topic is read on.
    next: BTreeMap<i32, i64>,
    kept: KeptRejects,
}

/// One of its splits.
struct Led {
    row: SplitRow,
    story: Story,
    /// Its receipt is in the store.
    booked: bool,
}

impl Lead {
    /// `splits` are those that are not closed in the store.
    ///
    /// # Errors
    /// [`Error::NotReady`] if the job is not dispatched to the region.
    pub async fn new(
        session: &Session,
        cluster: Cluster,
        receipts: TopicRow,
        splits: Vec<SplitRow>,
    ) -> Result<Self> {
        let region = &receipts.region;
        let dead_letter = session.topic(region, Role::Deadletter).await?;
        Ok(Self {
            job: session.id,
            ingress: session.topic(region, Role::Ingress).await?.name,
            next: receipts.start.iter().copied().collect(),
            kept: KeptRejects::new(session, dead_letter),
            receipts,
            cluster,
            splits: splits
                .into_iter()
                .map(|row| {
                    let led = Led {
                        row,
                        story: Story::default(),
                        booked: false,
                    };
                    (led.row.split.split, led)
                })
                .collect(),
        })
    }

    pub fn region(&self) -> &str {
        &self.receipts.region
    }

    /// Those that are not closed yet.
    pub fn open(&self) -> impl Iterator<Item = &SplitRow> {
        let open = self.splits.values().filter(|led| !led.booked);
        open.map(|led| &led.row)
    }

    /// Open ones that an attempt is at, or was when it was last heard of, and its lease in milliseconds.
    pub fn held(&self) -> Vec<(u32, u64)> {
        let open = self.splits.iter().filter(|(_, led)| !led.booked);
        open.filter(|(_, led)| led.story.holder.is_some() || led.story.claimant.is_some())
            .map(|(split, led)| (*split, led.story.lease_ms))
            .collect()
    }

    pub fn closed(&self) -> usize {
        self.splits.values().filter(|led| led.booked).count()
    }

    /// Rows of a child that are here.
    pub fn rows(&self, child: &str) -> u64 {
        let here = self.splits.values().map(|led| &led.row.split);
        here.filter(|s| s.child == child)
            .map(|s| u64::from(s.rows))
            .sum()
    }

    /// How many of them are acknowledged, as far as it is known.
    pub fn acknowledged(&self, child: &str) -> u64 {
        let here = self.splits.values();
        here.filter(|led| led.row.split.child == child)
            .map(|led| match (&led.story.closed, &led.story.noted) {
                (Some((closed, _)), _) => closed.acknowledged,
                (None, Some((_, rows))) => rows.len(),
                (None, None) => 0,
            })
            .sum()
    }

    /// What all attempts did.
    pub fn done(&self) -> Done {
        let mut done = Done::default();
        self.splits
            .values()
            .for_each(|led| done.add(&led.story.done));
        done
    }

    /// Reads on, and books the receipts that are new.
    ///
    /// # Errors
    /// [`Error::Topic`], [`Error::Kafka`], [`Error::Store`]; [`Error::Io`] if rejects can't be written.
    pub async fn take(
        &mut self,
        session: &Session,
        counts: &mut RejectCounts,
        ctx: &Context,
    ) -> Result<()> {
        let (topic, job, ctx_) = (self.receipts.clone(), self.job, ctx.clone());
        let mut next = self.next.clone();
        let mut splits = std::mem::take(&mut self.splits);
        // They come back whatever happens: what was read twice changes nothing that counts.
        let (splits, read) = self
            .cluster
            .blocking(move |cluster| {
                let read = read_on(cluster, &topic, job, &mut next, &ctx_, |entry, rows| {
                    if let Some(led) = splits.get_mut(&entry.split) {
                        led.story.add(&entry.attempt, entry.what, rows);
                    }
                });
                Ok((splits, read.map(|()| next)))
            })
            .await?;
        self.splits = splits;
        self.next = read?;
        let new: Vec<u32> = self
            .splits
            .iter()
            .filter(|(_, led)| !led.booked && led.story.closed.is_some())
            .map(|(split, _)| *split)
            .collect();
        let rejecting = |split: &u32| {
            let closed = self.splits.get(split).and_then(|l| l.story.closed.as_ref());
            closed.is_some_and(|(_, rejected)| !rejected.is_empty())
        };
        if new.iter().any(rejecting) {
            let wanted = self.open().map(|row| row.split.clone()).collect();
            self.kept.read_on(&self.cluster, wanted, ctx).await?;
        }
        for split in new {
            self.book(split, session, counts).await?;
        }
        Ok(())
    }

    async fn book(
        &mut self,
        split: u32,
        session: &Session,
        counts: &mut RejectCounts,
    ) -> Result<()> {
        let Some(led) = self.splits.get_mut(&split) else {
            return Ok(());
        };
        let Some((closed, rejected)) = &led.story.closed else {
            return Ok(());
        };
        let rows = led.row.split.rows;
        if closed.acknowledged + rejected.len() != u64::from(rows) {
            return Err(Error::Topic {
                topic: self.receipts.name.clone(),
                partition: Some(Log::partition(&self.receipts, split)),
                offset: None,
                reason: format!(
                    "its receipt of split {split} tells of {} rows acknowledged and {} rejected, of {rows}",
                    closed.acknowledged,
                    rejected.len()
                ),
            });
        }
        // Before the receipt: a closed split is not looked at again.
        self.kept.finish(split)?;
        let mut acknowledged = RoaringBitmap::new();
        acknowledged.insert_range(0..rows);
        acknowledged -= rejected;
        let Closed {
            ranges, rejects, ..
        } = closed;
        session
            .store
            .close_split(self.job, split, &acknowledged, rejected, ranges, rejects)
            .await?;
        led.booked = true;
        for reject in rejects {
            counts.add(&reject.field, &reject.reason, reject.count);
        }
        Ok(())
    }

    /// Tells attempts of what publishers have done that keep their books in the store, and forgets the failures of
    /// attempts before: now is another try.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Topic`].
    pub async fn give(&mut self, session: &Session) -> Result<()> {
        let known = session.store.ledger(self.job, Stage::Acknowledged).await?;
        let mut given = Vec::new();
        for (split, led) in &mut self.splits {
            led.story.failure = None;
            let told = led.story.noted.as_ref().map(|(noted, _)| &noted.noted);
            if led.row.state != SplitState::Open
                || told.is_some_and(|told| sum(told) >= sum(&led.row.noted))
            {
                continue;
            }
            let noted = Noted {
                noted: led.row.noted.clone(),
                ranges: led.row.ranges.clone(),
            };
            given.push((*split, noted, known.get(split).cloned().unwrap_or_default()));
        }
        if given.is_empty() {
            return Ok(());
        }
        let (topic, job, runtime) = (self.receipts.clone(), self.job, Handle::current());
        self.cluster
            .blocking(move |cluster| {
                let log = Log::new(cluster.clone(), topic, job, STORE.into(), runtime)?;
                for (split, noted, rows) in given {
                    log.append(split, What::Given(noted), &rows)?;
                }
                Ok(())
            })
            .await
    }

    /// Notes in the store how far the open splits are.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn keep(&self, session: &Session) -> Result<()> {
        let store = &session.store;
        for (split, led) in self.splits.iter().filter(|(_, led)| !led.booked) {
            let Some((noted, rows)) = &led.story.noted else {
                continue;
            };
            // Both are true; the further one leaves less to be read back.
            if led.row.state == SplitState::Open && sum(&led.row.noted) >= sum(&noted.noted) {
                continue;
            }
            store.open_split(self.job, *split, &noted.noted).await?;
            store
                .note_split(self.job, *split, &noted.noted, rows, &noted.ranges)
                .await?;
        }
        Ok(())
    }

    /// A failure of an attempt that every other one would meet too.
    pub fn lasting_failure(&self) -> Option<Error> {
        self.failures()
            .find(|error| !PASSING.contains(&error.kind()))
    }

    /// Why a split is not closed, if one is not, though nobody is at it any more.
    pub fn incomplete(&self) -> Option<Error> {
        let open = self.splits.values().find(|led| !led.booked)?;
        let rows = u64::from(open.row.split.rows);
        let noted = open.story.noted.as_ref();
        let acknowledged = noted.map_or(0, |(_, rows)| rows.len());
        self.failures().next().or_else(|| {
            Some(Error::Publish {
                topic: self.ingress.clone(),
                split: open.row.split.split,
                rows,
                acknowledged,
                rejected: 0,
                unknown: rows.saturating_sub(acknowledged),
                first_error: "no attempt at it has come to its end".into(),
            })
        })
    }

    fn failures(&self) -> impl Iterator<Item = Error> {
        let open = self.splits.values().filter(|led| !led.booked);
        open.filter_map(|led| {
            let failure = led.story.failure.clone()?;
            Some(Error::Elsewhere {
                kind: failure.kind,
                host: failure.host,
                message: failure.message,
            })
        })
    }
}

fn sum(noted: &[(i32, i64)]) -> i64 {
    noted.iter().map(|(_, offset)| offset).sum()
}
