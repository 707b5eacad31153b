//! How many workers a region of a job needs now: what waits and comes is asked of the broker, what a worker does of the
//! runs that have ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::replicas::{Capacity, PartitionLoad, Present, Replicas, Terms, replicas};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::store::{Event, Role, TopicRow, now_ms};

/// What to assume, where it isn't known.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplicasOptions {
    /// Records a second that one worker does. `None`: as the workers of this job did whose runs have ended.
    pub rate_per_s: Option<f64>,
    /// Records a second of one partition that a worker does, if that is less.
    pub partition_rate_per_s: Option<f64>,
    /// Records a second that come. `None`: as came while it was looked.
    pub arrivals_per_s: Option<f64>,
    /// From now until what waits is to be done, in seconds. `None`: what is left of `limits.job_deadline_ms`.
    pub deadline_s: Option<f64>,
    /// How long arrivals are watched, in seconds (default 5).
    pub watch_s: f64,
    /// 99th percentile of a call, in milliseconds (default 1,000).
    pub p99_ms: u64,
    /// From asking for a worker until it works, in milliseconds (default 60,000).
    pub pod_start_ms: u64,
    /// How long the group stands still while it is changed, in milliseconds (default 5,000).
    pub rebalance_ms: u64,
    /// Share of a worker's time that what comes may take (default 0.7).
    pub utilisation: f64,
    /// Default 0.
    pub min: u32,
    /// Default 100.
    pub max: u32,
}

impl Default for ReplicasOptions {
    fn default() -> Self {
        let terms = Terms::default();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            rate_per_s: None,
            partition_rate_per_s: None,
            arrivals_per_s: None,
            deadline_s: None,
            watch_s: 5.0,
            p99_ms: ms(terms.p99),
            pod_start_ms: ms(terms.pod_start),
            rebalance_ms: ms(terms.rebalance),
            utilisation: terms.utilisation,
            min: terms.min,
            max: terms.max,
        }
    }
}

/// How many workers a region needs, and why.
#[derive(Clone, Debug, Serialize)]
pub struct RegionReplicas {
    pub region: String,
    #[serde(flatten)]
    pub found: Replicas,
    /// [`Replicas::unmeetable`] in words.
    pub message: Option<String>,
    pub lag: u64,
    pub arrivals_per_s: f64,
    /// Records a second of one worker.
    pub rate_per_s: f64,
    /// Runs that the rate is taken from; zero: it was given.
    pub rate_of_runs: usize,
    /// Seconds until the deadline.
    pub deadline_s: f64,
    pub partitions: Vec<PartitionLoad>,
}

/// Says how many workers a region needs. Changes nothing.
///
/// # Errors
/// [`Error::NotReady`] before `dispatch`, or if no rate is given and no run of a worker has ended; [`Error::Kafka`],
/// [`Error::Topic`] if the broker refuses; [`Error::Interrupted`].
pub async fn region_replicas(
    session: &Session,
    region: &str,
    options: &ReplicasOptions,
    ctx: &Context,
) -> Result<RegionReplicas> {
    asked(session, region, options, None, ctx).await
}

/// The same, beside the workers there are.
pub async fn asked(
    session: &Session,
    region: &str,
    options: &ReplicasOptions,
    present: Option<Present>,
    ctx: &Context,
) -> Result<RegionReplicas> {
    session.placed(Some(region)).await?;
    let ingress = session.topic(region, Role::Ingress).await?;
    let events = session.store.events(session.id).await?;
    let (rate_per_s, rate_of_runs) = match options.rate_per_s {
        Some(rate) => (rate, 0),
        None => measured(&events, region).ok_or_else(|| Error::NotReady {
            what: format!(
                "no run of a worker in region {region} has ended, so that it is not known what one does"
            ),
            fix: "give the records a second of one worker: --rate".into(),
        })?,
    };
    let deadline = match options.deadline_s {
        Some(given) => seconds(given),
        None => left(session, &events),
    };
    let partitions = load(session, region, options, &ingress, ctx).await?;
    let capacity = Capacity {
        worker_per_s: rate_per_s,
        partition_per_s: options
            .partition_rate_per_s
            .unwrap_or(rate_per_s)
            .min(rate_per_s),
    };
    let terms = Terms {
        deadline: Some(deadline),
        p99: Duration::from_millis(options.p99_ms),
        pod_start: Duration::from_millis(options.pod_start_ms),
        rebalance: Duration::from_millis(options.rebalance_ms),
        utilisation: options.utilisation,
        min: options.min,
        max: options.max,
    };
    let found = replicas(&partitions, capacity, &terms, present);
    Ok(RegionReplicas {
        message: found.unmeetable.as_ref().map(ToString::to_string),
        region: region.to_owned(),
        found,
        lag: partitions.iter().map(|p| p.lag).sum(),
        arrivals_per_s: partitions.iter().map(|p| p.arrivals_per_s).sum(),
        rate_per_s,
        rate_of_runs,
        deadline_s: deadline.as_secs_f64(),
        partitions,
    })
}

