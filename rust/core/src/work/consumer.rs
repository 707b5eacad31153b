//! The consumer's thread: polls always, never waits for the service, hands over batches and commits the frontier.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kappaflow_avro::framing::VALUE_HEADER;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};

use super::admission::Change;
use super::partitions::Record;
use super::worker::{Member, Worker};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::identity::{HEADER, Identity, JobId};
use crate::job::Limits;
use crate::kafka::{Cluster, Signed, header};

const COMMIT_EVERY: Duration = Duration::from_millis(500);
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// How soon credit that came back is noticed.
const CREDIT_TICK: Duration = Duration::from_millis(1);
/// A part of a batch is handed over once a process has nothing to do and this long after the last hand-over.
const LINGER: Duration = Duration::from_millis(20);
/// Messages taken between two looks at everything else.
const BURST: usize = 500;

/// What the loop needs besides the worker.
pub struct Loop {
    pub worker: Arc<Worker>,
    pub cluster: Cluster,
    pub job: JobId,
    pub batch_records: usize,
    pub ctx: Context,
}

/// A member of the group, subscribed.
pub fn join(
    worker: &Arc<Worker>,
    cluster: &Cluster,
    group: &str,
    limits: &Limits,
) -> Result<Signed<BaseConsumer<Member>>> {
    // The client holds at most half of what the worker may hold, and fetches soon again when that is used up.
    let prefetch_kib = (u64::from(limits.max_in_flight_mib) * 512).clamp(512, 65_536);
    let mut config = cluster.config()?;
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", limits.session_timeout_ms.to_string())
        .set(
            "heartbeat.interval.ms",
            (limits.session_timeout_ms / 3).to_string(),
        )
        .set(
            "max.poll.interval.ms",
            limits.session_timeout_ms.max(300_000).to_string(),
        )
        .set(
            "queued.min.messages",
            limits.max_in_flight_records.max(1).to_string(),
        )
        .set("queued.max.messages.kbytes", prefetch_kib.to_string())
        .set("fetch.queue.backoff.ms", "20")
        .set("fetch.wait.max.ms", "100");
    let consumer: Signed<BaseConsumer<Member>> =
        cluster.connect("join the group", &config, Member(Arc::clone(worker)))?;
    consumer
        .subscribe(&[&worker.topic])
        .map_err(|e| cluster.error(format!("subscribe to {}", worker.topic), e))?;
    Ok(consumer)
}

/// The connection is gone.
struct Down {
    since: Instant,
    /// What was said of it first, or of signing in.
    error: KafkaError,
}

impl Loop {
    /// Runs until the worker is told to finish, fails, or is interrupted; commits what may be committed; leaves.
    pub fn run(self, consumer: Signed<BaseConsumer<Member>>) -> Result<()> {
        let result = self.turn(&consumer);
        if matches!(result, Err(Error::Interrupted { .. })) {
            let held: Vec<i32> = self.worker.state().partitions.numbers().collect();
            self.worker.drain(&held);
        }
        let committed = self.worker.commit_sync(&consumer, None);
        // Nothing waits any more in the callbacks of the leave.
        self.worker.abort();
        drop(consumer);
        result.and(committed)
    }

