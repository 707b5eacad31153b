//! What a worker sends: answers, dead letters, verdict ranges. A batch is complete when the broker has acknowledged all
//! of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kappaflow_avro::framing::{self, GUID_HEADER_BYTES, VALUE_HEADER};
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::handle::{Handled, Outcome};
use super::partitions::{Batch, Record};
use super::queue::{Queue, lock};
use super::ranges::Ranges;
use super::summary::Tally;
use super::worker::Mail;
use crate::error::{Error, Result};
use crate::identity::{EgressIdentity, HEADER, JobId};
use crate::kafka::{Cluster, Signed};
use crate::store::TopicRow;
use crate::verdict::{ATTEMPTS_HEADER, ORIGIN_HEADER, REASON_HEADER, Verdicts};

/// librdkafka's default `message.max.bytes`, less what headers and framing may take.
const LARGEST: usize = 1_000_000 - 1_024;
/// A reason header is no longer than this.
const REASON_BYTES: usize = 1_000;

/// A batch on its way: the last acknowledgement posts it as complete.
pub struct Ticket {
    left: AtomicUsize,
    done: Mutex<Option<Done>>,
    mail: Arc<Queue<Mail>>,
}

/// A batch whose every record is delivered.
#[derive(Debug)]
pub struct Done {
    pub partition: i32,
    pub epoch: u64,
    pub offsets: Vec<i64>,
    pub weight: u64,
    pub tally: Tally,
}

impl Ticket {
    fn one_less(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(done) = lock(&self.done).take()
        {
            self.mail.push(Mail::Done(done));
        }
    }
}

/// Counts acknowledgements.
pub struct Deliveries {
    mail: Arc<Queue<Mail>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Arc<Ticket>) {
        match result {
            Ok(_) => ticket.one_less(),
            Err((error, message)) => self.mail.push(Mail::Failed(undelivered(
                message.topic(),
                Some(message.partition()),
                error,
            ))),
        }
    }
}

fn undelivered(topic: &str, partition: Option<i32>, error: &KafkaError) -> Error {
    Error::Topic {
        topic: topic.to_owned(),
        partition,
        offset: None,
        reason: format!(
            "a record was not taken ({error}); nothing of its input was committed, run the worker again"
        ),
    }
}

/// Where a job's answers go in a region.
pub struct Egress {
    producer: Signed<ThreadedProducer<Deliveries>>,
    mail: Arc<Queue<Mail>>,
    job: JobId,
    ingress: String,
    egress: TopicRow,
    dead_letter: TopicRow,
    verdict: TopicRow,
    schema_header: Option<[u8; GUID_HEADER_BYTES]>,
    verdict_schema: u32,
}

/// The topics of [`Egress`].
pub struct EgressTopics {
    pub ingress: String,
    pub egress: TopicRow,
    pub dead_letter: TopicRow,
    pub verdict: TopicRow,
    /// The header of egress records that names their schema, if they have it.
    pub schema_header: Option<[u8; GUID_HEADER_BYTES]>,
    /// Registered id of the verdict schema.
    pub verdict_schema: u32,
}

impl Egress {
    pub fn new(
        cluster: &Cluster,
        job: JobId,
        topics: EgressTopics,
        compression: &str,
        mail: Arc<Queue<Mail>>,
    ) -> Result<Self> {
        let mut config = cluster.config()?;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", compression)
            .set("linger.ms", "10")
            .set("queue.buffering.max.kbytes", "65536")
            .set(
                "message.timeout.ms",
                cluster.timeout().as_millis().to_string(),
            );
        let deliveries = Deliveries {
            mail: Arc::clone(&mail),
        };
        let producer: Signed<ThreadedProducer<Deliveries>> =
            cluster.connect("make a producer", &config, deliveries)?;
        cluster.introduce(producer.client(), &topics.egress.name);
        Ok(Self {
            producer,
            mail,
            job,
            ingress: topics.ingress,
            egress: topics.egress,
            dead_letter: topics.dead_letter,
            verdict: topics.verdict,
            schema_header: topics.schema_header,
            verdict_schema: topics.verdict_schema,
        })
    }

    /// Sends all of a batch. Waits while the producer's buffer is full; `false`: the worker stops.
    ///
    /// # Errors
    /// If a record is refused before it is sent; one refused later is posted.
    pub fn send(&self, batch: &Batch, handled: Handled, go: &dyn Fn() -> bool) -> Result<bool> {
        let mut tally = Tally {
            read: batch.records.len() as u64,
            retried: handled.retried,
            ..Tally::default()
        };
        let mut ranges = Ranges::default();
        let mut fates = Vec::with_capacity(handled.outcomes.len());
        for (record, outcome) in batch.records.iter().zip(handled.outcomes) {
            let outcome = fitting(outcome);
            tally.count(&outcome);
            match &outcome {
                Outcome::Answered(family) if family.len() == 1 => {}
                Outcome::Answered(family) => ranges.add(record, family.len(), ""),
                Outcome::Filtered(reason) => ranges.add(record, 0, reason),
                Outcome::DeadLetter { .. } => {}
            }
            fates.push((record, outcome));
        }
        let ticket = Arc::new(Ticket {
            // One is ours, so that the batch isn't complete before all of it is sent.
            left: AtomicUsize::new(1),
            done: Mutex::new(Some(Done {
                partition: batch.partition,
                epoch: batch.epoch,
                offsets: batch.records.iter().map(|r| r.offset).collect(),
                weight: batch.weight(),
                tally,
            })),
            mail: Arc::clone(&self.mail),
        });
        for (record, outcome) in &fates {
            let sent = match outcome {
                Outcome::Answered(family) => {
                    self.family(record, batch.attempt, family, &ticket, go)
                }
                Outcome::Filtered(_) => Ok(true),
                Outcome::DeadLetter {
                    reason,
                    detail,
                    attempts,
                } => {
                    let reason = match detail.as_str() {
                        "" => reason.clone(),
                        detail => format!("{reason}: {detail}"),
                    };
                    self.letter(batch.partition, record, &reason, *attempts, &ticket, go)
                }
            };
            if !sent? {
                return Ok(false);
            }
        }
        if !self.verdicts(batch, ranges, &ticket, go)? {
            return Ok(false);
        }
        ticket.one_less();
        Ok(true)
    }

