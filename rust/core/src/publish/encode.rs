//! From Arrow batches to rows ready for a transport: plan, gate, encoding, keys, partitions, size.

use std::time::{SystemTime, UNIX_EPOCH};

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use kappaflow_avro::framing::Frame;
use kappaflow_avro::{AvroSchema, CoercionPlan, Encoder, Extra, PlanOptions};
use roaring::RoaringBitmap;

use super::keys::Keys;
use super::policy::RejectPolicy;
use super::rejects::RejectRow;
use super::routing::{Router, Routing, position};
use crate::error::{Error, Result};
use crate::identity::{Identity, key_partition};
use crate::kafka::transport::{Origin, Rows};
use crate::rows;

/// How rows become records: the same for every batch of a job.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub schema: AvroSchema,
    pub frame: Frame,
    pub plan: PlanOptions,
    pub routing: Routing,
    /// What is kept of rejected rows.
    pub policy: RejectPolicy,
    pub partitions: u32,
    /// The largest payload and key, in bytes, that can be sent.
    pub largest_record: usize,
    /// The largest that the topic takes.
    pub largest_for_topic: usize,
    /// That limit as the topic states it, for messages.
    pub max_message_bytes: u32,
}

impl Recipe {
    /// Whether a column is wanted: by the schema, by what is declared of its fields, or to route rows by.
    pub fn asks(&self, name: &str) -> bool {
        rows::asked(&self.schema, &self.plan, name)
            || self.routing.columns().any(|(_, column)| column == name)
    }

    /// How the payload is planned, whatever columns are there only to route rows by.
    pub fn plan_of_payload(&self) -> PlanOptions {
        PlanOptions {
            extra: Extra::Ignore,
            ..self.plan.clone()
        }
    }
}

/// What a batch has become.
#[derive(Debug, Default)]
pub struct Chunk {
    pub rows: Rows,
    pub rejects: Vec<RejectRow>,
}

/// Makes chunks of batches of one Arrow schema.
pub struct Maker {
    recipe: Recipe,
    encoder: Encoder,
    router: Router,
    /// Positions of the columns that the payload is made of, if others are there to route by.
    payload: Option<Vec<usize>>,
}

impl Maker {
    /// # Errors
    /// [`Error::Plan`] if the columns can't become the schema's fields; [`Error::Schema`] if a column that rows are
    /// routed by is missing, or can't be what it is named for.
    pub fn new(recipe: Recipe, arrow: &Schema) -> Result<Self> {
        let payload = payload_columns(&recipe, arrow)?;
        let plan = match &payload {
            None => CoercionPlan::new(arrow, &recipe.schema, &recipe.plan)?,
            Some(columns) => {
                let columns = arrow.project(columns).map_err(|e| Error::Schema {
                    what: "of the source".into(),
                    reason: e.to_string(),
                })?;
                CoercionPlan::new(&columns, &recipe.schema, &recipe.plan)?
            }
        };
        recipe.policy.check(arrow)?;
        let router = Router::new(
            &recipe.routing,
            recipe.partitions,
            arrow,
            &recipe.schema,
            &recipe.plan,
        )?;
        let encoder = Encoder::new(plan, recipe.frame);
        Ok(Self {
            recipe,
            encoder,
            router,
            payload,
        })
    }

