//! After every row is explained: the ingress topics are emptied or deleted, if the job says so.

use rdkafka::{Offset, TopicPartitionList};

use crate::context::Context;
use crate::error::Result;
use crate::job::Cleanup;
use crate::kafka::Cluster;
use crate::session::Session;
use crate::store::{Role, TopicRow};

/// Does what `topics.cleanup` says, in every region that the job was in; says what it did. Safe to repeat: what was
/// deleted before is left alone.
///
/// # Errors
/// [`crate::Error::Kafka`] or [`crate::Error::Topic`] if the broker refuses; [`crate::Error::Store`].
pub async fn cleanup(session: &Session, ctx: &Context) -> Result<Vec<String>> {
    let mut done = Vec::new();
    let what = session.job.file.topics.cleanup;
    if what == Cleanup::Keep {
        return Ok(done);
    }
    for region in &session.job.file.regions {
        ctx.check("reconcile")?;
        let topics = session.store.topics(session.id, &region.name).await?;
        let Some(topic) = topics.into_iter().find(|t| t.role == Role::Ingress) else {
            continue;
        };
        let cluster = session.cluster(&region.name)?;
        if what == Cleanup::Delete {
            // First: a deletion whose answer is lost must not look like a topic that is gone by itself.
            let (store, job) = (&session.store, session.id);
            store
                .topic_removed(job, &region.name, Role::Ingress)
                .await?;
        }
        let name = topic.name.clone();
        let ours = cluster
            .blocking(move |cluster| Ok(is_ours(cluster, &topic)?.then_some(topic)))
            .await?;
        let Some(topic) = ours else { continue };
        done.push(match what {
            Cleanup::Delete => {
                cluster.delete_topic(&name).await?;
                format!("{name} is deleted (topics.cleanup)")
            }
            _ => {
                let records = empty(&cluster, &topic).await?;
                format!("{name} is emptied of {records} records (topics.cleanup)")
            }
        });
    }
    Ok(done)
}

/// Whether the topic is there, and is the one that the job used: another of its name is not ours to clean.
fn is_ours(cluster: &Cluster, topic: &TopicRow) -> Result<bool> {
    let facts = cluster.topic(&topic.name)?;
    Ok(facts.is_some_and(|now| {
        (&now.cluster_id, &now.topic_id) == (&topic.cluster_id, &topic.topic_id)
    }))
}

async fn empty(cluster: &Cluster, topic: &TopicRow) -> Result<i64> {
    let (name, partitions) = (topic.name.clone(), topic.partitions);
    let ends = cluster
        .blocking(move |cluster| cluster.watermarks(&name, partitions))
        .await?;
    let (mut upto, mut records) = (TopicPartitionList::new(), 0);
    for (partition, low, end) in ends {
        if low < end {
            records += end - low;
            upto.add_partition_offset(&topic.name, partition, Offset::Offset(end))
                .map_err(|e| cluster.error("name the offsets to delete", e))?;
        }
    }
    if records > 0 {
        cluster.delete_records(&upto).await?;
    }
    Ok(records)
}
