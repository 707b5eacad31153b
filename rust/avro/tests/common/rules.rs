//! One column against one type: what passes, and with what reason the rest does not.
#![allow(dead_code)]

use std::sync::Arc;

use apache_avro::types::Value;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema};
use kappaflow_avro::{FieldDeclaration, PlanOptions};

use super::{encode_with, values};

pub fn batch(array: impl Array + 'static) -> RecordBatch {
    batch_of(Arc::new(array))
}

pub fn batch_of(array: ArrayRef) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("f", array.data_type().clone(), true)]);
    RecordBatch::try_new(Arc::new(schema), vec![array]).unwrap()
}

pub fn schema_of(ty: &str) -> String {
    format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": {ty}}}]}}"#)
}

pub fn zone(zone: &str) -> PlanOptions {
    let mut options = PlanOptions::default();
    options.fields.insert(
        "f".into(),
        FieldDeclaration {
            zone: Some(zone.into()),
            ..FieldDeclaration::default()
        },
    );
    options
}

/// Per row: the value that apache-avro reads, or the reason of the reject.
pub fn run_with(
    array: impl Array + 'static,
    ty: &str,
    options: &PlanOptions,
) -> Vec<Result<Value, String>> {
    let batch = batch(array);
    let json = schema_of(ty);
    let encoded = encode_with(&batch, &json, options);
    values(&encoded, &json, batch.num_rows())
        .into_iter()
        .enumerate()
        .map(|(row, value)| match value {
            Some(Value::Record(mut fields)) => Ok(fields.remove(0).1),
            _ => {
                let reject = encoded
                    .rejects
                    .iter()
                    .find(|r| r.row as usize == row)
                    .unwrap();
                assert!(reject.column.starts_with('f'), "{}", reject.column);
                Err(reject.reason.clone())
            }
        })
        .collect()
}

pub fn run(array: impl Array + 'static, ty: &str) -> Vec<Result<Value, String>> {
    run_with(array, ty, &PlanOptions::default())
}

pub fn ok<T>(
    values: impl IntoIterator<Item = T>,
    f: impl Fn(T) -> Value,
) -> Vec<Result<Value, String>> {
    values.into_iter().map(|v| Ok(f(v))).collect()
}

pub fn no<T>(reason: &str) -> Result<T, String> {
    Err(reason.to_owned())
}

pub const NULL: &str = "null where the schema requires a value";
