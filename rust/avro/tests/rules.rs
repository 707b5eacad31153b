//! Text and bytes of every layout and of slices, and rejects: one a row, bounded, in order.

mod common;

use std::sync::Arc;

use apache_avro::types::Value;
use arrow_array::*;
use arrow_schema::{DataType, Field, Schema};
use common::encode_with;
use common::rules::*;
use kappaflow_avro::PlanOptions;

const MILLIS: &str = r#"{"type": "long", "logicalType": "timestamp-millis"}"#;

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
        vec![Ok(Value::Fixed(2, b"ab".to_vec())), no("not 2 bytes long")]
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
