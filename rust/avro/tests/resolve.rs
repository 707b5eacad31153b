//! A writer's messages as a reader's columns, case by case of the specification.

mod common;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, UInt32Type};
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray, make_array};
use arrow_cast::display::array_value_to_string;
use arrow_schema::DataType;
use kappaflow_avro::compat::IncompatibilityKind;
use kappaflow_avro::{AvroSchema, DecodeError, Decoder, ResolutionError};

fn named(fields: &str) -> AvroSchema {
    let json = format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
    AvroSchema::parse(&json).unwrap()
}

fn field(ty: &str) -> AvroSchema {
    named(&format!(r#"{{"name":"f","type":{ty}}}"#))
}

fn resolve(writer: &AvroSchema, reader: &AvroSchema, datums: &[&[u8]]) -> RecordBatch {
    let mut decoder = Decoder::with_reader(writer, reader).unwrap();
    for datum in datums {
        decoder.push(datum).unwrap();
    }
    let batch = decoder.flush().unwrap();
    assert_eq!(decoder.push_all(datums.iter().copied()), []);
    assert_eq!(decoder.flush().unwrap(), batch);
    batch
}

/// A column as text, null as "-".
fn text(column: &ArrayRef) -> Vec<String> {
    // To print a zone takes a database of them.
    let column = match column.data_type() {
        DataType::Timestamp(unit, Some(_)) => {
            let plain = DataType::Timestamp(*unit, None);
            make_array(
                column
                    .to_data()
                    .into_builder()
                    .data_type(plain)
                    .build()
                    .unwrap(),
            )
        }
        _ => column.clone(),
    };
    let value = |i| match column.is_null(i) {
        true => "-".to_owned(),
        false => array_value_to_string(&column, i).unwrap(),
    };
    (0..column.len()).map(value).collect()
}

/// What becomes of one field.
fn one(writer: &str, reader: &str, datums: &[&[u8]]) -> Vec<String> {
    text(resolve(&field(writer), &field(reader), datums).column(0))
}

fn refused(writer: &str, reader: &str, datum: &[u8]) -> String {
    let mut decoder = Decoder::with_reader(&field(writer), &field(reader)).unwrap();
    let error = decoder.push(datum).unwrap_err();
    assert!(matches!(error, DecodeError::Invalid { .. }), "{error:?}");
    assert_eq!(decoder.flush().unwrap().num_rows(), 0);
    error.to_string()
}

fn reasons(writer: &AvroSchema, reader: &AvroSchema) -> Vec<(String, IncompatibilityKind)> {
    match Decoder::with_reader(writer, reader).unwrap_err() {
        ResolutionError::Incompatible { reasons, .. } => {
            reasons.into_iter().map(|r| (r.path, r.kind)).collect()
        }
        error => panic!("{error}"),
    }
}

#[test]
fn promotions() {
    let quarter = 0.25_f32.to_le_bytes();
    for (writer, readers, datum, expected) in [
        (
            "\"int\"",
            &["\"int\"", "\"long\"", "\"float\"", "\"double\""][..],
            &[5_u8][..],
            "-3",
        ),
        (
            "\"long\"",
            &["\"long\"", "\"float\"", "\"double\""],
            &[5],
            "-3",
        ),
        ("\"float\"", &["\"float\"", "\"double\""], &quarter, "0.25"),
        ("\"string\"", &["\"string\""], &[4, b'a', b'b'], "ab"),
        ("\"bytes\"", &["\"string\""], &[4, b'a', b'b'], "ab"),
        ("\"string\"", &["\"bytes\""], &[4, b'a', b'b'], "6162"),
    ] {
        for reader in readers {
            let value = one(writer, reader, &[datum]).remove(0);
            assert_eq!(
                value.strip_suffix(".0").unwrap_or(&value),
                expected,
                "{writer} {reader}"
            );
            // Where either may be null as well, and in arrays.
            let some = [&[2], datum].concat();
            let optional = |ty: &str| format!(r#"["null",{ty}]"#);
            let values = one(&optional(writer), &optional(reader), &[&some, &[0], &some]);
            assert_eq!([&values[0], &values[1]], [&value, "-"]);
            assert_eq!(one(writer, &optional(reader), &[datum]), [&value[..]]);
            assert_eq!(one(&optional(writer), reader, &[&some]), [&value[..]]);
            let array = |ty: &str| format!(r#"{{"type":"array","items":{ty}}}"#);
            let two = [&[4], datum, datum, &[0]].concat();
            assert_eq!(
                one(&array(writer), &array(reader), &[&two]),
                [format!("[{value}, {value}]")]
            );
        }
    }
    assert!(refused("\"bytes\"", "\"string\"", &[2, 0xff]).contains("not UTF-8"));
    assert_eq!(
        reasons(&field("\"long\""), &field("\"int\"")),
        [("f".to_owned(), IncompatibilityKind::TypeMismatch)]
    );
}

#[test]
fn a_number_keeps_its_meaning() {
    let ms = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
    let us = r#"{"type":"long","logicalType":"timestamp-micros"}"#;
    let ns = r#"{"type":"long","logicalType":"timestamp-nanos"}"#;
    let local = r#"{"type":"long","logicalType":"local-timestamp-millis"}"#;
    let date = r#"{"type":"int","logicalType":"date"}"#;
    let (time_ms, time_us) = (
        r#"{"type":"int","logicalType":"time-millis"}"#,
        r#"{"type":"long","logicalType":"time-micros"}"#,
    );
    // 2 ms, as 4; 2,000 µs as 0xa0 0x1f.
    assert_eq!(one(ms, us, &[&[4]]), ["1970-01-01T00:00:00.002"]);
    assert_eq!(one(ms, ns, &[&[4]]), ["1970-01-01T00:00:00.002"]);
    assert_eq!(one(us, ms, &[&[0xa0, 0x1f]]), ["1970-01-01T00:00:00.002"]);
    assert_eq!(one(time_ms, time_us, &[&[4]]), ["00:00:00.002"]);
    // A plain number is what the reader says.
    assert_eq!(one("\"long\"", ms, &[&[4]]), ["1970-01-01T00:00:00.002"]);
    assert_eq!(one(ms, "\"long\"", &[&[4]]), ["2"]);
    assert_eq!(one(date, "\"long\"", &[&[4]]), ["2"]);
    assert_eq!(one("\"int\"", date, &[&[4]]), ["1970-01-03"]);
    assert!(refused(us, ms, &[4]).contains("2 is not a whole number of the reader's unit"));
    let far = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert!(refused(ms, ns, &far).contains("out of range in the reader's unit"));
    assert!(refused("\"long\"", time_us, &far).contains("not a time of day"));
    assert!(refused(time_ms, time_us, &[1]).contains("not a time of day"));
    for (writer, reader) in [(date, ms), (ms, local), (time_ms, ms), (time_us, ms)] {
        let found = reasons(&field(writer), &field(reader));
        assert_eq!(
            found,
            [("f".to_owned(), IncompatibilityKind::LogicalMismatch)],
            "{writer} {reader}"
        );
    }
    let uuid = r#"{"type":"string","logicalType":"uuid"}"#;
    let upper = b"\x4800112233-4455-6677-8899-AABBCCDDEEFF";
    assert_eq!(
        one("\"string\"", uuid, &[upper]),
        ["00112233-4455-6677-8899-aabbccddeeff"]
    );
    assert!(refused("\"string\"", uuid, &[2, b'x']).contains("not a uuid"));
    let fixed =
        |size: u8, more: &str| format!(r#"{{"type":"fixed","name":"F","size":{size}{more}}}"#);
    let bytes: Vec<u8> = (0..16).map(|i| i * 0x11).collect();
    let over_fixed = fixed(16, r#","logicalType":"uuid""#);
    assert_eq!(
        one(&fixed(16, ""), &over_fixed, &[&bytes]),
        ["00112233-4455-6677-8899-aabbccddeeff"]
    );
    assert_eq!(
        one(&over_fixed, &fixed(16, ""), &[&bytes]),
        ["00112233445566778899aabbccddeeff"]
    );
    let duration = fixed(12, r#","logicalType":"duration""#);
    let batch = resolve(
        &field(&fixed(12, "")),
        &field(&duration),
        &[&[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]],
    );
    let parts: Vec<_> = batch
        .column(0)
        .as_struct()
        .columns()
        .iter()
        .map(|c| c.as_primitive::<UInt32Type>().value(0))
        .collect();
    assert_eq!(parts, [1, 2, 3]);
}

#[test]
fn fields_in_any_order_with_defaults_and_without_what_is_not_asked_for() {
    let inner = r#"{"type":"record","name":"I","fields":[{"name":"x","type":"int"}]}"#;
    let skipped = format!(
        r#"{{"name":"s1","type":["null","string",{inner}]}},
           {{"name":"s2","type":{{"type":"array","items":["int","null"]}}}},
           {{"name":"s3","type":{{"type":"map","values":{{"type":"array","items":"null"}}}}}},
           {{"name":"s4","type":{{"type":"fixed","name":"F","size":3}}}},
           {{"name":"s5","type":"double"}}, {{"name":"s6","type":"boolean"}},
           {{"name":"s7","type":{{"type":"array","items":"I"}}}}"#
    );
    let writer = named(&format!(
        r#"{{"name":"a","type":"int"}},{skipped},{{"name":"b","type":"string"}}"#
    ));
    let reader = named(
        r#"{"name":"z","aliases":["b"],"type":"string"},
           {"name":"text","type":"string","default":"Zoë"},
           {"name":"none","type":["null","int"],"default":null},
           {"name":"some","type":["int","null"],"default":-1},
           {"name":"list","type":{"type":"array","items":{"type":"record","name":"D","fields":[{"name":"k","type":"long"}]}},"default":[{"k":1},{"k":2}]},
           {"name":"a","type":"long"}"#,
    );
    // Of a map two entries, of a block with its size in bytes none is looked at, and 2^40 nulls take no time.
    let datum = [
        &[2, 4, 8][..],                                                // a, s1: the record
        &[3, 4, 0xff, 0xff, 2, 0, 6, 0], // s2: 2 items in 4 bytes that nobody reads, then one of 3
        &[4, 2, b'k', 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 0, 0, 0, 0], // s3
        &[1, 2, 3],
        &[0; 8],
        &[1],
        &[2, 8, 0],
        &[4, b'h', b'i'],
    ]
    .concat();
    let batch = resolve(&writer, &reader, &[&datum, &datum]);
    let rows: Vec<Vec<String>> = batch.columns().iter().map(text).collect();
    let expected = ["hi", "Zoë", "-", "-1", "[{k: 1}, {k: 2}]", "1"];
    assert_eq!(rows, expected.map(|v| vec![v.to_owned(); 2]));
    assert_eq!(
        batch.schema(),
        Decoder::new(&reader).unwrap().arrow_schema()
    );
    // Cut anywhere, it is refused; the fault is named even where nothing is kept.
    let mut decoder = Decoder::with_reader(&writer, &reader).unwrap();
    for end in 0..datum.len() {
        decoder.push(&datum[..end]).unwrap_err();
    }
    let error = decoder.push(&[2, 9]).unwrap_err().to_string();
    assert_eq!(error, "s1: branch -5 is not in the union (at byte 2)");
    decoder.push(&datum).unwrap();
    assert_eq!(decoder.flush().unwrap(), batch.slice(0, 1));
    // Many rows with defaults, by one push and by many.
    let many = vec![&datum[..]; 1_000];
    assert_eq!(resolve(&writer, &reader, &many).num_rows(), 1_000);
}

#[test]
fn enums_by_symbol() {
    let e = |symbols: &str, more: &str| {
        format!(r#"{{"type":"enum","name":"E","symbols":[{symbols}]{more}}}"#)
    };
    let writer = e(r#""A","B","C""#, "");
    assert_eq!(
        one(&writer, &e(r#""C","B","A""#, ""), &[&[0], &[2], &[4]]),
        ["A", "B", "C"]
    );
    let fallback = e(r#""X","A""#, r#","default":"X""#);
    assert_eq!(
        one(&writer, &fallback, &[&[0], &[2], &[4]]),
        ["A", "X", "X"]
    );
    assert!(
        refused(&writer, &e(r#""A""#, ""), &[2])
            .contains("neither the writer's symbol 1 nor a default")
    );
    assert!(refused(&writer, &fallback, &[6]).contains("the writer's enum has no symbol 3"));
    assert_eq!(
        reasons(&field(&writer), &field(&e(r#""Z""#, ""))),
        [("f".to_owned(), IncompatibilityKind::EnumSymbolMissing)]
    );
}

#[test]
fn unions_on_either_side() {
    // From one to the other, in another order, by promotion.
    assert_eq!(
        one(r#"["int","null"]"#, r#"["null","long"]"#, &[&[0, 2], &[2]]),
        ["1", "-"]
    );
    assert_eq!(
        one(
            r#"["int","float","double"]"#,
            "\"double\"",
            &[&[0, 2], &[2, 0, 0, 0, 63]]
        ),
        ["1.0", "0.5"]
    );
    assert_eq!(one(r#"["int"]"#, "\"int\"", &[&[0, 2]]), ["1"]);
    assert_eq!(one("\"int\"", r#"["int"]"#, &[&[2]]), ["1"]);
    assert_eq!(one("\"null\"", r#"["null","int"]"#, &[&[]]), ["-"]);
    assert_eq!(one(r#"["null"]"#, "\"null\"", &[&[0]]), [""]);
    // A branch that the reader has no place for is the fault of its message.
    assert_eq!(one(r#"["null","int"]"#, "\"int\"", &[&[2, 2]]), ["1"]);
    assert!(
        refused(r#"["null","int"]"#, "\"int\"", &[0])
            .contains("the writer's null can't be read as int")
    );
    let found = reasons(&field(r#"["null","string"]"#), &field("\"int\""));
    assert_eq!(found.len(), 2);
    // The exact type goes before a promotion.
    let batch = resolve(
        &field(r#"["int","long"]"#),
        &field(r#"["null","long","int"]"#),
        &[&[0, 2], &[2, 4]],
    );
    let union = batch.column(0).as_struct();
    assert_eq!(text(union.column(0)), ["-", "2"]);
    assert_eq!(text(union.column(1)), ["1", "-"]);
}

#[test]
fn unions_of_many_types_are_structs_of_members() {
    let item = r#"{"type":"record","name":"I","fields":[{"name":"x","type":"int"}]}"#;
    let union = format!(r#"["string","null",{item},{{"type":"array","items":"long"}}]"#);
    let rows: [&[u8]; 6] = [&[0, 2, b'a'], &[2], &[4, 2], &[4, 4], &[6, 2, 8, 0], &[2]];
    let batch = resolve(&field(&union), &field(&union), &rows);
    let schema = batch.schema();
    assert!(schema.field(0).is_nullable());
    let members: &StructArray = batch.column(0).as_struct();
    assert_eq!(members.column_names(), ["member0", "member1", "member2"]);
    assert!(members.fields().iter().all(|f| f.is_nullable()));
    assert_eq!(text(members.column(0)), ["a", "-", "-", "-", "-", "-"]);
    assert_eq!(
        text(members.column(1)),
        ["-", "-", "{x: 1}", "{x: 2}", "-", "-"]
    );
    assert_eq!(text(members.column(2)), ["-", "-", "-", "-", "[4]", "-"]);
    assert_eq!(
        (0..6).filter(|i| members.is_null(*i)).collect::<Vec<_>>(),
        [1, 5]
    );
    // Without null the struct itself is always there; inside an array the same.
    let plain = field(r#"{"type":"array","items":["int","string"]}"#);
    let batch = resolve(&plain, &plain, &[&[6, 0, 2, 2, 2, b'b', 0, 4, 0], &[0]]);
    let items = batch.column(0).as_list::<i32>();
    assert_eq!(items.value_length(0), 3);
    let items = items.values().as_struct();
    assert_eq!(items.null_count(), 0);
    assert_eq!(
        items
            .column(0)
            .as_primitive::<Int32Type>()
            .iter()
            .collect::<Vec<_>>(),
        [Some(1), None, Some(2)]
    );
    assert_eq!(
        items
            .column(1)
            .as_string::<i32>()
            .iter()
            .collect::<Vec<_>>(),
        [None, Some("b"), None]
    );
    // A plain type becomes the member that takes it; an error in a member names it.
    let batch = resolve(&field("\"int\""), &field(r#"["string","long"]"#), &[&[2]]);
    assert_eq!(text(batch.column(0).as_struct().column(1)), ["1"]);
    assert!(
        refused(r#"["int","string"]"#, r#"["int","string"]"#, &[2, 2, 0xff])
            .starts_with("f.member1: not UTF-8")
    );
}

#[test]
fn what_cannot_be_resolved_is_listed_whole() {
    let writer = named(
        r#"{"name":"a","type":"int"},{"name":"b","type":{"type":"record","name":"I","fields":[{"name":"c","type":"int"}]}}"#,
    );
    let reader = named(
        r#"{"name":"a","type":"string"},{"name":"n","type":"int"},
           {"name":"b","type":{"type":"record","name":"I","fields":[{"name":"c","type":"boolean"},{"name":"m","type":"int"}]}}"#,
    );
    let error = Decoder::with_reader(&writer, &reader).unwrap_err();
    assert!(matches!(error, ResolutionError::Incompatible { .. }));
    assert!(
        error.to_string().starts_with(
            "what R wrote can't be read as R: a: the writer's int can't be read as string; n: "
        ),
        "{error}"
    );
    use IncompatibilityKind::{MissingDefault, NameMismatch, TypeMismatch};
    let expected = [
        ("a", TypeMismatch),
        ("n", MissingDefault),
        ("b.c", TypeMismatch),
        ("b.m", MissingDefault),
    ];
    assert_eq!(
        reasons(&writer, &reader),
        expected.map(|(p, k)| (p.to_owned(), k))
    );
    let other = AvroSchema::parse(r#"{"type":"record","name":"S","fields":[]}"#).unwrap();
    assert_eq!(reasons(&other, &reader), [(String::new(), NameMismatch)]);
    // One field can't be two.
    let twice = named(r#"{"name":"a","type":"int"},{"name":"c","aliases":["a"],"type":"int"}"#);
    assert_eq!(reasons(&writer, &twice), [("c".to_owned(), NameMismatch)]);
}

#[test]
fn values_inside_values() {
    let writer = field(
        r#"{"type":"map","values":{"type":"record","name":"I","fields":[
        {"name":"gone","type":"string"},{"name":"v","type":{"type":"array","items":["null","int"]}}]}}"#,
    );
    let reader = field(
        r#"{"type":"map","values":["null",{"type":"record","name":"I","fields":[
        {"name":"v","type":{"type":"array","items":["null","double"]}},{"name":"d","type":"long","default":7}]}]}"#,
    );
    let datum = [2, 2, b'k', 2, b'x', 4, 0, 2, 2, 0, 0];
    let batch = resolve(&writer, &reader, &[&datum, &[0], &datum]);
    assert_eq!(
        text(batch.column(0)),
        ["{k: {v: [, 1.0], d: 7}}", "{}", "{k: {v: [, 1.0], d: 7}}"]
    );
    let nested = r#"{"type":"array","items":{"type":"array","items":"long"}}"#;
    let batch = resolve(&field(nested), &field(nested), &[&[4, 2, 2, 0, 0, 0]]);
    let outer = batch.column(0).as_list::<i32>();
    assert_eq!(
        outer
            .value(0)
            .as_list::<i32>()
            .values()
            .as_primitive::<Int64Type>()
            .values(),
        &[1]
    );
    let f = resolve(&field("\"int\""), &field("\"double\""), &[&[2]]);
    assert_eq!(f.column(0).as_primitive::<Float64Type>().value(0), 1.0);
}

#[test]
fn texts_of_lists_become_optional() {
    let writer = field(r#"{"type":"array","items":"string"}"#);
    let reader = field(r#"{"type":"array","items":["null","string"]}"#);
    let long = [&[0xc8, 0x01][..], &[b'l'; 100]].concat();
    let messages: [&[u8]; 4] = [
        &[4, 2, b'a', 0, 0],
        &[0],
        // Two blocks, of which the first says its size.
        &[&[1, 0xcc, 0x01][..], &long, &[2, 4, b'b', b'c', 0]].concat(),
        &[2, 6, b'd', b'e', b'f', 0],
    ];
    let batch = resolve(&writer, &reader, &messages);
    let lists = batch.column(0).as_list::<i32>();
    assert_eq!(lists.value_offsets(), [0, 2, 2, 4, 5]);
    let found: Vec<&str> = lists.values().as_string::<i32>().iter().flatten().collect();
    assert_eq!(found, ["a", "", &"l".repeat(100), "bc", "def"]);
}
