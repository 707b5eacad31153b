//! Tables as large, as empty and as odd as they come.

use std::sync::Arc;

use apache_avro::types::Value;
use arrow_array::types::Int32Type;
use arrow_array::*;
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use kappaflow_avro::*;

mod common;

use common::rules::{batch, run, schema_of};
use common::{encode_with, values};

#[test]
fn values_that_no_calendar_has_are_shown() {
    // The last second that a calendar of the formatter has, in a zone where it is already over.
    let at = |v: i64, zone: &str| TimestampSecondArray::from(vec![v]).with_timezone(zone);
    let nanos = r#"{"type": "long", "logicalType": "timestamp-nanos"}"#;
    let value = |array: TimestampSecondArray| {
        let encoded = encode_with(&batch(array), &schema_of(nanos), &PlanOptions::default());
        encoded.rejects[0].value.clone()
    };
    assert_eq!(
        value(at(8_210_266_876_799, "+14:00")),
        "+262142-12-31T23:59:59Z"
    );
    assert_eq!(
        value(at(-8_334_601_228_800, "-14:00")),
        "-262143-01-01T00:00:00Z"
    );
    assert_eq!(
        value(at(253_402_300_800, "Europe/Berlin")),
        "+10000-01-01T00:00:00Z"
    );
    assert_eq!(value(at(i64::MAX, "UTC")), "(unprintable)Z");
    let extremes = [i64::MIN, i64::MIN + 1, -1, i64::MAX];
    let duration = r#"{"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}"#;
    let date = r#"{"type": "int", "logicalType": "date"}"#;
    for results in [
        run(DurationSecondArray::from(extremes.to_vec()), duration),
        run(DurationMillisecondArray::from(extremes.to_vec()), duration),
        run(DurationMicrosecondArray::from(extremes.to_vec()), duration),
        run(DurationNanosecondArray::from(extremes.to_vec()), duration),
        run(Date64Array::from(extremes.to_vec()), date),
        run(
            Time64NanosecondArray::from(extremes.to_vec()),
            r#"{"type": "long", "logicalType": "time-micros"}"#,
        ),
    ] {
        assert!(results.iter().all(Result::is_err), "{results:?}");
    }
}

#[test]
fn a_decimal_beyond_an_int_is_out_of_range_of_int() {
    let decimals = Decimal128Array::from(vec![10_i128.pow(30), 30_000_000_000])
        .with_precision_and_scale(38, 1)
        .unwrap();
    let no = Err("out of range of int".to_owned());
    assert_eq!(run(decimals, "\"int\""), [no.clone(), no]);
}

#[test]
fn ten_thousand_columns() {
    const N: usize = 10_000;
    let fields: Vec<_> = (0..N)
        .map(|i| format!(r#"{{"name": "Field{i}", "type": ["null", "long"]}}"#))
        .collect();
    let json = format!(
        r#"{{"type": "record", "name": "R", "fields": [{}]}}"#,
        fields.join(",")
    );
    let schema = AvroSchema::parse(&json).unwrap();
    // In another case, and in another order, so that each is looked for.
    let names: Vec<_> = (0..N).rev().map(|i| format!("field{i}")).collect();
    let columns: Vec<ArrayRef> = (0..N as i64)
        .rev()
        .map(|i| Arc::new(Int64Array::from(vec![Some(i), None])) as ArrayRef)
        .collect();
    let arrow: Vec<_> = names
        .iter()
        .map(|n| Field::new(n, DataType::Int64, true))
        .collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(arrow)), columns).unwrap();
    let plan = CoercionPlan::new(rows.schema_ref(), &schema, &PlanOptions::default()).unwrap();
    assert_eq!(plan.describe().len(), N);
    let encoded = Encoder::new(plan, 1).encode(&rows).unwrap();
    assert_eq!((encoded.len(), encoded.rejects.len()), (2, 0));
    let mut decoder = Decoder::new(&schema).unwrap();
    for (_, message) in encoded.iter() {
        decoder.push(framing::split(message).unwrap().1).unwrap();
    }
    let decoded = decoder.flush().unwrap();
    assert_eq!(decoded.num_columns(), N);
    for (i, column) in decoded.columns().iter().enumerate() {
        assert_eq!(
            column.as_ref(),
            &Int64Array::from(vec![Some(i as i64), None]) as &dyn Array
        );
    }
    // A message about so many columns can still be read.
    let none = Schema::empty();
    let other = Schema::new(
        (0..N)
            .map(|i| Field::new(format!("c{i}"), DataType::Null, true))
            .collect::<Vec<_>>(),
    );
    for (arrow, length) in [(none, 200), (other, 600)] {
        let error = CoercionPlan::new(&arrow, &schema, &PlanOptions::default()).unwrap_err();
        assert!(error.to_string().len() < length, "{error}");
    }
}

