//! Streams of Arrow batches, published without a job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchIterator, StringArray};
use kappaflow_core::identity::key_partition;
use kappaflow_core::job::KeyFormat;
use kappaflow_core::kafka::Cluster;
use kappaflow_core::publish::{StreamTarget, publish_stream};
use kappaflow_core::registry::{Framing, RegistryConfig, SubjectStrategy};
use kappaflow_core::{Context, Error};
use tempfile::TempDir;

use crate::world::*;

fn target(dir: &TempDir, topic: &str) -> StreamTarget {
    StreamTarget {
        bootstrap_servers: kafka(),
        kafka: BTreeMap::new(),
        topic: topic.to_owned(),
        partitions: Some(3),
        replication: None,
        retention_ms: None,
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
        key_format: KeyFormat::String,
        partition_column: None,
        timestamp_column: None,
        max_rows_per_s: None,
        max_lag_records: None,
        max_lag_mib: None,
        group: None,
        consumer_timeout_ms: 1_000,
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
        // The column has floats, the field a whole number.
        assert_eq!(key, identity.seq.to_string().as_bytes());
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
