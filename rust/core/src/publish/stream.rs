//! Publishing without a job file: any stream of Arrow batches to one topic. One split, no store, so no resume.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow_array::RecordBatchReader;
use kappaflow_avro::framing::Frame;
use kappaflow_avro::{AvroSchema, PlanOptions};
use roaring::RoaringBitmap;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::encode::{Maker, Recipe};
use super::keeper::note;
use super::keeping::{Keeper, Pace, Slot};
use super::keys::KeySchema;
use super::letters::{Letters, Place};
use super::meter::{Meter, SourceTime, Waited};
use super::pacing::Pacer;
use super::pass::{NOTE_EVERY, Pass};
use super::policy::RejectPolicy;
use super::readback;
use super::rejects::{RejectCounts, RejectRow};
use super::source::{self, Step};
use super::target::StreamTarget;
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::job::{KeyFormat, Region, RejectLimit};
use crate::kafka::transport::Origin;
use crate::kafka::{Cluster, KafkaTransport, ProduceOptions, ahead_ms};
use crate::registry;
use crate::rows::BySchema;
use crate::store::{RejectCount, Role, TopicRow};
use crate::text;

/// Rejects a receipt shows; all are counted.
const REJECTS_SHOWN: usize = 100;
/// Larger batches are cut, so that queues stay bounded in bytes.
const SLICE_ROWS: usize = 8_192;

/// What a stream has become: `rows = acknowledged + rejected`.
#[derive(Clone, Debug, Serialize)]
pub struct StreamReceipt {
    /// The job number in the records' identity, 16 hex digits, new for each call.
    pub job: String,
    pub topic: String,
    pub rows: u64,
    pub acknowledged: u64,
    pub rejected: u64,
    /// The first hundred, with their row in the stream.
    pub rejects: Vec<RejectRow>,
    /// All of them, counted.
    pub reject_counts: Vec<RejectCount>,
    /// Records of rejected rows that the dead-letter topic took.
    pub rejects_sent: u64,
    /// `(partition, first offset, last offset)` of the acknowledged rows.
    pub ranges: Vec<(i32, i64, i64)>,
    /// Bytes of the payloads and keys that were sent.
    pub bytes: u64,
    pub waited: Waited,
    /// What it waited for most: `source`, `encoder`, `broker` or `pacing`; `client`: its own work.
    pub limit: &'static str,
    pub seconds: f64,
}