    /// Encodes a batch whose first row is number `base` of its split, leaving out the rows of `done`.
    ///
    /// # Errors
    /// Why the batch as a whole can't be encoded.
    pub fn chunk(
        &mut self,
        origin: Origin,
        batch: &RecordBatch,
        base: u32,
        done: &RoaringBitmap,
    ) -> Result<Chunk, String> {
        let encoded = match &self.payload {
            None => self.encoder.encode(batch),
            Some(columns) => {
                let payload = batch.project(columns).map_err(|e| e.to_string())?;
                self.encoder.encode(&payload)
            }
        };
        let encoded = encoded.map_err(|e| e.to_string())?;
        let mut routes = self.router.route(batch, &encoded.rows, now_ms())?;
        let seq_of = |row: u32| {
            base.checked_add(row)
                .ok_or_else(|| "more rows than 2^32 can number; cut it".to_owned())
        };
        let policy = &self.recipe.policy;
        let reject = |row: u32, seq, column: String, value: String, reason| RejectRow {
            row: seq,
            payload: policy.payload(batch, row as usize),
            value: policy.value(&column, value),
            column,
            reason,
        };
        let mut rejects = Vec::new();
        for refused in encoded.rejects {
            let seq = seq_of(refused.row)?;
            if !done.contains(seq) {
                let (column, value) = (refused.column, refused.value);
                rejects.push(reject(refused.row, seq, column, value, refused.reason));
            }
        }
        let mut rows = Rows {
            buffer: encoded.buffer,
            offsets: encoded.offsets,
            ..Rows::default()
        };
        // Which of the encoded rows are sent, and their numbers.
        let mut sent = Vec::with_capacity(encoded.rows.len());
        let mut seqs = Vec::with_capacity(encoded.rows.len());
        for (i, row) in encoded.rows.iter().enumerate() {
            let seq = seq_of(*row)?;
            if done.contains(seq) {
                continue;
            }
            let bytes = rows.payload(i).len() + routes.keys.get(i).len();
            if let Some((column, value, reason)) = routes.refused.get(row) {
                let (column, value) = (column.clone(), value.clone());
                rejects.push(reject(*row, seq, column, value, reason.clone()));
            } else if bytes > self.recipe.largest_record {
                let value = format!("{bytes} bytes");
                let why = self.too_large(bytes);
                rejects.push(reject(*row, seq, String::new(), value, why));
            } else {
                sent.push(i);
                seqs.push(seq);
            }
        }
        let keys = if sent.len() < encoded.rows.len() {
            let all = std::mem::take(&mut rows);
            rows.offsets.push(0);
            for i in &sent {
                rows.buffer.extend_from_slice(all.payload(*i));
                rows.offsets.push(rows.buffer.len());
            }
            routes.keys.only(&sent)
        } else {
            std::mem::take(&mut routes.keys)
        };
        let of_batch = |i: &usize| encoded.rows[*i] as usize;
        rows.partitions = match routes.partitions.as_slice() {
            [] => self.partitions(origin, &seqs, &keys),
            named => sent
                .iter()
                .map(|i| i32::try_from(named[of_batch(i)]).unwrap_or(0))
                .collect(),
        };
        if !routes.timestamps.is_empty() {
            let times = sent.iter().map(|i| routes.timestamps[of_batch(i)]);
            rows.timestamps = times.collect();
        }
        rows.seqs = seqs;
        rows.keys = keys.bytes;
        rows.key_offsets = keys.offsets;
        Ok(Chunk { rows, rejects })
    }

    fn too_large(&self, bytes: usize) -> String {
        if bytes > self.recipe.largest_for_topic {
            format!(
                "larger than the topic takes (max.message.bytes = {})",
                self.recipe.max_message_bytes
            )
        } else {
            "larger than the publisher's queue (limits.publish_queue_mib)".to_owned()
        }
    }

    fn partitions(&self, origin: Origin, seqs: &[u32], keys: &Keys) -> Vec<i32> {
        let count = self.recipe.partitions;
        let spread = |seq: u32| Identity::partition(origin.identity(seq), count);
        let of = |(i, seq): (usize, &u32)| match keys.get(i) {
            [] => spread(*seq),
            key => key_partition(key, count),
        };
        seqs.iter().enumerate().map(of).collect()
    }
}

/// The columns that the payload is made of. Those that rows are only routed by are none that the schema lacks; `None`
/// if there are none such.
fn payload_columns(recipe: &Recipe, arrow: &Schema) -> Result<Option<Vec<usize>>> {
    let mut routing = Vec::new();
    for (setting, name) in recipe.routing.columns() {
        routing.push(position(arrow, &recipe.plan, setting, name)?);
    }
    if routing.is_empty() || recipe.plan.extra == Extra::Ignore {
        return Ok(None);
    }
    let plan = CoercionPlan::new(arrow, &recipe.schema, &recipe.plan_of_payload())?.describe();
    let taken = |i: &usize| {
        let name = arrow.field(*i).name();
        !routing.contains(i) || plan.iter().any(|row| row.column.as_ref() == Some(name))
    };
    let columns: Vec<usize> = (0..arrow.fields().len()).filter(taken).collect();
    Ok((columns.len() < arrow.fields().len()).then_some(columns))
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// The columns, for a message.
pub fn names(schema: &Schema) -> String {
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
