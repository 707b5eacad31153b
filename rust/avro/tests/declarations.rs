//! What a field declares: each key where it means something, what it does there, and its refusal where it doesn't.

mod common;

use std::sync::Arc;

use apache_avro::types::Value;
use arrow_array::builder::{
    Float32Builder, Float64Builder, ListBuilder, MapBuilder, StringBuilder,
};
use arrow_array::*;
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use common::declared::*;
use common::rules::*;
use kappaflow_avro::*;

#[test]
fn units_of_durations() {
    let ms = declared(serde_json::json!({"unit": "ms"}));
    let cut = declared(serde_json::json!({"unit": "ms", "lossy": "truncate"}));
    let micros = || DurationMicrosecondArray::from(vec![5_000, -5_001]);
    let found = run_with(micros(), "\"long\"", &ms);
    assert_eq!(found, vec![Ok(Value::Long(5)), no("would lose precision")]);
    assert_eq!(run_with(micros(), "\"int\"", &cut), ok([5, -6], Value::Int));
    let seconds = DurationSecondArray::from(vec![3, i64::MAX]);
    let expected = vec![Ok(Value::Int(3_000)), no("out of range of int")];
    assert_eq!(run_with(seconds.clone(), "\"int\"", &ms), expected);
    let ns = declared(serde_json::json!({"unit": "ns"}));
    let expected = vec![Ok(Value::Long(3_000_000_000)), no("out of range of long")];
    assert_eq!(run_with(seconds.clone(), "\"long\"", &ns), expected);
    let s = declared(serde_json::json!({"unit": "s"}));
    let rows = plan(
        seconds.data_type().clone(),
        &schema_of("[\"null\", \"long\"]"),
        &s,
    )
    .unwrap();
    assert_eq!(
        (rows[0].rule, &rows[0].declared[..]),
        (Certainty::Exact, &["unit = \"s\"".to_owned()][..])
    );
    let error = refused(
        DataType::Duration(TimeUnit::Second),
        "\"long\"",
        &PlanOptions::default(),
    );
    assert!(matches!(error, PlanError::UnitNeeded { .. }), "{error}");
}

#[test]
fn zones_with_clocks_that_are_set() {
    let berlin = declared(serde_json::json!({"zone": "Europe/Berlin"}));
    // Winter, summer, an hour that was skipped, an hour that came twice.
    let texts = [
        "2021-01-01 00:00:00",
        "2021-07-01 00:00:00",
        "2021-03-28 02:30:00",
        "2021-10-31 02:30:00",
    ];
    let expected = vec![
        Ok(Value::TimestampMillis(1_609_455_600_000)),
        Ok(Value::TimestampMillis(1_625_090_400_000)),
        no("non-existent local time: the zone's clocks were set forward over it"),
        no("ambiguous local time: the zone's clocks were set back over it"),
    ];
    assert_eq!(
        run_with(StringArray::from(texts.to_vec()), MILLIS, &berlin),
        expected
    );
    let seconds = [1_609_459_200, 1_625_097_600, 1_616_898_600, 1_635_647_400];
    let naive = TimestampSecondArray::from(seconds.to_vec());
    assert_eq!(run_with(naive, MILLIS, &berlin), expected);
    let far = TimestampSecondArray::from(vec![i64::MAX / 1_000]);
    assert_eq!(
        run_with(far, MILLIS, &berlin),
        vec![no("out of range of the calendar")]
    );
    // An instant is read by the clocks of a zone without fail, and says so once it is declared.
    let local = r#"{"type": "long", "logicalType": "local-timestamp-millis"}"#;
    let instants =
        TimestampSecondArray::from(vec![1_635_640_200, 1_635_643_800]).with_timezone("UTC");
    let twice = ok([1_635_647_400_000; 2], Value::LocalTimestampMillis);
    assert_eq!(run_with(instants, local, &berlin), twice);
    let days = Date32Array::from(vec![18_628]);
    let found = run_with(days.clone(), MILLIS, &berlin);
    assert_eq!(found, ok([1_609_455_600_000], Value::TimestampMillis));
    let error = refused(DataType::Date32, MILLIS, &PlanOptions::default());
    assert!(matches!(error, PlanError::ZoneNeeded { .. }), "{error}");
    let utc = plan(
        DataType::Date32,
        &schema_of(&format!("[\"null\", {MILLIS}]")),
        &zone("UTC"),
    );
    assert_eq!(utc.unwrap()[0].rule, Certainty::Exact);
}

