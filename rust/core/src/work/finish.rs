//! From verdicts to what is sent: answers are encoded, and what the egress schema can't take becomes a dead letter. One
//! thread does it for all drivers, with all that has come since it last looked.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use kappaflow_avro::Encoder;

use super::egress::Egress;
use super::endpoint;
use super::service_error;
use super::task::Task;
use super::transactions::Committer;
use super::verdict::Verdict;
use super::worker::{Mail, Worker};
use crate::error::Result;
use crate::job::template::Row;

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
    },
}

/// A record, and what became of it.
pub type Fate = (Task, Outcome);

/// Records with their verdicts, none of them to be tried again, and the answers of the answered ones in their order.
pub enum Finished {
    Batch(Vec<(Task, Verdict)>, RecordBatch),
    Rows(Vec<(Task, Verdict, Vec<Row>)>),
}

/// See the module.
pub struct Finisher {
    /// What the service is called in messages.
    pub name: String,
    pub encoder: Encoder,
    /// The schema in which answers are given.
    pub answers: Arc<Schema>,
    pub egress: Egress,
    /// Absent: what follows from a record is sent as it comes, and the record is done when the broker has it.
    pub committer: Option<Committer>,
}

impl Finisher {
    /// Works off what is finished until the worker stops.
    pub fn run(mut self, worker: &Worker) {
        let ended = match self.committer.take() {
            Some(committer) => self.run_in_transactions(worker, committer),
            None => self.send_all(worker),
        };
        if let Err(error) = ended {
            worker.mail.push(Mail::Failed(error));
        }
    }

    fn send_all(&mut self, worker: &Worker) -> Result<()> {
        while let Some(all) = worker.finished.pop_all() {
            let goes_on = self.fates(all, |egress, fates| {
                egress.send(fates, &|| worker.goes_on())
            })?;
            // The worker stops: what is under way is done again by whoever is next.
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Hands on what becomes of the records, batch by batch, as long as `take` says `true`; answers to single calls are
    /// one batch.
    pub fn fates(
        &mut self,
        all: VecDeque<Finished>,
        mut take: impl FnMut(&Egress, Vec<Fate>) -> Result<bool>,
    ) -> Result<bool> {
        let (mut single, mut batches) = (Vec::new(), Vec::new());
        for finished in all {
            match finished {
                Finished::Rows(rows) => single.extend(rows),
                Finished::Batch(tasks, answers) => batches.push((tasks, answers)),
            }
        }
        if !single.is_empty() {
            batches.push(endpoint::batch_of(single, &self.answers).map_err(|e| self.wrong(e))?);
        }
        for (tasks, answers) in batches {
            let fates = self.outcomes(tasks, &answers)?;
            if !take(&self.egress, fates)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn wrong(&self, reason: String) -> crate::error::Error {
        service_error(&self.name, reason)
    }

    /// One an input, its answers encoded.
    fn outcomes(
        &mut self,
        tasks: Vec<(Task, Verdict)>,
        answers: &RecordBatch,
    ) -> Result<Vec<Fate>> {
        let encoded = self
            .encoder
            .encode(answers)
            .map_err(|e| self.wrong(format!("its answers can't be encoded: {e}")))?;
        let mut payloads: Vec<Option<Vec<u8>>> = vec![None; answers.num_rows()];
        for (row, payload) in encoded.iter() {
            if let Some(slot) = payloads.get_mut(row as usize) {
                *slot = Some(payload.to_vec());
            }
        }
        let mut next = 0;
        let mut fates = Vec::with_capacity(tasks.len());
        for (task, verdict) in tasks {
            let outcome = match verdict {
                Verdict::Filtered(reason) => Outcome::Filtered(reason),
                Verdict::DeadLetter { reason, detail } | Verdict::Retry { reason, detail, .. } => {
                    Outcome::DeadLetter { reason, detail }
                }
                Verdict::Held | Verdict::Apart { .. } => {
                    return Err(self.wrong("a record was left without a verdict".into()));
                }
                Verdict::Answered(n) => {
                    let range = next..next + n;
                    next += n;
                    let family: Option<Vec<Vec<u8>>> = payloads
                        .get_mut(range.clone())
                        .and_then(|family| family.iter_mut().map(Option::take).collect());
                    match family {
                        Some(family) => Outcome::Answered(family),
                        None => {
                            let mut rejects = encoded.rejects.iter();
                            let Some(reject) = rejects.find(|r| range.contains(&(r.row as usize)))
                            else {
                                let reason = "its answers are fewer than its verdicts say";
                                return Err(self.wrong(reason.into()));
                            };
                            Outcome::DeadLetter {
                                reason: "AnswerMisfit".into(),
                                detail: format!(
                                    "the answer does not fit: field {}: {} (value {})",
                                    reject.column, reject.reason, reject.value
                                ),
                            }
                        }
                    }
                }
            };
            fates.push((task, outcome));
        }
        Ok(fates)
    }
}
