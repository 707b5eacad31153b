//! Producing by librdkafka: the publisher's transport.
//!
//! The safe API allocates a topic name per record and calls back per delivered one. Here the topic is resolved once,
//! and delivery reports are taken as librdkafka gives them: one event for each batch of the wire.

use std::ffi::{CStr, CString, c_void};
use std::ops::Range;
use std::ptr;
use std::time::{Duration, Instant};

use kappaflow_avro::framing::{GUID_HEADER_BYTES, VALUE_HEADER};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer, PurgeConfig};
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_vtype_t as vtype;

use super::Cluster;
use super::describe::Owned;
use super::produce_options::ProduceOptions;
use super::signed::Signed;
use super::transaction::Transactions;
use super::transport::{Failure, Origin, Report, Rows, Transport};
use crate::context::Context;
use crate::error::Result;
use crate::identity::HEADER;

/// librdkafka's own book-keeping for a queued record with a header, in bytes. Its queue limit counts payloads only.
const QUEUED_OVERHEAD: u64 = 400;

/// How long a flush holds linger off, in milliseconds: enough for the broker threads to see it.
const HURRY_MS: i32 = 5;
/// How long purged records may take to be reported, and one wait for it.
const PURGE_WAIT: Duration = Duration::from_secs(1);
const REPORT_WAIT: Duration = Duration::from_millis(50);

/// An idempotent producer bound to one topic.
pub struct KafkaTransport {
    // Dropped in this order: the handles before the client they belong to.
    topic: Owned<sys::rd_kafka_topic_t>,
    events: Owned<sys::rd_kafka_queue_t>,
    producer: Signed<BaseProducer>,
    /// Most rows in flight, so that librdkafka's book-keeping stays within the memory that was allowed.
    most: u64,
    in_flight: u64,
    /// Memory that a queued row takes, about.
    row_bytes: u64,
    schema_header: Option<[u8; GUID_HEADER_BYTES]>,
    transactions: Option<Transactions>,
    trouble: Option<String>,
}

type Event = Owned<sys::rd_kafka_event_t>;

// SAFETY: librdkafka's handles may be used from any thread; `&mut self` keeps two threads from using one at once.
unsafe impl Send for KafkaTransport {}

impl KafkaTransport {
    /// Makes the producer, and lets it get its id; one that sends in transactions takes its name.
    ///
    /// # Errors
    /// [`crate::Error::Kafka`] if librdkafka refuses an option, or the name can't be taken; [`crate::Error::Interrupted`].
    pub fn new(cluster: &Cluster, options: &ProduceOptions, ctx: &Context) -> Result<Self> {
        let mut config = cluster.config()?;
        options.apply(&mut config, |o| cluster.region.kafka.contains_key(o));
        let producer: Signed<BaseProducer> =
            cluster.connect("make a producer", &config, DefaultProducerContext)?;
        let transactions = options
            .transactional_id
            .as_ref()
            .map(|id| Transactions::claim(&*producer, id, cluster, ctx, "publish"))
            .transpose()?;
        if transactions.is_none() {
            cluster.introduce(producer.client(), &options.topic);
        }
        let name = CString::new(options.topic.as_str())
            .map_err(|e| cluster.error("name of the topic", e))?;
        let rk = producer.client().native_ptr();
        // SAFETY: `rk` is alive; a null configuration means the default; the name is copied.
        let topic = unsafe { sys::rd_kafka_topic_new(rk, name.as_ptr(), ptr::null_mut()) };
        if topic.is_null() {
            return Err(cluster.error("use the topic", format!("{} is refused", options.topic)));
        }
        // SAFETY: `rk` is alive; the reference is given back with its own destructor.
        let events = unsafe { sys::rd_kafka_queue_get_main(rk) };
        Ok(Self {
            topic: Owned(topic, sys::rd_kafka_topic_destroy),
            events: Owned(events, sys::rd_kafka_queue_destroy),
            producer,
            most: u64::from(options.queue_mib) * 1024 * 1024,
            in_flight: 0,
            row_bytes: QUEUED_OVERHEAD,
            schema_header: options.schema_header,
            transactions,
            trouble: None,
        })
    }

    /// Rows that may be in flight while each takes about `row_bytes` bytes of memory.
    fn room(&self) -> bool {
        self.in_flight.saturating_mul(self.row_bytes) < self.most || self.in_flight == 0
    }

