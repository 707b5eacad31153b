//! What tests of several stages share: the Kafka that they are given, sources, dispatched jobs, and whole topics.
#![allow(
    dead_code,
    reason = "each program of tests has this module, and not each needs all of it"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use arrow_array::RecordBatch;
use kappaflow_core::context::Progress;
use kappaflow_core::kafka::{Cluster, PartitionRange, read_ranges};
use kappaflow_core::{Context, Session, dispatch};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use rdkafka::message::BorrowedMessage;
use tokio_util::sync::CancellationToken;

pub fn kafka() -> String {
    std::env::var("KAPPAFLOW_TEST_KAFKA")
        .expect("set KAPPAFLOW_TEST_KAFKA=host:port of a running Kafka (`make test` does)")
}

/// A job's name that no other run of the tests has.
pub fn unique(test: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("{test}-{}", now.as_nanos())
}

pub fn write(path: &Path, batch: &RecordBatch, group_rows: usize) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group_rows))
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

pub async fn dispatched(job: &Path) -> (Session, Context) {
    let ctx = Context::default();
    let session = Session::open(job, &BTreeMap::new()).await.unwrap();
    dispatch::dispatch(&session, &ctx).await.unwrap();
    (session, ctx)
}

/// A context that is stopped at the first report that is as asked.
pub fn stopped_when(wanted: impl Fn(&Progress) -> bool + Send + Sync + 'static) -> Context {
    let token = Arc::new(OnceLock::<CancellationToken>::new());
    let ctx = Context::new({
        let token = token.clone();
        move |progress| {
            if wanted(&progress) {
                token.get().unwrap().cancel();
            }
        }
    });
    token.set(ctx.cancel.clone()).unwrap();
    ctx
}

/// What `each` makes of every committed record of a topic.
pub async fn records<T: Send + 'static>(
    cluster: Cluster,
    name: String,
    partitions: u32,
    each: impl Fn(&BorrowedMessage<'_>) -> T + Send + 'static,
) -> Vec<T> {
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
        let mut found = Vec::new();
        let ctx = Context::default();
        read_ranges(&cluster, &name, &ranges, "test", &ctx, |message| {
            found.push(each(message));
            Ok(())
        })
        .unwrap();
        found
    })
    .await
    .unwrap()
}
