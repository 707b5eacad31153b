//! Text to apache-avro's model, which says what is valid; but for defaults.
//!
//! apache-avro fills a default that is a record from the defaults of its fields, again and again: without end where a
//! record contains itself, and in time that doubles with each record that has the one before twice. So it doesn't get
//! to see them: they are hidden among the attributes that it keeps for its users, and are checked and encoded by
//! [`crate::defaults`], once a field.

use apache_avro::Schema;
use apache_avro::schema::RecordField;
use serde_json::Value;

use crate::error::SchemaError;
use crate::schema::with_causes;

/// The attribute that a field's default is kept in.
const HIDDEN: &str = "\0default";

/// Parses the JSON of a schema.
pub(crate) fn parse(json: &str) -> Result<Schema, SchemaError> {
    Schema::parse(&without_defaults(json)?).map_err(invalid)
}

/// Parses the JSON of a schema that uses names of others, and of these.
pub(crate) fn parse_with(
    json: &str,
    references: &[&str],
) -> Result<(Schema, Vec<Schema>), SchemaError> {
    let text = |json: &&str| without_defaults(json).map(|value| value.to_string());
    let references: Vec<String> = references.iter().map(text).collect::<Result<_, _>>()?;
    Schema::parse_str_with_list(&text(&json)?, references).map_err(invalid)
}

fn invalid(error: apache_avro::Error) -> SchemaError {
    SchemaError::Invalid(with_causes(&error))
}

fn without_defaults(json: &str) -> Result<Value, SchemaError> {
    let mut schema = serde_json::from_str(json)
        .map_err(|e| SchemaError::Invalid(format!("it is not JSON: {e}")))?;
    hide_defaults(&mut schema);
    Ok(schema)
}

/// The default of a field of a schema that [`parse`] read.
pub(crate) fn default_of(field: &RecordField) -> Option<&Value> {
    field.custom_attributes.get(HIDDEN)
}

/// Looks where schemas are, and not into anything else: a default may look like a schema. JSON is not nested deeper
/// than its parser allows.
fn hide_defaults(schema: &mut Value) {
    match schema {
        Value::Array(branches) => branches.iter_mut().for_each(hide_defaults),
        Value::Object(entries) => {
            for key in ["type", "items", "values"] {
                if let Some(inner) = entries.get_mut(key) {
                    hide_defaults(inner);
                }
            }
            let fields = entries.get_mut("fields").and_then(Value::as_array_mut);
            for field in fields.into_iter().flatten() {
                if let Value::Object(field) = field {
                    field.remove(HIDDEN);
                    if let Some(default) = field.remove("default") {
                        field.insert(HIDDEN.to_owned(), default);
                    }
                }
                // Its type.
                hide_defaults(field);
            }
        }
        _ => {}
    }
}
