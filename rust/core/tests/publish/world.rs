//! Sources, jobs and topics of these tests.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use kappaflow_avro::{AvroSchema, Decoder, framing};
use kappaflow_core::Session;
use kappaflow_core::identity::{HEADER, Identity, JobId};
use kappaflow_core::kafka::transport::{Origin, Rows, Transport};
use kappaflow_core::kafka::{Cluster, KafkaTransport, header};
use kappaflow_core::store::Role;
use rdkafka::message::Message;
use tempfile::TempDir;

pub use crate::common::{dispatched, kafka, records, stopped_when, unique, write};

pub const INGRESS: &str = r#"{"type":"record","name":"Row","fields":[
    {"name":"id","type":"long"},{"name":"text","type":["null","string"]},{"name":"m","type":"string"}]}"#;
pub const EGRESS: &str =
    r#"{"type":"record","name":"Answer","fields":[{"name":"id","type":"long"}]}"#;

/// Rows `first..first + count` as loosely typed columns; an id of `bad` gets a fraction.
pub fn rows(first: usize, count: usize, bad: &[usize]) -> RecordBatch {
    let id = (first..first + count).map(|i| i as f64 + if bad.contains(&i) { 0.5 } else { 0.0 });
    let id: ArrayRef = Arc::new(Float64Array::from_iter_values(id));
    let text = (first..first + count).map(|i| (i % 7 != 0).then(|| format!("row {i}")));
    let text: ArrayRef = Arc::new(StringArray::from_iter(text));
    RecordBatch::try_from_iter([("id", id), ("text", text)]).unwrap()
}

/// A job of two child jobs of 2,500 rows: folders `m=1` and `m=2`, row groups of 500, splits of 1,000.
pub fn job(dir: &TempDir, name: &str, bad: &[usize], more: &str) -> PathBuf {
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

/// Sends empty rows of split 0 and waits until they are acknowledged.
pub fn send(transport: &mut KafkaTransport, job: JobId, seqs: Vec<u32>) {
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
    assert_eq!(transport.send(origin, &rows, 0..rows.len()), Ok(rows.len()));
    let mut reports = Vec::new();
    while transport.in_flight() > 0 {
        transport.reports(Duration::from_millis(100), &mut reports);
    }
}

/// Every record of a topic: identity to (partition, key, payload, offset) of each time it is there.
pub type Records = HashMap<Identity, Vec<(i32, Option<Vec<u8>>, Vec<u8>, i64)>>;

pub async fn topic(cluster: Cluster, name: String, partitions: u32) -> Records {
    let found = records(cluster, name, partitions, |message| {
        let identity = Identity::from_bytes(header(message, HEADER).unwrap()).unwrap();
        let key = message.key().map(<[u8]>::to_vec);
        let payload = message.payload().unwrap_or_default().to_vec();
        (
            identity,
            (message.partition(), key, payload, message.offset()),
        )
    });
    let mut records = Records::new();
    for (identity, record) in found.await {
        records.entry(identity).or_default().push(record);
    }
    records
}

pub async fn ingress(session: &Session) -> Records {
    let row = session.topic("east", Role::Ingress).await.unwrap();
    topic(session.cluster("east").unwrap(), row.name, row.partitions).await
}

/// Checks that so many rows are in the ingress topic, each of them once.
pub async fn once(session: &Session, rows: usize) {
    let records = ingress(session).await;
    assert_eq!(records.len(), rows);
    assert!(records.values().all(|copies| copies.len() == 1));
}

pub async fn letters(session: &Session) -> Records {
    let row = session.topic("east", Role::Deadletter).await.unwrap();
    topic(session.cluster("east").unwrap(), row.name, row.partitions).await
}

/// The ids of the records of one split by seq, decoded.
pub fn ids(records: &Records) -> BTreeMap<(u32, u32), i64> {
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
