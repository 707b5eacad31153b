//! The store: reservations under many dispatchers, fencing tokens, and what it refuses.

use std::path::Path;

use kappaflow_core::Error;
use kappaflow_core::dispatch::choose;
use kappaflow_core::identity::JobId;
use kappaflow_core::snapshot::{Snapshot, Split};
use kappaflow_core::store::{ChildState, JobRow, Role, Store, TopicRow};

const JOB: JobId = JobId(7);

fn row(id: JobId, fingerprint: &str) -> JobRow {
    JobRow {
        id,
        fingerprint: fingerprint.into(),
        name: "job".into(),
        params: "{}".into(),
        resolved: String::new(),
        snapshot: Snapshot {
            root: "/".into(),
            files: Vec::new(),
            planned: None,
            view: Default::default(),
            reach: Default::default(),
        },
    }
}

/// A job of `children` child jobs, of 10, 20, 30, 10, … rows.
fn splits(children: u32) -> Vec<Split> {
    (0..children)
        .map(|split| Split {
            split,
            child: format!("c{split:03}"),
            file: 0,
            row_group_first: split as usize,
            row_group_count: 1,
            first_row: 0,
            rows: 10 * (1 + split % 3),
        })
        .collect()
}

async fn open(dir: &Path) -> Store {
    Store::open("sqlite:store.db", dir).await.unwrap()
}

