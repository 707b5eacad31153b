//! Publishers that died or were stopped, and those that come after them.

use std::collections::BTreeMap;
use std::time::Duration;

use kappaflow_core::kafka::{KafkaTransport, ProduceOptions};
use kappaflow_core::publish::{PublishOptions, publish};
use kappaflow_core::store::{Role, SplitState};
use kappaflow_core::{Context, Error};

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_publisher_sent_is_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let job = job(&dir, &unique("resume"), &[1], "");
    let (session, ctx) = dispatched(&job).await;
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
        let timeout = Duration::from_secs(30);
        let options = ProduceOptions::new(&topic_name, &BTreeMap::new(), "lz4", 8, timeout);
        let mut transport = KafkaTransport::new(&cluster, &options, &Context::default()).unwrap();
        let mut send = |job, seqs: Vec<u32>| send(&mut transport, job, seqs);
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
    let (session, _) = dispatched(&job).await;
    // Stopped as soon as something is acknowledged.
    let ctx = stopped_when(|progress| progress.label == "3" && progress.done > 0);
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
    once(&session, 405_000).await;
}
