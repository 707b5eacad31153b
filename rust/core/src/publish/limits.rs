//! What a job or a stream allows its publisher.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pacing::{LagCap, Pacer, Watch};
use crate::error::Result;
use crate::job::Limits;
use crate::kafka::{Cluster, GroupSeen, GroupWatch};
use crate::store::TopicRow;

/// The limits of a job, or of a stream.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PaceLimits {
    pub max_rows_per_s: Option<u32>,
    pub max_lag_records: Option<u64>,
    pub max_lag_mib: Option<u64>,
    pub consumer_timeout_ms: u64,
}

impl PaceLimits {
    pub fn of(limits: &Limits) -> Self {
        Self {
            max_rows_per_s: limits.max_rows_per_s,
            max_lag_records: limits.max_lag_records,
            max_lag_mib: limits.max_lag_mib,
            consumer_timeout_ms: limits.consumer_timeout_ms,
        }
    }

    /// The pacer of a publish to `topic`, whose records `group` works on.
    ///
    /// # Errors
    /// [`Error::Io`] if the group can't be watched.
    pub fn pacer(&self, cluster: &Cluster, group: &str, topic: &TopicRow) -> Result<Pacer> {
        if self.max_lag_records.is_none() && self.max_lag_mib.is_none() {
            return Ok(Pacer::new(self.max_rows_per_s, None));
        }
        let watch = GroupWatch::start(
            cluster.clone(),
            group.to_owned(),
            topic.name.clone(),
            topic.partitions,
        )?;
        let lag = LagCap {
            most_records: self.max_lag_records.unwrap_or(u64::MAX),
            most_bytes: self
                .max_lag_mib
                .map_or(u64::MAX, |mib| mib.saturating_mul(1 << 20)),
            watch: Box::new(watch),
            consumer_timeout: Duration::from_millis(self.consumer_timeout_ms),
            topic: topic.name.clone(),
            group: group.to_owned(),
            start: topic.start.iter().copied().collect(),
        };
        Ok(Pacer::new(self.max_rows_per_s, Some(lag)))
    }
}

impl Watch for GroupWatch {
    fn seen(&mut self) -> Option<GroupSeen> {
        self.latest()
    }
}
