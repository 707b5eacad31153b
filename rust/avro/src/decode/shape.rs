//! What a column of a batch is, by its Avro type.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};

use super::column::{Column, Offsets, Store};
use crate::error::ResolutionError;
use crate::types::{AvroType, DecimalType, SubSecond};

/// The largest fixed that is decoded: every null of a nullable one takes its size.
const MAX_FIXED: usize = 1 << 20;

/// What values of a reader's type become.
pub(super) enum Holds<'a> {
    Nulls,
    /// One type, and whether there may be null instead.
    Values(&'a AvroType, bool),
    /// The branches of a union that are not null, as the members of a struct, and whether there may be null instead.
    Members(Vec<&'a AvroType>, bool),
}

impl<'a> Holds<'a> {
    pub(super) fn of(ty: &'a AvroType) -> Self {
        let AvroType::Union(branches) = ty else {
            return match ty {
                AvroType::Null => Self::Nulls,
                ty => Self::Values(ty, false),
            };
        };
        let values: Vec<_> = branches.iter().filter(|b| **b != AvroType::Null).collect();
        let nullable = values.len() < branches.len();
        match values.as_slice() {
            [] => Self::Nulls,
            [value] => Self::Values(value, nullable),
            _ => Self::Members(values, nullable),
        }
    }
}

impl Column {
    /// An empty column for values of this type.
    pub(super) fn new(ty: &AvroType, path: String) -> Result<Self, ResolutionError> {
        let (data_type, nullable, store, cost) = match Holds::of(ty) {
            Holds::Nulls => (DataType::Null, false, Store::Null(0), 0),
            Holds::Values(value, nullable) => {
                let (data_type, store, cost) = store(value, &path)?;
                (data_type, nullable, store, cost)
            }
            Holds::Members(branches, nullable) => {
                let mut members = Vec::with_capacity(branches.len());
                for (i, branch) in branches.into_iter().enumerate() {
                    let mut member = Self::new(branch, format!("{path}.member{i}"))?;
                    // All but one of them hold nothing.
                    member.valid = Some(Vec::new());
                    member.cost = member.cost.saturating_add(1);
                    members.push(member);
                }
                let fields = members
                    .iter()
                    .enumerate()
                    .map(|(i, member)| member.field(&format!("member{i}")));
                let data_type = DataType::Struct(fields.collect());
                let cost = sum(&members);
                (data_type, nullable, Store::Struct(members, 0), cost)
            }
        };
        let valid = nullable.then(Vec::new);
        let cost = cost.saturating_add(usize::from(nullable));
        Ok(Self::of_store(path, data_type, valid, store, cost))
    }

    /// The column of a name.
    pub(super) fn field(&self, name: &str) -> Field {
        let nullable = self.valid.is_some() || matches!(self.data_type, DataType::Null);
        Field::new(name, self.data_type.clone(), nullable)
    }
}

fn sum(columns: &[Column]) -> usize {
    columns
        .iter()
        .fold(0, |sum, column| sum.saturating_add(column.cost))
}

/// A type that is no union, its store, and the memory of a slot.
fn store(ty: &AvroType, path: &str) -> Result<(DataType, Store, usize), ResolutionError> {
    let unsupported = |what: &AvroType, way_out| {
        Err(ResolutionError::Unsupported {
            path: path.to_owned(),
            what: what.to_string(),
            way_out,
        })
    };
    let bytes = || Store::Bytes(Offsets::new(), Vec::new());
    let (ints, longs) = (|| Store::I32(Vec::new()), || Store::I64(Vec::new()));
    Ok(match ty {
        AvroType::Boolean => (DataType::Boolean, Store::Boolean(Vec::new()), 1),
        AvroType::Int => (DataType::Int32, ints(), 4),
        AvroType::Date => (DataType::Date32, ints(), 4),
        AvroType::TimeMillis => (DataType::Time32(TimeUnit::Millisecond), ints(), 4),
        AvroType::Long => (DataType::Int64, longs(), 8),
        AvroType::TimeMicros => (DataType::Time64(TimeUnit::Microsecond), longs(), 8),
        AvroType::Timestamp(unit) => {
            let zone = Some(Arc::from("UTC"));
            (DataType::Timestamp(time_unit(*unit), zone), longs(), 8)
        }
        AvroType::LocalTimestamp(unit) => (DataType::Timestamp(time_unit(*unit), None), longs(), 8),
        AvroType::Float => (DataType::Float32, Store::F32(Vec::new()), 4),
        AvroType::Double => (DataType::Float64, Store::F64(Vec::new()), 8),
        AvroType::Bytes => (DataType::Binary, bytes(), 4),
        AvroType::String => (DataType::Utf8, bytes(), 4),
        AvroType::Uuid { .. } => (DataType::Utf8, bytes(), 4 + 36),
        AvroType::Enum(e) => {
            let longest = e.symbols.iter().map(String::len).max().unwrap_or(0);
            (DataType::Utf8, bytes(), 4 + longest)
        }
        AvroType::Duration => {
            let store = Store::Duration(Default::default());
            (DataType::Struct(duration_parts()), store, 12)
        }
        AvroType::Fixed(fixed) => match i32::try_from(fixed.size) {
            Ok(size) if (1..=MAX_FIXED).contains(&fixed.size) => {
                let store = Store::Fixed(fixed.size, Vec::new());
                (DataType::FixedSizeBinary(size), store, fixed.size)
            }
            _ => return unsupported(ty, "use bytes, or a fixed of 1 byte to 1 MiB"),
        },
        AvroType::Decimal(decimal) if decimal.precision <= 38 => {
            let (precision, scale) = digits(*decimal);
            let store = Store::I128(Vec::new());
            (DataType::Decimal128(precision, scale), store, 16)
        }
        AvroType::Decimal(decimal) => {
            let (precision, scale) = digits(*decimal);
            let store = Store::I256(Vec::new());
            (DataType::Decimal256(precision, scale), store, 32)
        }
        AvroType::Array(items) => {
            let items = Column::new(items, format!("{path}[]"))?;
            let data_type = DataType::List(Arc::new(items.field("item")));
            let store = Store::List(Offsets::new(), Box::new(items));
            (data_type, store, 4)
        }
        AvroType::Map(values) => {
            let keys = Column::new(&AvroType::String, format!("{path}{{key}}"))?;
            let values = Column::new(values, format!("{path}{{}}"))?;
            let entry = DataType::Struct(vec![keys.field("key"), values.field("value")].into());
            let entries = Arc::new(Field::new("entries", entry, false));
            let store = Store::Map(Offsets::new(), Box::new(keys), Box::new(values));
            (DataType::Map(entries, false), store, 4)
        }
        AvroType::Record(record) => {
            let columns = record
                .fields
                .iter()
                .map(|field| Column::new(&field.ty, format!("{path}.{}", field.name)))
                .collect::<Result<Vec<_>, _>>()?;
            let fields = record.fields.iter().zip(&columns);
            let fields = fields.map(|(field, column)| column.field(&field.name));
            let data_type = DataType::Struct(fields.collect());
            let cost = sum(&columns);
            (data_type, Store::Struct(columns, 0), cost)
        }
        // Neither is a value: `Holds` tells them apart.
        AvroType::Null | AvroType::Union(_) => {
            return unsupported(ty, "use a union of null and one type");
        }
    })
}

/// What a duration is made of.
pub(super) fn duration_parts() -> Fields {
    ["months", "days", "millis"]
        .map(|part| Field::new(part, DataType::UInt32, false))
        .into_iter()
        .collect()
}

/// Precision and scale as Arrow counts them; both are at most 76.
fn digits(decimal: DecimalType) -> (u8, i8) {
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
