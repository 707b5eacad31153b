//! The worker against a real Kafka and a real Python service. `KAPPAFLOW_TEST_KAFKA=host:port` names a broker that has
//! nothing to lose, `KAPPAFLOW_TEST_PYTHON` an interpreter that has pyarrow (default `python3`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch};
use kappaflow_avro::{AvroSchema, Decoder, framing};
use kappaflow_core::identity::{EgressIdentity, HEADER, Identity};
use kappaflow_core::kafka::header;
use kappaflow_core::publish::{PublishOptions, publish};
use kappaflow_core::store::Role;
use kappaflow_core::verdict::{ATTEMPTS_HEADER, ORIGIN_HEADER, REASON_HEADER, Verdicts};
use kappaflow_core::work::{WatchOptions, WorkOptions, WorkSummary, watch, work};
use kappaflow_core::{Context, Error, Session};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tempfile::TempDir;

#[path = "../common/mod.rs"]
mod common;
mod native;

use common::{dispatched, kafka, records, unique, write};

const ROWS: i64 = 4_000;
const SCHEMA: &str = r#"{"type":"record","name":"Row","fields":[{"name":"id","type":"long"}]}"#;

/// What is said of a record whose process dies.
const KILLED: &str = "KilledProcess: ";

/// Of 100 ids each: 1 is filtered, 2 dead, 3 has two children, 4 raises once; id 55 kills its process, always.
const SERVICE: &str = r#"
import atexit, os, signal, time
from kappaflow.service import context

class Skip(Exception): pass
class Broken(Exception): pass

SECONDS = 0.0

def load(seconds=0.0, broken=False):
    global SECONDS
    SECONDS = seconds
    atexit.register(lambda: open("left", "a").write("left\n"))
    if broken:
        raise RuntimeError("the cache is not there")

def call(record):
    print("a service that prints", flush=True)
    if SECONDS:
        time.sleep(SECONDS)
    i = record["id"]
    if i == 55: os.kill(os.getpid(), signal.SIGKILL)
    if i % 100 == 1: raise Skip("not of interest")
    if i % 100 == 2: raise Broken("cannot be priced")
    if i % 100 == 3: return [{"id": i}, {"id": -i}]
    if i % 100 == 4 and context().attempt == 1: raise ConnectionError("not now")
    return {"id": i * 10}
"#;

fn options() -> WorkOptions {
    let python = std::env::var("KAPPAFLOW_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python");
    WorkOptions {
        package_dir: Some(package.canonicalize().unwrap()),
        ..WorkOptions::new("east", python)
    }
}

/// A job whose service is [`SERVICE`], with more of its table.
fn job(dir: &TempDir, test: &str, more: &str) -> PathBuf {
    std::fs::write(dir.path().join("tested.py"), SERVICE).unwrap();
    let service = format!(
        r#"
callable = "tested:call"
warm_up = "tested:load"
python_path = ["."]
batch_records = 200
{more}
[service.verdicts]
"tested:Skip" = "filtered"
"tested:Broken" = "dead_letter"
"#
    );
    job_of(dir, test, &service)
}

/// A job with what its file says of the service.
fn job_of(dir: &TempDir, test: &str, service: &str) -> PathBuf {
    let (kafka, name) = (kafka(), unique(&format!("work-{test}")));
    let id: Int64Array = (0..ROWS).collect();
    let batch = RecordBatch::try_from_iter([("id", Arc::new(id) as _)]).unwrap();
    write(&dir.path().join("rows.parquet"), &batch, 1_000_000);
    std::fs::write(dir.path().join("row.avsc"), SCHEMA).unwrap();
    let path = dir.path().join("job.toml");
    let text = format!(
        r#"
name = "{name}"
side_effects = "none"
[source]
path = "rows.parquet"
[schema]
ingress = "row.avsc"
egress = "row.avsc"
[topics]
partitions = 4
[service]
version = "1"
{service}
[output]
path = "landed"
[limits]
max_in_flight_records = 1000
session_timeout_ms = 6000
[[regions]]
name = "east"
bootstrap_servers = "{kafka}"
cap_max = 100000
"#
    );
    std::fs::write(&path, text).unwrap();
    path
}

