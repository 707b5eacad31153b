//! The calls: as many at once as the endpoint takes, none while it can't take more, each within its deadline.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::batch::{Batching, halved};
use super::gate::{Gate, Leave};
use crate::job::template::Row;
use crate::work::budget::BEAT;
use crate::work::limiter::{Ended, How};
use crate::work::metrics::Pause;
use crate::work::queue::lock;
use crate::work::service_error;
use crate::work::task::{Record, Task};
use crate::work::verdict::Verdict;
use crate::work::worker::{Mail, Worker};

/// A service as its protocol has it.
pub trait Endpoint: Send + Sync + 'static {
    /// A request that only has to be sent.
    type Request: Send;

    /// What it is called in messages.
    fn name(&self) -> &str;

    /// `None`: a request takes one record.
    fn batching(&self) -> Option<Batching>;

    /// The request for records.
    ///
    /// # Errors
    /// Why there can be none: a record is at fault.
    fn request(&self, records: &Records) -> Result<Self::Request, String>;

    /// Sends it, and reads what is said.
    fn call(&self, request: Self::Request, records: &Records)
    -> impl Future<Output = Reply> + Send;

    /// Looks whether the service takes calls again, before the one call that goes ahead.
    fn probe(&self) -> impl Future<Output = Probe> + Send {
        std::future::ready(Probe::Call)
    }
}

/// What a look at the service says.
#[derive(Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nothing against a call.
    Call,
    /// It takes none yet.
    NotYet,
}

/// What came of a call.
#[derive(Debug)]
pub enum Reply {
    /// A verdict for each record, and the rows of its answer.
    Each(Vec<Said>),
    /// All of them have failed, the one to blame among them.
    Failed(Verdict),
    /// The same without a whole answer.
    Unanswered(Verdict),
    /// The service can take no more now, or nobody is there; how long it asks to be left alone.
    TurnedAway(Option<Duration>),
    /// No call can go well: the worker ends.
    Stop(String),
}

/// What is said of a record, and the rows of its answer.
pub type Said = (Verdict, Vec<Row>);

/// A record as it is sent.
#[derive(Debug)]
pub struct Item {
    /// As a JSON object.
    pub json: Vec<u8>,
    /// The same, read.
    pub row: Row,
}

/// What all calls of a worker share.
pub struct Calls<E> {
    pub endpoint: E,
    deadline: Duration,
    worker: Arc<Worker>,
    gate: Mutex<Gate>,
    began: Instant,
}

