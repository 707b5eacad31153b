//! Messages to batches, one message at a time.

mod column;
mod finish;
mod kind;
mod reader;

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, Schema, SchemaRef};

use crate::error::DecodeError;
use crate::schema::AvroSchema;
use column::Column;
pub(crate) use kind::decimal;
use reader::Reader;

/// Decodes datums of one schema into a batch. A message that is refused leaves no trace.
#[derive(Debug)]
pub struct Decoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
}

impl Decoder {
    /// A decoder for datums written with this schema.
    ///
    /// # Errors
    /// [`DecodeError::Unsupported`], naming a type that no Arrow column is made of (unions of several types).
    pub fn new(schema: &AvroSchema) -> Result<Self, DecodeError> {
        let columns: Vec<Column> = schema
            .fields()
            .iter()
            .map(|field| Column::new(&field.ty, field.name.clone()))
            .collect::<Result<_, _>>()?;
        let fields: Vec<Field> = schema
            .fields()
            .iter()
            .zip(&columns)
            .map(|(field, column)| column.field(&field.name))
            .collect();
        Ok(Self {
            schema: Arc::new(Schema::new(fields)),
            columns,
            rows: 0,
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
        let mut read = || {
            self.columns
                .iter_mut()
                .try_for_each(|column| column.read(&mut reader))?;
            match reader.remaining() {
                0 => Ok(()),
                extra => Err(Box::new(DecodeError::TrailingBytes { extra })),
            }
        };
        match read() {
            Ok(()) => {
                self.rows += 1;
                Ok(())
            }
            Err(error) => {
                for column in &mut self.columns {
                    column.truncate(self.rows);
                }
                Err(*error)
            }
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

    /// The rows since the last flush as a batch, which may be empty; the decoder starts anew.
    ///
    /// # Errors
    /// [`DecodeError::Arrow`] should Arrow refuse the columns.
    pub fn flush(&mut self) -> Result<RecordBatch, DecodeError> {
        let rows = std::mem::take(&mut self.rows);
        // All columns are emptied before an error is returned, so that they stay of one length.
        let arrays: Vec<_> = self.columns.iter_mut().map(Column::finish).collect();
        let arrays = arrays.into_iter().collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.arrow_schema(), arrays, &options)
            .map_err(|e| DecodeError::Arrow(e.to_string()))
    }
}
