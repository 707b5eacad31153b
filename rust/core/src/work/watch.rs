//! Waiting for workers that run elsewhere (a fleet, or workers of this job alone) to be done with a region's ingress.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Until;
use super::ending::{EVERY, Ending, Look};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::fleet::{Place, place};
use crate::session::Session;
use crate::store::{Role, Submission, SubmissionState};

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

/// Waits, without consuming, until the ingress of a region is done: by the fleet that the job is submitted to, or by
/// workers of its own.
///
/// # Errors
/// [`Error::NotReady`] if nothing is placed in the region, no process of the fleet was there for
/// `service.fleet.timeout_ms`, or the group stood still for `no_progress_ms` with records waiting; [`Error::Cancelled`],
/// [`Error::Fleet`] if the fleet has given the job up; [`Error::Interrupted`]; [`Error::Kafka`].
pub async fn watch(
    session: &Session,
    options: WatchOptions,
    ctx: &Context,
) -> Result<WatchSummary> {
    let began = Instant::now();
    let region = options.region.clone();
    let seen = |records| WatchSummary {
        region: region.clone(),
        records,
        seconds: began.elapsed().as_secs_f64(),
    };
    let ingress = session.topic(&region, Role::Ingress).await?;
    if ingress.removed {
        // What was in it has been worked on and explained.
        return Ok(seen(0));
    }
    let mut ending = Ending::new(session, &region, Until::Done).await?;
    let mut patience = Patience::new();
    loop {
        ctx.check("watch")?;
        let submission = session.store.submission(session.id, &region).await?;
        let look = ending.look().await?;
        if let Some(look) = look.as_ref().filter(|look| look.is_done()) {
            if let Some(submission) = submission {
                let state = SubmissionState::Done;
                let settled = session.store.settle_submission(&submission, state, "");
                settled.await?;
            }
            return Ok(seen(look.done));
        }
        let at = match &submission {
            Some(submission) => Some(stands(session, submission).await?),
            None => None,
        };
        patience.see(look.as_ref(), at.as_ref());
        if let Some(look) = &look {
            let (note, figures) = told(look, at.as_ref(), submission.as_ref());
            ctx.report(Progress {
                stage: "work",
                label: region.clone(),
                done: look.done,
                total: look.total,
                note,
                figures,
            });
            patience.check(session, &options, look, submission.as_ref())?;
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = ctx.cancel.cancelled() => {}
        }
    }
}

/// Where a submitted job is.
///
/// # Errors
/// [`Error::Cancelled`], [`Error::Fleet`] if the fleet has given it up; [`Error::Store`].
async fn stands(session: &Session, submission: &Submission) -> Result<Place> {
    let (job, region) = (submission.name.clone(), submission.region.clone());
    match submission.state {
        SubmissionState::Cancelled => {
            let by = submission.note.clone();
            return Err(Error::Cancelled { job, region, by });
        }
        SubmissionState::Failed => {
            return Err(Error::Fleet {
                service: submission.service.clone(),
                job,
                region,
                reason: submission.note.clone(),
            });
        }
        SubmissionState::Submitted | SubmissionState::Done => {}
    }
    let of = Some((submission.service.as_str(), submission.region.as_str()));
    let members = session.store.fleet_members(of).await?;
    let submitted = session.store.submissions(of).await?;
    let members: Vec<_> = members.iter().collect();
    Ok(place(&session.id.to_string(), &submitted, &members))
}

/// What a job waits for, in words and numbers.
fn told(
    look: &Look,
    at: Option<&Place>,
    submission: Option<&Submission>,
) -> (String, BTreeMap<&'static str, f64>) {
    let mut figures = BTreeMap::new();
    let note = match (at, submission) {
        // It was tried before, and waits to be tried again.
        (Some(Place::Queued(_)), Some(submission)) if !submission.note.is_empty() => {
            submission.note.clone()
        }
        (Some(Place::NoFleet), Some(submission)) => {
            format!("no fleet of service {} is there", submission.service)
        }
        (Some(Place::Queued(before)), _) => format!("in the fleet's queue, {before} before it"),
        (Some(Place::Served(_, job)), _) if job.share > 0 || job.in_flight > 0 => {
            // Counts of calls and records, far below 2⁵³.
            figures.insert("share", job.share as f64);
            figures.insert("lag_records", job.lag as f64);
            format!(
                "the fleet works on it, with up to {} calls at once",
                job.share
            )
        }
        (Some(Place::Served(..)), _) => "the fleet works on it".into(),
        _ if look.total.is_none() => "waiting for the publisher".into(),
        _ => "waiting for the workers".into(),
    };
    (note, figures)
}

/// For how long nothing has happened.
struct Patience {
    done: u64,
    /// When something was done last, or nothing was due.
    moved: Instant,
    /// When a process of the fleet was there last, or something was done by others.
    served: Instant,
}

impl Patience {
    fn new() -> Self {
        Self {
            done: 0,
            moved: Instant::now(),
            served: Instant::now(),
        }
    }

    fn see(&mut self, look: Option<&Look>, at: Option<&Place>) {
        let now = Instant::now();
        let has_moved = look.is_some_and(|look| look.done != self.done);
        self.done = look.map_or(self.done, |look| look.done);
        // Before publishing has ended there may be nothing to do, and in the queue there is nothing to be done.
        let waits = matches!(at, Some(Place::Queued(_) | Place::NoFleet));
        if has_moved || waits || look.is_some_and(|look| look.total.is_none()) {
            self.moved = now;
        }
        if has_moved || at != Some(&Place::NoFleet) {
            self.served = now;
        }
    }

    /// # Errors
    /// [`Error::NotReady`] if it has lasted for too long.
    fn check(
        &self,
        session: &Session,
        options: &WatchOptions,
        look: &Look,
        submission: Option<&Submission>,
    ) -> Result<()> {
        let region = &options.region;
        let limit = session.job.file.service.fleet.timeout_ms;
        if self.served.elapsed() > Duration::from_millis(limit)
            && let Some(Submission { service, .. }) = submission
        {
            return Err(Error::NotReady {
                what: format!(
                    "no fleet of service {service} has been there in region {region} for {} s (service.fleet.timeout_ms)",
                    self.served.elapsed().as_secs()
                ),
                fix: format!(
                    "start `kappaflow fleet run --store {} --service {service} --region {region}`; the job stays submitted",
                    session.store.place()
                ),
            });
        }
        if self.moved.elapsed() <= Duration::from_millis(options.no_progress_ms) {
            return Ok(());
        }
        let waiting = look.total.unwrap_or(look.done).saturating_sub(look.done);
        Err(Error::NotReady {
            what: format!(
                "no worker has committed anything in region {region} for {} s, {waiting} records wait for group {}",
                self.moved.elapsed().as_secs(),
                session.group(region)
            ),
            fix: match submission {
                Some(_) => {
                    "look into the logs of the fleet (`kappaflow fleet status` says where it runs)"
                        .into()
                }
                None => format!(
                    "start `kappaflow-worker {} --region {region}` (or `kappaflow work`), or look into the logs of those that run",
                    session.job.path.display()
                ),
            },
        })
    }
}
