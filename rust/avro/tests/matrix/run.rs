//! One cell, run.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};
use kappaflow_avro::matrix::{self, Cell};
use kappaflow_avro::{Certainty, PlanOptions};

use crate::common;
use crate::literals::{array, text};
use crate::{Expect, Rule};

const NULL: &str = "null where the schema requires a value";

pub fn cell(arrow: &DataType, avro: &str, json: &str, expect: &Expect) -> Result<(), String> {
    let says = matrix::cell(arrow, json).map_err(|e| e.to_string())?;
    match (expect, says) {
        (Expect::Impossible(way_out), Cell::Impossible(said)) if said.contains(way_out) => Ok(()),
        (Expect::Impossible(way_out), said) => Err(format!("{said:?}, not {way_out:?}")),
        (Expect::Rule(_), Cell::Impossible(said)) => Err(format!("impossible: {said}")),
        (
            Expect::Rule(rule),
            Cell::Rule {
                certainty,
                needs,
                may_reject,
            },
        ) => {
            let expected = match rule.fail {
                [] => Certainty::Exact,
                _ => Certainty::Checked,
            };
            if (certainty, needs) != (expected, rule.needs) {
                return Err(format!(
                    "{certainty:?} by {needs:?}, may reject {may_reject:?}"
                ));
            }
            if rule.pass.is_empty() && rule.fail.is_empty() {
                return Err("no values".to_owned());
            }
            values(arrow, json, rule, &may_reject)?;
            // A union that has null takes what its other type takes, and null besides.
            if avro != "null" && !json.starts_with('[') {
                nullable(arrow, json, rule, &may_reject)?;
            }
            Ok(())
        }
    }
}

fn options(rule: &Rule) -> PlanOptions {
    let said = match rule.needs {
        Some("zone") => serde_json::json!({"zone": "Europe/Berlin"}),
        Some("unit") => serde_json::json!({"unit": "ms"}),
        Some("lossy") => serde_json::json!({"lossy": "round"}),
        _ => serde_json::json!({}),
    };
    serde_json::from_value(serde_json::json!({"fields": {"f": said}})).unwrap()
}

/// Encodes the values and then a null; what was made of each.
fn run(arrow: &DataType, json: &str, rule: &Rule) -> Vec<Result<String, String>> {
    let words = rule
        .pass
        .iter()
        .chain(rule.fail)
        .map(|(word, _)| Some(*word));
    let column = array(arrow, &words.chain([None]).collect::<Vec<_>>());
    assert_eq!(column.data_type(), arrow);
    let schema = Schema::new(vec![Field::new("f", arrow.clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap();
    let json = common::rules::schema_of(json);
    let encoded = common::encode_with(&batch, &json, &options(rule));
    let mut rejects = encoded.rejects.iter();
    let values = common::values(&encoded, &json, batch.num_rows());
    let found = values.into_iter().map(|value| match value {
        Some(value) => Ok(text(&value)),
        None => Err(rejects.next().unwrap().reason.clone()),
    });
    found.collect()
}

fn compare(
    rule: &Rule,
    found: &[Result<String, String>],
    null: Result<&str, &str>,
    listed: &[String],
) -> Result<(), String> {
    let passed = rule.pass.iter().map(|(word, value)| (*word, Ok(*value)));
    let failed = rule.fail.iter().map(|(word, reason)| (*word, Err(*reason)));
    let expected = passed.chain(failed).chain([("null", null)]);
    for ((word, expected), found) in expected.zip(found) {
        let same = match (expected, found) {
            (Ok(value), Ok(found)) => value == found,
            (Err(reason), Err(found)) => {
                let told = listed
                    .iter()
                    .any(|listed| found.starts_with(listed.as_str()));
                found.starts_with(reason) && (told || word == "null")
            }
            _ => false,
        };
        if !same {
            return Err(format!("{word:?} became {found:?}, not {expected:?}"));
        }
    }
    Ok(())
}

fn values(arrow: &DataType, json: &str, rule: &Rule, listed: &[String]) -> Result<(), String> {
    let null = if json == "\"null\"" {
        Ok("null")
    } else {
        Err(NULL)
    };
    compare(rule, &run(arrow, json, rule), null, listed)
}

fn nullable(arrow: &DataType, json: &str, rule: &Rule, listed: &[String]) -> Result<(), String> {
    // Of nothing but nulls there is nothing left to fail.
    if *arrow == DataType::Null {
        return Ok(());
    }
    let json = format!("[\"null\", {json}]");
    compare(rule, &run(arrow, &json, rule), Ok("null"), listed)
}
