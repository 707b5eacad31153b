//! What a column of a batch is, by its Avro type.

use std::sync::Arc;

use arrow_buffer::i256;
use arrow_schema::{DataType, Field, Fields, TimeUnit};

use super::column::{Column, Kind, Nullable, Offsets, Payload};
use crate::error::DecodeError;
use crate::types::{AvroType, DecimalType, SubSecond};

/// The largest fixed that is decoded: every null of a nullable one takes its size.
const MAX_FIXED: usize = 1 << 20;

impl Column {
    pub(super) fn new(ty: &AvroType, path: String) -> Result<Self, DecodeError> {
        let unsupported = |what: &AvroType, way_out| {
            Err(DecodeError::Unsupported {
                path: path.clone(),
                what: what.to_string(),
                way_out,
            })
        };
        let (value, nullable) = match ty {
            AvroType::Union(branches) => match branches.as_ref() {
                [AvroType::Null, value] => (value, Some(Nullable::new(0, 1))),
                [value, AvroType::Null] => (value, Some(Nullable::new(1, 0))),
                _ => {
                    return unsupported(
                        ty,
                        "use a union of null and one type, or one field a type",
                    );
                }
            },
            ty => (ty, None),
        };
        let kind = match value {
            AvroType::Null => Kind::Null(0),
            AvroType::Boolean => Kind::Boolean(Vec::new()),
            AvroType::Int => Kind::Int(Vec::new()),
            AvroType::Date => Kind::Date(Vec::new()),
            AvroType::TimeMillis => Kind::TimeMillis(Vec::new()),
            AvroType::Long => Kind::Long(Vec::new()),
            AvroType::TimeMicros => Kind::TimeMicros(Vec::new()),
            AvroType::Timestamp(unit) => Kind::Timestamp(Vec::new(), time_unit(*unit), true),
            AvroType::LocalTimestamp(unit) => Kind::Timestamp(Vec::new(), time_unit(*unit), false),
            AvroType::Float => Kind::Float(Vec::new()),
            AvroType::Double => Kind::Double(Vec::new()),
            AvroType::Bytes => Kind::Bytes(Offsets::new(), Vec::new(), Payload::Bytes),
            AvroType::String | AvroType::Uuid { fixed: false } => {
                Kind::Bytes(Offsets::new(), Vec::new(), Payload::Text)
            }
            AvroType::Uuid { fixed: true } => {
                Kind::Bytes(Offsets::new(), Vec::new(), Payload::Uuid)
            }
            AvroType::Duration => Kind::Duration(Default::default()),
            AvroType::Enum(e) => {
                Kind::Bytes(Offsets::new(), Vec::new(), Payload::Symbol(Arc::clone(e)))
            }
            AvroType::Fixed(fixed) if fixed.size == 0 || fixed.size > MAX_FIXED => {
                return unsupported(value, "use bytes, or a fixed of 1 byte to 1 MiB");
            }
            AvroType::Fixed(fixed) => Kind::Fixed(fixed.size, Vec::new()),
            AvroType::Decimal(decimal) if decimal.precision <= 38 => {
                Kind::Decimal128(*decimal, Vec::new())
            }
            AvroType::Decimal(decimal) => Kind::Decimal256(*decimal, Vec::new()),
            AvroType::Array(items) => Kind::Array(
                Offsets::new(),
                items.min_size(),
                Box::new(Self::new(items, format!("{path}[]"))?),
            ),
            AvroType::Map(values) => Kind::Map(
                Offsets::new(),
                Box::new(Self::new(&AvroType::String, format!("{path}{{key}}"))?),
                Box::new(Self::new(values, format!("{path}{{}}"))?),
            ),
            AvroType::Record(record) => {
                let fields = record.fields.iter().map(|field| {
                    Ok((
                        field.name.clone(),
                        Self::new(&field.ty, format!("{path}.{}", field.name))?,
                    ))
                });
                Kind::Record(fields.collect::<Result<_, DecodeError>>()?, 0)
            }
            AvroType::Union(_) => return unsupported(ty, "use a union of null and one type"),
        };
        Ok(Self {
            path,
            nullable,
            kind,
        })
    }

