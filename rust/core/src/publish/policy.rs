//! What of a rejected row's values is kept: all of them, its keys, or none, and never the columns that are redacted.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Schema};
use kappaflow_avro::PlanOptions;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::job::{RejectPayload, Rejects};

/// Stands for a value that is not copied.
const REDACTED: &str = "[redacted]";

/// What may be copied of a rejected row.
#[derive(Clone, Debug, Default)]
pub struct RejectPolicy {
    payload: RejectPayload,
    redact: Arc<[String]>,
    /// Columns of the topic's key.
    keys: Arc<[String]>,
}

impl RejectPolicy {
    /// `key` is the topic's, whose names may be those of fields that are declared `from` a column.
    pub fn new(section: &Rejects, key: &[String], plan: &PlanOptions) -> Self {
        let column = |name: &String| {
            let declared = plan.fields.get(name).and_then(|d| d.from.as_ref());
            declared.unwrap_or(name).clone()
        };
        Self {
            payload: section.reject_payload,
            redact: section.redact.clone().into(),
            keys: key.iter().map(column).collect(),
        }
    }

    /// # Errors
    /// [`Error::Schema`] if something is to be redacted that is no column: then it would not be.
    pub fn check(&self, columns: &Schema) -> Result<()> {
        let missing = self
            .redact
            .iter()
            .find(|name| columns.index_of(name).is_err());
        match missing {
            None => Ok(()),
            Some(name) => Err(Error::Schema {
                what: "of the source".into(),
                reason: format!(
                    "has no column {name:?}, which rejects.redact names; it has: {}",
                    super::encode::names(columns)
                ),
            }),
        }
    }

    /// What is shown of the value that a row was rejected for. `path` is its column's, which may be nested; an empty
    /// one means that the row as a whole was refused, and then the value is none of the row's own.
    pub fn value(&self, path: &str, value: String) -> String {
        if path.is_empty() {
            return value;
        }
        let of = |column: &String| {
            path.strip_prefix(column.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '{']))
        };
        let kept = match self.payload {
            RejectPayload::Full => true,
            RejectPayload::Keys => self.keys.iter().any(of),
            RejectPayload::None => false,
        };
        match (self.redact.iter().any(of), kept) {
            (true, _) => REDACTED.to_owned(),
            (false, true) => value,
            (false, false) => String::new(),
        }
    }

    /// The values of a row as a JSON object, column by column; `None` if none are kept.
    pub fn payload(&self, batch: &RecordBatch, row: usize) -> Option<String> {
        let schema = batch.schema_ref();
        let kept = |name: &String| match self.payload {
            RejectPayload::Full => true,
            RejectPayload::Keys => self.keys.contains(name),
            RejectPayload::None => false,
        };
        if self.payload == RejectPayload::None {
            return None;
        }
        let mut values = Map::new();
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            if !kept(field.name()) {
                continue;
            }
            let value = if self.redact.contains(field.name()) {
                json!(REDACTED)
            } else {
                json_of(column.as_ref(), row)
            };
            values.insert(field.name().clone(), value);
        }
        Some(Value::Object(values).to_string())
    }
}

/// A value as JSON. What JSON has no type for is text: decimals, times, NaN; bytes are hexadecimal.
fn json_of(array: &dyn Array, i: usize) -> Value {
    if i >= array.len() || array.is_null(i) {
        return Value::Null;
    }
    let float = |x: f64| match serde_json::Number::from_f64(x) {
        Some(number) => Value::Number(number),
        None => json!(x.to_string()),
    };
    let all =
        |values: &dyn Array| Value::Array((0..values.len()).map(|k| json_of(values, k)).collect());
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(i)),
        DataType::Int8 => json!(array.as_primitive::<Int8Type>().value(i)),
        DataType::Int16 => json!(array.as_primitive::<Int16Type>().value(i)),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(i)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(i)),
        DataType::UInt8 => json!(array.as_primitive::<UInt8Type>().value(i)),
        DataType::UInt16 => json!(array.as_primitive::<UInt16Type>().value(i)),
        DataType::UInt32 => json!(array.as_primitive::<UInt32Type>().value(i)),
        DataType::UInt64 => json!(array.as_primitive::<UInt64Type>().value(i)),
        DataType::Float16 => float(array.as_primitive::<Float16Type>().value(i).to_f64()),
        DataType::Float32 => float(f64::from(array.as_primitive::<Float32Type>().value(i))),
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(i)),
        DataType::Utf8 => json!(array.as_string::<i32>().value(i)),
        DataType::LargeUtf8 => json!(array.as_string::<i64>().value(i)),
        DataType::Utf8View => json!(array.as_string_view().value(i)),
        DataType::Binary => hex(array.as_binary::<i32>().value(i)),
        DataType::LargeBinary => hex(array.as_binary::<i64>().value(i)),
        DataType::BinaryView => hex(array.as_binary_view().value(i)),
        DataType::FixedSizeBinary(_) => hex(array.as_fixed_size_binary().value(i)),
        DataType::List(_) => all(&array.as_list::<i32>().value(i)),
        DataType::LargeList(_) => all(&array.as_list::<i64>().value(i)),
        DataType::FixedSizeList(_, _) => all(&array.as_fixed_size_list().value(i)),
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let values = columns.map(|(f, c)| (f.name().clone(), json_of(c.as_ref(), i)));
            Value::Object(values.collect())
        }
        // Pairs, since a key may be there twice.
        DataType::Map(_, _) => {
            let entries = array.as_map().value(i);
            let (keys, values) = (entries.column(0), entries.column(1));
            let pair = |k| json!([json_of(keys.as_ref(), k), json_of(values.as_ref(), k)]);
            Value::Array((0..entries.len()).map(pair).collect())
        }
        DataType::Dictionary(_, _) => match array.as_any_dictionary_opt() {
            Some(dictionary) => {
                let key = dictionary.normalized_keys().get(i).copied();
                key.map_or(Value::Null, |key| {
                    json_of(dictionary.values().as_ref(), key)
                })
            }
            None => Value::Null,
        },
        _ => text(array, i),
    }
}

