//! Values in words: Arrow arrays of them, and what apache-avro read as such.
//!
//! Numbers are written plainly; decimals as their digits without the point; dates, times, timestamps and durations as
//! counts; bytes in hexadecimal after `0x`, or as text; lists as `1,2`; maps as `k=1`; durations as `months/days/millis`;
//! members as `0:5`.

use std::sync::Arc;

use apache_avro::types::Value;
use arrow_array::builder::*;
use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{NullBuffer, OffsetBuffer, i256};
use arrow_schema::{DataType as A, Fields};

type Words<'a> = [Option<&'a str>];

/// The bytes of a word.
fn bytes(word: &str) -> Vec<u8> {
    let Some(hex) = word.strip_prefix("0x") else {
        return word.as_bytes().to_vec();
    };
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect()
}

fn decimals<T: DecimalType>(
    words: &Words<'_>,
    parse: impl Fn(&str) -> T::Native,
    p: u8,
    s: i8,
) -> ArrayRef {
    let values = words.iter().map(|word| word.map(&parse));
    let array = PrimitiveArray::<T>::from_iter(values);
    Arc::new(array.with_precision_and_scale(p, s).unwrap())
}

fn ints(words: &Words<'_>) -> Int32Array {
    words
        .iter()
        .map(|word| word.map(|word| word.parse::<i32>().unwrap()))
        .collect()
}

fn valid(words: &Words<'_>) -> NullBuffer {
    words.iter().map(Option::is_some).collect::<Vec<_>>().into()
}

/// The words one after the other, cut at `at`, and where each ends; a null has none.
fn parts<'a>(words: &Words<'a>, at: char) -> (Vec<Option<&'a str>>, OffsetBuffer<i32>) {
    let lists = words
        .iter()
        .map(|word| word.map_or(vec![], |word| word.split(at).collect()));
    let lists: Vec<Vec<_>> = lists.collect();
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
    (lists.into_iter().flatten().map(Some).collect(), offsets)
}

/// A column of the type.
pub fn array(arrow: &A, words: &Words<'_>) -> ArrayRef {
    let strings = || StringArray::from(words.to_vec());
    let cast = |array: &dyn Array, to: &A| arrow_cast::cast(array, to).unwrap();
    let longs =
        || Int64Array::from_iter(words.iter().map(|w| w.map(|w| w.parse::<i64>().unwrap())));
    match arrow {
        A::Null => Arc::new(NullArray::new(words.len())),
        A::Boolean => Arc::new(BooleanArray::from_iter(
            words.iter().map(|w| w.map(|w| w == "true")),
        )),
        A::UInt64 => Arc::new(UInt64Array::from_iter(
            words.iter().map(|w| w.map(|w| w.parse::<u64>().unwrap())),
        )),
        a if a.is_integer() => cast(&longs(), a),
        a if a.is_floating() => {
            let floats = words.iter().map(|w| w.map(|w| w.parse::<f64>().unwrap()));
            cast(&Float64Array::from_iter(floats), a)
        }
        A::Decimal32(p, s) => decimals::<Decimal32Type>(words, |w| w.parse().unwrap(), *p, *s),
        A::Decimal64(p, s) => decimals::<Decimal64Type>(words, |w| w.parse().unwrap(), *p, *s),
        A::Decimal128(p, s) => decimals::<Decimal128Type>(words, |w| w.parse().unwrap(), *p, *s),
        A::Decimal256(p, s) => {
            decimals::<Decimal256Type>(words, |w| i256::from_string(w).unwrap(), *p, *s)
        }
        A::Utf8 | A::LargeUtf8 | A::Utf8View | A::Dictionary(_, _) => cast(&strings(), arrow),
        A::Binary | A::LargeBinary | A::BinaryView => {
            let values = words.iter().map(|word| word.map(bytes));
            cast(&BinaryArray::from_iter(values), arrow)
        }
        A::FixedSizeBinary(size) => {
            let values = words.iter().map(|word| word.map(bytes));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, *size).unwrap())
        }
        A::Date32 | A::Time32(_) => cast(&cast(&longs(), &A::Int32), arrow),
        a if a.is_temporal() => cast(&longs(), a),
        A::List(field) => {
            let (items, offsets) = parts(words, ',');
            Arc::new(ListArray::new(
                field.clone(),
                offsets,
                Arc::new(ints(&items)),
                Some(valid(words)),
            ))
        }
        A::LargeList(field) => {
            let list = array(&A::List(field.clone()), words);
            cast(&list, arrow)
        }
        A::FixedSizeList(field, size) => {
            let mut builder =
                FixedSizeListBuilder::new(Int32Builder::new(), *size).with_field(field.clone());
            for word in words {
                let items: Vec<i32> = word.map_or(vec![0; 2], |w| {
                    w.split(',').map(|v| v.parse().unwrap()).collect()
                });
                builder.values().append_slice(&items);
                builder.append(word.is_some());
            }
            Arc::new(builder.finish())
        }
        A::Map(field, _) => {
            let (entries, offsets) = parts(words, ',');
            let pairs = entries
                .iter()
                .flatten()
                .map(|entry| entry.split_once('=').unwrap());
            let (keys, values): (Vec<_>, Vec<_>) =
                pairs.map(|(k, v)| (k, v.parse::<i32>().unwrap())).unzip();
            let A::Struct(fields) = field.data_type() else {
                unreachable!()
            };
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from(keys)),
                Arc::new(Int32Array::from(values)),
            ];
            let entries = StructArray::new(fields.clone(), columns, None);
            Arc::new(MapArray::new(
                field.clone(),
                offsets,
                entries,
                Some(valid(words)),
                false,
            ))
        }
        A::Struct(fields) => structs(fields, words),
        other => panic!("no values of {other}"),
    }
}

