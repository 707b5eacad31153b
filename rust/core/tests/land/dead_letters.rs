//! Egress records that can't be landed: told of one by one, and the others land.

use std::collections::BTreeMap;

use kappaflow_avro::framing;
use kappaflow_core::identity::{EgressIdentity, HEADER, Identity};
use kappaflow_core::kafka::{header, read_ranges, since_start};
use kappaflow_core::land::{LandOptions, land};
use kappaflow_core::reconcile::{LedgerReport, reconcile};
use kappaflow_core::registry::SchemaText;
use kappaflow_core::store::Role;
use kappaflow_core::{Context, Error};
use rdkafka::message::Message;

use crate::world::{SCHEMA, World, row};

/// A dead letter as a reader of the topic sees it.
#[derive(Debug)]
struct Letter {
    id: Option<Identity>,
    headers: BTreeMap<&'static str, String>,
    payload: Vec<u8>,
}

async fn letters(w: &World) -> Vec<Letter> {
    let topic = w.session.topic("east", Role::Deadletter).await.unwrap();
    let cluster = w.session.cluster("east").unwrap();
    let read = tokio::task::spawn_blocking(move || {
        let ranges = since_start(&cluster, &topic).unwrap();
        let mut letters = Vec::new();
        read_ranges(
            &cluster,
            &topic.name,
            &ranges,
            "test",
            &Context::default(),
            |m| {
                let text = |name| {
                    let value = header(m, name)?;
                    Some((name, String::from_utf8_lossy(value).into_owned()))
                };
                let names = ["kf-stage", "kf-reason", "kf-origin", "kf-answer"];
                letters.push(Letter {
                    id: header(m, HEADER).map(|b| Identity::from_bytes(b).unwrap()),
                    headers: names.into_iter().filter_map(text).collect(),
                    payload: m.payload().unwrap_or_default().to_vec(),
                });
                Ok(())
            },
        )
        .unwrap();
        let offset = |letter: &Letter| -> i64 {
            let (_, offset) = letter.headers["kf-origin"].rsplit_once('/').unwrap();
            offset.parse().unwrap()
        };
        letters.sort_by_key(offset);
        letters
    });
    read.await.unwrap()
}

async fn ledger(w: &World) -> LedgerReport {
    reconcile(&w.session, &Context::default()).await.unwrap()
}

fn answer_of(input: Identity, child: u32, of: u32) -> Vec<u8> {
    let attempt = 1;
    EgressIdentity {
        input,
        attempt,
        child,
        of,
    }
    .to_bytes()
    .to_vec()
}