fn hex(bytes: &[u8]) -> Value {
    json!(crate::snapshot::hex(bytes))
}

fn text(array: &dyn Array, i: usize) -> Value {
    let formatted = ArrayFormatter::try_new(array, &FormatOptions::default())
        .and_then(|formatter| formatter.value(i).try_to_string());
    formatted.map_or_else(|_| json!("(unprintable)"), |text| json!(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::builder::{Int32Builder, ListBuilder, MapBuilder, StringBuilder};
    use arrow_array::types::Int8Type;
    use arrow_array::{
        ArrayRef, BinaryArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array,
        Int64Array, StringArray, StructArray,
    };
    use arrow_schema::Field;

    fn policy(payload: RejectPayload, redact: &[&str]) -> RejectPolicy {
        let section = Rejects {
            reject_payload: payload,
            redact: redact.iter().map(|r| (*r).to_owned()).collect(),
        };
        RejectPolicy::new(&section, &["id".to_owned()], &PlanOptions::default())
    }

    fn batch() -> RecordBatch {
        let id: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        let ssn: ArrayRef = Arc::new(StringArray::from(vec!["123-45"]));
        let at: ArrayRef = Arc::new(Date32Array::from(vec![1]));
        RecordBatch::try_from_iter([("id", id), ("ssn", ssn), ("at", at)]).unwrap()
    }

    #[test]
    fn what_is_kept_is_what_was_said() {
        let payload = |p: &RejectPolicy| p.payload(&batch(), 0);
        let full = policy(RejectPayload::Full, &[]);
        let all = r#"{"at":"1970-01-02","id":7,"ssn":"123-45"}"#;
        assert_eq!(payload(&full).as_deref(), Some(all));
        assert_eq!(full.value("ssn", "x".into()), "x");
        let redacted = policy(RejectPayload::Full, &["ssn"]);
        let all = r#"{"at":"1970-01-02","id":7,"ssn":"[redacted]"}"#;
        assert_eq!(payload(&redacted).as_deref(), Some(all));
        assert_eq!(redacted.value("ssn", "x".into()), REDACTED);
        assert_eq!(redacted.value("ssn.area", "x".into()), REDACTED);
        assert_eq!(redacted.value("ssn2", "x".into()), "x");
        let keys = policy(RejectPayload::Keys, &["id"]);
        assert_eq!(payload(&keys).as_deref(), Some(r#"{"id":"[redacted]"}"#));
        assert_eq!(keys.value("id", "7".into()), REDACTED);
        assert_eq!(keys.value("at", "x".into()), "");
        let none = policy(RejectPayload::None, &["ssn"]);
        assert_eq!(payload(&none), None);
        assert_eq!(none.value("id", "7".into()), "");
        assert_eq!(none.value("ssn", "7".into()), REDACTED);
        assert_eq!(none.value("", "12 bytes".into()), "12 bytes");
    }

    #[test]
    fn only_columns_can_be_redacted() {
        let columns = batch().schema();
        assert!(
            policy(RejectPayload::Full, &["ssn"])
                .check(&columns)
                .is_ok()
        );
        let error = policy(RejectPayload::Full, &["snn"]).check(&columns);
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("\"snn\"") && text.contains("id, ssn, at"),
            "{text}"
        );
    }

    #[test]
    fn every_kind_of_value_is_json() {
        let mut list = ListBuilder::new(Int32Builder::new());
        list.append_value([Some(1), None]);
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        map.keys().append_value("k");
        map.values().append_value(2);
        map.append(true).unwrap();
        let names = Arc::new(StringArray::from(vec!["a", "b"]));
        let columns: [(ArrayRef, Value); 7] = [
            (Arc::new(Float64Array::from(vec![f64::NAN])), json!("NaN")),
            (
                Arc::new(BinaryArray::from(vec![&[1_u8, 255][..]])),
                json!("01ff"),
            ),
            (
                Arc::new(
                    Decimal128Array::from(vec![125])
                        .with_precision_and_scale(5, 2)
                        .unwrap(),
                ),
                json!("1.25"),
            ),
            (Arc::new(list.finish()), json!([1, null])),
            (Arc::new(map.finish()), json!([["k", 2]])),
            (
                Arc::new(DictionaryArray::<Int8Type>::new(
                    vec![1_i8].into(),
                    names.clone(),
                )),
                json!("b"),
            ),
            (
                Arc::new(StructArray::from(vec![(
                    Arc::new(Field::new("x", DataType::Utf8, true)),
                    Arc::new(names.slice(0, 1)) as ArrayRef,
                )])),
                json!({"x": "a"}),
            ),
        ];
        for (column, expected) in columns {
            assert_eq!(
                json_of(column.as_ref(), 0),
                expected,
                "{}",
                column.data_type()
            );
        }
    }
}
