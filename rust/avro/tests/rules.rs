//! A test a rule: values that pass, and values that must not, with the reason they are given.

mod common;

use std::sync::Arc;

use apache_avro::types::Value;
use arrow_array::builder::{Int32Builder, ListBuilder, MapBuilder, StringBuilder};
use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::*;
use arrow_buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, i256};
use arrow_schema::{DataType, Field, Fields, Schema};
use common::{encode_with, ten_to, values};
use kappaflow_avro::*;
use proptest::prelude::*;

fn batch(array: impl Array + 'static) -> RecordBatch {
    batch_of(Arc::new(array))
}

fn batch_of(array: ArrayRef) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("f", array.data_type().clone(), true)]);
    RecordBatch::try_new(Arc::new(schema), vec![array]).unwrap()
}

fn schema_of(ty: &str) -> String {
    format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": {ty}}}]}}"#)
}

fn zone(zone: &str) -> PlanOptions {
    let mut options = PlanOptions::default();
    options.fields.insert(
        "f".into(),
        FieldDeclaration {
            from: None,
            zone: Some(zone.into()),
        },
    );
    options
}

/// Per row: the value that apache-avro reads, or the reason of the reject.
fn run_with(
    array: impl Array + 'static,
    ty: &str,
    options: &PlanOptions,
) -> Vec<Result<Value, String>> {
    let batch = batch(array);
    let json = schema_of(ty);
    let encoded = encode_with(&batch, &json, options);
    values(&encoded, &json, batch.num_rows())
        .into_iter()
        .enumerate()
        .map(|(row, value)| match value {
            Some(Value::Record(mut fields)) => Ok(fields.remove(0).1),
            _ => {
                let reject = encoded
                    .rejects
                    .iter()
                    .find(|r| r.row as usize == row)
                    .unwrap();
                assert!(reject.column.starts_with('f'), "{}", reject.column);
                Err(reject.reason.clone())
            }
        })
        .collect()
}

fn run(array: impl Array + 'static, ty: &str) -> Vec<Result<Value, String>> {
    run_with(array, ty, &PlanOptions::default())
}

fn ok<T>(
    values: impl IntoIterator<Item = T>,
    f: impl Fn(T) -> Value,
) -> Vec<Result<Value, String>> {
    values.into_iter().map(|v| Ok(f(v))).collect()
}

fn no<T>(reason: &str) -> Result<T, String> {
    Err(reason.to_owned())
}

const NULL: &str = "null where the schema requires a value";

#[test]
fn floats_to_ints() {
    let nan = "NaN is not a whole number, and is not taken as null";
    let floats = [
        517.0,
        -0.0,
        2_147_483_647.0,
        0.5,
        f64::NAN,
        f64::INFINITY,
        2_147_483_648.0,
        -2_147_483_649.0,
    ];
    let expected = vec![
        Ok(Value::Int(517)),
        Ok(Value::Int(0)),
        Ok(Value::Int(i32::MAX)),
        no("not a whole number"),
        no(nan),
        no("infinite"),
        no("out of range of int"),
        no("out of range of int"),
    ];
    assert_eq!(
        run(Float64Array::from(floats.to_vec()), "\"int\""),
        expected
    );
    let longs = [
        -9_223_372_036_854_775_808.0,
        9_223_372_036_854_775_808.0,
        1e300,
        0.1,
    ];
    assert_eq!(
        run(Float64Array::from(longs.to_vec()), "\"long\""),
        vec![
            Ok(Value::Long(i64::MIN)),
            no("out of range of long"),
            no("out of range of long"),
            no("not a whole number")
        ]
    );
    // A null is a null, whatever lies below it.
    let below = Float64Array::new(
        vec![0.5, 1.0].into(),
        Some(NullBuffer::from(vec![false, true])),
    );
    assert_eq!(
        run(below.clone(), "\"int\""),
        vec![no(NULL), Ok(Value::Int(1))]
    );
    let union = |branch, v| Value::Union(branch, Box::new(v));
    assert_eq!(
        run(below, "[\"null\", \"int\"]"),
        vec![Ok(union(0, Value::Null)), Ok(union(1, Value::Int(1)))]
    );
    assert_eq!(
        run(Float32Array::from(vec![3.0, 3.5]), "\"long\""),
        vec![Ok(Value::Long(3)), no("not a whole number")]
    );
}