    /// Takes the reports out of one event.
    ///
    /// # Safety
    /// `event` is an event of this producer's queue.
    unsafe fn delivered(&mut self, event: &Event, into: &mut Vec<Report>) {
        loop {
            // SAFETY: as the caller says; the message lives until the event is destroyed.
            let message = unsafe { sys::rd_kafka_event_message_next(event.0) };
            if message.is_null() {
                return;
            }
            self.in_flight = self.in_flight.saturating_sub(1);
            // SAFETY: not null, and alive as said.
            let (m, status) = unsafe { (&*message, sys::rd_kafka_message_status(message)) };
            let (slot, seq) = unpack(m._private);
            if m.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                acknowledged(into, slot, seq, m.partition, m.offset);
                continue;
            }
            let code = RDKafkaErrorCode::from(m.err);
            if let Some(transactions) = &mut self.transactions {
                transactions.heard(code);
            }
            into.push(Report::Failed {
                slot,
                seq,
                partition: m.partition,
                failure: Failure {
                    possibly_persisted: status
                        != sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED,
                    batch_too_large: code == RDKafkaErrorCode::MessageSizeTooLarge,
                    reason: code.to_string(),
                },
            });
        }
    }

    /// Why the producer will never send again, if so.
    fn fatal(&mut self) -> Option<String> {
        let (code, text) = self.producer.client().fatal_error()?;
        if let Some(transactions) = &mut self.transactions {
            transactions.heard(code);
        }
        Some(format!("{text} ({code})"))
    }

    fn event(&mut self, wait: Duration) -> Option<Event> {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive; a returned event is owned by us.
        let event = unsafe { sys::rd_kafka_queue_poll(self.events.0, wait_ms) };
        (!event.is_null()).then_some(Owned(event, sys::rd_kafka_event_destroy))
    }
}

/// Appends an acknowledgement, to the run before it if it goes on there.
fn acknowledged(into: &mut Vec<Report>, slot: u32, seq: u32, partition: i32, offset: i64) {
    if let Some(Report::Acknowledged {
        slot: run_slot,
        first_seq,
        count,
        partition: run_partition,
        first_offset,
    }) = into.last_mut()
        && (*run_slot, *run_partition) == (slot, partition)
        && first_seq.checked_add(*count) == Some(seq)
        && *first_offset + i64::from(*count) == offset
    {
        *count += 1;
        return;
    }
    into.push(Report::Acknowledged {
        slot,
        first_seq: seq,
        count: 1,
        partition,
        first_offset: offset,
    });
}

/// The opaque of a record is no address: it is the row's slot and number.
fn pack(slot: u32, seq: u32) -> *mut c_void {
    const { assert!(usize::BITS == 64) };
    ptr::without_provenance_mut((slot as usize) << 32 | seq as usize)
}

fn unpack(opaque: *mut c_void) -> (u32, u32) {
    let packed = opaque.addr() as u64;
    // Both halves were u32 when they were packed.
    ((packed >> 32) as u32, packed as u32)
}

impl Transport for KafkaTransport {
    fn send(&mut self, origin: Origin, rows: &Rows, range: Range<usize>) -> Result<usize, String> {
        const NAME: &CStr = c"kf-id";
        const SCHEMA: &CStr = c"__value_schema_id";
        debug_assert_eq!(NAME.to_bytes(), HEADER.as_bytes());
        debug_assert_eq!(SCHEMA.to_bytes(), VALUE_HEADER.as_bytes());
        // The list of arguments ends at the first `END`: without a header what stands behind it is not read.
        let (schema_tag, schema) = match &self.schema_header {
            Some(value) => (vtype::RD_KAFKA_VTYPE_HEADER, value.as_slice()),
            None => (vtype::RD_KAFKA_VTYPE_END, &[][..]),
        };
        let count = rows.len().max(1) as u64;
        self.row_bytes = QUEUED_OVERHEAD + (rows.buffer.len() + rows.keys.len()) as u64 / count;
        let rk = self.producer.client().native_ptr();
        let (from, to) = (range.start, range.end.min(rows.len()));
        for i in from..to {
            if !self.room() {
                return Ok(i - from);
            }
            let (seq, partition) = (rows.seqs[i], rows.partitions[i]);
            let (payload, key) = (rows.payload(i), rows.key(i));
            let key_ptr = if key.is_empty() {
                ptr::null()
            } else {
                key.as_ptr()
            };
            // 0 is librdkafka's word for the present.
            let timestamp = rows.timestamps.get(i).copied().unwrap_or(0);
            let identity = origin.identity(seq).to_bytes();
            // SAFETY: each tag is followed by the arguments that rdkafka.h gives for it; payload, key and headers are
            // copied before the call returns; the topic handle belongs to `rk`; both are alive.
            let code = unsafe {
                sys::rd_kafka_producev(
                    rk,
                    vtype::RD_KAFKA_VTYPE_RKT,
                    self.topic.0,
                    vtype::RD_KAFKA_VTYPE_PARTITION,
                    partition,
                    vtype::RD_KAFKA_VTYPE_MSGFLAGS,
                    sys::RD_KAFKA_MSG_F_COPY,
                    vtype::RD_KAFKA_VTYPE_VALUE,
                    payload.as_ptr().cast::<c_void>(),
                    payload.len(),
                    vtype::RD_KAFKA_VTYPE_KEY,
                    key_ptr.cast::<c_void>(),
                    key.len(),
                    vtype::RD_KAFKA_VTYPE_TIMESTAMP,
                    timestamp,
                    vtype::RD_KAFKA_VTYPE_OPAQUE,
                    pack(origin.slot, seq),
                    vtype::RD_KAFKA_VTYPE_HEADER,
                    NAME.as_ptr(),
                    identity.as_ptr().cast::<c_void>(),
                    identity.len() as isize,
                    schema_tag,
                    SCHEMA.as_ptr(),
                    schema.as_ptr().cast::<c_void>(),
                    schema.len() as isize,
                    vtype::RD_KAFKA_VTYPE_END,
                )
            };
            match RDKafkaErrorCode::from(code) {
                RDKafkaErrorCode::NoError => self.in_flight += 1,
                RDKafkaErrorCode::QueueFull => return Ok(i - from),
                error => {
                    let detail = self.fatal().unwrap_or_else(|| error.to_string());
                    return Err(format!(
                        "split {} row {seq} for partition {partition} was not taken: {detail}",
                        origin.split
                    ));
                }
            }
        }
        Ok(to.saturating_sub(from))
    }

