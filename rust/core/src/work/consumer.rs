//! The consumer's thread: polls always, never waits for the service, admits records and commits the frontier.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kappaflow_avro::framing::VALUE_HEADER;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::admission::{Change, SHARE, bound};
use super::group;
use super::member::Member;
use super::metrics::{Pause, Phase};
use super::processors::Processors;
use super::queue::lock;
use super::task::Record;
use super::worker::{DRAIN, Read, Worker};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::identity::{HEADER, Identity, JobId};
use crate::kafka::{Cluster, Signed};

const COMMIT_EVERY: Duration = Duration::from_millis(500);
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// How soon credit that came back is noticed.
const CREDIT_TICK: Duration = Duration::from_millis(1);
/// How long the group is given to let a worker go.
const LEAVE: Duration = Duration::from_secs(10);
/// Messages taken between two looks at everything else.
const BURST: usize = 500;

/// What the loop needs besides the worker.
pub struct Loop {
    pub worker: Arc<Worker>,
    pub cluster: Cluster,
    pub job: JobId,
    pub ctx: Context,
}

/// The connection is gone.
struct Down {
    since: Instant,
    /// What was said of it first, or of signing in.
    error: KafkaError,
}

/// Leaves the group. A client that is told of its loss while it leaves may wait for ever; then it is left behind.
fn leave(consumer: Signed<BaseConsumer<Member>>) {
    let (left, is_left) = std::sync::mpsc::channel();
    let leaving = std::thread::Builder::new()
        .name("leaving".into())
        .spawn(move || {
            drop(consumer);
            let _ = left.send(());
        });
    if leaving.is_ok() {
        let _ = is_left.recv_timeout(LEAVE);
    }
}

impl Loop {
    /// Runs until the worker is told to finish, fails, or is interrupted; commits what may be committed; leaves.
    pub fn run(self, consumer: Signed<BaseConsumer<Member>>) -> Result<()> {
        let result = self.turn(&consumer);
        if matches!(result, Err(Error::Interrupted { .. })) {
            self.worker.metrics.set_phase(Phase::Draining);
            let held: Vec<i32> = self.worker.state().schedule.numbers().collect();
            self.worker
                .drain(&held, &|| self.worker.hear_group(&consumer));
            // The last transaction is one of a member.
            drop(self.worker.between_transactions());
        }
        // Nothing more is taken: what is polled now is read again by whoever is next.
        let poll = || drop(consumer.poll(Duration::from_millis(100)));
        let committed = self.worker.commit_sync(&consumer, None, Some(&poll));
        self.worker.metrics.set_phase(Phase::Draining);
        // Nothing waits any more in the callbacks of the leave.
        self.worker.abort();
        leave(consumer);
        result.and(committed)
    }

    fn turn(&self, consumer: &BaseConsumer<Member>) -> Result<()> {
        let (mut committed, mut reported) = (Instant::now(), Instant::now());
        let mut down: Option<Down> = None;
        let mut processors = Processors::new();
        let began = Instant::now();
        self.hold();
        loop {
            self.ctx.check("work")?;
            self.worker.metrics.turned();
            let wait = if self.worker.state().schedule.is_idle() {
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
            let now = self.worker.now();
            let (change, ready) = {
                let mut state = self.worker.state();
                if let Some(error) = state.failed.take() {
                    return Err(error);
                }
                if state.finish {
                    return Ok(());
                }
                let full = state.admission.is_full() || state.admission.is_paused();
                self.worker.metrics.pause(Pause::Credit, full);
                let change = state.admission.change(began.elapsed());
                (change, state.schedule.ready(now))
            };
            self.worker.seat.wants(ready);
            let short = ready > 0 && lock(&self.worker.budget).available(now) == 0;
            self.worker.metrics.pause(Pause::Window, short);
            self.worker.metrics.pause(Pause::Broker, down.is_some());
            if let Some(change) = change {
                self.flow(consumer, change)?;
            }
            if committed.elapsed() >= COMMIT_EVERY {
                committed = Instant::now();
                if let Some(list) = self.worker.to_commit()? {
                    // Whether it arrives is seen at the broker; one that doesn't is sent again.
                    let _ = consumer.commit(&list, CommitMode::Async);
                }
                self.look(consumer, &mut down)?;
                if let Some(share) = processors.busy() {
                    self.worker.seat.busy(share);
                }
            }
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                self.worker.hear_group(consumer);
                self.worker.show();
                self.hold();
                self.report();
            }
        }
    }