#[test]
fn ints_of_every_width() {
    assert_eq!(
        run(Int8Array::from(vec![-128, 127]), "\"int\""),
        ok([-128, 127], Value::Int)
    );
    assert_eq!(
        run(UInt8Array::from(vec![0, 255]), "\"int\""),
        ok([0, 255], Value::Int)
    );
    assert_eq!(
        run(Int16Array::from(vec![-32768]), "\"long\""),
        ok([-32768], Value::Long)
    );
    assert_eq!(
        run(UInt16Array::from(vec![65535]), "\"int\""),
        ok([65535], Value::Int)
    );
    assert_eq!(
        run(Int32Array::from(vec![i32::MIN]), "\"long\""),
        ok([i64::from(i32::MIN)], Value::Long)
    );
    assert_eq!(
        run(UInt32Array::from(vec![5, u32::MAX]), "\"int\""),
        vec![Ok(Value::Int(5)), no("out of range of int")]
    );
    assert_eq!(
        run(UInt32Array::from(vec![u32::MAX]), "\"long\""),
        ok([i64::from(u32::MAX)], Value::Long)
    );
    let range = "out of range of int";
    assert_eq!(
        run(Int64Array::from(vec![1 << 31, -5]), "\"int\""),
        vec![no(range), Ok(Value::Int(-5))]
    );
    assert_eq!(
        run(UInt64Array::from(vec![7, 1 << 63, u64::MAX]), "\"long\""),
        vec![
            Ok(Value::Long(7)),
            no("out of range of long"),
            no("out of range of long")
        ]
    );
    assert_eq!(
        run(UInt64Array::from(vec![1 << 31]), "\"int\""),
        vec![no(range)]
    );
    assert_eq!(
        run(BooleanArray::from(vec![true, false]), "\"boolean\""),
        ok([true, false], Value::Boolean)
    );
}

#[test]
fn to_floats() {
    let inexact = "not exactly representable as float";
    assert_eq!(
        run(
            Float64Array::from(vec![0.5, 0.1, 1e300, f64::INFINITY]),
            "\"float\""
        ),
        vec![
            Ok(Value::Float(0.5)),
            no(inexact),
            no(inexact),
            Ok(Value::Float(f32::INFINITY))
        ]
    );
    assert!(
        matches!(run(Float64Array::from(vec![f64::NAN]), "\"float\"")[0], Ok(Value::Float(v)) if v.is_nan())
    );
    assert_eq!(
        run(Float32Array::from(vec![0.1]), "\"double\""),
        ok([f64::from(0.1_f32)], Value::Double)
    );
    assert_eq!(
        run(
            Int64Array::from(vec![1 << 53, (1 << 53) + 1, i64::MAX]),
            "\"double\""
        ),
        vec![
            Ok(Value::Double(9_007_199_254_740_992.0)),
            no("not exactly representable as double"),
            no("not exactly representable as double")
        ]
    );
    assert_eq!(
        run(Int32Array::from(vec![16_777_217, 3]), "\"float\""),
        vec![no(inexact), Ok(Value::Float(3.0))]
    );
}

