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

/// Where a column of the source is in a file.
pub enum Found {
    At(usize),
    /// The file is older than the column, which is null there.
    Nowhere,
    /// The source has no such column, but these.
    Unknown(Vec<String>),
}

impl Found {
    /// Looks for a column by what the plan says of it, or by its name.
    pub fn find(
        name: &str,
        metadata: &ArrowReaderMetadata,
        fields: Option<&[PlannedField]>,
    ) -> Self {
        let own = metadata.schema();
        let Some(fields) = fields else {
            return match own.index_of(name) {
                Ok(at) => Self::At(at),
                Err(_) => Self::Unknown(own.fields().iter().map(|f| f.name().clone()).collect()),
            };
        };
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            return Self::Unknown(fields.iter().map(|field| field.name.clone()).collect());
        };
        let root = metadata.parquet_schema().root_schema();
        let found = (0..own.fields().len()).find(|at| match field.id {
            Some(id) => {
                let info = root.get_fields()[*at].get_basic_info();
                info.has_id() && info.id() == id
            }
            None => own.field(*at).name() == field.physical.as_deref().unwrap_or(&field.name),
        });
        found.map_or(Self::Nowhere, Self::At)
    }
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
    /// that the file itself lacks. Of all these only `columns`, if they are given.
    pub fn new(
        metadata: &ArrowReaderMetadata,
        fields: Option<&[PlannedField]>,
        columns: Option<&[String]>,
        folders: &BTreeMap<String, String>,
        asked: &dyn Fn(&str) -> bool,
    ) -> Self {
        let own = metadata.schema();
        let seen = |name: &str| columns.is_none_or(|columns| columns.iter().any(|c| c == name));
        let names: Vec<&str> = match fields {
            None => own
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .collect(),
            Some(fields) => fields.iter().map(|field| field.name.as_str()).collect(),
        };
        // (name in the source, column of the file)
        let wanted: Vec<(&str, Option<usize>)> = names
            .into_iter()
            .enumerate()
            .filter(|(_, name)| seen(name))
            .map(
                |(number, name)| match (fields, Found::find(name, metadata, fields)) {
                    // Two columns of a file may have one name.
                    (None, _) => (name, Some(number)),
                    (Some(_), Found::At(at)) => (name, Some(at)),
                    _ => (name, None),
                },
            )
            .collect();
        let mut read: Vec<usize> = wanted.iter().filter_map(|(_, at)| *at).collect();
        read.sort_unstable();
        let mut own_columns = Vec::new();
        for (name, at) in &wanted {
            match at.and_then(|at| read.binary_search(&at).ok().zip(Some(at))) {
                Some((number, at)) => {
                    let field = own.field(at).clone().with_name(*name);
                    own_columns.push((Arc::new(field), Origin::File(number)));
                }
                None if folders.contains_key(*name) => {}
                None => {
                    let field = Field::new(*name, DataType::Null, true);
                    own_columns.push((Arc::new(field), Origin::Nowhere));
                }
            }
        }
        for (name, value) in folders {
            if seen(name)
                && asked(name)
                && !own_columns.iter().any(|(field, _)| field.name() == name)
            {
                let value = (value != HIVE_NULL).then(|| value.clone());
                let field = Field::new(name, DataType::Utf8, true);
                own_columns.push((Arc::new(field), Origin::Folder(value)));
            }
        }
        let fields: Vec<FieldRef> = own_columns.iter().map(|(field, _)| field.clone()).collect();
        Self {
            mask: ProjectionMask::roots(metadata.parquet_schema(), read.iter().copied()),
            read: Arc::new(Schema::new_with_metadata(
                read.iter()
                    .map(|at| own.fields()[*at].clone())
                    .collect::<Vec<_>>(),
                own.metadata().clone(),
            )),
            schema: Arc::new(Schema::new_with_metadata(fields, own.metadata().clone())),
            columns: own_columns,
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
