//! Transactions of a producer: claimed by name, committed in steps that can be interrupted, given up.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer, ProducerContext};

use super::Cluster;
use crate::context::Context;
use crate::error::Result;

/// How long the broker lets a transaction stay open, in milliseconds, unless the region's options say otherwise. Kafka's
/// own limit (`transaction.max.timeout.ms`) is 900,000 by default.
pub const TRANSACTION_TIMEOUT_MS: u64 = 600_000;
/// One wait for an answer, so that a cancel is noticed soon.
const STEP: Duration = Duration::from_millis(500);
/// How long giving up may take.
const ABORT: Duration = Duration::from_secs(2);

/// The transactions of one producer.
#[derive(Debug)]
pub struct Transactions {
    id: String,
    /// How long the broker may take for an answer.
    timeout: Duration,
    /// Since when a commit has been asked for.
    committing: Option<Instant>,
    open: bool,
    fenced: bool,
    /// The client says that this producer can do no more.
    over: bool,
}

impl Transactions {
    /// Takes the name: whatever another producer of that name had open is committed or given up when this returns, and it
    /// will never send again.
    ///
    /// # Errors
    /// [`crate::Error::Kafka`] if the brokers refuse or don't answer; [`crate::Error::Interrupted`].
    pub fn claim<C: ProducerContext>(
        producer: &impl Producer<C>,
        id: &str,
        cluster: &Cluster,
        ctx: &Context,
        stage: &'static str,
    ) -> Result<Self> {
        let began = Instant::now();
        loop {
            ctx.check(stage)?;
            match producer.init_transactions(STEP) {
                Ok(()) => break,
                Err(e) if retriable(&e) && began.elapsed() < cluster.timeout() => {}
                Err(e) => {
                    return Err(cluster.error(format!("begin as transactional.id {id}"), told(&e)));
                }
            }
        }
        Ok(Self {
            id: id.to_owned(),
            timeout: cluster.timeout(),
            committing: None,
            open: false,
            fenced: false,
            over: false,
        })
    }

    pub fn fenced(&self) -> bool {
        self.fenced
    }

    /// Whether this producer can begin no other transaction.
    pub fn is_over(&self) -> bool {
        self.fenced || self.over
    }

    /// Notes an error of the producer that says that another has taken the name.
    pub fn heard(&mut self, code: RDKafkaErrorCode) {
        self.fenced |= matches!(
            code,
            RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch
        );
    }

    pub fn begin<C: ProducerContext>(&mut self, producer: &impl Producer<C>) -> Result<(), String> {
        producer
            .begin_transaction()
            .map_err(|e| self.failed("begin", &e))?;
        self.open = true;
        Ok(())
    }

    /// Makes a consumer's commit part of the open transaction. The broker refuses it of a member whose place in the group
    /// is another's by now.
    pub fn add_offsets<C: ProducerContext>(
        &mut self,
        producer: &impl Producer<C>,
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), String> {
        let since = Instant::now();
        loop {
            match producer.send_offsets_to_transaction(offsets, group, STEP) {
                Ok(()) => return Ok(()),
                Err(e) if retriable(&e) && since.elapsed() < self.timeout => {}
                Err(e) => return Err(self.failed("put offsets into", &e)),
            }
        }
    }

    /// As [`super::transport::Transport::commit`].
    pub fn commit<C: ProducerContext>(
        &mut self,
        producer: &impl Producer<C>,
    ) -> Result<bool, String> {
        let since = *self.committing.get_or_insert_with(Instant::now);
        match producer.commit_transaction(STEP) {
            Ok(()) => {
                self.committing = None;
                self.open = false;
                Ok(true)
            }
            Err(e) if retriable(&e) && since.elapsed() < self.timeout => Ok(false),
            Err(e) => {
                self.committing = None;
                Err(self.failed("commit", &e))
            }
        }
    }

    /// Gives up the open transaction, whose records have been taken out of the queue. `false`: the broker has not said
    /// so yet.
    pub fn abort<C: ProducerContext>(&mut self, producer: &impl Producer<C>) -> bool {
        self.committing = None;
        if self.open && !self.fenced {
            // The next producer of this name does it, where this can't.
            let aborted = producer.abort_transaction(ABORT);
            self.open = aborted.is_err();
            self.over |= matches!(aborted, Err(KafkaError::Transaction(e)) if e.is_fatal());
        }
        !self.open
    }

    fn failed(&mut self, what: &str, error: &KafkaError) -> String {
        if let KafkaError::Transaction(inner) = error {
            self.heard(inner.code());
            self.over |= inner.is_fatal();
        }
        format!(
            "can't {what} a transaction as transactional.id {}: {}",
            self.id,
            told(error)
        )
    }
}

fn retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(inner) => inner.is_retriable(),
        _ => false,
    }
}

fn told(error: &KafkaError) -> String {
    match error {
        KafkaError::Transaction(inner) => inner.string(),
        other => other.to_string(),
    }
}