#[test]
fn text_and_bytes() {
    let words = ["", "é", "a longer string of more than sixteen bytes"];
    let expected = ok(words, |s| Value::String(s.to_owned()));
    assert_eq!(
        run(StringArray::from(words.to_vec()), "\"string\""),
        expected
    );
    assert_eq!(
        run(LargeStringArray::from(words.to_vec()), "\"string\""),
        expected
    );
    assert_eq!(
        run(StringViewArray::from(words.to_vec()), "\"string\""),
        expected
    );
    let bytes = ok(words, |s| Value::Bytes(s.as_bytes().to_vec()));
    assert_eq!(run(StringArray::from(words.to_vec()), "\"bytes\""), bytes);
    assert_eq!(
        run(BinaryViewArray::from_iter_values(words), "\"bytes\""),
        bytes
    );
    assert_eq!(
        run(LargeBinaryArray::from_iter_values(words), "\"bytes\""),
        bytes
    );
    let odd = BinaryArray::from(vec![&b"ok"[..], &b"\xff"[..]]);
    let rejects = encode_with(
        &batch(odd.clone()),
        &schema_of("\"string\""),
        &PlanOptions::default(),
    )
    .rejects;
    assert_eq!(rejects[0].value, "ff");
    assert_eq!(
        run(odd, "\"string\""),
        vec![Ok(Value::String("ok".into())), no("not UTF-8")]
    );

    let fixed = r#"{"type": "fixed", "name": "F", "size": 2}"#;
    let two = FixedSizeBinaryArray::try_from_iter([[1, 2], [3, 4], [5, 6]].into_iter()).unwrap();
    let values = [vec![3, 4], vec![5, 6]];
    assert_eq!(
        run(two.slice(1, 2), fixed),
        ok(values.clone(), |v| Value::Fixed(2, v))
    );
    assert_eq!(run(two.slice(1, 2), "\"bytes\""), ok(values, Value::Bytes));
    assert_eq!(
        run(BinaryArray::from(vec![&b"ab"[..], &b"abc"[..]]), fixed),
        vec![
            Ok(Value::Fixed(2, b"ab".to_vec())),
            no("3 bytes long, but the fixed has 2")
        ]
    );
}

#[test]
fn enums_and_uuids() {
    let e = r#"{"type": "enum", "name": "E", "symbols": ["A", "B"]}"#;
    assert_eq!(
        run(StringArray::from(vec![Some("B"), Some("C"), None]), e),
        vec![
            Ok(Value::Enum(1, "B".into())),
            no("not a symbol of enum E"),
            no(NULL)
        ]
    );
    let uuid = r#"{"type": "string", "logicalType": "uuid"}"#;
    let text = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let found = run(
        StringViewArray::from(vec![text, "67e5504410b1426f9247bb680e5fe0c8", ""]),
        uuid,
    );
    assert_eq!(
        found[0],
        Ok(Value::Uuid(apache_avro::Uuid::parse_str(text).unwrap()))
    );
    assert!(
        found[1..]
            .iter()
            .all(|r| r.as_ref().is_err_and(|e| e.starts_with("not a uuid")))
    );
}

#[test]
fn dates_and_times() {
    let date = r#"{"type": "int", "logicalType": "date"}"#;
    assert_eq!(
        run(Date32Array::from(vec![-1, 15706]), date),
        ok([-1, 15706], Value::Date)
    );
    assert_eq!(
        run(
            Date64Array::from(vec![
                86_400_000,
                86_400_001,
                i64::MAX - i64::MAX % 86_400_000
            ]),
            date
        ),
        vec![
            Ok(Value::Date(1)),
            no("not a whole day"),
            no("out of range of date")
        ]
    );
    let (millis, micros) = (
        r#"{"type": "int", "logicalType": "time-millis"}"#,
        r#"{"type": "long", "logicalType": "time-micros"}"#,
    );
    let not_time = "not a time of day";
    assert_eq!(
        run(Time32SecondArray::from(vec![1, 86_400]), millis),
        vec![Ok(Value::TimeMillis(1000)), no(not_time)]
    );
    assert_eq!(
        run(Time32MillisecondArray::from(vec![-1, 5]), millis),
        vec![no(not_time), Ok(Value::TimeMillis(5))]
    );
    assert_eq!(
        run(Time64MicrosecondArray::from(vec![5000, 5001]), millis),
        vec![Ok(Value::TimeMillis(5)), no("would lose precision")]
    );
    assert_eq!(
        run(Time32MillisecondArray::from(vec![5]), micros),
        ok([5000], Value::TimeMicros)
    );
    assert_eq!(
        run(Time64NanosecondArray::from(vec![5000, 1]), micros),
        vec![Ok(Value::TimeMicros(5)), no("would lose precision")]
    );
}

