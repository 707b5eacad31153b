//! Waiting for workers that run elsewhere (a fleet) to be done with a region's ingress.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Until;
use super::ending::{EVERY, Ending};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::store::Role;

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    pub region: String,
    /// Longest time without a commit of the group while records wait, in milliseconds (default 120,000).
    pub no_progress_ms: u64,
}

impl WatchOptions {
    pub fn new(region: impl Into<String>) -> Self {
        Self {
            region: region.into(),
            no_progress_ms: 120_000,
        }
    }
}

/// What a watch saw.
#[derive(Clone, Debug, Serialize)]
pub struct WatchSummary {
    pub region: String,
    /// Ingress records the workers are past: all of them.
    pub records: u64,
    pub seconds: f64,
}

/// Waits, without consuming, until the ingress of a region is done.
///
/// # Errors
/// [`Error::NotReady`] if nothing is placed in the region, or the group stood still for `no_progress_ms` with records
/// waiting; [`Error::Interrupted`]; [`Error::Kafka`].
pub async fn watch(
    session: &Session,
    options: WatchOptions,
    ctx: &Context,
) -> Result<WatchSummary> {
    let began = Instant::now();
    let ingress = session.topic(&options.region, Role::Ingress).await?;
    if ingress.removed {
        // What was in it has been worked on and explained.
        return Ok(WatchSummary {
            region: options.region,
            records: 0,
            seconds: began.elapsed().as_secs_f64(),
        });
    }
    let limit = Duration::from_millis(options.no_progress_ms);
    let mut ending = Ending::new(session, &options.region, Until::Done).await?;
    let mut moved = (0, Instant::now());
    loop {
        ctx.check("watch")?;
        if let Some(look) = ending.look().await? {
            ctx.report(Progress {
                stage: "work",
                label: options.region.clone(),
                done: look.done,
                total: look.total,
                note: match look.total {
                    None => "waiting for the publisher".into(),
                    Some(_) => "waiting for the workers".into(),
                },
                figures: BTreeMap::new(),
            });
            if look.is_done() {
                return Ok(WatchSummary {
                    region: options.region,
                    records: look.done,
                    seconds: began.elapsed().as_secs_f64(),
                });
            }
            // Before publishing has ended there may be nothing to do.
            if look.done != moved.0 || look.total.is_none() {
                moved = (look.done, Instant::now());
            }
            if moved.1.elapsed() > limit {
                let waiting = look.total.unwrap_or(look.done).saturating_sub(look.done);
                return Err(Error::NotReady {
                    what: format!(
                        "no worker has committed anything in region {} for {} s, {waiting} records wait for group {}",
                        options.region,
                        moved.1.elapsed().as_secs(),
                        session.group(&options.region)
                    ),
                    fix: format!(
                        "start `kappaflow-worker {} --region {}` (or `kappaflow work`), or look into the logs of those that run",
                        session.job.path.display(),
                        options.region
                    ),
                });
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = ctx.cancel.cancelled() => {}
        }
    }
}
