//! Landing and reconciling on a real Kafka. `KAPPAFLOW_TEST_KAFKA=host:port` names one that has nothing to lose.
//!
//! Egress, verdicts and dead letters are written by hand here, as workers write them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use kappaflow_avro::framing;
use kappaflow_core::identity::{EgressIdentity, HEADER, Identity};
use kappaflow_core::land::{LandOptions, LandSummary, land};
use kappaflow_core::reconcile::{Cause, reconcile};
use kappaflow_core::registry::value_subject;
use kappaflow_core::status::{lag, status};
use kappaflow_core::store::{ChildState, RejectCount, Role};
use kappaflow_core::table::live_files;
use kappaflow_core::verdict::{REASON_HEADER, VerdictRange, Verdicts};
use kappaflow_core::{Context, Error, Session, dispatch};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use roaring::RoaringBitmap;
use tempfile::TempDir;

const SCHEMA: &str = r#"{"type":"record","name":"Answer","fields":[{"name":"x","type":"long"}]}"#;
const WAIT: Duration = Duration::from_secs(20);

/// A job of 1,000 rows in two splits of 500, dispatched to the one region.
struct World {
    dir: TempDir,
    session: Session,
    producer: BaseProducer,
}

impl World {
    async fn new(test: &str) -> Self {
        let kafka = std::env::var("KAPPAFLOW_TEST_KAFKA")
            .expect("set KAPPAFLOW_TEST_KAFKA=host:port of a running Kafka (`make test` does)");
        let dir = tempfile::tempdir().unwrap();
        let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
        let batch = RecordBatch::try_from_iter([("x", rows)]).unwrap();
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(500))
            .build();
        let file = std::fs::File::create(dir.path().join("rows.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        std::fs::write(dir.path().join("x.avsc"), SCHEMA).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let text = format!(
            r#"
name = "land-{test}-{}"
side_effects = "none"
[source]
path = "rows.parquet"
split_rows = 500
[schema]
ingress = "x.avsc"
egress = "x.avsc"
[topics]
partitions = 3
[service]
version = "1"
callable = "m:f"
[output]
path = "landed"
[[regions]]
name = "east"
bootstrap_servers = "{kafka}"
cap_max = 100000
"#,
            now.as_nanos()
        );
        let path = dir.path().join("job.toml");
        std::fs::write(&path, text).unwrap();
        let session = Session::open(&path, &BTreeMap::new()).await.unwrap();
        dispatch::dispatch(&session, &Context::default())
            .await
            .unwrap();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &kafka)
            .set("enable.idempotence", "true")
            .create()
            .unwrap();
        Self {
            dir,
            session,
            producer,
        }
    }

    fn id(&self, split: u32, seq: u32) -> Identity {
        let job = self.session.id;
        Identity { job, split, seq }
    }

    fn frame(&self, role: Role) -> Vec<u8> {
        let subject = value_subject(&self.session.topic_name("east", role));
        let registry = self.session.registry("east").unwrap();
        let mut out = Vec::new();
        framing::write(registry.latest(&subject).unwrap().0, &mut out);
        out
    }

    fn send(
        &self,
        by: &BaseProducer,
        role: Role,
        partition: i32,
        headers: &[(&str, &[u8])],
        payload: &[u8],
    ) {
        let topic = self.session.topic_name("east", role);
        let mut all = OwnedHeaders::new();
        for (key, value) in headers {
            let value = Some(*value);
            all = all.insert(Header { key, value });
        }
        let record = BaseRecord::<(), [u8]>::to(&topic)
            .partition(partition)
            .payload(payload)
            .headers(all);
        by.send(record).map_err(|(e, _)| e).unwrap();
        by.poll(Duration::ZERO);
    }

    /// Answers an input as a worker does: with `children` of `of`, all in the input's partition.
    fn answer(&self, by: &BaseProducer, id: Identity, attempt: u32, children: &[u32], of: u32) {
        for child in children {
            let mut payload = self.frame(Role::Egress);
            // The row's number, zigzag: one answer says which input it is of.
            let mut rest = u64::from(id.split * 500 + id.seq) << 1;
            while rest >= 0x80 {
                payload.push((rest & 0x7f) as u8 | 0x80);
                rest >>= 7;
            }
            payload.push(rest as u8);
            let child = *child;
            let header = EgressIdentity {
                input: id,
                attempt,
                child,
                of,
            };
            let header: &[u8] = &header.to_bytes();
            self.send(
                by,
                Role::Egress,
                id.partition(3),
                &[(HEADER, header)],
                &payload,
            );
        }
    }

    fn answers(&self, split: u32, seqs: std::ops::Range<u32>, attempt: u32) {
        for seq in seqs {
            self.answer(&self.producer, self.id(split, seq), attempt, &[0], 1);
        }
    }

    fn filtered(&self, split: u32, seqs: std::ops::Range<u32>, reason: &str) {
        let verdicts = Verdicts {
            job: self.session.id.to_string(),
            attempt: 1,
            ranges: vec![VerdictRange {
                split: i64::from(split),
                first: i64::from(seqs.start),
                last: i64::from(seqs.end) - 1,
                of: 0,
                reason: reason.into(),
            }],
        };
        let mut payload = self.frame(Role::Verdict);
        payload.extend(verdicts.encode().unwrap());
        self.send(&self.producer, Role::Verdict, 0, &[], &payload);
    }

    fn dead_letters(&self, split: u32, seqs: std::ops::Range<u32>, reason: &str) {
        for seq in seqs {
            let id: &[u8] = &self.id(split, seq).to_bytes();
            let headers = [(HEADER, id), (REASON_HEADER, reason.as_bytes())];
            self.send(&self.producer, Role::Deadletter, 1, &headers, b"as it came");
        }
    }

    fn flush(&self) {
        self.producer.flush(WAIT).unwrap();
    }

    async fn published(&self, split: u32, rejected: std::ops::Range<u32>) {
        let rejected: RoaringBitmap = rejected.collect();
        let mut sent: RoaringBitmap = (0..500).collect();
        sent -= &rejected;
        let counts = [RejectCount {
            field: "x".into(),
            reason: "has a fraction".into(),
            count: rejected.len(),
        }];
        let counts = if rejected.is_empty() {
            &[][..]
        } else {
            &counts
        };
        let store = &self.session.store;
        store
            .close_split(self.session.id, split, &sent, &rejected, &[], counts)
            .await
            .unwrap();
    }

    async fn land(&self) -> LandSummary {
        land(&self.session, LandOptions::default(), &Context::default())
            .await
            .unwrap()
    }

    /// `(_split, _seq, _child, x)` of all rows of the table, sorted.
    fn table(&self) -> Vec<[i64; 4]> {
        let mut rows = Vec::new();
        for file in live_files(&self.dir.path().join("landed"), None).unwrap() {
            let reader =
                ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap())
                    .unwrap();
            for batch in reader.build().unwrap() {
                let batch = batch.unwrap();
                let column = |name| {
                    let column = batch.column_by_name(name).unwrap();
                    column.as_primitive::<Int64Type>().values().to_vec()
                };
                let columns = ["_split", "_seq", "_child", "x"].map(column);
                rows.extend((0..batch.num_rows()).map(|i| columns.each_ref().map(|c| c[i])));
            }
        }
        rows.sort_unstable();
        rows
    }
}

