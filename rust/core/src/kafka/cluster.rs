//! The cluster of a region: configuration, first contact, topics and offsets.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer, ConsumerContext, DefaultConsumerContext,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataBroker;
use rdkafka::{Offset, TopicPartitionList};

use super::describe::{self, Refused};
use super::options::refusal;
use super::sasl::{self, Oidc};
use super::signed::Signed;
use crate::error::{Error, Result};
use crate::job::{Job, Region};

/// First contact with a cluster takes no longer than this, so that a wrong address is told in seconds.
const FIRST_CONTACT: Duration = Duration::from_secs(10);

/// So many events of a client are looked at for what it says of its connections.
const MOST_SAID: usize = 1_000;

/// How long a producer waits for an answer before it is used.
const INTRODUCTION: Duration = Duration::from_secs(2);

/// Between two questions about a partition that has no leader yet.
const LEADER_RETRY: Duration = Duration::from_millis(100);

/// A region's cluster. Calls block; async code wraps them in `spawn_blocking`.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub region: Region,
    base: PathBuf,
    timeout: Duration,
    /// Where the address was given, for messages.
    setting: String,
    known: Arc<Known>,
}

/// What clones of a cluster share: making a client takes a connection, and closing one a tenth of a second.
#[derive(Default)]
struct Known {
    /// The identity provider that all clients have their tokens of, once one was made.
    oidc: OnceLock<Option<Arc<Oidc>>>,
    /// The cluster's id, once a broker has answered.
    id: OnceLock<String>,
    admin: Mutex<Option<Arc<Signed<AdminClient<DefaultClientContext>>>>>,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Known").field(&self.id).finish()
    }
}

/// What identifies a topic, and how many partitions it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFacts {
    pub cluster_id: String,
    pub topic_id: String,
    pub partitions: u32,
    /// Replicas of each partition, at least.
    pub replication: u32,
    /// What this client may do with it, by Kafka's names (`READ`, `WRITE`).
    pub operations: Vec<String>,
}

