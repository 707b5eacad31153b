//! A job whose egress, verdicts and dead letters a test writes by hand, as workers write them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use kappaflow_avro::framing;
use kappaflow_core::identity::{EgressIdentity, HEADER, Identity};
use kappaflow_core::land::{LandOptions, LandSummary, land};
use kappaflow_core::registry::Which;
use kappaflow_core::store::{RejectCount, Role};
use kappaflow_core::table::Table;
use kappaflow_core::verdict::{REASON_HEADER, VerdictRange, Verdicts};
use kappaflow_core::{Context, Result, Session};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use roaring::RoaringBitmap;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::common::{dispatched, kafka, unique, write};

pub const SCHEMA: &str =
    r#"{"type":"record","name":"Answer","fields":[{"name":"x","type":"long"}]}"#;
pub const WAIT: Duration = Duration::from_secs(20);

/// A job of 1,000 rows in two splits of 500, dispatched to the one region.
pub struct World {
    pub dir: TempDir,
    pub session: Session,
    pub producer: BaseProducer,
}

impl World {
    pub async fn new(test: &str) -> Self {
        Self::with(test, "").await
    }

    /// `output`: further lines of `[output]`.
    pub async fn with(test: &str, output: &str) -> Self {
        Self::landing_in(Path::new("landed"), test, output).await
    }

    /// The same, with a table elsewhere.
    pub async fn landing_in(table: &Path, test: &str, output: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
        let batch = RecordBatch::try_from_iter([("x", rows)]).unwrap();
        write(&dir.path().join("rows.parquet"), &batch, 500);
        std::fs::write(dir.path().join("x.avsc"), SCHEMA).unwrap();
        let text = format!(
            r#"
name = "{}"
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
path = {table:?}
{output}
[[regions]]
name = "east"
bootstrap_servers = "{}"
cap_max = 100000
"#,
            unique(&format!("land-{test}")),
            kafka()
        );
        let path = dir.path().join("job.toml");
        std::fs::write(&path, text).unwrap();
        let (session, _) = dispatched(&path).await;
        let producer = ClientConfig::new()
            .set("bootstrap.servers", kafka())
            .set("enable.idempotence", "true")
            .create()
            .unwrap();
        Self {
            dir,
            session,
            producer,
        }
    }

    pub fn id(&self, split: u32, seq: u32) -> Identity {
        let job = self.session.id;
        Identity { job, split, seq }
    }

    pub fn frame(&self, role: Role) -> Vec<u8> {
        let subject = format!("{}-value", self.session.topic_name("east", role));
        let registry = self.session.registry("east").unwrap();
        let mut out = Vec::new();
        framing::write(
            registry.version(&subject, Which::Latest).unwrap().id,
            &mut out,
        );
        out
    }

    pub fn send(
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
    pub fn answer(&self, by: &BaseProducer, id: Identity, attempt: u32, children: &[u32], of: u32) {
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

    pub fn answers(&self, split: u32, seqs: std::ops::Range<u32>, attempt: u32) {
        for seq in seqs {
            self.answer(&self.producer, self.id(split, seq), attempt, &[0], 1);
        }
    }

    pub fn filtered(&self, split: u32, seqs: std::ops::Range<u32>, reason: &str) {
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

    pub fn dead_letters(&self, split: u32, seqs: std::ops::Range<u32>, reason: &str) {
        for seq in seqs {
            let id: &[u8] = &self.id(split, seq).to_bytes();
            let headers = [(HEADER, id), (REASON_HEADER, reason.as_bytes())];
            self.send(&self.producer, Role::Deadletter, 1, &headers, b"as it came");
        }
    }

    pub fn flush(&self) {
        self.producer.flush(WAIT).unwrap();
    }

    pub async fn published(&self, split: u32, rejected: std::ops::Range<u32>) {
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

    pub async fn land(&self) -> LandSummary {
        land(&self.session, LandOptions::default(), &Context::default())
            .await
            .unwrap()
    }

    /// A lander of its own, and what stops it.
    pub async fn lander(
        &self,
        options: LandOptions,
    ) -> (CancellationToken, JoinHandle<Result<LandSummary>>) {
        let session = Session::open(&self.dir.path().join("job.toml"), &BTreeMap::new()).await;
        let (ctx, session) = (Context::default(), session.unwrap());
        let cancel = ctx.cancel.clone();
        let landing = tokio::spawn(async move { land(&session, options, &ctx).await });
        (cancel, landing)
    }

    pub async fn until_landed(&self, rows: usize) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.table().len() != rows {
            assert!(
                Instant::now() < end,
                "{} of {rows} rows",
                self.table().len()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `(_split, _seq, _child, x)` of all rows of the table, sorted.
    pub fn table(&self) -> Vec<[i64; 4]> {
        let mut rows = Vec::new();
        let table = Table::of(&self.session.job).unwrap();
        for file in table.state().unwrap().files_of(None) {
            let file = table.storage().local(&file.path).unwrap();
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

pub fn row(split: u32, seq: u32, child: u32) -> [i64; 4] {
    [split, seq, child, split * 500 + seq].map(i64::from)
}
