//! Kills, races, and what cannot be landed.

use std::collections::BTreeMap;
use std::time::Duration;

use kappaflow_avro::framing;
use kappaflow_core::identity::{EgressIdentity, HEADER};
use kappaflow_core::job::Topics;
use kappaflow_core::kafka::Wish;
use kappaflow_core::land::{LandOptions, land};
use kappaflow_core::registry::SchemaText;
use kappaflow_core::store::Role;
use kappaflow_core::{Context, Error, Session};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use crate::world::{WAIT, World, row};

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_and_racing_landers_leave_the_same_table() {
    let w = World::new("race").await;
    w.answers(0, 0..500, 1);
    w.answers(1, 0..500, 1);
    w.flush();
    let stopped = Context::default();
    stopped.cancel.cancel();
    let interrupted = land(&w.session, LandOptions::default(), &stopped).await;
    assert!(matches!(
        interrupted,
        Err(Error::Interrupted { stage: "land" })
    ));
    // As a kill leaves it: a whole data file that no commit names.
    let orphan = w.dir.path().join("landed/data/killed.parquet");
    std::fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    std::fs::write(&orphan, "PAR1").unwrap();
    assert_eq!(w.table().len(), 0);

    let both = tokio::join!(w.land(), w.land(), w.land());
    assert_eq!(
        both.0.counts.landed + both.1.counts.landed + both.2.counts.landed,
        1_000
    );
    assert_eq!(w.table().len(), 1_000);
    let once = w.land().await;
    assert_eq!((once.counts.landed, once.orphans, once.version), (0, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_topic_of_the_same_name_is_refused() {
    // A topic that was deleted and made again is not the one the job began with.
    let w = World::new("recreated").await;
    let topic = w.session.topic_name("east", Role::Egress);
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set(
            "bootstrap.servers",
            std::env::var("KAPPAFLOW_TEST_KAFKA").unwrap(),
        )
        .create()
        .unwrap();
    let options = AdminOptions::new().operation_timeout(Some(WAIT));
    admin.delete_topics(&[&topic], &options).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let cluster = w.session.cluster("east").unwrap();
    let three = Topics {
        partitions: Some(3),
        ..Topics::default()
    };
    let wish = Wish::of(&three, 0);
    cluster.ensure_topic(&topic, &wish).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let refused = land(&w.session, LandOptions::default(), &Context::default()).await;
    let e = refused.unwrap_err().to_string();
    assert!(e.contains("recreated"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_an_evolved_schema_land_as_the_jobs_columns() {
    let w = World::new("evolved").await;
    let registry = w.session.registry("east").unwrap();
    // A narrower number, behind a field that the job knows nothing of.
    let evolved = r#"{"type":"record","name":"Answer","fields":[
        {"name":"note","type":"string"},{"name":"x","type":"int"}]}"#;
    let text = SchemaText::whole(evolved);
    let id = registry.register("another", &text, false).unwrap().id;
    for seq in 0..100 {
        if seq % 3 > 0 {
            w.answer(&w.producer, w.id(0, seq), 1, &[0], 1);
            continue;
        }
        let input = w.id(0, seq);
        let header = EgressIdentity {
            input,
            attempt: 1,
            child: 0,
            of: 1,
        };
        let header: &[u8] = &header.to_bytes();
        // The note "a", and the row's number in zigzag.
        let z = seq << 1;
        let mut payload = [&framing::bytes(id)[..], &[2, b'a']].concat();
        payload.extend([(z & 0x7f) as u8 | 0x80, (z >> 7) as u8]);
        let (partition, headers) = (input.partition(3), [(HEADER, header)]);
        w.send(&w.producer, Role::Egress, partition, &headers, &payload);
    }
    w.flush();
    assert_eq!(w.land().await.counts.landed, 100);
    let wanted: Vec<[i64; 4]> = (0..100).map(|seq| row(0, seq, 0)).collect();
    assert_eq!(w.table(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lander_may_be_killed_at_any_point() {
    // The processes it kills are this test again, with a job to land.
    if let Some(job) = std::env::var_os("KAPPAFLOW_TEST_JOB") {
        let session = Session::open(job.as_ref(), &BTreeMap::new()).await.unwrap();
        land(&session, LandOptions::default(), &Context::default())
            .await
            .unwrap();
        return;
    }
    let w = World::new("kill").await;
    let job = w.dir.path().join("job.toml");
    let all: Vec<u32> = (0..20).collect();
    for round in 0..10 {
        // 100 inputs of 20 answers each; some families are still incomplete when the round's lander begins.
        for seq in round * 50..(round + 1) * 50 {
            for split in 0..2 {
                let id = w.id(split, seq);
                w.answer(
                    &w.producer,
                    id,
                    1,
                    &all[..if seq % 50 > 45 { 7 } else { 20 }],
                    20,
                );
            }
        }
        w.flush();
        let mut lander = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "faults::a_lander_may_be_killed_at_any_point"])
            .env("KAPPAFLOW_TEST_JOB", &job)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(150 + 60 * u64::from(round))).await;
        lander.kill().unwrap();
        lander.wait().unwrap();
        // Whatever it left, readers see whole families, each once.
        let rows = w.table();
        assert!(rows.is_sorted_by(|a, b| a < b) && rows.len() % 20 == 0);
        for seq in (round * 50..(round + 1) * 50).filter(|seq| seq % 50 > 45) {
            for split in 0..2 {
                w.answer(&w.producer, w.id(split, seq), 1, &all[7..], 20);
            }
        }
    }
    w.flush();
    let last = w.land().await;
    eprintln!("{} commits, {} orphans", last.version, last.orphans);
    assert_eq!(
        (last.counts.incomplete, last.counts.duplicates.re_published),
        (0, 0)
    );
    let wanted: Vec<[i64; 4]> = (0..1_000)
        .flat_map(|row| (0..20).map(move |child| (row, child)))
        .map(|(n, child)| row(n / 500, n % 500, child))
        .collect();
    assert_eq!(w.table(), wanted);
}
