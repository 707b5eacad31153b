//! One pass: chunks from a source go to a transport, reports come back and are counted. Knows neither Kafka nor store.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use super::keeping::{Keeper, Pace, Slot, Turn};
use super::meter::{Meter, SourceTime, Waited};
use super::pacing::{Out, Pacer};
use super::rejects::RejectRow;
use super::source::Step;
use crate::context::Context;
use crate::error::Result;
use crate::kafka::transport::{Report, Rows, Transport};

/// How long a stopped pass still waits for what it has queued, so that less is left to be read back.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// How long to wait for reports when there is nothing to send.
const REPORT_WAIT: Duration = Duration::from_millis(5);
/// How long to wait for the source, or for room in the queue; a cancel is noticed at least this often.
const SOURCE_WAIT: Duration = Duration::from_millis(50);
/// Between two notes of how far an open split is: so much is read back at most after a death. A note costs the store a
/// durable write.
pub const NOTE_EVERY: Duration = Duration::from_secs(2);
/// Between two reports of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// How a pass ended that was not stopped.
#[derive(Debug, Default)]
pub struct Ended {
    /// Why it sent no further, if something was not delivered.
    pub failure: Option<String>,
    /// A batch was refused as too large: smaller ones may pass.
    pub batch_too_large: bool,
    /// Another publisher of the same name has taken over.
    pub fenced: bool,
    /// It was another's turn; what was sent before is accounted for.
    pub gave_way: bool,
    pub acknowledged: u64,
    /// Rows that were sent, and the bytes of their payloads and keys.
    pub sent: u64,
    pub bytes: u64,
    pub waited: Waited,
}

/// A pass under way.
pub struct Pass<'a> {
    pub transport: &'a mut dyn Transport,
    pub slots: &'a mut [Slot],
    pub keeper: &'a mut dyn Keeper,
    /// Where each partition ends at least; grows with acknowledgements.
    pub ends: &'a mut BTreeMap<i32, i64>,
    pub note_every: Duration,
    pub pacer: &'a mut Pacer,
    pub meter: &'a mut Meter,
    pub ctx: &'a Context,
}

