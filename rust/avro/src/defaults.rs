//! A field's default, from the schema's JSON to the bytes that stand for it.

use std::sync::Arc;

use serde_json::Value;

use crate::decode::wide_decimal;
use crate::types::AvroType;
use crate::uuid;
use crate::wire::push_long;

/// Most bytes of all defaults of a schema. One that is filled from the defaults of a record's fields can be far larger
/// than its text.
pub(crate) const MAX_BYTES: usize = 16 << 20;

/// Why a default is none.
pub(crate) enum Flaw {
    /// The JSON is no value of the type.
    OtherType,
    TooLarge,
}

/// The default in at most `room` bytes.
pub(crate) fn encode(json: &Value, ty: &AvroType, room: usize) -> Result<Arc<[u8]>, Flaw> {
    let mut out = Out {
        bytes: Vec::new(),
        room,
    };
    out.value(json, ty)?;
    Ok(out.bytes.into())
}

struct Out {
    bytes: Vec<u8>,
    room: usize,
}

impl Out {
    fn value(&mut self, json: &Value, ty: &AvroType) -> Result<(), Flaw> {
        match ty {
            AvroType::Null => json.as_null().ok_or(Flaw::OtherType),
            AvroType::Boolean => self.raw(&[u8::from(json.as_bool().ok_or(Flaw::OtherType)?)]),
            AvroType::Int | AvroType::Date => {
                self.long(int(json, i32::MIN.into(), i32::MAX.into())?)
            }
            AvroType::TimeMillis => self.long(int(json, 0, 86_399_999)?),
            AvroType::TimeMicros => self.long(int(json, 0, 86_399_999_999)?),
            AvroType::Long | AvroType::Timestamp(_) | AvroType::LocalTimestamp(_) => {
                self.long(int(json, i64::MIN, i64::MAX)?)
            }
            AvroType::Float => {
                let v = json.as_f64().ok_or(Flaw::OtherType)? as f32;
                // JSON has no infinity: what becomes one is out of range.
                if v.is_infinite() {
                    return Err(Flaw::OtherType);
                }
                self.raw(&v.to_le_bytes())
            }
            AvroType::Double => self.raw(&json.as_f64().ok_or(Flaw::OtherType)?.to_le_bytes()),
            AvroType::String => self.sized(text(json)?.as_bytes()),
            AvroType::Uuid { fixed: false } => {
                let text = text(json)?;
                uuid::parse(text).ok_or(Flaw::OtherType)?;
                self.sized(text.as_bytes())
            }
            AvroType::Bytes => self.sized(&bytes(json)?),
            AvroType::Fixed(fixed) => self.fixed(&bytes(json)?, fixed.size),
            AvroType::Uuid { fixed: true } => self.fixed(&bytes(json)?, 16),
            AvroType::Duration => self.fixed(&bytes(json)?, 12),
            AvroType::Decimal(ty) => {
                let bytes = bytes(json)?;
                wide_decimal(&bytes, ty.precision).ok_or(Flaw::OtherType)?;
                match ty.fixed {
                    Some(size) => self.fixed(&bytes, size),
                    None => self.sized(&bytes),
                }
            }
            AvroType::Enum(e) => {
                let symbol = text(json)?;
                let index = e.symbols.iter().position(|s| s == symbol);
                self.length(index.ok_or(Flaw::OtherType)?)
            }
            AvroType::Array(items) => {
                let values = json.as_array().ok_or(Flaw::OtherType)?;
                if !values.is_empty() {
                    self.length(values.len())?;
                    values
                        .iter()
                        .try_for_each(|value| self.value(value, items))?;
                }
                self.raw(&[0])
            }
            AvroType::Map(values) => {
                let entries = json.as_object().ok_or(Flaw::OtherType)?;
                if !entries.is_empty() {
                    self.length(entries.len())?;
                    for (key, value) in entries {
                        self.sized(key.as_bytes())?;
                        self.value(value, values)?;
                    }
                }
                self.raw(&[0])
            }
            AvroType::Record(record) => {
                let values = json.as_object().ok_or(Flaw::OtherType)?;
                for field in &record.fields {
                    match (values.get(&field.name), &field.default) {
                        (Some(value), _) => self.value(value, &field.ty)?,
                        (None, Some(default)) => self.raw(default)?,
                        (None, None) => return Err(Flaw::OtherType),
                    }
                }
                Ok(())
            }
            AvroType::Union(branches) => {
                // The specification once asked for the first branch; now any will do, and the first that fits is taken.
                let start = self.bytes.len();
                for (index, branch) in branches.iter().enumerate() {
                    self.length(index)?;
                    match self.value(json, branch) {
                        Err(Flaw::OtherType) => self.bytes.truncate(start),
                        result => return result,
                    }
                }
                Err(Flaw::OtherType)
            }
        }
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), Flaw> {
        if bytes.len() > self.room.saturating_sub(self.bytes.len()) {
            return Err(Flaw::TooLarge);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn long(&mut self, v: i64) -> Result<(), Flaw> {
        let mut bytes = Vec::new();
        push_long(v, &mut bytes);
        self.raw(&bytes)
    }

    fn length(&mut self, length: usize) -> Result<(), Flaw> {
        self.long(i64::try_from(length).map_err(|_| Flaw::TooLarge)?)
    }

    fn sized(&mut self, bytes: &[u8]) -> Result<(), Flaw> {
        self.length(bytes.len())?;
        self.raw(bytes)
    }

    fn fixed(&mut self, bytes: &[u8], size: usize) -> Result<(), Flaw> {
        if bytes.len() != size {
            return Err(Flaw::OtherType);
        }
        self.raw(bytes)
    }
}

fn int(json: &Value, min: i64, max: i64) -> Result<i64, Flaw> {
    let v = json.as_i64().filter(|v| (min..=max).contains(v));
    v.ok_or(Flaw::OtherType)
}

fn text(json: &Value) -> Result<&str, Flaw> {
    json.as_str().ok_or(Flaw::OtherType)
}

/// Avro writes bytes in JSON as a string whose code points are the bytes.
fn bytes(json: &Value) -> Result<Vec<u8>, Flaw> {
    let bytes = text(json)?.chars().map(|c| u8::try_from(u32::from(c)));
    bytes.collect::<Result<_, _>>().map_err(|_| Flaw::OtherType)
}
