//! The publishing of child jobs in one region: resume, passes, settling, receipts. Blocking.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use kappaflow_avro::{AvroSchema, PlanOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::runtime::Handle;

use super::books::Books;
use super::encode::Recipe;
use super::keeper::ChildKeeper;
use super::letters::Letters;
use super::limits::PaceLimits;
use super::meter::{Meter, Waited};
use super::order;
use super::pacing::Pacer;
use super::pass::{Ended, NOTE_EVERY, Pass};
use super::policy::RejectPolicy;
use super::readback;
use super::rejects::RejectCounts;
use super::resume::{Book, transactional_id};
use super::routing::Routing;
use super::source::{Source, Wanted};
use super::split::Seen;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::kafka::{Cluster, KafkaTransport, ProduceOptions, ahead_ms};
use crate::registry::Stamp;
use crate::snapshot::Snapshot;
use crate::store::{Child, SplitRow, SplitState, TopicRow};

/// Times that rows which were not delivered are sent again before the publish fails.
const ATTEMPTS: u32 = 4;
/// Batches after the broker refused one as too large.
const SMALL_BATCH_BYTES: u32 = 16_384;

/// Everything a region's publish needs, owned.
pub struct RegionRun {
    pub runtime: Handle,
    pub job: JobId,
    /// Rows of the whole job: what a share of rejects is a share of.
    pub job_rows: u64,
    /// Where rejects are kept beside the job; `None`: only in the dead-letter topic.
    pub work_dir: Option<PathBuf>,
    pub snapshot: Arc<Snapshot>,
    pub schema: AvroSchema,
    pub stamp: Stamp,
    pub plan: PlanOptions,
    pub routing: Routing,
    /// What is kept of rejected rows.
    pub policy: RejectPolicy,
    pub compression: String,
    pub queue_mib: u32,
    /// What the names of transactions begin with, if rows are sent in transactions: one for each split.
    pub transactional: Option<String>,
    /// Splits that were published elsewhere: a transaction may have been left open under a name of their own.
    pub taken_over: Vec<u32>,
    /// Most rows of the job that may be rejected, and how the job file says it.
    pub max_rejects: Option<(u64, String)>,
    /// What closed splits of the job have rejected.
    pub rejects_before: RejectCounts,
    pub pace: PaceLimits,
    /// The group that works on what is published.
    pub group: String,
    pub cluster: Cluster,
    pub topic: TopicRow,
    /// Where rejects go.
    pub dead_letter: TopicRow,
    pub ctx: Context,
}

/// What a run did beyond what the receipts in the store say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub acknowledged: u64,
    pub read_back: u64,
    pub doubled: u64,
    /// Rejects that the dead-letter topic has acknowledged.
    pub rejects_sent: u64,
    /// Of the payloads and keys that were sent.
    pub bytes: u64,
    pub waited: Waited,
    /// How long rows were sent and waited for.
    pub seconds: f64,
}

impl Done {
    pub fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.read_back += other.read_back;
        self.doubled += other.doubled;
        self.rejects_sent += other.rejects_sent;
        self.bytes += other.bytes;
        self.waited.add(&other.waited);
        self.seconds += other.seconds;
    }
}

impl RegionRun {
    /// Publishes what is not closed of the children.
    pub fn publish(
        self,
        books: &mut dyn Books,
        children: Vec<(Child, Vec<SplitRow>)>,
    ) -> Result<Done> {
        readback::check_topic(&self.cluster, &self.topic)?;
        let options = self.options(&self.topic.name);
        let mut produce = self.produce(&self.topic.name, &options);
        produce.gapless = self.routing.order.is_some();
        produce.schema_header = self.stamp.header;
        let source = Source {
            snapshot: self.snapshot.clone(),
            job: self.job,
            recipe: Recipe {
                schema: self.schema.clone(),
                frame: self.stamp.frame,
                plan: self.plan.clone(),
                routing: Routing {
                    ahead_ms: ahead_ms(&options),
                    ..self.routing.clone()
                },
                policy: self.policy.clone(),
                partitions: self.topic.partitions,
                largest_record: produce.largest_record(),
                largest_for_topic: produce.largest_for_topic(),
                max_message_bytes: produce.message_limit(),
            },
        };
        self.fence(&children)?;
        // Nothing of a split that is not open yet can be before these.
        let ends = readback::ends(&self.cluster, &self.topic)?;
        let mut letters = Letters::new(
            self.cluster.clone(),
            self.produce(
                &self.dead_letter.name,
                &self.options(&self.dead_letter.name),
            ),
            self.dead_letter.partitions,
            self.ctx.clone(),
        );
        let seen = self.resume(&children, &mut letters)?;
        let mut run = Running {
            books,
            source,
            produce,
            transport: None,
            ends,
            letters,
            rejects: self.rejects_before.clone(),
            pacer: self.pace.pacer(&self.cluster, &self.group, &self.topic)?,
            done: Done::default(),
        };
        for (child, splits) in &children {
            self.child(child, splits, &seen, &mut run)?;
        }
        run.done.rejects_sent = run.letters.delivered();
        Ok(run.done)
    }

