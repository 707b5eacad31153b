//! Publishing to a real Kafka. `KAPPAFLOW_TEST_KAFKA=host:port` names one that has nothing to lose.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Float64Array, RecordBatch, RecordBatchIterator, StringArray};
use kappaflow_avro::{AvroSchema, Decoder, framing};
use kappaflow_core::identity::{HEADER, Identity, key_partition};
use kappaflow_core::kafka::transport::{Origin, Rows, Transport};
use kappaflow_core::kafka::{
    Cluster, KafkaTransport, PartitionRange, ProduceOptions, header, read_ranges,
};
use kappaflow_core::publish::{PublishOptions, StreamTarget, publish, publish_stream};
use kappaflow_core::registry::{Framing, RegistryConfig, SubjectStrategy};
use kappaflow_core::store::{Role, SplitState};
use kappaflow_core::{Context, Error, Session, dispatch};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::Message;
use tempfile::TempDir;

const INGRESS: &str = r#"{"type":"record","name":"Row","fields":[
    {"name":"id","type":"long"},{"name":"text","type":["null","string"]},{"name":"m","type":"string"}]}"#;
const EGRESS: &str = r#"{"type":"record","name":"Answer","fields":[{"name":"id","type":"long"}]}"#;

fn kafka() -> String {
    std::env::var("KAPPAFLOW_TEST_KAFKA")
        .expect("set KAPPAFLOW_TEST_KAFKA=host:port of a running Kafka (`make test` does)")
}

fn unique(test: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("publish-{test}-{}", now.as_nanos())
}

/// Rows `first..first + count` as loosely typed columns; an id of `bad` gets a fraction.
fn rows(first: usize, count: usize, bad: &[usize]) -> RecordBatch {
    let id = (first..first + count).map(|i| i as f64 + if bad.contains(&i) { 0.5 } else { 0.0 });
    let id: ArrayRef = Arc::new(Float64Array::from_iter_values(id));
    let text = (first..first + count).map(|i| (i % 7 != 0).then(|| format!("row {i}")));
    let text: ArrayRef = Arc::new(StringArray::from_iter(text));
    RecordBatch::try_from_iter([("id", id), ("text", text)]).unwrap()
}

fn write(path: &Path, batch: &RecordBatch, group_rows: usize) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group_rows))
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// A job of two child jobs of 2,500 rows: folders `m=1` and `m=2`, row groups of 500, splits of 1,000.
fn job(dir: &TempDir, name: &str, bad: &[usize], more: &str) -> PathBuf {
    for (child, first) in [(1, 0), (2, 2_500)] {
        let path = dir.path().join(format!("data/m={child}/part-0.parquet"));
        write(&path, &rows(first, 2_500, bad), 500);
    }
    std::fs::write(dir.path().join("in.avsc"), INGRESS).unwrap();
    std::fs::write(dir.path().join("out.avsc"), EGRESS).unwrap();
    let text = format!(
        r#"
name = "{name}"
side_effects = "none"
[source]
path = "data"
child_by = "m"
split_rows = 1000
[schema]
ingress = "in.avsc"
egress = "out.avsc"
[service]
version = "1"
callable = "m:f"
[output]
path = "landed"
[[regions]]
name = "east"
bootstrap_servers = "{}"
cap_max = 100000
{more}
"#,
        kafka()
    );
    let path = dir.path().join("job.toml");
    std::fs::write(&path, text).unwrap();
    path
}

async fn opened(job: &Path) -> (Session, Context) {
    let ctx = Context::default();
    let session = Session::open(job, &BTreeMap::new()).await.unwrap();
    dispatch::dispatch(&session, &ctx).await.unwrap();
    (session, ctx)
}

/// Every record of a topic: identity to (partition, key, payload) of each time it is there.
type Records = HashMap<Identity, Vec<(i32, Option<Vec<u8>>, Vec<u8>)>>;

