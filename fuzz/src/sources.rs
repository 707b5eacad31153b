//! Arrow types that values of an Avro type can be made of.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};

use super::choices::Choices;
use super::types::Ty;

const UNITS: [TimeUnit; 4] = [
    TimeUnit::Second,
    TimeUnit::Millisecond,
    TimeUnit::Microsecond,
    TimeUnit::Nanosecond,
];
const TEXTS: [DataType; 3] = [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View];
const BINARIES: [DataType; 3] = [
    DataType::Binary,
    DataType::LargeBinary,
    DataType::BinaryView,
];
const INTEGERS: [DataType; 8] = [
    DataType::Int32,
    DataType::Int64,
    DataType::Int8,
    DataType::Int16,
    DataType::UInt8,
    DataType::UInt16,
    DataType::UInt32,
    DataType::UInt64,
];
const DATES: [DataType; 2] = [DataType::Date32, DataType::Date64];
const FLOATS: [DataType; 3] = [DataType::Float64, DataType::Float32, DataType::Float16];

fn pick(choices: &mut Choices<'_>, from: &[DataType]) -> DataType {
    from[choices.below(from.len())].clone()
}

fn decimal(choices: &mut Choices<'_>) -> DataType {
    let (most, make): (u8, fn(u8, i8) -> DataType) = choices.one(&[
        (38, DataType::Decimal128 as fn(u8, i8) -> DataType),
        (76, DataType::Decimal256),
        (9, DataType::Decimal32),
        (18, DataType::Decimal64),
    ]);
    let precision = 1 + choices.below(usize::from(most)) as u8;
    let scale = choices.below(usize::from(precision) + 4) as i8 - 3;
    make(precision, scale)
}

fn field(name: &str, data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new(name, data_type, true))
}

/// An Arrow type whose values can be of the Avro type. `zone` says whether naive timestamps have one declared.
pub fn source(ty: &Ty, zone: bool, choices: &mut Choices<'_>) -> DataType {
    let plain = match ty {
        Ty::Nullable(ty, _) => return source(ty, zone, choices),
        Ty::Boolean => match choices.below(4) {
            0 => DataType::Boolean,
            1 => pick(choices, &INTEGERS),
            2 => pick(choices, &TEXTS),
            _ => decimal(choices),
        },
        Ty::Int | Ty::Long => match choices.below(5) {
            0 => pick(choices, &INTEGERS),
            1 => pick(choices, &FLOATS),
            2 => pick(choices, &TEXTS),
            3 => DataType::Boolean,
            _ => decimal(choices),
        },
        Ty::Float | Ty::Double => match choices.below(4) {
            0 => pick(choices, &FLOATS),
            1 => pick(choices, &INTEGERS),
            2 => pick(choices, &TEXTS),
            _ => decimal(choices),
        },
        Ty::String => match choices.below(3) {
            0 => pick(choices, &TEXTS),
            1 => pick(choices, &BINARIES),
            _ => DataType::FixedSizeBinary(choices.below(9) as i32),
        },
        Ty::Bytes => match choices.below(3) {
            0 => pick(choices, &BINARIES),
            1 => pick(choices, &TEXTS),
            _ => DataType::FixedSizeBinary(choices.below(9) as i32),
        },
        Ty::Enum(_) => pick(choices, &TEXTS),
        Ty::Fixed(size) => match choices.below(3) {
            0 => DataType::FixedSizeBinary(*size as i32),
            1 => pick(choices, &TEXTS),
            _ => pick(choices, &BINARIES),
        },
        Ty::Uuid { .. } => match choices.below(3) {
            0 => pick(choices, &TEXTS),
            1 => DataType::FixedSizeBinary(16),
            _ => pick(choices, &BINARIES),
        },
        Ty::Duration => match choices.below(4) {
            0 => {
                let part = |name| field(name, DataType::UInt32);
                DataType::Struct(vec![part("months"), part("days"), part("millis")].into())
            }
            1 => DataType::Duration(choices.one(&UNITS)),
            2 => DataType::FixedSizeBinary(12),
            _ => pick(choices, &BINARIES),
        },
        Ty::Decimal { .. } => match choices.below(3) {
            0 => decimal(choices),
            1 => pick(choices, &INTEGERS),
            _ => pick(choices, &TEXTS),
        },
        Ty::Date => match choices.below(3) {
            0 => pick(choices, &DATES),
            1 => pick(choices, &TEXTS),
            _ => DataType::Timestamp(choices.one(&UNITS), None),
        },
        Ty::TimeMillis | Ty::TimeMicros => match choices.below(5) {
            4 => pick(choices, &TEXTS),
            0 => DataType::Time32(TimeUnit::Millisecond),
            1 => DataType::Time32(TimeUnit::Second),
            2 => DataType::Time64(TimeUnit::Microsecond),
            _ => DataType::Time64(TimeUnit::Nanosecond),
        },
        Ty::Timestamp(_) => match choices.below(3) {
            0 => DataType::Timestamp(
                choices.one(&UNITS),
                Some(choices.one(&["UTC", "+02:00", "Europe/Berlin"]).into()),
            ),
            1 if zone && choices.below(3) == 1 => pick(choices, &DATES),
            1 if zone => DataType::Timestamp(choices.one(&UNITS), None),
            _ => pick(choices, &TEXTS),
        },
        Ty::Local(_) => match choices.below(3) {
            2 => pick(choices, &DATES),
            0 => DataType::Timestamp(choices.one(&UNITS), None),
            _ => pick(choices, &TEXTS),
        },
        Ty::Array(items) => {
            let items = field("item", source(items, zone, choices));
            match choices.below(3) {
                0 => DataType::List(items),
                1 => DataType::LargeList(items),
                _ => DataType::FixedSizeList(items, choices.below(3) as i32),
            }
        }
        Ty::Map(values) => {
            let key = Arc::new(Field::new("key", pick(choices, &TEXTS), false));
            let entries = Fields::from(vec![key, field("value", source(values, zone, choices))]);
            DataType::Map(
                Arc::new(Field::new("entries", DataType::Struct(entries), false)),
                false,
            )
        }
        Ty::Union(types, _) => {
            let member = |(i, ty)| field(&format!("member{i}"), source(ty, false, choices));
            DataType::Struct(types.iter().enumerate().map(member).collect())
        }
        Ty::Record(fields) => {
            let fields = fields.iter().enumerate();
            // A declared zone is of a field, not of what is below it.
            DataType::Struct(
                fields
                    .map(|(i, ty)| field(&format!("f{i}"), source(ty, false, choices)))
                    .collect(),
            )
        }
    };
    // Arrow can't take values of no size out of a dictionary, which nested ones may be.
    let sized = !plain.is_nested() && plain != DataType::FixedSizeBinary(0);
    if choices.below(6) == 1 && sized {
        let keys = choices.one(&[Some(true), Some(false), None]);
        let keys = keys.map_or(DataType::UInt8, |wide| {
            if wide {
                DataType::Int32
            } else {
                DataType::Int8
            }
        });
        return DataType::Dictionary(Box::new(keys), Box::new(plain));
    }
    plain
}
