//! Commits of a worker: what may be committed, whether it arrived, and what is done when it did not.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::above;
use super::member::Member;
use super::worker::{DRAIN, State, Worker};
use crate::error::{Error, Result};

/// A commit that doesn't show at the broker after this is sent again.
pub const PATIENCE: Duration = Duration::from_millis(1_500);

/// What was handed to the client for commit: the offset, and how many are done above it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sent {
    pub offset: i64,
    pub above: usize,
}

impl Worker {
    /// Offsets that may be committed and were not yet handed to the client; none, where transactions commit them.
    pub fn to_commit(&self) -> Result<Option<TopicPartitionList>> {
        self.commits(None, false)
    }

    /// Offsets that may be committed, of these partitions or of all. `again`: all that the broker is not known to have.
    fn commits(&self, only: Option<&[i32]>, again: bool) -> Result<Option<TopicPartitionList>> {
        if self.joint.is_some() {
            return Ok(None);
        }
        let mut state = self.state();
        let moved: Vec<(i32, Sent)> = state
            .schedule
            .positions()
            .filter(|(p, _)| only.is_none_or(|only| only.contains(p)))
            .map(|(p, offset)| {
                let above = state.schedule.above(p).count();
                (p, Sent { offset, above })
            })
            .filter(|(p, now)| {
                if again {
                    now.above > 0 || state.summary.committed.get(p) != Some(&now.offset)
                } else {
                    state.sent.get(p).is_none_or(|sent| sent < now)
                }
            })
            .collect();
        if moved.is_empty() {
            return Ok(None);
        }
        let mut list = TopicPartitionList::new();
        for (partition, now) in moved {
            let position = now.offset;
            let mut element = list.add_partition(&self.topic, partition);
            element.set_metadata(above::write(position, state.schedule.above(partition)));
            element
                .set_offset(Offset::Offset(position))
                .map_err(|e| Error::Topic {
                    topic: self.topic.clone(),
                    partition: Some(partition),
                    offset: Some(position),
                    reason: format!("can't be committed: {e}"),
                })?;
            state.sent.insert(partition, now);
        }
        self.metrics.commits.add(1);
        Ok(Some(list))
    }

    /// Commits now and waits for the broker's word. While the group rebalances it takes no commits, or only those of its
    /// newest generation: `poll` is called between tries, so that this member comes along; without it, inside of a poll,
    /// what can pass is waited for.
    pub fn commit_sync(
        &self,
        consumer: &BaseConsumer<Member>,
        only: Option<&[i32]>,
        poll: Option<&dyn Fn()>,
    ) -> Result<()> {
        let end = Instant::now() + DRAIN;
        loop {
            // Those as well that were handed to the client before: one that a rebalance refused is not reported.
            let Some(list) = self.commits(only, true)? else {
                return Ok(());
            };
            let result = consumer.commit(&list, CommitMode::Sync);
            let code = result
                .as_ref()
                .err()
                .and_then(KafkaError::rdkafka_error_code);
            let passes = match code {
                Some(RDKafkaErrorCode::RebalanceInProgress) => true,
                Some(RDKafkaErrorCode::IllegalGeneration) => poll.is_some(),
                _ => false,
            };
            if !passes || Instant::now() > end {
                return self.committed(&list, result.map_err(|e| e.to_string()));
            }
            match poll {
                Some(poll) => poll(),
                None => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn committed(&self, list: &TopicPartitionList, result: Result<(), String>) -> Result<()> {
        let mut state = self.state();
        for element in list.elements() {
            let partition = element.partition();
            match (&result, element.offset()) {
                (Ok(()), Offset::Offset(offset)) => {
                    state.summary.committed.insert(partition, offset);
                }
                _ => {
                    self.metrics.commit_failures.add(1);
                    state.sent.remove(&partition);
                }
            }
        }
        result.map_err(|reason| Error::Topic {
            topic: self.topic.clone(),
            partition: None,
            offset: None,
            reason: format!(
                "its offsets can't be committed ({reason}); what was done since the last commit will be done again"
            ),
        })
    }
}

impl State {
    /// Compares what was sent for commit with what the broker has. An asynchronous commit reports nothing: one that was
    /// refused in the middle of a rebalance is noticed here, and sent again.
    pub fn confirm(&mut self, topic: &str, partition: i32, offset: i64, limit: Duration) {
        let Some(Sent { offset: sent, .. }) = self.sent.get(&partition).copied() else {
            return;
        };
        if sent <= offset {
            self.summary.committed.insert(partition, offset);
            self.behind.remove(&partition);
            return;
        }
        let seen = self
            .behind
            .entry(partition)
            .or_insert((offset, Instant::now()));
        if seen.0 != offset {
            *seen = (offset, Instant::now());
        }
        if seen.1.elapsed() > limit {
            self.failed.get_or_insert_with(|| Error::Topic {
                topic: topic.to_owned(),
                partition: Some(partition),
                offset: Some(sent),
                reason: format!(
                    "the broker has not taken this commit for {} s, it still has {offset}; what was done since will be done again",
                    limit.as_secs()
                ),
            });
        } else if seen.1.elapsed() > PATIENCE {
            self.sent.remove(&partition);
        }
    }
}
