//! Which commits a table takes, and what it is after them. Pure.

use kappaflow_avro::{AvroSchema, Decoder};

use super::{CommitError, CommitRequest, DataFile, Seen, TableState};
use crate::identity::JobId;
use crate::job::OutputMode;

/// Whether a table in this state takes the commit: its end equals the lander's start for every partition, no higher
/// token is there for any child, and none of its inputs is landed already.
///
/// # Errors
/// [`CommitError::Fenced`], [`CommitError::Conflict`], or [`CommitError::Refused`] for another schema.
pub fn admit(state: &TableState, seen: &Seen, request: &CommitRequest) -> Result<(), CommitError> {
    for (key, ours) in &request.tokens {
        if let Some(held) = state.tokens.get(key)
            && held > ours
        {
            let child = key.split_once('/').map_or(key.as_str(), |(_, child)| child);
            return Err(CommitError::Fenced {
                child: child.to_owned(),
                held: *held,
                ours: *ours,
            });
        }
    }
    for (key, advance) in &request.offsets {
        let now = state.offsets.get(key).copied().unwrap_or(advance.from);
        if now != advance.from {
            return Err(CommitError::Conflict {
                reason: format!(
                    "partition {key} is landed to offset {}, this lander started at {}",
                    now.next, advance.from.next
                ),
            });
        }
    }
    if let Some((split, rows)) = seen.overlap(&request.seen) {
        return Err(CommitError::Conflict {
            reason: format!("{rows} inputs of split {split} were landed meanwhile"),
        });
    }
    evolved(state.schema.as_deref(), &request.schema)?;
    Ok(())
}

/// The schema that has the columns of both: one of them must have all of the other's, as they are.
fn evolved(held: Option<&str>, ours: &str) -> Result<String, CommitError> {
    let Some(held) = held.filter(|held| *held != ours) else {
        return Ok(ours.to_owned());
    };
    let columns = |text: &str| {
        let schema = AvroSchema::parse(text).ok()?;
        Some(Decoder::new(&schema).ok()?.arrow_schema())
    };
    let (Some(before), Some(now)) = (columns(held), columns(ours)) else {
        return Err(refused("its schema can't be read"));
    };
    let mut lacks = [None, None];
    for (lack, these, those) in [(0, &before, &now), (1, &now, &before)] {
        for field in these.fields() {
            match those.field_with_name(field.name()) {
                Ok(other) if other.data_type() == field.data_type() => {}
                Ok(other) => {
                    return Err(refused(&format!(
                        "its column {} is {}, that of schema.egress is {}: land into another output.path, or keep the type",
                        field.name(),
                        before
                            .field_with_name(field.name())
                            .map_or(other, |f| f)
                            .data_type(),
                        now.field_with_name(field.name())
                            .map_or(other, |f| f)
                            .data_type(),
                    )));
                }
                Err(_) => lacks[lack] = Some(field.name()),
            }
        }
    }
    match lacks {
        [None, _] => Ok(ours.to_owned()),
        [_, None] => Ok(held.to_owned()),
        [Some(held), Some(ours)] => Err(refused(&format!(
            "it has a column {held} that schema.egress lacks, which has {ours} instead: give schema.egress both, or land into another output.path"
        ))),
    }
}

fn refused(reason: &str) -> CommitError {
    CommitError::Refused {
        reason: reason.to_owned(),
    }
}

/// The state after a commit.
pub fn apply(state: &TableState, request: &CommitRequest, seen: Option<String>) -> TableState {
    let mut next = state.clone();
    next.version += 1;
    let files = if request.staged {
        &mut next.staged
    } else {
        &mut next.files
    };
    files.extend(request.files.iter().cloned());
    for (key, advance) in &request.offsets {
        next.offsets.insert(key.clone(), advance.to);
    }
    for (key, token) in &request.tokens {
        next.tokens.insert(key.clone(), *token);
    }
    if request.re_published > 0 {
        *next
            .re_published
            .entry(request.job.to_string())
            .or_default() += request.re_published;
    }
    next.seen = seen.or(next.seen);
    // What is admitted has one that is.
    next.schema = evolved(next.schema.as_deref(), &request.schema)
        .ok()
        .or(next.schema);
    next
}

/// A table whose rows of one job are published, and the files that readers see from then on, and no longer.
pub struct Published {
    pub state: TableState,
    pub added: Vec<DataFile>,
    pub removed: Vec<DataFile>,
}

/// Puts a job's rows in the place of others': all of them, or those of the partitions that it has rows in. `None` if that
/// is done.
///
/// # Errors
/// [`CommitError::Refused`] if a file that would be replaced may hold rows of the job itself.
pub fn publish(
    state: &TableState,
    job: JobId,
    mode: OutputMode,
    now_ms: i64,
) -> Result<Option<Published>, CommitError> {
    let job = job.to_string();
    let (added, staged): (Vec<_>, Vec<_>) =
        state.staged.iter().cloned().partition(|f| f.job == job);
    if mode == OutputMode::Append || (added.is_empty() && state.published.contains_key(&job)) {
        return Ok(None);
    }
    let replaces = |file: &DataFile| {
        let here = || added.iter().any(|f| f.partition == file.partition);
        file.job != job && (mode == OutputMode::NewVersion || here())
    };
    let (removed, mut files): (Vec<_>, Vec<_>) =
        state.files.iter().cloned().partition(|f| replaces(f));
    if state.published.contains_key(&job) && removed.iter().any(|f| f.job.is_empty()) {
        return Err(refused(
            "others have rewritten files that may hold rows which this job has published before, and what came since can't replace those around them: land this job's rest as another job, under a new name or param",
        ));
    }
    files.extend(added.iter().cloned());
    let mut next = TableState {
        version: state.version + 1,
        files,
        staged,
        ..state.clone()
    };
    next.published.insert(job.clone(), next.version);
    for file in &removed {
        next.removed.insert(file.path.clone(), now_ms);
        if file.job.is_empty() {
            // It may have held rows of any that has landed here.
            let landed = state.offsets.keys().filter_map(|key| key.split('/').next());
            let all = landed.map(|other| (other.to_owned(), job.clone()));
            next.replaced.extend(all);
        } else {
            next.replaced.insert(file.job.clone(), job.clone());
        }
    }
    next.replaced.remove(&job);
    Ok(Some(Published {
        state: next,
        added,
        removed,
    }))
}

/// A table in which files stand for others with the same rows. `None` if one of those is no more.
pub fn replace(
    state: &TableState,
    added: &[DataFile],
    removed: &[DataFile],
    now_ms: i64,
) -> Option<TableState> {
    let gone = |file: &DataFile| removed.iter().any(|r| r.path == file.path);
    let mut next = state.clone();
    next.version += 1;
    next.files.retain(|file| !gone(file));
    if next.files.len() + removed.len() != state.files.len() {
        return None;
    }
    next.files.extend(added.iter().cloned());
    let removed = removed.iter().map(|file| (file.path.clone(), now_ms));
    next.removed.extend(removed);
    Some(next)
}
