//! Messages to batches, by a plan that is made once of the writer's schema and the reader's.

mod across;
mod arrays;
mod block;
mod column;
mod decimal;
mod fault;
mod feed;
mod finish;
mod leaf;
mod lists;
mod read;
mod reader;
mod resolve;
mod shape;
mod skip;
mod source;
mod spread;
mod value;
mod varint;

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, Schema, SchemaRef};

use crate::error::{DecodeError, ResolutionError};
use crate::schema::AvroSchema;
use block::Block;
use column::Column;
pub(crate) use decimal::wide as wide_decimal;
use feed::{Feed, One};
use read::{Step, defaults_of};
use reader::Reader;
use source::Source;

/// Decodes datums of one writer's schema into batches of one reader's. A message that is refused leaves no trace.
#[derive(Debug)]
pub struct Decoder {
    schema: SchemaRef,
    steps: Box<[Step]>,
    columns: Vec<Column>,
    rows: usize,
    held: usize,
    /// Memory that a row takes at most, beside what its message has for it.
    row_cost: usize,
}

impl Decoder {
    /// A decoder for datums written with this schema, into columns of the same.
    ///
    /// # Errors
    /// [`ResolutionError::Unsupported`], naming a type that no Arrow column is made of.
    pub fn new(schema: &AvroSchema) -> Result<Self, ResolutionError> {
        Self::with_reader(schema, schema)
    }

    /// A decoder for datums that were written with `writer`, into columns of `reader`, by the rules of the Avro
    /// specification: fields by name or alias in any order, defaults for those that the writer has not, promotions,
    /// enums by symbol, unions by branch. What only the writer has is passed over. A value that the reader has no place
    /// for, such as a null where it takes none, is the fault of its message, if another value could have been there.
    ///
    /// Where both schemas say what a number counts, the value is kept, not the number: milliseconds become
    /// microseconds, and a date doesn't become an instant.
    ///
    /// # Errors
    /// [`ResolutionError`]: no message of the writer could be read, or a type of the reader's that no column is made of.
    pub fn with_reader(writer: &AvroSchema, reader: &AvroSchema) -> Result<Self, ResolutionError> {
        let mut columns = Vec::with_capacity(reader.fields().len());
        for field in reader.fields() {
            columns.push(Column::new(&field.ty, field.name.clone())?);
        }
        let steps = resolve::record(reader.record(), writer.record())?;
        let fields: Vec<Field> = reader
            .fields()
            .iter()
            .zip(&columns)
            .map(|(field, column)| column.field(&field.name))
            .collect();
        let row_cost = columns.iter().fold(defaults_of(&steps), |sum, column| {
            sum.saturating_add(column.cost)
        });
        Ok(Self {
            schema: Arc::new(Schema::new(fields)),
            steps,
            columns,
            rows: 0,
            held: 0,
            row_cost,
        })
    }

    /// The schema of the batches.
    #[must_use]
    pub fn arrow_schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Decodes one datum (without its frame) as the next row.
    ///
    /// # Errors
    /// [`DecodeError`]: the decoder is then as it was before.
    pub fn push(&mut self, datum: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(datum);
        let read = One(&mut reader).record(&self.steps, &mut self.columns);
        let extra = reader.remaining();
        let read = match read {
            Ok(()) if extra == 0 => {
                self.keep(1, reader.taken());
                return Ok(());
            }
            Ok(()) => DecodeError::TrailingBytes { extra },
            Err(error) => *error,
        };
        self.forget();
        Err(read)
    }

    /// Decodes many datums as the next rows, which is faster than one by one. Gives the ones that were refused, by
    /// their place among `datums`; the others are rows, in their order.
    pub fn push_all<'d>(
        &mut self,
        datums: impl IntoIterator<Item = &'d [u8]>,
    ) -> Vec<(usize, DecodeError)> {
        let (mut block, mut refused, mut done) = (Block::default(), Vec::new(), 0);
        for datum in datums {
            if block.add(datum) {
                continue;
            }
            done += self.push_block(&mut block, done, &mut refused);
            if !block.add(datum) {
                if let Err(error) = self.push(datum) {
                    refused.push((done, error));
                }
                done += 1;
            }
        }
        self.push_block(&mut block, done, &mut refused);
        refused
    }

    /// Decodes the messages of a block, the first of which has the number `first`, and empties it. Gives how many they
    /// were.
    fn push_block(
        &mut self,
        block: &mut Block<'_>,
        first: usize,
        refused: &mut Vec<(usize, DecodeError)>,
    ) -> usize {
        let count = block.datums.len();
        let taken = block.read(|across| {
            across.record(&self.steps, &mut self.columns)?;
            self.columns.iter_mut().try_for_each(Column::check_text)
        });
        if let Some(taken) = taken {
            self.keep(count, taken);
        } else {
            self.forget();
            // One of them is at fault: which, and who is not, is found one by one.
            for (i, datum) in block.datums.iter().enumerate() {
                if let Err(error) = self.push(datum) {
                    refused.push((first + i, error));
                }
            }
        }
        block.clear();
        count
    }

    /// Keeps rows that were read, with the memory that they take beside what any row does.
    const fn keep(&mut self, rows: usize, taken: usize) {
        let rest = self.row_cost.saturating_mul(rows);
        self.rows += rows;
        self.held = self.held.saturating_add(rest).saturating_add(taken);
    }

    /// Takes back what was read and isn't kept.
    fn forget(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.rows);
        }
    }

    /// Rows since the last flush.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows since the last flush.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The most bytes that the values since the last flush take: when to flush, whatever the messages hold.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.held
    }

    /// The rows since the last flush as a batch, which may be empty; the decoder starts anew.
    ///
    /// # Errors
    /// [`DecodeError::Arrow`] should Arrow refuse the columns.
    pub fn flush(&mut self) -> Result<RecordBatch, DecodeError> {
        let rows = std::mem::take(&mut self.rows);
        self.held = 0;
        // All columns are emptied before an error is returned, so that they stay of one length.
        let arrays: Vec<_> = self.columns.iter_mut().map(Column::finish).collect();
        let arrays = arrays.into_iter().collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.arrow_schema(), arrays, &options)
            .map_err(|e| DecodeError::Arrow(e.to_string()))
    }
}
