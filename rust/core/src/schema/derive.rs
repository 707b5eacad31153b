//! An Avro schema from a table: exact by type wherever Avro has such a type, null where nulls are.

use std::collections::BTreeMap;

use arrow_array::RecordBatchReader;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use kappaflow_avro::{AvroSchema, CoercionPlan, PlanOptions, PlanRow};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::LogicalType;
use serde::{Deserialize, Serialize};

use super::names::{self, Names};
use super::nulls::Nulls;
use super::types::{Deriver, EXTENSION, UUID, text};
use super::{Table, broken};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::rows::ColumnsOf;
use crate::snapshot::Snapshot;

const STAGE: &str = "derive";

/// Where a field may be null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nullable {
    /// Where there are nulls. A table without rows is taken at its word.
    #[default]
    Seen,
    /// Where the table's own schema says so.
    Declared,
}

/// How a schema is derived.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeriveOptions {
    /// Name of the record (default: `Row`).
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub nullable: Nullable,
}

/// A derived schema.
#[derive(Clone, Debug, Serialize)]
pub struct Derived {
    /// Avro, JSON: a field a line.
    pub schema: String,
    pub rows: u64,
    /// Columns whose names Avro does not take, and the fields' names; the originals are aliases.
    pub renamed: Vec<(String, String)>,
    /// Columns that no Avro type holds for sure, whatever the schema says: what may be rejected of them.
    pub checked: Vec<PlanRow>,
}

/// Derives a schema from a table, every row looked at. Blocking.
///
/// # Errors
/// [`Error::Source`] if the table can't be read; [`Error::Plan`] for a type that no Avro type is made of, with the cast
/// that helps; [`Error::Schema`] for a name that is none by Avro's rules; [`Error::Interrupted`].
pub fn derive(table: Table, options: &DeriveOptions, ctx: &Context) -> Result<Derived> {
    let mut names = Names::default();
    let record = top_name(options)?;
    names.reserve(&record);
    let (columns, rows, nulls) = match table {
        Table::Stream(stream) => look_at_stream(stream, ctx)?,
        Table::Snapshot(snapshot) => look_at_files(&snapshot, options, ctx)?,
    };
    // What a table without rows says of nulls is nothing.
    let seen = options.nullable == Nullable::Seen && rows > 0;
    let columns = Schema::new(as_seen(columns.fields(), &nulls, seen));
    let mut deriver = Deriver::new(names);
    let fields = deriver.fields(columns.fields(), "", &record)?;
    let renamed = fields
        .iter()
        .filter_map(|f| Some((f.aliases.first()?.clone(), f.name.clone())))
        .collect();
    let schema = text(&record, options.namespace.as_deref(), &fields)?;
    // What was derived must be what it says: it parses, and the very same columns become its fields.
    let parsed = AvroSchema::parse(&schema).map_err(|e| Error::Schema {
        what: "derived from the table".into(),
        reason: e.to_string(),
    })?;
    let plan = CoercionPlan::new(&columns, &parsed, &PlanOptions::default())?;
    let checked = plan.describe().into_iter();
    Ok(Derived {
        schema,
        rows,
        renamed,
        checked: checked.filter(|row| !row.may_reject.is_empty()).collect(),
    })
}

fn top_name(options: &DeriveOptions) -> Result<String> {
    let wrong = |key: &str, name: &str| Error::Schema {
        what: "to derive".into(),
        reason: format!(
            "{key} {name:?} is none by Avro's rules: letters, digits and '_', not a digit first"
        ),
    };
    let name = options.name.as_deref().unwrap_or("Row");
    if !names::is_valid(name) {
        return Err(wrong("name", name));
    }
    if let Some(namespace) = &options.namespace
        && !namespace.split('.').all(names::is_valid)
    {
        return Err(wrong("namespace", namespace));
    }
    Ok(name.to_owned())
}

type Looked = (SchemaRef, u64, Vec<Nulls>);

fn look_at_stream(stream: impl RecordBatchReader, ctx: &Context) -> Result<Looked> {
    let columns = stream.schema();
    let mut nulls = unseen(&columns);
    let mut rows = 0;
    for batch in stream {
        let batch = batch.map_err(|e| broken(rows, &e))?;
        for (nulls, column) in nulls.iter_mut().zip(batch.columns()) {
            nulls.look(column);
        }
        rows += batch.num_rows() as u64;
        ctx.check(STAGE)?;
        report(ctx, rows, None);
    }
    Ok((columns, rows, nulls))
}

