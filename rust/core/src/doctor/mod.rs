//! Doctor: what a job needs of the systems around it (network paths, rights, topics, subjects, quotas, places to write),
//! and each of it tried, without changing anything.

mod broker;
mod registry;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::files::unique_name;
use crate::session::Session;
use crate::snapshot::Address;
use crate::table::{Table, blocking};

/// How a need is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    Failed,
    /// It can't be tried from here and now.
    Unknown,
}

/// What kind of thing a job needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Place,
    Network,
    Topic,
    Right,
    Subject,
    Quota,
}

/// One thing that a job needs, and what became of trying it.
#[derive(Clone, Debug, Serialize)]
pub struct Need {
    /// `None`: of the job as a whole.
    pub region: Option<String>,
    pub kind: Kind,
    /// What is needed: `WRITE on topic orders.ingress`.
    pub what: String,
    pub outcome: Outcome,
    /// What was seen, or what to do about it.
    pub told: String,
}

/// Everything a job needs.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    pub job: String,
    pub name: String,
    /// Nothing has failed.
    pub healthy: bool,
    pub failed: u64,
    pub unknown: u64,
    pub needs: Vec<Need>,
    pub seconds: f64,
}

/// What is found out about one region, or the job as a whole.
struct Findings {
    region: Option<String>,
    needs: Vec<Need>,
}

impl Findings {
    fn new(region: Option<&str>) -> Self {
        Self {
            region: region.map(str::to_owned),
            needs: Vec::new(),
        }
    }

    fn note(
        &mut self,
        kind: Kind,
        what: impl Into<String>,
        outcome: Outcome,
        told: impl Into<String>,
    ) {
        self.needs.push(Need {
            region: self.region.clone(),
            kind,
            what: what.into(),
            outcome,
            told: told.into(),
        });
    }

    /// What was tried: what it says if it works, or why it does not.
    fn tried(&mut self, kind: Kind, what: impl Into<String>, tried: Result<String>) -> bool {
        let (outcome, told) = match tried {
            Ok(told) => (Outcome::Ok, told),
            Err(error) => (Outcome::Failed, error.to_string()),
        };
        self.note(kind, what, outcome, told);
        outcome == Outcome::Ok
    }
}

/// Lists what a job needs and tries it; `remote`: for a publish in other processes, too. The source has been pinned and
/// the store opened by now.
///
/// # Errors
/// [`crate::Error::Interrupted`]. What fails is a finding.
pub async fn diagnose(session: &Session, remote: bool, ctx: &Context) -> Result<Diagnosis> {
    let began = Instant::now();
    let mut needs = places(session).await;
    let regions = &session.job.file.regions;
    for (done, region) in regions.iter().enumerate() {
        ctx.check("doctor")?;
        ctx.report(Progress {
            stage: "doctor",
            label: region.name.clone(),
            done: done as u64,
            total: Some(regions.len() as u64),
            note: String::new(),
            figures: BTreeMap::new(),
        });
        needs.extend(broker::needs(session, &region.name, remote, ctx).await?);
        needs.extend(registry::needs(session, &region.name, ctx).await?);
    }
    let count = |of: Outcome| needs.iter().filter(|n| n.outcome == of).count() as u64;
    let (failed, unknown) = (count(Outcome::Failed), count(Outcome::Unknown));
    Ok(Diagnosis {
        job: session.id.to_string(),
        name: session.job.file.name.clone(),
        healthy: failed == 0,
        failed,
        unknown,
        needs,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// The source and the store are there, or there were no session; directories are written to.
async fn places(session: &Session) -> Vec<Need> {
    let mut found = Findings::new(None);
    let rows = session.snapshot.rows();
    let files = session.snapshot.files.len();
    let source = session.snapshot.root.display();
    let told = format!("{rows} rows in {files} files are pinned");
    found.note(Kind::Place, format!("reading {source}"), Outcome::Ok, told);
    let url = &session.job.file.store.url;
    found.note(
        Kind::Place,
        format!("the store {url}"),
        Outcome::Ok,
        "opened",
    );
    let table = session.job.table();
    let remote = Address::parse(&session.job.file.output.path).is_ok_and(|a| a.is_some());
    for (what, dir) in [
        ("rejects and locks", session.work_dir()),
        ("the table", table.clone()),
    ] {
        let told = match remote && dir == table {
            true => writable_store(session).await,
            false => writable(&dir).map_err(|e| e.to_string()),
        };
        let what = format!("writing {what} in {}", dir.display());
        match told {
            Ok(()) => found.note(Kind::Place, what, Outcome::Ok, "a file could be made"),
            Err(e) => found.note(Kind::Place, what, Outcome::Failed, e),
        }
    }
    found.needs
}

/// Makes an object where the table is, and removes it.
async fn writable_store(session: &Session) -> Result<(), String> {
    let told = |e: Error| e.to_string();
    let table = Table::of(&session.job).map_err(told)?;
    let location = table.location().to_path_buf();
    let made = blocking(&location, move || {
        let name = format!("_kappaflow/doctor-{}", unique_name());
        let storage = table.storage();
        let made = storage.put(&name, Vec::new());
        made.and_then(|()| storage.remove(&name))
            .map_err(|e| Error::Table {
                table: storage.location().to_path_buf(),
                reason: e.to_string(),
            })
    });
    made.await.map_err(told)
}

/// Makes a file in the directory, or in the nearest one above that there is, and removes it.
fn writable(dir: &Path) -> std::io::Result<()> {
    let there = dir.ancestors().find(|above| above.is_dir());
    tempfile::Builder::new()
        .prefix(".kappaflow-doctor")
        .tempfile_in(there.unwrap_or(dir))?
        .close()
}
