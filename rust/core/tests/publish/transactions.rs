//! One transaction a split: what is not committed is not there, and of two publishers one wins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kappaflow_core::Error;
use kappaflow_core::kafka::transport::Transport;
use kappaflow_core::kafka::{KafkaTransport, ProduceOptions};
use kappaflow_core::publish::{PublishOptions, publish};
use kappaflow_core::store::Role;
use kappaflow_core::{Context, Session};
use tokio::sync::Notify;

use crate::world::*;

const TRANSACTIONAL: &str = "[topics]\ntransactional = true";

/// Another publisher of child job 1, which has begun a transaction and sent rows `0..600` of split 0.
async fn other(session: &Session) -> KafkaTransport {
    let row = session.topic("east", Role::Ingress).await.unwrap();
    let noted: Vec<(i32, i64)> = (0..6).map(|p| (p, 0)).collect();
    let store = &session.store;
    store.open_split(session.id, 0, &noted).await.unwrap();
    let (cluster, job) = (session.cluster("east").unwrap(), session.id);
    let id = format!("{}.1", session.group("east"));
    tokio::task::spawn_blocking(move || {
        let timeout = Duration::from_secs(30);
        let mut options = ProduceOptions::new(&row.name, &BTreeMap::new(), "lz4", 8, timeout);
        options.transactional_id = Some(id);
        let mut transport = KafkaTransport::new(&cluster, &options, &Context::default()).unwrap();
        assert!(transport.transactional());
        transport.begin().unwrap();
        send(&mut transport, job, (0..600).collect());
        transport
    })
    .await
    .unwrap()
}

fn committed(transport: &mut KafkaTransport) -> Result<(), String> {
    while !transport.commit()? {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_committed_is_not_there_and_its_sender_is_fenced() {
    let dir = tempfile::tempdir().unwrap();
    let job = job(&dir, &unique("zombie"), &[1], TRANSACTIONAL);
    let (session, ctx) = dispatched(&job).await;
    let mut zombie = other(&session).await;
    let none = ingress(&session).await;
    assert_eq!(none.len(), 0, "readers see nothing that is not committed");

    let options = PublishOptions::default();
    let receipt = publish(&session, options, &ctx).await.unwrap();
    assert_eq!((receipt.acknowledged, receipt.rejected), (4_999, 1));
    assert_eq!((receipt.read_back, receipt.doubled), (0, 0));
    let late = tokio::task::spawn_blocking(move || {
        let late = committed(&mut zombie);
        (late, zombie.fenced())
    });
    let (late, fenced) = late.await.unwrap();
    assert!(late.is_err() && fenced, "{late:?}");
    once(&session, 4_999).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_by_a_publisher_that_died_then_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let job = job(&dir, &unique("committed"), &[], TRANSACTIONAL);
    let (session, ctx) = dispatched(&job).await;
    let mut dead = other(&session).await;
    tokio::task::spawn_blocking(move || committed(&mut dead).unwrap())
        .await
        .unwrap();
    let receipt = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    assert_eq!((receipt.acknowledged, receipt.read_back), (5_000, 600));
    once(&session, 5_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_is_taken_over_says_so() {
    let dir = tempfile::tempdir().unwrap();
    // So slow that there is time to take over.
    let more = format!("{TRANSACTIONAL}\n[limits]\nmax_rows_per_s = 500");
    let job = job(&dir, &unique("taken"), &[], &more);
    let (session, _) = dispatched(&job).await;
    let sending = Arc::new(Notify::new());
    let ctx = Context::new({
        let sending = sending.clone();
        move |progress| {
            if progress.done > 0 {
                sending.notify_one();
            }
        }
    });
    let publishing = tokio::spawn({
        let session = Session::open(&job, &BTreeMap::new()).await.unwrap();
        async move { publish(&session, PublishOptions::default(), &ctx).await }
    });
    sending.notified().await;
    let _other = other(&session).await;
    let stopped = publishing.await.unwrap().unwrap_err();
    assert!(matches!(stopped, Error::NotReady { .. }), "{stopped}");
    assert!(stopped.to_string().contains("taken over"), "{stopped}");
}