/// Publishes a stream of batches; the topic is made if it is missing. A row that can't be what the schema says is
/// rejected, every other one is acknowledged, or the call fails.
///
/// # Errors
/// [`Error::Kafka`] if no broker answers; [`Error::Schema`], [`Error::Plan`]; [`Error::Source`] if the stream breaks
/// off; [`Error::StreamPublish`] with counts if rows were not delivered (the stream can't be read twice, so they are not sent
/// again); [`Error::TooManyRejects`]; [`Error::Interrupted`].
pub async fn publish_stream(
    target: StreamTarget,
    batches: impl RecordBatchReader + Send + 'static,
    ctx: &Context,
) -> Result<StreamReceipt> {
    let began = Instant::now();
    let schema = batches.schema();
    let timeout = Duration::from_millis(target.timeout_ms);
    let avro = AvroSchema::parse(&target.schema).map_err(|e| Error::Schema {
        what: format!("of topic {}", target.topic),
        reason: e.to_string(),
    })?;
    let cluster = Cluster::new(
        Region {
            name: target.bootstrap_servers.clone(),
            bootstrap_servers: target.bootstrap_servers.clone(),
            registry: target.registry.clone(),
            cap_max: 0,
            kafka: target.kafka.clone(),
        },
        target.base.clone(),
        timeout,
    );
    // The plan before the broker: what can't be published at all is told at once.
    let plan = PlanOptions {
        mode: target.mode,
        extra: target.extra,
        fields: target.fields.clone(),
    };
    let mut recipe = Recipe {
        schema: avro,
        frame: Frame::Id(0),
        policy: RejectPolicy::new(&target.rejects, &target.key, &plan),
        plan,
        routing: target.routing(),
        partitions: 1,
        largest_record: 0,
        largest_for_topic: 0,
        max_message_bytes: 0,
    };
    Maker::new(recipe.clone(), &schema)?;
    let (pace, group) = target.pace()?;
    let limit = target.max_rejects.clone();
    if let Some(limit) = &limit {
        limit.check().map_err(|reason| Error::JobFile {
            path: "publish".into(),
            key: "max_rejects".into(),
            reason,
        })?;
    }
    let registry = registry::open(&target.registry, &target.base)?;
    let settled = registry::settle(
        &registry,
        target.policy(),
        &target.topic,
        &recipe.schema,
        ctx,
        "publish",
    )
    .await?;
    recipe.schema = settled.schema;
    recipe.frame = settled.stamp.frame;
    if target.key_format == KeyFormat::Avro && !target.key.is_empty() {
        let key = KeySchema::of(&recipe.schema, &target.key)?;
        let key = key
            .settled(&registry, target.policy(), &target.topic, ctx)
            .await?;
        recipe.routing.key_schema = Some(Arc::new(key));
    }
    let facts = cluster.ensure_topic(&target.topic, &target.wish()).await?;
    let options = cluster.topic_options(&target.topic).await;
    recipe.routing.ahead_ms = ahead_ms(&options);
    let produce = |topic: &str, options: &BTreeMap<String, String>| {
        ProduceOptions::new(
            topic,
            options,
            &target.compression,
            target.queue_mib,
            timeout,
        )
    };
    let mut produce_rows = produce(&target.topic, &options);
    produce_rows.schema_header = settled.stamp.header;
    let letters = match &target.dead_letter {
        None => None,
        Some(name) => {
            let mut wish = target.wish();
            wish.own_times = false;
            let facts = cluster.ensure_topic(name, &wish).await?;
            let produce = produce(name, &cluster.topic_options(name).await);
            let (cluster, ctx) = (cluster.clone(), ctx.clone());
            Some(Letters::new(cluster, produce, facts.partitions, ctx))
        }
    };
    recipe.partitions = facts.partitions;
    recipe.largest_record = produce_rows.largest_record();
    recipe.largest_for_topic = produce_rows.largest_for_topic();
    recipe.max_message_bytes = produce_rows.message_limit();
    let (name, partitions) = (target.topic.clone(), facts.partitions);
    let now = cluster
        .blocking(move |c| c.watermarks(&name, partitions))
        .await?;
    let topic = TopicRow {
        region: target.bootstrap_servers.clone(),
        role: Role::Ingress,
        name: target.topic.clone(),
        cluster_id: facts.cluster_id,
        topic_id: facts.topic_id,
        partitions: facts.partitions,
        start: now.iter().map(|(p, _, end)| (*p, *end)).collect(),
        removed: false,
    };
    let run = StreamRun {
        job: new_job(),
        pacer: pace.pacer(&cluster, &group, &topic)?,
        topic,
        produce: produce_rows,
        letters,
        limit,
        cluster: cluster.clone(),
        ctx: ctx.clone(),
    };
    tokio::task::spawn_blocking(move || run.publish(recipe, batches, began))
        .await
        .map_err(|e| cluster.error("publish", format!("the publisher ended unexpectedly: {e}")))?
}

/// A job number that no other call has.
fn new_job() -> JobId {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos());
    let mut hash = Sha256::new();
    hash.update(now.to_be_bytes());
    hash.update(std::process::id().to_be_bytes());
    hash.update(COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    // Seeded by the operating system, so that two machines at the same moment differ too.
    hash.update(
        std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), now).to_be_bytes(),
    );
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    JobId(u64::from_be_bytes(first))
}

struct StreamRun {
    job: JobId,
    topic: TopicRow,
    produce: ProduceOptions,
    letters: Option<Letters>,
    limit: Option<RejectLimit>,
    pacer: Pacer,
    cluster: Cluster,
    ctx: Context,
}

