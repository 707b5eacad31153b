//! The keys of records, made of their key columns: as text, as the bytes of a column, or in Avro.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Schema};
use kappaflow_avro::framing::Frame;
use kappaflow_avro::{AvroSchema, AvroType, CoercionPlan, Encoder, Extra, PlanOptions};
use serde_json::{Value, json};

use super::routing::{Refused, Routing, position};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::job::KeyFormat;
use crate::registry::{self, Policy, SchemaRegistry};

/// Stands between the texts of several key columns.
const KEY_SEPARATOR: char = '\u{1f}';

/// Keys one after the other; without offsets no row has one.
#[derive(Debug, Default)]
pub struct Keys {
    pub bytes: Vec<u8>,
    pub offsets: Vec<usize>,
}

impl Keys {
    /// The key of row `i`; empty for none.
    pub fn get(&self, i: usize) -> &[u8] {
        match (self.offsets.get(i), self.offsets.get(i + 1)) {
            (Some(from), Some(to)) => self.bytes.get(*from..*to).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Those of some rows, in that order.
    pub fn only(&self, rows: &[usize]) -> Self {
        let mut kept = Self::default();
        if self.offsets.is_empty() {
            return kept;
        }
        kept.offsets.push(0);
        for i in rows {
            kept.add(self.get(*i));
        }
        kept
    }

    fn add(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.offsets.push(self.bytes.len());
    }
}

/// The Avro schema of keys.
#[derive(Clone, Debug)]
pub struct KeySchema {
    /// What the registry has: the type of one key column as it is, or a record of several.
    pub text: String,
    /// A record of the key columns, which is written as the same bytes.
    pub record: AvroSchema,
    /// The registry's id.
    pub id: u32,
}

impl KeySchema {
    /// The schema of the keys of records of `schema`: the type of one key field as it is, or a record of several.
    ///
    /// # Errors
    /// [`Error::Schema`] if a key is no field, or its type is defined in another field.
    pub fn of(schema: &AvroSchema, key: &[String]) -> Result<Self> {
        let wrong = |reason: String| Error::Schema {
            what: format!("of the keys of {}", schema.full_name()),
            reason,
        };
        let json: Value =
            serde_json::from_str(schema.json()).map_err(|e| wrong(format!("not JSON: {e}")))?;
        let all = json.get("fields").and_then(Value::as_array);
        let mut fields = Vec::new();
        for name in key {
            let field = all
                .into_iter()
                .flatten()
                .find(|f| f.get("name").and_then(Value::as_str) == Some(name))
                .ok_or_else(|| {
                    wrong(format!(
                        "key {name:?} is no field of it, and keys in Avro have the types of fields; use topics.key_format = \"string\" for it"
                    ))
                })?;
            let ty = field.get("type").cloned().unwrap_or_default();
            fields.push(json!({"name": name, "type": ty}));
        }
        let record = json!({
            "type": "record",
            "name": format!("{}Key", schema.full_name()),
            "fields": fields,
        });
        let text = match fields.as_slice() {
            [only] => only["type"].to_string(),
            _ => record.to_string(),
        };
        let record = AvroSchema::parse(&record.to_string()).map_err(|e| wrong(e.to_string()))?;
        Ok(Self {
            text,
            record,
            id: 0,
        })
    }

    /// With the registry's id, of the subject `TOPIC-key`.
    ///
    /// # Errors
    /// [`Error::Registry`], [`Error::Interrupted`].
    pub async fn settled(
        mut self,
        registry: &Arc<dyn SchemaRegistry>,
        policy: Policy,
        topic: &str,
        ctx: &Context,
    ) -> Result<Self> {
        self.id = registry::settle_key(registry, policy, topic, &self.text, ctx).await?;
        Ok(self)
    }
}

/// Makes the keys of batches of one Arrow schema.
pub struct Former {
    /// Positions of the key columns.
    columns: Vec<usize>,
    form: Form,
}

enum Form {
    /// The texts of the columns; where the field is a whole number and the column is not, they are first made that.
    Text(Vec<bool>),
    /// The bytes of the one column.
    Bytes,
    Avro(Box<Encoder>),
}

impl Former {
    /// # Errors
    /// [`Error::Schema`] if a key column is missing, or has no bytes where it must; [`Error::Plan`].
    pub fn new(
        routing: &Routing,
        arrow: &Schema,
        avro: &AvroSchema,
        plan: &PlanOptions,
    ) -> Result<Self> {
        let columns = routing
            .key
            .iter()
            .map(|name| position(arrow, plan, "topics.key", name))
            .collect::<Result<Vec<usize>>>()?;
        let form = match (routing.key_format, &routing.key_schema) {
            (KeyFormat::Avro, Some(schema)) => {
                let options = PlanOptions {
                    extra: Extra::Ignore,
                    fields: plan
                        .fields
                        .iter()
                        .filter(|(name, _)| routing.key.contains(name))
                        .map(|(name, declared)| (name.clone(), declared.clone()))
                        .collect(),
                    ..plan.clone()
                };
                let plan = CoercionPlan::new(arrow, &schema.record, &options)?;
                Form::Avro(Box::new(Encoder::new(plan, Frame::Id(schema.id))))
            }
            // Without a schema there is nothing yet to write with: the plan is looked at before the registry is.
            (KeyFormat::Avro, None) => Form::Text(Vec::new()),
            (KeyFormat::Bytes, _) => {
                if let [only] = columns.as_slice()
                    && has_bytes(arrow.field(*only).data_type())
                {
                    Form::Bytes
                } else {
                    let shown = columns.iter().map(|i| {
                        let field = arrow.field(*i);
                        format!("{} ({})", field.name(), field.data_type())
                    });
                    return Err(Error::Schema {
                        what: "of the source".into(),
                        reason: format!(
                            "has the key {}, and topics.key_format = \"bytes\" takes one column of bytes or text; use \"string\" or \"avro\"",
                            shown.collect::<Vec<_>>().join(", ")
                        ),
                    });
                }
            }
            (KeyFormat::String, _) => Form::Text(
                routing
                    .key
                    .iter()
                    .zip(&columns)
                    .map(|(name, at)| {
                        whole(avro, name) && arrow.field(*at).data_type().is_floating()
                    })
                    .collect(),
            ),
        };
        Ok(Self { columns, form })
    }

    /// The key of each of `rows`; a row whose key columns are all null has none. A row that has a value without a form
    /// as a key is refused.
    ///
    /// # Errors
    /// Why a column as a whole can't be read.
    pub fn keys(
        &mut self,
        batch: &RecordBatch,
        rows: &[u32],
        refused: &mut BTreeMap<u32, Refused>,
    ) -> Result<Keys, String> {
        let columns: Vec<ArrayRef> = self
            .columns
            .iter()
            .map(|i| batch.column(*i).clone())
            .collect();
        let none = |row: u32| columns.iter().all(|c| c.is_null(row as usize));
        let mut keys = Keys::default();
        keys.offsets.push(0);
        match &mut self.form {
            Form::Bytes => {
                let binary = arrow_cast::cast(&columns[0], &DataType::LargeBinary)
                    .map_err(|e| format!("the key column has no bytes: {e}"))?;
                let binary = binary.as_binary::<i64>();
                for row in rows {
                    keys.add(if none(*row) {
                        &[]
                    } else {
                        binary.value(*row as usize)
                    });
                }
            }
            Form::Text(whole) => {
                let names: Vec<&String> = self
                    .columns
                    .iter()
                    .map(|i| batch.schema_ref().field(*i).name())
                    .collect();
                text(&columns, whole, &names, rows, &mut keys, refused)?;
            }
            Form::Avro(encoder) => {
                let encoded = encoder.encode(batch).map_err(|e| e.to_string())?;
                for reject in encoded.rejects.iter().filter(|r| !none(r.row)) {
                    refused.entry(reject.row).or_insert_with(|| {
                        let reason = format!("as a key: {}", reject.reason);
                        (reject.column.clone(), reject.value.clone(), reason)
                    });
                }
                let mut made = encoded.iter().peekable();
                for row in rows {
                    while made.next_if(|(r, _)| r < row).is_some() {}
                    let key = made.next_if(|(r, _)| r == row);
                    keys.add(key.filter(|_| !none(*row)).map_or(&[], |(_, key)| key));
                }
            }
        }
        Ok(keys)
    }
}

fn text(
    columns: &[ArrayRef],
    whole: &[bool],
    names: &[&String],
    rows: &[u32],
    keys: &mut Keys,
    refused: &mut BTreeMap<u32, Refused>,
) -> Result<(), String> {
    let no_text = |e| format!("a key column has no text form: {e}");
    let columns = columns
        .iter()
        .enumerate()
        .map(|(i, column)| match whole.get(i) {
            // A value that is not whole is none here; its row does not pass the schema either.
            Some(true) => arrow_cast::cast(column, &DataType::Int64).map_err(no_text),
            _ => Ok(column.clone()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = FormatOptions::default();
    let formatters = columns
        .iter()
        .map(|c| ArrayFormatter::try_new(c.as_ref(), &options).map_err(no_text))
        .collect::<Result<Vec<_>, _>>()?;
    let mut text = String::new();
    for row in rows {
        let at = *row as usize;
        text.clear();
        if columns.iter().any(|c| !c.is_null(at)) {
            for (i, formatter) in formatters.iter().enumerate() {
                if i > 0 {
                    text.push(KEY_SEPARATOR);
                }
                // Its display would write the error into the key.
                if let Err(e) = formatter.value(at).write(&mut text) {
                    refused.entry(*row).or_insert_with(|| {
                        let reason = format!("the key has no text form: {e}");
                        (names[i].clone(), String::new(), reason)
                    });
                }
            }
        }
        keys.add(text.as_bytes());
    }
    Ok(())
}

fn has_bytes(ty: &DataType) -> bool {
    use DataType::*;
    matches!(
        ty,
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) | Utf8 | LargeUtf8 | Utf8View
    )
}

/// Whether a field is a whole number.
fn whole(avro: &AvroSchema, name: &str) -> bool {
    let field = avro.fields().iter().find(|f| f.name == name);
    field.is_some_and(|f| match &f.ty {
        AvroType::Int | AvroType::Long => true,
        AvroType::Union(branches) => branches
            .iter()
            .all(|b| matches!(b, AvroType::Null | AvroType::Int | AvroType::Long)),
        _ => false,
    })
}
