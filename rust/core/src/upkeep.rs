//! Upkeep of a job's table: compaction, clean-up, and the export for readers of bare directories.

use std::path::Path;
use std::time::Duration;

use crate::context::Context;
use crate::error::Result;
use crate::job::Job;
use crate::session::Session;
use crate::table::{self, CleanSummary, CompactSummary, ExportSummary, Shape, Table, blocking};

async fn with_table<T: Send + 'static>(
    session: &Session,
    ctx: &Context,
    calls: impl FnOnce(&Table, &Context) -> Result<T> + Send + 'static,
) -> Result<T> {
    let table = Table::of(&session.job)?;
    let (location, ctx) = (table.location().to_path_buf(), ctx.clone());
    blocking(&location, move || calls(&table, &ctx)).await
}

/// Makes large files of the small ones that readers see.
///
/// # Errors
/// As [`table::compact`].
pub async fn compact(session: &Session, ctx: &Context) -> Result<CompactSummary> {
    let shape = Shape::new(session.id, "", &session.job.file.output);
    with_table(session, ctx, move |table, ctx| {
        table::compact(table, &shape, ctx)
    })
    .await
}

/// Removes what is no part of the table and older than that.
///
/// # Errors
/// [`crate::Error::JobFile`] if landers of the job may take longer from a file to its commit; as [`table::clean`].
pub async fn clean(session: &Session, older_than: Duration, ctx: &Context) -> Result<CleanSummary> {
    check_age(&session.job, older_than)?;
    with_table(session, ctx, move |table, ctx| {
        table::clean(table, older_than, ctx)
    })
    .await
}

/// Writes what readers see of the table to a new directory on disk.
///
/// # Errors
/// As [`table::export`].
pub async fn export(session: &Session, to: &Path, ctx: &Context) -> Result<ExportSummary> {
    let to = to.to_path_buf();
    with_table(session, ctx, move |table, ctx| {
        table::export(table, &to, ctx)
    })
    .await
}

/// A lander's files wait for their commit for as long as `output.commit_ms` says.
fn check_age(job: &Job, older_than: Duration) -> Result<()> {
    let commit = Duration::from_millis(job.file.output.commit_ms);
    if older_than >= commit * 2 {
        return Ok(());
    }
    Err(job.error(
        "output.commit_ms",
        format!(
            "is {} s, and files of landers wait for their commit so long: clean up what is older than {} s at least, not {} s",
            commit.as_secs(),
            commit.as_secs() * 2,
            older_than.as_secs()
        ),
    ))
}