    pub(super) fn produce(
        &self,
        topic: &str,
        options: &BTreeMap<String, String>,
    ) -> ProduceOptions {
        let timeout = self.cluster.timeout();
        ProduceOptions::new(topic, options, &self.compression, self.queue_mib, timeout)
    }

    pub(super) fn options(&self, topic: &str) -> BTreeMap<String, String> {
        self.runtime.block_on(self.cluster.topic_options(topic))
    }

    fn child(
        &self,
        child: &Child,
        splits: &[SplitRow],
        seen: &BTreeMap<u32, Seen>,
        run: &mut Running<'_>,
    ) -> Result<()> {
        let began = Instant::now();
        if let Some(prefix) = &self.transactional {
            // Each child has a name of its own.
            run.transport = None;
            run.produce.transactional_id = Some(transactional_id(prefix, &child.name));
        }
        let in_order = match &self.routing.order {
            Some(column) => Some(order::sequence(
                &self.snapshot,
                self.job,
                &self.plan,
                column,
                splits,
            )?),
            None => None,
        };
        let splits = in_order.as_deref().unwrap_or(splits);
        let mut book = self.book(splits, seen, run.books)?;
        let here: u64 = book.slots.iter().map(|s| s.tally.acknowledged.len()).sum();
        run.done.read_back += here;
        run.done.doubled += book.slots.iter().map(|s| s.tally.doubled).sum::<u64>();
        let closed: u64 = splits.iter().map(|s| s.acknowledged).sum();
        run.books.event(
            &child.name,
            "begin",
            json!({"rows": child.rows, "region": self.topic.region, "read_back": here}),
        )?;
        let result = self.attempts(child, closed + here, &mut book, run);
        if let Err(error) = result {
            for (_, rejects) in book.rejects {
                // The error is what the caller has to see, also where these can't be written.
                let _ = rejects.keep();
            }
            let detail = json!({"error": error.kind()});
            // The error itself is what the caller has to see.
            let _ = run.books.event(&child.name, "stopped", detail);
            return Err(error);
        }
        let slots = || book.slots.iter().map(|slot| &slot.tally);
        let before = || splits.iter().filter(|s| s.state == SplitState::Closed);
        let detail = json!({
            "rows": child.rows,
            "acknowledged": closed + slots().map(|t| t.acknowledged.len()).sum::<u64>(),
            "rejected": before().map(|s| s.rejected).sum::<u64>()
                + slots().map(|t| t.rejected.len()).sum::<u64>(),
            "seconds": began.elapsed().as_secs_f64(),
        });
        run.books.event(&child.name, "end", detail)
    }

