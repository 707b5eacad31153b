//! From Arrow batches to rows ready for a transport: plan, gate, encoding, keys, partitions, size.

use std::collections::BTreeMap;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::Schema;
use kappaflow_avro::framing::Frame;
use kappaflow_avro::{AvroSchema, CoercionPlan, Encoder, PlanOptions};
use roaring::RoaringBitmap;

use super::policy::RejectPolicy;
use super::rejects::RejectRow;
use crate::error::{Error, Result};
use crate::identity::{Identity, key_partition};
use crate::kafka::transport::{Origin, Rows};

/// Stands between the texts of several key columns.
const KEY_SEPARATOR: char = '\u{1f}';

/// How rows become records: the same for every batch of a job.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub schema: AvroSchema,
    pub frame: Frame,
    pub plan: PlanOptions,
    /// Key columns; empty: rows are spread in runs.
    pub key: Vec<String>,
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
    /// Positions of the key columns.
    key: Vec<usize>,
}

impl Maker {
    /// # Errors
    /// [`Error::Plan`] if the columns can't become the schema's fields; [`Error::Schema`] if a key column is missing.
    pub fn new(recipe: Recipe, arrow: &Schema) -> Result<Self> {
        let plan = CoercionPlan::new(arrow, &recipe.schema, &recipe.plan)?;
        recipe.policy.check(arrow)?;
        let position = |name: &String| {
            let declared = recipe.plan.fields.get(name).and_then(|d| d.from.as_ref());
            declared
                .and_then(|from| arrow.index_of(from).ok())
                .or_else(|| arrow.index_of(name).ok())
                .ok_or_else(|| Error::Schema {
                    what: "of the source".into(),
                    reason: format!(
                        "has no column {name:?}, which topics.key names; it has: {}",
                        names(arrow)
                    ),
                })
        };
        let key = recipe.key.iter().map(position).collect::<Result<_>>()?;
        let encoder = Encoder::new(plan, recipe.frame);
        Ok(Self {
            recipe,
            encoder,
            key,
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
        let encoded = self.encoder.encode(batch).map_err(|e| e.to_string())?;
        let seq_of = |row: u32| {
            base.checked_add(row)
                .ok_or_else(|| "more rows than 2^32 can number; cut it".to_owned())
        };
        let mut rejects = Vec::new();
        for reject in encoded.rejects {
            let row = seq_of(reject.row)?;
            if !done.contains(row) {
                let policy = &self.recipe.policy;
                rejects.push(RejectRow {
                    row,
                    payload: policy.payload(batch, reject.row as usize),
                    value: policy.value(&reject.column, reject.value),
                    column: reject.column,
                    reason: reject.reason,
                });
            }
        }
        let mut seqs = encoded
            .rows
            .iter()
            .map(|row| seq_of(*row))
            .collect::<Result<Vec<u32>, String>>()?;
        let mut rows = Rows {
            buffer: encoded.buffer,
            offsets: encoded.offsets,
            ..Rows::default()
        };
        let (mut keys, keyless) = self.keys(batch, &encoded.rows)?;
        let limit = self.recipe.largest_record;
        let fits =
            |rows: &Rows, keys: &Keys, i: usize| rows.payload(i).len() + keys.get(i).len() <= limit;
        let keep: Vec<usize> = (0..seqs.len())
            .filter(|i| !done.contains(seqs[*i]))
            .collect();
        let mut sent = Vec::with_capacity(keep.len());
        for i in keep {
            if let Some((column, reason)) = keyless.get(&i) {
                let payload = self.recipe.policy.payload(batch, encoded.rows[i] as usize);
                rejects.push(RejectRow {
                    row: seqs[i],
                    payload,
                    column: column.clone(),
                    value: String::new(),
                    reason: reason.clone(),
                });
            } else if fits(&rows, &keys, i) {
                sent.push(i);
            } else {
                let bytes = rows.payload(i).len() + keys.get(i).len();
                let payload = self.recipe.policy.payload(batch, encoded.rows[i] as usize);
                rejects.push(self.too_large(seqs[i], bytes, payload));
            }
        }
        if sent.len() < seqs.len() {
            let all = std::mem::take(&mut rows);
            rows.offsets.push(0);
            for i in &sent {
                rows.buffer.extend_from_slice(all.payload(*i));
                rows.offsets.push(rows.buffer.len());
            }
            keys = keys.only(&sent);
            seqs = sent.iter().map(|i| seqs[*i]).collect();
        }
        rows.partitions = self.partitions(origin, &seqs, &keys);
        rows.seqs = seqs;
        rows.keys = keys.bytes;
        rows.key_offsets = keys.offsets;
        Ok(Chunk { rows, rejects })
    }

    fn too_large(&self, row: u32, bytes: usize, payload: Option<String>) -> RejectRow {
        RejectRow {
            row,
            payload,
            column: String::new(),
            value: format!("{bytes} bytes"),
            reason: if bytes > self.recipe.largest_for_topic {
                format!(
                    "larger than the topic takes (max.message.bytes = {})",
                    self.recipe.max_message_bytes
                )
            } else {
                "larger than the publisher's queue (limits.publish_queue_mib)".to_owned()
            },
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

    /// The key of each encoded row: the text of its key columns; and the rows that have a value without one, with its
    /// column and why. A row whose key columns are all null has no key.
    fn keys(&self, batch: &RecordBatch, rows: &[u32]) -> Result<(Keys, Keyless), String> {
        let mut keys = Keys::default();
        let mut keyless = Keyless::new();
        if self.key.is_empty() {
            return Ok((keys, keyless));
        }
        let columns: Vec<&ArrayRef> = self.key.iter().map(|i| batch.column(*i)).collect();
        let options = FormatOptions::default();
        let formatters = columns
            .iter()
            .map(|c| ArrayFormatter::try_new(c.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| format!("a key column has no text form: {e}"))?;
        let mut text = String::new();
        keys.offsets.push(0);
        for (number, row) in rows.iter().enumerate() {
            let row = *row as usize;
            if columns.iter().any(|c| !c.is_null(row)) {
                text.clear();
                for (i, formatter) in formatters.iter().enumerate() {
                    if i > 0 {
                        text.push(KEY_SEPARATOR);
                    }
                    // Its display would write the error into the key.
                    if let Err(e) = formatter.value(row).write(&mut text) {
                        let column = batch.schema_ref().field(self.key[i]).name().clone();
                        keyless.insert(number, (column, format!("the key has no text form: {e}")));
                    }
                }
                keys.bytes.extend_from_slice(text.as_bytes());
            }
            keys.offsets.push(keys.bytes.len());
        }
        Ok((keys, keyless))
    }
}

/// Rows that have no key, with the column that is why, and the reason.
type Keyless = BTreeMap<usize, (String, String)>;

/// Keys one after the other; without offsets no row has one.
#[derive(Default)]
struct Keys {
    bytes: Vec<u8>,
    offsets: Vec<usize>,
}

impl Keys {
    fn get(&self, i: usize) -> &[u8] {
        match (self.offsets.get(i), self.offsets.get(i + 1)) {
            (Some(from), Some(to)) => self.bytes.get(*from..*to).unwrap_or_default(),
            _ => &[],
        }
    }

    fn only(&self, rows: &[usize]) -> Self {
        let mut kept = Self::default();
        if self.offsets.is_empty() {
            return kept;
        }
        kept.offsets.push(0);
        for i in rows {
            kept.bytes.extend_from_slice(self.get(*i));
            kept.offsets.push(kept.bytes.len());
        }
        kept
    }
}

/// The columns, for a message.
pub fn names(schema: &Schema) -> String {
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::JobId;
    use arrow_array::{Int64Array, StringArray};
    use std::sync::Arc;

    const SCHEMA: &str = r#"{"type":"record","name":"R","fields":[
        {"name":"id","type":"int"},{"name":"text","type":["null","string"]}]}"#;

    fn recipe(key: &[&str], largest_record: usize) -> Recipe {
        Recipe {
            schema: AvroSchema::parse(SCHEMA).unwrap(),
            frame: Frame::Id(1),
            plan: PlanOptions::default(),
            key: key.iter().map(|k| (*k).to_owned()).collect(),
            policy: RejectPolicy::default(),
            partitions: 4,
            largest_record,
            largest_for_topic: 500,
            max_message_bytes: 1_000,
        }
    }

    fn batch() -> RecordBatch {
        let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 1 << 40, 3, 4]));
        let text = [Some("a"), Some("b"), None, Some("a long one")];
        let text: ArrayRef = Arc::new(StringArray::from_iter(text));
        RecordBatch::try_from_iter([("id", id), ("text", text)]).unwrap()
    }

