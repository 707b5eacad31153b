//! How many workers a running one says there should be, by what its service takes now.

use std::convert::Infallible;
use std::time::Duration;

use super::metrics::Metrics;
use super::replicas::Present;
use super::scaling::{ReplicasOptions, asked};
use crate::context::Context;
use crate::job::Order;
use crate::session::Session;

/// Between two looks at the broker.
const EVERY: Duration = Duration::from_secs(10);
/// How soon a worker that has just begun knows what its calls take.
const FIRST: Duration = Duration::from_secs(1);

/// Tells the metrics how many workers there should be, again and again. What can't be asked stays as it was.
pub async fn keep(session: &Session, region: &str, metrics: &Metrics, ctx: &Context) -> Infallible {
    loop {
        let Some(options) = by_now(session, metrics) else {
            tokio::time::sleep(FIRST).await;
            continue;
        };
        // While the service takes less than before, no more are asked for than were.
        let present = metrics.desired_replicas().map(|before| Present {
            workers: u32::try_from(before).unwrap_or(u32::MAX),
            shrinking: metrics.shrinking.get() > 0,
        });
        if let Ok(told) = asked(session, region, &options, present, ctx).await {
            metrics.set_desired_replicas(told.found.replicas);
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What this worker does: its calls at once over the time of a call. `None`: none has ended yet.
fn by_now(session: &Session, metrics: &Metrics) -> Option<ReplicasOptions> {
    let call_s = metrics.mean()?.as_secs_f64().max(1e-6);
    let one_by_one = session.job.file.service.order == Some(Order::Partition);
    Some(ReplicasOptions {
        rate_per_s: Some(metrics.limit.get().max(1) as f64 / call_s),
        partition_rate_per_s: one_by_one.then_some(1.0 / call_s),
        p99_ms: u64::try_from(metrics.p99()?.as_millis()).unwrap_or(u64::MAX),
        ..ReplicasOptions::default()
    })
}
