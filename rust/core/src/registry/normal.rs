//! When two texts are the same schema for a registry: exactly, or but for how they are written.

use serde_json::{Map, Value};

/// Attributes of a type without a meaning for data.
const REMARKS: [&str; 1] = ["doc"];

/// The schema with names in full, primitives by their names, and without remarks. Defaults, aliases, logical types and
/// any other attribute stay: two schemas that differ in them are two.
pub fn normal(schema: &Value, namespace: &str) -> Value {
    match schema {
        Value::String(name) => Value::from(in_full(name, namespace)),
        Value::Array(branches) => branches.iter().map(|b| normal(b, namespace)).collect(),
        Value::Object(parts) => object(parts, namespace),
        other => other.clone(),
    }
}

fn object(parts: &Map<String, Value>, namespace: &str) -> Value {
    let text = |key: &str| parts.get(key).and_then(Value::as_str);
    let kind = text("type").unwrap_or_default();
    if parts.len() == 1 && !kind.is_empty() {
        return normal(&Value::from(kind), namespace);
    }
    let mut made = parts.clone();
    made.retain(|key, _| !REMARKS.contains(&key.as_str()));
    let mut inner = namespace.to_owned();
    if let ("record" | "error" | "enum" | "fixed", Some(name)) = (kind, text("name")) {
        let full = in_full(name, text("namespace").unwrap_or(namespace));
        full.rsplit_once('.')
            .map_or("", |(space, _)| space)
            .clone_into(&mut inner);
        made.remove("namespace");
        made.insert("name".into(), Value::from(full));
    }
    if !matches!(
        kind,
        "record" | "error" | "enum" | "fixed" | "array" | "map"
    ) && let Some(part) = parts.get("type")
    {
        made.insert("type".into(), normal(part, &inner));
    }
    for key in ["items", "values"] {
        if let Some(part) = parts.get(key) {
            made.insert(key.into(), normal(part, &inner));
        }
    }
    if let Some(Value::Array(fields)) = made.get_mut("fields") {
        for field in fields.iter_mut().filter_map(Value::as_object_mut) {
            field.retain(|key, _| !REMARKS.contains(&key.as_str()));
            if let Some(part) = field.get("type").map(|part| normal(part, &inner)) {
                field.insert("type".into(), part);
            }
        }
    }
    Value::Object(made)
}

fn in_full(name: &str, namespace: &str) -> String {
    const PRIMITIVES: [&str; 8] = [
        "null", "boolean", "int", "long", "float", "double", "bytes", "string",
    ];
    if PRIMITIVES.contains(&name) || name.contains('.') || namespace.is_empty() {
        return name.to_owned();
    }
    format!("{namespace}.{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_way_of_writing_is_no_difference() {
        let a = json!({"type": "record", "name": "R", "namespace": "n", "doc": "about", "fields": [
            {"name": "x", "type": {"type": "int"}, "doc": "an x"},
            {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A"]}},
            {"name": "again", "type": ["null", "E"]},
        ]});
        let b = json!({"name": "n.R", "type": "record", "fields": [
            {"type": "int", "name": "x"},
            {"name": "e", "type": {"type": "enum", "name": "n.E", "symbols": ["A"]}},
            {"name": "again", "type": ["null", "n.E"]},
        ]});
        assert_eq!(normal(&a, ""), normal(&b, ""));
    }

    #[test]
    fn what_data_or_readers_notice_is_one() {
        let record = |field: Value| json!({"type": "record", "name": "R", "fields": [field]});
        let plain = record(json!({"name": "x", "type": "long"}));
        for other in [
            json!({"name": "x", "type": "long", "default": 0}),
            json!({"name": "x", "type": "long", "aliases": ["y"]}),
            json!({"name": "x", "type": {"type": "long", "logicalType": "timestamp-millis"}}),
            json!({"name": "y", "type": "long"}),
        ] {
            assert_ne!(normal(&plain, ""), normal(&record(other), ""));
        }
    }
}
