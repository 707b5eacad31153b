//! The calls: as many at once as the endpoint takes, none while it can't take more, each within its deadline.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use arrow_schema::Schema;
use futures_util::stream::{self, StreamExt};
use reqwest::{Client, RequestBuilder};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::answer::{self, Meaning};
use super::gate::{Gate, Leave};
use super::request::Mapping;
use crate::error::Error;
use crate::http::{self, NoAnswer, USER_AGENT};
use crate::identity::Identity;
use crate::job::http::HttpEndpoint;
use crate::job::template::Row;
use crate::work::service::{Call, CallError, Reply, Service, Verdict};

/// How often a wait looks whether the worker goes on.
const TICK: Duration = Duration::from_millis(100);

/// What all threads of a worker share of an endpoint.
#[derive(Debug)]
pub struct Shared {
    pub endpoint: HttpEndpoint,
    pub mapping: Mapping,
    pub client: Client,
    /// The schema in which answers are given.
    pub answers: Arc<Schema>,
    pub deadline: Duration,
    pub runtime: Handle,
    slots: Semaphore,
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
        answers: Arc<Schema>,
        deadline: Duration,
    ) -> Result<Self, Error> {
        let client = Client::builder()
            .user_agent(USER_AGENT)
            // A redirect is the service's answer, and to follow it might be a second call.
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .build()
            .map_err(|e| Error::Service {
                service: endpoint.url.clone(),
                reason: format!("no HTTP client: {e}"),
            })?;
        Ok(Self {
            slots: Semaphore::new(endpoint.concurrency.max(1) as usize),
            gate: Mutex::default(),
            began: Instant::now(),
            runtime: Handle::current(),
            endpoint,
            mapping,
            client,
            answers,
            deadline,
        })
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls until the service has an answer, whatever it is.
    async fn call(&self, identity: &Identity, json: &[u8], row: &Row) -> (Verdict, Vec<Row>) {
        loop {
            // Closed only when the worker is gone.
            let Ok(slot) = self.slots.acquire().await else {
                return std::future::pending().await;
            };
            // Before leave is asked for: who has it is to call.
            let request = match self.mapping.request(&self.client, identity, json, row) {
                Ok(request) => request,
                Err(detail) => return no_request(detail),
            };
            let leave = self.gate().ask(self.began.elapsed());
            if let Leave::Wait(time) = leave {
                drop(slot);
                tokio::time::sleep(time).await;
                continue;
            }
            if let Some(found) = self.once(request, row).await {
                return found;
            }
        }
    }

    /// One call; `None`: the service takes none now, and the gate is closed.
    async fn once(&self, request: RequestBuilder, row: &Row) -> Option<(Verdict, Vec<Row>)> {
        let retry = |reason: &str, detail: String| {
            self.gate().unanswered(self.began.elapsed());
            let reason = reason.into();
            Some((Verdict::Retry { reason, detail }, Vec::new()))
        };
        let turned_away = |after| self.gate().turned_away(self.began.elapsed(), after);
        match tokio::time::timeout(self.deadline, http::read(request)).await {
            Err(_) => {
                let detail = format!("no answer within {} ms", self.deadline.as_millis());
                retry("Deadline", detail)
            }
            // That nobody is there is no record's fault.
            Ok(Err(NoAnswer::NoConnection(_))) => {
                turned_away(None);
                None
            }
            Ok(Err(NoAnswer::Passing(detail) | NoAnswer::TooLarge(detail))) => {
                retry("HttpBroken", detail)
            }
            Ok(Err(NoAnswer::Settings(detail))) => {
                self.gate().unanswered(self.began.elapsed());
                Some(no_request(detail))
            }
            Ok(Ok(answer)) => match answer::read(&self.endpoint, row, &answer) {
                Meaning::Busy => {
                    turned_away(answer.after());
                    None
                }
                Meaning::Verdict(verdict, rows) => {
                    self.gate().answered();
                    Some((verdict, rows))
                }
            },
        }
    }
}

fn no_request(detail: String) -> (Verdict, Vec<Row>) {
    let reason = "NoRequest".into();
    (Verdict::DeadLetter { reason, detail }, Vec::new())
}

/// A lane: one batch at a time, its records at once.
#[derive(Debug)]
pub struct HttpService {
    shared: Arc<Shared>,
}

impl HttpService {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Service for HttpService {
    fn call(&mut self, call: &Call<'_>, go: &dyn Fn() -> bool) -> Result<Reply, CallError> {
        let shared = &self.shared;
        let fatal = |reason: String| {
            CallError::Fatal(Error::Service {
                service: shared.endpoint.url.clone(),
                reason,
            })
        };
        let records = objects(call.records).map_err(fatal)?;
        // Records of a key one after the other, of different keys at once.
        let mut queues: Vec<Vec<usize>> = Vec::new();
        let mut by_key: HashMap<&[u8], usize> = HashMap::new();
        for (at, key) in call.keys.iter().enumerate() {
            match key.as_deref() {
                None => queues.push(vec![at]),
                Some(key) => {
                    let queue = *by_key.entry(key).or_insert(queues.len());
                    match queues.get_mut(queue) {
                        Some(queue) => queue.push(at),
                        None => queues.push(vec![at]),
                    }
                }
            }
        }
        let queues = stream::iter(queues).map(|queue| {
            let records = &records;
            async move {
                let mut found = Vec::with_capacity(queue.len());
                for at in queue {
                    let (Some(identity), Some((json, row))) =
                        (call.identities.get(at), records.get(at))
                    else {
                        continue;
                    };
                    found.push((at, shared.call(identity, json, row).await));
                }
                found
            }
        });
        let most = shared.endpoint.concurrency.max(1) as usize;
        let all = queues.buffer_unordered(most).collect::<Vec<_>>();
        let found = shared.runtime.block_on(async {
            let mut tick = tokio::time::interval(TICK);
            tokio::pin!(all);
            loop {
                tokio::select! {
                    found = &mut all => return Some(found),
                    _ = tick.tick() => if !go() { return None },
                }
            }
        });
        let Some(found) = found else {
            return Err(CallError::Stopped);
        };
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        found.sort_unstable_by_key(|(at, _)| *at);
        reply(found.into_iter().map(|(_, found)| found), &shared.answers).map_err(fatal)
    }

    fn restarts(&self) -> u64 {
        0
    }
}

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

/// Verdicts with the rows of their answers. Rows that do not fit make a dead letter of their record, and of no other.
fn reply(
    found: impl Iterator<Item = (Verdict, Vec<Row>)>,
    answers: &Arc<Schema>,
) -> Result<Reply, String> {
    let (mut verdicts, mut families) = (Vec::new(), Vec::new());
    for (verdict, rows) in found {
        verdicts.push(verdict);
        families.push(rows);
    }
    let whole: Vec<&Row> = families.iter().flatten().collect();
    if let Ok(answers) = batch(answers, &whole) {
        return Ok(Reply { verdicts, answers });
    }
    let mut good = Vec::new();
    for (verdict, rows) in verdicts.iter_mut().zip(&families) {
        let rows: Vec<&Row> = rows.iter().collect();
        match batch(answers, &rows) {
            Ok(_) => good.extend(rows),
            Err(detail) => {
                let reason = "AnswerMisfit".into();
                *verdict = Verdict::DeadLetter { reason, detail };
            }
        }
    }
    let answers = batch(answers, &good)?;
    Ok(Reply { verdicts, answers })
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
