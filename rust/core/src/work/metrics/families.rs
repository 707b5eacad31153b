//! What each figure is called, in what unit, and how it is read. By OpenTelemetry's conventions where it has one.

use super::Metrics;
use super::counts::Pause;
use crate::work::queue::lock;

pub const DESTINATION: &str = "messaging.destination.name";
pub const PARTITION: &str = "messaging.destination.partition.id";
const OPERATION: &str = "messaging.operation.name";

/// The distribution that [`super::calls`] keeps.
pub const DURATION: (&str, &str) = (
    "messaging.process.duration",
    "How long calls of the service take, by how they ended",
);
/// The labels of each call, beside the worker's own.
pub fn call_labels(how: usize) -> Vec<(&'static str, String)> {
    let name = super::calls::HOWS[how].to_owned();
    let mut labels = vec![
        (OPERATION, "process".to_owned()),
        ("kappaflow.outcome", name.clone()),
    ];
    if how >= super::calls::GOOD {
        labels.push(("error.type", name));
    }
    labels
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What only grows.
    Counter,
    Gauge,
}

/// One figure, or one by label.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// As OpenTelemetry writes it.
    pub name: &'static str,
    /// As UCUM writes it: `s`, or a thing counted in braces.
    pub unit: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    pub read: fn(&Metrics) -> Vec<Sample>,
}

