//! Schemas as bad, as large and as deep as they come, and exactly what is said of them.

use arrow_array::*;
use kappaflow_avro::*;

mod common;

use common::rules::{batch, schema_of};

fn refused(json: &str) -> String {
    AvroSchema::parse(json).unwrap_err().to_string()
}

/// The schema of a field `f` with a default.
fn defaulted(ty: &str, default: &str) -> String {
    format!(
        r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": {ty}, "default": {default}}}]}}"#
    )
}

#[test]
fn texts_that_are_no_schema() {
    for (json, message) in [
        (
            "",
            "not a valid Avro schema: it is not JSON: EOF while parsing a value at line 1 column 0",
        ),
        (
            "{\"type\": \"record\",\n oops}",
            "not a valid Avro schema: it is not JSON: key must be a string at line 2 column 2",
        ),
        (
            "<html>",
            "not a valid Avro schema: it is not JSON: expected value at line 1 column 1",
        ),
        (
            r#"{"type": "record", "name": "R"}"#,
            "not a valid Avro schema: No `fields` in record",
        ),
        (
            &schema_of("\"text\""),
            "not a valid Avro schema: Unknown primitive type: text",
        ),
        (
            &schema_of(r#"["null", ["int", "string"]]"#),
            "not a valid Avro schema: Unions may not directly contain a union",
        ),
        (
            &schema_of(r#"["int", "int"]"#),
            "not a valid Avro schema: Unions cannot contain duplicate types, found at least two Int",
        ),
        (
            &schema_of("[]"),
            "f: a union of no types is not supported; name the types that it may be",
        ),
        (
            "\"int\"",
            "the schema's top is int, but rows need a record; wrap it in a record with one field",
        ),
        (
            r#"{"type": "record", "name": "R", "fields": [{"name": "f", "type": "int"}, {"name": "f", "type": "int"}]}"#,
            "not a valid Avro schema: Duplicate field name f",
        ),
    ] {
        assert_eq!(refused(json), message, "{json}");
    }
}

#[test]
fn a_name_is_defined_once() {
    let fixed = |size| format!(r#"{{"type": "fixed", "name": "A", "size": {size}}}"#);
    let fields = |a: &str, b: &str| {
        format!(
            r#"{{"type": "record", "name": "R", "namespace": "ns", "fields": [{{"name": "a", "type": {a}}}, {{"name": "b", "type": {b}}}]}}"#
        )
    };
    let twice = |name: &str| {
        format!(
            "the name {name} is defined twice; rename one, or refer to the other by its name alone"
        )
    };
    assert_eq!(refused(&fields(&fixed(1), &fixed(2))), twice("ns.A"));
    assert_eq!(refused(&fields(&fixed(1), &fixed(1))), twice("ns.A"));
    let own = r#"{"type": "enum", "name": "R", "symbols": ["X"]}"#;
    assert_eq!(refused(&fields(own, "\"int\"")), twice("ns.R"));
    let inner = r#"{"type": "record", "name": "R", "fields": []}"#;
    assert_eq!(refused(&fields(inner, "\"int\"")), twice("ns.R"));
    // Another namespace is another name, and a name alone is a reference.
    let elsewhere = r#"{"type": "fixed", "name": "other.A", "size": 2}"#;
    assert!(AvroSchema::parse(&fields(&fixed(1), elsewhere)).is_ok());
    assert!(AvroSchema::parse(&fields(&fixed(1), "\"A\"")).is_ok());
}

#[test]
fn defaults_are_values_of_their_type() {
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 2}"#;
    let fixed = r#"{"type": "fixed", "name": "F", "size": 2}"#;
    let uuid = r#"{"type": "string", "logicalType": "uuid"}"#;
    let millis = r#"{"type": "int", "logicalType": "time-millis"}"#;
    let micros = r#"{"type": "long", "logicalType": "time-micros"}"#;
    for (ty, default, shown, name) in [
        ("\"int\"", "4000000000", "4000000000", "int"),
        ("\"int\"", "1.0", "1.0", "int"),
        (
            "\"long\"",
            "9223372036854775808",
            "9223372036854775808",
            "long",
        ),
        ("\"float\"", "1e39", "1e+39", "float"),
        ("\"string\"", "1", "1", "string"),
        ("\"bytes\"", r#""\u0100""#, "\"\u{100}\"", "bytes"),
        (fixed, "\"a\"", "\"a\"", "fixed F(2)"),
        (uuid, "\"no uuid\"", "\"no uuid\"", "uuid"),
        (millis, "-1", "-1", "time-millis"),
        (millis, "86400000", "86400000", "time-millis"),
        (micros, "86400000000", "86400000000", "time-micros"),
        (decimal, "\"\"", "\"\"", "decimal(2, 0)"),
        (decimal, "\"d\"", "\"d\"", "decimal(2, 0)"),
        (r#"["null", "int"]"#, "\"x\"", "\"x\"", "[null, int]"),
        (
            r#"{"type": "array", "items": "int"}"#,
            r#"[1, "x"]"#,
            r#"[1,"x"]"#,
            "array<int>",
        ),
        (
            r#"{"type": "record", "name": "N", "fields": [{"name": "a", "type": "int"}]}"#,
            "{}",
            "{}",
            "record N",
        ),
        (
            r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#,
            "\"B\"",
            "\"B\"",
            "enum E",
        ),
    ] {
        assert_eq!(
            refused(&defaulted(ty, default)),
            format!("f: default {shown} is not a {name}"),
        );
    }
    for (ty, default, bytes) in [
        (decimal, "\"c\"", &[2, 99][..]),
        (millis, "86399999", &[0xfe, 0xef, 0xb2, 0x52]),
        ("\"float\"", "-0.5", &[0, 0, 0, 0xbf]),
        (r#"["null", "int"]"#, "1", &[2, 2]),
    ] {
        let schema = AvroSchema::parse(&defaulted(ty, default)).unwrap();
        assert_eq!(schema.fields()[0].default.as_deref(), Some(bytes));
    }
}

/// Records of which each has the one before twice, as defaults or not.
fn doubling(records: usize, default: &str) -> String {
    let mut fields = vec![r#"{"name": "x0", "type": {"type": "record", "name": "R0", "fields": [{"name": "s", "type": "string", "default": "a string"}]}}"#.to_owned()];
    for i in 1..records {
        let part = |name| format!(r#"{{"name": "{name}", "type": "R{}"{default}}}"#, i - 1);
        let ty = format!(
            r#"{{"type": "record", "name": "R{i}", "fields": [{}, {}]}}"#,
            part("a"),
            part("b")
        );
        fields.push(format!(r#"{{"name": "x{i}", "type": {ty}}}"#));
    }
    format!(
        r#"{{"type": "record", "name": "Top", "fields": [{}]}}"#,
        fields.join(", ")
    )
}

#[test]
fn a_short_schema_can_not_stand_for_a_huge_one() {
    // Filled in one by one, the defaults of 60 such records would take longer than there is time.
    for default in ["", r#", "default": {}"#] {
        assert_eq!(
            refused(&doubling(60, default)),
            "the schema unfolds to more than 200000 types; split it, or use fewer nested references"
        );
        assert!(AvroSchema::parse(&doubling(8, default)).is_ok());
    }
    let itself =
        r#"{"type": "record", "name": "R", "fields": [{"name": "f", "type": "R", "default": {}}]}"#;
    assert_eq!(
        refused(itself),
        "R contains itself; recursive schemas can't be columns: bound the depth by spelling out the levels"
    );
    // An array of empty records, each filled from a default of 1 KiB.
    let filled = format!(
        r#"{{"type": "array", "items": {{"type": "record", "name": "N", "fields": [{{"name": "s", "type": "string", "default": "{}"}}]}}}}"#,
        "x".repeat(1 << 10)
    );
    assert_eq!(
        refused(&defaulted(
            &filled,
            &format!("[{}{{}}]", "{},".repeat(1 << 14))
        )),
        "the defaults take more than 16777216 bytes written out; make them smaller"
    );
    assert!(
        AvroSchema::parse(&defaulted(
            &filled,
            &format!("[{}{{}}]", "{},".repeat(1 << 10))
        ))
        .is_ok()
    );
}

#[test]
fn deep_schemas_are_refused_and_never_exhaust_the_stack() {
    let arrays = |levels: usize, leaf: &str| {
        format!(
            "{}{leaf}{}",
            r#"{"type": "array", "items": "#.repeat(levels),
            "}".repeat(levels)
        )
    };
    let limit =
        "not a valid Avro schema: it is not JSON: recursion limit exceeded at line 1 column ";
    for levels in [200, 1_000_000] {
        for text in ["[".repeat(levels), schema_of(&arrays(levels, "\"int\""))] {
            let message = refused(&text);
            assert!(message.starts_with(limit), "{message}");
        }
    }
    // Shallow as text: each record is of arrays of the one before.
    let chain = |records: usize| {
        let record = |i: usize| {
            let leaf = if i == 0 {
                "\"int\"".to_owned()
            } else {
                format!("\"R{}\"", i - 1)
            };
            let field = format!(r#"{{"name": "a", "type": {}}}"#, arrays(60, &leaf));
            format!(
                r#"{{"name": "x{i}", "type": {{"type": "record", "name": "R{i}", "fields": [{field}]}}}}"#
            )
        };
        let fields: Vec<_> = (0..records).map(record).collect();
        format!(
            r#"{{"type": "record", "name": "Top", "fields": [{}]}}"#,
            fields.join(", ")
        )
    };
    assert_eq!(
        refused(&chain(80)),
        "types are nested more than 128 deep; flatten the schema"
    );

    // As deep as it may be, all of it works, on a thread's usual stack.
    let schema = AvroSchema::parse(&chain(2)).unwrap();
    let mut decoder = Decoder::new(&schema).unwrap();
    let nested = |levels| [vec![2; levels], vec![14], vec![0; levels]].concat();
    let datum = [nested(60), nested(120)].concat();
    decoder.push(&datum).unwrap();
    let rows = decoder.flush().unwrap();
    let plan = CoercionPlan::new(&rows.schema(), &schema, &PlanOptions::default()).unwrap();
    let encoded = Encoder::new(plan, 1).encode(&rows).unwrap();
    assert_eq!(&encoded.buffer[5..], datum);
}

#[test]
fn a_fixed_is_not_larger_than_memory() {
    for size in ["1048577", "9223372036854775807"] {
        let fixed = format!(r#"{{"type": "fixed", "name": "F", "size": {size}}}"#);
        let decimal = format!(
            r#"{{"type": "fixed", "name": "F", "size": {size}, "logicalType": "decimal", "precision": 4}}"#
        );
        for ty in [fixed, decimal] {
            let ty = format!(r#"["null", {ty}]"#);
            assert_eq!(
                refused(&schema_of(&ty)),
                "f: a fixed of more than 1 MiB is not supported; use bytes"
            );
        }
    }
    // A null of it takes its size in a column: what can't be had is an error, and doesn't end the process.
    let nulls = BinaryArray::new_null(1 << 27);
    let batch = batch(nulls);
    let schema = AvroSchema::parse(&schema_of(
        r#"["null", {"type": "fixed", "name": "F", "size": 1048576}]"#,
    ))
    .unwrap();
    let plan = CoercionPlan::new(batch.schema_ref(), &schema, &PlanOptions::default()).unwrap();
    assert_eq!(
        Encoder::new(plan, 1)
            .encode(&batch)
            .unwrap_err()
            .to_string(),
        "the batch needs up to 140737488355328 bytes encoded, which can't be reserved; slice it"
    );
}

#[test]
fn the_canonical_form_is_the_specifications() {
    // A user's attributes have the names of Avro's own, and would make no sense as these.
    let schema = AvroSchema::parse(
        r#"{"type": "record", "name": "R", "namespace": "ns", "doc": "d", "size": "large", "fields": [
            {"name": "a", "type": {"type": "int", "logicalType": "date"}, "default": 0, "precision": "high"},
            {"name": "b", "type": {"type": "fixed", "name": "F", "size": 2, "aliases": ["G"]}},
            {"name": "c", "type": ["null", "F"], "order": "ignore"},
            {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1}},
            {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["X"], "default": "X"}},
            {"name": "f", "type": {"type": "map", "values": {"type": "array", "items": "long"}}}]}"#,
    )
    .unwrap();
    let canonical = r#"{"name":"ns.R","type":"record","fields":[{"name":"a","type":"int"},{"name":"b","type":{"name":"ns.F","type":"fixed","size":2}},{"name":"c","type":["null","ns.F"]},{"name":"d","type":"bytes"},{"name":"e","type":{"name":"ns.E","type":"enum","symbols":["X"]}},{"name":"f","type":{"type":"map","values":{"type":"array","items":"long"}}}]}"#;
    assert_eq!(schema.canonical(), canonical);
    assert_eq!(AvroSchema::parse(canonical).unwrap().canonical(), canonical);
}
