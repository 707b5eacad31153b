//! Columns under construction.

use std::sync::Arc;

use arrow_buffer::i256;
use arrow_schema::TimeUnit;

use super::kind;
use super::reader::{Fault, Reader};
use crate::error::DecodeError;
use crate::types::{DecimalType, EnumType};

/// A column, with the path that its errors name.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) path: String,
    /// Set when the type is a union with null.
    pub(super) nullable: Option<Nullable>,
    pub(super) kind: Kind,
}

/// Which slots hold values.
#[derive(Debug)]
pub(super) struct Nullable {
    null: i64,
    value: i64,
    pub(super) valid: Vec<bool>,
}

impl Nullable {
    pub(super) fn new(null: i64, value: i64) -> Self {
        Self {
            null,
            value,
            valid: Vec::new(),
        }
    }
}

/// Ends of the slots in a column's payload; starts with 0.
#[derive(Debug)]
pub(super) struct Offsets(pub(super) Vec<i32>);

impl Offsets {
    pub(super) fn new() -> Self {
        Self(vec![0])
    }

    fn end(&mut self, len: usize) -> Result<(), Fault> {
        self.0.push(i32::try_from(len).map_err(|_| Fault::full())?);
        Ok(())
    }

    /// An empty slot.
    fn repeat(&mut self) {
        self.0.push(self.last());
    }

    fn last(&self) -> i32 {
        self.0.last().copied().unwrap_or(0)
    }

    /// Keeps `slots` slots, and says where their payload ends.
    fn truncate(&mut self, slots: usize) -> usize {
        self.0.truncate(slots.saturating_add(1));
        usize::try_from(self.last()).unwrap_or(0)
    }
}

/// What the payload of a column of bytes is.
#[derive(Debug)]
pub(super) enum Payload {
    Bytes,
    Text,
    /// On the wire 16 bytes, in the column text.
    Uuid,
    /// On the wire a number, in the column its symbol.
    Symbol(Arc<EnumType>),
}

#[derive(Debug)]
pub(super) enum Kind {
    Null(usize),
    Boolean(Vec<bool>),
    Int(Vec<i32>),
    Date(Vec<i32>),
    TimeMillis(Vec<i32>),
    Long(Vec<i64>),
    TimeMicros(Vec<i64>),
    /// With its unit, and whether it is an instant.
    Timestamp(Vec<i64>, TimeUnit, bool),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Offsets, Vec<u8>, Payload),
    Fixed(usize, Vec<u8>),
    /// Months, days and milliseconds.
    Duration([Vec<u32>; 3]),
    Decimal128(DecimalType, Vec<i128>),
    Decimal256(DecimalType, Vec<i256>),
    /// With the fewest bytes of an item.
    Array(Offsets, usize, Box<Column>),
    Map(Offsets, Box<Column>, Box<Column>),
    /// With the number of slots.
    Record(Vec<(String, Column)>, usize),
}

impl Column {
    /// Appends the next value. After an error the column may hold a part of it: [`Column::truncate`] mends that.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Box<DecodeError>> {
        if let Some(nullable) = &mut self.nullable {
            let branch = reader.long().map_err(|fault| fault.of(&self.path))?;
            if branch == nullable.null {
                nullable.valid.push(false);
                self.kind.skip_slot();
                return Ok(());
            }
            if branch != nullable.value {
                return Err(reader
                    .invalid(format!("branch {branch} is not in the union"))
                    .of(&self.path));
            }
            nullable.valid.push(true);
        }
        self.kind.read(reader, &self.path)
    }

    /// Appends a slot that is below a null and has no meaning.
    fn skip_slot(&mut self) {
        if let Some(nullable) = &mut self.nullable {
            nullable.valid.push(false);
        }
        self.kind.skip_slot();
    }

    /// Keeps the first `slots` slots. The column may have fewer where a value was cut off before it.
    pub(super) fn truncate(&mut self, slots: usize) {
        if let Some(nullable) = &mut self.nullable {
            nullable.valid.truncate(slots);
        }
        self.kind.truncate(slots);
    }
}

impl Kind {
    #[inline]
    fn read(&mut self, reader: &mut Reader<'_>, path: &str) -> Result<(), Box<DecodeError>> {
        match self {
            Self::Array(offsets, min_size, items) => {
                let mut len = offsets.last() as usize;
                loop {
                    let count = reader.block(*min_size).map_err(|fault| fault.of(path))?;
                    if count == 0 {
                        break;
                    }
                    for _ in 0..count {
                        items.read(reader)?;
                    }
                    len += count;
                }
                offsets.end(len).map_err(|fault| fault.of(path))
            }
            Self::Map(offsets, keys, values) => {
                let mut len = offsets.last() as usize;
                loop {
                    // A key is one byte at least.
                    let count = reader.block(1).map_err(|fault| fault.of(path))?;
                    if count == 0 {
                        break;
                    }
                    for _ in 0..count {
                        keys.read(reader)?;
                        values.read(reader)?;
                    }
                    len += count;
                }
                offsets.end(len).map_err(|fault| fault.of(path))
            }
            Self::Record(fields, slots) => {
                for (_, column) in fields {
                    column.read(reader)?;
                }
                *slots += 1;
                Ok(())
            }
            leaf => leaf.read_leaf(reader).map_err(|fault| fault.of(path)),
        }
    }