const MILLIS: &str = r#"{"type": "long", "logicalType": "timestamp-millis"}"#;
const NANOS: &str = r#"{"type": "long", "logicalType": "timestamp-nanos"}"#;
const LOCAL: &str = r#"{"type": "long", "logicalType": "local-timestamp-micros"}"#;

#[test]
fn timestamps() {
    let seconds = TimestampSecondArray::from(vec![5, i64::MAX]).with_timezone("America/New_York");
    assert_eq!(
        run(seconds, MILLIS),
        vec![Ok(Value::TimestampMillis(5000)), no("out of range of long")]
    );
    let nanos = TimestampNanosecondArray::from(vec![-5_000_000, 1]).with_timezone("UTC");
    assert_eq!(
        run(nanos.clone(), MILLIS),
        vec![Ok(Value::TimestampMillis(-5)), no("would lose precision")]
    );
    assert_eq!(
        run(nanos, NANOS),
        ok([-5_000_000, 1], Value::TimestampNanos)
    );
    let naive = TimestampMicrosecondArray::from(vec![3_600_000_000, i64::MIN + 808]);
    assert_eq!(
        run(naive.clone(), LOCAL),
        ok([3_600_000_000, i64::MIN + 808], Value::LocalTimestampMicros)
    );
    assert_eq!(
        run_with(naive.slice(0, 1), MILLIS, &zone("+01:00")),
        ok([0], Value::TimestampMillis)
    );
    let micros = r#"{"type": "long", "logicalType": "timestamp-micros"}"#;
    assert_eq!(
        run_with(naive, micros, &zone("+01:00")),
        vec![Ok(Value::TimestampMicros(0)), no("out of range of long")]
    );
}

#[test]
fn timestamps_as_text() {
    let texts = StringArray::from(vec![
        "2013-01-01T10:00:00Z",
        "2013-01-01 05:00:00",
        "2013-01-01T05:00:00.0001-05:00",
        "soon",
    ]);
    let found = run(texts.clone(), MILLIS);
    assert_eq!(found[0], Ok(Value::TimestampMillis(1_357_034_400_000)));
    assert_eq!(
        found[1],
        no("no zone in the text, and none is declared for the field")
    );
    assert_eq!(found[2], no("would lose precision"));
    assert!(
        found[3]
            .as_ref()
            .is_err_and(|e| e.starts_with("not an RFC 3339"))
    );
    assert_eq!(
        run_with(texts.clone(), MILLIS, &zone("-05:00"))[1],
        Ok(Value::TimestampMillis(1_357_034_400_000))
    );
    let local = run(texts, LOCAL);
    assert_eq!(
        local[0],
        no("has a zone, but the field is a local timestamp")
    );
    assert_eq!(
        local[1],
        Ok(Value::LocalTimestampMicros(1_357_016_400_000_000))
    );
}