    fn turn(&self, consumer: &BaseConsumer<Member>) -> Result<()> {
        let (mut committed, mut reported, mut handed) =
            (Instant::now(), Instant::now(), Instant::now());
        let mut down: Option<Down> = None;
        let began = Instant::now();
        loop {
            self.ctx.check("work")?;
            let wait = if self.worker.state().partitions.is_idle() {
                Duration::from_millis(50)
            } else {
                Duration::from_millis(2)
            };
            if self.worker.state().admission.must_wait() {
                std::thread::sleep(CREDIT_TICK);
            } else {
                self.poll_burst(consumer, wait, &mut down)?;
            }
            self.worker.read_mail(Duration::ZERO);
            let change = {
                let mut state = self.worker.state();
                if let Some(error) = state.failed.take() {
                    return Err(error);
                }
                if state.finish {
                    return Ok(());
                }
                state.admission.change(began.elapsed())
            };
            if let Some(change) = change {
                self.flow(consumer, change)?;
            }
            self.hand_over(&mut handed);
            if committed.elapsed() >= COMMIT_EVERY {
                committed = Instant::now();
                if let Some(list) = self.worker.to_commit(None)? {
                    // Whether it arrives is seen at the broker; one that doesn't is sent again.
                    let _ = consumer.commit(&list, CommitMode::Async);
                }
                self.look(consumer, &mut down)?;
            }
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                self.report();
            }
        }
    }

    fn poll_burst(
        &self,
        consumer: &BaseConsumer<Member>,
        first_wait: Duration,
        down: &mut Option<Down>,
    ) -> Result<()> {
        let mut wait = first_wait;
        for _ in 0..BURST {
            match consumer.poll(wait) {
                Some(Ok(message)) => {
                    self.take(&message);
                    *down = None;
                }
                Some(Err(error)) => self.trouble(&error, down)?,
                None => break,
            }
            wait = Duration::ZERO;
            if self.worker.state().admission.must_wait() {
                break;
            }
        }
        Ok(())
    }

    fn take(&self, message: &BorrowedMessage<'_>) {
        let (partition, offset) = (message.partition(), message.offset());
        let identity = header(message, HEADER).and_then(|bytes| Identity::from_bytes(bytes).ok());
        let mut state = self.worker.state();
        let Some(identity) = identity.filter(|id| id.job == self.job) else {
            state.summary.foreign += 1;
            state.partitions.skip(partition, offset);
            return;
        };
        let record = Record {
            offset,
            identity,
            key: message.key().map(<[u8]>::to_vec),
            schema: header(message, VALUE_HEADER).map(<[u8]>::to_vec),
            payload: message.payload().unwrap_or_default().to_vec(),
        };
        let weight = record.weight();
        if state.partitions.admit(partition, record) {
            state.admission.admit(weight);
        }
    }

    fn flow(&self, consumer: &BaseConsumer<Member>, change: Change) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for partition in self.worker.state().partitions.numbers() {
            list.add_partition(&self.worker.topic, partition);
        }
        if list.count() == 0 {
            return Ok(());
        }
        match change {
            Change::Pause => consumer.pause(&list),
            Change::Resume => consumer.resume(&list),
        }
        .map_err(|e| self.cluster.error(format!("{change:?} partitions"), e))
    }

    /// Full batches at once; parts of one only where a process would have nothing to do.
    fn hand_over(&self, handed: &mut Instant) {
        let mut state = self.worker.state();
        while let Some(batch) = state.partitions.next_batch(self.batch_records, false) {
            self.worker.queue.push(batch);
            *handed = Instant::now();
        }
        if handed.elapsed() >= LINGER {
            for _ in 0..self.worker.queue.hungry() {
                let Some(batch) = state.partitions.next_batch(self.batch_records, true) else {
                    break;
                };
                self.worker.queue.push(batch);
                *handed = Instant::now();
            }
        }
    }

    /// An error of the consumer: one that passes, or the end.
    fn trouble(&self, error: &KafkaError, down: &mut Option<Down>) -> Result<()> {
        use RDKafkaErrorCode as Code;
        let topic = |reason: &str| {
            Err(Error::Topic {
                topic: self.worker.topic.clone(),
                partition: None,
                offset: None,
                reason: reason.into(),
            })
        };
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::NoOffset) => topic(
                "the log no longer has an offset that the workers were to go on from: records have expired by retention before they were worked on. Publish them again under a new param, with a longer retention",
            ),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                topic("was deleted while it was worked on")
            }
            Some(
                Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::Resolve,
            ) => {
                down.get_or_insert_with(|| Down {
                    since: Instant::now(),
                    error: error.clone(),
                });
                Ok(())
            }
            // Tokens are renewed: the client tries again with the next.
            Some(Code::Authentication) => {
                let since = down.take().map_or_else(Instant::now, |down| down.since);
                let error = error.clone();
                *down = Some(Down { since, error });
                Ok(())
            }
            // The group goes on by itself; what was under way for an old assignment turns stale.
            Some(
                Code::PollExceeded
                | Code::RebalanceInProgress
                | Code::UnknownMemberId
                | Code::IllegalGeneration
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::NotCoordinator,
            ) => Ok(()),
            _ => Err(self
                .cluster
                .error(format!("read {}", self.worker.topic), error)),
        }
    }

    /// With the connection gone: is the broker back, or has it been away for too long?
    fn look(&self, consumer: &BaseConsumer<Member>, down: &mut Option<Down>) -> Result<()> {
        let Some(Down { since, error }) = down else {
            return Ok(());
        };
        let answered = consumer
            .client()
            .fetch_metadata(Some(&self.worker.topic), Duration::from_millis(500));
        match answered {
            Ok(_) => *down = None,
            Err(_) if since.elapsed() > self.cluster.timeout() => {
                return Err(self.cluster.error(
                    format!("read {}", self.worker.topic),
                    format!(
                        "no broker has answered at {} for {} s ({error}); what was done is committed as far as it could be, run the worker again",
                        self.cluster.region.bootstrap_servers,
                        since.elapsed().as_secs()
                    ),
                ));
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn report(&self) {
        let (done, idle, held, region) = {
            let state = self.worker.state();
            let s = &state.summary;
            (
                s.read,
                state.partitions.is_idle(),
                state.partitions.numbers().count(),
                s.region.clone(),
            )
        };
        let total = u64::try_from(self.worker.total.load(Ordering::Acquire)).ok();
        let note = match (idle, total) {
            (false, _) => "",
            _ if held == 0 => "waiting for partitions",
            (true, None) => "waiting for the publisher",
            (true, Some(_)) => "waiting for the other workers",
        };
        self.ctx.report(Progress {
            stage: "work",
            label: region,
            done,
            total,
            note: note.into(),
            figures: BTreeMap::new(),
        });
    }
}
