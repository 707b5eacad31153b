//! Topics that are not what the job would like.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use kappaflow_core::Error;
use kappaflow_core::publish::{PublishOptions, publish};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_small_topic_takes_what_fits_and_a_new_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let name = unique("small");
    let job = job(&dir, &name, &[], "");
    let text = std::fs::read_to_string(&job).unwrap();
    let text = text.replace(
        "[service]",
        &format!("[topics]\ntemplate = \"{name}.{{role}}\"\ncompression = \"none\"\n[service]"),
    );
    std::fs::write(&job, text).unwrap();
    let id: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
    let text: ArrayRef = Arc::new(StringArray::from(vec![
        "short".to_owned(),
        "long ".repeat(10_000),
    ]));
    let large = RecordBatch::try_from_iter([("id", id), ("text", text)]).unwrap();
    write(&dir.path().join("data/m=3/part-0.parquet"), &large, 500);

    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka())
        .create()
        .unwrap();
    let topic_name = format!("{name}.ingress");
    let new =
        NewTopic::new(&topic_name, 6, TopicReplication::Fixed(1)).set("max.message.bytes", "20000");
    admin
        .create_topics([&new], &AdminOptions::new())
        .await
        .unwrap();
    let (session, ctx) = dispatched(&job).await;
    let receipt = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    assert_eq!((receipt.acknowledged, receipt.rejected), (5_001, 1));
    assert!(
        receipt.rejects[0].reason.contains("20000"),
        "{:?}",
        receipt.rejects
    );

    // A topic of the same name that is another one: what the job had sent is gone.
    admin
        .delete_topics(&[&topic_name], &AdminOptions::new())
        .await
        .unwrap();
    let cluster = session.cluster("east").unwrap();
    for _ in 0..50 {
        let (c, t) = (cluster.clone(), topic_name.clone());
        if tokio::task::spawn_blocking(move || c.topic(&t))
            .await
            .unwrap()
            .unwrap()
            .is_none()
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    admin
        .create_topics([&new], &AdminOptions::new())
        .await
        .unwrap();
    // A split that a publisher has left open.
    let pool = sqlx::SqlitePool::connect(&format!(
        "sqlite:{}",
        dir.path().join(".kappaflow/store.db").display()
    ))
    .await
    .unwrap();
    sqlx::query("UPDATE split SET state = 'open' WHERE split = 0")
        .execute(&pool)
        .await
        .unwrap();
    let error = publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Topic { topic, .. } if *topic == topic_name),
        "{error}"
    );
    assert!(error.to_string().contains("made anew"), "{error}");
}
