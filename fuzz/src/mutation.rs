//! Changes of a schema's JSON that a random change of its text would hardly ever make.

use serde_json::{Value, json};

use super::choices::Choices;

const KEYS: [&str; 15] = [
    "type",
    "name",
    "namespace",
    "fields",
    "items",
    "values",
    "symbols",
    "size",
    "logicalType",
    "precision",
    "scale",
    "default",
    "aliases",
    "order",
    "doc",
];

/// Words that mean something somewhere in a schema; names are those of the schemas that are changed.
const WORDS: [&str; 54] = [
    "null",
    "boolean",
    "int",
    "long",
    "float",
    "double",
    "bytes",
    "string",
    "record",
    "error",
    "enum",
    "fixed",
    "array",
    "map",
    "decimal",
    "big-decimal",
    "uuid",
    "date",
    "time-millis",
    "time-micros",
    "timestamp-millis",
    "timestamp-micros",
    "timestamp-nanos",
    "local-timestamp-millis",
    "local-timestamp-micros",
    "local-timestamp-nanos",
    "duration",
    "R",
    "N",
    "ns.R",
    "ns.N",
    "E",
    "F",
    "a",
    "b",
    "c",
    "A",
    "B",
    "",
    ".",
    "a.b",
    ".a",
    "a..b",
    "é",
    "9a",
    "a-b",
    "\u{7f}\u{80}\u{ff}\u{100}",
    "ascending",
    "ignore",
    "NaN",
    "1",
    "-1.5",
    "00000000-0000-0000-0000-000000000000",
    "\u{0}\u{1}",
];

const NUMBERS: [i64; 16] = [
    0,
    1,
    -1,
    2,
    4,
    9,
    12,
    16,
    38,
    39,
    76,
    77,
    i32::MAX as i64,
    i32::MAX as i64 + 1,
    i64::MAX,
    i64::MIN,
];

fn value(choices: &mut Choices<'_>) -> Value {
    match choices.below(8) {
        0 => json!(choices.one(&WORDS)),
        1 => json!(choices.one(&NUMBERS)),
        2 => choices.one(&[Some(true), Some(false), None]).into(),
        3 => json!([]),
        4 => json!({}),
        5 => json!(choices.one(&[0.5, -0.0, 1e300, 1e-300])),
        6 => json!(["null", choices.one(&WORDS)]),
        _ => {
            json!({"type": choices.one(&WORDS), "name": choices.one(&WORDS), "size": choices.one(&NUMBERS)})
        }
    }
}

/// A random node, found by going down from the top.
fn node<'v>(top: &'v mut Value, choices: &mut Choices<'_>) -> &'v mut Value {
    let mut at = top;
    loop {
        let children = match at {
            Value::Array(values) => values.len(),
            Value::Object(entries) => entries.len(),
            _ => 0,
        };
        if children == 0 || choices.below(8) == 7 {
            return at;
        }
        let child = choices.below(children);
        at = match at {
            Value::Array(values) => &mut values[child],
            Value::Object(entries) => entries.values_mut().nth(child).expect("counted above"),
            _ => unreachable!("it has children"),
        };
    }
}

/// Changes one thing.
pub fn mutate(schema: &mut Value, choices: &mut Choices<'_>) {
    let elsewhere = match choices.byte() {
        0..=63 => Some(node(schema, choices).clone()),
        _ => None,
    };
    let at = node(schema, choices);
    match (choices.below(8), &mut *at) {
        (0, at) => *at = elsewhere.unwrap_or_else(|| value(choices)),
        (1, at) => *at = json!(["null", at.take()]),
        (2, at) => {
            *at = json!({"type": choices.one(&["array", "map"]), "items": at.clone(), "values": at.take()})
        }
        (3, Value::Array(values)) if !values.is_empty() => {
            values.remove(choices.below(values.len()));
        }
        (4, Value::Array(values)) => {
            let new = elsewhere.unwrap_or_else(|| value(choices));
            values.insert(choices.below(values.len() + 1), new);
        }
        (5, Value::Array(values)) if !values.is_empty() => {
            let (a, b) = (choices.below(values.len()), choices.below(values.len()));
            values.swap(a, b);
        }
        (3, Value::Object(entries)) if !entries.is_empty() => {
            let key = entries.keys().nth(choices.below(entries.len())).cloned();
            entries.remove(&key.unwrap_or_default());
        }
        (_, Value::Object(entries)) => {
            let key = choices.one(&KEYS).to_owned();
            let new = elsewhere.unwrap_or_else(|| value(choices));
            entries.insert(key, new);
        }
        (_, at) => *at = elsewhere.unwrap_or_else(|| value(choices)),
    }
}