impl StreamRun {
    fn publish(
        mut self,
        recipe: Recipe,
        batches: impl RecordBatchReader + Send + 'static,
        began: Instant,
    ) -> Result<StreamReceipt> {
        let origin = Origin {
            job: self.job,
            split: 0,
            slot: 0,
        };
        let steps = source::spawn(PathBuf::from("the stream"), move |to| {
            read(&recipe, batches, origin, to)
        })?;
        let mut ends = self.topic.start.iter().copied().collect();
        let sending = Instant::now();
        let mut transport = KafkaTransport::new(&self.cluster, &self.produce, &self.ctx)?;
        let mut slots = [Slot::new(origin)];
        let mut keeper = StreamKeeper {
            ctx: &self.ctx,
            topic: &self.topic.name,
            origin,
            letters: self.letters.as_mut(),
            limit: self.limit.as_ref(),
            shown: Vec::new(),
            counts: RejectCounts::default(),
        };
        let pass = Pass {
            transport: &mut transport,
            slots: &mut slots,
            keeper: &mut keeper,
            ends: &mut ends,
            note_every: NOTE_EVERY,
            pacer: &mut self.pacer,
            meter: &mut Meter::default(),
            ctx: &self.ctx,
        };
        let ended = pass.run(steps)?;
        drop(transport);
        let (rejects, counts) = (keeper.shown, keeper.counts);
        let [mut slot] = slots;
        if !slot.tally.unknown.is_empty() {
            let noted = slot.noted.clone().unwrap_or_default();
            let noted = BTreeMap::from([(origin.split, noted)]);
            let seen = readback::check_topic(&self.cluster, &self.topic).and_then(|()| {
                readback::read_back(&self.cluster, &self.topic, self.job, &noted, &self.ctx)
            });
            match seen {
                Ok(seen) => seen.values().for_each(|seen| slot.tally.settle(seen)),
                Err(e @ Error::Kafka { .. }) => {
                    let reason = ended.failure.clone().unwrap_or_default();
                    return Err(self.incomplete(&slot, format!("{reason}; then {e}")));
                }
                Err(other) => return Err(other),
            }
        }
        if !slot.complete() {
            let reason = ended
                .failure
                .unwrap_or_else(|| "the stream ended before its rows did".into());
            return Err(self.incomplete(&slot, reason));
        }
        let rows = u64::from(slot.rows.unwrap_or(0));
        if let Some(limit) = &self.limit
            && counts.total() > limit.of(rows)
        {
            return Err(too_many(limit, &counts, self.letters.as_ref()));
        }
        Ok(StreamReceipt {
            job: self.job.to_string(),
            topic: self.topic.name.clone(),
            rows,
            acknowledged: slot.tally.acknowledged.len(),
            rejected: slot.tally.rejected.len(),
            rejects,
            reject_counts: counts.list(),
            rejects_sent: self.letters.as_ref().map_or(0, Letters::delivered),
            ranges: slot.tally.extents.ranges(),
            bytes: ended.bytes,
            waited: ended.waited,
            limit: ended.waited.limit(sending.elapsed().as_secs_f64()),
            seconds: began.elapsed().as_secs_f64(),
        })
    }

    fn incomplete(&self, slot: &Slot, first_error: String) -> Error {
        let tally = &slot.tally;
        Error::StreamPublish {
            topic: self.topic.name.clone(),
            acknowledged: tally.acknowledged.len(),
            rejected: tally.rejected.len(),
            unknown: tally.unknown.len(),
            first_error,
        }
    }
}

