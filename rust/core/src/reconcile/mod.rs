//! Reconcile: every source row has one fate, from what the store, the table and the topics hold. Missing and doubled rows
//! are lists.

mod cleanup;
mod landed;
pub mod ledger;
mod missing;
mod report;
mod sums;
mod topics;

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use roaring::RoaringBitmap;
use serde_json::json;

use crate::context::{Context, Progress};
use crate::error::Result;
use crate::job::OutputMode;
use crate::session::Session;
use crate::status;
use crate::store::{Child, ChildState, Role, SplitRow, SplitState, Stage};
use crate::table::{Seen, Table, blocking, read_identities};

use landed::Landed;
use ledger::{Evidence, Fates, fates};
use sums::{by_cause, by_child, missing_rows};
use topics::{RegionTopics, Said};

pub use landed::DoubledRow;
pub use report::{Cause, ChildLedger, LedgerReport, MissingBy, MissingRow};

type Sets = BTreeMap<u32, RoaringBitmap>;

/// Missing rows that are shown; the file has them all.
const EXAMPLES: usize = 20;

/// Gives every row its fate, keeps the ledger in the store, and releases the capacity of child jobs that are explained.
/// It reads, and changes nothing else: safe at any time, also while other stages run. Once every row is explained it
/// publishes rows that were landed to replace others (`output.mode`), and does what `topics.cleanup` says.
///
/// Rows without a fate are no error here: show the report, then call [`LedgerReport::check`].
///
/// # Errors
/// [`Error::Topic`], [`Error::Kafka`], [`Error::Table`] or [`Error::Store`] if evidence can't be read.
pub async fn reconcile(session: &Session, ctx: &Context) -> Result<LedgerReport> {
    let begun = Instant::now();
    report_progress(ctx, "reading the topics and the table");
    let children = session.store.children(session.id).await?;
    let splits = session.store.splits(session.id, None).await?;
    let Gathered {
        mut landed,
        seen,
        mut said,
        replaced_by,
    } = gather(session, &splits, ctx).await?;
    for (role, stage, causes) in [
        (Role::Verdict, Stage::Filtered, &mut said.filtered),
        (
            Role::Deadletter,
            Stage::DeadLettered,
            &mut said.dead_lettered,
        ),
    ] {
        if said.cut.contains(&role) {
            for (split, mut rows) in session.store.ledger(session.id, stage).await? {
                rows -= causes.rows.entry(split).or_default().clone();
                causes.add(split, &rows, "(noted before its record expired)");
            }
        }
    }
    let mut notes = std::mem::take(&mut said.notes);
    if let Some(by) = replaced_by {
        for (split, rows) in session.store.ledger(session.id, Stage::Landed).await? {
            *landed.inputs.entry(split).or_default() |= rows;
        }
        notes.push(format!(
            "job {by} has replaced rows of this one in the table: what an earlier reconcile noted as landed counts"
        ));
    }
    notes.extend(behind(session, &children, &splits).await?);
    if landed.torn() > 0 {
        notes.push(format!(
            "{} inputs have some of their answers in the table and not all",
            landed.torn()
        ));
    }

    report_progress(ctx, "one fate a row");
    let evidence = evidence(session, &splits, &landed, &seen, &said).await?;
    let fates: BTreeMap<u32, Fates> = evidence.iter().map(|(s, e)| (*s, fates(e))).collect();
    let mut report = LedgerReport {
        job: session.id.to_string(),
        name: session.job.file.name.clone(),
        landed_rows: landed.rows,
        duplicated_examples: landed.doubled_examples.clone(),
        children: by_child(&children, &splits, &fates, &landed.doubled),
        by_cause: by_cause(session, &said, &fates).await?,
        notes,
        ..LedgerReport::default()
    };
    report.unexpected = strangers(&splits, &landed, &said);
    report.sum(&fates);
    report.missing_examples = missing_rows(&session.snapshot, &splits, &fates)
        .take(EXAMPLES)
        .collect();
    let path = session.work_dir().join("missing.parquet");
    if missing::write(&path, missing_rows(&session.snapshot, &splits, &fates))? {
        report.missing_file = Some(path);
    }
    report.problem = report.check().err().map(|e| e.to_string());
    keep(session, &evidence).await?;
    for child in report.children.iter().filter(|c| c.explained) {
        session.store.release(session.id, &child.child).await?;
    }
    report.seconds = begun.elapsed().as_secs_f64();
    if report.problem.is_none() {
        report.published = publish(session).await?;
        report.notes.extend(cleanup::cleanup(session, ctx).await?);
    }
    let detail = json!({
        "explained": report.explained, "expected": report.expected, "landed": report.landed,
        "filtered": report.filtered, "dead_lettered": report.dead_lettered, "rejected": report.rejected,
        "missing": report.missing, "duplicated": report.duplicated,
    });
    session
        .store
        .note(session.id, "reconcile", &report.name, "reconciled", detail)
        .await?;
    Ok(report)
}

/// Shows the job's rows to readers in the place of others', as `output.mode` says: the version that does.
async fn publish(session: &Session) -> Result<Option<u64>> {
    let (job, mode) = (session.id, session.job.file.output.mode);
    if mode == OutputMode::Append {
        return Ok(None);
    }
    let table = Table::of(&session.job)?;
    let location = table.location().to_path_buf();
    blocking(&location, move || {
        let published = table.publish(job, mode);
        published.map_err(|e| e.at(table.location()))
    })
    .await
}

