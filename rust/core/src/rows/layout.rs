//! Which columns a file's rows have: its own, renamed as a plan says, and those that its folders or nothing give.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, NullArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use crate::snapshot::{HIVE_NULL, PlannedField};

/// Where the values of a column come from.
enum Origin {
    /// The column of what is read of the file, by number.
    File(usize),
    /// The folder's value, or the plan's: the same in every row.
    Folder(Option<String>),
    /// The file has no such column, since it is older than the column.
    Nowhere,
}

/// How batches of a file become batches of the source.
pub struct Layout {
    /// What is read of the file.
    pub mask: ProjectionMask,
    /// The columns that are read, as the file says.
    pub read: SchemaRef,
    columns: Vec<(FieldRef, Origin)>,
    schema: SchemaRef,
}

impl Layout {
    /// The columns of a file: those of `fields` in their order, or all; and the folder keys that are `asked` for and
    /// that the file itself lacks.
    pub fn new(
        metadata: &ArrowReaderMetadata,
        fields: Option<&[PlannedField]>,
        folders: &BTreeMap<String, String>,
        asked: &dyn Fn(&str) -> bool,
    ) -> Self {
        let own = metadata.schema();
        let root = metadata.parquet_schema().root_schema();
        let has = |name: &str, at: usize| own.field(at).name() == name;
        let by_id = |id: i32, at: usize| {
            let info = root.get_fields()[at].get_basic_info();
            info.has_id() && info.id() == id
        };
        // (name in the source, column of the file)
        let wanted: Vec<(&str, Option<usize>)> = match fields {
            None => (0..own.fields().len())
                .map(|at| (own.field(at).name().as_str(), Some(at)))
                .collect(),
            Some(fields) => fields
                .iter()
                .map(|field| {
                    let found = (0..own.fields().len()).find(|at| match field.id {
                        Some(id) => by_id(id, *at),
                        None => has(field.physical.as_deref().unwrap_or(&field.name), *at),
                    });
                    (field.name.as_str(), found)
                })
                .collect(),
        };
        let mut read: Vec<usize> = wanted.iter().filter_map(|(_, at)| *at).collect();
        read.sort_unstable();
        let mut columns = Vec::new();
        for (name, at) in &wanted {
            match at.and_then(|at| read.binary_search(&at).ok().zip(Some(at))) {
                Some((number, at)) => {
                    let field = own.field(at).clone().with_name(*name);
                    columns.push((Arc::new(field), Origin::File(number)));
                }
                None if folders.contains_key(*name) => {}
                None => {
                    let field = Field::new(*name, DataType::Null, true);
                    columns.push((Arc::new(field), Origin::Nowhere));
                }
            }
        }
        for (name, value) in folders {
            if asked(name) && !columns.iter().any(|(field, _)| field.name() == name) {
                let value = (value != HIVE_NULL).then(|| value.clone());
                let field = Field::new(name, DataType::Utf8, true);
                columns.push((Arc::new(field), Origin::Folder(value)));
            }
        }
        let fields: Vec<FieldRef> = columns.iter().map(|(field, _)| field.clone()).collect();
        Self {
            mask: ProjectionMask::roots(metadata.parquet_schema(), read.iter().copied()),
            read: Arc::new(Schema::new_with_metadata(
                read.iter()
                    .map(|at| own.fields()[*at].clone())
                    .collect::<Vec<_>>(),
                own.metadata().clone(),
            )),
            schema: Arc::new(Schema::new_with_metadata(fields, own.metadata().clone())),
            columns,
        }
    }

    /// The columns of the source that this file's rows have, unless text in them is none.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// What was read as rows of the source.
    ///
    /// # Errors
    /// None that are known of.
    pub fn arrange(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let rows = batch.num_rows();
        let mut fields = Vec::with_capacity(self.columns.len());
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (field, origin) in &self.columns {
            let column: ArrayRef = match origin {
                Origin::File(number) => batch.column(*number).clone(),
                Origin::Folder(value) => {
                    let same = std::iter::repeat_n(value.as_deref(), rows);
                    Arc::new(StringArray::from_iter(same))
                }
                Origin::Nowhere => Arc::new(NullArray::new(rows)),
            };
            fields.push(match field.data_type() == column.data_type() {
                true => field.clone(),
                // Text that is none is bytes.
                false => {
                    let field = Field::clone(field);
                    Arc::new(field.with_data_type(column.data_type().clone()))
                }
            });
            columns.push(column);
        }
        let schema = match fields
            .iter()
            .zip(&self.columns)
            .all(|(a, (b, _))| Arc::ptr_eq(a, b))
        {
            true => self.schema.clone(),
            false => Arc::new(Schema::new_with_metadata(
                fields,
                self.schema.metadata().clone(),
            )),
        };
        // Without any column, only this says how many rows there are.
        let rows = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema, columns, &rows)
    }
}
