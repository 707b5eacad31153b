//! What the publisher decides about its producer, and what follows from the topic's limits.

use std::collections::BTreeMap;
use std::time::Duration;

use kappaflow_avro::framing::GUID_HEADER_BYTES;
use rdkafka::config::ClientConfig;

use super::transaction::TRANSACTION_TIMEOUT_MS;

/// Kafka's own default of `max.message.bytes`, taken where the topic's can't be read.
pub const DEFAULT_MESSAGE_BYTES: u32 = 1_048_588;
/// What a record batch adds around its records, with room to spare.
const BATCH_OVERHEAD: u32 = 512;
/// What a record adds to its payload and key: the identity header, lengths, the head of its batch.
const RECORD_OVERHEAD: usize = 128;
/// What the publisher decides about its producer.
#[derive(Clone, Debug)]
pub struct ProduceOptions {
    pub topic: String,
    pub compression: String,
    /// Memory for queued records, in MiB.
    pub queue_mib: u32,
    /// How long a record may wait for its acknowledgement.
    pub timeout: Duration,
    /// The value of the header that names the schema, if records have it.
    pub schema_header: Option<[u8; GUID_HEADER_BYTES]>,
    /// The topic's `max.message.bytes`, if it could be read.
    pub max_message_bytes: Option<u32>,
    /// Sends batches of at most this many bytes; lowered after the broker refused one as too large.
    pub batch_bytes: Option<u32>,
    /// Rows are sent in transactions under this name.
    pub transactional_id: Option<String>,
    /// A record that fails takes all that follow it along: otherwise those would be before it when it is sent again.
    pub gapless: bool,
}

impl ProduceOptions {
    /// For a topic with these options.
    pub fn new(
        topic: &str,
        options: &BTreeMap<String, String>,
        compression: &str,
        queue_mib: u32,
        timeout: Duration,
    ) -> Self {
        let limit = options.get("max.message.bytes");
        Self {
            topic: topic.to_owned(),
            compression: compression.to_owned(),
            queue_mib,
            timeout,
            schema_header: None,
            max_message_bytes: limit.and_then(|text| text.parse().ok()),
            batch_bytes: None,
            transactional_id: None,
            gapless: false,
        }
    }

    /// The topic's `max.message.bytes`, or Kafka's default where it can't be read.
    pub fn message_limit(&self) -> u32 {
        self.max_message_bytes.unwrap_or(DEFAULT_MESSAGE_BYTES)
    }

    /// The largest batch, in bytes, that fits the topic. The topic's limit is on the batch, not on the record.
    pub fn largest_batch(&self) -> u32 {
        let limit = self.message_limit();
        let fits = limit.saturating_sub(BATCH_OVERHEAD).max(1);
        fits.min(self.batch_bytes.unwrap_or(1_000_000))
    }

    /// The largest payload and key together, in bytes, that the topic can take.
    pub fn largest_for_topic(&self) -> usize {
        let limit = self.message_limit();
        (limit as usize).saturating_sub(RECORD_OVERHEAD)
    }

    /// The largest payload and key together, in bytes, that can be sent: what is larger than the whole queue never is.
    pub fn largest_record(&self) -> usize {
        let queue = (self.queue_mib as usize).saturating_mul(1024 * 1024);
        self.largest_for_topic()
            .min(queue.saturating_sub(RECORD_OVERHEAD))
    }

    pub(crate) fn apply(&self, config: &mut ClientConfig, overridden: impl Fn(&str) -> bool) {
        // What exactness rests on is not open to options of the job.
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("queue.buffering.max.messages", "0")
            .set(
                "queue.buffering.max.kbytes",
                (u64::from(self.queue_mib) * 1024).to_string(),
            )
            .set("compression.type", &self.compression)
            .set("message.timeout.ms", self.timeout.as_millis().to_string())
            .set("enable.gapless.guarantee", self.gapless.to_string());
        if let Some(id) = &self.transactional_id {
            config.set("transactional.id", id);
            if !overridden("transaction.timeout.ms") {
                // No less than a record may wait.
                let timeout_ms = TRANSACTION_TIMEOUT_MS.max(self.timeout.as_millis() as u64);
                config.set("transaction.timeout.ms", timeout_ms.to_string());
            }
        }
        let limit = self.message_limit();
        for (option, value) in [
            ("linger.ms", "50".to_owned()),
            ("batch.num.messages", "100000".to_owned()),
            ("batch.size", self.largest_batch().to_string()),
            ("message.max.bytes", limit.max(1_000).to_string()),
        ] {
            if !overridden(option) {
                config.set(option, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_fit_the_topic() {
        let mut options = ProduceOptions {
            topic: "t".into(),
            compression: "lz4".into(),
            queue_mib: 64,
            timeout: Duration::from_secs(30),
            schema_header: None,
            max_message_bytes: Some(20_000),
            batch_bytes: None,
            transactional_id: None,
            gapless: false,
        };
        assert!(options.largest_batch() < 20_000);
        options.max_message_bytes = None;
        assert!(options.largest_batch() <= 1_000_000);
    }
}
