//! Whole jobs: what lands, and what the ledger says of every row.

use kappaflow_core::identity::HEADER;
use kappaflow_core::reconcile::{Cause, reconcile};
use kappaflow_core::status::{lag, status};
use kappaflow_core::store::{ChildState, Role};
use kappaflow_core::{Context, Error};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};
use roaring::RoaringBitmap;

use crate::world::{WAIT, World, row};

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_lands_once_and_every_row_is_explained() {
    let w = World::new("whole").await;
    // Nothing there yet: a land ends at once, and leaves no version.
    let nothing = w.land().await;
    assert_eq!((nothing.counts.landed, nothing.version), (0, 0));

    w.published(0, 470..480).await;
    w.answers(0, 0..400, 1);
    w.filtered(0, 400..450, "Cancelled");
    w.dead_letters(0, 450..470, "NotArrived: flight 12");
    for seq in 480..499 {
        w.answer(&w.producer, w.id(0, seq), 1, &[0, 1], 2);
    }
    // A worker died between the two answers of one input, and one batch was aborted.
    w.answer(&w.producer, w.id(0, 499), 1, &[0], 2);
    w.flush();
    let transactional: BaseProducer = ClientConfig::new()
        .set(
            "bootstrap.servers",
            std::env::var("KAPPAFLOW_TEST_KAFKA").unwrap(),
        )
        .set("transactional.id", w.session.id.to_string())
        .create()
        .unwrap();
    transactional.init_transactions(WAIT).unwrap();
    transactional.begin_transaction().unwrap();
    for seq in 0..50 {
        w.answer(&transactional, w.id(1, seq), 1, &[0], 1);
    }
    transactional.flush(WAIT).unwrap();
    transactional.abort_transaction(WAIT).unwrap();

    let first = w.land().await;
    assert_eq!((first.counts.landed, first.counts.inputs), (400 + 38, 419));
    assert_eq!(
        (first.counts.incomplete, first.version, first.orphans),
        (1, 1, 0)
    );
    assert_eq!(
        (
            first.counts.duplicates.re_read,
            first.counts.duplicates.re_published
        ),
        (0, 0)
    );
    let again = w.land().await;
    assert_eq!((again.counts.landed, again.version), (0, 1));

    let report = reconcile(&w.session, &Context::default()).await.unwrap();
    assert!(!report.explained);
    assert_eq!(report.missing, 501);
    assert_eq!(
        (report.missing_by.never_sent, report.missing_by.lost),
        (500, 1)
    );
    assert_eq!(report.missing_examples.len(), 20);
    assert_eq!(report.missing_examples[0].seq, 499);
    assert_eq!(report.missing_examples[1].row_in_file, 500);
    assert!(report.missing_file.unwrap().exists());
    let refused = reconcile(&w.session, &Context::default())
        .await
        .unwrap()
        .check()
        .unwrap_err();
    assert!(
        matches!(&refused, Error::Unexplained { missing: 501, .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("rows.parquet"), "{refused}");

    // The input is done again, with another worker; some others too; a dead letter is mended; the second split comes.
    w.answer(&w.producer, w.id(0, 499), 2, &[0, 1], 2);
    w.answers(0, 0..10, 2);
    w.answers(0, 450..451, 2);
    w.published(1, 0..0).await;
    w.answers(1, 0..500, 1);
    w.flush();
    let second = w.land().await;
    assert_eq!(
        (second.counts.landed, second.counts.inputs),
        (2 + 1 + 500, 502)
    );
    assert_eq!(
        (
            second.counts.incomplete,
            second.counts.duplicates.re_published
        ),
        (0, 10 + 1)
    );
    assert_eq!(second.version, 2);

    let wanted: Vec<[i64; 4]> = (0..400)
        .chain([450])
        .map(|seq| row(0, seq, 0))
        .chain((480..500).flat_map(|seq| [row(0, seq, 0), row(0, seq, 1)]))
        .chain((0..500).map(|seq| row(1, seq, 0)))
        .collect();
    assert_eq!(w.table(), wanted);

    let report = reconcile(&w.session, &Context::default()).await.unwrap();
    report.check().unwrap();
    assert_eq!(
        (report.expected, report.landed, report.landed_rows),
        (1_000, 921, 941)
    );
    assert_eq!(
        (report.filtered, report.dead_lettered, report.rejected),
        (50, 19, 10)
    );
    assert_eq!((report.missing, report.duplicated), (0, 0));
    assert_eq!((report.done_twice, report.mended), (11, 1));
    assert_eq!(report.missing_file, None);
    let cause = |fate, reason: &str, rows| Cause {
        fate,
        reason: reason.into(),
        rows,
    };
    let causes = [
        cause("filtered", "Cancelled", 50),
        cause("dead_lettered", "NotArrived", 19),
        cause("rejected", "x: has a fraction", 10),
    ];
    assert_eq!(report.by_cause, causes);
    let children = w.session.store.children(w.session.id).await.unwrap();
    assert_eq!(children[0].state, ChildState::Done);

    let now = status(&w.session, &Context::default()).await.unwrap();
    assert_eq!(
        (now.rows, now.splits.closed, now.table.rows),
        (1_000, 2, 941)
    );
    let lag = lag(&w.session, "east").await.unwrap();
    assert_eq!(lag.landed, lag.egress_end);
    assert!(lag.published && lag.lag == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_drops_is_expired_or_was_noted() {
    let w = World::new("expired").await;
    let (session, ctx) = (&w.session, Context::default());
    // Split 0: its rows are in the log, and no worker has passed them. Split 1 is filtered as a whole.
    let partition = w.id(0, 0).partition(3);
    let all: RoaringBitmap = (0..500).collect();
    let none = RoaringBitmap::new();
    for (split, ranges) in [(0, vec![(partition, 0, 499)]), (1, vec![])] {
        session
            .store
            .close_split(session.id, split, &all, &none, &ranges, &[])
            .await
            .unwrap();
    }
    for seq in 0..500 {
        let id: &[u8] = &w.id(0, seq).to_bytes();
        w.send(&w.producer, Role::Ingress, partition, &[(HEADER, id)], b"x");
    }
    w.filtered(1, 0..500, "Cancelled");
    w.flush();
    let report = reconcile(session, &ctx).await.unwrap();
    assert_eq!((report.filtered, report.missing_by.lost), (500, 500));
    assert!(
        report
            .notes
            .iter()
            .any(|n| n.contains("500 ingress records are not worked on"))
    );

    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set(
            "bootstrap.servers",
            std::env::var("KAPPAFLOW_TEST_KAFKA").unwrap(),
        )
        .create()
        .unwrap();
    let mut dropped = TopicPartitionList::new();
    for (role, partition) in [(Role::Ingress, partition), (Role::Verdict, 0)] {
        dropped
            .add_partition_offset(&session.topic_name("east", role), partition, Offset::End)
            .unwrap();
    }
    admin
        .delete_records(&dropped, &AdminOptions::new())
        .await
        .unwrap();
    let report = reconcile(session, &ctx).await.unwrap();
    assert_eq!((report.filtered, report.missing_by.expired), (500, 500));
    assert_eq!(
        report.by_cause[0].reason,
        "(noted before its record expired)"
    );
    assert!(
        report
            .notes
            .iter()
            .any(|n| n.contains("has lost offsets 0 to 1"))
    );
    assert!(
        report
            .check()
            .unwrap_err()
            .to_string()
            .contains("500 expired")
    );
}
