//! Topics as a job needs them: made if they are missing and may be, checked if they are there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use super::{Cluster, TopicFacts};
use crate::error::{Error, Result};
use crate::job::{CreateTopics, Topics};

/// Partitions of a topic that we create where nobody says how many.
pub const DEFAULT_PARTITIONS: u32 = 6;
/// Kafka's own `message.timestamp.after.max.ms`, in milliseconds.
const AFTER_MAX_MS: i64 = 3_600_000;

/// What is done about a topic that there is not.
#[derive(Clone, Debug)]
pub enum IfMissing {
    Create,
    /// An error, with this reason.
    Refuse(String),
}

/// What is asked of a topic.
#[derive(Clone, Debug)]
pub struct Wish {
    pub if_missing: IfMissing,
    pub partitions: Option<u32>,
    pub replication: Option<u32>,
    /// How long it keeps records, in milliseconds; -1: for ever.
    pub retention_ms: Option<i64>,
    /// Records must be kept this long, in milliseconds.
    pub deadline_ms: u64,
    /// Records carry times of their own.
    pub own_times: bool,
}

impl Wish {
    /// What a job asks of each of its topics.
    pub fn of(topics: &Topics, deadline_ms: u64) -> Self {
        let partitions = topics.partitions.unwrap_or(DEFAULT_PARTITIONS);
        Self {
            if_missing: match topics.create {
                CreateTopics::IfMissing => IfMissing::Create,
                CreateTopics::Never => IfMissing::Refuse(format!(
                    "does not exist and topics.create = \"never\"; ask for it with {partitions} partitions"
                )),
            },
            partitions: topics.partitions,
            replication: topics.replication,
            retention_ms: topics.retention_ms,
            deadline_ms,
            own_times: false,
        }
    }

    /// What a topic's options have that this job can't have.
    pub fn wrong(&self, facts: &TopicFacts, options: &BTreeMap<String, String>) -> Option<String> {
        let option = |name: &str| options.get(name).map(String::as_str);
        if let Some(wanted) = self.partitions.filter(|n| *n != facts.partitions) {
            return Some(format!(
                "has {} partitions, and topics.partitions asks for {wanted}; leave that out, or give the topic's number",
                facts.partitions
            ));
        }
        if let Some(wanted) = self.replication.filter(|n| *n > facts.replication) {
            return Some(format!(
                "has {} replicas, and topics.replication asks for {wanted}",
                facts.replication
            ));
        }
        if let Some(policy) = option("cleanup.policy").filter(|p| p.contains("compact")) {
            return Some(format!(
                "has cleanup.policy = {policy}, which removes records with the key of a later one; a job needs delete"
            ));
        }
        if self.own_times && option("message.timestamp.type") == Some("LogAppendTime") {
            return Some(
                "has message.timestamp.type = LogAppendTime, which overwrites the times that topics.timestamp_column gives".into(),
            );
        }
        // What can't be read can't be checked.
        let kept = option("retention.ms").and_then(|v| v.parse::<i64>().ok())?;
        if kept < 0 {
            return None;
        }
        if self.own_times {
            return Some(format!(
                "has retention.ms = {kept}, counted from the times that topics.timestamp_column gives: older records would be gone at once. It needs retention.ms = -1"
            ));
        }
        match self.retention_ms {
            Some(wanted) if wanted < 0 || wanted > kept => {
                return Some(format!(
                    "keeps records for {kept} ms (retention.ms), and topics.retention_ms asks for {wanted}"
                ));
            }
            _ => {}
        }
        (u64::try_from(kept).is_ok_and(|kept| kept < self.deadline_ms)).then(|| {
            format!(
                "keeps records for {kept} ms (retention.ms), less than the job may take (limits.job_deadline_ms = {}): what is not yet read would be gone",
                self.deadline_ms
            )
        })
    }
}

