//! From a batch of ingress records to the fate of each: decode, call, retry, blame, encode.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::take::take_record_batch;
use kappaflow_avro::{AvroSchema, Encoder};

use super::decode::Decoders;
use super::partitions::Record;
use super::service::{Call, CallError, Service, Verdict};
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::registry::SchemaRegistry;

/// First wait before a record is tried again; doubles with each try.
const BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(2);
/// Processes that may die one after the other, without one record worked on in between, before the service as a whole
/// is held to be broken rather than each of its records.
const DEATHS_IN_A_ROW: u32 = 30;

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The framed egress payloads.
    Answered(Vec<Vec<u8>>),
    Filtered(String),
    DeadLetter {
        /// Stable, to be counted by.
        reason: String,
        detail: String,
        attempts: u32,
    },
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub struct Handled {
    /// One a record.
    pub outcomes: Vec<Outcome>,
    /// Tries beyond the first, over all records.
    pub retried: u64,
}

/// Works on batches, one at a time. `None` from [`Handler::handle`]: the worker stops.
pub struct Handler<S> {
    service: S,
    name: String,
    decoders: Decoders,
    encoder: Encoder,
    max_attempts: u32,
    deaths: u32,
}

/// Records of one schema.
struct Group {
    batch: RecordBatch,
    identities: Vec<Identity>,
    keys: Vec<Option<Vec<u8>>>,
}

/// One record on its way to its outcome.
#[derive(Clone, Copy, Default)]
struct Way {
    /// Times it was given to the service.
    calls: u32,
    /// Times the service said "retry".
    tries: u32,
    /// Deaths of a process that are laid at its door.
    deaths: u32,
}

impl<S: Service> Handler<S> {
    pub fn new(
        service: S,
        name: String,
        registry: Arc<dyn SchemaRegistry>,
        ingress: AvroSchema,
        encoder: Encoder,
        max_attempts: u32,
    ) -> Self {
        Self {
            service,
            name,
            decoders: Decoders::new(registry, ingress),
            encoder,
            max_attempts: max_attempts.max(1),
            deaths: 0,
        }
    }

    pub fn service(&self) -> &S {
        &self.service
    }

