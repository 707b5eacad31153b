//! Nulls, unions, dictionaries, lists, structs and maps: a test a rule.

mod common;

use std::sync::Arc;

use apache_avro::types::Value;
use arrow_array::builder::{Int32Builder, ListBuilder, MapBuilder, StringBuilder};
use arrow_array::types::Int8Type;
use arrow_array::*;
use arrow_buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Fields, Schema};
use common::encode_with;
use common::rules::*;
use kappaflow_avro::PlanOptions;

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
fn no_rows_no_columns() {
    let json = r#"{"type": "record", "name": "R", "fields": []}"#;
    let options = RecordBatchOptions::new().with_row_count(Some(3));
    let batch =
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    assert_eq!(encode_with(&batch, json, &PlanOptions::default()).len(), 3);
    assert!(run(Int32Array::from(Vec::<i32>::new()), "\"int\"").is_empty());
}

#[test]
fn defaults_of_missing_columns() {
    let json = r#"{"type": "record", "name": "R", "fields": [
        {"name": "a", "type": ["null", "int"], "default": null},
        {"name": "b", "type": "long", "default": -3},
        {"name": "c", "type": "string", "default": "é"},
        {"name": "d", "type": {"type": "array", "items": "int"}, "default": [1, 2]},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["X", "Y"]}, "default": "Y"},
        {"name": "f", "type": "bytes", "default": "\u00ff"},
        {"name": "g", "type": {"type": "map", "values": "double"}, "default": {"k": 0.5}},
        {"name": "h", "type": "boolean", "default": true}]}"#;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let batch =
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    let encoded = encode_with(&batch, json, &PlanOptions::default());
    let found = common::values(&encoded, json, 1).remove(0).unwrap();
    let expected = [
        ("a", Value::Union(0, Box::new(Value::Null))),
        ("b", Value::Long(-3)),
        ("c", Value::String("é".into())),
        ("d", Value::Array(vec![Value::Int(1), Value::Int(2)])),
        ("e", Value::Enum(1, "Y".into())),
        ("f", Value::Bytes(vec![0xff])),
        (
            "g",
            Value::Map([("k".to_owned(), Value::Double(0.5))].into()),
        ),
        ("h", Value::Boolean(true)),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(found, Value::Record(expected.to_vec()));
}

#[test]
fn a_key_of_a_map_is_there_once() {
    let maps: [&[&str]; 5] = [
        &["a", "b"],
        &["a", "b", "a"],
        &[],
        &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        &["0", "1", "2", "3", "4", "5", "6", "7", "8", "0"],
    ];
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for map in maps {
        for key in map {
            builder.keys().append_value(key);
            builder.values().append_value(1);
        }
        builder.append(true).unwrap();
    }
    let found = run(builder.finish(), r#"{"type": "map", "values": "long"}"#);
    let twice = || no::<()>("a key of the map is there twice");
    let told: Vec<_> = found.into_iter().map(|found| found.map(|_| ())).collect();
    assert_eq!(told, [Ok(()), twice(), Ok(()), Ok(()), twice()]);
}

#[test]
fn a_part_of_a_duration_may_be_null() {
    let ty = r#"{"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}"#;
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
    let found = run(parts, ty);
    assert!(matches!(found[0], Ok(Value::Duration(_))), "{found:?}");
    assert_eq!(found[1], no("a part of the duration is null"));
}