async fn with_job(dir: &Path, children: u32, caps: &[(&str, u64)]) -> Store {
    let store = open(dir).await;
    store
        .put_job(&row(JOB, "f"), &splits(children))
        .await
        .unwrap();
    for (name, cap) in caps {
        store.put_region(name, "127.0.0.1:1", *cap).await.unwrap();
    }
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_dispatchers_never_overcommit_and_place_each_child_once() {
    let dir = tempfile::tempdir().unwrap();
    with_job(dir.path(), 60, &[("east", 300), ("west", 250)]).await;
    let names = vec!["east".to_owned(), "west".to_owned()];
    let dispatchers: Vec<_> = (0..8)
        .map(|seat| {
            let (path, names) = (dir.path().to_path_buf(), names.clone());
            tokio::spawn(async move {
                // Each its own pool, as dispatchers in processes of their own have.
                let store = open(&path).await;
                let mut order: Vec<u32> = (0..60).collect();
                order.rotate_left(seat * 7);
                for child in order {
                    let name = format!("c{child:03}");
                    store.reserve(JOB, &name, &names, choose).await.unwrap();
                    for region in store.regions().await.unwrap() {
                        assert!(
                            region.active + region.queued <= region.cap_max,
                            "{region:?}"
                        );
                    }
                    if child % 5 == 0 {
                        store.activate(JOB, &name).await.unwrap();
                    }
                    if child % 10 == 0 {
                        store.release(JOB, &name).await.unwrap();
                        store.release(JOB, &name).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for dispatcher in dispatchers {
        dispatcher.await.unwrap();
    }
    let store = open(dir.path()).await;
    let children = store.children(JOB).await.unwrap();
    let mut tokens: Vec<i64> = children
        .iter()
        .filter(|c| c.region.is_some())
        .map(|c| c.token)
        .collect();
    tokens.sort_unstable();
    tokens.dedup();
    let placed = children.iter().filter(|c| c.region.is_some()).count();
    assert_eq!(tokens.len(), placed, "a token was given twice");
    let held: u64 = children
        .iter()
        .filter(|c| matches!(c.state, ChildState::Queued | ChildState::Active))
        .map(|c| c.rows)
        .sum();
    let regions = store.regions().await.unwrap();
    assert_eq!(
        regions.iter().map(|r| r.active + r.queued).sum::<u64>(),
        held
    );
    // No waiting child fits anywhere: room that is there was used.
    let smallest = children
        .iter()
        .filter(|c| c.state == ChildState::Waiting)
        .map(|c| c.rows)
        .min();
    assert!(
        regions
            .iter()
            .all(|r| smallest.is_none_or(|rows| r.headroom() < rows))
    );
}

#[tokio::test]
async fn a_released_child_gives_its_room_back_once_and_stays_done() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_job(dir.path(), 1, &[("east", 10)]).await;
    let names = vec!["east".to_owned()];
    let placed = store
        .reserve(JOB, "c000", &names, choose)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (placed.state, placed.region.as_deref()),
        (ChildState::Queued, Some("east"))
    );
    assert_eq!(
        store.reserve(JOB, "c000", &names, choose).await.unwrap(),
        Some(placed)
    );
    store.release(JOB, "c000").await.unwrap();
    store.release(JOB, "c000").await.unwrap();
    assert_eq!(store.regions().await.unwrap()[0].headroom(), 10);
    store.activate(JOB, "c000").await.unwrap();
    assert_eq!(
        store.children(JOB).await.unwrap()[0].state,
        ChildState::Done
    );
    assert_eq!(
        store.reserve(JOB, "unknown", &names, choose).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn a_job_is_noted_once_and_another_with_its_id_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_job(dir.path(), 2, &[]).await;
    store.put_job(&row(JOB, "f"), &splits(2)).await.unwrap();
    assert_eq!(store.splits(JOB, None).await.unwrap().len(), 2);
    let clash = store
        .put_job(&row(JOB, "other"), &splits(2))
        .await
        .unwrap_err();
    assert!(matches!(clash, Error::Store { .. }), "{clash:?}");
    assert!(clash.to_string().contains("0000000000000007"), "{clash}");
    assert!(store.job(JOB).await.unwrap().is_some());
    assert!(store.job(JobId(8)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_recreated_topic_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_job(dir.path(), 1, &[("east", 10)]).await;
    let topic = TopicRow {
        region: "east".into(),
        role: Role::Ingress,
        name: "in".into(),
        cluster_id: "c".into(),
        topic_id: "t1".into(),
        partitions: 2,
        start: vec![(0, 0), (1, 5)],
        removed: false,
    };
    store.put_topic(JOB, &topic).await.unwrap();
    store.put_topic(JOB, &topic).await.unwrap();
    assert_eq!(
        store.topics(JOB, "east").await.unwrap(),
        std::slice::from_ref(&topic)
    );
    store
        .topic_removed(JOB, "east", Role::Ingress)
        .await
        .unwrap();
    assert!(store.topics(JOB, "east").await.unwrap()[0].removed);
    let again = TopicRow {
        topic_id: "t2".into(),
        ..topic
    };
    let error = store.put_topic(JOB, &again).await.unwrap_err();
    assert!(matches!(error, Error::Topic { .. }), "{error:?}");
    assert!(error.to_string().contains("recreated"), "{error}");
}

#[tokio::test]
async fn a_store_of_another_kind_or_of_a_newer_build_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::open("mysql:x", dir.path())
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(error.to_string().contains("sqlite:PATH"), "{error}");
    drop(open(dir.path()).await);
    let pool =
        sqlx::SqlitePool::connect(&format!("sqlite:{}", dir.path().join("store.db").display()))
            .await
            .unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', TRUE, X'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    let error = Store::open("sqlite:store.db", dir.path())
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(error.to_string().contains("newer KappaFlow"), "{error}");
}

#[tokio::test]
async fn counters_only_grow_whoever_asks() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (open(dir.path()).await, open(dir.path()).await);
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(a.next("attempt").await.unwrap());
        seen.push(b.next("attempt").await.unwrap());
    }
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_new_store_is_made_by_many_at_once() {
    for _ in 0..50 {
        let dir = tempfile::TempDir::new().unwrap();
        let openings: Vec<_> = (0..8)
            .map(|_| {
                let dir = dir.path().to_path_buf();
                tokio::spawn(async move { Store::open("sqlite:store.db", &dir).await })
            })
            .collect();
        for opening in openings {
            opening.await.unwrap().unwrap();
        }
    }
}
