//! Random Avro types.

use serde_json::{Value as Json, json};

use super::choices::Choices;

/// An Avro type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Ty {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Enum(usize),
    Fixed(usize),
    Uuid {
        fixed: bool,
    },
    Duration,
    Decimal {
        precision: u8,
        scale: u8,
        fixed: Option<usize>,
    },
    Date,
    TimeMillis,
    TimeMicros,
    /// With digits of a second.
    Timestamp(u32),
    Local(u32),
    Array(Box<Ty>),
    Map(Box<Ty>),
    Record(Vec<Ty>),
    /// With null, and whether null is first.
    Nullable(Box<Ty>, bool),
    /// Of several types, with null before them (true), behind them, or not at all.
    Union(Vec<Ty>, Option<bool>),
}

impl Ty {
    /// A random type.
    pub fn any(choices: &mut Choices<'_>, depth: usize) -> Self {
        let nullable = choices.below(3) == 1;
        let first = nullable && choices.below(2) == 0;
        match Self::plain(choices, depth) {
            // A union has its null, if any, among its branches.
            ty if nullable && !matches!(ty, Self::Union(..)) => Self::Nullable(Box::new(ty), first),
            ty => ty,
        }
    }

    fn plain(choices: &mut Choices<'_>, depth: usize) -> Self {
        let digits = |choices: &mut Choices<'_>| choices.one(&[3, 6, 9]);
        match choices.below(if depth == 0 { 18 } else { 26 }) {
            0 => Self::Int,
            1 => Self::Long,
            2 => Self::String,
            3 => Self::Boolean,
            4 => Self::Float,
            5 => Self::Double,
            6 => Self::Bytes,
            7 => Self::Enum(1 + choices.below(3)),
            8 => Self::Fixed(1 + choices.below(20)),
            9 => Self::Uuid {
                fixed: choices.below(2) == 1,
            },
            10 => Self::Duration,
            11 | 12 => {
                let precision = 1 + choices.below(76) as u8;
                let scale = choices.below(usize::from(precision) + 1) as u8;
                let fixed = choices.one(&[None, Some(4), Some(16), Some(40)]);
                // What a fixed can't hold is no valid decimal.
                let fixed = fixed.filter(|size| usize::from(precision) <= size * 2);
                Self::Decimal {
                    precision,
                    scale,
                    fixed,
                }
            }
            13 => Self::Date,
            14 => Self::TimeMillis,
            15 => Self::TimeMicros,
            16 => Self::Timestamp(digits(choices)),
            17 => Self::Local(digits(choices)),
            18 | 19 => Self::Array(Box::new(Self::any(choices, depth - 1))),
            20 | 21 => Self::Map(Box::new(Self::any(choices, depth - 1))),
            24 | 25 => Self::union(choices, depth),
            _ => Self::Record(
                (0..choices.below(4))
                    .map(|_| Self::any(choices, depth - 1))
                    .collect(),
            ),
        }
    }

    fn union(choices: &mut Choices<'_>, depth: usize) -> Self {
        // Avro tells the branches of a union apart by these, so each is taken once at most.
        let (at, step) = (choices.below(12), choices.one(&[1, 5, 7, 11]));
        let branch = |i| match (at + i * step) % 12 {
            0 => Self::Long,
            1 => Self::String,
            2 => Self::Boolean,
            3 => Self::Record(vec![Self::any(choices, depth - 1)]),
            4 => Self::Double,
            5 => Self::Array(Box::new(Self::any(choices, depth - 1))),
            6 => Self::Int,
            7 => Self::Bytes,
            8 => Self::Map(Box::new(Self::any(choices, depth - 1))),
            9 => Self::Fixed(3),
            10 => Self::Float,
            _ => Self::Enum(2),
        };
        let branches = (0..2 + at % 3).map(branch).collect();
        Self::Union(branches, choices.one(&[None, Some(true), Some(false)]))
    }

    /// As a schema's JSON; named types are numbered.
    pub fn json(&self, names: &mut usize) -> Json {
        *names += 1;
        let name = format!("N{names}");
        let logical = |base: &str, ty: &str| json!({"type": base, "logicalType": ty});
        let unit = |digits| match digits {
            3 => "millis",
            6 => "micros",
            _ => "nanos",
        };
        match self {
            Self::Boolean => json!("boolean"),
            Self::Int => json!("int"),
            Self::Long => json!("long"),
            Self::Float => json!("float"),
            Self::Double => json!("double"),
            Self::Bytes => json!("bytes"),
            Self::String => json!("string"),
            Self::Enum(n) => {
                let symbols: Vec<_> = (0..*n).map(|i| format!("S{i}")).collect();
                json!({"type": "enum", "name": name, "symbols": symbols})
            }
            Self::Fixed(size) => json!({"type": "fixed", "name": name, "size": size}),
            Self::Uuid { fixed: false } => logical("string", "uuid"),
            Self::Uuid { fixed: true } => {
                json!({"type": "fixed", "name": name, "size": 16, "logicalType": "uuid"})
            }
            Self::Duration => {
                json!({"type": "fixed", "name": name, "size": 12, "logicalType": "duration"})
            }
            Self::Decimal {
                precision,
                scale,
                fixed,
            } => {
                let mut ty = json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale});
                if let Some(size) = fixed {
                    ty["type"] = json!("fixed");
                    ty["name"] = json!(name);
                    ty["size"] = json!(size);
                }
                ty
            }
            Self::Date => logical("int", "date"),
            Self::TimeMillis => logical("int", "time-millis"),
            Self::TimeMicros => logical("long", "time-micros"),
            Self::Timestamp(digits) => logical("long", &format!("timestamp-{}", unit(*digits))),
            Self::Local(digits) => logical("long", &format!("local-timestamp-{}", unit(*digits))),
            Self::Array(items) => json!({"type": "array", "items": items.json(names)}),
            Self::Map(values) => json!({"type": "map", "values": values.json(names)}),
            Self::Record(fields) => {
                let fields = fields.iter().enumerate();
                let fields: Vec<_> = fields
                    .map(|(i, ty)| json!({"name": format!("f{i}"), "type": ty.json(names)}))
                    .collect();
                json!({"type": "record", "name": name, "fields": fields})
            }
            Self::Union(types, null) => {
                let mut branches: Vec<_> = types.iter().map(|ty| ty.json(names)).collect();
                if let Some(first) = null {
                    branches.insert(if *first { 0 } else { types.len() }, json!("null"));
                }
                json!(branches)
            }
            Self::Nullable(ty, true) => json!(["null", ty.json(names)]),
            Self::Nullable(ty, false) => json!([ty.json(names), "null"]),
        }
    }
}
