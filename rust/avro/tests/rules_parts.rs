//! Uuids and durations, which have more than one form on either side.

mod common;

use apache_avro::types::Value;
use apache_avro::{Days, Duration, Millis, Months, Uuid};
use arrow_array::*;
use arrow_schema::{DataType, Field};
use common::rules::*;
use std::sync::Arc;

const TEXT: &str = "00112233-4455-6677-8899-aabbccddeeff";
const BYTES: u128 = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;

#[test]
fn uuids() {
    let text = StringArray::from(vec![TEXT, "not one"]);
    let bytes = FixedSizeBinaryArray::try_from_iter([BYTES.to_be_bytes()].into_iter()).unwrap();
    let binary = BinaryArray::from_vec(vec![&BYTES.to_be_bytes(), b"short"]);
    let uuid = || Ok(Value::Uuid(Uuid::from_u128(BYTES)));
    let bad = || no("not a uuid (8-4-4-4-12 hexadecimal digits)");
    let string = r#"{"type": "string", "logicalType": "uuid"}"#;
    let fixed = r#"{"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}"#;
    assert_eq!(run(text.clone(), string), vec![uuid(), bad()]);
    assert_eq!(run(text, fixed), vec![uuid(), bad()]);
    assert_eq!(run(bytes.clone(), string), vec![uuid()]);
    assert_eq!(run(bytes, fixed), vec![uuid()]);
    let found = run(binary.clone(), string);
    assert_eq!(found, vec![uuid(), no("5 bytes long, but a uuid has 16")]);
    let found = run(binary, fixed);
    assert_eq!(
        found,
        vec![uuid(), no("5 bytes long, but the fixed has 16")]
    );
}

#[test]
fn durations() {
    let ty = r#"{"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}"#;
    let duration = |months, days, millis| {
        let (months, days) = (Months::new(months), Days::new(days));
        Ok(Value::Duration(Duration::new(
            months,
            days,
            Millis::new(millis),
        )))
    };
    let part = |name: &str, values: Vec<Option<u32>>| {
        let field = Field::new(name, DataType::UInt32, true);
        (
            Arc::new(field),
            Arc::new(UInt32Array::from(values)) as ArrayRef,
        )
    };
    let parts = StructArray::from(vec![
        part("months", vec![Some(1), Some(u32::MAX)]),
        part("days", vec![Some(2), None]),
        part("millis", vec![Some(3), Some(0)]),
    ]);
    let null = no("a part of the duration is null");
    assert_eq!(run(parts, ty), vec![duration(1, 2, 3), null]);
    let micros = DurationMicrosecondArray::from(vec![5_000, 5_001, -1_000, i64::MAX - 807]);
    let expected = vec![
        duration(0, 0, 5),
        no("would lose precision"),
        no("negative, and an Avro duration is not"),
        no("out of range of duration"),
    ];
    assert_eq!(run(micros, ty), expected);
    let seconds = DurationSecondArray::from(vec![7, i64::MAX]);
    let expected = vec![duration(0, 0, 7_000), no("out of range of duration")];
    assert_eq!(run(seconds, ty), expected);
    let bytes =
        FixedSizeBinaryArray::try_from_iter([[1_u8, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]].into_iter());
    assert_eq!(run(bytes.unwrap(), ty), vec![duration(1, 2, 3)]);
}