impl Cluster {
    /// The cluster of a region of the job.
    ///
    /// # Errors
    /// [`Error::JobFile`] if the job has no such region.
    pub fn of(job: &Job, region: &str) -> Result<Self> {
        let found = job
            .file
            .regions
            .iter()
            .find(|r| r.name == region)
            .ok_or_else(|| {
                let known = job
                    .file
                    .regions
                    .iter()
                    .map(|r| r.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ");
                job.error(
                    "regions",
                    format!("has no region {region:?}; it has: {known}"),
                )
            })?;
        let timeout = Duration::from_millis(job.file.limits.broker_timeout_ms);
        Ok(Self {
            setting: format!("regions.{region}.bootstrap_servers"),
            ..Self::new(found.clone(), job.dir.clone(), timeout)
        })
    }

    /// A cluster without a job file. `base` is what paths of secrets are relative to, `timeout` the longest wait for a
    /// broker's answer.
    pub fn new(region: Region, base: PathBuf, timeout: Duration) -> Self {
        Self {
            region,
            base,
            timeout,
            setting: "bootstrap_servers".into(),
            known: Arc::default(),
        }
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    pub fn error(&self, what: impl Into<String>, reason: impl ToString) -> Error {
        Error::Kafka {
            region: self.region.name.clone(),
            what: what.into(),
            reason: reason.to_string(),
        }
    }

    /// Options every client of this cluster shares, references resolved; [`Self::connect`] makes a client of them.
    ///
    /// # Errors
    /// [`Error::Kafka`] if an option is not open to a job, or a reference (`env:`, `file:`) can't be resolved; the value
    /// is never named.
    pub fn config(&self) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config.set("client.id", "kappaflow");
        let options = self.options()?.into_iter();
        config.extend(options.filter(|(option, _)| !sasl::is_ours(option)));
        config.set("bootstrap.servers", &self.region.bootstrap_servers);
        Ok(config)
    }

    /// The region's options, references resolved.
    fn options(&self) -> Result<BTreeMap<String, String>> {
        let mut options = BTreeMap::new();
        for (option, value) in &self.region.kafka {
            let wrong = |reason| self.error(format!("option {option}"), reason);
            if let Some(reason) = refusal(option) {
                return Err(wrong(reason));
            }
            let value = sasl::resolved(option, value, &self.base).map_err(wrong)?;
            options.insert(option.clone(), value);
        }
        Ok(options)
    }

    /// The identity provider that clients have their tokens of, if they sign in so.
    ///
    /// # Errors
    /// [`Error::Kafka`] if the options that say how clients sign in can't be used.
    pub(super) fn oidc(&self) -> Result<Option<Arc<Oidc>>> {
        if let Some(known) = self.known.oidc.get() {
            return Ok(known.clone());
        }
        let made = Oidc::of(&self.options()?)
            .map_err(|(option, reason)| self.error(format!("option {option}"), reason))?;
        Ok(self.known.oidc.get_or_init(|| made.map(Arc::new)).clone())
    }

    /// A consumer that belongs to no group's life: for metadata, offsets and bounded reads. Read-committed, so that
    /// "end" is the last stable offset; a position that the log no longer has is an error, never a reset.
    pub fn reader(&self, group: Option<&str>) -> Result<Signed<BaseConsumer>> {
        self.reader_of(group, "read_committed")
    }

    fn reader_of(&self, group: Option<&str>, isolation: &str) -> Result<Signed<BaseConsumer>> {
        let mut config = self.config()?;
        config
            .set("group.id", group.unwrap_or("kappaflow.reader"))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", isolation)
            .set("enable.partition.eof", "true")
            .set("check.crcs", "true")
            .set("queued.max.messages.kbytes", "32768")
            // A second, by default, that a partition is not asked for more once so much was queued.
            .set("fetch.queue.backoff.ms", "20");
        self.connect("make a consumer", &config, DefaultConsumerContext)
    }

    fn no_answer(&self, reason: impl ToString) -> Error {
        self.error(
            "first contact",
            format!(
                "no broker answered at {} within {} s ({}). Is it up, and is {} right?",
                self.region.bootstrap_servers,
                FIRST_CONTACT.as_secs(),
                reason.to_string(),
                self.setting,
            ),
        )
    }

    /// Makes sure that a broker answers, unless one has, and gives the cluster's id.
    ///
    /// # Errors
    /// [`Error::Kafka`] with what the client says of its connections: a refused password, a certificate that has expired.
    pub fn contact(&self) -> Result<String> {
        if let Some(id) = self.known.id.get() {
            return Ok(id.clone());
        }
        let mut config = self.config()?;
        config.set("group.id", "kappaflow.reader");
        let reader: Signed<BaseConsumer<Hearing>> =
            self.connect("make a consumer", &config, Hearing::default())?;
        reader
            .client()
            .fetch_metadata(Some("kappaflow.contact"), FIRST_CONTACT)
            .map_err(|e| {
                // What was said of connections waits to be polled; between it are events of which a poll says nothing.
                for _ in 0..MOST_SAID {
                    let _ = reader.poll(Duration::ZERO);
                }
                match reader.context().last() {
                    Some(heard) => self.no_answer(heard),
                    None => self.no_answer(e),
                }
            })?;
        let id = reader
            .client()
            .fetch_cluster_id(FIRST_CONTACT)
            .ok_or_else(|| self.no_answer("it did not tell its cluster id"))?;
        Ok(self.known.id.get_or_init(|| id).clone())
    }

    /// Lets a new idempotent producer get its id at once. librdkafka asks for one when it has looked at a topic by a
    /// connection that is up, else every 500 ms; the first look is over the bootstrap connection, which then ends, the
    /// second over the broker's own. If nobody answers, that is told when records are sent.
    pub(crate) fn introduce<C: ClientContext>(&self, producer: &Client<C>, topic: &str) {
        for _ in 0..2 {
            if producer.fetch_metadata(Some(topic), INTRODUCTION).is_err() {
                return;
            }
        }
    }

    /// A topic's ids and partition count, or `None` if there is no such topic.
    pub fn topic(&self, topic: &str) -> Result<Option<TopicFacts>> {
        let cluster_id = self.contact()?;
        let admin = self.admin()?;
        let described =
            describe::topic(admin.inner(), topic, self.timeout).map_err(
                |refused| match refused {
                    // That says nothing of the topic.
                    Refused::NoAnswer(reason) => {
                        self.error(format!("describe topic {topic}"), reason)
                    }
                    other => Error::Topic {
                        topic: topic.to_owned(),
                        partition: None,
                        offset: None,
                        reason: format!("can't be described: {}", other.reason()),
                    },
                },
            )?;
        Ok(described.map(|found| TopicFacts {
            cluster_id,
            topic_id: found.id,
            partitions: found.partitions,
            replication: found.replication,
            operations: found.operations,
        }))
    }

    /// Host and port of each broker, as the cluster tells them to clients.
    pub fn brokers(&self) -> Result<Vec<(String, u16)>> {
        let reader = self.reader(None)?;
        let known = reader
            .client()
            .fetch_metadata(Some("kappaflow.contact"), self.timeout)
            .map_err(|e| self.error("ask for the brokers", e))?;
        let address = |broker: &MetadataBroker| {
            let port = u16::try_from(broker.port()).unwrap_or(0);
            (broker.host().to_owned(), port)
        };
        Ok(known.brokers().iter().map(address).collect())
    }

    /// What this client may do with a consumer group, by Kafka's names.
    ///
    /// # Errors
    /// [`Error::Kafka`] with the broker's reason: the group may not even be described.
    pub fn group_operations(&self, group: &str) -> Result<Vec<String>> {
        let admin = self.admin()?;
        let begun = Instant::now();
        loop {
            match describe::group(admin.inner(), group, self.timeout) {
                Ok(operations) => return Ok(operations),
                Err(Refused::NoCoordinator(_)) if begun.elapsed() < FIRST_CONTACT => {
                    std::thread::sleep(LEADER_RETRY);
                }
                Err(refused) => {
                    return Err(self.error(format!("describe group {group}"), refused.reason()));
                }
            }
        }
    }

    pub(super) fn admin(&self) -> Result<Arc<Signed<AdminClient<DefaultClientContext>>>> {
        let mut held = self
            .known
            .admin
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(admin) = &*held {
            return Ok(Arc::clone(admin));
        }
        let what = "make an admin client";
        let made = self.connect(what, &self.config()?, DefaultClientContext)?;
        Ok(Arc::clone(held.insert(Arc::new(made))))
    }

    /// Log start and last stable offset of each partition.
    pub fn watermarks(&self, topic: &str, partitions: u32) -> Result<Vec<(i32, i64, i64)>> {
        // Its isolation is librdkafka's default, read_committed, whatever a job says of its clients: it is no consumer.
        self.watermarks_by(self.admin()?.inner(), topic, partitions)
    }

    /// Log start and end of each partition, what open transactions have sent included.
    pub fn high_watermarks(&self, topic: &str, partitions: u32) -> Result<Vec<(i32, i64, i64)>> {
        let reader = self.reader_of(None, "read_uncommitted")?;
        self.watermarks_by(reader.client(), topic, partitions)
    }

    fn watermarks_by<C: ClientContext>(
        &self,
        client: &Client<C>,
        topic: &str,
        partitions: u32,
    ) -> Result<Vec<(i32, i64, i64)>> {
        (0..partitions)
            .map(|p| {
                let partition = i32::try_from(p).map_err(|e| self.error("partition", e))?;
                let (low, high) = self.watermark(client, topic, partition)?;
                Ok((partition, low, high))
            })
            .collect()
    }

    /// Log start and last stable offset (of a read-committed `client`) of one partition. A partition without a leader
    /// for the moment, as after its topic's creation or a broker's death, is asked again for a while.
    pub(super) fn watermark<C: ClientContext>(
        &self,
        client: &Client<C>,
        topic: &str,
        partition: i32,
    ) -> Result<(i64, i64)> {
        let begun = Instant::now();
        loop {
            match client.fetch_watermarks(topic, partition, self.timeout) {
                Ok(ends) => return Ok(ends),
                Err(e) if leaderless(&e) && begun.elapsed() < FIRST_CONTACT => {
                    std::thread::sleep(LEADER_RETRY);
                }
                Err(e) => {
                    return Err(Error::Topic {
                        topic: topic.to_owned(),
                        partition: Some(partition),
                        offset: None,
                        reason: format!("its offsets can't be read: {e}"),
                    });
                }
            }
        }
    }

    /// A reader of what a group has committed. A commit that is part of an open transaction is none yet, and is not
    /// waited for.
    pub(super) fn group_reader(&self, group: &str) -> Result<Signed<BaseConsumer>> {
        self.reader_of(Some(group), "read_uncommitted")
    }

    /// What a group has committed; `None` for a partition without a commit.
    pub fn committed(
        &self,
        group: &str,
        topic: &str,
        partitions: u32,
    ) -> Result<Vec<(i32, Option<i64>)>> {
        let reader = self.group_reader(group)?;
        self.committed_by(&reader, group, topic, partitions)
    }

    /// The same by a reader that was made for the group.
    pub(super) fn committed_by(
        &self,
        reader: &BaseConsumer,
        group: &str,
        topic: &str,
        partitions: u32,
    ) -> Result<Vec<(i32, Option<i64>)>> {
        let mut wanted = TopicPartitionList::new();
        for p in 0..partitions {
            wanted.add_partition(
                topic,
                i32::try_from(p).map_err(|e| self.error("partition", e))?,
            );
        }
        let committed = reader
            .committed_offsets(wanted, self.timeout)
            .map_err(|e| self.error(format!("read the offsets of group {group}"), e))?;
        Ok(committed
            .elements()
            .iter()
            .map(|e| match e.offset() {
                Offset::Offset(offset) => (e.partition(), Some(offset)),
                _ => (e.partition(), None),
            })
            .collect())
    }

    /// Commits explicit offsets for an idle group where it has none, so that no consumer ever has to guess a start.
    pub fn seed(&self, group: &str, topic: &str, start: &[(i32, i64)]) -> Result<()> {
        let partitions = u32::try_from(start.len()).map_err(|e| self.error("partitions", e))?;
        let known = self.committed(group, topic, partitions)?;
        let mut missing = TopicPartitionList::new();
        for (partition, offset) in start {
            if known.iter().any(|(p, o)| p == partition && o.is_none()) {
                missing
                    .add_partition_offset(topic, *partition, Offset::Offset(*offset))
                    .map_err(|e| self.error("seed offsets", e))?;
            }
        }
        if missing.count() == 0 {
            return Ok(());
        }
        self.reader(Some(group))?
            .commit(&missing, CommitMode::Sync)
            .map_err(|e| self.error(format!("seed the offsets of group {group}"), e))
    }
}

/// Hears what a client says of its connections, which the errors of its calls don't.
#[derive(Default)]
struct Hearing(Mutex<Option<String>>);

impl Hearing {
    fn last(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ClientContext for Hearing {
    fn error(&self, error: KafkaError, reason: &str) {
        // That all brokers are down only says that none could be reached.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Hearing {}

fn leaderless(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
        )
    )
}
