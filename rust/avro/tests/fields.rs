//! Which column feeds which field: every way to be named, every way to be unclear, at the top and inside structs.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema};
use kappaflow_avro::*;
use serde_json::json;

fn ints(names: &[&str]) -> Fields {
    let field = |name: &&str| Field::new(*name, DataType::Int32, false);
    names.iter().map(field).collect()
}

fn record(name: &str, fields: &serde_json::Value) -> serde_json::Value {
    json!({"type": "record", "name": name, "fields": fields})
}

/// Plans the columns for the fields, at the top, in a struct, and in a list of structs: the same must be found in each.
fn plan(
    columns: &[&str],
    fields: &serde_json::Value,
    options: &serde_json::Value,
) -> Result<Vec<(Option<String>, String)>, PlanError> {
    let mut results = Vec::new();
    for prefix in ["", "s.", "l[]."] {
        let inner = ints(columns);
        let (table, schema) = match prefix {
            "" => (Schema::new(inner), record("R", fields)),
            "s." => {
                let column = Field::new("s", DataType::Struct(inner), false);
                let ty = record("S", fields);
                (
                    Schema::new(vec![column]),
                    record("R", &json!([{"name": "s", "type": ty}])),
                )
            }
            _ => {
                let item = Field::new("item", DataType::Struct(inner), false);
                let column = Field::new("l", DataType::List(Arc::new(item)), false);
                let ty = json!({"type": "array", "items": record("S", fields)});
                (
                    Schema::new(vec![column]),
                    record("R", &json!([{"name": "l", "type": ty}])),
                )
            }
        };
        let mut options: PlanOptions = serde_json::from_value(options.clone()).unwrap();
        let declared = std::mem::take(&mut options.fields).into_iter();
        options.fields = declared
            .map(|(name, d)| (format!("{prefix}{name}"), d))
            .collect();
        let avro = AvroSchema::parse(&schema.to_string()).unwrap();
        let found = CoercionPlan::new(&table, &avro, &options);
        let cut = |name: &str| name.strip_prefix(prefix).unwrap_or(name).to_owned();
        results.push(found.map(|plan| {
            let rows = plan.describe().into_iter();
            rows.filter(|row| row.avro_type == "int")
                .map(|row| (row.column.as_deref().map(cut), cut(&row.field)))
                .collect::<Vec<_>>()
        }));
    }
    let kinds: Vec<_> = results
        .iter()
        .map(|r| r.as_ref().map_err(std::mem::discriminant))
        .collect();
    assert!(kinds.iter().all(|kind| *kind == kinds[0]), "{results:?}");
    results.remove(0)
}

fn fed(pairs: &[(&str, &str)]) -> Result<Vec<(Option<String>, String)>, PlanError> {
    let pair = |(column, field): &(&str, &str)| {
        (
            Some((*column).to_owned()).filter(|c| !c.is_empty()),
            (*field).to_owned(),
        )
    };
    Ok(pairs.iter().map(pair).collect())
}

#[test]
fn the_ways_to_be_named() {
    let none = json!({});
    let a = json!([{"name": "a", "aliases": ["b", "Old"], "type": "int"}]);
    assert_eq!(plan(&["a"], &a, &none), fed(&[("a", "a")]));
    assert_eq!(plan(&["b"], &a, &none), fed(&[("b", "a")]), "by alias");
    assert_eq!(
        plan(&["A"], &a, &none),
        fed(&[("A", "a")]),
        "by another case"
    );
    assert_eq!(
        plan(&["old"], &a, &none),
        fed(&[("old", "a")]),
        "by an alias in another case"
    );
    let from = json!({"fields": {"a": {"from": "x"}}});
    assert_eq!(
        plan(&["x"], &a, &from),
        fed(&[("x", "a")]),
        "by declaration"
    );
    // In that order: a declaration, the name, an alias, another case.
    let ignore = json!({"extra": "ignore"});
    let from = json!({"extra": "ignore", "fields": {"a": {"from": "x"}}});
    assert_eq!(plan(&["x", "a", "b", "A"], &a, &from), fed(&[("x", "a")]));
    assert_eq!(plan(&["A", "b", "a"], &a, &ignore), fed(&[("a", "a")]));
    assert_eq!(plan(&["A", "b"], &a, &ignore), fed(&[("b", "a")]));
    // What is another field's by declaration is taken by no other case; by name, no schema gives it as an alias.
    let two = json!([{"name": "a", "aliases": ["b"], "type": "int"}, {"name": "b", "type": "int"}]);
    assert!(AvroSchema::parse(&record("R", &two).to_string()).is_err());
    let two = json!([{"name": "a", "type": "int", "default": 1}, {"name": "b", "type": "int"}]);
    let from = json!({"fields": {"b": {"from": "A"}}});
    assert_eq!(plan(&["A"], &two, &from), fed(&[("", "a"), ("A", "b")]));
}

