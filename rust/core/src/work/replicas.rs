//! How many workers a region needs. Pure.
//!
//! With λ records a second coming, L waiting, and μ records a second that one worker does, as many as keep up with what
//! comes at a utilisation ρ, or as are done with all of it in time, whichever is more:
//!
//! ```text
//! N = max(λ / (ρ μ), (λ + L / D) / μ)      D = deadline − p99 − start of a pod − rebalance
//! ```
//!
//! A partition is one worker's: more workers do not help one of which more is asked than a worker does.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What waits for the workers in one partition, and comes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PartitionLoad {
    pub partition: i32,
    /// Records that no worker has passed.
    pub lag: u64,
    /// Records a second.
    pub arrivals_per_s: f64,
}

/// What one worker does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Records a second: its calls at once over the time of a call.
    pub worker_per_s: f64,
    /// Records a second of one partition: the same, or one call after the other where their order is kept.
    pub partition_per_s: f64,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Until what waits is to be done. `None`: only what comes has to be kept up with.
    pub deadline: Option<Duration>,
    /// 99th percentile of a call.
    pub p99: Duration,
    /// From asking for a worker until it works.
    pub pod_start: Duration,
    /// How long the group stands still while it is changed.
    pub rebalance: Duration,
    /// Share of a worker's time that what comes may take (0 to 1).
    pub utilisation: f64,
    pub min: u32,
    pub max: u32,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            deadline: None,
            p99: Duration::from_secs(1),
            pod_start: Duration::from_secs(60),
            rebalance: Duration::from_secs(5),
            utilisation: 0.7,
            min: 0,
            max: 100,
        }
    }
}

/// The workers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    pub workers: u32,
    /// Their limiters give the service less than before: it takes no more, whoever calls.
    pub shrinking: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replicas {
    /// Workers there should be.
    pub replicas: u32,
    /// Workers it would take, had nothing bounds. `None`: no number of them is enough.
    pub needed: Option<u32>,
    /// Why the deadline can't be met.
    pub unmeetable: Option<Unmeetable>,
    /// Partitions of which more is asked than one worker does.
    pub hot: Vec<i32>,
    /// Not raised because the service takes less than before.
    pub held: bool,
    /// Seconds until nothing waits, with these workers. `None`: never.
    pub drained_in_s: Option<f64>,
}

/// Why a deadline can't be met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Unmeetable {
    /// It is over before a worker that is asked for now has done anything: by so much.
    NoTime { short_ms: u64 },
    /// It takes more workers than there may be.
    TooMany { needed: Option<u32>, most: u32 },
    /// These partitions take longer, however many workers there are.
    HotPartitions { partitions: Vec<i32> },
}

impl fmt::Display for Unmeetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTime { short_ms } => write!(
                f,
                "the deadline is {:.1} s too near for a worker that is asked for now",
                Duration::from_millis(*short_ms).as_secs_f64()
            ),
            Self::TooMany {
                needed: Some(needed),
                most,
            } => write!(f, "it takes {needed} workers, and there may be {most}"),
            Self::TooMany { needed: None, .. } => {
                write!(f, "no number of workers does it at this rate")
            }
            Self::HotPartitions { partitions } => {
                let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "more is asked of partition {} than one worker does, and more workers do not help it",
                    names.join(", ")
                )
            }
        }
    }
}