#[test]
fn nan_as_null() {
    let null = declared(serde_json::json!({"nan": "null"}));
    let floats = || Float64Array::from(vec![Some(1.0), Some(f64::NAN), None, Some(f64::INFINITY)]);
    let union = |branch, v| Ok(Value::Union(branch, Box::new(v)));
    let expected = vec![
        union(1, Value::Int(1)),
        union(0, Value::Null),
        union(0, Value::Null),
        no("infinite"),
    ];
    assert_eq!(run_with(floats(), "[\"null\", \"int\"]", &null), expected);
    let found = run_with(floats(), "[\"null\", \"double\"]", &null);
    assert_eq!(found[1], union(0, Value::Null));
    for array in [
        Arc::new(Float32Array::from(vec![f32::NAN])) as ArrayRef,
        arrow_cast::cast(&Float32Array::from(vec![f32::NAN]), &DataType::Float16).unwrap(),
    ] {
        let found = run_with(array, "[\"null\", \"double\"]", &null);
        assert_eq!(found, vec![union(0, Value::Null)]);
    }
    let rows = plan(
        DataType::Float64,
        &schema_of("[\"null\", \"double\"]"),
        &null,
    )
    .unwrap();
    assert_eq!(
        (rows[0].rule, &rows[0].declared[..]),
        (Certainty::Lossy, &["nan = \"null\"".to_owned()][..])
    );
    let error = refused(DataType::Float64, "\"double\"", &null);
    assert!(
        matches!(
            error,
            PlanError::Useless {
                declaration: "nan",
                ..
            }
        ),
        "{error}"
    );
}

fn with_default(ty: &str, default: &str) -> String {
    format!(
        r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": {ty}, "default": {default}}}]}}"#
    )
}