async fn topic(cluster: Cluster, name: String, partitions: u32) -> Records {
    tokio::task::spawn_blocking(move || {
        let ranges: Vec<PartitionRange> = cluster
            .watermarks(&name, partitions)
            .unwrap()
            .into_iter()
            .map(|(partition, start, end)| PartitionRange {
                partition,
                start,
                end,
            })
            .collect();
        let mut records = Records::new();
        read_ranges(
            &cluster,
            &name,
            &ranges,
            "test",
            &Context::default(),
            |message| {
                let identity = Identity::from_bytes(header(message, HEADER).unwrap()).unwrap();
                records.entry(identity).or_default().push((
                    message.partition(),
                    message.key().map(<[u8]>::to_vec),
                    message.payload().unwrap_or_default().to_vec(),
                ));
                Ok(())
            },
        )
        .unwrap();
        records
    })
    .await
    .unwrap()
}

async fn ingress(session: &Session) -> Records {
    let row = session.topic("east", Role::Ingress).await.unwrap();
    topic(session.cluster("east").unwrap(), row.name, row.partitions).await
}

/// The ids of the records of one split by seq, decoded.
fn ids(records: &Records) -> BTreeMap<(u32, u32), i64> {
    let schema = AvroSchema::parse(INGRESS).unwrap();
    let mut decoder = Decoder::new(&schema).unwrap();
    let keys: Vec<&Identity> = records.keys().collect();
    for identity in &keys {
        let (_, datum) = framing::split(&records[*identity][0].2).unwrap();
        decoder.push(datum).unwrap();
    }
    let batch = decoder.flush().unwrap();
    let id = batch
        .column_by_name("id")
        .unwrap()
        .as_primitive::<Int64Type>();
    keys.iter()
        .zip(id.values())
        .map(|(k, v)| ((k.split, k.seq), *v))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_there_once_or_rejected_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let job = job(&dir, &unique("whole"), &[3, 1_200], "");
    let (session, ctx) = opened(&job).await;

    let one = PublishOptions {
        child: Some("1".into()),
    };
    let receipt = publish(&session, one, &ctx).await.unwrap();
    assert_eq!(
        (receipt.rows, receipt.acknowledged, receipt.rejected),
        (2_500, 2_498, 2)
    );
    let receipt = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    assert_eq!(
        (receipt.rows, receipt.acknowledged, receipt.rejected),
        (5_000, 4_998, 2)
    );
    assert_eq!((receipt.read_back, receipt.doubled), (0, 0));
    assert_eq!(receipt.splits.len(), 6);
    assert_eq!(receipt.rejects.len(), 1);
    assert_eq!(
        (receipt.rejects[0].field.as_str(), receipt.rejects[0].count),
        ("id", 2)
    );

    let records = ingress(&session).await;
    assert_eq!(records.len(), 4_998);
    for (identity, copies) in &records {
        assert_eq!(copies.len(), 1);
        assert_eq!(identity.job, session.id);
        assert_eq!(copies[0].0, identity.partition(6));
        assert_eq!(copies[0].1, None);
    }
    for ((split, seq), id) in ids(&records) {
        // Splits of 1,000, 1,000 and 500 rows a child, ids going on over both.
        let first = [0, 1_000, 2_000, 2_500, 3_500, 4_500][split as usize];
        assert_eq!(id, first + i64::from(seq));
    }

    let kept = std::fs::File::open(session.work_dir().join("rejects/split-1.parquet")).unwrap();
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(kept)
        .unwrap()
        .build()
        .unwrap();
    let kept = reader.next().unwrap().unwrap();
    assert_eq!(kept.num_rows(), 1);
    let text = |column: &str| {
        let column = kept.column_by_name(column).unwrap();
        arrow_cast::display::array_value_to_string(column, 0).unwrap()
    };
    assert_eq!(
        (text("row_in_file"), text("column"), text("value")),
        ("1200".into(), "id".into(), "1200.5".into())
    );

    // Again: confirmed from the receipts, nothing sent.
    let again = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    assert_eq!(
        (again.acknowledged, again.rejected, again.rows_per_s),
        (4_998, 2, 0.0)
    );
    assert_eq!(ingress(&session).await.len(), 4_998);
    let events = session.store.events(session.id).await.unwrap();
    let ends = events
        .iter()
        .filter(|e| e.stage == "publish" && e.what == "end");
    assert_eq!(ends.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_publisher_sent_is_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let job = job(&dir, &unique("resume"), &[1], "");
    let (session, ctx) = opened(&job).await;
    let row = session.topic("east", Role::Ingress).await.unwrap();
    let noted: Vec<(i32, i64)> = (0..6).map(|p| (p, 0)).collect();
    session
        .store
        .open_split(session.id, 0, &noted)
        .await
        .unwrap();

    // Rows 10..300 of split 0 once, row 10 a second time, and a record of another job.
    let cluster = session.cluster("east").unwrap();
    let (id, topic_name) = (session.id, row.name.clone());
    tokio::task::spawn_blocking(move || {
        let options = ProduceOptions {
            topic: topic_name,
            compression: "lz4".into(),
            queue_mib: 8,
            timeout: Duration::from_secs(30),
            schema_header: None,
            max_message_bytes: None,
            batch_bytes: None,
        };
        let mut transport = KafkaTransport::new(&cluster, &options).unwrap();
        let mut send = |job, seqs: Vec<u32>| {
            let origin = Origin {
                job,
                split: 0,
                slot: 0,
            };
            let rows = Rows {
                partitions: seqs
                    .iter()
                    .map(|s| origin.identity(*s).partition(6))
                    .collect(),
                buffer: vec![0; seqs.len()],
                offsets: (0..=seqs.len()).collect(),
                seqs,
                ..Rows::default()
            };
            assert_eq!(transport.send(origin, &rows, 0), Ok(rows.len()));
            let mut reports = Vec::new();
            while transport.in_flight() > 0 {
                transport.reports(Duration::from_millis(100), &mut reports);
            }
        };
        send(id, (10..300).collect());
        send(id, vec![10]);
        send(kappaflow_core::identity::JobId(1), vec![700]);
    })
    .await
    .unwrap();

    let receipt = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    assert_eq!((receipt.acknowledged, receipt.rejected), (4_999, 1));
    assert_eq!((receipt.read_back, receipt.doubled), (290, 1));
    let records = ingress(&session).await;
    let ours: Vec<_> = records
        .iter()
        .filter(|(i, _)| i.job == session.id)
        .collect();
    assert_eq!(ours.len(), 4_999);
    assert_eq!(
        ours.iter().map(|(_, copies)| copies.len()).sum::<usize>(),
        5_000
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_publish_resumes_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let name = unique("stop");
    let job = job(&dir, &name, &[], "");
    write(
        &dir.path().join("data/m=3/part-0.parquet"),
        &rows(5_000, 400_000, &[]),
        20_000,
    );
    let text = std::fs::read_to_string(&job).unwrap();
    let text = text
        .replace("split_rows = 1000", "split_rows = 400000")
        .replace("100000\n", "1000000\n");
    std::fs::write(&job, text).unwrap();
    let (session, _) = opened(&job).await;
    // Stopped as soon as something is acknowledged.
    let token = Arc::new(std::sync::OnceLock::<tokio_util::sync::CancellationToken>::new());
    let ctx = Context::new({
        let token = token.clone();
        move |progress| {
            if progress.label == "3" && progress.done > 0 {
                token.get().unwrap().cancel();
            }
        }
    });
    token.set(ctx.cancel.clone()).unwrap();
    let stopped = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap_err();
    assert!(matches!(stopped, Error::Interrupted { .. }), "{stopped}");
    let splits = session.store.splits(session.id, Some("3")).await.unwrap();
    assert!(splits.iter().any(|s| s.state == SplitState::Open));

    let receipt = publish(&session, PublishOptions::default(), &Context::default())
        .await
        .unwrap();
    assert_eq!(receipt.acknowledged, 405_000);
    let records = ingress(&session).await;
    assert_eq!(records.len(), 405_000);
    assert!(records.values().all(|copies| copies.len() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_rejects_stop_the_publish() {
    let dir = tempfile::tempdir().unwrap();
    let bad: Vec<usize> = (2_600..2_700).collect();
    let job = job(
        &dir,
        &unique("rejects"),
        &bad,
        "[limits]\nmax_rejects = \"1%\"",
    );
    let (session, ctx) = opened(&job).await;
    for _ in 0..2 {
        let error = publish(&session, PublishOptions::default(), &ctx)
            .await
            .unwrap_err();
        let Error::TooManyRejects {
            rejected,
            limit,
            kept,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((*rejected, limit.as_str()), (100, "1% of 5000 rows"));
        assert!(Path::new(kept).join("split-3.parquet").exists());
    }
    let splits = session.store.splits(session.id, None).await.unwrap();
    assert!(
        splits[..3].iter().all(|s| s.state == SplitState::Closed),
        "child 1 stays done"
    );
    assert_eq!(splits[3].state, SplitState::Open);

    // The limit is no part of what the job is: raised, the same job goes on, and nothing is sent twice.
    let text = std::fs::read_to_string(&job).unwrap();
    std::fs::write(&job, text.replace("\"1%\"", "100")).unwrap();
    let (session, ctx) = opened(&job).await;
    let receipt = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    assert_eq!((receipt.acknowledged, receipt.rejected), (4_900, 100));
    assert_eq!(receipt.rejects_sent, 100);
    let records = ingress(&session).await;
    assert_eq!(records.len(), 4_900);
    assert!(records.values().all(|copies| copies.len() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_are_in_the_dead_letter_topic_once() {
    let dir = tempfile::tempdir().unwrap();
    let job = job(&dir, &unique("letters"), &[3, 4, 1_200], "");
    let (session, ctx) = opened(&job).await;
    let all = PublishOptions::default;
    let receipt = publish(&session, all(), &ctx).await.unwrap();
    assert_eq!((receipt.rejected, receipt.rejects_sent), (3, 3));
    let letters = || async {
        let row = session.topic("east", Role::Deadletter).await.unwrap();
        topic(session.cluster("east").unwrap(), row.name, row.partitions).await
    };
    let rows = |records: &Records| {
        let mut rows: Vec<_> = records.keys().map(|id| (id.split, id.seq)).collect();
        rows.sort_unstable();
        rows
    };
    let records = letters().await;
    assert_eq!(rows(&records), [(0, 3), (0, 4), (1, 200)]);
    let id = records.keys().find(|id| id.seq == 200).unwrap();
    let payload = String::from_utf8(records[id][0].2.clone()).unwrap();
    assert_eq!(payload, r#"{"id":1200.5,"m":"1","text":"row 1200"}"#);

    // A publisher that died after its letters were delivered and before it closed the split.
    let url = format!(
        "sqlite:{}",
        dir.path().join(".kappaflow/store.db").display()
    );
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query("UPDATE split SET state = 'open' WHERE split = 0")
        .execute(&pool)
        .await
        .unwrap();
    let again = publish(&session, all(), &ctx).await.unwrap();
    assert_eq!((again.rejected, again.rejects_sent), (3, 0));
    let records = letters().await;
    assert!(records.values().all(|copies| copies.len() == 1));
    assert_eq!(rows(&records).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_topic_takes_what_fits_and_a_new_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let name = unique("small");
    let job = job(&dir, &name, &[], "");
    let text = std::fs::read_to_string(&job).unwrap();
    let text = text.replace(
        "[service]",
        &format!("[topics]\ntemplate = \"{name}.{{role}}\"\ncompression = \"none\"\n[service]"),
    );
    std::fs::write(&job, text).unwrap();
    let id: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
    let text: ArrayRef = Arc::new(StringArray::from(vec![
        "short".to_owned(),
        "long ".repeat(10_000),
    ]));
    let large = RecordBatch::try_from_iter([("id", id), ("text", text)]).unwrap();
    write(&dir.path().join("data/m=3/part-0.parquet"), &large, 500);

    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka())
        .create()
        .unwrap();
    let topic_name = format!("{name}.ingress");
    let new =
        NewTopic::new(&topic_name, 6, TopicReplication::Fixed(1)).set("max.message.bytes", "20000");
    admin
        .create_topics([&new], &AdminOptions::new())
        .await
        .unwrap();
    let (session, ctx) = opened(&job).await;
    let receipt = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    assert_eq!((receipt.acknowledged, receipt.rejected), (5_001, 1));
    assert!(
        receipt.rejects[0].reason.contains("20000"),
        "{:?}",
        receipt.rejects
    );

    // A topic of the same name that is another one: what the job had sent is gone.
    admin
        .delete_topics(&[&topic_name], &AdminOptions::new())
        .await
        .unwrap();
    let cluster = session.cluster("east").unwrap();
    for _ in 0..50 {
        let (c, t) = (cluster.clone(), topic_name.clone());
        if tokio::task::spawn_blocking(move || c.topic(&t))
            .await
            .unwrap()
            .unwrap()
            .is_none()
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    admin
        .create_topics([&new], &AdminOptions::new())
        .await
        .unwrap();
    // A split that a publisher has left open.
    let pool = sqlx::SqlitePool::connect(&format!(
        "sqlite:{}",
        dir.path().join(".kappaflow/store.db").display()
    ))
    .await
    .unwrap();
    sqlx::query("UPDATE split SET state = 'open' WHERE split = 0")
        .execute(&pool)
        .await
        .unwrap();
    let error = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Topic { topic, .. } if *topic == topic_name),
        "{error}"
    );
    assert!(error.to_string().contains("made anew"), "{error}");
}

fn target(dir: &TempDir, topic: &str) -> StreamTarget {
    StreamTarget {
        bootstrap_servers: kafka(),
        kafka: BTreeMap::new(),
        topic: topic.to_owned(),
        partitions: 3,
        replication: 1,
        schema: INGRESS.replace(
            r#"{"name":"m","type":"string"}"#,
            r#"{"name":"m","type":"string","default":""}"#,
        ),
        registry: RegistryConfig::Address("dir:registry".into()),
        subject: SubjectStrategy::Topic,
        auto_register: true,
        use_latest: false,
        schema_id: None,
        normalize: false,
        framing: Framing::Id,
        base: dir.path().to_path_buf(),
        mode: Default::default(),
        extra: Default::default(),
        fields: BTreeMap::new(),
        key: vec!["id".into()],
        compression: "zstd".into(),
        queue_mib: 64,
        timeout_ms: 30_000,
        rejects: Default::default(),
        dead_letter: None,
        max_rejects: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_published_with_keys() {
    let dir = tempfile::tempdir().unwrap();
    let target = target(&dir, &unique("stream"));
    let batches = [
        rows(0, 10_000, &[9]),
        rows(10_000, 0, &[]),
        rows(10_000, 5, &[]),
    ];
    let schema = batches[0].schema();
    let ctx = Context::default();
    let receipt = publish_stream(
        target.clone(),
        RecordBatchIterator::new(batches.map(Ok), schema),
        &ctx,
    )
    .await
    .unwrap();
    assert_eq!(
        (receipt.rows, receipt.acknowledged, receipt.rejected),
        (10_005, 10_004, 1)
    );
    assert_eq!(
        (receipt.rejects[0].row, receipt.rejects[0].value.as_str()),
        (9, "9.5")
    );
    let region = kappaflow_core::job::Region {
        name: "test".into(),
        bootstrap_servers: kafka(),
        registry: RegistryConfig::default(),
        cap_max: 0,
        kafka: BTreeMap::new(),
    };
    let cluster = Cluster::new(region, dir.path().to_path_buf(), Duration::from_secs(30));
    let records = topic(cluster, target.topic.clone(), 3).await;
    assert_eq!(records.len(), 10_004);
    for (identity, copies) in &records {
        assert_eq!(identity.job.to_string(), receipt.job);
        let key = copies[0].1.as_deref().unwrap();
        assert_eq!(key, format!("{}.0", identity.seq).as_bytes());
        assert_eq!(copies[0].0, key_partition(key, 3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_another_schema_is_named_and_what_was_before_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let target = target(&dir, &unique("mixed"));
    let first = rows(0, 5, &[]);
    let id: ArrayRef = Arc::new(StringArray::from(vec!["5"]));
    let other = RecordBatch::try_from_iter([("id", id.clone()), ("text", id)]).unwrap();
    let batches = RecordBatchIterator::new([Ok(first.clone()), Ok(other)], first.schema());
    let error = publish_stream(target, batches, &Context::default())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Source { .. }), "{text}");
    assert!(
        text.contains("after row 5") && text.contains("was planned"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_broker_is_told_in_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let mut target = target(&dir, "nowhere");
    // A port that was just free.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    target.bootstrap_servers = free.to_string();
    let batch = rows(0, 1, &[]);
    let error = publish_stream(
        target,
        RecordBatchIterator::new([Ok(batch.clone())], batch.schema()),
        &Context::default(),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, Error::Kafka { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&format!("no broker answered at {free}")),
        "{error}"
    );
}