fn row(split: u32, seq: u32, child: u32) -> [i64; 4] {
    [split, seq, child, split * 500 + seq].map(i64::from)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_lands_once_and_every_row_is_explained() {
    let w = World::new("whole").await;
    // Nothing there yet: a land ends at once, and leaves no version.
    let nothing = w.land().await;
    assert_eq!((nothing.landed, nothing.version), (0, 0));

    w.published(0, 470..480).await;
    w.answers(0, 0..400, 1);
    w.filtered(0, 400..450, "Cancelled");
    w.dead_letters(0, 450..470, "NotArrived: flight 12");
    for seq in 480..499 {
        w.answer(&w.producer, w.id(0, seq), 1, &[0, 1], 2);
    }
    // A worker died between the two answers of one input, and one batch was aborted.
    w.answer(&w.producer, w.id(0, 499), 1, &[0], 2);
    w.flush();
    let transactional: BaseProducer = ClientConfig::new()
        .set(
            "bootstrap.servers",
            std::env::var("KAPPAFLOW_TEST_KAFKA").unwrap(),
        )
        .set("transactional.id", w.session.id.to_string())
        .create()
        .unwrap();
    transactional.init_transactions(WAIT).unwrap();
    transactional.begin_transaction().unwrap();
    for seq in 0..50 {
        w.answer(&transactional, w.id(1, seq), 1, &[0], 1);
    }
    transactional.flush(WAIT).unwrap();
    transactional.abort_transaction(WAIT).unwrap();

    let first = w.land().await;
    assert_eq!((first.landed, first.inputs), (400 + 38, 419));
    assert_eq!((first.incomplete, first.version, first.orphans), (1, 1, 0));
    assert_eq!(
        (first.duplicates.re_read, first.duplicates.re_published),
        (0, 0)
    );
    let again = w.land().await;
    assert_eq!((again.landed, again.version), (0, 1));

    let report = reconcile(&w.session, &Context::default()).await.unwrap();
    assert!(!report.explained);
    assert_eq!(report.missing, 501);
    assert_eq!(
        (report.missing_by.never_sent, report.missing_by.lost),
        (500, 1)
    );
    assert_eq!(report.missing_examples.len(), 20);
    assert_eq!(report.missing_examples[0].seq, 499);
    assert_eq!(report.missing_examples[1].row_in_file, 500);
    assert!(report.missing_file.unwrap().exists());
    let refused = reconcile(&w.session, &Context::default())
        .await
        .unwrap()
        .check()
        .unwrap_err();
    assert!(
        matches!(&refused, Error::Unexplained { missing: 501, .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("rows.parquet"), "{refused}");

    // The input is done again, with another worker; some others too; a dead letter is mended; the second split comes.
    w.answer(&w.producer, w.id(0, 499), 2, &[0, 1], 2);
    w.answers(0, 0..10, 2);
    w.answers(0, 450..451, 2);
    w.published(1, 0..0).await;
    w.answers(1, 0..500, 1);
    w.flush();
    let second = w.land().await;
    assert_eq!((second.landed, second.inputs), (2 + 1 + 500, 502));
    assert_eq!(
        (second.incomplete, second.duplicates.re_published),
        (0, 10 + 1)
    );
    assert_eq!(second.version, 2);

    let wanted: Vec<[i64; 4]> = (0..400)
        .chain([450])
        .map(|seq| row(0, seq, 0))
        .chain((480..500).flat_map(|seq| [row(0, seq, 0), row(0, seq, 1)]))
        .chain((0..500).map(|seq| row(1, seq, 0)))
        .collect();
    assert_eq!(w.table(), wanted);

    let report = reconcile(&w.session, &Context::default()).await.unwrap();
    report.check().unwrap();
    assert_eq!(
        (report.expected, report.landed, report.landed_rows),
        (1_000, 921, 941)
    );
    assert_eq!(
        (report.filtered, report.dead_lettered, report.rejected),
        (50, 19, 10)
    );
    assert_eq!((report.missing, report.duplicated), (0, 0));
    assert_eq!((report.done_twice, report.mended), (11, 1));
    assert_eq!(report.missing_file, None);
    let cause = |fate, reason: &str, rows| Cause {
        fate,
        reason: reason.into(),
        rows,
    };
    let causes = [
        cause("filtered", "Cancelled", 50),
        cause("dead_lettered", "NotArrived", 19),
        cause("rejected", "x: has a fraction", 10),
    ];
    assert_eq!(report.by_cause, causes);
    let children = w.session.store.children(w.session.id).await.unwrap();
    assert_eq!(children[0].state, ChildState::Done);

    let now = status(&w.session, &Context::default()).await.unwrap();
    assert_eq!(
        (now.rows, now.splits.closed, now.table.rows),
        (1_000, 2, 941)
    );
    let lag = lag(&w.session, "east").await.unwrap();
    assert_eq!(lag.landed, lag.egress_end);
    assert!(lag.published && lag.lag == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_and_racing_landers_leave_the_same_table() {
    let w = World::new("race").await;
    w.answers(0, 0..500, 1);
    w.answers(1, 0..500, 1);
    w.flush();
    let stopped = Context::default();
    stopped.cancel.cancel();
    let interrupted = land(&w.session, LandOptions::default(), &stopped).await;
    assert!(matches!(
        interrupted,
        Err(Error::Interrupted { stage: "land" })
    ));
    // As a kill leaves it: a whole data file that no commit names.
    let orphan = w.dir.path().join("landed/data/killed.parquet");
    std::fs::write(&orphan, "PAR1").unwrap();
    assert_eq!(w.table().len(), 0);

    let both = tokio::join!(w.land(), w.land(), w.land());
    assert_eq!(both.0.landed + both.1.landed + both.2.landed, 1_000);
    assert_eq!(w.table().len(), 1_000);
    let once = w.land().await;
    assert_eq!((once.landed, once.orphans, once.version), (0, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_landed_is_named() {
    let w = World::new("strange").await;
    w.answers(0, 0..5, 1);
    let refused = async |w: &World| {
        w.flush();
        let result = land(&w.session, LandOptions::default(), &Context::default()).await;
        assert_eq!(w.table().len(), 0);
        result.unwrap_err().to_string()
    };
    // Another job's record is passed over; a record of no job stops the stage.
    let mut other = w.id(0, 7);
    other.job.0 ^= 1;
    w.answer(&w.producer, other, 1, &[0], 1);
    w.send(&w.producer, Role::Egress, 2, &[], b"hello");
    let e = refused(&w).await;
    assert!(
        e.contains("partition 2 offset") && e.contains("no header kf-id"),
        "{e}"
    );

    let w = World::new("schema").await;
    let registry = w.session.registry("east").unwrap();
    let another = SCHEMA.replace("long", "string");
    let id = registry.register("another", &another).unwrap();
    let header = EgressIdentity {
        input: w.id(0, 0),
        attempt: 1,
        child: 0,
        of: 1,
    };
    let header: &[u8] = &header.to_bytes();
    let payload = [&framing::bytes(id)[..], &[2, b'a']].concat();
    w.send(&w.producer, Role::Egress, 0, &[(HEADER, header)], &payload);
    let e = refused(&w).await;
    assert!(
        e.contains(&format!("schema {id}, which is not the job's")),
        "{e}"
    );

    // A topic that was deleted and made again is not the one the job began with.
    let w = World::new("recreated").await;
    let topic = w.session.topic_name("east", Role::Egress);
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set(
            "bootstrap.servers",
            std::env::var("KAPPAFLOW_TEST_KAFKA").unwrap(),
        )
        .create()
        .unwrap();
    let options = AdminOptions::new().operation_timeout(Some(WAIT));
    admin.delete_topics(&[&topic], &options).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let cluster = w.session.cluster("east").unwrap();
    cluster.create_topic(&topic, 3, 1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let e = refused(&w).await;
    assert!(e.contains("recreated"), "{e}");
}
