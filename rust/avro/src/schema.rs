//! Parsing: apache-avro says what is valid, and what it read becomes our own model.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema::{
    Alias, DecimalSchema, FixedSchema, InnerDecimalSchema, Name, UuidSchema,
};

use serde_json::Value;

use crate::canonical;
use crate::compat::GeneralSchema;
use crate::defaults::{self, Flaw};
use crate::error::SchemaError;
use crate::parse;
use crate::types::{
    AvroType, DecimalType, EnumType, FixedType, RecordField, RecordType, SubSecond,
};

/// Most types within types, references followed: what is deeper could exhaust the stack of a thread.
const MAX_DEPTH: usize = 128;
/// The largest fixed: each null of a nullable one takes its size in a column.
const MAX_FIXED: usize = 1 << 20;
/// Most types that a schema may unfold to.
const MAX_NODES: usize = 200_000;
/// Most branches of a union, so that a branch number is always one byte.
pub(crate) const MAX_UNION_BRANCHES: usize = 64;

/// An Avro schema whose top is a record.
#[derive(Debug, Clone)]
pub struct AvroSchema {
    json: String,
    canonical: String,
    record: Arc<RecordType>,
    general: GeneralSchema,
}

impl AvroSchema {
    /// Parses the JSON of an Avro schema.
    ///
    /// # Errors
    /// [`SchemaError`]: not valid Avro, not a record at the top, recursive, or with a part that is not supported.
    pub fn parse(json: &str) -> Result<Self, SchemaError> {
        let schema = parse::parse(json)?;
        let mut builder = Builder {
            done: HashMap::new(),
            open: Vec::new(),
            nodes: 0,
            depth: 0,
            default_bytes: 0,
        };
        let top = builder.build(&schema, "")?;
        let AvroType::Record(record) = top else {
            return Err(SchemaError::NotARecord {
                found: top.to_string(),
            });
        };
        Ok(Self {
            json: json.to_owned(),
            canonical: canonical::form(&schema),
            record,
            general: schema.into(),
        })
    }

    /// The JSON as it was given.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Avro's Parsing Canonical Form: equal for schemas that read and write the same bytes.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.canonical.clone()
    }

    /// Full name of the record.
    #[must_use]
    pub fn full_name(&self) -> &str {
        &self.record.name
    }

    /// The record's fields, in the order in which they are written.
    #[must_use]
    pub fn fields(&self) -> &[RecordField] {
        &self.record.fields
    }

    pub(crate) const fn general(&self) -> &GeneralSchema {
        &self.general
    }

    pub(crate) fn record(&self) -> &Arc<RecordType> {
        &self.record
    }
}

struct Builder {
    /// Named types built so far.
    done: HashMap<Name, Built>,
    /// Records being built: meeting one again means recursion.
    open: Vec<Name>,
    nodes: usize,
    /// Types within types in the deepest of the siblings built last.
    depth: usize,
    /// Bytes of all defaults, encoded.
    default_bytes: usize,
}

/// A named type, the types that it unfolds to, and how deep these are nested.
#[derive(Clone)]
struct Built {
    ty: AvroType,
    nodes: usize,
    depth: usize,
}

impl Builder {
    fn build(&mut self, schema: &Schema, path: &str) -> Result<AvroType, SchemaError> {
        let siblings = std::mem::take(&mut self.depth);
        let ty = self.build_type(schema, path)?;
        self.grow(1)?;
        // A reference is as deep as what it names.
        let depth = self.depth + usize::from(!matches!(schema, Schema::Ref { .. }));
        if depth > MAX_DEPTH {
            return Err(SchemaError::TooDeep { limit: MAX_DEPTH });
        }
        self.depth = siblings.max(depth);
        Ok(ty)
    }

    fn grow(&mut self, by: usize) -> Result<(), SchemaError> {
        self.nodes = self.nodes.saturating_add(by);
        if self.nodes > MAX_NODES {
            return Err(SchemaError::TooLarge { limit: MAX_NODES });
        }
        Ok(())
    }

