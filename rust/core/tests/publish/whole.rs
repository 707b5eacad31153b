//! A job's rows: each in the topic once, or rejected by name.

use std::path::Path;

use kappaflow_core::Error;
use kappaflow_core::publish::{PublishOptions, publish};
use kappaflow_core::store::SplitState;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_there_once_or_rejected_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let job = job(&dir, &unique("whole"), &[3, 1_200], "");
    let (session, ctx) = dispatched(&job).await;

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
async fn too_many_rejects_stop_the_publish() {
    let dir = tempfile::tempdir().unwrap();
    let bad: Vec<usize> = (2_600..2_700).collect();
    let job = job(
        &dir,
        &unique("rejects"),
        &bad,
        "[limits]\nmax_rejects = \"1%\"",
    );
    let (session, ctx) = dispatched(&job).await;
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
    let (session, ctx) = dispatched(&job).await;
    let receipt = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    assert_eq!((receipt.acknowledged, receipt.rejected), (4_900, 100));
    // Whichever try sent them.
    let letters = letters(&session).await;
    assert_eq!(letters.len(), 100);
    assert!(letters.values().all(|copies| copies.len() == 1));
    let records = ingress(&session).await;
    assert_eq!(records.len(), 4_900);
    assert!(records.values().all(|copies| copies.len() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_are_in_the_dead_letter_topic_once() {
    let dir = tempfile::tempdir().unwrap();
    let job = job(&dir, &unique("letters"), &[3, 4, 1_200], "");
    let (session, ctx) = dispatched(&job).await;
    let all = PublishOptions::default;
    let receipt = publish(&session, all(), &ctx).await.unwrap();
    assert_eq!((receipt.rejected, receipt.rejects_sent), (3, 3));
    let rows = |records: &Records| {
        let mut rows: Vec<_> = records.keys().map(|id| (id.split, id.seq)).collect();
        rows.sort_unstable();
        rows
    };
    let records = letters(&session).await;
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
    let records = letters(&session).await;
    assert!(records.values().all(|copies| copies.len() == 1));
    assert_eq!(rows(&records).len(), 3);
}
