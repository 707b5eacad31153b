//! A publish that keeps its books in the store, where attempts elsewhere may still be at splits: the process that gave
//! those out has died, and what it started may outlive it.

use std::time::Duration;

use roaring::RoaringBitmap;
use tokio::runtime::Handle;

use super::log::Log;
use super::presence::{Presence, Waited};
use super::story::{Closed, What};
use crate::context::Context;
use crate::error::Result;
use crate::kafka::Cluster;
use crate::session::Session;
use crate::store::{SplitState, Stage, TopicRow};

/// Splits that somebody elsewhere was at, and is not any more for as long as this lives.
#[derive(Default)]
pub struct Takeover {
    cluster: Option<Cluster>,
    held: Vec<(u32, Presence)>,
}

impl Takeover {
    /// Claims splits, `(split, lease_ms)` each, and waits until nobody else is at them: an attempt that lives gives way, and
    /// one that is silent for its lease is dead.
    ///
    /// # Errors
    /// [`crate::Error::Topic`], [`crate::Error::Kafka`]; [`crate::Error::Interrupted`].
    pub async fn of(
        session: &Session,
        cluster: &Cluster,
        receipts: &TopicRow,
        splits: Vec<(u32, u64)>,
        ctx: &Context,
    ) -> Result<Self> {
        let (receipts, job, ctx, runtime) =
            (receipts.clone(), session.id, ctx.clone(), Handle::current());
        let held = cluster
            .blocking(move |cluster| {
                let me = format!("store-{:016x}", fastrand::u64(..));
                // All are listened to before the first is waited for, so that leases run out together.
                let mut present = Vec::new();
                for (split, lease_ms) in splits {
                    let (topic, runtime) = (receipts.clone(), runtime.clone());
                    let log = Log::new(cluster.clone(), topic, job, me.clone(), runtime)?;
                    let lease = Duration::from_millis(lease_ms);
                    present.push((split, Presence::start(log, job, split, &me, lease)?));
                }
                for (_, presence) in &present {
                    while matches!(presence.take("the store's publisher", &ctx)?, Waited::Free) {}
                }
                Ok(present)
            })
            .await?;
        Ok(Self {
            cluster: Some(cluster.clone()),
            held,
        })
    }

    pub fn splits(&self) -> impl Iterator<Item = u32> {
        self.held.iter().map(|(split, _)| *split)
    }

    /// Tells who may still stand by elsewhere which of the splits are closed by now; the others are free again.
    ///
    /// # Errors
    /// [`crate::Error::Store`], [`crate::Error::Topic`].
    pub async fn end(self, session: &Session) -> Result<()> {
        let Some(cluster) = self.cluster else {
            return Ok(());
        };
        let rejected = session.store.ledger(session.id, Stage::Rejected).await?;
        let splits = session.store.splits(session.id, None).await?;
        let held = self.held;
        cluster
            .blocking(move |_| {
                for (split, presence) in held {
                    let row = splits.iter().find(|row| row.split.split == split);
                    match row.filter(|row| row.state == SplitState::Closed) {
                        Some(row) => {
                            let closed = Closed {
                                acknowledged: row.acknowledged,
                                ranges: row.ranges.clone(),
                                // The store has them, and this receipt is not booked again.
                                rejects: Vec::new(),
                            };
                            let none = RoaringBitmap::new();
                            let rows = rejected.get(&split).unwrap_or(&none);
                            presence.log().append(split, What::Close(closed), rows)?;
                        }
                        None => presence.leave(None)?,
                    }
                }
                Ok(())
            })
            .await
    }
}
