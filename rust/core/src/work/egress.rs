//! What a worker sends: answers, dead letters, verdict ranges.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kappaflow_avro::framing::{self, GUID_HEADER_BYTES, VALUE_HEADER};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use super::delivery::{Deliveries, Done, Part, Ticket, undelivered};
use super::finish::{Fate, Outcome};
use super::queue::Queue;
use super::ranges::Ranges;
use super::task::{Record, Task};
use super::worker::Mail;
use crate::error::{Error, Result};
use crate::identity::{EgressIdentity, HEADER, Identity, JobId};
use crate::kafka::{Cluster, Signed};
use crate::store::TopicRow;
use crate::verdict::{ATTEMPTS_HEADER, ORIGIN_HEADER, REASON_HEADER, Verdicts, header_text};

/// librdkafka's default `message.max.bytes`, less what headers and framing may take.
const LARGEST: usize = 1_000_000 - 1_024;

/// Where a job's answers go in a region.
pub struct Egress {
    pub(super) producer: Signed<ThreadedProducer<Deliveries>>,
    compression: String,
    mail: Arc<Queue<Mail>>,
    job: JobId,
    ingress: String,
    egress: TopicRow,
    dead_letter: TopicRow,
    verdict: TopicRow,
    /// The names of the egress and the dead-letter topic.
    answers: Arc<str>,
    letters: Arc<str>,
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

/// What is sent of some records, and what they come to when all of it is delivered.
pub struct Parcel {
    fates: Vec<Fate>,
    /// Verdict ranges, with their attempt.
    ranges: Vec<(Ranges, u32)>,
    pub done: Done,
}

impl Parcel {
    pub fn into_fates(self) -> Vec<Fate> {
        self.fates
    }
}

impl Egress {
    /// `transactional_id`: what is sent is sent in transactions of that name.
    pub fn new(
        cluster: &Cluster,
        job: JobId,
        topics: EgressTopics,
        compression: &str,
        transactional_id: Option<&str>,
        mail: Arc<Queue<Mail>>,
    ) -> Result<Self> {
        let producer = producer(cluster, compression, transactional_id, &mail)?;
        cluster.introduce(producer.client(), &topics.egress.name);
        Ok(Self {
            producer,
            compression: compression.to_owned(),
            mail,
            job,
            ingress: topics.ingress,
            answers: topics.egress.name.as_str().into(),
            letters: topics.dead_letter.name.as_str().into(),
            egress: topics.egress,
            dead_letter: topics.dead_letter,
            verdict: topics.verdict,
            schema_header: topics.schema_header,
            verdict_schema: topics.verdict_schema,
        })
    }

    /// A new producer in place of one that can do no more.
    pub fn renew(&mut self, cluster: &Cluster, transactional_id: &str) -> Result<()> {
        self.producer = producer(
            cluster,
            &self.compression,
            Some(transactional_id),
            &self.mail,
        )?;
        Ok(())
    }

    /// Sends what follows from some records. Waits while the producer's buffer is full; `false`: the worker stops.
    ///
    /// # Errors
    /// If a record is refused before it is sent; one refused later is posted.
    pub fn send(&self, fates: Vec<Fate>, go: &dyn Fn() -> bool) -> Result<bool> {
        let Parcel {
            fates,
            ranges,
            done,
        } = self.parcel(fates);
        let ticket = Ticket::new(Some(done), &self.mail);
        let sent = self.put_all(&fates, &ranges, &ticket, go)?;
        if sent {
            ticket.one_less();
        }
        Ok(sent)
    }

    /// Sends as part of the open transaction, whose commit says whether all of it is delivered; else as [`Egress::send`].
    pub fn send_in_transaction(&self, parcel: &Parcel, go: &dyn Fn() -> bool) -> Result<bool> {
        let ticket = Ticket::new(None, &self.mail);
        self.put_all(&parcel.fates, &parcel.ranges, &ticket, go)
    }

    pub fn parcel(&self, fates: Vec<Fate>) -> Parcel {
        let fates: Vec<Fate> = fates
            .into_iter()
            .map(|(task, outcome)| {
                let outcome = fitting(outcome, task.record.header_bytes());
                (task, outcome)
            })
            .collect();
        let mut parts: BTreeMap<(i32, u64), (Part, Ranges, u32)> = BTreeMap::new();
        for (task, outcome) in &fates {
            let (part, ranges, _) = parts
                .entry((task.partition, task.epoch))
                .or_insert_with(|| (Part::new(task), Ranges::default(), task.attempt));
            part.count(task, outcome);
            match outcome {
                Outcome::Answered(family) if family.len() == 1 => {}
                Outcome::Answered(family) => ranges.add(&task.record, family.len(), ""),
                Outcome::Filtered(reason) => ranges.add(&task.record, 0, reason),
                Outcome::DeadLetter { .. } => {}
            }
        }
        let (parts, ranges): (Vec<Part>, Vec<(Ranges, u32)>) = parts
            .into_values()
            .map(|(part, ranges, attempt)| (part, (ranges, attempt)))
            .unzip();
        let letters = |part: &Part| part.tally.dead_lettered.values().sum::<u64>();
        let sent = [
            (
                Arc::clone(&self.answers),
                parts.iter().map(|p| p.tally.children).sum(),
            ),
            (Arc::clone(&self.letters), parts.iter().map(letters).sum()),
        ];
        Parcel {
            fates,
            ranges,
            done: Done { parts, sent },
        }
    }

