//! Passing over what only the writer has.

use super::reader::{Fault, Reader};
use crate::types::{AvroType, DecimalType};

/// How to get past a value. Nothing is kept of it, so only what says where it ends is looked at.
#[derive(Debug)]
pub(super) enum Skip {
    /// So many bytes.
    Size(usize),
    Number,
    Bytes,
    /// With the fewest bytes of an item.
    Array(usize, Box<Skip>),
    Map(Box<Skip>),
    Record(Box<[Skip]>),
    Union(Box<[Skip]>),
}

impl Skip {
    pub(super) fn new(ty: &AvroType) -> Self {
        match ty {
            AvroType::Null => Self::Size(0),
            AvroType::Boolean => Self::Size(1),
            AvroType::Float => Self::Size(4),
            AvroType::Double => Self::Size(8),
            AvroType::Fixed(fixed) => Self::Size(fixed.size),
            AvroType::Uuid { fixed: true } => Self::Size(16),
            AvroType::Duration => Self::Size(12),
            AvroType::Decimal(DecimalType {
                fixed: Some(size), ..
            }) => Self::Size(*size),
            AvroType::Bytes
            | AvroType::String
            | AvroType::Uuid { fixed: false }
            | AvroType::Decimal(_) => Self::Bytes,
            AvroType::Int
            | AvroType::Long
            | AvroType::Enum(_)
            | AvroType::Date
            | AvroType::TimeMillis
            | AvroType::TimeMicros
            | AvroType::Timestamp(_)
            | AvroType::LocalTimestamp(_) => Self::Number,
            AvroType::Array(items) => Self::Array(items.min_size(), Box::new(Self::new(items))),
            AvroType::Map(values) => Self::Map(Box::new(Self::new(values))),
            AvroType::Record(record) => {
                Self::Record(record.fields.iter().map(|f| Self::new(&f.ty)).collect())
            }
            AvroType::Union(branches) => Self::Union(branches.iter().map(Self::new).collect()),
        }
    }

    pub(super) fn skip(&self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        match self {
            Self::Size(size) => reader.take(*size).map(drop),
            Self::Number => reader.long().map(drop),
            Self::Bytes => reader.bytes().map(drop),
            Self::Array(min_size, items) => reader.skip_blocks(*min_size, |r| items.skip(r)),
            Self::Map(values) => reader.skip_blocks(1, |r| {
                r.bytes()?;
                values.skip(r)
            }),
            Self::Record(fields) => fields.iter().try_for_each(|field| field.skip(reader)),
            Self::Union(branches) => {
                let index = reader.union(branches.len())?;
                // `union` gives none but the branches there are.
                branches.get(index).map_or(Ok(()), |b| b.skip(reader))
            }
        }
    }
}
