//! The calls: as many at once as the endpoint takes, none while it can't take more, each within its deadline.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use arrow_schema::Schema;
use reqwest::{Client, RequestBuilder};
use tokio::task::JoinSet;

use super::answer::{self, Meaning};
use super::gate::{Gate, Leave};
use super::request::Mapping;
use crate::error::Error;
use crate::http::{self, NoAnswer, USER_AGENT};
use crate::job::http::HttpEndpoint;
use crate::job::template::Row;
use crate::work::budget::BEAT;
use crate::work::desk::Desk;
use crate::work::limiter::{Ended, How};
use crate::work::metrics::Pause;
use crate::work::queue::lock;
use crate::work::service_error;
use crate::work::task::Task;
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

    /// Calls until the service has an answer, whatever it is.
    async fn call(&self, task: &Task, json: &[u8], row: &Row) -> (Verdict, Vec<Row>) {
        // The first call is in the budget since the record was taken.
        let mut is_paid = true;
        loop {
            // Before leave is asked for: who has it is to call.
            let request = match self.mapping.request(&self.client, &task.record, json, row) {
                Ok(request) => request,
                Err(detail) => return no_request(detail),
            };
            if !is_paid {
                self.pay().await;
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
            if let Some(found) = self.once(request, task, row).await {
                return found;
            }
        }
    }

    /// Waits until the budget has a call.
    async fn pay(&self) {
        loop {
            let wait = {
                let now = self.worker.now();
                let mut budget = lock(&self.worker.budget);
                if budget.available(now) > 0 {
                    budget.spend(1);
                    return;
                }
                budget.next(now).map_or(BEAT, |at| at - now)
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One call; `None`: the service takes none now, and the gate is closed.
    async fn once(
        &self,
        request: RequestBuilder,
        task: &Task,
        row: &Row,
    ) -> Option<(Verdict, Vec<Row>)> {
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
        let turned_away = |after| {
            ended(How::Busy);
            self.worker.metrics.record_call(took, "busy");
            self.gate().turned_away(self.began.elapsed(), after);
            None
        };
        let unanswered = || self.gate().unanswered(self.began.elapsed());
        let retry = |reason: &str, detail: String| {
            let reason = reason.into();
            (Verdict::Retry { reason, detail }, Vec::new())
        };
        let found = match answer {
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
                no_request(detail)
            }
            Ok(Ok(answer)) => match answer::read(&self.endpoint, row, &answer) {
                Meaning::Busy => return turned_away(answer.after()),
                Meaning::Verdict(verdict, rows) => {
                    self.gate().answered();
                    (verdict, rows)
                }
            },
        };
        self.worker.metrics.record_call(took, found.0.name());
        if let Some(how) = found.0.how(task) {
            ended(how);
        }
        Some(found)
    }
}

fn no_request(detail: String) -> (Verdict, Vec<Row>) {
    let reason = "NoRequest".into();
    (Verdict::DeadLetter { reason, detail }, Vec::new())
}

/// Records at once, as many as the endpoint takes.
pub struct HttpDriver {
    shared: Arc<Shared>,
}

impl HttpDriver {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Works until the worker stops.
    ///
    /// # Errors
    /// If records can't be made JSON of.
    pub async fn run(self, desk: &mut Desk) -> Result<(), Error> {
        let wrong = |reason: String| service_error(&self.shared.endpoint.url, reason);
        let mut calls: JoinSet<Found> = JoinSet::new();
        while desk.worker.goes_on() {
            let room = (desk.worker.limit() as usize).saturating_sub(calls.len());
            // Without room it waits for a call's end, or for the worker's: calls that hang are given up then.
            let (least, until) = match room {
                0 => (usize::MAX, Duration::MAX),
                _ => (1, Duration::ZERO),
            };
            tokio::select! {
                // Only when all of them are gone is there none.
                Some(first) = calls.join_next() => {
                    let mut found = Vec::with_capacity(8);
                    let mut next = Some(first);
                    while let Some(one) = next {
                        found.push(one.map_err(|e| wrong(format!("a call ended by itself: {e}")))?);
                        next = calls.try_join_next();
                    }
                    desk.give_rows(found);
                }
                () = desk.ready(least, until) => {
                    let Some(taken) = desk.take(room, false)? else { continue };
                    let records = objects(&taken.records).map_err(wrong)?;
                    for (task, (json, row)) in taken.tasks.into_iter().zip(records) {
                        let shared = Arc::clone(&self.shared);
                        calls.spawn(async move {
                            let (verdict, rows) = shared.call(&task, &json, &row).await;
                            (task, verdict, rows)
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

type Found = (Task, Verdict, Vec<Row>);

/// Each record as JSON, and read.
fn objects(batch: &RecordBatch) -> Result<Vec<(Vec<u8>, Row)>, String> {
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, LineDelimited>(Vec::new());
    writer.write(batch).map_err(|e| e.to_string())?;
    writer.finish().map_err(|e| e.to_string())?;
    writer
        .into_inner()
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let row = serde_json::from_slice(line).map_err(|e| e.to_string())?;
            Ok((line.to_vec(), row))
        })
        .collect()
}

/// Verdicts with their answers as one batch. Answers that do not fit make a dead letter of their record, and of no other.
pub fn batch_of(
    found: Vec<Found>,
    answers: &Arc<Schema>,
) -> Result<(Vec<(Task, Verdict)>, RecordBatch), String> {
    let (mut verdicts, mut families) = (Vec::new(), Vec::new());
    for (task, verdict, rows) in found {
        verdicts.push((task, verdict));
        families.push(rows);
    }
    let whole: Vec<&Row> = families.iter().flatten().collect();
    if let Ok(batch) = batch(answers, &whole) {
        return Ok((verdicts, batch));
    }
    let mut good = Vec::new();
    for ((_, verdict), rows) in verdicts.iter_mut().zip(&families) {
        let rows: Vec<&Row> = rows.iter().collect();
        match batch(answers, &rows) {
            Ok(_) => good.extend(rows),
            Err(detail) => {
                let reason = "AnswerMisfit".into();
                *verdict = Verdict::DeadLetter { reason, detail };
            }
        }
    }
    let batch = batch(answers, &good)?;
    Ok((verdicts, batch))
}

fn batch(schema: &Arc<Schema>, rows: &[&Row]) -> Result<RecordBatch, String> {
    let mut decoder = arrow_json::ReaderBuilder::new(Arc::clone(schema))
        .with_batch_size(rows.len().max(1))
        .build_decoder()
        .map_err(|e| e.to_string())?;
    decoder.serialize(rows).map_err(|e| e.to_string())?;
    let batch = decoder.flush().map_err(|e| e.to_string())?;
    Ok(batch.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(schema))))
}