/// How many workers there should be.
pub fn replicas(
    load: &[PartitionLoad],
    capacity: Capacity,
    terms: &Terms,
    present: Option<Present>,
) -> Replicas {
    let lag: u64 = load.iter().map(|p| p.lag).sum();
    let arrivals: f64 = load.iter().map(|p| rate(p.arrivals_per_s)).sum();
    let (worker, partition) = (rate(capacity.worker_per_s), rate(capacity.partition_per_s));
    let overhead = terms
        .p99
        .saturating_add(terms.pod_start)
        .saturating_add(terms.rebalance);
    let time = terms
        .deadline
        .map(|d| d.saturating_sub(overhead).as_secs_f64());
    let asked = |lag: u64, arrivals: f64| match time {
        Some(time) if time > 0.0 => arrivals + lag as f64 / time,
        _ => arrivals,
    };
    let no_time = lag > 0 && time == Some(0.0);

    let utilisation = if terms.utilisation > 0.0 {
        terms.utilisation.min(1.0)
    } else {
        1.0
    };
    let steady = workers(arrivals, worker * utilisation);
    let in_time = workers(asked(lag, arrivals), worker);
    let needed = match (steady, in_time) {
        (Some(a), Some(b)) if !no_time => Some(a.max(b).max(u32::from(lag > 0))),
        _ => None,
    };
    let max = terms.max.max(terms.min);
    // A worker without a partition does nothing.
    let most = max
        .min(u32::try_from(load.len()).unwrap_or(u32::MAX))
        .max(terms.min);
    let mut replicas = needed.unwrap_or(most).clamp(terms.min, most);

    let hot: Vec<i32> = load
        .iter()
        .filter(|p| asked(p.lag, rate(p.arrivals_per_s)) > partition)
        .map(|p| p.partition)
        .collect();
    let unmeetable = if lag == 0 || terms.deadline.is_none() {
        None
    } else if no_time {
        let short = overhead
            .saturating_sub(terms.deadline.unwrap_or_default())
            .as_millis();
        Some(Unmeetable::NoTime {
            short_ms: u64::try_from(short).unwrap_or(u64::MAX),
        })
    } else if !hot.is_empty() {
        let partitions = hot.clone();
        Some(Unmeetable::HotPartitions { partitions })
    } else if needed.is_none_or(|needed| needed > most) {
        Some(Unmeetable::TooMany { needed, most })
    } else {
        None
    };
    let held = present.is_some_and(|p| p.shrinking && replicas > p.workers.max(terms.min));
    if let (true, Some(present)) = (held, present) {
        replicas = present.workers.max(terms.min);
    }
    Replicas {
        replicas,
        needed,
        unmeetable,
        hot,
        held,
        drained_in_s: drained_in(load, lag, arrivals, f64::from(replicas) * worker, partition),
    }
}

/// Workers of `each` records a second that do `asked` records a second. `None`: more than there are numbers for.
fn workers(asked: f64, each: f64) -> Option<u32> {
    if asked <= 0.0 {
        return Some(0);
    }
    // What binary fractions leave over an even number is no work for another one.
    let workers = (asked / each - 1e-9).ceil();
    (workers <= f64::from(u32::MAX)).then_some(workers as u32)
}

fn drained_in(
    load: &[PartitionLoad],
    lag: u64,
    arrivals: f64,
    all: f64,
    partition: f64,
) -> Option<f64> {
    let after = |lag: u64, arrivals: f64, done: f64| match lag {
        0 => Some(0.0),
        _ if done > arrivals => Some(lag as f64 / (done - arrivals)),
        _ => None,
    };
    let mut longest = after(lag, arrivals, all)?;
    for p in load {
        longest = longest.max(after(p.lag, rate(p.arrivals_per_s), partition.min(all))?);
    }
    Some(longest)
}

