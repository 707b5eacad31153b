//! An Avro schema from a table: exact by type wherever Avro has such a type, null where nulls are.

use arrow_array::RecordBatchReader;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use kappaflow_avro::{AvroSchema, CoercionPlan, PlanOptions, PlanRow};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::basic::LogicalType;
use serde::{Deserialize, Serialize};

use super::names::{self, Names};
use super::nulls::Nulls;
use super::{Table, broken};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::snapshot::Snapshot;

const STAGE: &str = "derive";
const EXTENSION: &str = "ARROW:extension:name";
const UUID: &str = "arrow.uuid";

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
    let mut deriver = Deriver { names };
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
        let (opened, metadata) = snapshot.reopen(file, "(none)")?;
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
            let failed = |reason: String| Error::Source {
                path: snapshot.path(file),
                reason,
            };
            let mask = ProjectionMask::roots(metadata.parquet_schema(), unsure.iter().copied());
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(opened, metadata)
                .with_projection(mask)
                .build()
                .map_err(|e| failed(e.to_string()))?;
            let mut done = 0;
            for batch in reader {
                let batch = batch.map_err(|e| failed(format!("after row {done}: {e}")))?;
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

/// A field of a record, in the order in which people write it.
#[derive(Serialize)]
struct FieldJson {
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    #[serde(rename = "type")]
    ty: TypeJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<()>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum TypeJson {
    Name(&'static str),
    Logical {
        #[serde(rename = "type")]
        ty: &'static str,
        #[serde(rename = "logicalType")]
        logical: &'static str,
    },
    Decimal {
        #[serde(rename = "type")]
        ty: &'static str,
        #[serde(rename = "logicalType")]
        logical: &'static str,
        precision: u32,
        scale: u32,
    },
    Fixed {
        #[serde(rename = "type")]
        ty: &'static str,
        name: String,
        size: i32,
    },
    Array {
        #[serde(rename = "type")]
        ty: &'static str,
        items: Box<TypeJson>,
    },
    Map {
        #[serde(rename = "type")]
        ty: &'static str,
        values: Box<TypeJson>,
    },
    Record {
        #[serde(rename = "type")]
        ty: &'static str,
        name: String,
        fields: Vec<FieldJson>,
    },
    OrNull([Box<TypeJson>; 2]),
}

const fn logical(ty: &'static str, logical: &'static str) -> TypeJson {
    TypeJson::Logical { ty, logical }
}

fn decimal(precision: u8, scale: i8) -> TypeJson {
    // Avro's scale is never negative: the zeros that a negative one leaves out are written.
    let zeros = u32::from(scale.min(0).unsigned_abs());
    TypeJson::Decimal {
        ty: "bytes",
        logical: "decimal",
        precision: u32::from(precision) + zeros,
        scale: u32::from(scale.max(0).unsigned_abs()),
    }
}

struct Deriver {
    /// Of records and fixeds: each may be defined once.
    names: Names,
}

impl Deriver {
    /// `path` is that of the record's column with a dot behind it, `record` the record's name.
    fn fields(&mut self, columns: &Fields, path: &str, record: &str) -> Result<Vec<FieldJson>> {
        let names = names::of_fields(columns.iter().map(|f| f.name().as_str()));
        let mut fields = Vec::with_capacity(columns.len());
        for (column, name) in columns.iter().zip(names) {
            let place = format!("{path}{}", column.name());
            let ty = self.field_type(column, &place, &format!("{record}_{name}"))?;
            let renamed = name != *column.name();
            fields.push(FieldJson {
                aliases: renamed.then(|| column.name().clone()).into_iter().collect(),
                default: matches!(ty, TypeJson::OrNull(_)).then_some(()),
                name,
                ty,
            });
        }
        Ok(fields)
    }

    /// `name` is for a record or fixed that has to be named here.
    fn field_type(&mut self, field: &Field, path: &str, name: &str) -> Result<TypeJson> {
        let is_uuid = field.metadata().get(EXTENSION).is_some_and(|e| e == UUID);
        let ty = match field.data_type() {
            DataType::FixedSizeBinary(16) if is_uuid => logical("string", "uuid"),
            data_type => self.data_type(data_type, path, name)?,
        };
        Ok(match ty {
            TypeJson::Name("null") => ty,
            ty if field.is_nullable() => {
                TypeJson::OrNull([Box::new(TypeJson::Name("null")), Box::new(ty)])
            }
            ty => ty,
        })
    }

    fn data_type(&mut self, data_type: &DataType, path: &str, name: &str) -> Result<TypeJson> {
        Ok(match data_type {
            DataType::Null => TypeJson::Name("null"),
            DataType::Boolean => TypeJson::Name("boolean"),
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::UInt8
            | DataType::UInt16 => TypeJson::Name("int"),
            DataType::Int64 | DataType::UInt32 => TypeJson::Name("long"),
            // The upper half is no long.
            DataType::UInt64 => decimal(20, 0),
            DataType::Float16 | DataType::Float32 => TypeJson::Name("float"),
            DataType::Float64 => TypeJson::Name("double"),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => TypeJson::Name("string"),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                TypeJson::Name("bytes")
            }
            DataType::FixedSizeBinary(size) => TypeJson::Fixed {
                ty: "fixed",
                name: self.names.free(name),
                size: *size,
            },
            DataType::Decimal32(p, s)
            | DataType::Decimal64(p, s)
            | DataType::Decimal128(p, s)
            | DataType::Decimal256(p, s) => decimal(*p, *s),
            DataType::Date32 | DataType::Date64 => logical("int", "date"),
            DataType::Time32(_) => logical("int", "time-millis"),
            DataType::Time64(_) => logical("long", "time-micros"),
            DataType::Timestamp(unit, zone) => {
                let zoned = zone.is_some();
                let name = match unit {
                    TimeUnit::Second | TimeUnit::Millisecond if zoned => "timestamp-millis",
                    TimeUnit::Second | TimeUnit::Millisecond => "local-timestamp-millis",
                    TimeUnit::Microsecond if zoned => "timestamp-micros",
                    TimeUnit::Microsecond => "local-timestamp-micros",
                    TimeUnit::Nanosecond if zoned => "timestamp-nanos",
                    TimeUnit::Nanosecond => "local-timestamp-nanos",
                };
                logical("long", name)
            }
            DataType::Dictionary(_, values) => self.data_type(values, path, name)?,
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                TypeJson::Array {
                    ty: "array",
                    items: Box::new(self.field_type(item, &format!("{path}[]"), name)?),
                }
            }
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 => TypeJson::Map {
                    ty: "map",
                    values: Box::new(self.field_type(&pair[1], &format!("{path}{{}}"), name)?),
                },
                _ => return Err(no_type(data_type, path)),
            },
            DataType::Struct(fields) => {
                let name = self.names.free(name);
                TypeJson::Record {
                    ty: "record",
                    fields: self.fields(fields, &format!("{path}."), &name)?,
                    name,
                }
            }
            _ => return Err(no_type(data_type, path)),
        })
    }
}

