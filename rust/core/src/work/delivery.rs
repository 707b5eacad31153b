//! Acknowledgements: records are done when the broker has all that follows from them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;

use super::finish::Outcome;
use super::queue::{Queue, lock};
use super::summary::Tally;
use super::task::Task;
use super::worker::Mail;
use crate::error::Error;

/// Records on their way: the last acknowledgement posts them as done.
pub struct Ticket {
    left: AtomicUsize,
    done: Mutex<Option<Done>>,
    mail: Arc<Queue<Mail>>,
}

/// Records that are delivered, all that follows from them.
#[derive(Debug)]
pub struct Done {
    pub parts: Vec<Part>,
    /// Answers and dead letters by topic.
    pub sent: [(Arc<str>, u64); 2],
}

/// Of them, those of one epoch of a partition.
#[derive(Debug)]
pub struct Part {
    pub partition: i32,
    pub epoch: u64,
    pub offsets: Vec<i64>,
    pub weight: u64,
    pub tally: Tally,
}

impl Part {
    pub fn new(task: &Task) -> Self {
        Self {
            partition: task.partition,
            epoch: task.epoch,
            offsets: Vec::new(),
            weight: 0,
            tally: Tally::default(),
        }
    }

    pub fn count(&mut self, task: &Task, outcome: &Outcome) {
        self.offsets.push(task.record.offset);
        self.weight += task.record.weight();
        self.tally.read += 1;
        self.tally.retried += u64::from(task.way.calls.saturating_sub(1));
        self.tally.count(outcome);
    }
}

impl Ticket {
    /// One is the sender's own, so that nothing is done before all of it is sent. `None`: nobody waits for it.
    pub fn new(done: Option<Done>, mail: &Arc<Queue<Mail>>) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(1),
            done: Mutex::new(done),
            mail: Arc::clone(mail),
        })
    }

    pub fn one_more(&self) {
        self.left.fetch_add(1, Ordering::AcqRel);
    }

    pub fn one_less(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(done) = lock(&self.done).take()
        {
            self.mail.push(Mail::Done(done));
        }
    }
}

/// Counts acknowledgements.
pub struct Deliveries {
    pub mail: Arc<Queue<Mail>>,
    /// A record that isn't taken fails its transaction, and is sent again with it.
    pub transactional: bool,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Arc<Ticket>) {
        match result {
            Ok(_) => ticket.one_less(),
            Err(_) if self.transactional => {}
            Err((error, message)) => self.mail.push(Mail::Failed(undelivered(
                message.topic(),
                Some(message.partition()),
                error,
            ))),
        }
    }
}

pub fn undelivered(topic: &str, partition: Option<i32>, error: &KafkaError) -> Error {
    Error::Topic {
        topic: topic.to_owned(),
        partition,
        offset: None,
        reason: format!(
            "a record was not taken ({error}); nothing of its input was committed, run the worker again"
        ),
    }
}
