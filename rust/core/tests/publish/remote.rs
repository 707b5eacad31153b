//! Splits published by other processes than the one that holds the store.

use std::collections::BTreeMap;
use std::time::Duration;

use kappaflow_core::kafka::transport::Transport;
use kappaflow_core::kafka::{KafkaTransport, ProduceOptions};
use kappaflow_core::publish::remote::{self, RemoteOptions, RemotePublish, publish_split};
use kappaflow_core::publish::{PublishOptions, publish};
use kappaflow_core::store::{Role, SplitState};
use kappaflow_core::{Context, Session};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tempfile::TempDir;

use crate::world::*;

async fn open(dir: &TempDir, lease_ms: u64) -> (RemotePublish, Context) {
    let ctx = Context::default();
    let path = dir.path().join("job.toml");
    let session = Session::open(&path, &BTreeMap::new()).await.unwrap();
    let options = RemoteOptions {
        lease_ms,
        ..RemoteOptions::default()
    };
    let publish = RemotePublish::open(session, options, &ctx).await.unwrap();
    (publish, ctx)
}

async fn session(dir: &TempDir) -> Session {
    let path = dir.path().join("job.toml");
    Session::open(&path, &BTreeMap::new()).await.unwrap()
}

/// One split after the other, in this process.
async fn all(tasks: &remote::Tasks, ctx: &Context) {
    for (order, piece) in &tasks.pieces {
        publish_split(&tasks.orders[*order], piece, "here", ctx)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn splits_published_elsewhere_are_booked_here() {
    let dir = tempfile::tempdir().unwrap();
    job(&dir, &unique("remote"), &[1, 700, 4_999], "");
    let (mut lead, ctx) = open(&dir, 4_000).await;
    let tasks = lead.tasks().unwrap();
    assert_eq!((tasks.orders.len(), tasks.pieces.len()), (1, 6));
    let refused =
        remote::Order::parse(&tasks.orders[0].replacen("\"version\":1", "\"version\":2", 1));
    assert_eq!(refused.unwrap_err().kind(), "not_ready");
    all(&tasks, &ctx).await;
    let taken = lead.poll(&ctx).await.unwrap();
    assert_eq!((taken.closed, taken.open), (6, 0));
    let receipt = lead.finish(&ctx).await.unwrap();
    assert_eq!(
        (receipt.rows, receipt.acknowledged, receipt.rejected),
        (5_000, 4_997, 3)
    );
    assert_eq!(
        (receipt.read_back, receipt.doubled, receipt.rejects_sent),
        (0, 0, 3)
    );
    assert_eq!(receipt.splits.len(), 6);
    let session = session(&dir).await;
    once(&session, 4_997).await;
    for split in [0, 5] {
        let kept = session
            .work_dir()
            .join(format!("rejects/split-{split}.parquet"));
        assert!(kept.is_file(), "{}", kept.display());
    }
    assert_eq!(
        session.store.reject_counts(session.id).await.unwrap()[0].count,
        3
    );
    drop(lead);

    // Again: there is nothing to publish, neither there nor here.
    let (mut again, ctx) = open(&dir, 4_000).await;
    assert!(again.tasks().unwrap().pieces.is_empty());
    assert_eq!(again.finish(&ctx).await.unwrap().acknowledged, 4_997);
    drop(again);
    let here = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    assert_eq!(here.acknowledged, 4_997);
    once(&session, 4_997).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_elsewhere_is_known_though_the_store_was_not_told() {
    let dir = tempfile::tempdir().unwrap();
    job(&dir, &unique("untold"), &[], "");
    let (lead, ctx) = open(&dir, 4_000).await;
    let tasks = lead.tasks().unwrap();
    for (order, piece) in &tasks.pieces[..2] {
        publish_split(&tasks.orders[*order], piece, "here", &ctx)
            .await
            .unwrap();
    }
    // The process that gave the splits out dies, and another comes, of either kind.
    drop(lead);
    let (lead, ctx) = open(&dir, 4_000).await;
    assert_eq!(lead.tasks().unwrap().pieces.len(), 4);
    let (order, piece) = &lead.tasks().unwrap().pieces[0];
    publish_split(&lead.tasks().unwrap().orders[*order], piece, "here", &ctx)
        .await
        .unwrap();
    drop(lead);
    let session = session(&dir).await;
    let receipt = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    assert_eq!((receipt.acknowledged, receipt.read_back), (5_000, 0));
    once(&session, 5_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_publisher_here_has_left_open_is_read_back_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = job(
        &dir,
        &unique("given"),
        &[],
        "[limits]\nmax_rows_per_s = 300\n",
    );
    let (session, _) = dispatched(&path).await;
    let ctx = stopped_when(|progress| progress.done > 0);
    let error = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "interrupted");
    let splits = session.store.splits(session.id, None).await.unwrap();
    assert!(splits.iter().any(|s| s.state == SplitState::Open));
    let (mut lead, ctx) = open(&dir, 4_000).await;
    all(&lead.tasks().unwrap(), &ctx).await;
    let receipt = lead.finish(&ctx).await.unwrap();
    assert_eq!(receipt.acknowledged, 5_000);
    once(&session, 5_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_attempt_goes_on_and_the_earlier_stands_by() {
    let dir = tempfile::tempdir().unwrap();
    job(
        &dir,
        &unique("twice"),
        &[],
        "[limits]\nmax_rows_per_s = 300\n",
    );
    let (mut lead, ctx) = open(&dir, 6_000).await;
    let tasks = lead.tasks().unwrap();
    let (order, piece) = (tasks.orders[0].clone(), tasks.pieces[0].1.clone());
    let attempt = |host: &'static str| {
        let (order, piece, ctx) = (order.clone(), piece.clone(), ctx.clone());
        tokio::spawn(async move { publish_split(&order, &piece, host, &ctx).await.unwrap() })
    };
    let slow = attempt("slow");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let later = attempt("later");
    let (slow, later) = (slow.await.unwrap(), later.await.unwrap());
    assert_eq!(
        slow.acknowledged, 0,
        "it gave way, and did not close the split"
    );
    assert!((1..1_000).contains(&later.acknowledged), "{later:?}");
    let taken = lead.poll(&ctx).await.unwrap();
    assert_eq!((taken.closed, taken.open), (1, 5));
    let session = session(&dir).await;
    once(&session, 1_000).await;
    // Given up: what is missing is published here.
    lead.leave("test", &ctx).await.unwrap();
    drop(lead);
    let child = session.store.children(session.id).await.unwrap()[1]
        .name
        .clone();
    let child = PublishOptions { child: Some(child) };
    let receipt = publish(&session, child, &ctx).await.unwrap();
    assert_eq!(receipt.acknowledged, 2_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_dies_is_followed_by_one_that_waited_for_it() {
    let dir = tempfile::tempdir().unwrap();
    job(
        &dir,
        &unique("dies"),
        &[],
        "[limits]\nmax_rows_per_s = 300\n",
    );
    let (mut lead, ctx) = open(&dir, 3_000).await;
    let tasks = lead.tasks().unwrap();
    let (order, piece) = (&tasks.orders[0], &tasks.pieces[0].1);
    // One that is stopped while it publishes leaves the split to who comes next.
    let stopped = Context::default();
    let stop = stopped.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        stop.cancel();
    });
    let error = publish_split(order, piece, "a", &stopped)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "interrupted");
    // That failure may pass, so the publish goes on.
    lead.poll(&ctx).await.unwrap();
    publish_split(order, piece, "b", &ctx).await.unwrap();
    assert_eq!(lead.poll(&ctx).await.unwrap().closed, 1);
    once(&session(&dir).await, 1_000).await;
    let error = lead.finish(&ctx).await.unwrap_err();
    assert_eq!(error.kind(), "publish");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_that_last_are_told_by_name() {
    let dir = tempfile::tempdir().unwrap();
    job(
        &dir,
        &unique("unseen"),
        &[1, 2],
        "[limits]\nmax_rejects = 1\n",
    );
    let (mut lead, ctx) = open(&dir, 4_000).await;
    let tasks = lead.tasks().unwrap();
    let error = publish_split(&tasks.orders[0], &tasks.pieces[0].1, "here", &ctx)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "too_many_rejects");
    let told = lead.poll(&ctx).await.unwrap_err();
    assert_eq!(told.kind(), "too_many_rejects");
    assert!(
        told.to_string().starts_with("on here: 2 rows rejected"),
        "{told}"
    );
    drop(lead);

    // Another try is not held back by that; now the files are gone.
    let (mut lead, ctx) = open(&dir, 4_000).await;
    std::fs::rename(dir.path().join("data"), dir.path().join("away")).unwrap();
    let error = publish_split(&tasks.orders[0], &tasks.pieces[5].1, "there", &ctx)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "source");
    assert!(
        error.to_string().contains("is not there on there"),
        "{error}"
    );
    let told = lead.poll(&ctx).await.unwrap_err();
    assert!(told.to_string().contains("object store"), "{told}");
    drop(lead);

    job(
        &dir,
        &unique("ordered"),
        &[],
        "[topics]\norder_by = \"id\"\n",
    );
    let ctx = Context::default();
    let refused = RemotePublish::open(session(&dir).await, RemoteOptions::default(), &ctx).await;
    let error = refused.err().unwrap();
    assert!(error.to_string().contains("topics.order_by"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receipts_topic_is_the_one_the_publish_began_with() {
    let dir = tempfile::tempdir().unwrap();
    job(&dir, &unique("recreated"), &[], "");
    let (lead, ctx) = open(&dir, 4_000).await;
    drop(lead);
    let session = session(&dir).await;
    let topics = session.store.topics(session.id, "east").await.unwrap();
    let receipts = topics.iter().find(|t| t.role == Role::Receipts).unwrap();
    assert!(receipts.name.ends_with(".receipts"), "{}", receipts.name);
    let (cluster, name) = (session.cluster("east").unwrap(), receipts.name.clone());
    cluster.delete_topic(&name).await.unwrap();
    let refused = RemotePublish::open(session, RemoteOptions::default(), &ctx).await;
    let error = refused.err().unwrap();
    assert_eq!(error.kind(), "topic");
    assert!(error.to_string().contains("is gone"), "{error}");
}

/// The process that gave splits out dies, and what it started lives on for a while.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_outlives_its_publish_gives_way_to_one_here() {
    let dir = tempfile::tempdir().unwrap();
    let slow = "[limits]\nmax_rows_per_s = 300\n";
    job(&dir, &unique("outlives"), &[7], slow);
    let (lead, ctx) = open(&dir, 4_000).await;
    let tasks = lead.tasks().unwrap();
    drop(lead);
    let orphan = tokio::spawn({
        let ctx = ctx.clone();
        async move { publish_split(&tasks.orders[0], &tasks.pieces[0].1, "there", &ctx).await }
    });
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let session = session(&dir).await;
    let receipt = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    assert_eq!((receipt.acknowledged, receipt.rejected), (4_999, 1));
    assert!(
        (1..1_000).contains(&receipt.read_back),
        "{}",
        receipt.read_back
    );
    // It learns that the split is closed, and has closed nothing itself.
    assert_eq!(orphan.await.unwrap().unwrap().acknowledged, 0);
    once(&session, 4_999).await;
}

/// What an attempt elsewhere writes that dies in a transaction.
async fn died_in_a_transaction(session: &Session) -> KafkaTransport {
    let receipts = session.store.topics(session.id, "east").await.unwrap();
    let receipts = receipts.into_iter().find(|t| t.role == Role::Receipts);
    let ingress = session.topic("east", Role::Ingress).await.unwrap();
    let (cluster, job) = (session.cluster("east").unwrap(), session.id);
    let id = format!("{}.0.1", session.group("east"));
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = cluster.config().unwrap().create().unwrap();
        for what in [r#""claim","host":"there","lease_ms":2000"#, r#""begin""#] {
            let record = format!(
                r#"{{"version":1,"job":"{job}","split":0,"attempt":"dead","what":{what}}}"#
            );
            let topic = &receipts.as_ref().unwrap().name;
            let record = BaseRecord::<(), str>::to(topic)
                .partition(0)
                .payload(&record);
            producer.send(record).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        let timeout = Duration::from_secs(30);
        let mut options = ProduceOptions::new(&ingress.name, &BTreeMap::new(), "lz4", 8, timeout);
        options.transactional_id = Some(id);
        let mut transport = KafkaTransport::new(&cluster, &options, &Context::default()).unwrap();
        transport.begin().unwrap();
        send(&mut transport, job, (0..600).collect());
        transport
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transaction_of_an_attempt_that_died_is_ended_by_a_publish_here() {
    let dir = tempfile::tempdir().unwrap();
    job(&dir, &unique("left"), &[], "[topics]\ntransactional = true");
    let (lead, ctx) = open(&dir, 2_000).await;
    drop(lead);
    let session = session(&dir).await;
    let mut dead = died_in_a_transaction(&session).await;
    let receipt = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    assert_eq!((receipt.acknowledged, receipt.read_back), (5_000, 0));
    once(&session, 5_000).await;
    let refused = tokio::task::spawn_blocking(move || (dead.commit(), dead.fenced()));
    let (refused, fenced) = refused.await.unwrap();
    assert!(refused.is_err() && fenced, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_published_elsewhere_is_one_transaction() {
    let dir = tempfile::tempdir().unwrap();
    job(
        &dir,
        &unique("elsewhere"),
        &[3],
        "[topics]\ntransactional = true",
    );
    let (mut lead, ctx) = open(&dir, 4_000).await;
    let tasks = lead.tasks().unwrap();
    // Two at once, of one child job: each has a name of its own.
    let both = [0, 1].map(|at| {
        let (order, piece) = (tasks.orders[0].clone(), tasks.pieces[at].1.clone());
        let ctx = ctx.clone();
        tokio::spawn(async move { publish_split(&order, &piece, "there", &ctx).await })
    });
    for one in both {
        one.await.unwrap().unwrap();
    }
    all(&lead.tasks().unwrap(), &ctx).await;
    let receipt = lead.finish(&ctx).await.unwrap();
    assert_eq!((receipt.acknowledged, receipt.rejected), (4_999, 1));
    once(&session(&dir).await, 4_999).await;
}
