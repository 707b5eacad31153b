//! Kafka as the stages need it: one cluster a region, topics with their ids, bounded reads of ranges.

mod acknowledged;
mod cluster;
mod describe;
mod group;
mod options;
mod produce;
mod produce_options;
mod range;
mod sasl;
mod signed;
mod topics;
mod transaction;
pub mod transport;

pub use acknowledged::{Acknowledged, Outgoing};
pub use cluster::{Cluster, TopicFacts};
pub use group::{GroupSeen, GroupWatch};
pub use options::refusal;
pub use produce::KafkaTransport;
pub use produce_options::ProduceOptions;
pub use range::{PartitionRange, follow_ranges, read_ranges, since_start};
pub use sasl::check as check_sasl;
pub use signed::Signed;
pub use topics::{DEFAULT_PARTITIONS, IfMissing, Wish, ahead_ms};
pub use transaction::{TRANSACTION_TIMEOUT_MS, Transactions};

use rdkafka::message::{BorrowedMessage, Headers, Message};

/// The value of a header, if the message has it.
pub fn header<'m>(message: &'m BorrowedMessage<'_>, name: &str) -> Option<&'m [u8]> {
    let headers = message.headers()?;
    (0..headers.count())
        .map(|i| headers.get(i))
        .find(|h| h.key == name)
        .and_then(|h| h.value)
}