#[test]
fn nothing_of_rows_or_columns() {
    let schema = AvroSchema::parse(r#"{"type": "record", "name": "R", "fields": []}"#).unwrap();
    let some = arrow_array::RecordBatchOptions::new().with_row_count(Some(3));
    let rows = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &some).unwrap();
    let plan = CoercionPlan::new(rows.schema_ref(), &schema, &PlanOptions::default()).unwrap();
    let encoded = Encoder::new(plan, 1).encode(&rows).unwrap();
    assert_eq!(encoded.buffer, [0, 0, 0, 0, 1].repeat(3));
    assert_eq!(
        (encoded.rows, encoded.offsets),
        (vec![0, 1, 2], vec![0, 5, 10, 15])
    );
    let mut decoder = Decoder::new(&schema).unwrap();
    assert_eq!(decoder.push(&[]), Ok(()));
    assert_eq!(
        decoder.push(&[0]).unwrap_err().to_string(),
        "1 bytes follow the last field; the message was written with another schema"
    );
    assert_eq!(decoder.flush().unwrap().num_rows(), 1);

    let empty = encode_with(
        &batch(Int32Array::from(Vec::<i32>::new())),
        &schema_of("\"int\""),
        &PlanOptions::default(),
    );
    assert!(empty.is_empty() && empty.rejects.is_empty());
}

