//! The calls: as many at once as the endpoint takes, none while it can't take more, each within its deadline.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder};

use super::answer::{self, Meaning};
use super::batch::halved;
use super::gate::{Gate, Leave};
use super::request::{Item, Mapping};
use crate::error::Error;
use crate::http::{self, NoAnswer, USER_AGENT};
use crate::job::http::HttpEndpoint;
use crate::job::template::Row;
use crate::work::budget::BEAT;
use crate::work::limiter::{Ended, How};
use crate::work::metrics::Pause;
use crate::work::queue::lock;
use crate::work::service_error;
use crate::work::task::{Record, Task};
use crate::work::verdict::Verdict;
use crate::work::worker::Worker;

/// What all threads of a worker share of an endpoint.
pub struct Shared {
    pub endpoint: HttpEndpoint,
    pub mapping: Mapping,
    pub client: Client,
    pub deadline: Duration,
    worker: Arc<Worker>,
    gate: Mutex<Gate>,
    began: Instant,
}

impl Shared {
    /// Within a runtime. Nothing is called yet.
    ///
    /// # Errors
    /// [`Error::Service`] if there can be no client.
    pub fn new(
        endpoint: HttpEndpoint,
        mapping: Mapping,
        base: &Path,
        worker: Arc<Worker>,
        deadline: Duration,
    ) -> Result<Self, Error> {
        let wrong = |reason: String| service_error(&endpoint.url, reason);
        let files = http::Files {
            base,
            ca_file: endpoint.ca_file.as_deref(),
            cert_file: endpoint.cert_file.as_deref(),
            key_file: endpoint.key_file.as_deref(),
        };
        let mut builder = http::certificates(Client::builder(), &files).map_err(wrong)?;
        if let Some(path) = &endpoint.unix_socket {
            builder = builder.unix_socket(base.join(path));
        }
        let client = builder
            .user_agent(USER_AGENT)
            // A redirect is the service's answer, and to follow it might be a second call.
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .build()
            .map_err(|e| wrong(format!("no HTTP client: {e}")))?;
        Ok(Self {
            worker,
            gate: Mutex::default(),
            began: Instant::now(),
            endpoint,
            mapping,
            client,
            deadline,
        })
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
            let request = match self.mapping.request(&self.client, &records.named()) {
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
            if let Leave::Wait(time) = leave {
                tokio::time::sleep(time).await;
                continue;
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
    async fn once(&self, request: RequestBuilder, records: &Records) -> Option<Vec<Said>> {
        let in_flight = self.worker.count_calls(1, 0);
        let began = Instant::now();
        let answer = tokio::time::timeout(self.deadline, http::read(request)).await;
        let took = began.elapsed();
        self.worker.count_calls(0, 1);
        let ended = |how| {
            self.worker.ended([Ended {
                took,
                in_flight,
                how,
            }]);
        };
        let count = |name, records: usize| {
            let records = u32::try_from(records).unwrap_or(u32::MAX);
            self.worker.metrics.record_calls(took, name, records);
        };
        let turned_away = |after| {
            ended(How::Busy);
            count("busy", records.tasks.len());
            self.gate().turned_away(self.began.elapsed(), after);
            None
        };
        let unanswered = || self.gate().unanswered(self.began.elapsed());
        let retry = |reason: &str, detail: String| {
            let reason = reason.into();
            Meaning::Failed(Verdict::Retry { reason, detail })
        };
        let meaning = match answer {
            Err(_) => {
                unanswered();
                let deadline = self.deadline.as_millis();
                retry("Deadline", format!("no answer within {deadline} ms"))
            }
            // That nobody is there is no record's fault.
            Ok(Err(NoAnswer::NoConnection(_))) => {
                return turned_away(None);
            }
            Ok(Err(NoAnswer::Passing(detail) | NoAnswer::TooLarge(detail))) => {
                unanswered();
                retry("HttpBroken", detail)
            }
            Ok(Err(NoAnswer::Settings(detail))) => {
                unanswered();
                Meaning::Failed(no_request(detail))
            }
            Ok(Ok(answer)) => match answer::read(&self.endpoint, &records.rows(), &answer) {
                Meaning::Busy => return turned_away(answer.after()),
                meaning => {
                    self.gate().answered();
                    meaning
                }
            },
        };
        let said = match meaning {
            Meaning::Busy => return turned_away(None),
            Meaning::Failed(verdict) => {
                count(verdict.name(), records.tasks.len());
                records.failed(verdict)
            }
            Meaning::Each(said) => {
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

fn no_request(detail: String) -> Verdict {
    let reason = "NoRequest".into();
    Verdict::DeadLetter { reason, detail }
}

/// What is said of a record, and the rows of its answer.
pub type Said = (Verdict, Vec<Row>);

/// Records that share a request: item i is of task i.
pub struct Records {
    pub tasks: Vec<Task>,
    pub items: Vec<Item>,
}

impl Records {
    fn named(&self) -> Vec<(&Record, &Item)> {
        let named = self.tasks.iter().map(|task| &task.record);
        named.zip(&self.items).collect()
    }

    fn rows(&self) -> Vec<&Row> {
        self.items.iter().map(|item| &item.row).collect()
    }

    /// Their call failed: the one record is to blame, or they go again with fewer.
    fn failed(&self, verdict: Verdict) -> Vec<Said> {
        let verdict = match halved(self.tasks.len()) {
            None => verdict,
            Some(most) => Verdict::Apart {
                most,
                wait: matches!(verdict, Verdict::Retry { .. }),
            },
        };
        let said = self.tasks.iter().map(|_| (verdict.clone(), Vec::new()));
        said.collect()
    }

    /// How their call ended.
    fn how(&self, said: &[Said]) -> How {
        let hows = self.tasks.iter().zip(said);
        let mut hows = hows.filter_map(|(task, (verdict, _))| verdict.how(task));
        let worst = |a: How, b: How| match (a, b) {
            (How::Answered, other) | (other, How::Answered) => other,
            (How::Failed, _) | (_, How::Failed) => How::Failed,
            (a, _) => a,
        };
        let first = hows.next().unwrap_or(How::Answered);
        hows.fold(first, worst)
    }
}
