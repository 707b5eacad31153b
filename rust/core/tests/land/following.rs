//! Landing on and on, in commits.

use std::time::Duration;

use kappaflow_core::land::{LandOptions, LandUntil};

use crate::world::World;

const SOON: &str = "commit_ms = 200";

fn on_and_on() -> LandOptions {
    LandOptions {
        until: LandUntil::Stopped,
        ..LandOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lander_that_follows_commits_now_and_then_and_when_it_is_told_to_stop() {
    let w = World::with("follow", SOON).await;
    let (cancel, landing) = w.lander(on_and_on()).await;
    w.answers(0, 0..200, 1);
    w.flush();
    w.until_landed(200).await;
    // One of two answers: nothing of the input lands, and what comes behind it does.
    w.answer(&w.producer, w.id(1, 0), 1, &[0], 2);
    w.answers(1, 1..100, 1);
    w.flush();
    w.until_landed(299).await;
    w.answer(&w.producer, w.id(1, 0), 1, &[1], 2);
    w.answers(0, 190..210, 2);
    w.flush();
    w.until_landed(311).await;
    w.answers(0, 300..320, 1);
    w.flush();
    cancel.cancel();
    let landed = landing.await.unwrap().unwrap();
    let left = w.land().await;
    assert_eq!(landed.counts.landed + left.counts.landed, 331);
    assert_eq!(w.table().len(), 331);
    assert_eq!(
        (
            landed.counts.inputs + left.counts.inputs,
            landed.counts.incomplete
        ),
        (330, 0)
    );
    assert_eq!(landed.counts.duplicates.re_published, 10);
    assert!(landed.regions[0].commits >= 3);
    let records = landed.regions[0].records + left.regions[0].records;
    assert_eq!(records, 200 + 1 + 99 + 1 + 20 + 20);
    assert_eq!(w.land().await.counts.landed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn landers_that_follow_side_by_side_land_each_input_once() {
    let w = World::with("rivals", SOON).await;
    let rivals = [w.lander(on_and_on()).await, w.lander(on_and_on()).await];
    for from in (0..500).step_by(50) {
        w.answers(0, from..from + 50, 1);
        w.flush();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    w.until_landed(500).await;
    let mut landed = 0;
    for (cancel, landing) in rivals {
        cancel.cancel();
        // The one that keeps coming second may have given way, and says so.
        landed += landing
            .await
            .unwrap()
            .map_or(0, |summary| summary.counts.landed);
    }
    assert!(landed <= 500);
    assert_eq!(w.table().len(), 500);
    assert_eq!(w.land().await.counts.landed, 0);
}