    /// Brings every record to its outcome.
    ///
    /// # Errors
    /// If the service or the registry can't be used at all; no record is to blame then.
    pub fn handle(&mut self, records: &[Record], go: &dyn Fn() -> bool) -> Result<Option<Handled>> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; records.len()];
        let mut retried = 0;
        let (groups, undecodable) = self.decoders.decode(records)?;
        for (row, detail) in undecodable {
            if let Some(slot) = outcomes.get_mut(row) {
                *slot = Some(dead("Undecodable".into(), detail, 0));
            }
        }
        for (rows, batch) in groups {
            let of_rows = || rows.iter().filter_map(|row| records.get(*row));
            let group = Group {
                batch,
                identities: of_rows().map(|record| record.identity).collect(),
                keys: of_rows().map(|record| record.key.clone()).collect(),
            };
            let Some((found, again)) = self.work(&group, go)? else {
                return Ok(None);
            };
            retried += again;
            for (row, outcome) in rows.into_iter().zip(found) {
                if let Some(slot) = outcomes.get_mut(row) {
                    *slot = Some(outcome);
                }
            }
        }
        let outcomes: Option<Vec<Outcome>> = outcomes.into_iter().collect();
        outcomes
            .map(|outcomes| Some(Handled { outcomes, retried }))
            .ok_or_else(|| self.broken("a record has no outcome".into()))
    }

    fn broken(&self, reason: String) -> Error {
        Error::Service {
            service: self.name.clone(),
            reason,
        }
    }

    /// Calls the service until every row has an outcome.
    fn work(
        &mut self,
        group: &Group,
        go: &dyn Fn() -> bool,
    ) -> Result<Option<(Vec<Outcome>, u64)>> {
        let count = group.identities.len();
        let mut ways = vec![Way::default(); count];
        let mut outcomes: Vec<Option<Outcome>> = vec![None; count];
        let mut groups: VecDeque<Vec<usize>> = VecDeque::from([(0..count).collect()]);
        let mut again: Vec<usize> = Vec::new();
        let mut retried = 0;
        loop {
            let Some(rows) = groups.pop_front() else {
                if again.is_empty() {
                    break;
                }
                let tries = again
                    .iter()
                    .filter_map(|row| ways.get(*row))
                    .map(|w| w.tries);
                if !wait(back_off(tries.max().unwrap_or(1)), go) {
                    return Ok(None);
                }
                groups.push_back(std::mem::take(&mut again));
                continue;
            };
            if rows.is_empty() {
                continue;
            }
            for row in &rows {
                if let Some(way) = ways.get_mut(*row) {
                    retried += u64::from(way.calls > 0);
                    way.calls += 1;
                }
            }
            match self.call(group, &rows, &ways, go) {
                Ok(verdicts) => {
                    self.deaths = 0;
                    for (row, found) in rows.iter().zip(verdicts) {
                        let (Some(way), Some(slot)) = (ways.get_mut(*row), outcomes.get_mut(*row))
                        else {
                            continue;
                        };
                        match found {
                            Found::Outcome(outcome) => *slot = Some(outcome),
                            Found::Dead(reason, detail) => {
                                *slot = Some(dead(reason, detail, way.calls));
                            }
                            Found::Retry(reason, detail) => {
                                way.tries += 1;
                                if way.tries >= self.max_attempts {
                                    *slot = Some(dead(reason, detail, way.calls));
                                } else {
                                    again.push(*row);
                                }
                            }
                        }
                    }
                }
                Err(CallError::Died {
                    marked,
                    reason,
                    detail,
                }) => {
                    self.deaths += 1;
                    if self.deaths > DEATHS_IN_A_ROW {
                        return Err(self.broken(format!(
                            "its process died {} times in a row, without one record worked on in between; last: {detail}",
                            self.deaths
                        )));
                    }
                    let alone = rows.len() == 1;
                    let marked = if alone { Some(0) } else { marked };
                    let suspect = marked.and_then(|at| rows.get(at).copied());
                    if let Some(row) = suspect
                        && let (Some(way), Some(slot)) = (ways.get_mut(row), outcomes.get_mut(row))
                    {
                        way.deaths += 1;
                        if alone && way.deaths >= 2 {
                            let detail = format!("{detail}; it did so again when it was alone");
                            *slot = Some(dead(reason.into(), detail, way.calls));
                            continue;
                        }
                    }
                    // Alone, each of them, the suspect first: nobody is blamed for a neighbour.
                    let others = rows.iter().copied().filter(|row| Some(*row) != suspect);
                    let order: Vec<usize> = suspect.into_iter().chain(others).collect();
                    for row in order.into_iter().rev() {
                        groups.push_front(vec![row]);
                    }
                }
                Err(CallError::Stopped) => return Ok(None),
                Err(CallError::Fatal(e)) => return Err(e),
            }
        }
        let outcomes: Option<Vec<Outcome>> = outcomes.into_iter().collect();
        outcomes
            .map(|outcomes| Some((outcomes, retried)))
            .ok_or_else(|| self.broken("a record was left without a verdict".into()))
    }

    /// One call with some of the rows, its answers encoded.
    fn call(
        &mut self,
        group: &Group,
        rows: &[usize],
        ways: &[Way],
        go: &dyn Fn() -> bool,
    ) -> std::result::Result<Vec<Found>, CallError> {
        let broken = |name: &str, reason: String| {
            CallError::Fatal(Error::Service {
                service: name.to_owned(),
                reason,
            })
        };
        let batch = &group.batch;
        let whole = rows.len() == batch.num_rows();
        let part = if whole {
            batch.clone()
        } else {
            // A batch has at most service.batch_records rows.
            let index: UInt32Array = rows.iter().map(|r| u32::try_from(*r).ok()).collect();
            take_record_batch(batch, &index).map_err(|e| broken(&self.name, e.to_string()))?
        };
        let ids: Vec<Identity> = rows
            .iter()
            .filter_map(|r| group.identities.get(*r).copied())
            .collect();
        let keys: Vec<Option<Vec<u8>>> = rows
            .iter()
            .filter_map(|r| group.keys.get(*r).cloned())
            .collect();
        let attempts: Vec<u32> = rows
            .iter()
            .filter_map(|r| Some(ways.get(*r)?.calls))
            .collect();
        let call = Call {
            records: &part,
            identities: &ids,
            keys: &keys,
            attempts: &attempts,
        };
        let reply = self.service.call(&call, go)?;
        if reply.verdicts.len() != rows.len() {
            let (got, wanted) = (reply.verdicts.len(), rows.len());
            let reason = format!("it gave {got} verdicts for {wanted} records");
            return Err(broken(&self.name, reason));
        }
        let encoded = self
            .encoder
            .encode(&reply.answers)
            .map_err(|e| broken(&self.name, format!("its answers can't be encoded: {e}")))?;
        let mut payloads: Vec<Option<Vec<u8>>> = vec![None; reply.answers.num_rows()];
        for (row, payload) in encoded.iter() {
            if let Some(slot) = payloads.get_mut(row as usize) {
                *slot = Some(payload.to_vec());
            }
        }
        let mut next = 0;
        let mut found = Vec::with_capacity(rows.len());
        for verdict in reply.verdicts {
            found.push(match verdict {
                Verdict::Answered(n) => {
                    let range = next..next + n;
                    next += n;
                    let family: Option<Vec<Vec<u8>>> = payloads
                        .get_mut(range.clone())
                        .and_then(|family| family.iter_mut().map(Option::take).collect());
                    match family {
                        Some(family) => Found::Outcome(Outcome::Answered(family)),
                        None => {
                            let reject = encoded
                                .rejects
                                .iter()
                                .find(|r| range.contains(&(r.row as usize)));
                            let Some(reject) = reject else {
                                let reason = "its answers are fewer than its verdicts say".into();
                                return Err(broken(&self.name, reason));
                            };
                            Found::Dead(
                                "AnswerMisfit".into(),
                                format!(
                                    "the answer does not fit: field {}: {} (value {})",
                                    reject.column, reject.reason, reject.value
                                ),
                            )
                        }
                    }
                }
                Verdict::Filtered(reason) => Found::Outcome(Outcome::Filtered(reason)),
                Verdict::Retry { reason, detail } => Found::Retry(reason, detail),
                Verdict::DeadLetter { reason, detail } => Found::Dead(reason, detail),
            });
        }
        Ok(found)
    }
}

enum Found {
    Outcome(Outcome),
    Dead(String, String),
    Retry(String, String),
}

fn dead(reason: String, detail: String, attempts: u32) -> Outcome {
    Outcome::DeadLetter {
        reason,
        detail,
        attempts,
    }
}

fn back_off(tries: u32) -> Duration {
    BACK_OFF
        .saturating_mul(1 << tries.saturating_sub(1).min(10))
        .min(LONGEST_BACK_OFF)
}

/// Waits, unless the worker stops meanwhile (`false`).
fn wait(time: Duration, go: &dyn Fn() -> bool) -> bool {
    let end = Instant::now() + time;
    while go() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
    false
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