    pub(super) fn field(&self, name: &str) -> Field {
        Field::new(
            name,
            self.data_type(),
            self.nullable.is_some() || matches!(self.kind, Kind::Null(_)),
        )
    }

    pub(super) fn data_type(&self) -> DataType {
        match &self.kind {
            Kind::Null(_) => DataType::Null,
            Kind::Boolean(_) => DataType::Boolean,
            Kind::Int(_) => DataType::Int32,
            Kind::Date(_) => DataType::Date32,
            Kind::TimeMillis(_) => DataType::Time32(TimeUnit::Millisecond),
            Kind::Long(_) => DataType::Int64,
            Kind::TimeMicros(_) => DataType::Time64(TimeUnit::Microsecond),
            Kind::Timestamp(_, unit, true) => DataType::Timestamp(*unit, Some("UTC".into())),
            Kind::Timestamp(_, unit, false) => DataType::Timestamp(*unit, None),
            Kind::Float(_) => DataType::Float32,
            Kind::Double(_) => DataType::Float64,
            Kind::Bytes(_, _, Payload::Bytes) => DataType::Binary,
            Kind::Bytes(_, _, _) => DataType::Utf8,
            Kind::Duration(_) => DataType::Struct(duration_parts()),
            // At most MAX_FIXED.
            Kind::Fixed(size, _) => {
                DataType::FixedSizeBinary(i32::try_from(*size).unwrap_or(i32::MAX))
            }
            Kind::Decimal128(d, _) => DataType::Decimal128(digits(*d).0, digits(*d).1),
            Kind::Decimal256(d, _) => DataType::Decimal256(digits(*d).0, digits(*d).1),
            Kind::Array(_, _, items) => DataType::List(Arc::new(items.field("item"))),
            Kind::Map(_, keys, values) => {
                let entry = DataType::Struct(vec![keys.field("key"), values.field("value")].into());
                DataType::Map(Arc::new(Field::new("entries", entry, false)), false)
            }
            Kind::Record(fields, _) => DataType::Struct(
                fields
                    .iter()
                    .map(|(name, column)| column.field(name))
                    .collect(),
            ),
        }
    }
}

/// What a duration is made of.
pub(super) fn duration_parts() -> Fields {
    ["months", "days", "millis"]
        .map(|part| Field::new(part, DataType::UInt32, false))
        .into_iter()
        .collect()
}

/// Precision and scale as Arrow counts them; both are at most 76.
pub(super) fn digits(decimal: DecimalType) -> (u8, i8) {
    (
        u8::try_from(decimal.precision).unwrap_or(u8::MAX),
        i8::try_from(decimal.scale).unwrap_or(i8::MAX),
    )
}

const fn time_unit(unit: SubSecond) -> TimeUnit {
    match unit {
        SubSecond::Millis => TimeUnit::Millisecond,
        SubSecond::Micros => TimeUnit::Microsecond,
        SubSecond::Nanos => TimeUnit::Nanosecond,
    }
}

/// A big-endian two's complement number of at most 256 bits that has at most `precision` digits.
pub(crate) fn decimal(bytes: &[u8], precision: usize) -> Option<i256> {
    let sign = if bytes.first()? & 0x80 == 0 { 0 } else { 0xff };
    let mut be = [sign; 32];
    match bytes.len().checked_sub(32) {
        None | Some(0) => be[32 - bytes.len()..].copy_from_slice(bytes),
        Some(extra) => {
            let (lead, low) = bytes.split_at(extra);
            if lead.iter().any(|b| *b != sign) || (low[0] & 0x80) != (sign & 0x80) {
                return None;
            }
            be.copy_from_slice(low);
        }
    }
    let value = i256::from_be_bytes(be);
    crate::gate::has_digits(value, precision).then_some(value)
}