fn look_at_files(snapshot: &Snapshot, options: &DeriveOptions, ctx: &Context) -> Result<Looked> {
    let columns = snapshot.schema()?;
    let mut nulls = unseen(&columns);
    let total = snapshot.rows();
    let mut rows = 0;
    let mut columns = columns.as_ref().clone();
    for file in 0..snapshot.files.len() {
        let opened = snapshot.reopen(file, "(none)")?;
        let metadata = opened.metadata.clone();
        columns = with_uuids(columns, &metadata);
        let unsure: Vec<usize> = (0..columns.fields().len())
            .filter(|column| {
                options.nullable == Nullable::Seen && columns.field(*column).is_nullable()
            })
            .filter(|column| match null_count(&metadata, *column) {
                Some(count) => {
                    nulls[*column].here |= count > 0;
                    false
                }
                None => true,
            })
            .collect();
        let of_file = snapshot.files[file].rows;
        if !unsure.is_empty() {
            let mut done = 0;
            let mut batches = ColumnsOf::new(snapshot, file, opened, &unsure);
            while let Some(batch) = batches.next()? {
                for (column, array) in unsure.iter().zip(batch.columns()) {
                    nulls[*column].look(array);
                }
                done += batch.num_rows() as u64;
                ctx.check(STAGE)?;
                report(ctx, rows + done, Some(total));
            }
        }
        rows += of_file;
        ctx.check(STAGE)?;
        report(ctx, rows, Some(total));
    }
    Ok((columns.into(), rows, nulls))
}

fn unseen(columns: &Schema) -> Vec<Nulls> {
    let types = columns.fields().iter().map(|f| f.data_type());
    types.map(Nulls::none).collect()
}

fn report(ctx: &Context, rows: u64, total: Option<u64>) {
    ctx.report(Progress {
        stage: STAGE,
        label: "rows".into(),
        done: rows,
        total,
        note: String::new(),
        figures: BTreeMap::new(),
    });
}

/// Nulls of a column by the file's statistics. Nested columns have none that tell a null from the absence of a parent,
/// and a row group may have none at all: then the data says it.
fn null_count(metadata: &ArrowReaderMetadata, column: usize) -> Option<u64> {
    let schema = metadata.parquet_schema();
    if !schema
        .root_schema()
        .get_fields()
        .get(column)?
        .is_primitive()
    {
        return None;
    }
    let leaf = (0..schema.num_columns()).find(|i| schema.get_column_root_idx(*i) == column)?;
    let groups = metadata.metadata().row_groups().iter();
    groups
        .map(|group| group.column(leaf).statistics()?.null_count_opt())
        .sum()
}

/// Marks the columns that Parquet calls UUIDs as Arrow does.
fn with_uuids(columns: Schema, metadata: &ArrowReaderMetadata) -> Schema {
    let parquet = metadata.parquet_schema().root_schema().get_fields();
    let is_uuid = |i: usize| {
        let info = parquet
            .get(i)
            .map(|t| t.get_basic_info().logical_type_ref());
        matches!(info, Some(Some(LogicalType::Uuid)))
    };
    let fields: Fields = columns
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| {
            let mut field = field.as_ref().clone();
            if is_uuid(i) && !field.metadata().contains_key(EXTENSION) {
                let mut metadata = field.metadata().clone();
                metadata.insert(EXTENSION.to_owned(), UUID.to_owned());
                field = field.with_metadata(metadata);
            }
            field
        })
        .collect();
    Schema::new(fields)
}

/// The columns as nullable as they were seen to be.
fn as_seen(fields: &Fields, nulls: &[Nulls], seen: bool) -> Fields {
    let fields = fields.iter().zip(nulls);
    fields
        .map(|(field, nulls)| one_as_seen(field, nulls, seen))
        .collect()
}

fn one_as_seen(field: &Field, nulls: &Nulls, seen: bool) -> Field {
    let item = |item: &Field| match nulls.below.as_slice() {
        [below] => one_as_seen(item, below, seen).into(),
        _ => item.clone().into(),
    };
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(as_seen(fields, &nulls.below, seen)),
        DataType::List(inner) => DataType::List(item(inner)),
        DataType::LargeList(inner) => DataType::LargeList(item(inner)),
        DataType::FixedSizeList(inner, size) => DataType::FixedSizeList(item(inner), *size),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(pair) => {
                let pair = DataType::Struct(as_seen(pair, &nulls.below, seen));
                let entries = Field::new(entries.name(), pair, entries.is_nullable());
                DataType::Map(entries.into(), *sorted)
            }
            _ => field.data_type().clone(),
        },
        other => other.clone(),
    };
    let nullable = if seen {
        nulls.here
    } else {
        field.is_nullable()
    };
    Field::new(field.name(), data_type, nullable).with_metadata(field.metadata().clone())
}