    fn put_all(
        &self,
        fates: &[Fate],
        ranges: &[(Ranges, u32)],
        ticket: &Arc<Ticket>,
        go: &dyn Fn() -> bool,
    ) -> Result<bool> {
        for (task, outcome) in fates {
            let sent = match outcome {
                Outcome::Answered(family) => self.family(task, family, ticket, go),
                Outcome::Filtered(_) => Ok(true),
                Outcome::DeadLetter { reason, detail } => {
                    let reason = match detail.as_str() {
                        "" => reason.clone(),
                        detail => format!("{reason}: {detail}"),
                    };
                    self.letter(task, &reason, ticket, go)
                }
            };
            if !sent? {
                return Ok(false);
            }
        }
        for (ranges, attempt) in ranges {
            if !self.verdicts(ranges, *attempt, ticket, go)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All children of an input, in order, to one partition.
    fn family(
        &self,
        task: &Task,
        family: &[Vec<u8>],
        ticket: &Arc<Ticket>,
        go: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let input = task.record.identity;
        let partition = input.partition(self.egress.partitions);
        let of = u32::try_from(family.len()).unwrap_or(u32::MAX);
        for (child, payload) in (0..of).zip(family) {
            let identity = EgressIdentity {
                input,
                attempt: task.attempt,
                child,
                of,
            };
            let identity = identity.to_bytes();
            let schema = self.schema_header.as_ref().map(|s| (VALUE_HEADER, &s[..]));
            let headers = headers(
                [(HEADER, &identity[..])].into_iter().chain(schema),
                &task.record,
            );
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
        task: &Task,
        reason: &str,
        ticket: &Arc<Ticket>,
        go: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let record = &task.record;
        let origin = format!("{}/{}/{}", self.ingress, task.partition, record.offset);
        let attempts = task.way.calls.to_string();
        let identity = record.identity.to_bytes();
        let schema = record.schema.as_deref().map(|s| (VALUE_HEADER, s));
        let ours = [
            (HEADER, &identity[..]),
            (REASON_HEADER, header_text(reason)),
            (ATTEMPTS_HEADER, attempts.as_bytes()),
            (ORIGIN_HEADER, origin.as_bytes()),
        ];
        let headers = headers(ours.into_iter().chain(schema), record);
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
        ranges: &Ranges,
        attempt: u32,
        ticket: &Arc<Ticket>,
        go: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let Some((split, seq)) = ranges.first() else {
            return Ok(true);
        };
        let job = self.job;
        let input = Identity { job, split, seq };
        let ranges = ranges.merged();
        let mut payload = Vec::new();
        framing::write(self.verdict_schema, &mut payload);
        let verdicts = Verdicts {
            job: self.job.to_string(),
            attempt: i64::from(attempt),
            ranges,
        };
        let datum = verdicts.encode().map_err(|reason| Error::Schema {
            what: "of verdicts".into(),
            reason,
        })?;
        payload.extend_from_slice(&datum);
        let message =
            BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.verdict.name, Arc::clone(ticket))
                .partition(input.partition(self.verdict.partitions))
                .payload(&payload);
        self.put(message, ticket, go)
    }

    fn put(
        &self,
        message: BaseRecord<'_, [u8], [u8], Arc<Ticket>>,
        ticket: &Ticket,
        go: &dyn Fn() -> bool,
    ) -> Result<bool> {
        ticket.one_more();
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

fn producer(
    cluster: &Cluster,
    compression: &str,
    transactional_id: Option<&str>,
    mail: &Arc<Queue<Mail>>,
) -> Result<Signed<ThreadedProducer<Deliveries>>> {
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
    if let Some(id) = transactional_id {
        let timeout_ms = transaction_timeout(cluster).as_millis();
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", timeout_ms.to_string());
    }
    let deliveries = Deliveries {
        mail: Arc::clone(mail),
        transactional: transactional_id.is_some(),
    };
    cluster.connect("make a producer", &config, deliveries)
}

/// How long the broker lets a worker's transaction stay open: no less than a record may wait. So long may the records of a
/// worker that died in the middle of one have to wait for the next.
pub fn transaction_timeout(cluster: &Cluster) -> Duration {
    cluster.timeout().max(Duration::from_secs(10))
}

/// Ours, and those that the ingress record came with.
fn headers<'h>(
    ours: impl Iterator<Item = (&'h str, &'h [u8])>,
    record: &'h Record,
) -> OwnedHeaders {
    let theirs = record
        .headers
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_slice()));
    let headers = OwnedHeaders::new_with_capacity(5 + record.headers.len());
    ours.chain(theirs).fold(headers, |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(value),
        })
    })
}

/// An answer that no broker would take becomes a dead letter, before any of its family is sent.
fn fitting(outcome: Outcome, header_bytes: usize) -> Outcome {
    let largest = LARGEST.saturating_sub(header_bytes);
    let Outcome::Answered(family) = &outcome else {
        return outcome;
    };
    let Some(large) = family.iter().find(|p| p.len() > largest) else {
        return outcome;
    };
    Outcome::DeadLetter {
        reason: "AnswerTooLarge".into(),
        detail: format!(
            "an answer of {} bytes, at most {largest} fit a message",
            large.len()
        ),
    }
}