fn not_cleaned(topic: &str, what: &str, reason: &str) -> Error {
    let reason = format!(
        "can't be {what}, which topics.cleanup asks for: {reason}. Give the right to delete it, or take topics.cleanup out; every row is explained already"
    );
    refused(topic, reason)
}

impl Cluster {
    /// The facts of a topic that is as it is wished, which is created if it is missing and may be.
    ///
    /// # Errors
    /// [`Error::Topic`] says what is missing or wrong; [`Error::Kafka`].
    pub async fn ensure_topic(&self, topic: &str, wish: &Wish) -> Result<TopicFacts> {
        let facts = match self.described(topic).await? {
            Some(facts) => facts,
            None => match &wish.if_missing {
                IfMissing::Create => self.create_topic(topic, wish).await?,
                IfMissing::Refuse(reason) => return Err(refused(topic, reason.clone())),
            },
        };
        let options = self.topic_options(topic).await;
        match wish.wrong(&facts, &options) {
            None => Ok(facts),
            Some(reason) => Err(refused(topic, reason)),
        }
    }

    async fn described(&self, topic: &str) -> Result<Option<TopicFacts>> {
        let topic = topic.to_owned();
        self.blocking(move |cluster| cluster.topic(&topic)).await
    }

    /// Runs a call that blocks on a thread where it may.
    pub async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let owned = self.clone();
        tokio::task::spawn_blocking(move || call(&owned))
            .await
            .map_err(|e| self.error("a blocking call", e))?
    }

    /// Asks whether a topic could be created, without doing so.
    ///
    /// # Errors
    /// [`Error::Topic`] with the broker's reason, [`Error::Kafka`].
    pub async fn may_create(&self, topic: &str, wish: &Wish) -> Result<()> {
        let options = self.admin_options().validate_only(true);
        self.creation(topic, wish, &options).await
    }

    /// Creates a topic, unless another did meanwhile, and waits until it is known.
    async fn create_topic(&self, topic: &str, wish: &Wish) -> Result<TopicFacts> {
        self.creation(topic, wish, &self.admin_options()).await?;
        let deadline = Instant::now() + self.timeout();
        while Instant::now() < deadline {
            if let Some(facts) = self.described(topic).await? {
                return Ok(facts);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(refused(
            topic,
            format!(
                "was created but the broker does not know it after {} s",
                self.timeout().as_secs()
            ),
        ))
    }

    async fn creation(&self, topic: &str, wish: &Wish, options: &AdminOptions) -> Result<()> {
        let no = |reason: String| refused(topic, format!("can't be created: {reason}"));
        let count = |n: u32| i32::try_from(n).map_err(|e| no(e.to_string()));
        let partitions = count(wish.partitions.unwrap_or(DEFAULT_PARTITIONS))?;
        let replication = TopicReplication::Fixed(count(wish.replication.unwrap_or(1))?);
        let retention = match (wish.own_times, wish.retention_ms) {
            (true, None) => Some("-1".to_owned()),
            (_, ms) => ms.map(|ms| ms.to_string()),
        };
        let mut new = NewTopic::new(topic, partitions, replication);
        if let Some(retention) = &retention {
            new = new.set("retention.ms", retention);
        }
        let results = self
            .admin()?
            .create_topics([&new], options)
            .await
            .map_err(|e| self.error(format!("create topic {topic}"), e))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(no(code.to_string())),
            }
        }
        Ok(())
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// [`Error::Topic`] if the broker refuses (deleting needs a right of its own), [`Error::Kafka`].
    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        let results = self
            .admin()?
            .delete_topics(&[topic], &self.admin_options())
            .await
            .map_err(|e| self.error(format!("delete topic {topic}"), e))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((_, code)) => return Err(not_cleaned(topic, "deleted", &code.to_string())),
            }
        }
        Ok(())
    }

    /// Deletes the records of partitions up to an offset each.
    ///
    /// # Errors
    /// As [`Self::delete_topic`].
    pub async fn delete_records(&self, upto: &TopicPartitionList) -> Result<()> {
        let deleted = self
            .admin()?
            .delete_records(upto, &self.admin_options())
            .await
            .map_err(|e| self.error("delete records", e))?;
        for partition in deleted.elements() {
            if let Err(e) = partition.error() {
                return Err(not_cleaned(partition.topic(), "emptied", &e.to_string()));
            }
        }
        Ok(())
    }

    fn admin_options(&self) -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(self.timeout()))
            .operation_timeout(Some(self.timeout()))
    }

    /// A topic's options in effect; none where they may not be read.
    pub async fn topic_options(&self, topic: &str) -> BTreeMap<String, String> {
        let asked = ResourceSpecifier::Topic(topic);
        let Ok(admin) = self.admin() else {
            return BTreeMap::new();
        };
        let described = admin
            .describe_configs([&asked], &self.admin_options())
            .await;
        let resource = described.ok().and_then(|all| all.into_iter().next()?.ok());
        resource
            .into_iter()
            .flat_map(|resource| resource.entries)
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect()
    }
}

