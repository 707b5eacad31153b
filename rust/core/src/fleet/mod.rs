//! Fleets: workers that run on their own and serve several jobs at once. A job is submitted to the fleet of its service, is
//! watched, and may be cancelled; all of it by way of the store.
//!
//! Each job keeps its own topics and its own consumer group, so that its ledger, its landing, its retention and its
//! clean-up are its own, and none stands behind another in a log. What the jobs of a fleet share is the service: its slots,
//! in each process, by [`crate::work`]'s weighted max-min shares.

mod serve;

use serde::Serialize;

use crate::error::Result;
use crate::session::Session;
use crate::store::{FleetMember, JobFigures, Store, Submission, SubmissionState};

pub use serve::{FleetOptions, FleetSummary, fleet};

/// What was submitted, or taken back.
#[derive(Clone, Debug, Serialize)]
pub struct Submitted {
    pub job: String,
    pub service: String,
    /// The regions in which something was done.
    pub regions: Vec<String>,
}

/// Submits a job to the fleet of its service: in a region, or in all with child jobs of it. Again, it confirms that, or, if
/// the job has ended there meanwhile, lets it go on.
///
/// # Errors
/// [`crate::Error::NotReady`] if nothing is placed there; [`crate::Error::Store`].
pub async fn submit(session: &Session, region: Option<&str>) -> Result<Submitted> {
    let service = session.job.file.service.fleet_name();
    let regions = regions(session, region).await?;
    for region in &regions {
        let submission = Submission {
            job: session.id,
            name: session.job.file.name.clone(),
            region: region.clone(),
            service: service.clone(),
            number: 0,
            state: SubmissionState::Submitted,
            path: session.job.path.to_string_lossy().into_owned(),
            params: serde_json::to_string(&session.job.params).unwrap_or_default(),
            resolved: session.job.resolved_toml()?,
            ingress: session.ingress.json().to_owned(),
            egress: session.egress.json().to_owned(),
            note: String::new(),
            submitted_ms: 0,
            changed_ms: 0,
        };
        session.store.submit(&submission).await?;
    }
    Ok(Submitted {
        job: session.id.to_string(),
        service,
        regions,
    })
}

/// Takes a job back from its fleet, in a region or in all: what is under way is finished and committed, and a later
/// submission goes on from there. `by`: who says so.
///
/// # Errors
/// [`crate::Error::NotReady`] if nothing is placed there; [`crate::Error::Store`].
pub async fn cancel(session: &Session, region: Option<&str>, by: &str) -> Result<Submitted> {
    let note = format!("by {by} at {:.0}", jiff::Timestamp::now());
    let mut cancelled = Vec::new();
    for region in regions(session, region).await? {
        if let Some(submission) = session.store.submission(session.id, &region).await?
            && session
                .store
                .settle_submission(&submission, SubmissionState::Cancelled, &note)
                .await?
        {
            cancelled.push(region);
        }
    }
    Ok(Submitted {
        job: session.id.to_string(),
        service: session.job.file.service.fleet_name(),
        regions: cancelled,
    })
}

async fn regions(session: &Session, region: Option<&str>) -> Result<Vec<String>> {
    let children = session.placed(region).await?;
    let names = session.job.file.regions.iter().map(|r| r.name.clone());
    let here = names.filter(|name| children.iter().any(|c| c.region.as_ref() == Some(name)));
    Ok(here.collect())
}

/// Where a submitted job is.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// No process of the fleet is there.
    NoFleet,
    /// So many jobs come before it, those under way left out.
    Queued(usize),
    /// It is worked on; by how many processes, and what they say together.
    Served(usize, JobFigures),
}

/// Where a job is among those submitted to a fleet, in their order, and what the fleet's processes say.
pub(crate) fn place<'s>(
    job: &str,
    submitted: impl IntoIterator<Item = &'s Submission>,
    members: &[&FleetMember],
) -> Place {
    let of = |job: &str| -> Vec<&JobFigures> {
        let all = members.iter().flat_map(|m| &m.jobs);
        all.filter(|j| j.job == job).collect()
    };
    let ours = of(job);
    if members.is_empty() {
        return Place::NoFleet;
    }
    if !ours.is_empty() {
        let sum = |what: fn(&JobFigures) -> u64| ours.iter().map(|j| what(j)).sum();
        let figures = JobFigures {
            job: job.to_owned(),
            read: sum(|j| j.read),
            share: sum(|j| j.share),
            in_flight: sum(|j| j.in_flight),
            lag: sum(|j| j.lag),
        };
        return Place::Served(ours.len(), figures);
    }
    let before = submitted
        .into_iter()
        .filter(|s| s.state == SubmissionState::Submitted)
        .map(|s| s.job.to_string())
        .take_while(|other| other != job);
    Place::Queued(before.filter(|other| of(other).is_empty()).count())
}

/// The fleets of a store and the jobs that were given to them.
#[derive(Clone, Debug, Serialize)]
pub struct FleetStatus {
    /// Processes that are there.
    pub members: Vec<FleetMember>,
    pub jobs: Vec<JobStatus>,
}

/// A job that was given to a fleet.
#[derive(Clone, Debug, Serialize)]
pub struct JobStatus {
    pub job: String,
    pub name: String,
    pub region: String,
    pub service: String,
    pub state: SubmissionState,
    /// Of one that waits: how many come before it. `None` while it is worked on, after it has ended, and without a fleet.
    pub place: Option<usize>,
    /// Processes that work on it.
    pub members: usize,
    /// What they say together.
    pub figures: Option<JobFigures>,
    /// Why it failed or is tried again, or by whom it was cancelled; else empty.
    pub note: String,
    pub submitted_ms: i64,
    pub changed_ms: i64,
}

/// How the fleets stand that use a store, and the jobs that were given to them. Changes nothing.
///
/// # Errors
/// [`crate::Error::Store`].
pub async fn fleet_status(store: &Store) -> Result<FleetStatus> {
    let members = store.fleet_members(None).await?;
    let submissions = store.submissions(None).await?;
    let mut jobs = Vec::new();
    for submission in &submissions {
        let (service, region) = (&submission.service, &submission.region);
        let same = |of: (&str, &str)| of == (service.as_str(), region.as_str());
        let queue = submissions.iter().filter(|s| same((&s.service, &s.region)));
        let there: Vec<&FleetMember> = members
            .iter()
            .filter(|m| same((&m.service, &m.region)))
            .collect();
        let job = submission.job.to_string();
        let (place, members, figures) = match place(&job, queue, &there) {
            Place::Served(members, figures) => (None, members, Some(figures)),
            Place::Queued(before) if submission.state == SubmissionState::Submitted => {
                (Some(before), 0, None)
            }
            _ => (None, 0, None),
        };
        jobs.push(JobStatus {
            job,
            name: submission.name.clone(),
            region: region.clone(),
            service: service.clone(),
            state: submission.state,
            place,
            members,
            figures,
            note: submission.note.clone(),
            submitted_ms: submission.submitted_ms,
            changed_ms: submission.changed_ms,
        });
    }
    Ok(FleetStatus { members, jobs })
}
