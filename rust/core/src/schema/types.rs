//! The Avro type of each Arrow type, as a schema's JSON.

use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use kappaflow_avro::{AvroSchema, CoercionPlan, PlanOptions};
use serde::Serialize;

use super::names::{self, Names};
use crate::error::{Error, Result};

/// Arrow's name for what its extension types are.
pub const EXTENSION: &str = "ARROW:extension:name";
pub const UUID: &str = "arrow.uuid";
/// Three numbers of four bytes: months, days, milliseconds.
const DURATION_BYTES: i32 = 12;

/// A field of a record, in the order in which people write it.
#[derive(Serialize)]
pub struct FieldJson {
    pub name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    #[serde(rename = "type")]
    ty: TypeJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<()>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub enum TypeJson {
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
        #[serde(rename = "logicalType", skip_serializing_if = "Option::is_none")]
        logical: Option<&'static str>,
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

pub struct Deriver {
    /// Of records and fixeds: each may be defined once.
    names: Names,
}

impl Deriver {
    pub fn new(names: Names) -> Self {
        Self { names }
    }

    /// `path` is that of the record's column with a dot behind it, `record` the record's name.
    pub fn fields(&mut self, columns: &Fields, path: &str, record: &str) -> Result<Vec<FieldJson>> {
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
                logical: None,
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
            DataType::Duration(_) => TypeJson::Fixed {
                ty: "fixed",
                name: self.names.free(name),
                size: DURATION_BYTES,
                logical: Some("duration"),
            },
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
                "column {path} has type {data_type}, and no Avro type holds all of it; cast it to one that Avro has (the keys of a map to strings)"
            ),
        },
    }
}

/// The schema's JSON, a field a line.
pub fn text(record: &str, namespace: Option<&str>, fields: &[FieldJson]) -> Result<String> {
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
