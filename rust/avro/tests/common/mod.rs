//! Random schemas and values, and the slow, obvious reading of an Arrow column that the crate is held against.
#![allow(dead_code)]

pub mod declared;
pub mod rules;

use std::collections::HashMap;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Decimal, Uuid};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time32MillisecondType, Time64MicrosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{Array, RecordBatch};
use kappaflow_avro::{AvroSchema, CoercionPlan, Encoded, Encoder, PlanOptions};
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// A type to make schemas and values of.
#[derive(Debug, Clone)]
pub enum Shape {
    Plain(&'static str),
    Logical(&'static str, &'static str),
    Decimal {
        precision: usize,
        scale: usize,
        fixed: Option<usize>,
    },
    Enum(usize),
    Fixed(usize),
    Array(Box<Shape>),
    Map(Box<Shape>),
    Record(Vec<Shape>),
    /// With null, and whether null comes first.
    Nullable(Box<Shape>, bool),
}

fn leaf() -> BoxedStrategy<Shape> {
    prop_oneof![
        prop::sample::select(vec![
            "boolean", "int", "long", "float", "double", "string", "bytes"
        ])
        .prop_map(Shape::Plain),
        prop::sample::select(vec![
            ("int", "date"),
            ("int", "time-millis"),
            ("long", "time-micros"),
            ("long", "timestamp-millis"),
            ("long", "timestamp-micros"),
            ("long", "timestamp-nanos"),
            ("long", "local-timestamp-millis"),
            ("long", "local-timestamp-micros"),
            ("long", "local-timestamp-nanos"),
            ("string", "uuid"),
        ])
        .prop_map(|(base, logical)| Shape::Logical(base, logical)),
        (1..=38_usize, any::<prop::sample::Index>(), any::<bool>()).prop_map(
            |(precision, scale, fixed)| {
                Shape::Decimal {
                    precision,
                    scale: scale.index(precision + 1),
                    fixed: fixed.then_some(17),
                }
            }
        ),
        (1..4_usize).prop_map(Shape::Enum),
        (1..20_usize).prop_map(Shape::Fixed),
    ]
    .boxed()
}

pub fn shape() -> BoxedStrategy<Shape> {
    let nullable = |inner: BoxedStrategy<Shape>| {
        (inner, any::<Option<bool>>()).prop_map(|(shape, null)| match null {
            Some(first) => Shape::Nullable(Box::new(shape), first),
            None => shape,
        })
    };
    nullable(leaf())
        .prop_recursive(3, 16, 4, move |inner| {
            let deeper = prop_oneof![
                inner.clone().prop_map(|s| Shape::Array(Box::new(s))),
                inner.clone().prop_map(|s| Shape::Map(Box::new(s))),
                vec(inner, 0..4).prop_map(Shape::Record),
            ];
            nullable(deeper.boxed())
        })
        .boxed()
}

/// The schema of a record with these fields, `f0`, `f1`, …
pub fn schema(fields: &[Shape]) -> String {
    json(&Shape::Record(fields.to_vec()), &mut 0).to_string()
}

fn json(shape: &Shape, names: &mut usize) -> Json {
    *names += 1;
    let name = format!("N{names}");
    match shape {
        Shape::Plain(ty) => json!(ty),
        Shape::Logical(base, logical) => json!({"type": base, "logicalType": logical}),
        Shape::Decimal {
            precision,
            scale,
            fixed: None,
        } => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        Shape::Decimal {
            precision,
            scale,
            fixed: Some(size),
        } => {
            let ty = json!({"type": "fixed", "name": name, "size": size, "logicalType": "decimal",
                "precision": precision, "scale": scale});
            ty
        }
        Shape::Enum(n) => {
            json!({"type": "enum", "name": name, "symbols": (0..*n).map(|i| format!("S{i}")).collect::<Vec<_>>()})
        }
        Shape::Fixed(size) => json!({"type": "fixed", "name": name, "size": size}),
        Shape::Array(items) => json!({"type": "array", "items": json(items, names)}),
        Shape::Map(values) => json!({"type": "map", "values": json(values, names)}),
        Shape::Record(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .enumerate()
                .map(|(i, field)| json!({"name": format!("f{i}"), "type": json(field, names)}))
                .collect();
            json!({"type": "record", "name": name, "fields": fields})
        }
        Shape::Nullable(inner, true) => json!(["null", json(inner, names)]),
        Shape::Nullable(inner, false) => json!([json(inner, names), "null"]),
    }
}

pub fn ten_to(n: usize) -> i128 {
    10_i128.pow(u32::try_from(n).unwrap())
}

/// A value of the shape as apache-avro has it.
pub fn value(shape: &Shape) -> BoxedStrategy<Value> {
    match shape {
        Shape::Plain("boolean") => any::<bool>().prop_map(Value::Boolean).boxed(),
        Shape::Plain("int") => prop_oneof![any::<i32>(), -200..200]
            .prop_map(Value::Int)
            .boxed(),
        Shape::Plain("long") => prop_oneof![any::<i64>(), -9000..9000_i64]
            .prop_map(Value::Long)
            .boxed(),
        Shape::Plain("float") => any::<f32>().prop_map(Value::Float).boxed(),
        Shape::Plain("double") => any::<f64>().prop_map(Value::Double).boxed(),
        Shape::Plain("string") => ".{0,40}".prop_map(Value::String).boxed(),
        Shape::Plain(_) => vec(any::<u8>(), 0..40).prop_map(Value::Bytes).boxed(),
        Shape::Logical(_, "date") => any::<i32>().prop_map(Value::Date).boxed(),
        Shape::Logical(_, "time-millis") => (0..86_400_000).prop_map(Value::TimeMillis).boxed(),
        Shape::Logical(_, "time-micros") => {
            (0..86_400_000_000_i64).prop_map(Value::TimeMicros).boxed()
        }
        Shape::Logical(_, "timestamp-millis") => {
            any::<i64>().prop_map(Value::TimestampMillis).boxed()
        }
        Shape::Logical(_, "timestamp-micros") => {
            any::<i64>().prop_map(Value::TimestampMicros).boxed()
        }
        Shape::Logical(_, "timestamp-nanos") => {
            any::<i64>().prop_map(Value::TimestampNanos).boxed()
        }
        Shape::Logical(_, "local-timestamp-millis") => {
            any::<i64>().prop_map(Value::LocalTimestampMillis).boxed()
        }
        Shape::Logical(_, "local-timestamp-micros") => {
            any::<i64>().prop_map(Value::LocalTimestampMicros).boxed()
        }
        Shape::Logical(_, "local-timestamp-nanos") => {
            any::<i64>().prop_map(Value::LocalTimestampNanos).boxed()
        }
        Shape::Logical(_, _) => any::<u128>()
            .prop_map(|v| Value::Uuid(Uuid::from_u128(v)))
            .boxed(),
        Shape::Decimal {
            precision, fixed, ..
        } => {
            let (limit, fixed) = (ten_to(*precision), *fixed);
            prop_oneof![Just(0), Just(limit - 1), Just(1 - limit), 1 - limit..limit]
                .prop_map(move |v| Value::Decimal(Decimal::from(decimal_bytes(v, fixed))))
                .boxed()
        }
        Shape::Enum(n) => (0..*n)
            .prop_map(|i| Value::Enum(i as u32, format!("S{i}")))
            .boxed(),
        Shape::Fixed(size) => {
            let size = *size;
            vec(any::<u8>(), size)
                .prop_map(move |bytes| Value::Fixed(size, bytes))
                .boxed()
        }
        Shape::Array(items) => vec(value(items), 0..4).prop_map(Value::Array).boxed(),
        Shape::Map(values) => hash_map(".{0,6}", value(values), 0..4)
            .prop_map(Value::Map)
            .boxed(),
        Shape::Record(fields) => record(fields),
        Shape::Nullable(inner, first) => {
            let (null, some) = if *first { (0, 1) } else { (1, 0) };
            prop_oneof![
                1 => Just(Value::Union(null, Box::new(Value::Null))),
                2 => value(inner).prop_map(move |v| Value::Union(some, Box::new(v))),
            ]
            .boxed()
        }
    }
}

pub fn record(fields: &[Shape]) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .iter()
        .enumerate()
        .map(|(i, field)| value(field).prop_map(move |v| (format!("f{i}"), v)))
        .collect();
    fields.prop_map(Value::Record).boxed()
}

