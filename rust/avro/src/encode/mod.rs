//! Batches to framed rows.

mod ahead;
mod block;
mod fields;
mod fill;
mod numbers;
mod pack;
mod pieces;
mod sink;
mod stage;
mod words;

use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::cpu;
use crate::error::EncodeError;
use crate::framing::Frame;
use crate::gate::{self, Reject, Rejections, Rows};
use crate::plan::CoercionPlan;
use block::{ALL, Block};
use fields::{Field, flatten};
use sink::Sink;
use words::BLOCK;

/// Encodes batches of one Arrow schema, by a plan, framed for one schema.
#[derive(Debug, Clone)]
pub struct Encoder {
    plan: CoercionPlan,
    frame: Frame,
    /// The schema seen last, so that the next batch of a stream is compared by pointer.
    seen: Option<arrow_schema::SchemaRef>,
}

/// The encoded rows of a batch.
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    /// All rows, one after the other, each framed.
    pub buffer: Vec<u8>,
    /// Row `i` is `buffer[offsets[i]..offsets[i + 1]]`: one more offset than rows.
    pub offsets: Vec<usize>,
    /// Row of the batch that each encoded row was.
    pub rows: Vec<u32>,
    /// The rows that could not be encoded, in order: one reject a row.
    pub rejects: Vec<Reject>,
}

impl Encoded {
    /// Number of encoded rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no row was encoded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Row of the batch and framed message of each encoded row.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.rows
            .iter()
            .zip(self.offsets.windows(2))
            .map(|(row, range)| match range {
                &[from, to] => (*row, self.buffer.get(from..to).unwrap_or_default()),
                _ => (*row, &[][..]),
            })
    }
}

/// The rows of a batch that passed, to be written.
struct Writing<'a> {
    block: Block<'a>,
    count: usize,
    rejections: &'a Rejections,
}

impl cpu::Work for Writing<'_> {
    type Done = Result<Encoded, EncodeError>;

    #[inline(always)]
    fn run(self) -> Self::Done {
        let (mut block, count) = (self.block, self.count);
        let mut sink = Sink::with_bound(block.bound(count))?;
        let mut offsets = Vec::with_capacity(count + 1);
        offsets.push(0);
        let mut ends = [0; BLOCK];
        let mut rows = Vec::with_capacity(count);
        let mut some = Vec::with_capacity(BLOCK);
        for first in (0..count).step_by(BLOCK) {
            let all = &ALL[..BLOCK.min(count - first)];
            block.fill(first, all.len())?;
            let passed = match self.rejections.is_empty() {
                true => all,
                false => {
                    let row = |slot: u8| first + usize::from(slot);
                    let passed = |slot: &u8| !self.rejections.is_rejected(row(*slot));
                    some.clear();
                    some.extend(all.iter().copied().filter(passed));
                    &some[..]
                }
            };
            block.write(passed, &mut sink, &mut ends);
            offsets.extend_from_slice(&ends[..passed.len()]);
            // The count of rows is a u32.
            rows.extend(passed.iter().map(|slot| first as u32 + u32::from(*slot)));
        }
        Ok(Encoded {
            buffer: sink.finish()?,
            offsets,
            rows,
            rejects: Vec::new(),
        })
    }
}

impl Encoder {
    /// An encoder that puts `frame` before each datum; a schema id is a frame.
    #[must_use]
    pub fn new(plan: CoercionPlan, frame: impl Into<Frame>) -> Self {
        Self {
            plan,
            frame: frame.into(),
            seen: None,
        }
    }

    /// Encodes every row that passes the gate. `rows` and `rejects` together name each row of the batch once.
    ///
    /// # Errors
    /// [`EncodeError`] when the batch as a whole can't be read: another schema than planned, too large, malformed.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Encoded, EncodeError> {
        self.check(batch)?;
        let count = batch.num_rows();
        // A reject, and what passed, names its row as a u32.
        if u32::try_from(count).is_err() {
            return Err(EncodeError::TooManyRows { rows: count });
        }
        let mut rejections = Rejections::new(count);
        let lanes = gate::record(
            &self.plan.inner.record,
            batch.columns(),
            Rows::Same,
            &mut rejections,
        )?;

        let prefix = self.frame.prefix();
        let mut fields = Vec::with_capacity(lanes.len() + 1);
        if let Some(prefix) = &prefix {
            fields.push(Field::constant(prefix, None));
        }
        for lane in &lanes {
            flatten(lane, None, &mut fields);
        }
        let mut encoded = cpu::run(Writing {
            block: Block::new(fields),
            count,
            rejections: &rejections,
        })?;
        encoded.rejects = rejections.into_rejects();
        Ok(encoded)
    }

    fn check(&mut self, batch: &RecordBatch) -> Result<(), EncodeError> {
        let schema = batch.schema_ref();
        if self
            .seen
            .as_ref()
            .is_some_and(|seen| Arc::ptr_eq(seen, schema))
        {
            return Ok(());
        }
        let planned = &self.plan.inner.columns;
        if schema.fields().len() != planned.len() {
            let (n, m) = (schema.fields().len(), planned.len());
            return Err(EncodeError::SchemaChanged(format!(
                "it has {n} columns, not {m}"
            )));
        }
        for (field, (name, data_type)) in schema.fields().iter().zip(planned) {
            if field.name() != name || field.data_type() != data_type {
                let (found, ty) = (field.name(), field.data_type());
                return Err(EncodeError::SchemaChanged(format!(
                    "column {found} of type {ty} stands where {name} of type {data_type} was planned"
                )));
            }
        }
        self.seen = Some(Arc::clone(schema));
        Ok(())
    }
}
