//! A field's default, from the schema's JSON to the bytes that stand for it.

use std::sync::Arc;

use serde_json::Value;

use crate::types::AvroType;
use crate::wire::push_long;

/// `None` when the JSON is no value of the type.
pub(crate) fn encode(json: &Value, ty: &AvroType) -> Option<Arc<[u8]>> {
    let mut out = Vec::new();
    push(json, ty, &mut out)?;
    Some(out.into())
}

fn push(json: &Value, ty: &AvroType, out: &mut Vec<u8>) -> Option<()> {
    match ty {
        AvroType::Null => json.as_null()?,
        AvroType::Boolean => out.push(u8::from(json.as_bool()?)),
        AvroType::Int | AvroType::Date | AvroType::TimeMillis => {
            push_long(i64::from(i32::try_from(json.as_i64()?).ok()?), out);
        }
        AvroType::Long
        | AvroType::TimeMicros
        | AvroType::Timestamp(_)
        | AvroType::LocalTimestamp(_) => {
            push_long(json.as_i64()?, out);
        }
        AvroType::Float => out.extend_from_slice(&(json.as_f64()? as f32).to_le_bytes()),
        AvroType::Double => out.extend_from_slice(&json.as_f64()?.to_le_bytes()),
        AvroType::String | AvroType::Uuid { fixed: false } => {
            let text = json.as_str()?;
            push_long(i64::try_from(text.len()).ok()?, out);
            out.extend_from_slice(text.as_bytes());
        }
        AvroType::Bytes => push_bytes(&bytes(json)?, None, out)?,
        AvroType::Fixed(fixed) => push_bytes(&bytes(json)?, Some(fixed.size), out)?,
        AvroType::Uuid { fixed: true } => push_bytes(&bytes(json)?, Some(16), out)?,
        AvroType::Duration => push_bytes(&bytes(json)?, Some(12), out)?,
        AvroType::Decimal(decimal) => push_bytes(&bytes(json)?, decimal.fixed, out)?,
        AvroType::Enum(e) => {
            let symbol = json.as_str()?;
            let index = e.symbols.iter().position(|s| s == symbol)?;
            push_long(i64::try_from(index).ok()?, out);
        }
        AvroType::Array(items) => {
            let values = json.as_array()?;
            if !values.is_empty() {
                push_long(i64::try_from(values.len()).ok()?, out);
                values
                    .iter()
                    .try_for_each(|value| push(value, items, out))?;
            }
            out.push(0);
        }
        AvroType::Map(values) => {
            let entries = json.as_object()?;
            if !entries.is_empty() {
                push_long(i64::try_from(entries.len()).ok()?, out);
                for (key, value) in entries {
                    push_long(i64::try_from(key.len()).ok()?, out);
                    out.extend_from_slice(key.as_bytes());
                    push(value, values, out)?;
                }
            }
            out.push(0);
        }
        AvroType::Record(record) => {
            let values = json.as_object()?;
            for field in &record.fields {
                match (values.get(&field.name), &field.default) {
                    (Some(value), _) => push(value, &field.ty, out)?,
                    (None, Some(default)) => out.extend_from_slice(default),
                    (None, None) => return None,
                }
            }
        }
        AvroType::Union(branches) => {
            // The specification once asked for the first branch; now any will do, and the first that fits is taken.
            let start = out.len();
            for (index, branch) in branches.iter().enumerate() {
                push_long(i64::try_from(index).ok()?, out);
                if push(json, branch, out).is_some() {
                    return Some(());
                }
                out.truncate(start);
            }
            return None;
        }
    }
    Some(())
}

/// Avro writes bytes in JSON as a string whose code points are the bytes.
fn bytes(json: &Value) -> Option<Vec<u8>> {
    json.as_str()?
        .chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect()
}

fn push_bytes(bytes: &[u8], fixed: Option<usize>, out: &mut Vec<u8>) -> Option<()> {
    match fixed {
        Some(size) if size != bytes.len() => return None,
        Some(_) => {}
        None => push_long(i64::try_from(bytes.len()).ok()?, out),
    }
    out.extend_from_slice(bytes);
    Some(())
}