#[test]
fn decimals() {
    let ty = |p: usize, s: usize| {
        format!(r#"{{"type": "bytes", "logicalType": "decimal", "precision": {p}, "scale": {s}}}"#)
    };
    let number = |v: &Result<Value, String>| match v {
        Ok(Value::Decimal(d)) => Ok(<Vec<u8>>::try_from(d).unwrap().iter().fold(
            if <Vec<u8>>::try_from(d).unwrap()[0] & 0x80 == 0 {
                0
            } else {
                -1_i128
            },
            |sum, b| (sum << 8) | i128::from(*b),
        )),
        Ok(other) => panic!("{other:?}"),
        Err(reason) => Err(reason.clone()),
    };
    let numbers = |found: Vec<Result<Value, String>>| found.iter().map(number).collect::<Vec<_>>();
    let range = "out of range of the decimal";
    let source = Decimal128Array::from(vec![12_345, -12_300, 99_999_999])
        .with_precision_and_scale(10, 2)
        .unwrap();
    assert_eq!(
        numbers(run(source.clone(), &ty(10, 2))),
        vec![Ok(12_345), Ok(-12_300), Ok(99_999_999)]
    );
    assert_eq!(
        numbers(run(source.clone(), &ty(10, 4))),
        vec![Ok(1_234_500), Ok(-1_230_000), Ok(9_999_999_900)]
    );
    assert_eq!(
        numbers(run(source.clone(), &ty(10, 0))),
        vec![
            no("would lose precision"),
            Ok(-123),
            no("would lose precision")
        ]
    );
    assert_eq!(
        numbers(run(source, &ty(5, 2))),
        vec![Ok(12_345), Ok(-12_300), no(range)]
    );
    let wide = Decimal256Array::from(vec![i256::from_i128(5), i256::MAX, i256::MIN])
        .with_precision_and_scale(76, 0)
        .unwrap();
    assert_eq!(
        numbers(run(wide, &ty(38, 0))),
        vec![Ok(5), no(range), no(range)]
    );
    assert_eq!(
        numbers(run(Int64Array::from(vec![-7, 1000]), &ty(3, 0))),
        vec![Ok(-7), no(range)]
    );
    let texts = StringArray::from(vec![
        "1.50", "-0.05", "+12", ".5", "1e3", "", "1.234", "99999",
    ]);
    assert_eq!(
        numbers(run(texts, &ty(5, 2))),
        vec![
            Ok(150),
            Ok(-5),
            Ok(1200),
            Ok(50),
            no("not a decimal number"),
            no("not a decimal number"),
            no("would lose precision"),
            no(range)
        ]
    );
    let fixed = r#"{"type": "fixed", "name": "F", "size": 1, "logicalType": "decimal", "precision": 2, "scale": 0}"#;
    let small = Decimal128Array::from(vec![99, -99, 100])
        .with_precision_and_scale(3, 0)
        .unwrap();
    assert_eq!(numbers(run(small, fixed)), vec![Ok(99), Ok(-99), no(range)]);
    let to_int = Decimal128Array::from(vec![1200, 1250])
        .with_precision_and_scale(10, 2)
        .unwrap();
    assert_eq!(
        run(to_int, "\"int\""),
        vec![Ok(Value::Int(12)), no("not a whole number")]
    );
}

#[test]
fn dictionaries() {
    // A null key may be garbage, a value may be null.
    let keys = Int8Array::new(
        vec![1, 99, 0, 2].into(),
        Some(NullBuffer::from(vec![true, false, true, true])),
    );
    let values = StringArray::from(vec![Some("a"), Some("b"), None]);
    let array = unsafe { DictionaryArray::<Int8Type>::new_unchecked(keys, Arc::new(values)) };
    assert_eq!(
        run(array, "\"string\""),
        vec![
            Ok(Value::String("b".into())),
            no(NULL),
            Ok(Value::String("a".into())),
            no(NULL)
        ]
    );
    let empty = DictionaryArray::<Int8Type>::new(
        Int8Array::from(vec![None, None]),
        Arc::new(Int64Array::from(Vec::<i64>::new())),
    );
    assert_eq!(run(empty, "\"long\""), vec![no(NULL), no(NULL)]);
}

#[test]
fn lists() {
    let mut builder = ListBuilder::new(Int32Builder::new());
    for list in [
        Some(vec![Some(9)]),
        Some(vec![Some(1), Some(2)]),
        None,
        Some(vec![]),
        Some(vec![Some(3), None]),
    ] {
        builder.append_option(list);
    }
    let list = builder.finish().slice(1, 4);
    let array = |v: &[i32]| Ok(Value::Array(v.iter().map(|v| Value::Int(*v)).collect()));
    let ty = r#"{"type": "array", "items": "int"}"#;
    assert_eq!(
        run(list.clone(), ty),
        vec![array(&[1, 2]), no(NULL), array(&[]), no(NULL)]
    );
    let rejects = encode_with(&batch(list), &schema_of(ty), &PlanOptions::default()).rejects;
    assert_eq!(
        (rejects[0].column.as_str(), rejects[1].column.as_str()),
        ("f", "f[]")
    );

    // Below a null list lies a value that can't be an int: nobody sees it.
    let field = Arc::new(Field::new("item", DataType::Int64, true));
    let values = Arc::new(Int64Array::from(vec![1, i64::MAX, 2, i64::MAX]));
    let nulls = Some(NullBuffer::from(vec![true, false, true, true]));
    let offsets = OffsetBuffer::new(vec![0_i64, 1, 2, 3, 4].into());
    let large = LargeListArray::new(Arc::clone(&field), offsets, values.clone(), nulls.clone());
    assert_eq!(
        run(large, ty),
        vec![
            array(&[1]),
            no(NULL),
            array(&[2]),
            no("out of range of int")
        ]
    );
    let optional = OffsetBuffer::new(vec![0, 1, 2, 3, 3].into());
    let optional = ListArray::new(Arc::clone(&field), optional, values.clone(), nulls.clone());
    let found = run(optional, &format!("[\"null\", {ty}]"));
    assert_eq!(found[1], Ok(Value::Union(0, Box::new(Value::Null))));
    assert!(found.iter().all(Result::is_ok), "{found:?}");
    let fixed = FixedSizeListArray::new(field, 1, values, nulls);
    assert_eq!(
        run(fixed.slice(1, 3), ty),
        vec![no(NULL), array(&[2]), no("out of range of int")]
    );
}

#[test]
fn structs_and_maps() {
    let ty = r#"{"type": "record", "name": "S", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "int", "default": 4}]}"#;
    let fields = Fields::from(vec![Field::new("A", DataType::Float64, true)]);
    let column = Arc::new(Float64Array::from(vec![1.0, 0.5, 0.5]));
    let array = StructArray::new(
        fields,
        vec![column],
        Some(NullBuffer::new(BooleanBuffer::from(vec![
            true, false, true,
        ]))),
    );
    let record = Value::Record(vec![
        ("a".into(), Value::Int(1)),
        ("b".into(), Value::Int(4)),
    ]);
    assert_eq!(
        run(array.clone(), ty),
        vec![Ok(record.clone()), no(NULL), no("not a whole number")]
    );
    let nullable = run(array, &format!("[\"null\", {ty}]"));
    assert_eq!(nullable[0], Ok(Value::Union(1, Box::new(record))));
    assert_eq!(nullable[1], Ok(Value::Union(0, Box::new(Value::Null))));

    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    builder.keys().append_value("k");
    builder.values().append_value(5);
    builder.append(true).unwrap();
    builder.append(true).unwrap();
    builder.keys().append_value("n");
    builder.values().append_null();
    builder.append(true).unwrap();
    let found = run(builder.finish(), r#"{"type": "map", "values": "long"}"#);
    let one = Value::Map([("k".to_owned(), Value::Long(5))].into());
    assert_eq!(found, vec![Ok(one), Ok(Value::Map([].into())), no(NULL)]);
}

#[test]
fn nulls_and_unions() {
    let null = || Ok(Value::Union(0, Box::new(Value::Null)));
    assert_eq!(
        run(NullArray::new(2), "[\"null\", \"int\"]"),
        vec![null(), null()]
    );
    assert_eq!(
        run(NullArray::new(2), "\"null\""),
        vec![Ok(Value::Null), Ok(Value::Null)]
    );
    assert_eq!(run(NullArray::new(1), "\"int\""), vec![no(NULL)]);
    // The branch that fits exactly is taken, wherever it stands.
    let ints = Int64Array::from(vec![Some(1), None]);
    let found = run(ints, "[\"int\", \"null\", \"string\", \"long\"]");
    assert_eq!(found[0], Ok(Value::Union(3, Box::new(Value::Long(1)))));
    assert_eq!(found[1], Ok(Value::Union(1, Box::new(Value::Null))));
    assert_eq!(
        run(Int64Array::from(vec![None]), "[\"int\"]"),
        vec![no(NULL)]
    );
}

#[test]
fn one_reject_a_row_bounded_and_in_order() {
    let long = "é".repeat(500);
    let schema = Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
    ]);
    let a = Int64Array::from(vec![Some(1), Some(i64::MAX), None]);
    let b = StringArray::from(vec![
        Some(long.as_str()),
        Some("x"),
        Some("2013-01-01T00:00:00Z"),
    ]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(a), Arc::new(b)]).unwrap();
    let json = format!(
        r#"{{"type": "record", "name": "R", "fields": [{{"name": "b", "type": {MILLIS}}}, {{"name": "a", "type": "int"}}]}}"#
    );
    let encoded = encode_with(&batch, &json, &PlanOptions::default());
    let found: Vec<_> = encoded
        .rejects
        .iter()
        .map(|r| (r.row, r.column.as_str()))
        .collect();
    assert_eq!(found, vec![(0, "b"), (1, "b"), (2, "a")]);
    assert_eq!(encoded.rejects[0].value.chars().count(), 200);
    assert_eq!(
        (
            encoded.rejects[1].value.as_str(),
            encoded.rejects[2].value.as_str()
        ),
        ("x", "null")
    );
    assert!(encoded.is_empty() && encoded.iter().next().is_none());
}