/// A rate that is none counts as zero.
fn rate(per_s: f64) -> f64 {
    if per_s.is_finite() {
        per_s.max(0.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load(parts: &[(u64, f64)]) -> Vec<PartitionLoad> {
        let parts = parts.iter().enumerate();
        parts
            .map(|(partition, (lag, arrivals_per_s))| PartitionLoad {
                partition: partition as i32,
                lag: *lag,
                arrivals_per_s: *arrivals_per_s,
            })
            .collect()
    }

    fn capacity(per_s: f64) -> Capacity {
        Capacity {
            worker_per_s: per_s,
            partition_per_s: per_s,
        }
    }

    /// A deadline of which `seconds` are left for the work.
    fn within(seconds: u64) -> Terms {
        let terms = Terms::default();
        Terms {
            deadline: Some(
                Duration::from_secs(seconds) + terms.p99 + terms.pod_start + terms.rebalance,
            ),
            ..terms
        }
    }

    #[test]
    fn as_many_as_the_deadline_needs() {
        // 100,000 records in 100 s: 1,000 a second, and a worker does 300.
        let found = replicas(
            &load(&[(10_000, 0.0); 10]),
            capacity(300.0),
            &within(100),
            None,
        );
        assert_eq!(
            (found.replicas, found.needed, &found.unmeetable),
            (4, Some(4), &None)
        );
        let drained = found.drained_in_s.unwrap();
        assert!((80.0..84.0).contains(&drained), "{drained}");
    }

    #[test]
    fn as_many_as_keep_up_with_room_to_spare() {
        let found = replicas(
            &load(&[(0, 100.0); 10]),
            capacity(300.0),
            &Terms::default(),
            None,
        );
        // 1,000 a second at 210 each.
        assert_eq!(found.replicas, 5);
        assert_eq!(found.drained_in_s, Some(0.0));
    }

    #[test]
    fn none_for_nothing_and_one_for_little() {
        let terms = Terms::default();
        assert_eq!(
            replicas(&load(&[(0, 0.0); 3]), capacity(1.0), &terms, None).replicas,
            0
        );
        assert_eq!(
            replicas(&load(&[(1, 0.0)]), capacity(1e6), &terms, None).replicas,
            1
        );
        assert_eq!(replicas(&[], capacity(1.0), &terms, None).replicas, 0);
    }

    #[test]
    fn a_hot_partition_is_named_and_not_given_more_workers() {
        let mut parts = load(&[(100, 0.0); 8]);
        parts[5].lag = 50_000;
        let found = replicas(&parts, capacity(300.0), &within(100), None);
        assert_eq!(found.hot, [5]);
        let reason = found.unmeetable.unwrap();
        assert_eq!(
            reason,
            Unmeetable::HotPartitions {
                partitions: vec![5]
            }
        );
        assert!(
            reason.to_string().contains("partition 5 than one worker"),
            "{reason}"
        );
        // By itself the lag would take two.
        assert_eq!(found.replicas, 2);
        assert!((found.drained_in_s.unwrap() - 50_000.0 / 300.0).abs() < 0.1);
    }

    #[test]
    fn a_deadline_without_time_is_unmeetable() {
        let terms = Terms {
            deadline: Some(Duration::from_secs(40)),
            ..Terms::default()
        };
        let found = replicas(&load(&[(10, 0.0); 4]), capacity(300.0), &terms, None);
        let reason = found.unmeetable.unwrap();
        assert_eq!(reason, Unmeetable::NoTime { short_ms: 26_000 });
        assert!(reason.to_string().contains("26.0 s too near"), "{reason}");
        // What can be done is done.
        assert_eq!((found.replicas, found.needed, found.hot), (4, None, vec![]));
    }

    #[test]
    fn a_deadline_that_takes_too_many_is_unmeetable() {
        let terms = Terms {
            max: 3,
            ..within(100)
        };
        let found = replicas(&load(&[(10_000, 0.0); 10]), capacity(300.0), &terms, None);
        let reason = found.unmeetable.unwrap();
        assert_eq!(
            reason,
            Unmeetable::TooMany {
                needed: Some(4),
                most: 3
            }
        );
        assert!(
            reason
                .to_string()
                .contains("takes 4 workers, and there may be 3")
        );
        // Also where partitions are the bound.
        let found = replicas(
            &load(&[(25_000, 0.0); 2]),
            capacity(300.0),
            &within(50),
            None,
        );
        assert_eq!(
            found.unmeetable,
            Some(Unmeetable::HotPartitions {
                partitions: vec![0, 1]
            })
        );
        let stuck = replicas(&load(&[(1, 0.0)]), capacity(0.0), &within(50), None);
        assert_eq!(stuck.drained_in_s, None);
        let reason = Unmeetable::TooMany {
            needed: None,
            most: 1,
        };
        assert!(reason.to_string().contains("no number of workers"));
    }

    #[test]
    fn not_more_while_the_service_takes_less() {
        let present = |workers, shrinking| Some(Present { workers, shrinking });
        let parts = load(&[(10_000, 0.0); 10]);
        let asked = |present| replicas(&parts, capacity(300.0), &within(100), present);
        assert_eq!(
            (
                asked(present(2, false)).replicas,
                asked(present(2, false)).held
            ),
            (4, false)
        );
        assert_eq!(
            (
                asked(present(2, true)).replicas,
                asked(present(2, true)).held
            ),
            (2, true)
        );
        // Fewer is another matter.
        assert_eq!(
            (
                asked(present(9, true)).replicas,
                asked(present(9, true)).held
            ),
            (4, false)
        );
    }

    proptest! {
        #[test]
        fn is_bounded_enough_and_monotone(
            parts in prop::collection::vec((0u64..1_000_000, 0.0f64..500.0), 1..40),
            per_s in 1.0f64..5_000.0,
            seconds in 1u64..100_000,
            (min, more) in (0u32..5, 0u32..60),
            workers in 0u32..50,
        ) {
            let terms = Terms { min, max: min + more, ..within(seconds) };
            let parts = load(&parts);
            let found = replicas(&parts, capacity(per_s), &terms, None);
            prop_assert!((min..=min + more).contains(&found.replicas));
            prop_assert!(found.replicas <= min.max(parts.len() as u32));

            let lag: u64 = parts.iter().map(|p| p.lag).sum();
            if found.unmeetable.is_none() && found.needed.is_some_and(|n| n <= found.replicas) && lag > 0 {
                // These workers are done in time, and so is each partition.
                let drained = found.drained_in_s.unwrap();
                prop_assert!(drained <= seconds as f64 * (1.0 + 1e-6), "{drained} of {seconds} s");
            }
            for p in &parts {
                let asked = p.arrivals_per_s + p.lag as f64 / seconds as f64;
                prop_assert_eq!(found.hot.contains(&p.partition), asked > per_s);
            }

            let mut more_waits = parts.clone();
            more_waits[0].lag += 1_000;
            let faster = capacity(per_s * 2.0);
            let later = Terms { deadline: terms.deadline.map(|d| d * 2), ..terms };
            prop_assert!(replicas(&more_waits, capacity(per_s), &terms, None).replicas >= found.replicas);
            prop_assert!(replicas(&parts, faster, &terms, None).replicas <= found.replicas);
            prop_assert!(replicas(&parts, capacity(per_s), &later, None).replicas <= found.replicas);

            let present = Some(Present { workers, shrinking: true });
            let held = replicas(&parts, capacity(per_s), &terms, present);
            prop_assert_eq!(held.replicas, found.replicas.min(workers.max(min)));
            prop_assert_eq!(held.held, held.replicas < found.replicas);
        }

        #[test]
        fn numbers_without_sense_are_no_panic(
            lag in any::<u32>(),
            arrivals in any::<f64>(),
            per_s in any::<f64>(),
            utilisation in any::<f64>(),
            deadline in any::<u32>(),
            (min, max) in (any::<u32>(), any::<u32>()),
        ) {
            let deadline = Some(Duration::from_millis(u64::from(deadline)));
            let terms = Terms { deadline, utilisation, min, max, ..Terms::default() };
            let found = replicas(&load(&[(u64::from(lag), arrivals)]), capacity(per_s), &terms, None);
            prop_assert!(found.replicas >= min);
            prop_assert!(serde_json::to_value(&found).is_ok());
        }
    }
}