/// The plan knows the way out of a type that it does not take at all.
fn no_type(data_type: &DataType, path: &str) -> Error {
    let column = Schema::new(vec![Field::new(path, data_type.clone(), true)]);
    let any = r#"{"type":"record","name":"R","fields":[{"name":"x","type":"string"}]}"#;
    let mut options = PlanOptions::default();
    let declared = kappaflow_avro::FieldDeclaration {
        from: Some(path.to_owned()),
        ..Default::default()
    };
    options.fields.insert("x".to_owned(), declared);
    let refused = AvroSchema::parse(any)
        .ok()
        .and_then(|any| CoercionPlan::new(&column, &any, &options).err());
    match refused {
        Some(refused @ kappaflow_avro::PlanError::Unsupported { .. }) => Error::Plan(refused),
        _ => Error::Schema {
            what: "derived from the table".into(),
            reason: format!(
                "column {path} has type {data_type}, and no Avro type holds all of it; cast it to one that Avro has (a duration to int64, the keys of a map to strings)"
            ),
        },
    }
}

/// The schema's JSON, a field a line.
fn text(record: &str, namespace: Option<&str>, fields: &[FieldJson]) -> Result<String> {
    let wrong = |e: serde_json::Error| Error::Schema {
        what: "derived from the table".into(),
        reason: e.to_string(),
    };
    let namespace = namespace.map_or(String::new(), |n| format!("  \"namespace\": \"{n}\",\n"));
    let mut text = format!(
        "{{\n  \"type\": \"record\",\n  \"name\": \"{record}\",\n{namespace}  \"fields\": ["
    );
    for (i, field) in fields.iter().enumerate() {
        let field = serde_json::to_string(field).map_err(wrong)?;
        text.push_str(if i == 0 { "\n    " } else { ",\n    " });
        text.push_str(&field);
    }
    text.push_str(if fields.is_empty() {
        "]\n}\n"
    } else {
        "\n  ]\n}\n"
    });
    Ok(text)
}