/// Big-endian two's complement: as short as can be, or of the fixed's size.
pub fn decimal_bytes(v: i128, fixed: Option<usize>) -> Vec<u8> {
    let be = v.to_be_bytes();
    match fixed {
        Some(size) => {
            let mut bytes = vec![if v < 0 { 0xff } else { 0 }; size - 16];
            bytes.extend(be);
            bytes
        }
        None => {
            let shortest = (1..=16).find(|n| {
                let rest = &be[16 - n..];
                let sign = if rest[0] & 0x80 == 0 { 0 } else { 0xff };
                (sign == 0xff) == (v < 0) && be[..16 - n].iter().all(|b| *b == sign)
            });
            be[16 - shortest.unwrap()..].to_vec()
        }
    }
}

/// The value that an Arrow slot stands for: slow and obvious.
pub fn arrow_value(shape: &Shape, array: &dyn Array, i: usize) -> Value {
    if let Shape::Nullable(inner, first) = shape {
        let (null, some) = if *first { (0, 1) } else { (1, 0) };
        return if array.is_null(i) {
            Value::Union(null, Box::new(Value::Null))
        } else {
            Value::Union(some, Box::new(arrow_value(inner, array, i)))
        };
    }
    assert!(array.is_valid(i), "null in {shape:?}");
    match shape {
        Shape::Plain("boolean") => Value::Boolean(array.as_boolean().value(i)),
        Shape::Plain("int") => Value::Int(array.as_primitive::<Int32Type>().value(i)),
        Shape::Plain("long") => Value::Long(array.as_primitive::<Int64Type>().value(i)),
        Shape::Plain("float") => Value::Float(array.as_primitive::<Float32Type>().value(i)),
        Shape::Plain("double") => Value::Double(array.as_primitive::<Float64Type>().value(i)),
        Shape::Plain("string") => Value::String(array.as_string::<i32>().value(i).to_owned()),
        Shape::Plain(_) => Value::Bytes(array.as_binary::<i32>().value(i).to_vec()),
        Shape::Logical(_, "date") => Value::Date(array.as_primitive::<Date32Type>().value(i)),
        Shape::Logical(_, "time-millis") => {
            Value::TimeMillis(array.as_primitive::<Time32MillisecondType>().value(i))
        }
        Shape::Logical(_, "time-micros") => {
            Value::TimeMicros(array.as_primitive::<Time64MicrosecondType>().value(i))
        }
        Shape::Logical(_, "timestamp-millis") => {
            Value::TimestampMillis(array.as_primitive::<TimestampMillisecondType>().value(i))
        }
        Shape::Logical(_, "timestamp-micros") => {
            Value::TimestampMicros(array.as_primitive::<TimestampMicrosecondType>().value(i))
        }
        Shape::Logical(_, "timestamp-nanos") => {
            Value::TimestampNanos(array.as_primitive::<TimestampNanosecondType>().value(i))
        }
        Shape::Logical(_, "local-timestamp-millis") => {
            Value::LocalTimestampMillis(array.as_primitive::<TimestampMillisecondType>().value(i))
        }
        Shape::Logical(_, "local-timestamp-micros") => {
            Value::LocalTimestampMicros(array.as_primitive::<TimestampMicrosecondType>().value(i))
        }
        Shape::Logical(_, "local-timestamp-nanos") => {
            Value::LocalTimestampNanos(array.as_primitive::<TimestampNanosecondType>().value(i))
        }
        Shape::Logical(_, _) => {
            Value::Uuid(Uuid::parse_str(array.as_string::<i32>().value(i)).unwrap())
        }
        Shape::Decimal {
            precision, fixed, ..
        } => {
            let v = if *precision <= 38 {
                array.as_primitive::<Decimal128Type>().value(i)
            } else {
                array
                    .as_primitive::<Decimal256Type>()
                    .value(i)
                    .to_i128()
                    .unwrap()
            };
            Value::Decimal(Decimal::from(decimal_bytes(v, *fixed)))
        }
        Shape::Enum(_) => {
            let symbol = array.as_string::<i32>().value(i);
            Value::Enum(symbol[1..].parse().unwrap(), symbol.to_owned())
        }
        Shape::Fixed(size) => Value::Fixed(*size, array.as_fixed_size_binary().value(i).to_vec()),
        Shape::Array(items) => {
            let list = array.as_list::<i32>().value(i);
            Value::Array(
                (0..list.len())
                    .map(|i| arrow_value(items, &list, i))
                    .collect(),
            )
        }
        Shape::Map(values) => {
            let entries = array.as_map().value(i);
            let (keys, column) = (entries.column(0).as_string::<i32>(), entries.column(1));
            Value::Map(
                (0..entries.len())
                    .map(|i| (keys.value(i).to_owned(), arrow_value(values, column, i)))
                    .collect::<HashMap<_, _>>(),
            )
        }
        Shape::Record(fields) => {
            let columns = array.as_struct().columns();
            Value::Record(
                fields
                    .iter()
                    .zip(columns)
                    .enumerate()
                    .map(|(n, (s, c))| (format!("f{n}"), arrow_value(s, c, i)))
                    .collect(),
            )
        }
        Shape::Nullable(..) => unreachable!(),
    }
}