struct Found {
    payload: Vec<u8>,
    headers: HashMap<&'static str, Vec<u8>>,
    partition: i32,
}

async fn topic(session: &Session, role: Role) -> Vec<Found> {
    let topic = session.topic("east", role).await.unwrap();
    let cluster = session.cluster("east").unwrap();
    records(cluster, topic.name, topic.partitions, |m| {
        let names = [HEADER, REASON_HEADER, ATTEMPTS_HEADER, ORIGIN_HEADER];
        let value = |name| Some((name, header(m, name)?.to_vec()));
        Found {
            payload: m.payload().unwrap_or_default().to_vec(),
            headers: names.into_iter().filter_map(value).collect(),
            partition: m.partition(),
        }
    })
    .await
}

/// What every row must have become; `killer`: what is said of the one that takes its process with it. Returns how many
/// egress records are there more than once.
async fn check(session: &Session, killer: &str) -> usize {
    let mut decoder = Decoder::new(&AvroSchema::parse(SCHEMA).unwrap()).unwrap();
    let mut families: BTreeMap<u32, BTreeSet<(u32, i64)>> = BTreeMap::new();
    let mut doubled = 0;
    for message in topic(session, Role::Egress).await {
        let id = EgressIdentity::from_bytes(&message.headers[HEADER]).unwrap();
        let datum = framing::split(&message.payload).unwrap().1;
        decoder.push(datum).unwrap();
        let batch = decoder.flush().unwrap();
        let value = batch.column(0).as_primitive::<Int64Type>().value(0);
        assert_eq!(message.partition, id.input.partition(4));
        let family = families.entry(id.input.seq).or_default();
        doubled += usize::from(!family.insert((id.child, value)));
    }
    let mut dead: BTreeMap<u32, String> = BTreeMap::new();
    for message in topic(session, Role::Deadletter).await {
        let id = Identity::from_bytes(&message.headers[HEADER]).unwrap();
        let text = |header| String::from_utf8_lossy(&message.headers[header]).into_owned();
        assert!(text(ORIGIN_HEADER).contains("ingress/"));
        assert!(text(ATTEMPTS_HEADER).parse::<u32>().unwrap() >= 1);
        assert!(framing::split(&message.payload).is_ok());
        dead.insert(id.seq, text(REASON_HEADER));
    }
    let mut verdicts: BTreeMap<i64, (i64, String)> = BTreeMap::new();
    for message in topic(session, Role::Verdict).await {
        let datum = framing::split(&message.payload).unwrap().1;
        for range in Verdicts::decode(datum).unwrap().ranges {
            for seq in range.first..=range.last {
                verdicts.insert(seq, (range.of, range.reason.clone()));
            }
        }
    }
    for (i, seq) in (0..ROWS).zip(0u32..) {
        let family: Vec<(u32, i64)> = families
            .remove(&seq)
            .unwrap_or_default()
            .into_iter()
            .collect();
        let dead = dead.remove(&seq).unwrap_or_default();
        let (children, reason, verdict) = match i % 100 {
            _ if i == 55 => (vec![], killer, None),
            1 => (vec![], "", Some((0, "Skip".into()))),
            2 => (vec![], "Broken: cannot be priced", None),
            3 => (vec![(0, i), (1, -i)], "", Some((2, String::new()))),
            _ => (vec![(0, i * 10)], "", None),
        };
        assert_eq!(family, children, "row {i}");
        assert!(
            dead.starts_with(reason) && dead.is_empty() == reason.is_empty(),
            "row {i}: {dead}"
        );
        assert_eq!(verdicts.remove(&i), verdict, "row {i}");
    }
    doubled
}