#[test]
fn columns_that_are_missing_or_too_many() {
    let a = json!([{"name": "a", "type": "int"}]);
    let none = json!({});
    assert!(
        matches!(plan(&["x"], &a, &none), Err(PlanError::MissingColumn { field, columns }) if field == "a" && columns == "x")
    );
    assert!(
        matches!(plan(&["a", "x", "y"], &a, &none), Err(PlanError::ExtraColumns { columns, .. }) if columns == "x, y")
    );
    assert_eq!(
        plan(&["a", "x"], &a, &json!({"extra": "ignore"})),
        fed(&[("a", "a")])
    );
    let default = json!([{"name": "a", "type": "int", "default": 7}]);
    assert_eq!(plan(&[], &default, &none), fed(&[("", "a")]));
    let from = json!({"fields": {"a": {"from": "y"}}});
    assert!(
        matches!(plan(&["a"], &default, &from), Err(PlanError::UnknownColumn { from, .. }) if from == "y")
    );
    let unknown = json!({"fields": {"b": {}}});
    assert!(matches!(
        plan(&["a"], &a, &unknown),
        Err(PlanError::UnknownField { .. })
    ));
}

#[test]
fn what_is_not_clear() {
    let none = json!({});
    let ignore = json!({"extra": "ignore"});
    let a = json!([{"name": "a", "aliases": ["b", "c", "b"], "type": "int"}]);
    let ambiguous = |columns: &[&str], options: &serde_json::Value| matches!(plan(columns, &a, options), Err(PlanError::Ambiguous { field, .. }) if field == "a");
    assert!(ambiguous(&["a", "a"], &ignore), "two columns of one name");
    assert!(ambiguous(&["b", "c"], &ignore), "two aliases");
    assert!(
        ambiguous(&["B", "C"], &ignore),
        "two aliases in another case"
    );
    assert!(!ambiguous(&["b"], &none), "an alias said twice");
    let from = json!({"extra": "ignore", "fields": {"a": {"from": "x"}}});
    assert!(
        ambiguous(&["x", "x"], &from),
        "two columns of the declared name"
    );
    let upper = json!([{"name": "aB", "type": "int"}]);
    let two = plan(&["AB", "ab"], &upper, &ignore);
    assert!(matches!(two, Err(PlanError::Ambiguous { .. })), "two cases");

    let taken = |columns: &[&str], fields: &serde_json::Value, options: &serde_json::Value| matches!(plan(columns, fields, options), Err(PlanError::TakenTwice { first, second, .. }) if (first.as_str(), second.as_str()) == ("a", "b"));
    let both = json!([{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]);
    let from = json!({"fields": {"a": {"from": "x"}, "b": {"from": "x"}}});
    assert!(taken(&["x"], &both, &from), "two declarations");
    assert!(
        taken(&["a"], &both, &json!({"fields": {"b": {"from": "a"}}})),
        "a declaration and a name"
    );
    let aliases = json!([{"name": "a", "aliases": ["x"], "type": "int"}, {"name": "b", "aliases": ["x"], "type": "int"}]);
    assert!(taken(&["x"], &aliases, &none), "two aliases");
    let cases = json!([{"name": "aB", "type": "int"}, {"name": "Ab", "type": "int"}]);
    let found = plan(&["ab"], &cases, &none);
    assert!(
        matches!(found, Err(PlanError::TakenTwice { .. })),
        "two cases: {found:?}"
    );
}