pub fn read(schema: &apache_avro::Schema, mut datum: &[u8]) -> Value {
    let value = GenericDatumReader::builder(schema)
        .build()
        .unwrap()
        .read_value(&mut datum)
        .unwrap();
    assert!(datum.is_empty(), "{} bytes left", datum.len());
    value
}

pub fn write(schema: &apache_avro::Schema, value: &Value) -> Vec<u8> {
    GenericDatumWriter::builder(schema)
        .build()
        .unwrap()
        .write_value_to_vec(value.clone())
        .unwrap()
}

pub fn encode_with(batch: &RecordBatch, schema: &str, options: &PlanOptions) -> Encoded {
    let avro = AvroSchema::parse(schema).unwrap();
    let plan = CoercionPlan::new(batch.schema_ref(), &avro, options).unwrap();
    let encoded = Encoder::new(plan, 7).encode(batch).unwrap();
    // What holds for every batch: each row has one fate, and the offsets cover the buffer.
    let mut rows: Vec<u32> = encoded
        .rows
        .iter()
        .copied()
        .chain(encoded.rejects.iter().map(|r| r.row))
        .collect();
    rows.sort_unstable();
    assert_eq!(
        rows,
        (0..u32::try_from(batch.num_rows()).unwrap()).collect::<Vec<_>>()
    );
    assert_eq!(encoded.offsets.len(), encoded.rows.len() + 1);
    assert_eq!(
        (encoded.offsets[0], *encoded.offsets.last().unwrap()),
        (0, encoded.buffer.len())
    );
    encoded
}

/// The encoded rows as apache-avro reads them, by row of the batch; `None` where the row was rejected.
pub fn values(encoded: &Encoded, schema: &str, rows: usize) -> Vec<Option<Value>> {
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let mut out = vec![None; rows];
    for (row, message) in encoded.iter() {
        let (id, datum) = kappaflow_avro::framing::split(message).unwrap();
        assert_eq!(id, 7);
        out[row as usize] = Some(read(&schema, datum));
    }
    out
}
