//! Transactional egress: what follows from records, and the commit that these records are done, become visible together
//! or not at all. Who reads what is committed sees each answer once, whatever dies.
//!
//! The finisher's thread does all of it, and commits are its alone. A commit has to tell of every record that is done:
//! one that it forgot would be answered twice. So what is done above a frontier and does not fit into the commit's
//! metadata waits for the frontier. A record whose partition was lost meanwhile is left to whoever has it now; the broker
//! refuses a transaction by the word of the group ([`Joint::group`]) where this worker does not know of the loss yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::{Offset, TopicPartitionList};

use super::chosen::{Chosen, Place};
use super::egress::{Egress, Parcel, transaction_timeout};
use super::finish::{Fate, Finisher};
use super::member::Member;
use super::queue::lock;
use super::worker::Worker;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::kafka::{Cluster, Transactions};

/// Between the commits of two transactions, as Kafka Streams' `commit.interval.ms` is where it processes exactly once.
const EVERY: Duration = Duration::from_millis(100);
/// How late a broker may find a transaction too old: twice its look at them all
/// (`transaction.abort.timed.out.transaction.cleanup.interval.ms`, 10,000 by default).
const EXPIRY: Duration = Duration::from_secs(20);

/// What to do where a worker ends.
const AGAIN: &str = "what was not committed is done again: run the worker again";

/// What the consumer's thread and the transactions share.
pub struct Joint {
    /// How long a transaction of another worker, that died in the middle of it, may stay open.
    pub patience: Duration,
    /// The worker's place in the group, as it was heard last.
    group: Mutex<Option<Arc<ConsumerGroupMetadata>>>,
    /// Held while a transaction is under way, and while partitions are let go.
    open: Mutex<()>,
}

impl Joint {
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            patience: transaction_timeout(cluster) + EXPIRY,
            group: Mutex::default(),
            open: Mutex::default(),
        }
    }
}

/// The transactions of a worker.
pub struct Committer {
    cluster: Cluster,
    transactions: Transactions,
    id: String,
    ctx: Context,
    /// When its producer was replaced last.
    renewed: Option<Instant>,
}

impl Worker {
    /// Hears where this worker stands in its group, if it commits in transactions. Who has lost its place has none until
    /// it is told of that, and lets its partitions go.
    pub fn hear_group(&self, consumer: &BaseConsumer<Member>) {
        // A client that has lost its place while it leaves answers nothing more.
        if let Some(joint) = self.joint.as_ref().filter(|_| self.goes_on()) {
            let group = match consumer.assignment_lost() {
                true => None,
                false => consumer.group_metadata(),
            };
            *lock(&joint.group) = group.map(Arc::new);
        }
    }

    /// While it is held, no transaction is under way.
    pub fn between_transactions(&self) -> Option<MutexGuard<'_, ()>> {
        self.joint.as_ref().map(|joint| lock(&joint.open))
    }
}

impl Finisher {
    /// Works off what is finished, in transactions, until the worker stops.
    pub fn run_in_transactions(&mut self, worker: &Worker, mut committer: Committer) -> Result<()> {
        let mut waiting: Vec<Fate> = Vec::new();
        let mut last = Instant::now();
        // Since when no transaction has been committed though one was due. From the end of the first that failed: a
        // process that stood still has not tried all that time.
        let mut failing: Option<Instant> = None;
        loop {
            std::thread::sleep(EVERY.saturating_sub(last.elapsed()));
            let all = worker.finished.drain(EVERY);
            if !worker.goes_on() {
                return Ok(());
            }
            self.fates(all, |_, mut fates| {
                waiting.append(&mut fates);
                Ok(true)
            })?;
            last = Instant::now();
            match committer.turn(&self.egress, worker, &mut waiting)? {
                Turn::Done => failing = None,
                Turn::Stopped => return Ok(()),
                Turn::Failed { reason, .. } => {
                    let since = *failing.get_or_insert_with(Instant::now);
                    if since.elapsed() > committer.cluster.timeout() {
                        return Err(committer.wrong(reason));
                    }
                    if committer.transactions.is_over() {
                        committer.renew(&mut self.egress, &reason)?;
                    }
                }
            }
        }
    }
}

/// How a transaction ended.
enum Turn {
    /// Committed, or there was nothing to commit.
    Done,
    /// The worker stops; nothing was committed.
    Stopped,
    /// What it had is still to be sent. `asked`: after its commit was asked for.
    Failed { reason: String, asked: bool },
}

impl Turn {
    fn failed(reason: String) -> Result<Self> {
        let asked = false;
        Ok(Self::Failed { reason, asked })
    }
}

impl Committer {
    /// Takes the name; what a worker of that name had open is given up.
    pub fn claim(egress: &Egress, id: &str, cluster: Cluster, ctx: &Context) -> Result<Self> {
        let transactions = Transactions::claim(&*egress.producer, id, &cluster, ctx, "work")?;
        Ok(Self {
            cluster,
            transactions,
            id: id.to_owned(),
            ctx: ctx.clone(),
            renewed: None,
        })
    }