    /// Reads what has come, as far as there is credit for it.
    fn poll_burst(
        &self,
        consumer: &BaseConsumer<Member>,
        first_wait: Duration,
        down: &mut Option<Down>,
    ) -> Result<()> {
        let mut wait = first_wait;
        let (records, bytes) = self.worker.state().admission.credit();
        let (mut count, mut weight) = (0, 0);
        let mut result = Ok(());
        for _ in 0..BURST {
            match consumer.poll(wait) {
                Some(Ok(message)) => {
                    let record = self.read(&message);
                    weight += record.1.as_ref().map_or(0, Record::weight);
                    count += 1;
                    self.worker.read(record);
                    *down = None;
                }
                Some(Err(error)) => {
                    result = self.trouble(consumer, &error, down);
                    if result.is_err() {
                        break;
                    }
                }
                None => break,
            }
            wait = Duration::ZERO;
            // Credit only grows meanwhile: nobody else takes it.
            if count >= records || weight >= bytes {
                break;
            }
        }
        self.worker.admit();
        result
    }

    fn read(&self, message: &BorrowedMessage<'_>) -> Read {
        let (partition, offset) = (message.partition(), message.offset());
        let (mut identity, mut schema, mut others) = (None, None, Vec::new());
        for header in message.headers().into_iter().flat_map(|h| h.iter()) {
            match (header.key, header.value) {
                (HEADER, value) => identity = value.and_then(|v| Identity::from_bytes(v).ok()),
                (VALUE_HEADER, value) => schema = value.map(<[u8]>::to_vec),
                (key, value) => {
                    others.push((key.to_owned(), value.unwrap_or_default().to_vec()));
                }
            }
        }
        let record = identity
            .filter(|id| id.job == self.job)
            .map(|identity| Record {
                offset,
                timestamp_ms: message.timestamp().to_millis(),
                identity,
                key: message.key().map(<[u8]>::to_vec),
                schema,
                headers: others,
                payload: message.payload().unwrap_or_default().to_vec(),
            });
        (partition, record.ok_or(offset))
    }

    /// No more than can be done while the worker leaves.
    fn hold(&self) {
        let limit = self.worker.seat.limit();
        let records = match self.worker.metrics.p99() {
            Some(p99) => bound(SHARE, limit, DRAIN, p99),
            // Little, until it is known how long calls take: too much would have to be worked off before more is read.
            None => u64::from(limit).saturating_mul(4).max(64),
        };
        self.worker.state().admission.hold(records);
    }

    fn flow(&self, consumer: &BaseConsumer<Member>, change: Change) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for partition in self.worker.state().schedule.numbers() {
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

    /// An error of the consumer: one that passes, or the end.
    fn trouble(
        &self,
        consumer: &BaseConsumer<Member>,
        error: &KafkaError,
        down: &mut Option<Down>,
    ) -> Result<()> {
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
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::NoOffset) => {
                group::go_on(&self.worker, &self.cluster, consumer)
            }
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
                state.schedule.is_idle(),
                state.schedule.numbers().count(),
                s.region.clone(),
            )
        };
        let total = u64::try_from(self.worker.total.load(Ordering::Acquire)).ok();
        let waits = lock(&self.worker.waits).clone();
        let note = waits.unwrap_or_else(|| {
            let note = match (idle, total) {
                (false, _) => "",
                _ if held == 0 => "waiting for partitions",
                (true, None) => "waiting for the publisher",
                (true, Some(_)) => "waiting for the other workers",
            };
            note.to_owned()
        });
        self.ctx.report(Progress {
            stage: "work",
            label: region,
            done,
            total,
            note,
            figures: BTreeMap::new(),
        });
    }
}