#[test]
fn all_null_columns() {
    let no: Result<(), _> = Err(common::rules::NULL.to_owned());
    let null = Value::Union(0, Box::new(Value::Null));
    for array in [
        Arc::new(NullArray::new(2)) as ArrayRef,
        Arc::new(Int32Array::new_null(2)),
        Arc::new(DictionaryArray::<Int32Type>::new(
            Int32Array::new_null(2),
            Arc::new(Int32Array::new_null(0)),
        )),
    ] {
        let rows = common::rules::batch_of(array);
        let results = |ty: &str| {
            let encoded = encode_with(&rows, &schema_of(ty), &PlanOptions::default());
            let reasons: Vec<_> = encoded.rejects.iter().map(|r| r.reason.clone()).collect();
            (values(&encoded, &schema_of(ty), 2), reasons)
        };
        let (encoded, reasons) = results("\"int\"");
        assert_eq!(
            (encoded, reasons.into_iter().map(Err).collect::<Vec<_>>()),
            (vec![None, None], vec![no.clone(), no.clone()])
        );
        let (encoded, reasons) = results(r#"["null", "int"]"#);
        let row = Value::Record(vec![("f".to_owned(), null.clone())]);
        assert_eq!(
            (encoded, reasons.len()),
            (vec![Some(row.clone()), Some(row)], 0)
        );
    }
}

#[test]
fn garbage_below_nulls_is_not_looked_at() {
    let nulls = || Some(NullBuffer::from(vec![false, true, false]));
    let null = || Ok(Value::Union(0, Box::new(Value::Null)));
    let some = |v| Ok(Value::Union(1, Box::new(v)));
    let garbage = Int64Array::new(vec![i64::MAX, 7, i64::MIN].into(), nulls());
    assert_eq!(
        run(garbage, r#"["null", "int"]"#),
        [null(), some(Value::Int(7)), null()]
    );
    let floats = Float64Array::new(vec![f64::NAN, 7.0, 0.5].into(), nulls());
    assert_eq!(
        run(floats, r#"["null", "long"]"#),
        [null(), some(Value::Long(7)), null()]
    );
    let offsets = || OffsetBuffer::new(ScalarBuffer::from(vec![0, 2, 3, 5]));
    let bytes = BinaryArray::new(
        offsets(),
        vec![0xff, 0xff, b'a', 0xff, 0xff].into(),
        nulls(),
    );
    assert_eq!(
        run(bytes, r#"["null", "string"]"#),
        [null(), some(Value::String("a".into())), null()]
    );
    let keys = Int32Array::new(vec![i32::MAX, 0, -5].into(), nulls());
    let dictionary = DictionaryArray::new(keys, Arc::new(StringArray::from(vec!["a"])));
    assert_eq!(
        run(dictionary, r#"["null", "string"]"#),
        [null(), some(Value::String("a".into())), null()]
    );
    // Elements of a list that is null, bad and null themselves.
    let item = Arc::new(Field::new("item", DataType::Int64, true));
    let items = Int64Array::from(vec![Some(i64::MAX), None, Some(7), None, Some(i64::MIN)]);
    let list = ListArray::new(item, offsets(), Arc::new(items), nulls());
    let expected = Value::Array(vec![Value::Int(7)]);
    assert_eq!(
        run(list, r#"["null", {"type": "array", "items": "int"}]"#),
        [null(), some(expected), null()]
    );
}

#[test]
fn a_dictionary_of_values_of_no_size_is_no_panic() {
    let values = FixedSizeBinaryArray::try_new_with_len(0, vec![0; 0].into(), None, 1).unwrap();
    let dictionary = DictionaryArray::new(Int32Array::from(vec![0, 0]), Arc::new(values));
    let rows = batch(dictionary);
    let schema = AvroSchema::parse(&schema_of("\"bytes\"")).unwrap();
    let plan = CoercionPlan::new(rows.schema_ref(), &schema, &PlanOptions::default()).unwrap();
    assert_eq!(
        Encoder::new(plan, 1).encode(&rows).unwrap_err().to_string(),
        "column f: a dictionary of values of no size"
    );
}

#[test]
fn batches_of_another_schema() {
    let schema = AvroSchema::parse(&schema_of("\"long\"")).unwrap();
    let first = batch(Int32Array::from(vec![1]));
    let plan = CoercionPlan::new(first.schema_ref(), &schema, &PlanOptions::default()).unwrap();
    let mut encoder = Encoder::new(plan, 1);
    assert_eq!(encoder.encode(&first).unwrap().len(), 1);
    for (other, message) in [
        (
            batch(Int64Array::from(vec![1])),
            "the batch doesn't have the planned schema: column f of type Int64 stands where f of type Int32 was planned; make a new plan for it",
        ),
        (
            RecordBatch::new_empty(Arc::new(Schema::empty())),
            "the batch doesn't have the planned schema: it has 0 columns, not 1; make a new plan for it",
        ),
        (
            RecordBatch::try_from_iter([("g", Arc::new(Int32Array::from(vec![1])) as ArrayRef)])
                .unwrap(),
            "the batch doesn't have the planned schema: column g of type Int32 stands where f of type Int32 was planned; make a new plan for it",
        ),
    ] {
        assert_eq!(encoder.encode(&other).unwrap_err().to_string(), message);
    }
    // What is only said otherwise is the same: nullability, and a schema that is another object.
    let not_null = Schema::new(vec![Field::new("f", DataType::Int32, false)]);
    let same = RecordBatch::try_new(
        Arc::new(not_null),
        vec![Arc::new(Int32Array::from(vec![2]))],
    )
    .unwrap();
    assert_eq!(encoder.encode(&same).unwrap().len(), 1);
    assert_eq!(encoder.encode(&first).unwrap().len(), 1);
}

#[test]
fn a_string_of_64_megabytes() {
    const SIZE: usize = 64 << 20;
    let long = "é".repeat(SIZE / 2);
    let json = schema_of("\"string\"");
    for array in [
        Arc::new(StringArray::from(vec!["a", &long, "b"])) as ArrayRef,
        Arc::new(StringViewArray::from(vec!["a", &long, "b"])),
        Arc::new(BinaryArray::from(vec![&b"a"[..], long.as_bytes(), b"b"])),
    ] {
        let encoded = encode_with(
            &common::rules::batch_of(array),
            &json,
            &PlanOptions::default(),
        );
        assert_eq!(encoded.buffer.len(), 3 * 5 + 2 + (4 + SIZE) + 2);
        let mut decoder = Decoder::new(&AvroSchema::parse(&json).unwrap()).unwrap();
        for (_, message) in encoded.iter() {
            decoder.push(&message[5..]).unwrap();
        }
        assert!(
            decoder.flush().unwrap().column(0).as_ref()
                == &StringArray::from(vec!["a", &long, "b"]) as &dyn Array
        );
    }
    // As a value that is refused it is shown in part.
    let mut broken = long.into_bytes();
    broken.push(0xff);
    let rows = batch(BinaryArray::from(vec![&broken[..], b"b"]));
    let encoded = encode_with(&rows, &json, &PlanOptions::default());
    let [reject] = &encoded.rejects[..] else {
        panic!("{:?}", encoded.rejects)
    };
    assert_eq!((reject.row, &*reject.reason), (0, "not UTF-8"));
    assert_eq!(reject.value, format!("{}…", "c3a9".repeat(49) + "c3"));
    let symbols = batch(StringArray::from(vec!["x".repeat(SIZE)]));
    let ty = r#"{"type": "enum", "name": "E", "symbols": ["X"]}"#;
    let encoded = encode_with(&symbols, &schema_of(ty), &PlanOptions::default());
    assert_eq!(encoded.rejects[0].value, format!("{}…", "x".repeat(199)));
    assert_eq!(encoded.rejects[0].reason, "not a symbol of enum E");
}

#[test]
fn slices_of_everything() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..20).map(|i| (i % 3 != 0).then(|| vec![Some(i), Some(i + 1)])),
    );
    let ty = r#"["null", {"type": "array", "items": "int"}]"#;
    let whole = run(list.clone(), ty);
    for (from, len) in [(0, 20), (3, 9), (7, 13), (19, 1), (20, 0)] {
        assert_eq!(run(list.slice(from, len), ty), whole[from..from + len]);
    }
    let zoned = TimestampMillisecondArray::from(
        (0..20)
            .map(|i| (i % 4 != 1).then_some(i))
            .collect::<Vec<_>>(),
    );
    let ty = r#"["null", {"type": "long", "logicalType": "local-timestamp-micros"}]"#;
    let whole = run(zoned.clone(), ty);
    assert_eq!(
        zoned.data_type(),
        &DataType::Timestamp(TimeUnit::Millisecond, None)
    );
    assert_eq!(run(zoned.slice(5, 11), ty), whole[5..16]);
}