#[test]
fn no_rows_no_columns() {
    let json = r#"{"type": "record", "name": "R", "fields": []}"#;
    let options = RecordBatchOptions::new().with_row_count(Some(3));
    let batch =
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    assert_eq!(encode_with(&batch, json, &PlanOptions::default()).len(), 3);
    assert!(run(Int32Array::from(Vec::<i32>::new()), "\"int\"").is_empty());
    let _ = run(
        PrimitiveArray::<Int32Type>::from(vec![Some(3), None]),
        "[\"null\", \"int\"]",
    );
}

#[test]
fn a_long_string() {
    let text = "x".repeat(64 << 20);
    assert_eq!(
        run(StringArray::from(vec![text.as_str()]), "\"string\""),
        vec![Ok(Value::String(text))]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// The rows that pass are those for which the slow reference, in 128 bits, says so.
    #[test]
    fn whole_floats_and_only_they(
        values in prop::collection::vec(prop_oneof![
            any::<f64>(), (-5_000..5_000_i32).prop_map(|v| f64::from(v) / 2.0),
            any::<i64>().prop_map(|v| v as f64), any::<i32>().prop_map(f64::from),
            Just(f64::NAN), Just(f64::NEG_INFINITY),
        ], 0..50),
        valid in prop::collection::vec(any::<bool>(), 50),
    ) {
        let nulls = NullBuffer::from(valid[..values.len()].to_vec());
        let array = Float64Array::new(values.clone().into(), Some(nulls));
        let fits = |v: f64, low: i128, high: i128| {
            v.is_finite() && v.trunc() == v && v.abs() < 1e30 && (low..=high).contains(&(v as i128))
        };
        for (i, found) in run(array.clone(), "\"int\"").into_iter().enumerate() {
            let expected = valid[i] && fits(values[i], i32::MIN.into(), i32::MAX.into());
            prop_assert_eq!(found.ok(), expected.then(|| Value::Int(values[i] as i32)));
        }
        for (i, found) in run(array, "\"long\"").into_iter().enumerate() {
            let expected = valid[i] && fits(values[i], i64::MIN.into(), i64::MAX.into());
            prop_assert_eq!(found.ok(), expected.then(|| Value::Long(values[i] as i64)));
        }
    }

    #[test]
    fn decimals_as_numbers_of_128_bits(
        values in prop::collection::vec(prop_oneof![-100_000..100_000_i128, -(10_i128.pow(18))..10_i128.pow(18)], 1..20),
        from in 0..6_i8, precision in 1..18_usize, scale in any::<prop::sample::Index>(),
    ) {
        let scale = scale.index(precision + 1);
        let array = Decimal128Array::from(values.clone()).with_precision_and_scale(38, from).unwrap();
        let ty = format!(r#"{{"type": "bytes", "logicalType": "decimal", "precision": {precision}, "scale": {scale}}}"#);
        for (v, found) in values.into_iter().zip(run(array, &ty)) {
            // v / 10^from = expected / 10^scale
            let numerator = v * ten_to(scale);
            let whole = numerator % ten_to(from as usize) == 0;
            let moved = numerator / ten_to(from as usize);
            let expected = (whole && moved.abs() < ten_to(precision))
                .then(|| Value::Decimal(apache_avro::Decimal::from(common::decimal_bytes(moved, None))));
            prop_assert_eq!(found.ok(), expected);
        }
    }
}