fn structs(fields: &Fields, words: &Words<'_>) -> ArrayRef {
    let member = |i: usize| {
        move |word: &Option<&'_ str>| {
            let (at, value) = (*word)?.split_once(':')?;
            (at.contains(&i.to_string())).then(|| value.to_owned())
        }
    };
    let columns: Vec<ArrayRef> =
        match fields.iter().map(|f| f.name().as_str()).collect::<Vec<_>>()[..] {
            ["a"] => vec![Arc::new(ints(
                &words.iter().map(|w| w.or(Some("0"))).collect::<Vec<_>>(),
            ))],
            ["member0", "member1"] => {
                let number = |word| member(0)(word).map(|v| v.parse::<i32>().unwrap());
                vec![
                    Arc::new(Int32Array::from_iter(words.iter().map(number))),
                    Arc::new(StringArray::from_iter(words.iter().map(member(1)))),
                ]
            }
            _ => (0..3)
                .map(|i| {
                    let part = |word: &Option<&str>| {
                        word.map_or(0, |w| w.split('/').nth(i).unwrap().parse().unwrap())
                    };
                    Arc::new(UInt32Array::from_iter_values(words.iter().map(part))) as ArrayRef
                })
                .collect(),
        };
    Arc::new(StructArray::new(
        fields.clone(),
        columns,
        Some(valid(words)),
    ))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold("0x".to_owned(), |text, b| text + &format!("{b:02x}"))
}

/// A value in words. Of a union, that of its branch; of the record around it, its first field.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Boolean(v) => v.to_string(),
        Value::Int(v) | Value::Date(v) | Value::TimeMillis(v) => v.to_string(),
        Value::Long(v)
        | Value::TimeMicros(v)
        | Value::TimestampMillis(v)
        | Value::TimestampMicros(v)
        | Value::TimestampNanos(v)
        | Value::LocalTimestampMillis(v)
        | Value::LocalTimestampMicros(v)
        | Value::LocalTimestampNanos(v) => v.to_string(),
        Value::Float(v) => v.to_string(),
        Value::Double(v) => v.to_string(),
        Value::String(v) => v.clone(),
        Value::Enum(_, v) => v.clone(),
        Value::Bytes(v) | Value::Fixed(_, v) => hex(v),
        Value::Uuid(v) => v.to_string(),
        Value::Decimal(v) => {
            let bytes = <Vec<u8>>::try_from(v).unwrap();
            let sign = if bytes[0] < 0x80 { 0 } else { -1_i128 };
            bytes
                .iter()
                .fold(sign, |sum, b| sum << 8 | i128::from(*b))
                .to_string()
        }
        Value::Duration(v) => {
            let (months, days, millis) = (v.months(), v.days(), v.millis());
            format!(
                "{}/{}/{}",
                u32::from(months),
                u32::from(days),
                u32::from(millis)
            )
        }
        Value::Union(_, v) => text(v),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Map(entries) => entries
            .iter()
            .map(|(k, v)| format!("{k}={}", text(v)))
            .collect::<Vec<_>>()
            .join(","),
        Value::Record(fields) => text(&fields[0].1),
        other => panic!("{other:?}"),
    }
}