    fn attempts(
        &self,
        child: &Child,
        acknowledged_before: u64,
        book: &mut Book,
        run: &mut Running<'_>,
    ) -> Result<()> {
        let mut before = acknowledged_before;
        let mut meter = Meter::default();
        for attempt in 1.. {
            let wanted: Vec<Wanted> = book
                .splits
                .iter()
                .zip(&mut book.slots)
                .enumerate()
                .filter(|(_, (_, slot))| !slot.closed)
                .map(|(index, (split, slot))| {
                    slot.rows = None;
                    Wanted {
                        slot: index,
                        split: split.clone(),
                        done: slot.tally.done(),
                    }
                })
                .collect();
            if wanted.is_empty() {
                return Ok(());
            }
            let transport = match &mut run.transport {
                Some(transport) => transport,
                none => none.insert(KafkaTransport::new(&self.cluster, &run.produce, &self.ctx)?),
            };
            let mut keeper = ChildKeeper {
                run: self,
                books: run.books,
                child,
                splits: &book.splits,
                rejects: &mut book.rejects,
                counts: &mut run.rejects,
                letters: &mut run.letters,
                acknowledged_before: before,
            };
            let pass = Pass {
                transport,
                slots: &mut book.slots,
                keeper: &mut keeper,
                ends: &mut run.ends,
                note_every: NOTE_EVERY,
                pacer: &mut run.pacer,
                meter: &mut meter,
                ctx: &self.ctx,
            };
            let began = Instant::now();
            let ended = pass.run(run.source.clone().start(wanted)?)?;
            run.done.seconds += began.elapsed().as_secs_f64();
            run.done.bytes += ended.bytes;
            run.done.waited.add(&ended.waited);
            before += ended.acknowledged;
            run.done.acknowledged += ended.acknowledged;
            if ended.fenced {
                return Err(Error::NotReady {
                    what: format!(
                        "child job {} was taken over by another publisher, or a split took longer than transaction.timeout.ms: what was not committed is given up",
                        child.name
                    ),
                    fix: "wait until the other has ended, then run it again".into(),
                });
            }
            if ended.gave_way {
                return Err(Error::Interrupted { stage: "publish" });
            }
            let Some(failure) = ended.failure.clone() else {
                // Everything was reported and delivered: nothing is left, unless the source stopped short.
                match book.slots.iter().position(|s| !s.closed) {
                    None => return Ok(()),
                    Some(_) => {
                        return Err(self.incomplete(book, "the source ended before its rows did"));
                    }
                }
            };
            // What the old producer still had may no longer be sent beside the new one.
            run.transport = None;
            if attempt >= ATTEMPTS {
                return Err(self.incomplete(book, &failure));
            }
            before += self.settle(book, &ended, &failure, run)?;
        }
        Ok(())
    }

    /// After rows were not delivered: what is unknown is looked up in the topic. Says how many rows that acknowledges.
    fn settle(
        &self,
        book: &mut Book,
        ended: &Ended,
        failure: &str,
        run: &mut Running<'_>,
    ) -> Result<u64> {
        if ended.batch_too_large {
            let smaller = SMALL_BATCH_BYTES.min(run.produce.largest_batch() / 2);
            run.produce.batch_bytes = Some(smaller);
        }
        let unknown: BTreeMap<u32, Vec<(i32, i64)>> = book
            .slots
            .iter()
            .filter(|s| !s.closed && !s.tally.unknown.is_empty())
            .map(|s| (s.origin.split, s.noted.clone().unwrap_or_default()))
            .collect();
        if unknown.is_empty() {
            return Ok(0);
        }
        if run.produce.transactional_id.is_some() {
            // The new producer's first act is to end what the old one left open.
            let transport = KafkaTransport::new(&self.cluster, &run.produce, &self.ctx)?;
            run.transport = Some(transport);
        }
        let seen = readback::check_topic(&self.cluster, &self.topic)
            .and_then(|()| {
                readback::read_back(&self.cluster, &self.topic, self.job, &unknown, &self.ctx)
            })
            .map_err(|e| match e {
                Error::Kafka { .. } => self.incomplete(book, &format!("{failure}; then {e}")),
                other => other,
            })?;
        let mut found = 0;
        for slot in &mut book.slots {
            if let Some(seen) = seen.get(&slot.origin.split) {
                let known = slot.tally.acknowledged.len();
                let doubled = slot.tally.doubled;
                slot.tally.settle(seen);
                found += slot.tally.acknowledged.len() - known;
                run.done.doubled += slot.tally.doubled.saturating_sub(doubled);
            }
        }
        Ok(found)
    }

    fn incomplete(&self, book: &Book, first_error: &str) -> Error {
        let open = book.splits.iter().zip(&book.slots).find(|(_, s)| !s.closed);
        let (split, rows, acknowledged, rejected) = open.map_or((0, 0, 0, 0), |(split, slot)| {
            let tally = &slot.tally;
            (
                split.split,
                u64::from(split.rows),
                tally.acknowledged.len(),
                tally.rejected.len(),
            )
        });
        Error::Publish {
            topic: self.topic.name.clone(),
            split,
            rows,
            acknowledged,
            rejected,
            unknown: rows.saturating_sub(acknowledged + rejected),
            first_error: first_error.to_owned(),
        }
    }
}

/// What goes on from child to child.
struct Running<'a> {
    books: &'a mut dyn Books,
    source: Source,
    produce: ProduceOptions,
    /// Made when needed; a new one after a failure.
    transport: Option<KafkaTransport>,
    /// Where each partition ends at least.
    ends: BTreeMap<i32, i64>,
    letters: Letters,
    rejects: RejectCounts,
    pacer: Pacer,
    done: Done,
}