/// A value, and what it is of.
#[derive(Clone, Debug)]
pub struct Sample {
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

impl Metrics {
    /// What every sample says, unless it says it otherwise itself.
    pub(super) fn labels(&self) -> [(&'static str, &str); 5] {
        [
            ("messaging.system", "kafka"),
            (DESTINATION, &self.labels.topic),
            ("messaging.consumer.group.name", &self.labels.group),
            ("kappaflow.service", &self.labels.service),
            ("kappaflow.region", &self.labels.region),
        ]
    }
}

const fn counter(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    read: fn(&Metrics) -> Vec<Sample>,
) -> Family {
    let kind = Kind::Counter;
    Family {
        name,
        unit,
        help,
        kind,
        read,
    }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    read: fn(&Metrics) -> Vec<Sample>,
) -> Family {
    let kind = Kind::Gauge;
    Family {
        name,
        unit,
        help,
        kind,
        read,
    }
}

const RECORD: &str = "{record}";

/// All but [`DURATION`].
pub const FAMILIES: [Family; 27] = [
    counter(
        "messaging.client.consumed.messages",
        "{message}",
        "Records taken from the broker",
        |m| {
            let by = |(p, n): (&i32, &u64)| {
                sample(&[(OPERATION, "poll"), (PARTITION, &p.to_string())], *n)
            };
            lock(&m.consumed).iter().map(by).collect()
        },
    ),
    counter(
        "messaging.client.sent.messages",
        "{message}",
        "Records that the broker acknowledged, by topic",
        |m| {
            let by = |(topic, n): (&String, &u64)| {
                sample(&[(OPERATION, "send"), (DESTINATION, topic)], *n)
            };
            lock(&m.sent).iter().map(by).collect()
        },
    ),
    counter(
        "kappaflow.worker.read",
        RECORD,
        "Records finished, with all that follows from them delivered",
        |m| one(m.read.get()),
    ),
    counter(
        "kappaflow.worker.answered",
        RECORD,
        "Records answered",
        |m| one(m.answered.get()),
    ),
    counter(
        "kappaflow.worker.children",
        RECORD,
        "Records of answers",
        |m| one(m.children.get()),
    ),
    counter(
        "kappaflow.worker.filtered",
        RECORD,
        "Records filtered, by reason",
        |m| by_reason(&m.filtered),
    ),
    counter(
        "kappaflow.worker.dead_lettered",
        RECORD,
        "Dead letters, by reason",
        |m| by_reason(&m.dead_lettered),
    ),
    counter(
        "kappaflow.worker.retried",
        "{try}",
        "Tries beyond a record's first",
        |m| one(m.retried.get()),
    ),
    counter(
        "kappaflow.worker.stale_dropped",
        RECORD,
        "Records finished after their partition had moved on",
        |m| one(m.stale_dropped.get()),
    ),
    counter(
        "kappaflow.worker.service_restarts",
        "{process}",
        "Service processes replaced",
        |m| one(m.restarts.get()),
    ),
    counter(
        "kappaflow.worker.commits",
        "{commit}",
        "Commits of offsets sent",
        |m| one(m.commits.get()),
    ),
    counter(
        "kappaflow.worker.commit_failures",
        "{commit}",
        "Commits of offsets that failed",
        |m| one(m.commit_failures.get()),
    ),
    counter(
        "kappaflow.worker.otlp_failures",
        "{try}",
        "Tries to export over OTLP that did not arrive",
        |m| one(m.otlp_failures.get()),
    ),
    counter(
        "kappaflow.worker.paused",
        "s",
        "Time in which nothing was read, by cause",
        |m| {
            let now = m.began.elapsed();
            let of = |cause: Pause| Sample {
                labels: vec![("cause", cause.name().to_owned())],
                value: m.pauses.get(cause, now).as_secs_f64(),
            };
            Pause::ALL.map(of).to_vec()
        },
    ),
    gauge(
        "kappaflow.worker.in_flight",
        RECORD,
        "Records with the service",
        |m| one(m.in_flight.get()),
    ),
    gauge(
        "kappaflow.worker.buffered",
        RECORD,
        "Records that wait for the service",
        |m| one(m.buffered.get()),
    ),
    gauge(
        "kappaflow.worker.limit",
        RECORD,
        "Records that may be with the service at once",
        |m| one(m.limit.get()),
    ),
    gauge(
        "kappaflow.worker.shrinking",
        "1",
        "1 while the limit goes down",
        |m| one(m.shrinking.get()),
    ),
    gauge(
        "kappaflow.worker.partitions",
        "{partition}",
        "Partitions held",
        |m| one(m.partitions.get()),
    ),
    gauge(
        "kappaflow.worker.gaps",
        "{offset}",
        "Offsets done above their partition's frontier",
        |m| one(m.gaps.get()),
    ),
    gauge(
        "kappaflow.worker.oldest_open",
        "s",
        "Age of the record that is open for the longest",
        |m| seconds(m.oldest_open_ms.get() as f64 / 1e3),
    ),
    gauge(
        "kappaflow.worker.lag_records",
        RECORD,
        "Records from the frontier to the log's end",
        |m| {
            let of = |p: &super::PartitionFigures| {
                let lag = p.lag_records?;
                Some(sample(&[(PARTITION, &p.partition.to_string())], lag))
            };
            lock(&m.held).iter().filter_map(of).collect()
        },
    ),
    gauge(
        "kappaflow.worker.lag",
        "s",
        "Age of the oldest record without a delivered verdict",
        |m| {
            let of = |p: &super::PartitionFigures| {
                Some(Sample {
                    labels: vec![(PARTITION, p.partition.to_string())],
                    value: p.lag_s?,
                })
            };
            lock(&m.held).iter().filter_map(of).collect()
        },
    ),
    gauge(
        "kappaflow.worker.call_p50",
        "s",
        "Median time of the last minute's calls",
        |m| m.p50().map_or_else(Vec::new, |t| seconds(t.as_secs_f64())),
    ),
    gauge(
        "kappaflow.worker.call_p99",
        "s",
        "99th percentile of the last minute's calls",
        |m| m.p99().map_or_else(Vec::new, |t| seconds(t.as_secs_f64())),
    ),
    gauge(
        "kappaflow.worker.desired_replicas",
        "{worker}",
        "Workers that there should be",
        |m| m.desired_replicas().map_or_else(Vec::new, one),
    ),
    gauge(
        "kappaflow.worker.ready",
        "1",
        "1 while the worker takes records",
        |m| one(u64::from(m.phase() == super::Phase::Ready)),
    ),
];

fn sample(labels: &[(&'static str, &str)], value: u64) -> Sample {
    Sample {
        labels: labels
            .iter()
            .map(|(name, text)| (*name, (*text).to_owned()))
            .collect(),
        // Exact up to 2⁵³.
        value: value as f64,
    }
}

fn one(value: u64) -> Vec<Sample> {
    vec![sample(&[], value)]
}

fn seconds(value: f64) -> Vec<Sample> {
    let labels = Vec::new();
    vec![Sample { labels, value }]
}

fn by_reason(counts: &super::ByReason) -> Vec<Sample> {
    let by = |(reason, n): (String, u64)| sample(&[("reason", &reason)], n);
    counts.get().into_iter().map(by).collect()
}
