//! Kafka as the stages need it: one cluster a region, topics with their ids, bounded reads of ranges.

mod cluster;
mod produce;
mod range;
mod topic_id;
pub mod transport;

pub use cluster::{Cluster, TopicFacts};
pub use produce::{KafkaTransport, ProduceOptions};
pub use range::{PartitionRange, read_ranges};

use rdkafka::message::{BorrowedMessage, Headers, Message};

/// The value of a header, if the message has it.
pub fn header<'m>(message: &'m BorrowedMessage<'_>, name: &str) -> Option<&'m [u8]> {
    let headers = message.headers()?;
    (0..headers.count())
        .map(|i| headers.get(i))
        .find(|h| h.key == name)
        .and_then(|h| h.value)
}