    /// All children of an input, in order, to one partition.
    fn family(
        &self,
        record: &Record,
        attempt: u32,
        family: &[Vec<u8>],
        ticket: &Arc<Ticket>,
        go: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let partition = record.identity.partition(self.egress.partitions);
        let of = u32::try_from(family.len()).unwrap_or(u32::MAX);
        for (child, payload) in (0..of).zip(family) {
            let identity = EgressIdentity {
                input: record.identity,
                attempt,
                child,
                of,
            };
            let mut headers = OwnedHeaders::new_with_capacity(2).insert(Header {
                key: HEADER,
                value: Some(&identity.to_bytes()[..]),
            });
            if let Some(schema) = &self.schema_header {
                headers = headers.insert(Header {
                    key: VALUE_HEADER,
                    value: Some(&schema[..]),
                });
            }
            let message =
                BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.egress.name, Arc::clone(ticket))
                    .partition(partition)
                    .payload(payload)
                    .headers(headers);
            if !self.put(message, ticket, go)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A dead letter: payload and key as they came.
    fn letter(
        &self,
        partition: i32,
        record: &Record,
        reason: &str,
        attempts: u32,
        ticket: &Arc<Ticket>,
        go: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let origin = format!("{}/{partition}/{}", self.ingress, record.offset);
        let attempts = attempts.to_string();
        let headers = [
            (HEADER, &record.identity.to_bytes()[..]),
            (REASON_HEADER, shortened(reason).as_bytes()),
            (ATTEMPTS_HEADER, attempts.as_bytes()),
            (ORIGIN_HEADER, origin.as_bytes()),
        ]
        .into_iter()
        .chain(
            record
                .schema
                .as_deref()
                .map(|schema| (VALUE_HEADER, schema)),
        )
        .fold(
            OwnedHeaders::new_with_capacity(5),
            |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(value),
                })
            },
        );
        let mut message =
            BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.dead_letter.name, Arc::clone(ticket))
                .partition(record.identity.partition(self.dead_letter.partitions))
                .payload(&record.payload)
                .headers(headers);
        if let Some(key) = &record.key {
            message = message.key(key);
        }
        self.put(message, ticket, go)
    }

    fn verdicts(
        &self,
        batch: &Batch,
        ranges: Ranges,
        ticket: &Arc<Ticket>,
        go: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let ranges = ranges.merged();
        let Some(first) = batch.records.first().filter(|_| !ranges.is_empty()) else {
            return Ok(true);
        };
        let mut payload = Vec::new();
        framing::write(self.verdict_schema, &mut payload);
        let verdicts = Verdicts {
            job: self.job.to_string(),
            attempt: i64::from(batch.attempt),
            ranges,
        };
        let datum = verdicts.encode().map_err(|reason| Error::Schema {
            what: "of verdicts".into(),
            reason,
        })?;
        payload.extend_from_slice(&datum);
        let message =
            BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.verdict.name, Arc::clone(ticket))
                .partition(first.identity.partition(self.verdict.partitions))
                .payload(&payload);
        self.put(message, ticket, go)
    }

    fn put(
        &self,
        message: BaseRecord<'_, [u8], [u8], Arc<Ticket>>,
        ticket: &Ticket,
        go: &dyn Fn() -> bool,
    ) -> Result<bool> {
        ticket.left.fetch_add(1, Ordering::AcqRel);
        let mut message = message;
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(true),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    if !go() {
                        return Ok(false);
                    }
                    message = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, back)) => return Err(undelivered(back.topic, back.partition, &error)),
            }
        }
    }
}

fn shortened(reason: &str) -> &str {
    (0..=REASON_BYTES)
        .rev()
        .find_map(|end| reason.get(..end))
        .filter(|_| reason.len() > REASON_BYTES)
        .unwrap_or(reason)
}

/// An answer that no broker would take becomes a dead letter, before any of its family is sent.
fn fitting(outcome: Outcome) -> Outcome {
    let Outcome::Answered(family) = &outcome else {
        return outcome;
    };
    let Some(large) = family.iter().find(|p| p.len() > LARGEST) else {
        return outcome;
    };
    Outcome::DeadLetter {
        reason: "AnswerTooLarge".into(),
        detail: format!(
            "an answer of {} bytes, at most {LARGEST} fit a message",
            large.len()
        ),
        attempts: 1,
    }
}