impl<E: Endpoint> Calls<E> {
    /// Nothing is called yet. `deadline`: of a call.
    pub fn new(endpoint: E, worker: Arc<Worker>, deadline: Duration) -> Self {
        Self {
            endpoint,
            deadline,
            worker,
            gate: Mutex::default(),
            began: Instant::now(),
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls until the service has an answer, whatever it is: a verdict for each record.
    pub async fn call(&self, records: &Records) -> Vec<Said> {
        // The first call is in the budget since the records were taken.
        let mut is_paid = true;
        loop {
            // Before leave is asked for: who has it is to call.
            let request = match self.endpoint.request(records) {
                Ok(request) => request,
                Err(detail) => return records.failed(no_request(detail)),
            };
            if !is_paid {
                self.pay(records.tasks.len()).await;
                is_paid = true;
            }
            let leave = self.gate().ask(self.began.elapsed());
            self.worker
                .metrics
                .pause(Pause::Gate, matches!(leave, Leave::Wait(_)));
            match leave {
                Leave::Call => {}
                Leave::Wait(time) => {
                    tokio::time::sleep(time).await;
                    continue;
                }
                Leave::Probe => {
                    if self.endpoint.probe().await == Probe::NotYet {
                        self.gate().turned_away(self.began.elapsed(), None);
                        continue;
                    }
                }
            }
            is_paid = false;
            if let Some(said) = self.once(request, records).await {
                return said;
            }
        }
    }

    /// Waits until the budget has had so many calls.
    async fn pay(&self, mut calls: usize) {
        loop {
            let wait = {
                let now = self.worker.now();
                let mut budget = lock(&self.worker.budget);
                let paid = budget.available(now).min(calls);
                budget.spend(paid);
                calls -= paid;
                if calls == 0 {
                    return;
                }
                budget.next(now).map_or(BEAT, |at| at - now)
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One call; `None`: the service takes none now, and the gate is closed.
    async fn once(&self, request: E::Request, records: &Records) -> Option<Vec<Said>> {
        let in_flight = self.worker.seat.count_calls(1, 0);
        let began = Instant::now();
        let call = self.endpoint.call(request, records);
        let reply = tokio::time::timeout(self.deadline, call).await;
        let took = began.elapsed();
        self.worker.seat.count_calls(0, 1);
        let ended = |how| {
            self.worker.seat.ended([Ended {
                took,
                in_flight,
                how,
            }]);
        };
        let count = |name, records: usize| {
            let records = u32::try_from(records).unwrap_or(u32::MAX);
            self.worker.metrics.record_calls(took, name, records);
        };
        let failed = |verdict: Verdict| {
            count(verdict.name(), records.tasks.len());
            records.failed(verdict)
        };
        let reply = reply.unwrap_or_else(|_| {
            let deadline = self.deadline.as_millis();
            let detail = format!("no answer within {deadline} ms");
            Reply::Unanswered(Verdict::retry("Deadline", detail))
        });
        let said = match reply {
            Reply::TurnedAway(after) => {
                ended(How::Busy);
                count("busy", records.tasks.len());
                self.gate().turned_away(self.began.elapsed(), after);
                return None;
            }
            Reply::Stop(reason) => {
                let error = service_error(self.endpoint.name(), reason);
                self.worker.mail.push(Mail::Failed(error));
                // The worker ends, and this with it; nobody is to blame.
                std::future::pending().await
            }
            Reply::Unanswered(verdict) => {
                self.gate().unanswered(self.began.elapsed());
                failed(verdict)
            }
            Reply::Failed(verdict) => {
                self.gate().answered();
                failed(verdict)
            }
            Reply::Each(said) => {
                self.gate().answered();
                let mut counts: BTreeMap<_, usize> = BTreeMap::new();
                for (verdict, _) in &said {
                    *counts.entry(verdict.name()).or_default() += 1;
                }
                counts
                    .into_iter()
                    .for_each(|(name, records)| count(name, records));
                said
            }
        };
        ended(records.how(&said));
        Some(said)
    }
}

/// A record is at fault that there is no request.
pub fn no_request(detail: String) -> Verdict {
    Verdict::dead_letter("NoRequest", detail)
}

/// Records that share a request: item i is of task i.
pub struct Records {
    pub tasks: Vec<Task>,
    pub items: Vec<Item>,
}

impl Records {
    pub fn named(&self) -> Vec<(&Record, &Item)> {
        let named = self.tasks.iter().map(|task| &task.record);
        named.zip(&self.items).collect()
    }

    pub fn rows(&self) -> Vec<&Row> {
        self.items.iter().map(|item| &item.row).collect()
    }

    fn failed(&self, verdict: Verdict) -> Vec<Said> {
        let records = self.tasks.len();
        vec![(failed(records, verdict), Vec::new()); records]
    }

    /// How their call ended.
    fn how(&self, said: &[Said]) -> How {
        let hows = self.tasks.iter().zip(said);
        worst(hows.filter_map(|(task, (verdict, _))| verdict.how(task)))
    }
}

/// What is said of each record of a call that failed: the one record is to blame, or they go again with fewer.
pub fn failed(records: usize, verdict: Verdict) -> Verdict {
    match halved(records) {
        None => verdict,
        Some(most) => Verdict::Apart {
            most,
            wait: matches!(verdict, Verdict::Retry { .. }),
        },
    }
}

/// How a call ended, by what is said of its records.
pub fn worst(hows: impl Iterator<Item = How>) -> How {
    hows.fold(How::Answered, |a, b| match (a, b) {
        (How::Answered, other) | (other, How::Answered) => other,
        (How::Failed, _) | (_, How::Failed) => How::Failed,
        (a, _) => a,
    })
}