    /// Goes on with a producer of the same name, after a transaction was open for too long: the process stood still, or
    /// the broker was away. Another that needs that so soon has lost its name to another worker.
    fn renew(&mut self, egress: &mut Egress, reason: &str) -> Result<()> {
        let soon = transaction_timeout(&self.cluster);
        if self.renewed.is_some_and(|at| at.elapsed() < soon) {
            let why = "another worker has taken its name";
            return Err(self.wrong(format!("{reason}; {why}; {AGAIN}")));
        }
        egress.renew(&self.cluster, &self.id)?;
        let cluster = &self.cluster;
        self.transactions =
            Transactions::claim(&*egress.producer, &self.id, cluster, &self.ctx, "work")?;
        self.renewed = Some(Instant::now());
        Ok(())
    }

    fn wrong(&self, reason: String) -> Error {
        self.cluster
            .error("commit answers in a transaction", reason)
    }

    /// One transaction of what waits; what is committed is taken out.
    fn turn(&mut self, egress: &Egress, worker: &Worker, waiting: &mut Vec<Fate>) -> Result<Turn> {
        let Some(joint) = &worker.joint else {
            return Ok(Turn::Done);
        };
        let _open = lock(&joint.open);
        let Some(group) = lock(&joint.group).clone() else {
            return Ok(Turn::Done);
        };
        let chosen = {
            let state = worker.state();
            Chosen::of(&state.schedule, &state.sent, std::mem::take(waiting))
        };
        if !chosen.stale.is_empty() {
            let stale = egress.parcel(chosen.stale).done;
            worker.state().complete(&stale, &worker.metrics);
        }
        *waiting = chosen.later;
        if chosen.places.is_empty() {
            // Nothing is done that isn't told already, so nothing of it is left.
            return Ok(Turn::Done);
        }
        let parcel = egress.parcel(chosen.now);
        let list = list(worker, &chosen.places)?;
        let ended = self.transact(egress, worker, &parcel, &list, &group);
        if !matches!(ended, Ok(Turn::Done)) {
            let (reason, asked) = match &ended {
                Ok(Turn::Failed { reason, asked }) => (reason.as_str(), *asked),
                _ => ("the worker stops", false),
            };
            self.give_up(egress, reason, asked)?;
            waiting.extend(parcel.into_fates());
            return ended;
        }
        let mut state = worker.state();
        state.complete(&parcel.done, &worker.metrics);
        for (partition, place) in &chosen.places {
            state.sent.insert(*partition, place.sent());
            state.summary.committed.insert(*partition, place.position);
        }
        drop(state);
        for (topic, n) in &parcel.done.sent {
            worker.metrics.sent(topic, *n);
        }
        worker.metrics.commits.add(1);
        Ok(Turn::Done)
    }

    /// Ends the open transaction: it is surely not committed then.
    fn give_up(&mut self, egress: &Egress, reason: &str, asked: bool) -> Result<()> {
        let since = Instant::now();
        loop {
            let over = self.transactions.is_over();
            if over && !asked || self.transactions.abort(&*egress.producer) {
                return Ok(());
            }
            if over || since.elapsed() > self.cluster.timeout() {
                let unknown = "whether it was committed is not known here";
                return Err(self.wrong(format!("{reason}; {unknown}; {AGAIN}")));
            }
            std::thread::sleep(EVERY);
        }
    }

    fn transact(
        &mut self,
        egress: &Egress,
        worker: &Worker,
        parcel: &Parcel,
        list: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
    ) -> Result<Turn> {
        let producer = &*egress.producer;
        if let Err(reason) = self.transactions.begin(producer) {
            return Turn::failed(reason);
        }
        match egress.send_in_transaction(parcel, &|| worker.goes_on()) {
            Ok(true) => {}
            Ok(false) => return Ok(Turn::Stopped),
            Err(error) => return Turn::failed(error.to_string()),
        }
        if let Err(reason) = self.transactions.add_offsets(producer, list, group) {
            return Turn::failed(reason);
        }
        loop {
            match self.transactions.commit(producer) {
                Ok(true) => return Ok(Turn::Done),
                Ok(false) => {}
                Err(reason) => {
                    let asked = true;
                    return Ok(Turn::Failed { reason, asked });
                }
            }
        }
    }
}

fn list(worker: &Worker, places: &BTreeMap<i32, Place>) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, place) in places {
        let mut element = list.add_partition(&worker.topic, *partition);
        element.set_metadata(place.metadata.as_str());
        element
            .set_offset(Offset::Offset(place.position))
            .map_err(|e| Error::Topic {
                topic: worker.topic.clone(),
                partition: Some(*partition),
                offset: Some(place.position),
                reason: format!("can't be committed: {e}"),
            })?;
    }
    Ok(list)
}
