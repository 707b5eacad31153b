//! Passing over what only the writer has.

use super::arrays::Arrays;
use super::fault::Fault;
use super::source::Source;
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
    /// Null, which has this number, or a value.
    Optional(u8, Box<Skip>),
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
            AvroType::Union(branches) => match &branches[..] {
                [AvroType::Null, value] => Self::Optional(0, Box::new(Self::new(value))),
                [value, AvroType::Null] => Self::Optional(1, Box::new(Self::new(value))),
                _ => Self::Union(branches.iter().map(Self::new).collect()),
            },
        }
    }

    /// Whether there are no arrays and no maps in it.
    pub(super) fn is_flat(&self) -> bool {
        match self {
            Self::Size(_) | Self::Number | Self::Bytes => true,
            Self::Array(..) | Self::Map(_) => false,
            Self::Optional(_, value) => value.is_flat(),
            Self::Record(parts) | Self::Union(parts) => parts.iter().all(Self::is_flat),
        }
    }

    #[inline(always)]
    pub(super) fn skip<'a>(&self, r: &mut impl Source<'a>) -> Result<(), Fault> {
        match self {
            Self::Record(fields) => {
                for field in fields {
                    field.part(r)?;
                }
                Ok(())
            }
            part => part.part(r),
        }
    }

    /// What is simple is passed over without a call.
    #[inline(always)]
    fn part<'a>(&self, r: &mut impl Source<'a>) -> Result<(), Fault> {
        match self {
            // Which are null can't be foretold: what is of one size is passed over without a branch.
            Self::Optional(null, value) => match (r.present(*null)?, &**value) {
                (present, Self::Size(size)) => r.skip_size(usize::from(present) * size),
                (true, value) => value.simple(r),
                (false, _) => Ok(()),
            },
            part => part.simple(r),
        }
    }

    #[inline(always)]
    fn simple<'a>(&self, r: &mut impl Source<'a>) -> Result<(), Fault> {
        match self {
            Self::Size(size) => r.skip_size(*size),
            Self::Number => r.skip_number(),
            Self::Bytes => r.skip_bytes(),
            other => {
                *r = other.nested(*r)?;
                Ok(())
            }
        }
    }

    /// What reads is handed over and given back: its place in memory is nobody's, so it may be in registers.
    #[inline(never)]
    fn nested<'a, S: Source<'a>>(&self, mut r: S) -> Result<S, Fault> {
        match self {
            Self::Array(min_size, items) => r.skip_blocks(*min_size, |r| items.skip(r))?,
            Self::Map(values) => r.skip_blocks(1, |r| {
                r.skip_bytes()?;
                values.skip(r)
            })?,
            Self::Union(branches) => {
                let index = r.union(branches.len())?;
                // `union` gives none but the branches there are.
                if let Some(branch) = branches.get(index) {
                    branch.skip(&mut r)?;
                }
            }
            part => part.skip(&mut r)?,
        }
        Ok(r)
    }
}
