//! When the ingress of a region is done: every split placed there is closed, and the group has committed all that the
//! topic held after that. Asked of the store and the broker, so it holds whoever did the work.

use std::time::{Duration, Instant};

use super::Until;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::kafka::{Cluster, PartitionRange, read_ranges};
use crate::session::Session;
use crate::store::{Role, TopicRow};

/// Between two looks.
pub const EVERY: Duration = Duration::from_millis(700);

/// Looks at the ingress of a region, again and again.
pub struct Ending<'s> {
    session: &'s Session,
    region: String,
    cluster: Cluster,
    group: String,
    topic: TopicRow,
    until: Until,
    ends: Option<Vec<(i32, i64)>>,
    failing: Option<Instant>,
}

/// What a look saw.
#[derive(Clone, Debug)]
pub struct Look {
    /// `(partition, committed, end)`; the end is known once publishing has ended.
    pub partitions: Vec<(i32, i64, Option<i64>)>,
    /// Records of the ingress, once known.
    pub total: Option<u64>,
    /// Records the group is past.
    pub done: u64,
}

impl Look {
    pub fn is_done(&self) -> bool {
        self.partitions
            .iter()
            .all(|(_, committed, end)| end.is_some_and(|end| *committed >= end))
    }
}

impl<'s> Ending<'s> {
    /// # Errors
    /// [`Error::NotReady`] if nothing is placed in the region.
    pub async fn new(session: &'s Session, region: &str, until: Until) -> Result<Self> {
        session.placed(Some(region)).await?;
        Ok(Self {
            session,
            region: region.to_owned(),
            cluster: session.cluster(region)?,
            group: session.group(region),
            topic: session.topic(region, Role::Ingress).await?,
            until,
            ends: None,
            failing: None,
        })
    }

    /// How long the broker may fail to do what it was asked.
    pub fn timeout(&self) -> Duration {
        self.cluster.timeout()
    }

    /// One look. `None` while the broker can't be asked, which may last as long as the cluster's time-out.
    pub async fn look(&mut self) -> Result<Option<Look>> {
        match self.try_look().await {
            Ok(look) => {
                self.failing = None;
                Ok(Some(look))
            }
            Err(error @ (Error::Kafka { .. } | Error::Topic { .. })) => {
                let since = *self.failing.get_or_insert_with(Instant::now);
                if since.elapsed() > self.cluster.timeout() {
                    return Err(error);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn try_look(&mut self) -> Result<Look> {
        let are_known = match self.until {
            Until::Done => self.ends.is_none() && self.session.published(&self.region).await?,
            Until::Now => self.ends.is_none(),
            // They are wherever they are now.
            Until::Stopped => true,
        };
        if are_known {
            let (name, count) = (self.topic.name.clone(), self.topic.partitions);
            let marks = self.blocking(move |c| c.watermarks(&name, count)).await?;
            self.ends = Some(marks.into_iter().map(|(p, _, end)| (p, end)).collect());
        }
        let (group, name, count) = (
            self.group.clone(),
            self.topic.name.clone(),
            self.topic.partitions,
        );
        let committed = self
            .blocking(move |c| c.committed(&group, &name, count))
            .await?;
        let (mut total, mut done) = (0, 0);
        let mut partitions = Vec::with_capacity(committed.len());
        for (partition, offset) in committed {
            let find =
                |list: &[(i32, i64)]| list.iter().find(|(p, _)| *p == partition).map(|(_, o)| *o);
            let start = find(&self.topic.start).unwrap_or(0);
            let at = offset.unwrap_or(start);
            let end = self.ends.as_deref().and_then(find);
            done += u64::try_from(at - start).unwrap_or(0);
            total += end.map_or(0, |end| u64::try_from(end - start).unwrap_or(0));
            partitions.push((partition, at, end));
        }
        Ok(Look {
            partitions,
            total: self.ends.as_ref().map(|_| total),
            done,
        })
    }

    /// Whether the log has no record in a range: only markers, or what compaction took.
    pub async fn is_hole(
        &self,
        partition: i32,
        start: i64,
        end: i64,
        ctx: &Context,
    ) -> Result<bool> {
        let (name, ctx) = (self.topic.name.clone(), ctx.clone());
        self.blocking(move |c| {
            let marks = c.watermarks(&name, partition.unsigned_abs() + 1)?;
            if marks
                .iter()
                .any(|(p, first, _)| *p == partition && *first > start)
            {
                // What was there has expired: the consumer will say so.
                return Ok(false);
            }
            let range = PartitionRange {
                partition,
                start,
                end,
            };
            let mut found = false;
            read_ranges(c, &name, &[range], "work", &ctx, |_| {
                found = true;
                Ok(())
            })?;
            Ok(!found)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Cluster) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let cluster = self.cluster.clone();
        tokio::task::spawn_blocking(move || call(&cluster))
            .await
            .map_err(|e| self.cluster.error("a blocking call", e))?
    }
}