    fn hurry(&mut self) {
        // While a flush runs, librdkafka does not linger. It need not end in that time, so its answer means nothing.
        // SAFETY: the client is alive.
        let _ = unsafe { sys::rd_kafka_flush(self.producer.client().native_ptr(), HURRY_MS) };
    }

    fn reports(&mut self, wait: Duration, into: &mut Vec<Report>) {
        let deadline = Instant::now() + wait;
        let mut left = wait;
        while let Some(event) = self.event(left) {
            // SAFETY: the event is ours and alive.
            match unsafe { sys::rd_kafka_event_type(event.0) } {
                sys::RD_KAFKA_EVENT_DR => {
                    // SAFETY: an event of this producer's queue.
                    unsafe { self.delivered(&event, into) };
                    // What waits already is taken too, without waiting for more.
                    left = Duration::ZERO;
                }
                sys::RD_KAFKA_EVENT_ERROR => {
                    // SAFETY: the text lives as long as the event; it is copied.
                    let text = unsafe { CStr::from_ptr(sys::rd_kafka_event_error_string(event.0)) };
                    self.trouble = Some(text.to_string_lossy().into_owned());
                    left = left.min(deadline.saturating_duration_since(Instant::now()));
                }
                _ => left = left.min(deadline.saturating_duration_since(Instant::now())),
            }
        }
    }

    fn in_flight(&self) -> u64 {
        self.in_flight
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn transactional(&self) -> bool {
        self.transactions.is_some()
    }

    fn begin(&mut self) -> Result<(), String> {
        let Some(transactions) = &mut self.transactions else {
            return Ok(());
        };
        transactions.begin(&*self.producer)
    }

    fn commit(&mut self) -> Result<bool, String> {
        let Some(transactions) = &mut self.transactions else {
            return Ok(true);
        };
        transactions.commit(&*self.producer)
    }

    fn abort(&mut self) {
        self.producer
            .purge(PurgeConfig::default().queue().inflight());
        let (mut given_up, deadline) = (Vec::new(), Instant::now() + PURGE_WAIT);
        while self.in_flight > 0 && Instant::now() < deadline {
            self.reports(REPORT_WAIT, &mut given_up);
        }
        let _ = self.fatal();
        if let Some(transactions) = &mut self.transactions {
            transactions.abort(&*self.producer);
        }
    }

    fn fenced(&self) -> bool {
        self.transactions.as_ref().is_some_and(Transactions::fenced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opaques_keep_slot_and_row() {
        for (slot, seq) in [(0, 0), (1, u32::MAX), (u32::MAX, 7)] {
            assert_eq!(unpack(pack(slot, seq)), (slot, seq));
        }
    }

    #[test]
    fn runs_join_only_where_both_numbers_go_on() {
        let mut reports = Vec::new();
        for (slot, seq, partition, offset) in [
            (0, 5, 1, 10),
            (0, 6, 1, 11),
            (0, 7, 1, 13),
            (0, 8, 2, 14),
            (1, 9, 2, 15),
            (1, 10, 2, 16),
        ] {
            acknowledged(&mut reports, slot, seq, partition, offset);
        }
        let counts: Vec<u32> = reports
            .iter()
            .map(|r| match r {
                Report::Acknowledged { count, .. } => *count,
                Report::Failed { .. } => 0,
            })
            .collect();
        assert_eq!(counts, [2, 1, 1, 2]);
    }
}