    fn origin() -> Origin {
        Origin {
            job: JobId(1),
            split: 2,
            slot: 0,
        }
    }

    #[test]
    fn rows_are_sent_rejected_or_left_out_each_once() {
        let batch = batch();
        let mut maker = Maker::new(recipe(&[], 1_000), &batch.schema()).unwrap();
        let chunk = maker
            .chunk(origin(), &batch, 10, &RoaringBitmap::new())
            .unwrap();
        assert_eq!(chunk.rows.seqs, [10, 12, 13]);
        assert_eq!(chunk.rejects.len(), 1);
        assert_eq!(
            (chunk.rejects[0].row, chunk.rejects[0].column.as_str()),
            (11, "id")
        );
        let whole = chunk.rows.payload(2).to_vec();

        let done: RoaringBitmap = [10, 11].into_iter().collect();
        let chunk = maker.chunk(origin(), &batch, 10, &done).unwrap();
        assert_eq!(chunk.rows.seqs, [12, 13]);
        assert_eq!(chunk.rows.payload(1), whole);
        assert!(chunk.rejects.is_empty());
    }

    #[test]
    fn what_the_topic_does_not_take_is_rejected_by_name() {
        let batch = batch();
        for (largest_for_topic, why) in [
            (12, "max.message.bytes = 1000"),
            (500, "limits.publish_queue_mib"),
        ] {
            let recipe = Recipe {
                largest_for_topic,
                ..recipe(&[], 12)
            };
            let mut maker = Maker::new(recipe, &batch.schema()).unwrap();
            let chunk = maker
                .chunk(origin(), &batch, 0, &RoaringBitmap::new())
                .unwrap();
            assert_eq!(chunk.rows.seqs, [0, 2]);
            let large = &chunk.rejects[1];
            assert_eq!(large.row, 3);
            assert!(large.reason.contains(why), "{large:?}");
        }
    }

    #[test]
    fn keys_are_the_text_of_their_columns() {
        let batch = batch();
        let mut maker = Maker::new(recipe(&["text"], 1_000), &batch.schema()).unwrap();
        let done = RoaringBitmap::from_iter([0]);
        let chunk = maker.chunk(origin(), &batch, 0, &done).unwrap();
        assert_eq!(chunk.rows.seqs, [2, 3]);
        assert_eq!(chunk.rows.key(0), b"");
        assert_eq!(chunk.rows.key(1), b"a long one");
        assert_eq!(chunk.rows.partitions[1], key_partition(b"a long one", 4));
        let missing = Maker::new(recipe(&["nope"], 1_000), &batch.schema())
            .err()
            .unwrap();
        assert!(missing.to_string().contains("nope"), "{missing}");
    }
}