/// Sends an answer with this payload to partition 0.
fn send(w: &World, id: &[u8], payload: &[u8]) {
    w.send(&w.producer, Role::Egress, 0, &[(HEADER, id)], payload);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_landed_is_told_and_the_others_land() {
    let w = World::new("strange").await;
    let registry = w.session.registry("east").unwrap();
    let another = SchemaText::whole(SCHEMA.replace("long", "string"));
    let strings = registry.register("another", &another, false).unwrap().id;
    let good = w.frame(Role::Egress);
    for split in 0..2 {
        w.published(split, 0..0).await;
    }
    w.answers(0, 10..500, 1);
    w.answers(1, 0..500, 1);
    // Another job's record is passed over.
    let mut other = w.id(0, 7);
    other.job.0 ^= 1;
    w.answer(&w.producer, other, 1, &[0], 1);
    // Of nobody, of a layout to come, and of a row that there isn't: letters that are of no row.
    w.send(&w.producer, Role::Egress, 0, &[], b"hello");
    send(&w, &[9; 29], b"hello");
    send(&w, &answer_of(w.id(0, 500), 0, 1), &good);
    // Of rows: no schema, one that is gone, one that is another's, and bytes that are cut off.
    send(&w, &answer_of(w.id(0, 0), 0, 1), b"");
    let unknown = [&framing::bytes(9_999)[..], &[2]].concat();
    send(&w, &answer_of(w.id(0, 1), 0, 1), &unknown);
    let others = [&framing::bytes(strings)[..], &[2, b'a']].concat();
    send(&w, &answer_of(w.id(0, 2), 0, 1), &others);
    send(&w, &answer_of(w.id(0, 3), 0, 1), &good);
    // A family with one that can't be read is told of whole; the next attempt's lands.
    for (child, rest) in [(0, &[2][..]), (1, &[]), (2, &[4])] {
        let payload = [&good[..], rest].concat();
        send(&w, &answer_of(w.id(0, 4), child, 3), &payload);
        send(&w, &answer_of(w.id(0, 5), child, 3), &payload);
    }
    w.answer(&w.producer, w.id(0, 5), 2, &[0, 1], 2);
    send(&w, &answer_of(w.id(0, 6), 3, 3), &good);
    w.flush();

    let landed = w.land().await;
    assert_eq!(
        (
            landed.counts.landed,
            landed.counts.dead_lettered,
            landed.counts.foreign
        ),
        (992, 14, 1)
    );
    assert_eq!((landed.counts.incomplete, landed.orphans), (0, 0));
    let letters = letters(&w).await;
    assert_eq!(letters.len(), 14);
    let of = |seq: u32| -> Vec<&Letter> {
        let id = Some(w.id(0, seq));
        letters.iter().filter(|l| l.id == id).collect()
    };
    let reason = |seq: u32| of(seq)[0].headers["kf-reason"].clone();
    assert!(reason(0).starts_with("names no schema: "), "{}", reason(0));
    let gone = "was written with schema id 9999, which is not known: ";
    assert!(reason(1).starts_with(gone), "{}", reason(1));
    let wrong =
        format!("was written with schema id {strings}, which the job's schema.egress can't read: ");
    assert!(reason(2).starts_with(&wrong));
    assert!(reason(2).contains("x: the writer's string can't be read as long"));
    assert!(reason(3).starts_with("can't be decoded as Answer: x: "));
    assert!(reason(6).starts_with("can't be of a family: it says to be answer 3 of 3"));
    let family = of(4);
    assert_eq!(family.len(), 3);
    assert!(family[0].headers["kf-reason"].starts_with("is of a family that can't land: offset "));
    assert!(family[1].headers["kf-reason"].starts_with("can't be decoded as Answer: "));
    assert_eq!(family[2].headers["kf-answer"], "1/2/3");
    assert_eq!(family[2].payload, [&good[..], &[4]].concat());
    let nobodys: Vec<&Letter> = letters.iter().filter(|l| l.id.is_none()).collect();
    let reasons = nobodys.iter().map(|l| l.headers["kf-reason"].as_str());
    let reasons: Vec<&str> = reasons.collect();
    assert!(reasons.contains(&"has no header kf-id"), "{reasons:?}");
    assert!(reasons.iter().any(|r| r.starts_with("is nobody's: ")));
    let no_row = "answers a row that the job does not have: 500 of split 0";
    assert!(reasons.contains(&no_row));
    assert!(letters.iter().all(|l| l.headers["kf-stage"] == "land"));

    // Every row has its fate, and what can't be landed is not told of again.
    let report = ledger(&w).await;
    assert_eq!(
        (report.landed, report.dead_lettered, report.missing),
        (991, 6, 3)
    );
    assert_eq!((report.mended, report.done_twice), (1, 0));
    assert!(
        report
            .by_cause
            .iter()
            .any(|c| c.fate == "dead_lettered" && c.reason == "can't be decoded as Answer")
    );
    let said = "3 records of";
    assert!(report.notes.iter().any(|n| n.starts_with(said)));
    assert_eq!(w.land().await.counts.dead_lettered, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_a_lander_that_died_are_not_sent_again_and_too_many_stop_it() {
    let w = World::with("many", "max_dead_letters = 3").await;
    for seq in 0..3 {
        send(&w, &answer_of(w.id(0, seq), 0, 1), b"");
    }
    w.answer(&w.producer, w.id(0, 100), 1, &[0], 1);
    w.flush();
    // As if it had been killed between the letters and the commit: the table forgets.
    assert_eq!(w.land().await.counts.dead_lettered, 3);
    std::fs::remove_dir_all(w.dir.path().join("landed")).unwrap();
    let again = w.land().await;
    assert_eq!((again.counts.landed, again.counts.dead_lettered), (1, 3));
    assert_eq!(letters(&w).await.len(), 3);
    assert_eq!(w.table(), [row(0, 100, 0)]);

    send(&w, &answer_of(w.id(0, 3), 0, 1), b"");
    w.answer(&w.producer, w.id(0, 101), 1, &[0], 1);
    w.flush();
    let stopped = land(&w.session, LandOptions::default(), &Context::default()).await;
    let error = stopped.unwrap_err();
    assert!(matches!(error, Error::TooManyDeadLetters { limit: 3, .. }));
    let e = error.to_string();
    assert!(e.contains("4 × names no schema"), "{e}");
    assert_eq!(w.table().len(), 1);
}