fn report_progress(ctx: &Context, note: &str) {
    ctx.report(Progress {
        stage: "reconcile",
        label: "ledger".into(),
        done: 0,
        total: None,
        note: note.into(),
        figures: BTreeMap::new(),
    });
}

/// The evidence outside of the store.
struct Gathered {
    landed: Landed,
    seen: Seen,
    said: Said,
    /// The job that has replaced rows of this one in the table.
    replaced_by: Option<String>,
}

/// Reads the table's identity columns and the topics of every region that has any.
async fn gather(session: &Session, splits: &[SplitRow], ctx: &Context) -> Result<Gathered> {
    let mut regions = Vec::new();
    for region in &session.job.file.regions {
        let topics = session.store.topics(session.id, &region.name).await?;
        if !topics.is_empty() {
            regions.push(RegionTopics {
                cluster: session.cluster(&region.name)?,
                topics,
                group: session.group(&region.name),
                keyed: session.job.file.topics.routed_by_columns(),
            });
        }
    }
    let table = Table::of(&session.job)?;
    let location = table.location().to_path_buf();
    let (job, splits, ctx) = (session.id, splits.to_vec(), ctx.clone());
    blocking(&location, move || {
        let state = table.state()?;
        let seen = table.seen(&state)?;
        let mut landed = Landed::default();
        let files = state.files_of(Some(job));
        read_identities(table.storage(), files, &ctx, |of, row| {
            if of == job {
                landed.push(row);
            }
            Ok(())
        })?;
        let mut said = Said::default();
        for region in &regions {
            said.read(region, job, &splits, &ctx)?;
        }
        Ok(Gathered {
            landed,
            seen,
            said,
            replaced_by: state.replaced.get(&job.to_string()).cloned(),
        })
    })
    .await
}

async fn evidence(
    session: &Session,
    splits: &[SplitRow],
    landed: &Landed,
    seen: &Seen,
    said: &Said,
) -> Result<BTreeMap<u32, Evidence>> {
    let acknowledged = session
        .store
        .ledger(session.id, Stage::Acknowledged)
        .await?;
    let rejected = session.store.ledger(session.id, Stage::Rejected).await?;
    let twice: HashMap<u32, &RoaringBitmap> =
        seen.of(session.id).map(|(s, e)| (s, &e.twice)).collect();
    let of = |sets: &Sets, split: u32| sets.get(&split).cloned().unwrap_or_default();
    Ok(splits
        .iter()
        .map(|row| {
            let split = row.split.split;
            let mut again = of(&said.filtered.again, split) | of(&said.dead_lettered.again, split);
            if let Some(twice) = twice.get(&split) {
                again |= *twice;
            }
            let evidence = Evidence {
                rows: row.split.rows,
                acknowledged: of(&acknowledged, split),
                rejected: of(&rejected, split),
                landed: of(&landed.inputs, split),
                filtered: of(&said.filtered.rows, split),
                dead_lettered: of(&said.dead_lettered.rows, split),
                again,
                may_have_expired: of(&said.may_have_expired, split),
            };
            (split, evidence)
        })
        .collect())
}

/// Evidence of splits that the job does not have at all.
fn strangers(splits: &[SplitRow], landed: &Landed, said: &Said) -> u64 {
    let known = |split: &u32| splits.iter().any(|s| s.split.split == *split);
    [
        &landed.inputs,
        &said.filtered.rows,
        &said.dead_lettered.rows,
    ]
    .into_iter()
    .flatten()
    .filter(|(split, _)| !known(split))
    .map(|(_, rows)| rows.len())
    .sum()
}

/// Stages that have not caught up, in words.
async fn behind(session: &Session, children: &[Child], splits: &[SplitRow]) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for child in children.iter().filter(|c| c.state == ChildState::Waiting) {
        notes.push(format!(
            "child job {} of {} rows is not placed on a region yet: run dispatch, when there is headroom",
            child.name, child.rows
        ));
    }
    let open = splits
        .iter()
        .filter(|s| s.state != SplitState::Closed)
        .count();
    if open > 0 {
        notes.push(format!(
            "{open} of {} splits are not published to the end: run publish",
            splits.len()
        ));
    }
    for region in &session.job.file.regions {
        let placed = |c: &Child| c.region.as_deref() == Some(region.name.as_str());
        let topics = session.store.topics(session.id, &region.name).await?;
        if topics.is_empty() || !children.iter().any(placed) {
            continue;
        }
        let lag = status::lag(session, &region.name).await?;
        if lag.lag > 0 {
            notes.push(format!(
                "region {}: {} ingress records are not worked on yet: run work",
                region.name, lag.lag
            ));
        }
        let unlanded = lag.egress_end.saturating_sub(lag.landed);
        if unlanded > 0 {
            notes.push(format!(
                "region {}: {unlanded} egress records are not landed yet: run land",
                region.name
            ));
        }
    }
    Ok(notes)
}

/// Keeps what was seen, so that the store's ledger says what the table and the topics say.
async fn keep(session: &Session, evidence: &BTreeMap<u32, Evidence>) -> Result<()> {
    let sets = |of: fn(&Evidence) -> &RoaringBitmap| -> Sets {
        evidence.iter().map(|(s, e)| (*s, of(e).clone())).collect()
    };
    for (stage, sets) in [
        (Stage::Landed, sets(|e| &e.landed)),
        (Stage::Filtered, sets(|e| &e.filtered)),
        (Stage::DeadLettered, sets(|e| &e.dead_lettered)),
    ] {
        session.store.put_ledger(session.id, stage, &sets).await?;
    }
    Ok(())
}