/// How far ahead of the broker's clock a record's time may be, by the topic's options; in milliseconds.
pub fn ahead_ms(options: &BTreeMap<String, String>) -> i64 {
    options
        .get("message.timestamp.after.max.ms")
        .and_then(|v| v.parse().ok())
        .unwrap_or(AFTER_MAX_MS)
}

fn refused(topic: &str, reason: String) -> Error {
    Error::Topic {
        topic: topic.to_owned(),
        partition: None,
        offset: None,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish {
            if_missing: IfMissing::Create,
            partitions: None,
            replication: None,
            retention_ms: None,
            deadline_ms: 1_000,
            own_times: false,
        }
    }

    fn wrong(wish: Wish, options: &[(&str, &str)]) -> String {
        let facts = TopicFacts {
            cluster_id: "c".into(),
            topic_id: "t".into(),
            partitions: 3,
            replication: 1,
            operations: Vec::new(),
        };
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        let options = options.iter().map(own).collect();
        wish.wrong(&facts, &options).unwrap_or_default()
    }

    #[test]
    fn a_topic_is_held_against_what_is_asked() {
        let kept = [("retention.ms", "1000"), ("cleanup.policy", "delete")];
        assert_eq!(wrong(wish(), &kept), "");
        assert_eq!(wrong(wish(), &[]), "");
        assert_eq!(wrong(wish(), &[("retention.ms", "-1")]), "");
        for (wish, options, reason) in [
            (
                Wish {
                    partitions: Some(4),
                    ..wish()
                },
                ("x", ""),
                "has 3 partitions",
            ),
            (
                Wish {
                    replication: Some(2),
                    ..wish()
                },
                ("x", ""),
                "has 1 replicas",
            ),
            (
                wish(),
                ("cleanup.policy", "compact,delete"),
                "compact,delete",
            ),
            (
                wish(),
                ("retention.ms", "999"),
                "limits.job_deadline_ms = 1000",
            ),
            (
                Wish {
                    retention_ms: Some(-1),
                    ..wish()
                },
                ("retention.ms", "5000"),
                "asks for -1",
            ),
            (
                Wish {
                    retention_ms: Some(6_000),
                    ..wish()
                },
                ("retention.ms", "5000"),
                "asks for 6000",
            ),
            (
                Wish {
                    own_times: true,
                    ..wish()
                },
                ("retention.ms", "5000"),
                "needs retention.ms = -1",
            ),
            (
                Wish {
                    own_times: true,
                    ..wish()
                },
                ("message.timestamp.type", "LogAppendTime"),
                "overwrites",
            ),
        ] {
            let found = wrong(wish, &[options]);
            assert!(found.contains(reason), "{found}");
        }
        let same = Wish {
            partitions: Some(3),
            replication: Some(1),
            retention_ms: Some(1_000),
            ..wish()
        };
        assert_eq!(wrong(same, &kept), "");
    }
}
