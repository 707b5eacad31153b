//! `topics.order_by`: rows of a key reach the topic in the order of a column, over splits and deaths.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use kappaflow_core::Session;
use kappaflow_core::publish::{PublishOptions, publish};
use kappaflow_core::store::Role;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tempfile::TempDir;

use crate::world::*;

const ORDERED: &str = "[topics]\nkey = [\"text\"]\norder_by = \"at\"";

/// Rows whose `at` is as given, of seven keys.
fn at(first: i64, at: impl IntoIterator<Item = Option<i64>>) -> RecordBatch {
    let at = Int64Array::from_iter(at);
    let ids = first..first + at.values().len() as i64;
    let id: ArrayRef = Arc::new(Float64Array::from_iter_values(
        ids.clone().map(|i| i as f64),
    ));
    let key: ArrayRef = Arc::new(StringArray::from_iter_values(
        ids.map(|i| format!("k{}", i % 7)),
    ));
    let at: ArrayRef = Arc::new(at);
    RecordBatch::try_from_iter([("id", id), ("text", key), ("at", at)]).unwrap()
}

/// A job over files of one child job.
fn source(dir: &TempDir, name: &str, files: &[(&str, RecordBatch)]) -> std::path::PathBuf {
    let job = job(dir, &unique(name), &[], ORDERED);
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    for (file, batch) in files {
        write(&dir.path().join("data/m=1").join(file), batch, 100);
    }
    let text = std::fs::read_to_string(&job).unwrap();
    std::fs::write(&job, text.replace("split_rows = 1000", "split_rows = 200")).unwrap();
    job
}

async fn refused(job: &std::path::Path) -> String {
    let (session, ctx) = dispatched(job).await;
    let refused = publish(&session, PublishOptions::default(), &ctx).await;
    refused.unwrap_err().to_string()
}

/// The ids of each partition in the order of their offsets.
async fn partitions(session: &Session) -> BTreeMap<i32, Vec<i64>> {
    let row = session.topic("east", Role::Ingress).await.unwrap();
    let records = ingress(session).await;
    let ids = ids(&records);
    let mut by_partition: BTreeMap<i32, Vec<(i64, i64)>> = BTreeMap::new();
    for (identity, copies) in &records {
        assert_eq!(copies.len(), 1);
        let (partition, offset) = (copies[0].0, copies[0].3);
        let id = ids[&(identity.split, identity.seq)];
        by_partition
            .entry(partition)
            .or_default()
            .push((offset, id));
    }
    assert!(by_partition.len() > 1 && row.partitions == 6);
    for rows in by_partition.values_mut() {
        rows.sort_unstable();
    }
    let ids = |rows: Vec<(i64, i64)>| rows.into_iter().map(|(_, id)| id).collect();
    by_partition
        .into_iter()
        .map(|(p, rows)| (p, ids(rows)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn splits_are_published_in_the_order_of_the_column() {
    let dir = tempfile::tempdir().unwrap();
    // The later half is the first by name; two rows each have the same value, also where one file meets the other.
    let job = source(
        &dir,
        "order",
        &[
            ("a.parquet", at(1_000, (999..1_999).map(|i| Some(i / 2)))),
            ("b.parquet", at(0, (0..1_000).map(|i| Some(i / 2)))),
        ],
    );
    let (session, ctx) = dispatched(&job).await;
    let receipt = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    assert_eq!(receipt.acknowledged, 2_000);
    for (partition, ids) in partitions(&session).await {
        assert!(ids.is_sorted(), "partition {partition}: {ids:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_order_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let sorted = |from: i64| at(from, (from..from + 150).map(Some));
    let job = source(
        &dir,
        "overlap",
        &[("a.parquet", sorted(0)), ("b.parquet", sorted(140))],
    );
    let why = refused(&job).await;
    let expected = "b.parquet: split 1: begins at 140, before split 0 has ended at 149";
    assert!(why.contains(expected), "{why}");

    let mut falls: Vec<_> = (0..150).map(Some).collect();
    falls.swap(120, 121);
    let job = source(&dir, "falls", &[("a.parquet", at(0, falls))]);
    let why = refused(&job).await;
    let expected = "row 121 (split 0): at = 120 comes after 121; topics.order_by needs rows";
    assert!(why.contains(expected), "{why}");

    // Where one batch of rows meets the next it is looked at too.
    let mut falls: Vec<_> = (0..150).map(Some).collect();
    falls.swap(99, 100);
    let job = source(&dir, "meets", &[("a.parquet", at(0, falls))]);
    let why = refused(&job).await;
    assert!(
        why.contains("row 100 (split 0): at = 99 comes after 100"),
        "{why}"
    );

    let nulls = (0..150).map(|i| (i != 7).then_some(i));
    let job = source(&dir, "null", &[("a.parquet", at(0, nulls))]);
    let why = refused(&job).await;
    assert!(why.contains("row 7 (split 0): at is null"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_statistics_or_without_the_column_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let batch = at(0, (0..150).map(Some));
    let job = source(&dir, "untold", &[("a.parquet", batch.clone())]);
    let none = WriterProperties::builder()
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let file = std::fs::File::create(dir.path().join("data/m=1/a.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(none)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let why = refused(&job).await;
    assert!(
        why.contains("don't tell the least and the greatest \"at\""),
        "{why}"
    );

    let batch = batch.project(&[0, 1]).unwrap();
    let job = source(&dir, "lacks", &[("a.parquet", batch)]);
    let why = refused(&job).await;
    assert!(
        why.contains("has no column") && why.contains("topics.order_by"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_began_without_an_order_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let job = source(
        &dir,
        "late",
        &[
            ("a.parquet", at(150, (150..300).map(Some))),
            ("b.parquet", at(0, (0..150).map(Some))),
        ],
    );
    let (session, ctx) = dispatched(&job).await;
    let ends: Vec<(i32, i64)> = (0..6).map(|p| (p, 0)).collect();
    session
        .store
        .open_split(session.id, 0, &ends)
        .await
        .unwrap();
    let why = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        why.contains("split 0 was published before split 1"),
        "{why}"
    );
}
