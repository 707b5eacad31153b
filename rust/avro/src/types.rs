//! Our own model of an Avro schema: names resolved, references unfolded, defaults already encoded.

use std::fmt;
use std::sync::Arc;

use crate::schema::MAX_UNION_BRANCHES;

/// Resolution of an Avro timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubSecond {
    /// `timestamp-millis`
    Millis,
    /// `timestamp-micros`
    Micros,
    /// `timestamp-nanos`
    Nanos,
}

impl SubSecond {
    pub(crate) const fn per_second(self) -> i64 {
        match self {
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Millis => "millis",
            Self::Micros => "micros",
            Self::Nanos => "nanos",
        }
    }
}

/// An Avro type, resolved. Shared parts are shared by [`Arc`], so that a type named many times costs once.
#[derive(Debug, Clone, PartialEq)]
pub enum AvroType {
    /// `null`
    Null,
    /// `boolean`
    Boolean,
    /// `int`
    Int,
    /// `long`
    Long,
    /// `float`
    Float,
    /// `double`
    Double,
    /// `bytes`
    Bytes,
    /// `string`
    String,
    /// `enum`
    Enum(Arc<EnumType>),
    /// `fixed`
    Fixed(Arc<FixedType>),
    /// `array`, with its items
    Array(Arc<AvroType>),
    /// `map`, with its values
    Map(Arc<AvroType>),
    /// `record`
    Record(Arc<RecordType>),
    /// A union, with its branches in order
    Union(Arc<[AvroType]>),
    /// `decimal` over bytes or fixed
    Decimal(DecimalType),
    /// `uuid`, over a string or over a fixed of 16 bytes
    Uuid {
        /// Whether a fixed carries it.
        fixed: bool,
    },
    /// `duration`: months, days and milliseconds in a fixed of 12 bytes
    Duration,
    /// `date`
    Date,
    /// `time-millis`
    TimeMillis,
    /// `time-micros`
    TimeMicros,
    /// `timestamp-*`: an instant
    Timestamp(SubSecond),
    /// `local-timestamp-*`: a reading of a calendar and a clock, anywhere
    LocalTimestamp(SubSecond),
}

/// A decimal: `precision` digits, `scale` of them after the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecimalType {
    /// Digits in all, at least 1.
    pub precision: usize,
    /// Digits after the point, at most `precision`.
    pub scale: usize,
    /// Size in bytes of the fixed that carries it; `None` means bytes.
    pub fixed: Option<usize>,
}

/// An enum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnumType {
    /// Full name.
    pub name: String,
    /// Full names of other enums that it reads.
    pub aliases: Vec<String>,
    /// Symbols in the order that gives their numbers.
    pub symbols: Vec<String>,
    /// The symbol that stands for those of a writer that it doesn't have.
    pub default: Option<String>,
}

/// A fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedType {
    /// Full name.
    pub name: String,
    /// Full names of other fixed that it reads.
    pub aliases: Vec<String>,
    /// Size in bytes.
    pub size: usize,
}

/// A record.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordType {
    /// Full name.
    pub name: String,
    /// Full names of other records that it reads.
    pub aliases: Vec<String>,
    /// Fields in the order in which they are written.
    pub fields: Vec<RecordField>,
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordField {
    /// Name.
    pub name: String,
    /// Other names that a column may have.
    pub aliases: Vec<String>,
    /// Type.
    pub ty: AvroType,
    /// The default, encoded, if there is one.
    pub default: Option<Arc<[u8]>>,
}

impl AvroType {
    /// Whether null is a value of this type.
    #[must_use]
    pub fn is_nullable(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Union(branches) => branches.contains(&Self::Null),
            _ => false,
        }
    }

    /// Whether these are the bytes of null.
    pub(crate) fn is_null(&self, encoded: &[u8]) -> bool {
        match self {
            Self::Null => true,
            Self::Union(branches) => {
                let null = branches.iter().position(|branch| *branch == Self::Null);
                null.is_some_and(|null| encoded == [(null as u8) << 1])
            }
            _ => false,
        }
    }

    /// The fewest bytes a value takes: what a count of values is checked against before memory is taken for them.
    pub(crate) fn min_size(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Float => 4,
            Self::Double => 8,
            Self::Fixed(fixed) => fixed.size,
            Self::Uuid { fixed: true } => 16,
            Self::Duration => 12,
            Self::Decimal(DecimalType {
                fixed: Some(size), ..
            }) => *size,
            Self::Record(record) => record
                .fields
                .iter()
                .fold(0, |sum, field| sum.saturating_add(field.ty.min_size())),
            // A branch number is one byte at least; so is any length or varint.
            _ => 1,
        }
    }
}

impl fmt::Display for AvroType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean => f.write_str("boolean"),
            Self::Int => f.write_str("int"),
            Self::Long => f.write_str("long"),
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::Bytes => f.write_str("bytes"),
            Self::String => f.write_str("string"),
            Self::Enum(e) => write!(f, "enum {}", e.name),
            Self::Fixed(x) => write!(f, "fixed {}({})", x.name, x.size),
            Self::Array(items) => write!(f, "array<{items}>"),
            Self::Map(values) => write!(f, "map<{values}>"),
            Self::Record(record) => write!(f, "record {}", record.name),
            Self::Union(branches) => {
                debug_assert!(branches.len() <= MAX_UNION_BRANCHES);
                f.write_str("[")?;
                for (i, branch) in branches.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{branch}")?;
                }
                f.write_str("]")
            }
            Self::Decimal(d) => write!(f, "decimal({}, {})", d.precision, d.scale),
            Self::Uuid { fixed: false } => f.write_str("uuid"),
            Self::Uuid { fixed: true } => f.write_str("uuid over fixed(16)"),
            Self::Duration => f.write_str("duration"),
            Self::Date => f.write_str("date"),
            Self::TimeMillis => f.write_str("time-millis"),
            Self::TimeMicros => f.write_str("time-micros"),
            Self::Timestamp(unit) => write!(f, "timestamp-{}", unit.name()),
            Self::LocalTimestamp(unit) => write!(f, "local-timestamp-{}", unit.name()),
        }
    }
}
