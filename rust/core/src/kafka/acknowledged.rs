//! A producer for the few records that a stage sends beside its work: each is acknowledged before it counts as sent.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::{Cluster, ProduceOptions, Signed};
use crate::context::Context;
use crate::error::{Error, Result};

/// How long to wait for reports before looking whether somebody wants to stop.
const WAIT: Duration = Duration::from_millis(50);

/// Sends to one topic. No broker is contacted before the first record.
pub struct Acknowledged {
    cluster: Cluster,
    options: ProduceOptions,
    stage: &'static str,
    producer: Option<Signed<BaseProducer<Acks>>>,
    /// Records sent that are not known to be acknowledged.
    unsettled: u64,
    /// Records acknowledged.
    pub delivered: u64,
    pub ctx: Context,
}

/// A record to send.
pub struct Outgoing<'a> {
    pub partition: i32,
    pub key: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a [u8])],
    pub payload: Option<&'a [u8]>,
}

/// What the broker said of the records in flight.
#[derive(Default)]
struct Acks(Mutex<(u64, Option<String>)>);

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // Poisoned only by a panic in these lines.
        let Ok(mut seen) = self.0.lock() else { return };
        match result {
            Ok(_) => seen.0 += 1,
            Err((error, _)) => {
                seen.1.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

impl Acknowledged {
    /// `options` says which topic, and how large its messages may be; `stage` is named where it is interrupted.
    pub fn new(
        cluster: Cluster,
        options: ProduceOptions,
        stage: &'static str,
        ctx: Context,
    ) -> Self {
        Self {
            cluster,
            options,
            stage,
            producer: None,
            unsettled: 0,
            delivered: 0,
            ctx,
        }
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub fn topic(&self) -> &str {
        &self.options.topic
    }

    /// The largest payload and key together, in bytes, that can be sent.
    pub fn largest_record(&self) -> usize {
        self.options.largest_record()
    }

    /// Gives a record to the broker's client, whose queue is bounded.
    ///
    /// # Errors
    /// [`Error::Topic`] if it was not taken; [`Error::Kafka`]; [`Error::Interrupted`].
    pub fn send(&mut self, record: &Outgoing<'_>) -> Result<()> {
        if self.producer.is_none() {
            self.producer = Some(self.connect()?);
        }
        let Some(producer) = &self.producer else {
            return Err(self.undelivered("it has no producer"));
        };
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in record.headers {
            let value = Some(*value);
            headers = headers.insert(Header { key, value });
        }
        let mut message = BaseRecord::<[u8], [u8], ()>::to(&self.options.topic)
            .partition(record.partition)
            .headers(headers);
        if let Some(key) = record.key {
            message = message.key(key);
        }
        if let Some(payload) = record.payload {
            message = message.payload(payload);
        }
        loop {
            match producer.send(message) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.ctx.check(self.stage)?;
                    message = back;
                    producer.poll(WAIT);
                }
                Err((error, _)) => return Err(self.undelivered(&error.to_string())),
            }
        }
        self.unsettled += 1;
        Ok(())
    }

    /// Waits until the broker has all that was sent.
    ///
    /// # Errors
    /// [`Error::Topic`] if one was not acknowledged; [`Error::Interrupted`].
    pub fn settle(&mut self) -> Result<()> {
        if let Some(producer) = &self.producer {
            self.wait(producer, self.unsettled)?;
            self.delivered += std::mem::take(&mut self.unsettled);
        }
        Ok(())
    }

    fn connect(&self) -> Result<Signed<BaseProducer<Acks>>> {
        let mut config = self.cluster.config()?;
        let overridden = |o: &str| self.cluster.region.kafka.contains_key(o);
        self.options.apply(&mut config, overridden);
        config.set("linger.ms", "1");
        let producer: Signed<BaseProducer<Acks>> =
            self.cluster
                .connect("make a producer", &config, Acks::default())?;
        self.cluster
            .introduce(producer.client(), &self.options.topic);
        Ok(producer)
    }

    fn wait(&self, producer: &BaseProducer<Acks>, sent: u64) -> Result<()> {
        // librdkafka gives up on a message by itself; this is for one that it forgets.
        let deadline = Instant::now() + self.options.timeout * 2;
        loop {
            // Not flushed means that some are still on their way: what came back is counted below.
            let _ = producer.flush(WAIT);
            let mut seen = producer
                .context()
                .0
                .lock()
                .map_err(|_| self.undelivered("its reports broke off"))?;
            if let Some(reason) = &seen.1 {
                return Err(self.undelivered(reason));
            }
            if seen.0 >= sent {
                *seen = (0, None);
                return Ok(());
            }
            drop(seen);
            self.ctx.check(self.stage)?;
            if Instant::now() > deadline {
                return Err(self.undelivered("no answer from the broker"));
            }
        }
    }

    fn undelivered(&self, reason: &str) -> Error {
        Error::Topic {
            topic: self.options.topic.clone(),
            partition: None,
            offset: None,
            reason: format!(
                "a record for it was not taken ({reason}), so what it tells of is not done; run {} again",
                self.stage
            ),
        }
    }
}