    /// Keeps a type by its name, which is taken once.
    fn name(&mut self, name: &Name, nodes: usize, ty: AvroType) -> Result<AvroType, SchemaError> {
        let built = Built {
            ty: ty.clone(),
            nodes,
            depth: self.depth + 1,
        };
        match self.done.insert(name.clone(), built) {
            None => Ok(ty),
            Some(_) => Err(SchemaError::DuplicateName {
                name: name.fullname(None),
            }),
        }
    }

    fn default(
        &mut self,
        json: &Value,
        ty: &AvroType,
        path: &str,
    ) -> Result<Arc<[u8]>, SchemaError> {
        let room = defaults::MAX_BYTES - self.default_bytes;
        let default = defaults::encode(json, ty, room).map_err(|flaw| match flaw {
            Flaw::OtherType => SchemaError::BadDefault {
                path: path.to_owned(),
                value: json.to_string(),
                expected: ty.to_string(),
            },
            Flaw::TooLarge => SchemaError::DefaultsTooLarge {
                limit: defaults::MAX_BYTES,
            },
        })?;
        self.default_bytes += default.len();
        Ok(default)
    }

    fn build_type(&mut self, schema: &Schema, path: &str) -> Result<AvroType, SchemaError> {
        let unsupported = |what: &str, way_out| {
            Err(SchemaError::Unsupported {
                path: path.to_owned(),
                what: what.to_owned(),
                way_out,
            })
        };
        Ok(match schema {
            Schema::Null => AvroType::Null,
            Schema::Boolean => AvroType::Boolean,
            Schema::Int => AvroType::Int,
            Schema::Long => AvroType::Long,
            Schema::Float => AvroType::Float,
            Schema::Double => AvroType::Double,
            Schema::Bytes => AvroType::Bytes,
            Schema::String => AvroType::String,
            Schema::Date => AvroType::Date,
            Schema::TimeMillis => AvroType::TimeMillis,
            Schema::TimeMicros => AvroType::TimeMicros,
            Schema::TimestampMillis => AvroType::Timestamp(SubSecond::Millis),
            Schema::TimestampMicros => AvroType::Timestamp(SubSecond::Micros),
            Schema::TimestampNanos => AvroType::Timestamp(SubSecond::Nanos),
            Schema::LocalTimestampMillis => AvroType::LocalTimestamp(SubSecond::Millis),
            Schema::LocalTimestampMicros => AvroType::LocalTimestamp(SubSecond::Micros),
            Schema::LocalTimestampNanos => AvroType::LocalTimestamp(SubSecond::Nanos),
            Schema::Uuid(UuidSchema::String) => AvroType::Uuid { fixed: false },
            Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                self.name(&fixed.name, 1, AvroType::Uuid { fixed: true })?
            }
            // Not in the specification, which knows a string and a fixed.
            Schema::Uuid(UuidSchema::Bytes) => {
                return unsupported("uuid over bytes", "use uuid over a string or a fixed(16)");
            }
            Schema::Duration(fixed) => self.name(&fixed.name, 1, AvroType::Duration)?,
            Schema::BigDecimal => {
                return unsupported("big-decimal", "use decimal with a precision and a scale");
            }
            Schema::Array(array) => {
                AvroType::Array(Arc::new(self.build(&array.items, &format!("{path}[]"))?))
            }
            Schema::Map(map) => {
                AvroType::Map(Arc::new(self.build(&map.types, &format!("{path}{{}}"))?))
            }
            Schema::Union(union) if union.variants().is_empty() => {
                return unsupported("a union of no types", "name the types that it may be");
            }
            Schema::Union(union) => {
                if union.variants().len() > MAX_UNION_BRANCHES {
                    return unsupported("a union of more than 64 branches", "split the field");
                }
                let branches: Result<Vec<_>, _> = union
                    .variants()
                    .iter()
                    .map(|branch| self.build(branch, path))
                    .collect();
                AvroType::Union(branches?.into())
            }
            Schema::Enum(e) => {
                let ty = EnumType {
                    name: e.name.fullname(None),
                    aliases: full_names(&e.name, e.aliases.as_deref()),
                    symbols: e.symbols.clone(),
                    default: e.default.clone(),
                };
                self.name(&e.name, 1, AvroType::Enum(Arc::new(ty)))?
            }
            Schema::Fixed(FixedSchema { size, .. })
            | Schema::Decimal(DecimalSchema {
                inner: InnerDecimalSchema::Fixed(FixedSchema { size, .. }),
                ..
            }) if *size > MAX_FIXED => {
                return unsupported("a fixed of more than 1 MiB", "use bytes");
            }
            Schema::Fixed(fixed) => {
                let ty = FixedType {
                    name: fixed.name.fullname(None),
                    aliases: full_names(&fixed.name, fixed.aliases.as_deref()),
                    size: fixed.size,
                };
                self.name(&fixed.name, 1, AvroType::Fixed(Arc::new(ty)))?
            }
            Schema::Decimal(decimal) => {
                let (precision, scale) = (decimal.precision, decimal.scale);
                if precision > 76 {
                    return unsupported("a decimal of more than 76 digits", "use a string");
                }
                match &decimal.inner {
                    InnerDecimalSchema::Bytes => AvroType::Decimal(DecimalType {
                        precision,
                        scale,
                        fixed: None,
                    }),
                    InnerDecimalSchema::Fixed(fixed) => {
                        let ty = DecimalType {
                            precision,
                            scale,
                            fixed: Some(fixed.size),
                        };
                        self.name(&fixed.name, 1, AvroType::Decimal(ty))?
                    }
                }
            }
            Schema::Ref { name } => {
                if self.open.contains(name) {
                    return Err(SchemaError::Recursive {
                        name: name.fullname(None),
                    });
                }
                let Some(built) = self.done.get(name).cloned() else {
                    return Err(SchemaError::Invalid(format!(
                        "{path}: unknown type {}",
                        name.fullname(None)
                    )));
                };
                self.grow(built.nodes)?;
                self.depth = built.depth;
                built.ty
            }
            Schema::Record(record) => {
                if self.open.contains(&record.name) {
                    return Err(SchemaError::DuplicateName {
                        name: record.name.fullname(None),
                    });
                }
                self.open.push(record.name.clone());
                let before = self.nodes;
                let mut fields = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    let path = if path.is_empty() {
                        field.name.clone()
                    } else {
                        format!("{path}.{}", field.name)
                    };
                    let ty = self.build(&field.schema, &path)?;
                    let default = match parse::default_of(field) {
                        None => None,
                        Some(json) => Some(self.default(json, &ty, &path)?),
                    };
                    let aliases = field.aliases.clone();
                    fields.push(RecordField {
                        name: field.name.clone(),
                        aliases,
                        ty,
                        default,
                    });
                }
                self.open.pop();
                let ty = AvroType::Record(Arc::new(RecordType {
                    name: record.name.fullname(None),
                    aliases: full_names(&record.name, record.aliases.as_deref()),
                    fields,
                }));
                self.name(&record.name, self.nodes - before + 1, ty)?
            }
        })
    }
}

/// The aliases of a named type. One without a namespace is in its type's own.
pub(crate) fn full_names(name: &Name, aliases: Option<&[Alias]>) -> Vec<String> {
    let aliases = aliases.unwrap_or_default().iter();
    aliases.map(|a| a.fullname(name.namespace())).collect()
}

/// An error and its causes, such as the line and column where JSON went wrong.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |mut text, cause| {
        let cause = cause.to_string();
        // Some errors say their cause themselves.
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        text
    })
}
