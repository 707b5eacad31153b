//! A record on its way through a worker.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::identity::Identity;
use crate::job::Order;

/// An ingress record that was read.
#[derive(Clone, Debug)]
pub struct Record {
    pub offset: i64,
    /// The broker's time of it, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    pub identity: Identity,
    pub key: Option<Vec<u8>>,
    /// The header that names the schema, if the record has it.
    pub schema: Option<Vec<u8>>,
    /// All headers that are not ours, in their order: what follows from the record carries them on.
    pub headers: Vec<(String, Vec<u8>)>,
    pub payload: Vec<u8>,
}

impl Record {
    /// What it counts for in admission: its bytes, and about what keeping it costs.
    pub fn weight(&self) -> u64 {
        (self.payload.len() + self.key.as_ref().map_or(0, Vec::len) + self.header_bytes() + 96)
            as u64
    }

    /// Bytes of the headers that are carried on.
    pub fn header_bytes(&self) -> usize {
        self.headers
            .iter()
            .map(|(k, v)| k.len() + v.len() + 8)
            .sum()
    }

    /// A header that is text.
    pub fn text_header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// What shares an order: a key of a partition, or the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    pub partition: i32,
    pub key: u64,
}

impl Lane {
    /// The lane of a record, where it has one: a record without a key shares no order by key.
    pub fn of(order: Order, partition: i32, record: &Record) -> Option<Self> {
        let key = match order {
            Order::None => return None,
            Order::Partition => 0,
            Order::Key => {
                let mut hasher = DefaultHasher::new();
                record.key.as_ref()?.hash(&mut hasher);
                // Keys that share a hash are worked on in turn, which is right too.
                hasher.finish()
            }
        };
        Some(Self { partition, key })
    }
}

/// How a record has fared so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Times it was given to the service.
    pub calls: u32,
    /// Times the service said "retry".
    pub tries: u32,
    /// Deaths of a process that are laid at its door.
    pub deaths: u32,
    /// Records that it is called with at most, itself among them, since a call with more has failed.
    pub share: Option<u32>,
}

/// A record with what is known of it.
#[derive(Clone, Debug)]
pub struct Task {
    pub partition: i32,
    pub epoch: u64,
    /// The attempt of the epoch, as it goes into egress identities.
    pub attempt: u32,
    pub lane: Option<Lane>,
    pub record: Record,
    pub way: Way,
}

/// What was let go before it was done: its credit is to be given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub records: u64,
    pub bytes: u64,
}

impl Dropped {
    pub fn add(&mut self, record: &Record) {
        self.records += 1;
        self.bytes += record.weight();
    }
}