/// What is left of the job's deadline, which counts from the first thing that was done for it.
fn left(session: &Session, events: &[Event]) -> Duration {
    let began = events.first().map_or_else(now_ms, |event| event.at_ms);
    let spent = u64::try_from(now_ms().saturating_sub(began)).unwrap_or(0);
    Duration::from_millis(
        session
            .job
            .file
            .limits
            .job_deadline_ms
            .saturating_sub(spent),
    )
}

/// Records a second of one worker: the median of the runs in a region that have ended, and their number.
fn measured(events: &[Event], region: &str) -> Option<(f64, usize)> {
    let ended = |e: &&Event| e.stage == "work" && e.label == region && e.what == "end";
    let rate = |event: &Event| {
        let read = event.detail["read"].as_f64()?;
        let seconds = event.detail["seconds"].as_f64()?;
        // One that stood by says nothing.
        (read > 0.0 && seconds > 0.0).then(|| read / seconds)
    };
    let mut rates: Vec<f64> = events.iter().filter(ended).filter_map(rate).collect();
    rates.sort_by(f64::total_cmp);
    let median = *rates.get(rates.len() / 2)?;
    Some((median, rates.len()))
}

/// What waits in each partition, and comes.
async fn load(
    session: &Session,
    region: &str,
    options: &ReplicasOptions,
    ingress: &TopicRow,
    ctx: &Context,
) -> Result<Vec<PartitionLoad>> {
    if ingress.removed {
        // All of it was worked on before.
        return Ok(Vec::new());
    }
    let began = Instant::now();
    let (committed, first) = look(session, region, ingress).await?;
    let closed = session.published(region).await?;
    let (committed, ends) = if closed || options.arrivals_per_s.is_some() {
        (committed, first.clone())
    } else {
        tokio::select! {
            () = tokio::time::sleep(seconds(options.watch_s)) => {}
            () = ctx.cancel.cancelled() => ctx.check("work replicas")?,
        }
        look(session, region, ingress).await?
    };
    let elapsed = began.elapsed().as_secs_f64().max(1e-3);
    let came = |partition: i32, end: i64| match first.get(&partition) {
        Some(before) if !closed => end.saturating_sub(*before).max(0) as f64 / elapsed,
        _ => 0.0,
    };
    let all: f64 = ends.iter().map(|(p, end)| came(*p, *end)).sum();
    let count = ends.len().max(1) as f64;
    Ok(ends
        .iter()
        .map(|(partition, end)| {
            let start = ingress
                .start
                .iter()
                .find(|s| s.0 == *partition)
                .map_or(0, |s| s.1);
            let at = committed.get(partition).copied().unwrap_or(start);
            let seen = came(*partition, *end);
            PartitionLoad {
                partition: *partition,
                lag: u64::try_from(end.saturating_sub(at)).unwrap_or(0),
                arrivals_per_s: match options.arrivals_per_s {
                    Some(given) if all > 0.0 => given * seen / all,
                    Some(given) => given / count,
                    None => seen,
                },
            }
        })
        .collect())
}

type Offsets = BTreeMap<i32, i64>;

/// Where the group is, and where the partitions end.
async fn look(session: &Session, region: &str, ingress: &TopicRow) -> Result<(Offsets, Offsets)> {
    let cluster = session.cluster(region)?;
    let group = session.group(region);
    let (name, count) = (ingress.name.clone(), ingress.partitions);
    let asked = tokio::task::spawn_blocking(move || {
        let committed = cluster.committed(&group, &name, count)?;
        let ends = cluster.watermarks(&name, count)?;
        Ok::<_, Error>((
            committed
                .into_iter()
                .filter_map(|(p, at)| Some((p, at?)))
                .collect(),
            ends.into_iter().map(|(p, _, end)| (p, end)).collect(),
        ))
    });
    asked.await.map_err(|e| Error::Kafka {
        region: region.to_owned(),
        what: "read its offsets".into(),
        reason: e.to_string(),
    })?
}

/// What is no time counts as none.
fn seconds(given: f64) -> Duration {
    Duration::try_from_secs_f64(given.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(what: &str, detail: serde_json::Value) -> Event {
        Event {
            at_ms: 0,
            stage: "work".into(),
            label: "east".into(),
            what: what.into(),
            detail,
        }
    }

    #[test]
    fn the_rate_is_the_median_of_runs_that_did_something() {
        let events = [
            event("begin", json!({"pid": 1})),
            event("end", json!({"read": 1_000, "seconds": 10.0})),
            event("end", json!({"read": 6_000, "seconds": 20.0})),
            event("end", json!({"read": 200, "seconds": 1.0})),
            // One that stood by, and one of a version that did not note its time.
            event("end", json!({"read": 0, "seconds": 10.0})),
            event("end", json!({"read": 9_000})),
        ];
        assert_eq!(measured(&events, "east"), Some((200.0, 3)));
        assert_eq!(measured(&events, "west"), None);
        assert_eq!(measured(&events[..1], "east"), None);
    }
}