fn check_counts(s: &WorkSummary) {
    let counts = |counts: &[(&str, u64)]| -> BTreeMap<String, u64> {
        counts.iter().map(|(r, n)| ((*r).to_owned(), *n)).collect()
    };
    assert_eq!(s.read, ROWS as u64, "{s:?}");
    assert_eq!(s.filtered, counts(&[("Skip", 40)]));
    let dead = [("Broken", 40), ("KilledProcess", 1)];
    assert_eq!(s.dead_lettered, counts(&dead));
    assert_eq!(s.answered, s.read - 81);
    assert_eq!(s.children, s.answered + 40);
    assert!(s.retried >= 40 && s.service_restarts == 2, "{s:?}");
    assert_eq!((s.stale_dropped, s.foreign), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_gets_its_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let (session, ctx) = dispatched(&job(&dir, "all", "processes = 2")).await;
    // The worker is there before the publisher, and waits for it.
    let (watched, worked, published) = tokio::join!(
        watch(&session, WatchOptions::new("east"), &ctx),
        work(&session, options(), &ctx),
        async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            publish(&session, PublishOptions::default(), &ctx).await
        },
    );
    published.unwrap();
    check_counts(&worked.unwrap());
    assert_eq!(watched.unwrap().records, ROWS as u64);
    assert_eq!(check(&session, KILLED).await, 0);
    // Its processes leave by themselves: what they do at their end is done. The one that a record killed may not be there
    // again when the other has done the rest.
    let left = || std::fs::read_to_string(dir.path().join("left")).unwrap();
    let first = left().lines().count();
    assert!((1..=2).contains(&first), "{}", left());
    // Again: there is nothing to do, and that is found out at once.
    let again = work(&session, options(), &ctx).await.unwrap();
    assert_eq!(again.read, 0, "{again:?}");
    assert_eq!(left().lines().count(), first + 2, "{}", left());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_the_work_and_one_may_stop() {
    let dir = tempfile::tempdir().unwrap();
    let slow = "options = { seconds = 0.002 }\nprocesses = 1";
    let (session, ctx) = dispatched(&job(&dir, "shared", slow)).await;
    publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    share_and_stop(&session, options(), &ctx).await;
}

/// Two workers, of which the first is stopped: it leaves when what it had begun is delivered and committed.
async fn share_and_stop(session: &Session, second: WorkOptions, ctx: &Context) {
    let stopped = Context::default();
    let (first, second, ()) = tokio::join!(
        work(session, options(), &stopped),
        work(session, second, ctx),
        async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            stopped.cancel.cancel();
        },
    );
    assert!(matches!(first, Err(Error::Interrupted { .. })), "{first:?}");
    assert!(second.unwrap().read > 0);
    assert_eq!(check(session, KILLED).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_may_share_the_partitions_out() {
    let dir = tempfile::tempdir().unwrap();
    let slow = "options = { seconds = 0.002 }\nprocesses = 1";
    let path = job(&dir, "shared-848", slow);
    let text = std::fs::read_to_string(&path).unwrap();
    let limits = "[limits]\ngroup_protocol = \"consumer\"\n";
    std::fs::write(&path, text.replace("[limits]\n", limits)).unwrap();
    let (session, ctx) = dispatched(&path).await;
    publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    let named = WorkOptions {
        instance_id: Some("worker-0".into()),
        ..options()
    };
    share_and_stop(&session, named, &ctx).await;
}

/// Makes the rows so large that no client fetches a whole partition ahead: 4 KiB each, which do not compress.
fn pad(dir: &TempDir) {
    let schema = r#"{"type":"record","name":"Row","fields":[{"name":"id","type":"long"},{"name":"pad","type":"bytes"}]}"#;
    std::fs::write(dir.path().join("padded.avsc"), schema).unwrap();
    let id: Int64Array = (0..ROWS).collect();
    let mut word = 1_u64;
    let pad: BinaryArray = (0..ROWS)
        .map(|_| {
            let words = (0..512).flat_map(|_| {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (word ^ word >> 33).to_le_bytes()
            });
            Some(words.collect::<Vec<u8>>())
        })
        .collect();
    let batch =
        RecordBatch::try_from_iter([("id", Arc::new(id) as ArrayRef), ("pad", Arc::new(pad))]);
    write(&dir.path().join("rows.parquet"), &batch.unwrap(), 1_000_000);
}

/// How many records an error says to have expired before offset 990 of a partition, which it names once.
fn lost(error: &str, partition: i32) -> i64 {
    let end = format!("..990 of partition {partition}");
    let (before, after) = error
        .split_once(&end)
        .unwrap_or_else(|| panic!("{end}: {error}"));
    assert!(!after.contains(&end), "{error}");
    let from = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap();
    990 - from.parse::<i64>().unwrap()
}

/// Deletes what is before an offset, as retention does.
async fn expire(session: &Session, partitions: &[i32], upto: i64) {
    let topic = session.topic("east", Role::Ingress).await.unwrap();
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(&topic.name, *partition, Offset::Offset(upto))
            .unwrap();
    }
    let cluster = session.cluster("east").unwrap();
    cluster.delete_records(&list).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_named_and_everything_else_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let (session, ctx) = dispatched(&job(&dir, "expired", "processes = 1")).await;
    publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    expire(&session, &[1, 2], 100).await;
    let error = work(&session, options(), &ctx).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Topic { .. }), "{text}");
    for range in ["0..100 of partition 1", "0..100 of partition 2"] {
        assert!(text.contains(range), "{text}");
    }
    let done = ROWS - 200;
    assert!(text.contains(&format!("({done} records)")), "{text}");
    let again = work(&session, options(), &ctx).await.unwrap();
    assert_eq!((again.read, again.expired.len()), (0, 0));
    let verdicts = topic(&session, Role::Egress).await.len();
    assert!(verdicts > done as usize * 9 / 10, "{verdicts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_again_after_it_lost_what_was_to_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let slow = "options = { seconds = 0.005 }\nprocesses = 1";
    let path = job(&dir, "expiring", slow);
    let text = std::fs::read_to_string(&path).unwrap();
    let few = "max_in_flight_mib = 1\nmax_in_flight_records = 40";
    let few = text.replace("max_in_flight_records = 1000", few);
    let padded = few.replace("ingress = \"row.avsc\"", "ingress = \"padded.avsc\"");
    std::fs::write(&path, padded).unwrap();
    pad(&dir);
    let (session, ctx) = dispatched(&path).await;
    publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    let (worked, ()) = tokio::join!(work(&session, options(), &ctx), async {
        while topic(&session, Role::Egress).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        expire(&session, &[0, 1, 2, 3], 990).await;
    });
    // What was read before is done, what was not is named once, and what is behind it is done too.
    let error = worked.unwrap_err().to_string();
    let lost: Vec<i64> = (0..4).map(|p| lost(&error, p)).collect();
    let done = ROWS - lost.iter().sum::<i64>();
    assert!(error.contains(&format!("({done} records)")), "{error}");
    let again = work(&session, options(), &ctx).await.unwrap();
    assert_eq!((again.read, again.expired.len()), (0, 0));
    assert!(topic(&session, Role::Egress).await.len() > 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_start_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (session, ctx) = dispatched(&job(&dir, "broken", "options = { broken = true }")).await;
    publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    let began = Instant::now();
    let error = work(&session, options(), &ctx).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(matches!(error, Error::Service { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("the cache is not there"), "{text}");
    let topic = session.topic("east", Role::Ingress).await.unwrap();
    let (cluster, group) = (session.cluster("east").unwrap(), session.group("east"));
    let offsets = tokio::task::spawn_blocking(move || {
        cluster.committed(&group, &topic.name, topic.partitions)
    });
    let offsets = offsets.await.unwrap().unwrap();
    assert!(offsets.iter().all(|(_, o)| *o == Some(0)), "{offsets:?}");
}
