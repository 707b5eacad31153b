//! What a job asks of its source, and how that is answered: by listing files here, or by a planner that knows the
//! format and names the files to read.

use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::planned::SourcePlan;
use super::{Filter, Reach, Snapshot, View, hex};
use crate::error::{Error, Result};
use crate::job::{Job, SourceFormat};
use crate::store::now_ms;

/// Plans a source that is no directory of Parquet files: the text of [`spec`] in, that of a [`SourcePlan`] out. It may
/// block.
pub type Planner = Arc<dyn Fn(&str) -> Result<String> + Send + Sync>;

/// What is asked for, as a SHA-256 in hex: the job's name, its identity params, the service's version, and `[source]`
/// with how it is cut. The same request is answered with the same snapshot until a new one is asked for.
pub fn request(job: &Job) -> String {
    let source = serde_json::to_string(&job.file.source).unwrap_or_default();
    let mut hash = Sha256::new();
    for part in [
        job.file.name.as_str(),
        &job.identity_params(),
        &job.file.service.version,
        &source,
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// What a planner is told, as JSON: the keys of `[source]`, `dir` (the job file's directory) and `request`, which is
/// another each time that a new snapshot is asked for: rows that were kept for the one before don't answer it.
pub fn spec(job: &Job, new_snapshot: bool) -> String {
    let mut spec = json!(job.file.source);
    spec["dir"] = json!(job.dir);
    spec["request"] = match new_snapshot {
        true => json!(format!("{}-{}", request(job), now_ms())),
        false => json!(request(job)),
    };
    spec.to_string()
}

/// Pins the job's source as it is now. Blocks.
///
/// # Errors
/// [`Error::Source`]; [`Error::NotReady`] if a planner is needed and none is there; [`Error::Planner`].
pub fn take(job: &Job, planner: Option<&Planner>, new_snapshot: bool) -> Result<Snapshot> {
    let source = &job.file.source;
    if source.format == SourceFormat::Parquet {
        let path = source.path.as_deref().unwrap_or_default();
        return Snapshot::pin(path, &reach(job), view(job)?);
    }
    let Some(planner) = planner else {
        return Err(Error::NotReady {
            what: format!(
                "the snapshot of job {} is not pinned yet, and a source of format {:?} is planned in Python",
                job.file.name,
                source.format.name()
            ),
            fix: "run `kappaflow plan` or `kappaflow dispatch` on the job file first".into(),
        });
    };
    let plan = SourcePlan::parse(&planner(&spec(job, new_snapshot))?)?;
    Snapshot::pin_planned(plan, &reach(job), view(job)?)
}

/// Which columns and rows of its source a job sees.
fn view(job: &Job) -> Result<View> {
    let source = &job.file.source;
    let filter = source.filter.as_ref().map(Filter::parse).transpose();
    Ok(View {
        columns: source.columns.clone(),
        filter: filter.map_err(|reason| job.error("source.filter", reason))?,
    })
}

/// How the paths and URLs of a job's source are reached.
pub fn reach(job: &Job) -> Reach {
    Reach::new(&job.dir, job.file.source.options.clone())
}
