//! Several landers of one region share its partitions: a consumer group says which are whose, and reads nothing. Where the
//! group errs the table decides, as between any two landers.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

use super::STAGE;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::kafka::{Cluster, Signed};

const POLL: Duration = Duration::from_millis(100);
/// How long a lander may take to commit what it has read of partitions that go to another: files of a whole commit are
/// finished meanwhile, and `max.poll.interval.ms` is 5 minutes.
const COMMIT: Duration = Duration::from_secs(120);

/// The partitions that a lander has for the time being.
#[derive(Clone)]
pub struct Share {
    pub partitions: BTreeSet<i32>,
    /// Told when they go to another: what was read is to be committed.
    pub gone: CancellationToken,
}

#[derive(Default)]
struct Seat {
    share: Option<Share>,
    /// A drain of the share is under way.
    busy: bool,
    /// Why the group can't go on.
    failed: Option<KafkaError>,
}

/// What the group's thread and the lander tell each other.
#[derive(Clone, Default)]
struct Table(Arc<(Mutex<Seat>, Condvar)>);

impl Table {
    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until that holds, or the time is up.
    fn wait(&self, within: Duration, holds: impl Fn(&Seat) -> bool) -> MutexGuard<'_, Seat> {
        let until = Instant::now() + within;
        let mut seat = self.seat();
        while !holds(&seat) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.0.1.wait_timeout(seat, left);
            seat = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        seat
    }

    fn changed(&self) {
        self.0.1.notify_all();
    }
}

struct Member(Table);

impl ClientContext for Member {}

impl ConsumerContext for Member {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        // All go and come at once: the protocol is an eager one.
        if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let mut quiet = TopicPartitionList::new();
            for partition in list.elements() {
                // Nothing is read by this consumer.
                let at = quiet.add_partition_offset(
                    partition.topic(),
                    partition.partition(),
                    Offset::End,
                );
                if let Err(e) = at {
                    self.failed(&e);
                }
            }
            let assigned = consumer
                .assign(&quiet)
                .and_then(|()| consumer.pause(&quiet));
            if let Err(e) = assigned {
                self.failed(&e);
            }
            let partitions = quiet.elements().iter().map(|e| e.partition()).collect();
            self.0.seat().share = Some(Share {
                partitions,
                gone: CancellationToken::new(),
            });
            self.0.changed();
            return;
        }
        if let Some(share) = self.0.seat().share.take() {
            share.gone.cancel();
        }
        // Who takes longer finds that the table has gone on without it.
        drop(self.0.wait(COMMIT, |seat| !seat.busy));
        let _ = consumer.unassign();
    }
}

impl Member {
    fn failed(&self, error: &KafkaError) {
        self.0.seat().failed = Some(error.clone());
    }
}

/// A member of the group. It leaves when it is dropped.
pub struct Group {
    cluster: Cluster,
    table: Table,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Group {
    /// Joins; the first share comes within some seconds, as the brokers' `group.initial.rebalance.delay.ms` says.
    ///
    /// # Errors
    /// [`Error::Kafka`] if the client can't be made.
    pub fn join(cluster: &Cluster, group: &str, topic: &str) -> Result<Self> {
        let table = Table::default();
        let mut config = cluster.config()?;
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "3000");
        let consumer: Signed<BaseConsumer<Member>> =
            cluster.connect("join the group", &config, Member(table.clone()))?;
        consumer
            .subscribe(&[topic])
            .map_err(|e| cluster.error(format!("subscribe to {topic}"), e))?;
        let stop = CancellationToken::new();
        let (ended, seen) = (stop.clone(), table.clone());
        let thread = std::thread::Builder::new()
            .name("kappaflow-landers".into())
            .spawn(move || {
                while !ended.is_cancelled() {
                    if let Some(Err(error)) = consumer.poll(POLL)
                        && error.rdkafka_error_code().is_some_and(is_fatal)
                    {
                        seen.seat().failed = Some(error);
                        seen.changed();
                    }
                }
                consumer.unsubscribe();
            })
            .map_err(Error::io("start a thread for the group of", "landers"))?;
        Ok(Self {
            cluster: cluster.clone(),
            table,
            stop,
            thread: Some(thread),
        })
    }

    /// The share of now, for a drain; `None` if there is none within some time.
    ///
    /// # Errors
    /// [`Error::Kafka`] if the group can't go on; [`Error::Interrupted`].
    pub fn share(&self, within: Duration, ctx: &Context) -> Result<Option<Taken<'_>>> {
        ctx.check(STAGE)?;
        let mut seat = self
            .table
            .wait(within, |seat| seat.share.is_some() || seat.failed.is_some());
        if let Some(error) = seat.failed.take() {
            let what = "share partitions with other landers";
            return Err(self.cluster.error(what, error));
        }
        let Some(share) = seat.share.clone() else {
            return Ok(None);
        };
        seat.busy = true;
        Ok(Some(Taken { share, group: self }))
    }
}

/// A share that is being drained. The group waits for it before it gives the partitions to another.
pub struct Taken<'g> {
    pub share: Share,
    group: &'g Group,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.group.table.seat().busy = false;
        self.group.table.changed();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn is_fatal(code: rdkafka::error::RDKafkaErrorCode) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::GroupAuthorizationFailed
            | Code::TopicAuthorizationFailed
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::InconsistentGroupProtocol
            | Code::Fatal
    )
}
