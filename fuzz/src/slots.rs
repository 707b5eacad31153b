//! Arrow values, read one at a time.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayAccessor, ArrowPrimitiveType, PrimitiveArray};
use arrow_schema::{DataType, TimeUnit};
use num_bigint::BigInt;

/// Seconds in a day.
pub const DAY: i64 = 86_400;

/// An Arrow value, told apart by what it means and not by how it is kept.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Slot {
    Null,
    Boolean(bool),
    Integer(BigInt),
    /// So many 10^-scale.
    Decimal(BigInt, i32),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// A count of units of which there are so many in a second: dates, times, timestamps, durations.
    Time(i64, i64),
    List(Vec<Slot>),
    Map(Vec<(String, Slot)>),
    Struct(Vec<Slot>),
}
fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

fn native<T: ArrowPrimitiveType>(array: &dyn Array, i: usize) -> T::Native {
    let array: &PrimitiveArray<T> = array.as_primitive();
    ArrayAccessor::value(&array, i)
}

fn unscaled(text: impl ToString, scale: i8) -> Slot {
    Slot::Decimal(text.to_string().parse().expect("a number"), scale.into())
}

/// Slot `i` of an array.
pub fn read(array: &dyn Array, i: usize) -> Slot {
    macro_rules! number {
        ($t:ty) => {
            Slot::Integer(native::<$t>(array, i).into())
        };
    }
    macro_rules! time {
        ($unit:expr, $s:ty, $ms:ty, $us:ty, $ns:ty) => {{
            let count = match $unit {
                TimeUnit::Second => native::<$s>(array, i) as i64,
                TimeUnit::Millisecond => native::<$ms>(array, i) as i64,
                TimeUnit::Microsecond => native::<$us>(array, i),
                TimeUnit::Nanosecond => native::<$ns>(array, i),
            };
            Slot::Time(count, per_second($unit))
        }};
    }
    if array.is_null(i) {
        return Slot::Null;
    }
    match array.data_type() {
        DataType::Boolean => Slot::Boolean(array.as_boolean().value(i)),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => Slot::Float(native::<Float16Type>(array, i).into()),
        DataType::Float32 => Slot::Float(native::<Float32Type>(array, i).into()),
        DataType::Float64 => Slot::Float(native::<Float64Type>(array, i)),
        DataType::Decimal32(_, s) => unscaled(native::<Decimal32Type>(array, i), *s),
        DataType::Decimal64(_, s) => unscaled(native::<Decimal64Type>(array, i), *s),
        DataType::Decimal128(_, s) => unscaled(native::<Decimal128Type>(array, i), *s),
        DataType::Decimal256(_, s) => unscaled(native::<Decimal256Type>(array, i), *s),
        DataType::Date32 => Slot::Time(i64::from(native::<Date32Type>(array, i)) * DAY, 1),
        DataType::Date64 => Slot::Time(native::<Date64Type>(array, i), 1_000),
        DataType::Time32(TimeUnit::Second) => {
            Slot::Time(native::<Time32SecondType>(array, i).into(), 1)
        }
        DataType::Time32(_) => Slot::Time(native::<Time32MillisecondType>(array, i).into(), 1_000),
        DataType::Time64(TimeUnit::Microsecond) => {
            Slot::Time(native::<Time64MicrosecondType>(array, i), 1_000_000)
        }
        DataType::Time64(_) => Slot::Time(native::<Time64NanosecondType>(array, i), 1_000_000_000),
        DataType::Timestamp(unit, _) => time!(
            *unit,
            TimestampSecondType,
            TimestampMillisecondType,
            TimestampMicrosecondType,
            TimestampNanosecondType
        ),
        DataType::Duration(unit) => time!(
            *unit,
            DurationSecondType,
            DurationMillisecondType,
            DurationMicrosecondType,
            DurationNanosecondType
        ),
        DataType::Utf8 => Slot::Text(array.as_string::<i32>().value(i).to_owned()),
        DataType::LargeUtf8 => Slot::Text(array.as_string::<i64>().value(i).to_owned()),
        DataType::Utf8View => Slot::Text(array.as_string_view().value(i).to_owned()),
        DataType::Binary => Slot::Bytes(array.as_binary::<i32>().value(i).to_vec()),
        DataType::LargeBinary => Slot::Bytes(array.as_binary::<i64>().value(i).to_vec()),
        DataType::BinaryView => Slot::Bytes(array.as_binary_view().value(i).to_vec()),
        DataType::FixedSizeBinary(_) => Slot::Bytes(array.as_fixed_size_binary().value(i).to_vec()),
        DataType::Dictionary(keys, _) => {
            let dictionary = array.as_any_dictionary();
            let key = match keys.as_ref() {
                DataType::Int8 => native::<Int8Type>(dictionary.keys(), i) as usize,
                DataType::UInt8 => native::<UInt8Type>(dictionary.keys(), i).into(),
                _ => native::<Int32Type>(dictionary.keys(), i) as usize,
            };
            read(dictionary.values(), key)
        }
        DataType::List(_) => list(&array.as_list::<i32>().value(i)),
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(i)),
        DataType::FixedSizeList(_, _) => list(&array.as_fixed_size_list().value(i)),
        DataType::Map(_, _) => {
            let entries = array.as_map().value(i);
            let pair = |i| match read(entries.column(0), i) {
                Slot::Text(key) => (key, read(entries.column(1), i)),
                key => unreachable!("{key:?} is no key"),
            };
            Slot::Map((0..entries.len()).map(pair).collect())
        }
        DataType::Struct(_) => Slot::Struct(
            array
                .as_struct()
                .columns()
                .iter()
                .map(|c| read(c, i))
                .collect(),
        ),
        other => unreachable!("no table has a {other}"),
    }
}

fn list(values: &dyn Array) -> Slot {
    Slot::List((0..values.len()).map(|i| read(values, i)).collect())
}