#[test]
fn null_as_default() {
    let options = declared(serde_json::json!({"null": "default", "nan": "null"}));
    let batch = batch(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN)]));
    let doubles = |json: &str| {
        let encoded = common::encode_with(&batch, json, &options);
        let found = common::values(&encoded, json, 3).into_iter();
        found
            .map(|v| match v {
                Some(Value::Record(fields)) => fields[0].1.clone(),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    let expected = [1.5, -1.0, -1.0].map(Value::Double);
    assert_eq!(doubles(&with_default("\"double\"", "-1")), expected);
    let expected = expected.map(|v| Value::Union(0, Box::new(v)));
    assert_eq!(
        doubles(&with_default("[\"double\", \"null\"]", "-1")),
        expected
    );
    // A whole list, and a column of nothing.
    let only = declared(serde_json::json!({"null": "default"}));
    let json = with_default(r#"{"type": "array", "items": "int"}"#, "[7]");
    let list = ListArray::from_iter_primitive::<arrow_array::types::Int32Type, _, _>([
        None,
        Some(vec![Some(1)]),
    ]);
    let found = common::values(
        &common::encode_with(&self::batch(list), &json, &only),
        &json,
        2,
    );
    let array = |v| {
        Some(Value::Record(vec![(
            "f".into(),
            Value::Array(vec![Value::Int(v)]),
        )]))
    };
    assert_eq!(found, vec![array(7), array(1)]);
    let json = with_default("\"int\"", "7");
    let found = common::values(
        &common::encode_with(&self::batch(NullArray::new(1)), &json, &only),
        &json,
        1,
    );
    assert_eq!(
        found,
        vec![Some(Value::Record(vec![("f".into(), Value::Int(7))]))]
    );
    let rows = plan(DataType::Int32, &json, &only).unwrap();
    assert_eq!(
        (rows[0].rule, rows[0].may_reject.len()),
        (Certainty::Lossy, 0)
    );

    for (json, why) in [
        (schema_of("\"int\""), "no default"),
        (
            with_default("[\"null\", \"int\"]", "null"),
            "default is null",
        ),
    ] {
        let error = plan(DataType::Int32, &json, &only).unwrap_err();
        assert!(
            matches!(&error, PlanError::Useless { why: found, .. } if found.contains(why)),
            "{error}"
        );
    }
}

#[test]
fn declarations_without_meaning() {
    let zoned = DataType::Timestamp(TimeUnit::Second, Some("UTC".into()));
    for (arrow, ty, said) in [
        (
            DataType::Int32,
            "\"int\"",
            serde_json::json!({"zone": "UTC"}),
        ),
        (zoned, MILLIS, serde_json::json!({"zone": "UTC"})),
        (
            DataType::Int32,
            "\"long\"",
            serde_json::json!({"lossy": "round"}),
        ),
        (
            DataType::Timestamp(TimeUnit::Second, None),
            MILLIS,
            serde_json::json!({"zone": "UTC", "lossy": "round"}),
        ),
        // What a float would be cut off to is nobody's number.
        (
            DataType::Float64,
            "\"float\"",
            serde_json::json!({"lossy": "truncate"}),
        ),
        (
            DataType::Int64,
            "\"long\"",
            serde_json::json!({"unit": "ms"}),
        ),
        (
            DataType::Utf8,
            "[\"null\", \"double\"]",
            serde_json::json!({"nan": "null"}),
        ),
    ] {
        let error = refused(arrow, ty, &declared(said.clone()));
        assert!(
            matches!(error, PlanError::Useless { .. }),
            "{said}: {error}"
        );
    }
    // Nor where no column feeds the field.
    let options: PlanOptions =
        serde_json::from_str(r#"{"fields": {"f": {"zone": "UTC"}}}"#).unwrap();
    let avro = AvroSchema::parse(&with_default("\"int\"", "1")).unwrap();
    let error = CoercionPlan::new(&Schema::empty(), &avro, &options).unwrap_err();
    assert!(matches!(error, PlanError::Useless { .. }), "{error}");
}

#[test]
fn what_is_declared_for_a_list_is_for_its_items() {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Float64, true)));
    let ty = r#"{"type": "array", "items": ["null", "int"]}"#;
    let options = declared(serde_json::json!({"lossy": "truncate", "nan": "null"}));
    let rows = plan(list, &schema_of(&format!("[\"null\", {ty}]")), &options).unwrap();
    assert_eq!(rows[0].rule, Certainty::Exact);
    assert_eq!(rows[1].declared, ["nan = \"null\"", "lossy = \"truncate\""]);
    assert_eq!(rows[1].may_reject, ["infinite", "out of range of int"]);

    // And it is followed there.
    let doubles = r#"{"type": "array", "items": ["null", "double"]}"#;
    let nan = declared(serde_json::json!({"nan": "null"}));
    let item = |i| {
        Value::Union(
            i,
            Box::new(if i == 0 {
                Value::Null
            } else {
                Value::Double(1.5)
            }),
        )
    };
    let expected = Value::Array(vec![item(1), item(0), item(0)]);
    let list = |null| {
        let mut list = ListBuilder::new(Float64Builder::new());
        list.append_value([Some(1.5), Some(f64::NAN), null]);
        list.finish()
    };
    assert_eq!(run_with(list(None), doubles, &nan), [Ok(expected)]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Float32Builder::new());
    map.keys().append_value("k");
    map.values().append_value(f32::NAN);
    map.append(true).unwrap();
    let ty = r#"{"type": "map", "values": ["null", "float"]}"#;
    let expected = Value::Map([("k".to_owned(), item(0))].into());
    assert_eq!(run_with(map.finish(), ty, &nan), [Ok(expected)]);
}

#[test]
fn a_member_of_a_union_may_be_nan() {
    let member = |i: usize, array: ArrayRef| {
        let field = Field::new(format!("member{i}"), array.data_type().clone(), true);
        (Arc::new(field), array)
    };
    let members = StructArray::from(vec![
        member(
            0,
            Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(0.5), None])),
        ),
        member(1, Arc::new(StringArray::from(vec![None, None, Some("x")]))),
    ]);
    let nan = declared(serde_json::json!({"nan": "null"}));
    let value = |i, value| Ok(Value::Union(i, Box::new(value)));
    assert_eq!(
        run_with(members.clone(), r#"["null", "double", "string"]"#, &nan),
        [
            value(0, Value::Null),
            value(1, Value::Double(0.5)),
            value(2, Value::String("x".into()))
        ]
    );
    assert_eq!(
        run_with(members, r#"["double", "string"]"#, &nan)[0],
        no("no member holds a value")
    );
}

#[test]
fn strict_mode() {
    let strict = |said: serde_json::Value| {
        serde_json::from_value(serde_json::json!({"mode": "strict", "fields": {"f": said}}))
            .unwrap()
    };
    let bare = serde_json::json!({});
    let nullable = |ty: &str| schema_of(&format!("[\"null\", {ty}]"));
    assert!(
        plan(
            DataType::Int32,
            &nullable("\"long\""),
            &strict(bare.clone())
        )
        .is_ok()
    );
    let naive = DataType::Timestamp(TimeUnit::Second, None);
    let days = DataType::Date32;
    assert!(
        plan(
            days,
            &nullable(MILLIS),
            &strict(serde_json::json!({"zone": "UTC"}))
        )
        .is_ok()
    );
    for (arrow, json, said, may) in [
        (
            DataType::Int64,
            nullable("\"int\""),
            bare.clone(),
            "out of range of int",
        ),
        (
            DataType::Int32,
            schema_of("\"int\""),
            bare.clone(),
            "null where",
        ),
        (
            naive,
            nullable(MILLIS),
            serde_json::json!({"zone": "+01:00"}),
            "out of range of long",
        ),
        (
            DataType::Float64,
            nullable("\"double\""),
            serde_json::json!({"nan": "null"}),
            "nan = \"null\"",
        ),
        (
            DataType::Int64,
            nullable("\"double\""),
            serde_json::json!({"lossy": "round"}),
            "lossy = \"round\"",
        ),
    ] {
        let error = plan(arrow, &json, &strict(said)).unwrap_err();
        assert!(
            matches!(&error, PlanError::NotExact { may: found, .. } if found.contains(may)),
            "{error}"
        );
    }
    // Nested rules count as well.
    let item = Field::new("a", DataType::Int64, false);
    let array = DataType::Struct(Fields::from(vec![item]));
    let record = r#"{"type": "record", "name": "S", "fields": [{"name": "a", "type": "int"}]}"#;
    let error = plan(array, &nullable(record), &strict(bare)).unwrap_err();
    assert!(
        matches!(&error, PlanError::NotExact { column, .. } if column == "f.a"),
        "{error}"
    );
}