impl Pass<'_> {
    /// Sends what the source gives until it ends or a row fails, and waits for the fate of all that was sent.
    ///
    /// # Errors
    /// [`Error::Interrupted`], an error of the source, or one of the keeper. What was sent then may be unknown.
    pub fn run(mut self, steps: Receiver<Result<Step>>) -> Result<Ended> {
        let mut ended = Ended::default();
        let mut source = SourceTime::default();
        let result = self.send_all(steps, &mut ended, &mut source);
        let (read, encode) = (source.read.as_secs_f64(), source.encode.as_secs_f64());
        let share = encode / (read + encode).max(1e-9);
        ended.waited.encoder_s = ended.waited.source_s * share;
        ended.waited.source_s -= ended.waited.encoder_s;
        if result.is_err() && !self.transport.transactional() {
            let deadline = Instant::now() + LAST_WORDS;
            self.transport.hurry();
            while self.transport.in_flight() > 0 && Instant::now() < deadline {
                self.take_reports(SOURCE_WAIT, &mut ended);
            }
            // A split whose last acknowledgement has come meanwhile is closed; the first error is the one to tell.
            let _ = self.close_complete();
        }
        self.give_up(&mut ended);
        ended.fenced = self.transport.fenced();
        result.map(|()| ended)
    }

    fn send_all(
        &mut self,
        steps: Receiver<Result<Step>>,
        ended: &mut Ended,
        source_time: &mut SourceTime,
    ) -> Result<()> {
        let mut steps = Some(steps);
        let mut waiting: Option<(usize, Rows, usize)> = None;
        // In transactions a split begins and ends by itself: its slot.
        let (mut beginning, mut ending): (Option<usize>, Option<usize>) = (None, None);
        let mut shown = Instant::now();
        let mut noted = Instant::now();
        loop {
            self.ctx.check("publish")?;
            self.take_reports(Duration::ZERO, ended);
            self.close_complete()?;
            if shown.elapsed() >= PROGRESS_EVERY {
                self.progress(ended);
                shown = Instant::now();
            }
            if noted.elapsed() >= self.note_every && ended.failure.is_none() {
                self.note_open()?;
                noted = Instant::now();
            }
            let turn = match steps.is_some() || waiting.is_some() {
                true => self.keeper.turn()?,
                false => Turn::Go,
            };
            ended.gave_way |= turn == Turn::Stop;
            if ended.failure.is_some() || ended.gave_way {
                // What failed is settled by another pass; more would only fail alike.
                steps = None;
                waiting = None;
                (beginning, ending) = (None, None);
            }
            if let Some(slot) = beginning {
                let began = Instant::now();
                if self
                    .pacer
                    .lag_room(began, out(self.ends, self.transport, ended))?
                    == 0
                {
                    self.take_reports(SOURCE_WAIT, ended);
                    ended.waited.pacing_s += began.elapsed().as_secs_f64();
                    continue;
                }
                beginning = None;
                self.begin_transaction(slot, ended)?;
                continue;
            }
            if let Some(slot) = ending {
                let began = Instant::now();
                if self.transport.in_flight() > 0 {
                    self.transport.hurry();
                    self.take_reports(SOURCE_WAIT, ended);
                } else if self.commit(slot, ended) {
                    ending = None;
                }
                ended.waited.broker_s += began.elapsed().as_secs_f64();
                continue;
            }
            if turn == Turn::Wait {
                self.take_reports(SOURCE_WAIT, ended);
                continue;
            }
            if let Some((slot, rows, from)) = waiting.take() {
                let began = Instant::now();
                // What is not committed can't be worked on: in the middle of a transaction the lag is no reason to wait.
                let room = match self.transport.transactional() {
                    true => self.pacer.rate_room(began),
                    false => self
                        .pacer
                        .room(began, out(self.ends, self.transport, ended))?,
                };
                if room == 0 {
                    self.take_reports(SOURCE_WAIT, ended);
                    ended.waited.pacing_s += began.elapsed().as_secs_f64();
                    waiting = Some((slot, rows, from));
                    continue;
                }
                let to = rows.len().min(from.saturating_add(room));
                match self.send(slot, &rows, from..to) {
                    Ok(0) => {
                        self.take_reports(SOURCE_WAIT, ended);
                        ended.waited.broker_s += began.elapsed().as_secs_f64();
                        waiting = Some((slot, rows, from));
                    }
                    Ok(taken) => {
                        self.pacer.sent(taken as u64);
                        ended.sent += taken as u64;
                        ended.bytes += rows.bytes(from..from + taken) as u64;
                        if from + taken < rows.len() {
                            waiting = Some((slot, rows, from + taken));
                        }
                    }
                    Err(reason) => {
                        ended.failure.get_or_insert(reason);
                    }
                }
                continue;
            }
            let began = Instant::now();
            let Some(source) = &steps else {
                if self.transport.in_flight() == 0 {
                    self.progress(ended);
                    self.close_complete()?;
                    return match ended.gave_way {
                        true => self.note_open(),
                        false => Ok(()),
                    };
                }
                self.transport.hurry();
                self.take_reports(SOURCE_WAIT, ended);
                ended.waited.broker_s += began.elapsed().as_secs_f64();
                continue;
            };
            let step = match source.try_recv() {
                Err(TryRecvError::Empty) if self.transport.in_flight() > 0 => {
                    self.take_reports(REPORT_WAIT, ended);
                    ended.waited.source_s += began.elapsed().as_secs_f64();
                    continue;
                }
                Err(TryRecvError::Empty) => {
                    let step = source.recv_timeout(SOURCE_WAIT);
                    ended.waited.source_s += began.elapsed().as_secs_f64();
                    match step {
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => None,
                        Ok(step) => Some(step?),
                    }
                }
                Err(TryRecvError::Disconnected) => None,
                Ok(step) => Some(step?),
            };
            match step {
                None => steps = None,
                Some(Step::Begin(slot)) if self.transport.transactional() => {
                    beginning = Some(slot);
                }
                Some(Step::Begin(slot)) => self.begin(slot)?,
                Some(Step::Rows(slot, chunk)) => {
                    if !chunk.rejects.is_empty() {
                        self.reject(slot, chunk.rejects)?;
                    }
                    if !chunk.rows.is_empty() {
                        waiting = Some((slot, chunk.rows, 0));
                    }
                }
                Some(Step::End(slot, rows, time)) => {
                    source_time.read += time.read;
                    source_time.encode += time.encode;
                    ending = self.transport.transactional().then_some(slot);
                    if let Some(slot) = self.slots.get_mut(slot) {
                        slot.rows = Some(rows);
                    }
                }
            }
        }
    }

    fn progress(&mut self, ended: &Ended) {
        // What is acknowledged has the mean size of what was sent.
        let mean = ended.bytes / ended.sent.max(1);
        let bytes = mean.saturating_mul(ended.acknowledged);
        self.meter.sample(Instant::now(), ended.acknowledged, bytes);
        let pace = Pace {
            held: self.pacer.note(),
            behind: self.pacer.behind(),
            waited_s: ended.waited.pacing_s,
        };
        self.keeper.progress(ended.acknowledged, self.meter, &pace);
    }

    fn begin(&mut self, slot: usize) -> Result<()> {
        match self.slots.get_mut(slot) {
            // An open split keeps its first note.
            Some(slot) if slot.noted.is_none() => self.keeper.open(slot, self.ends),
            _ => Ok(()),
        }
    }

    fn begin_transaction(&mut self, slot: usize, ended: &mut Ended) -> Result<()> {
        self.begin(slot)?;
        if let Err(reason) = self.transport.begin() {
            ended.failure.get_or_insert(reason);
        } else if let Some(slot) = self.slots.get_mut(slot) {
            slot.uncommitted = Some(Box::new(slot.tally.clone()));
        }
        Ok(())
    }

    /// Says whether that was the end of it, committed or failed.
    fn commit(&mut self, slot: usize, ended: &mut Ended) -> bool {
        match self.transport.commit() {
            Ok(false) => return false,
            Ok(true) => {
                if let Some(slot) = self.slots.get_mut(slot) {
                    slot.uncommitted = None;
                }
            }
            Err(reason) => {
                ended.failure.get_or_insert(reason);
            }
        }
        true
    }

    /// What is not committed when a pass ends never will be, as far as it is up to us.
    fn give_up(&mut self, ended: &mut Ended) {
        let mut open = false;
        for slot in self.slots.iter_mut() {
            if let Some(before) = slot.uncommitted.take() {
                let known = before.acknowledged.len();
                ended.acknowledged -= slot.tally.acknowledged.len().saturating_sub(known);
                slot.tally.take_back(*before);
                open = true;
            }
        }
        if open {
            self.transport.abort();
        }
    }

    /// The records of a partition are acknowledged in their order, as long as none has failed: what this publisher still
    /// has in flight there is behind all that is acknowledged.
    fn note_open(&mut self) -> Result<()> {
        for slot in self.slots.iter_mut() {
            let acknowledged = slot.tally.acknowledged.len();
            // A transaction is there as a whole or not at all.
            let open = slot.noted.is_some() && !slot.closed && slot.uncommitted.is_none();
            if open && slot.tally.unknown.is_empty() && acknowledged > slot.noted_rows {
                self.keeper.note(slot, self.ends)?;
                slot.noted_rows = acknowledged;
            }
        }
        Ok(())
    }

    fn reject(&mut self, slot: usize, mut rejects: Vec<RejectRow>) -> Result<()> {
        let Some(slot) = self.slots.get_mut(slot) else {
            return Ok(());
        };
        // A second pass over a split meets the same rejects again.
        rejects.retain(|r| slot.tally.rejected.insert(r.row));
        self.keeper.rejected(slot, &rejects)
    }

    fn send(&mut self, slot: usize, rows: &Rows, range: Range<usize>) -> Result<usize, String> {
        let Some(slot) = self.slots.get_mut(slot) else {
            return Err(format!(
                "the source gave rows of slot {slot}, which there is not"
            ));
        };
        let before = self.transport.in_flight();
        let taken = self.transport.send(slot.origin, rows, range);
        // Counted by what is in flight now: a send that failed half-way has taken some rows too.
        slot.tally
            .sent(self.transport.in_flight().saturating_sub(before));
        taken
    }

    fn take_reports(&mut self, wait: Duration, ended: &mut Ended) {
        let mut reports = Vec::new();
        self.transport.reports(wait, &mut reports);
        for report in reports {
            match report {
                Report::Acknowledged {
                    slot,
                    first_seq,
                    count,
                    partition,
                    first_offset,
                } => {
                    if let Some(slot) = self.slots.get_mut(slot as usize) {
                        slot.tally
                            .acknowledge(first_seq, count, partition, first_offset);
                    }
                    ended.acknowledged += u64::from(count);
                    let end = self.ends.entry(partition).or_insert(0);
                    *end = (*end).max(first_offset + i64::from(count));
                }
                Report::Failed {
                    slot,
                    seq,
                    partition,
                    failure,
                } => {
                    let Some(slot) = self.slots.get_mut(slot as usize) else {
                        continue;
                    };
                    let fate = if failure.possibly_persisted {
                        "the broker may have it"
                    } else {
                        "the broker does not have it"
                    };
                    ended.batch_too_large |= failure.batch_too_large;
                    if ended.failure.is_none() || slot.tally.first_failure.is_none() {
                        let trouble = self
                            .transport
                            .trouble()
                            .map(|t| format!("; the client says: {t}"))
                            .unwrap_or_default();
                        let reason = format!(
                            "split {} row {seq} to partition {partition}: {} ({fate}){trouble}",
                            slot.origin.split, failure.reason
                        );
                        slot.tally.fail(seq, failure.possibly_persisted, &reason);
                        ended.failure.get_or_insert(reason);
                    } else {
                        slot.tally.fail(seq, failure.possibly_persisted, "");
                    }
                }
            }
        }
    }

    fn close_complete(&mut self) -> Result<()> {
        for slot in self.slots.iter_mut() {
            if !slot.closed && slot.complete() {
                self.keeper.close(slot)?;
                slot.closed = true;
            }
        }
        Ok(())
    }
}

fn out<'e>(ends: &'e BTreeMap<i32, i64>, transport: &dyn Transport, ended: &Ended) -> Out<'e> {
    Out {
        ends,
        in_flight: transport.in_flight(),
        rows: ended.sent,
        bytes: ended.bytes,
    }
}

#[cfg(test)]
#[path = "pass_tests.rs"]
mod tests;
