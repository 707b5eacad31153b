//! Schemas that writers of the fuzzed messages have, and whose JSON is changed: together they have every type.

/// Each is a record.
pub const SCHEMAS: [&str; 12] = [
    r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "string"}]}"#,
    r#"{"type": "record", "name": "R", "fields": [
        {"name": "a", "type": "null"}, {"name": "b", "type": "boolean"}, {"name": "c", "type": "long"},
        {"name": "d", "type": "float"}, {"name": "e", "type": "double"}, {"name": "f", "type": "bytes"}]}"#,
    r#"{"type": "record", "name": "R", "fields": [
        {"name": "a", "type": ["null", "string"]}, {"name": "b", "type": ["long", "null"], "default": 0},
        {"name": "c", "type": ["null", {"type": "fixed", "name": "F", "size": 7}], "default": null}]}"#,
    r#"{"type": "record", "name": "R", "namespace": "ns", "fields": [
        {"name": "a", "type": {"type": "enum", "name": "E", "symbols": ["A", "B", "C"], "default": "A"}},
        {"name": "b", "type": {"type": "fixed", "name": "F", "size": 3}},
        {"name": "c", "type": "ns.F", "aliases": ["d"]}, {"name": "e", "type": ["null", "E"]}]}"#,
    r#"{"type": "record", "name": "R", "fields": [
        {"name": "a", "type": {"type": "array", "items": "int"}},
        {"name": "b", "type": {"type": "map", "values": "string"}},
        {"name": "c", "type": {"type": "array", "items": {"type": "map", "values": ["null", "double"]}}}]}"#,
    r#"{"type": "record", "name": "R", "fields": [
        {"name": "a", "type": {"type": "array", "items": "null"}},
        {"name": "b", "type": {"type": "array", "items": {"type": "record", "name": "N", "fields": []}}},
        {"name": "c", "type": {"type": "array", "items": {"type": "array", "items": "boolean"}}}]}"#,
    r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": ["null", {"type": "record", "name": "N", "fields": [
        {"name": "a", "type": "string"},
        {"name": "b", "type": {"type": "array", "items": {"type": "record", "name": "M", "fields": [
            {"name": "a", "type": ["null", "int"]}, {"name": "b", "type": "bytes"}]}}}]}]}, {"name": "b", "type": "N"}]}"#,
    r#"{"type": "record", "name": "R", "fields": [
        {"name": "a", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "b", "type": {"type": "fixed", "name": "F", "size": 17, "logicalType": "decimal", "precision": 38, "scale": 10}},
        {"name": "c", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 76}]},
        {"name": "d", "type": {"type": "fixed", "name": "G", "size": 40, "logicalType": "decimal", "precision": 60}}]}"#,
    r#"{"type": "record", "name": "R", "fields": [
        {"name": "a", "type": {"type": "int", "logicalType": "date"}},
        {"name": "b", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "c", "type": {"type": "long", "logicalType": "time-micros"}},
        {"name": "d", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "e", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
        {"name": "f", "type": ["null", {"type": "long", "logicalType": "timestamp-nanos"}]}]}"#,
    r#"{"type": "record", "name": "R", "fields": [
        {"name": "a", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "b", "type": {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}},
        {"name": "c", "type": {"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}}]}"#,
    r#"{"type": "record", "name": "R", "fields": [
        {"name": "a", "type": ["int", "string", "null", {"type": "array", "items": ["string", "long"]}]},
        {"name": "b", "type": ["boolean", {"type": "record", "name": "N", "fields": [{"name": "a", "type": ["null", "float"]}]}, {"type": "map", "values": "N"}]}]}"#,
    r#"{"type": "record", "name": "R", "fields": [
        {"name": "a", "type": {"type": "array", "items": ["null", {"type": "fixed", "name": "F", "size": 100000}]}},
        {"name": "b", "type": ["null", {"type": "record", "name": "N", "fields": [
            {"name": "a", "type": {"type": "array", "items": ["null", "F"]}, "default": []}]}], "default": null}]}"#,
];
