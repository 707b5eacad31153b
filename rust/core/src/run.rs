//! A whole job in one process: dispatch, publish and work at once, land, reconcile, until every child job is done.

use std::path::Path;
use std::time::Instant;

use futures_util::future::join_all;
use serde::Serialize;

use crate::context::Context;
use crate::dispatch;
use crate::error::{Error, Result};
use crate::fleet;
use crate::job::{RejectLimit, ServiceMode};
use crate::land::{self, LandOptions, LandSummary};
use crate::publish::{self, PublishOptions, PublishReceipt};
use crate::reconcile::{self, LedgerReport};
use crate::session::{Opening, Session};
use crate::store::ChildState;
use crate::work::{self, WatchOptions, WorkOptions, WorkSummary};

/// What a whole run did. A run that confirms a finished job has sent, worked and landed nothing new.
#[derive(Debug, Serialize)]
pub struct RunSummary {
    pub job: String,
    /// What became of the sample, if there was one.
    pub sample: Option<LedgerReport>,
    /// One round a placement: more than one if the regions had no room for all child jobs at once.
    pub rounds: Vec<Round>,
    pub ledger: LedgerReport,
    pub seconds: f64,
}

/// What the child jobs placed together went through.
#[derive(Debug, Serialize)]
pub struct Round {
    pub receipt: PublishReceipt,
    pub work: Vec<WorkSummary>,
    pub land: LandSummary,
}

/// Some rows of a job that go through all of it first.
#[derive(Clone, Debug)]
pub struct Sample {
    pub rows: u64,
    /// Rejected and dead-lettered rows of it with which the whole still begins.
    pub max_failures: RejectLimit,
}

/// Runs the job. `python` starts the service's processes; in fleet mode the job is submitted to its fleet, and
/// watched. With a `sample`, the whole begins when the sample has gone through, as a job of its own, well enough.
///
/// # Errors
/// The first stage that fails stops the others, orderly, and is returned; [`Error::Sample`] or [`Error::Unexplained`] for
/// what became of the sample. Unexplained rows of the whole are no error here: callers show the ledger and then call
/// [`LedgerReport::check`].
pub async fn run(
    session: &Session,
    python: &Path,
    sample: Option<&Sample>,
    ctx: &Context,
) -> Result<RunSummary> {
    let tried = match sample {
        Some(sample) => Some(canary(session, python, sample, ctx).await?),
        None => None,
    };
    let mut summary = whole(session, python, ctx).await?;
    summary.sample = tried;
    Ok(summary)
}

/// The sample through all stages, and what became of it.
async fn canary(
    session: &Session,
    python: &Path,
    sample: &Sample,
    ctx: &Context,
) -> Result<LedgerReport> {
    let dir = session.work_dir().join(format!("sample-{}", sample.rows));
    publish::sample(session, sample.rows, &dir, ctx).await?;
    let canary = Session::of(session.job.canary(&dir), Opening::default()).await?;
    let ledger = whole(&canary, python, ctx).await?.ledger;
    ledger.check()?;
    let failed = ledger.rejected + ledger.dead_lettered;
    if failed <= sample.max_failures.of(ledger.expected) {
        return Ok(ledger);
    }
    let causes = ledger.by_cause.iter().filter(|c| c.fate != "filtered");
    let causes: Vec<String> = causes
        .map(|c| format!("{} {} ({})", c.rows, c.fate, c.reason))
        .collect();
    Err(Error::Sample {
        job: format!("{} ({})", ledger.name, ledger.job),
        rows: ledger.expected,
        failed,
        limit: sample.max_failures.to_string(),
        causes: causes.join(", "),
    })
}

async fn whole(session: &Session, python: &Path, ctx: &Context) -> Result<RunSummary> {
    let begun = Instant::now();
    let mut rounds = Vec::new();
    loop {
        let placed_before = placed(session).await?;
        dispatch::dispatch(session, ctx).await?;
        let scope = ctx.scope();
        let (receipt, work) = tokio::join!(
            scope.stop_on_error(publish::publish(
                session,
                PublishOptions { child: None },
                &scope
            )),
            scope.stop_on_error(work_all(session, python, &scope)),
        );
        let (receipt, work) = both(receipt, work)?;
        let land = land::land(session, LandOptions::default(), ctx).await?;
        let ledger = reconcile::reconcile(session, ctx).await?;
        rounds.push(Round {
            receipt,
            work,
            land,
        });
        let waiting = session
            .store
            .children(session.id)
            .await?
            .iter()
            .any(|child| child.state == ChildState::Waiting);
        // Going on without a new placement would go round for ever.
        let progressed = rounds.len() == 1 || placed(session).await? > placed_before;
        if !waiting || !progressed {
            return Ok(RunSummary {
                job: session.id.to_string(),
                sample: None,
                rounds,
                ledger,
                seconds: begun.elapsed().as_secs_f64(),
            });
        }
    }
}

async fn placed(session: &Session) -> Result<usize> {
    let children = session.store.children(session.id).await?;
    Ok(children.iter().filter(|c| c.region.is_some()).count())
}

/// One worker a region with child jobs, all at once; none in fleet mode, where the job is submitted to the fleet and
/// watched, and taken back if this is stopped.
async fn work_all(session: &Session, python: &Path, ctx: &Context) -> Result<Vec<WorkSummary>> {
    let children = session.placed(None).await?;
    let names = session.job.file.regions.iter().map(|r| r.name.clone());
    let regions = names.filter(|name| children.iter().any(|c| c.region.as_ref() == Some(name)));
    let in_fleet = session.job.file.service.mode == ServiceMode::Fleet;
    let one = |region: String| {
        ctx.stop_on_error(async move {
            if in_fleet {
                fleet::submit(session, Some(&region)).await?;
                let options = WatchOptions::new(region.clone());
                let watched = work::watch(session, options, ctx).await;
                if let Err(Error::Interrupted { .. }) = watched {
                    fleet::cancel(session, Some(&region), "a run that was stopped").await?;
                }
                watched.map(|_| None)
            } else {
                let options = WorkOptions::new(region, python.to_path_buf());
                work::work(session, options, ctx).await.map(Some)
            }
        })
    };
    let mut summaries = Vec::new();
    let mut failed = None;
    for result in join_all(regions.map(one)).await {
        match result {
            Ok(summary) => summaries.extend(summary),
            Err(error) => failed = Some(first(failed, error)),
        }
    }
    failed.map_or(Ok(summaries), Err)
}

fn both<A, B>(a: Result<A>, b: Result<B>) -> Result<(A, B)> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Err(b)) => Err(first(Some(a), b)),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// Of two errors the one that was not caused by stopping after the other.
fn first(earlier: Option<Error>, later: Error) -> Error {
    match earlier {
        None | Some(Error::Interrupted { .. }) => later,
        Some(error) => error,
    }
}
