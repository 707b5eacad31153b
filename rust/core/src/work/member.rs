//! The worker as the client calls it back. All of it runs inside `poll`, on the consumer's thread.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};

use super::above;
use super::commit::PATIENCE;
use super::metrics::Phase;
use super::queue::lock;
use super::worker::{Mail, Worker};
use crate::error::{Error, Result};

/// Between two questions what is committed.
const AGAIN: Duration = Duration::from_millis(200);

/// By partition, the offsets that an earlier holder has done above its commit.
type Before = HashMap<i32, BTreeSet<i64>>;

/// A member of the group.
pub struct Member(pub Arc<Worker>);

impl ClientContext for Member {
    fn stats(&self, statistics: Statistics) {
        let mut ends = lock(&self.0.ends);
        for topic in statistics
            .topics
            .into_values()
            .filter(|t| t.topic == self.0.topic)
        {
            // The last stable offset: what a client that reads what is committed can come to.
            let known = topic.partitions.into_values().filter(|p| p.ls_offset >= 0);
            ends.extend(known.map(|p| (p.partition, p.ls_offset)));
        }
    }
}

impl ConsumerContext for Member {
    /// Both protocols of ours are cooperative, so that needn't be asked. A client that has lost its place in the group
    /// while it leaves answers nothing more, and who asks it waits for ever: what is due then was done at the loss.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let change = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => Rebalance::Revoke(list),
            _ => Rebalance::Error(KafkaError::Rebalance(error.into())),
        };
        self.pre_rebalance(consumer, &change);
        if consumer.closed() {
            return;
        }
        // What is refused was lost meanwhile, and the group assigns anew.
        let _ = match &change {
            Rebalance::Assign(list) => consumer.incremental_assign(list),
            // Refused where the place is lost already: then there is no protocol, and all goes.
            Rebalance::Revoke(list) => consumer
                .incremental_unassign(list)
                .or_else(|_| consumer.unassign()),
            Rebalance::Error(_) => consumer.unassign(),
        };
        if !consumer.closed() {
            self.post_rebalance(consumer, &change);
        }
    }

    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        self.0.admit();
        self.0.hear_group(consumer);
        match rebalance {
            Rebalance::Assign(list) => {
                let partitions = numbers(list);
                match self.0.done_before(consumer, &partitions) {
                    Ok(before) => self.0.assigned(&partitions, before),
                    Err(error) => self.0.mail.push(Mail::Failed(error)),
                }
                self.0.metrics.set_phase(Phase::Ready);
            }
            Rebalance::Revoke(list) => {
                let partitions = numbers(list);
                // Lost: somebody else may have them already, and what is under way turns stale. Who leaves has committed.
                if self.0.goes_on() && !consumer.assignment_lost() {
                    self.0.drain(&partitions, &|| self.0.hear_group(consumer));
                    // A commit that fails here is no failure of the run: the next owner does some records again.
                    let _ = self.0.commit_sync(consumer, Some(&partitions), None);
                }
                self.0.let_go(&partitions);
            }
            Rebalance::Error(_) => {}
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // A partition that joins flows or stands still like the others. The client remembers a pause from an earlier
        // assignment of the same partition, so that must be undone too.
        if let Rebalance::Assign(list) = rebalance {
            let paused = self.0.state().admission.is_paused();
            let _ = if paused {
                consumer.pause(list)
            } else {
                consumer.resume(list)
            };
        }
    }
}

fn numbers(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|e| e.partition()).collect()
}

impl Worker {
    /// What an earlier holder has done above what it committed. Where the broker does not say, that is done again; but
    /// not where transactions are to keep answers from being there twice: then the broker says it when the transaction
    /// of who died is over.
    fn done_before(&self, consumer: &BaseConsumer<Member>, partitions: &[i32]) -> Result<Before> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        let end = self
            .joint
            .as_ref()
            .map(|joint| Instant::now() + joint.patience);
        loop {
            let committed = consumer.committed_offsets(list.clone(), PATIENCE);
            let elements = committed.iter().flat_map(TopicPartitionList::elements);
            let wrong = match &committed {
                Ok(list) => list.elements().iter().find_map(|e| e.error().err()),
                Err(error) => Some(error.clone()),
            };
            match (wrong, end) {
                (Some(error), Some(end)) if Instant::now() > end => {
                    return Err(Error::Topic {
                        topic: self.topic.clone(),
                        partition: partitions.first().copied(),
                        offset: None,
                        reason: format!(
                            "the broker does not say what is committed of it ({error}); run the worker again"
                        ),
                    });
                }
                (Some(_), Some(_)) if self.goes_on() => std::thread::sleep(AGAIN),
                _ => {
                    let known = elements.filter_map(|e| match e.offset() {
                        Offset::Offset(offset) => {
                            Some((e.partition(), above::read(offset, e.metadata())))
                        }
                        _ => None,
                    });
                    return Ok(known.collect());
                }
            }
        }
    }

    fn assigned(&self, partitions: &[i32], mut before: Before) {
        // A new attempt a rebalance, so that two processings of one input can be told apart in the landed table.
        let attempt = self.runtime.block_on(self.store.next("attempt"));
        let mut state = self.state();
        match attempt.and_then(|a| {
            u32::try_from(a).map_err(|_| Error::Store {
                url: "(the job's)".into(),
                what: "count attempts".into(),
                reason: format!("{a} attempts are more than an identity can hold"),
            })
        }) {
            Ok(attempt) => {
                for partition in partitions {
                    let before = before.remove(partition).unwrap_or_default();
                    let dropped = state.schedule.assign(*partition, attempt, before);
                    state.release(dropped);
                    state.forget(*partition);
                }
            }
            Err(error) => {
                state.failed.get_or_insert(error);
            }
        }
    }

    fn let_go(&self, partitions: &[i32]) {
        let _between = self.between_transactions();
        let mut state = self.state();
        for partition in partitions {
            let dropped = state.schedule.revoke(*partition);
            state.release(dropped);
            state.forget(*partition);
        }
    }
}
