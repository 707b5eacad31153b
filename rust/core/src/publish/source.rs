//! The snapshot's row groups as encoded chunks, made on a thread of its own that runs a bounded way ahead.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use arrow_schema::SchemaRef;
use roaring::RoaringBitmap;

use super::encode::{Chunk, Maker, Recipe};
use super::meter::SourceTime;
use super::order::Sorted;
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::kafka::transport::Origin;
use crate::rows::{BySchema, FileRows};
use crate::snapshot::{Snapshot, Split};

/// Chunks that wait for the sender.
const AHEAD: usize = 3;
/// What the source tells the sender, split by split, in order.
pub enum Step {
    /// A split begins; nothing of it may be sent before this is noted.
    Begin(usize),
    Rows(usize, Chunk),
    /// All rows of a split have been given: so many, and what that took.
    End(usize, u32, SourceTime),
}

/// A split to read, and the rows of it that need not be sent.
pub struct Wanted {
    /// The sender's number for it.
    pub slot: usize,
    pub split: Split,
    pub done: RoaringBitmap,
}

/// Reads splits of a snapshot.
#[derive(Clone)]
pub struct Source {
    pub snapshot: Arc<Snapshot>,
    pub job: JobId,
    pub recipe: Recipe,
}

impl Source {
    /// Starts to read. An error is the last step; the thread ends when the receiver is dropped.
    ///
    /// # Errors
    /// [`Error::Io`] if no thread can be started.
    pub fn start(self, wanted: Vec<Wanted>) -> Result<Receiver<Result<Step>>> {
        let root = self.snapshot.root.clone();
        spawn(root, move |to| {
            let mut makers = BySchema::new();
            for one in &wanted {
                if !self.read(one, &mut makers, to)? {
                    return Ok(());
                }
            }
            Ok(())
        })
    }

    /// Says `false` once nobody listens any more.
    fn read(&self, wanted: &Wanted, makers: &mut BySchema<Maker>, to: &Steps) -> Result<bool> {
        let split = &wanted.split;
        let path = self.snapshot.path(split.file);
        let failed = |reason: String| Error::Source {
            path: path.clone(),
            reason: format!("split {}: {reason}", split.split),
        };
        let groups = split.row_group_first..split.row_group_first + split.row_group_count;
        let recipe = &self.recipe;
        let asked = |name: &str| recipe.asks(name);
        let job = self.job.to_string();
        let mut rows = FileRows::open(&self.snapshot, split.file, groups, &job, &asked)?;
        let make = |schema: &SchemaRef| Maker::new(self.recipe.clone(), schema);
        // Before anything is noted or sent: a plan that can't be.
        makers.get(&rows.schema(), make)?;
        let mut sorted = match &recipe.routing.order {
            Some(column) => {
                let sorted = Sorted::new(column, &rows.schema(), &recipe.plan, path.clone(), split);
                Some(sorted?)
            }
            None => None,
        };
        let origin = Origin {
            job: self.job,
            split: split.split,
            slot: u32::try_from(wanted.slot).map_err(|e| failed(e.to_string()))?,
        };
        if !to.give(Step::Begin(wanted.slot)) {
            return Ok(false);
        }
        let mut base = 0_u32;
        let mut time = SourceTime::default();
        loop {
            let began = Instant::now();
            let Some(batch) = rows.next() else { break };
            time.read += began.elapsed();
            let began = Instant::now();
            let batch = batch?;
            if let Some(sorted) = &mut sorted {
                sorted.check(&batch, base)?;
            }
            let chunk = makers
                .get(&batch.schema(), make)?
                .chunk(origin, &batch, base, &wanted.done)
                .map_err(failed)?;
            base = u32::try_from(batch.num_rows())
                .ok()
                .and_then(|n| base.checked_add(n))
                .ok_or_else(|| failed("has 2^32 rows or more".into()))?;
            time.encode += began.elapsed();
            if !to.give(Step::Rows(wanted.slot, chunk)) {
                return Ok(false);
            }
        }
        if base != split.rows {
            return Err(failed(format!(
                "gave {base} rows, {} were planned",
                split.rows
            )));
        }
        Ok(to.give(Step::End(wanted.slot, base, time)))
    }
}

/// Starts a source thread around `read`.
pub fn spawn(
    what: PathBuf,
    read: impl FnOnce(&Steps) -> Result<()> + Send + 'static,
) -> Result<Receiver<Result<Step>>> {
    let (to, steps) = sync_channel(AHEAD);
    thread::Builder::new()
        .name("kappaflow-source".into())
        .spawn(move || {
            let to = Steps(to);
            if let Err(error) = read(&to) {
                // Nobody listens any more: then nobody needs to know.
                let _ = to.0.send(Err(error));
            }
        })
        .map_err(Error::io("start a thread to read", what))?;
    Ok(steps)
}

/// The way from a source to the sender.
pub struct Steps(SyncSender<Result<Step>>);

impl Steps {
    /// Waits while the sender is behind. Says `false` once it has gone.
    pub fn give(&self, step: Step) -> bool {
        self.0.send(Ok(step)).is_ok()
    }
}
