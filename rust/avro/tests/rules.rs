//! Text, bytes and time: a test a rule, with values that pass, values that must not, and the reason they are given.

mod common;

use std::sync::Arc;

use apache_avro::types::Value;
use arrow_array::*;
use arrow_schema::{DataType, Field, Schema};
use common::encode_with;
use common::rules::*;
use kappaflow_avro::PlanOptions;

const MILLIS: &str = r#"{"type": "long", "logicalType": "timestamp-millis"}"#;
const NANOS: &str = r#"{"type": "long", "logicalType": "timestamp-nanos"}"#;
const LOCAL: &str = r#"{"type": "long", "logicalType": "local-timestamp-micros"}"#;

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
fn a_long_string() {
    let text = "x".repeat(64 << 20);
    assert_eq!(
        run(StringArray::from(vec![text.as_str()]), "\"string\""),
        vec![Ok(Value::String(text))]
    );
}