fn read(
    recipe: &Recipe,
    batches: impl RecordBatchReader,
    origin: Origin,
    to: &source::Steps,
) -> Result<()> {
    let failed = |row: u32, reason: String| Error::Source {
        path: PathBuf::from("stream"),
        reason: format!("after row {row}: {reason}"),
    };
    let none = RoaringBitmap::new();
    let mut base = 0_u32;
    let mut makers = BySchema::new();
    let planned = batches.schema();
    if !to.give(Step::Begin(0)) {
        return Ok(());
    }
    let mut time = SourceTime::default();
    let mut batches = batches;
    loop {
        let began = Instant::now();
        let Some(batch) = batches.next() else { break };
        time.read += began.elapsed();
        let batch = batch.map_err(|e| failed(base, e.to_string()))?;
        text::fits(&planned, batch.schema_ref()).map_err(|e| failed(base, e))?;
        let mut from = 0;
        while from < batch.num_rows() {
            let count = SLICE_ROWS.min(batch.num_rows() - from);
            let slice = batch.slice(from, count);
            let began = Instant::now();
            let chunk = makers
                .get(slice.schema_ref(), |columns| {
                    Maker::new(recipe.clone(), columns)
                })?
                .chunk(origin, &slice, base, &none)
                .map_err(|e| failed(base, e))?;
            time.encode += began.elapsed();
            from += count;
            base = u32::try_from(count)
                .ok()
                .and_then(|n| base.checked_add(n))
                .ok_or_else(|| failed(base, "has 2^32 rows or more; publish it in parts".into()))?;
            if !to.give(Step::Rows(0, chunk)) {
                return Ok(());
            }
        }
    }
    to.give(Step::End(0, base, time));
    Ok(())
}

fn too_many(limit: &RejectLimit, counts: &RejectCounts, letters: Option<&Letters>) -> Error {
    Error::TooManyRejects {
        rejected: counts.total(),
        limit: limit.to_string(),
        summary: counts.summary(),
        kept: letters.map_or_else(
            || "no topic (give dead_letter to keep them)".to_owned(),
            |letters| format!("topic {}", letters.topic()),
        ),
    }
}

struct StreamKeeper<'a> {
    ctx: &'a Context,
    topic: &'a str,
    origin: Origin,
    letters: Option<&'a mut Letters>,
    limit: Option<&'a RejectLimit>,
    shown: Vec<RejectRow>,
    counts: RejectCounts,
}

impl Keeper for StreamKeeper<'_> {
    fn open(&mut self, slot: &mut Slot, ends: &BTreeMap<i32, i64>) -> Result<()> {
        slot.noted = Some(ends.iter().map(|(p, o)| (*p, *o)).collect());
        Ok(())
    }

    fn note(&mut self, slot: &mut Slot, ends: &BTreeMap<i32, i64>) -> Result<()> {
        self.open(slot, ends)
    }

    fn close(&mut self, _: &Slot) -> Result<()> {
        self.letters.as_mut().map_or(Ok(()), |l| l.settle())
    }

    fn rejected(&mut self, _: &Slot, rejects: &[RejectRow]) -> Result<()> {
        let room = REJECTS_SHOWN.saturating_sub(self.shown.len());
        self.shown.extend(rejects.iter().take(room).cloned());
        for reject in rejects {
            self.counts.add(&reject.column, &reject.reason, 1);
        }
        if let Some(letters) = &mut self.letters {
            // A stream has no file; its rows are numbered by themselves.
            let place = Place {
                file: "",
                first_row: 0,
            };
            letters.send(self.origin, &place, rejects)?;
        }
        match self.limit {
            // A share is of rows that are not known yet.
            Some(limit @ RejectLimit::Count(count)) if self.counts.total() > *count => {
                // The message says that they are there.
                self.letters.as_mut().map_or(Ok(()), |l| l.settle())?;
                Err(too_many(limit, &self.counts, self.letters.as_deref()))
            }
            _ => Ok(()),
        }
    }

    fn progress(&mut self, acknowledged: u64, meter: &Meter, pace: &Pace<'_>) {
        self.ctx.report(Progress {
            stage: "publish",
            label: self.topic.to_owned(),
            done: acknowledged,
            total: None,
            note: note(meter, None, pace.held),
            figures: pace.figures(meter),
        });
    }
}
