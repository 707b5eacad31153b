//! From the worker's desk to calls and back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use arrow_schema::Schema;
use tokio::task::JoinSet;

use super::batch::{Batching, Share, cut};
use super::calls::{Calls, Endpoint, Item, Records};
use crate::error::Error;
use crate::job::template::Row;
use crate::work::desk::Desk;
use crate::work::service_error;
use crate::work::task::Task;
use crate::work::verdict::Verdict;

/// Requests at once, as many as the endpoint takes.
pub struct EndpointDriver<E> {
    shared: Arc<Calls<E>>,
    /// What was taken and is not called yet.
    cut: VecDeque<Records>,
    calls: JoinSet<Vec<Found>>,
}

impl<E: Endpoint> EndpointDriver<E> {
    pub fn new(shared: Arc<Calls<E>>) -> Self {
        Self {
            shared,
            cut: VecDeque::new(),
            calls: JoinSet::new(),
        }
    }

    /// Works until the worker stops.
    ///
    /// # Errors
    /// If records can't be made JSON of.
    pub async fn run(mut self, desk: &mut Desk) -> Result<(), Error> {
        let wrong = {
            let name = self.shared.endpoint.name().to_owned();
            move |reason: String| service_error(&name, reason)
        };
        let batch = self.shared.endpoint.batching();
        let linger = batch.map_or(Duration::ZERO, |b| b.linger);
        // Until when records wait for others, on the worker's clock.
        let mut until = None;
        while desk.worker.goes_on() {
            let seat = &desk.worker.seat;
            seat.holds(self.cut.len());
            while !self.cut.is_empty() && seat.take(1) > 0 {
                if let Some(records) = self.cut.pop_front() {
                    self.spawn(records);
                }
            }
            seat.holds(self.cut.len());
            let mut room = (seat.limit() as usize).saturating_sub(self.calls.len());
            if !self.cut.is_empty() {
                room = 0;
            }
            let most = batch.map_or(room, |b| b.records as usize);
            // Without room it waits for a call's end, or for the worker's: calls that hang are given up then.
            let (least, latest) = match (room, until) {
                (0, _) => (usize::MAX, Duration::MAX),
                (_, None) => (1, Duration::ZERO),
                (_, Some(until)) => (most, until),
            };
            tokio::select! {
                // Only when all of them are gone is there none.
                Some(first) = self.calls.join_next() => {
                    let mut found = Vec::with_capacity(8);
                    let mut next = Some(first);
                    let mut ended = 0;
                    while let Some(some) = next {
                        ended += 1;
                        found.extend(some.map_err(|e| wrong(format!("a call ended by itself: {e}")))?);
                        next = self.calls.try_join_next();
                    }
                    desk.worker.seat.count(0, ended);
                    desk.give_rows(found);
                }
                // Slots come from other jobs, too.
                () = desk.worker.seat.freed(), if room == 0 => {}
                () = desk.ready(least, latest) => {
                    if room == 0 {
                        continue;
                    }
                    if until.is_none() && !linger.is_zero() {
                        until = Some(desk.worker.now() + linger);
                        continue;
                    }
                    until = None;
                    // One of a lane at a time: nobody knows in which order a service works through a list.
                    let Some(taken) = desk.take(most, false)? else { continue };
                    let items = items(&taken.records).map_err(&wrong)?;
                    self.cut.extend(records(taken.tasks, items, batch));
                }
            }
        }
        Ok(())
    }

    fn spawn(&mut self, records: Records) {
        let shared = Arc::clone(&self.shared);
        self.calls.spawn(async move {
            let said = shared.call(&records).await;
            let found = records.tasks.into_iter().zip(said);
            found
                .map(|(task, (verdict, rows))| (task, verdict, rows))
                .collect()
        });
    }
}

/// Records by the requests that they share.
fn records(tasks: Vec<Task>, items: Vec<Item>, batch: Option<Batching>) -> Vec<Records> {
    let shares = tasks.iter().zip(&items).map(|(task, item)| Share {
        most: task.way.share,
        bytes: item.json.len(),
    });
    let cuts = cut(&shares.collect::<Vec<_>>(), batch);
    let (mut tasks, mut items) = (tasks.into_iter(), items.into_iter());
    let cuts = cuts.into_iter().map(|rows| Records {
        tasks: tasks.by_ref().take(rows.len()).collect(),
        items: items.by_ref().take(rows.len()).collect(),
    });
    cuts.collect()
}

type Found = (Task, Verdict, Vec<Row>);

/// Each record as JSON, and read.
fn items(batch: &RecordBatch) -> Result<Vec<Item>, String> {
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
            let json = line.to_vec();
            Ok(Item { json, row })
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