    #[inline]
    fn read_leaf(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        match self {
            Self::Null(slots) => *slots += 1,
            Self::Boolean(bits) => match reader.byte()? {
                byte @ (0 | 1) => bits.push(byte == 1),
                byte => return Err(reader.invalid(format!("{byte:#04x} is not a boolean"))),
            },
            Self::Int(values) | Self::Date(values) => values.push(reader.int()?),
            Self::TimeMillis(values) => {
                let v = reader.int()?;
                if !(0..86_400_000).contains(&v) {
                    return Err(reader.invalid(format!("{v} ms is not a time of day")));
                }
                values.push(v);
            }
            Self::Long(values) | Self::Timestamp(values, _, _) => values.push(reader.long()?),
            Self::TimeMicros(values) => {
                let v = reader.long()?;
                if !(0..86_400_000_000).contains(&v) {
                    return Err(reader.invalid(format!("{v} µs is not a time of day")));
                }
                values.push(v);
            }
            Self::Float(values) => values.push(f32::from_le_bytes(reader.array()?)),
            Self::Double(values) => values.push(f64::from_le_bytes(reader.array()?)),
            Self::Bytes(offsets, data, payload) => {
                match payload {
                    Payload::Bytes => data.extend_from_slice(reader.bytes()?),
                    Payload::Text => {
                        let bytes = reader.bytes()?;
                        if std::str::from_utf8(bytes).is_err() {
                            return Err(reader.invalid("not UTF-8"));
                        }
                        data.extend_from_slice(bytes);
                    }
                    Payload::Uuid => {
                        data.extend_from_slice(&crate::uuid::text(&reader.array()?));
                    }
                    Payload::Symbol(e) => {
                        let number = reader.int()?;
                        let symbol = usize::try_from(number).ok().and_then(|n| e.symbols.get(n));
                        let Some(symbol) = symbol else {
                            return Err(
                                reader.invalid(format!("enum {} has no symbol {number}", e.name))
                            );
                        };
                        data.extend_from_slice(symbol.as_bytes());
                    }
                }
                offsets.end(data.len())?;
            }
            Self::Fixed(size, data) => data.extend_from_slice(reader.take(*size)?),
            Self::Duration(parts) => {
                for part in parts {
                    part.push(u32::from_le_bytes(reader.array()?));
                }
            }
            Self::Decimal128(ty, values) => match read_decimal(reader, *ty)?.to_i128() {
                Some(v) => values.push(v),
                None => return Err(reader.invalid("a decimal of more than 128 bits")),
            },
            Self::Decimal256(ty, values) => values.push(read_decimal(reader, *ty)?),
            // Read by `read`, which knows the path that its elements need.
            Self::Array(..) | Self::Map(..) | Self::Record(..) => {}
        }
        Ok(())
    }

    fn skip_slot(&mut self) {
        match self {
            Self::Null(slots) => *slots += 1,
            Self::Boolean(bits) => bits.push(false),
            Self::Int(values) | Self::Date(values) | Self::TimeMillis(values) => values.push(0),
            Self::Long(values) | Self::TimeMicros(values) | Self::Timestamp(values, _, _) => {
                values.push(0)
            }
            Self::Float(values) => values.push(0.0),
            Self::Double(values) => values.push(0.0),
            Self::Bytes(offsets, _, _) | Self::Array(offsets, _, _) | Self::Map(offsets, _, _) => {
                offsets.repeat()
            }
            Self::Fixed(size, data) => data.resize(data.len() + *size, 0),
            Self::Duration(parts) => parts.iter_mut().for_each(|part| part.push(0)),
            Self::Decimal128(_, values) => values.push(0),
            Self::Decimal256(_, values) => values.push(i256::ZERO),
            Self::Record(fields, slots) => {
                fields.iter_mut().for_each(|(_, column)| column.skip_slot());
                *slots += 1;
            }
        }
    }

    fn truncate(&mut self, slots: usize) {
        match self {
            Self::Null(n) => *n = slots.min(*n),
            Self::Boolean(bits) => bits.truncate(slots),
            Self::Int(values) | Self::Date(values) | Self::TimeMillis(values) => {
                values.truncate(slots)
            }
            Self::Long(values) | Self::TimeMicros(values) | Self::Timestamp(values, _, _) => {
                values.truncate(slots)
            }
            Self::Float(values) => values.truncate(slots),
            Self::Double(values) => values.truncate(slots),
            Self::Bytes(offsets, data, _) => data.truncate(offsets.truncate(slots)),
            Self::Fixed(size, data) => data.truncate(slots.saturating_mul(*size)),
            Self::Duration(parts) => parts.iter_mut().for_each(|part| part.truncate(slots)),
            Self::Decimal128(_, values) => values.truncate(slots),
            Self::Decimal256(_, values) => values.truncate(slots),
            Self::Array(offsets, _, items) => items.truncate(offsets.truncate(slots)),
            Self::Map(offsets, keys, values) => {
                let elements = offsets.truncate(slots);
                keys.truncate(elements);
                values.truncate(elements);
            }
            Self::Record(fields, n) => {
                fields
                    .iter_mut()
                    .for_each(|(_, column)| column.truncate(slots));
                *n = slots.min(*n);
            }
        }
    }
}

fn read_decimal(reader: &mut Reader<'_>, ty: DecimalType) -> Result<i256, Fault> {
    let bytes = match ty.fixed {
        Some(size) => reader.take(size)?,
        None => reader.bytes()?,
    };
    kind::decimal(bytes, ty.precision)
        .ok_or_else(|| reader.invalid(format!("not a decimal of at most {} digits", ty.precision)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_full_where_its_offsets_end() {
        let fault = Offsets::new().end(1 << 31).unwrap_err();
        assert!(matches!(*fault.of("f"), DecodeError::BatchFull { path } if path == "f"));
    }
}
