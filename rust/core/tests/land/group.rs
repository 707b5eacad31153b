//! Several landers that share the partitions of a region.

use std::collections::BTreeSet;

use kappaflow_core::land::{LandOptions, LandSummary, LandUntil};

use crate::world::{World, row};

fn shared(until: LandUntil) -> LandOptions {
    LandOptions {
        until,
        shared: true,
        ..LandOptions::default()
    }
}

fn advanced(landed: &LandSummary) -> BTreeSet<i32> {
    let offsets = landed.regions.iter().flat_map(|r| &r.offsets);
    let moved = offsets.filter(|o| o.end > o.start);
    moved.map(|o| o.partition).collect()
}

fn all() -> Vec<[i64; 4]> {
    (0..1_000).map(|n| row(n / 500, n % 500, 0)).collect()
}

/// All rows, spread over the three partitions as a duplicate of each would be.
fn answer_all(w: &World) {
    for split in 0..2 {
        for seq in 0..500 {
            w.answer(&w.producer, w.id(split, seq), 1, &[0], 1);
        }
    }
    w.flush();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lands_its_share_and_ends_when_all_is_landed() {
    let w = World::new("shares").await;
    // Splits of one job may begin at one partition: 1,000 rows in a row share it.
    answer_all(&w);
    let mut landers = Vec::new();
    for _ in 0..2 {
        landers.push(w.lander(shared(LandUntil::Now)).await.1);
    }
    let mut landed = Vec::new();
    for lander in landers {
        landed.push(lander.await.unwrap().unwrap());
    }
    assert_eq!(landed.iter().map(|l| l.counts.landed).sum::<u64>(), 1_000);
    let (one, two) = (advanced(&landed[0]), advanced(&landed[1]));
    assert!(one.is_disjoint(&two), "{one:?} {two:?}");
    assert_eq!(w.table(), all());
    // One alone does it all, and a lander that shares with nobody finds nothing left.
    let (_, alone) = w.lander(shared(LandUntil::Now)).await;
    assert_eq!(alone.await.unwrap().unwrap().counts.landed, 0);
    assert_eq!(w.land().await.counts.landed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_go_on_take_over_what_others_leave() {
    let w = World::with("takeover", "commit_ms = 200").await;
    let (stop_one, one) = w.lander(shared(LandUntil::Stopped)).await;
    for seq in 0..250 {
        w.answer(&w.producer, w.id(0, seq), 1, &[0], 1);
    }
    w.flush();
    w.until_landed(250).await;
    // A second one joins, and the first one leaves with what it has read.
    let (stop_two, two) = w.lander(shared(LandUntil::Stopped)).await;
    for split in 0..2 {
        for seq in 250..500 {
            w.answer(&w.producer, w.id(split, seq), 1, &[0], 1);
        }
    }
    w.flush();
    w.until_landed(750).await;
    stop_one.cancel();
    let first = one.await.unwrap().unwrap();
    for seq in 0..250 {
        w.answer(&w.producer, w.id(1, seq), 1, &[0], 1);
    }
    w.flush();
    w.until_landed(1_000).await;
    stop_two.cancel();
    let second = two.await.unwrap().unwrap();
    assert_eq!(first.counts.landed + second.counts.landed, 1_000);
    assert!(second.counts.landed >= 250);
    assert_eq!(w.table(), all());
    assert_eq!(second.orphans, 0);
}
