//! Any valid Avro schema: its top may be any type, and it may contain itself.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema::{Alias, FixedSchema, InnerDecimalSchema, Name, UuidSchema};

use super::relation::{FieldView, Named, Node, Shape, View};
use crate::canonical;
use crate::error::SchemaError;
use crate::parse;
use crate::schema::full_names;

/// A valid Avro schema of any form, with the schemas that it refers to.
#[derive(Debug, Clone)]
pub struct GeneralSchema(Arc<[Schema]>);

impl GeneralSchema {
    /// Parses the JSON of a schema, and of the schemas whose names it uses.
    ///
    /// # Errors
    /// [`SchemaError::Invalid`]
    pub fn parse(json: &str, references: &[&str]) -> Result<Self, SchemaError> {
        if references.is_empty() {
            return parse::parse(json).map(Self::from);
        }
        let (top, mut all) = parse::parse_with(json, references)?;
        all.insert(0, top);
        Ok(Self(all.into()))
    }

    /// Avro's Parsing Canonical Form: equal for schemas that read and write the same bytes.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.0.first().map(canonical::form).unwrap_or_default()
    }

    /// The named types in it, so that references are looked up once.
    pub(super) fn names(&self) -> Names<'_> {
        let mut names = Names(HashMap::new());
        self.0.iter().for_each(|schema| names.collect(schema));
        names
    }

    pub(super) fn top<'a>(&'a self, names: &'a Names<'a>) -> Part<'a> {
        Part {
            schema: self.0.first().unwrap_or(&Schema::Null),
            names,
        }
    }
}

impl From<Schema> for GeneralSchema {
    fn from(schema: Schema) -> Self {
        Self(Arc::from([schema]))
    }
}

#[derive(Debug)]
pub(super) struct Names<'a>(HashMap<&'a Name, &'a Schema>);

impl<'a> Names<'a> {
    fn collect(&mut self, schema: &'a Schema) {
        if let Some(name) = schema
            .name()
            .filter(|_| !matches!(schema, Schema::Ref { .. }))
        {
            self.0.entry(name).or_insert(schema);
        }
        match schema {
            Schema::Array(array) => self.collect(&array.items),
            Schema::Map(map) => self.collect(&map.types),
            Schema::Union(union) => union.variants().iter().for_each(|s| self.collect(s)),
            Schema::Record(record) => record.fields.iter().for_each(|f| self.collect(&f.schema)),
            _ => {}
        }
    }
}

/// A type in a general schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    schema: &'a Schema,
    names: &'a Names<'a>,
}

impl<'a> Part<'a> {
    fn inside(self, schema: &'a Schema) -> Self {
        Self { schema, ..self }
    }
}

impl<'a> Node<'a> for Part<'a> {
    fn view(self) -> View<'a, Self> {
        let schema = match self.schema {
            // The parser refuses a name that it doesn't know.
            Schema::Ref { name } => self.names.0.get(name).copied().unwrap_or(self.schema),
            schema => schema,
        };
        let mut decimal = None;
        let shape = match schema {
            Schema::Null | Schema::Ref { .. } => Shape::Null,
            Schema::Boolean => Shape::Boolean,
            Schema::Int | Schema::Date | Schema::TimeMillis => Shape::Int,
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Shape::Long,
            Schema::Float => Shape::Float,
            Schema::Double => Shape::Double,
            Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => Shape::Bytes,
            Schema::String | Schema::Uuid(UuidSchema::String) => Shape::String,
            Schema::Fixed(fixed)
            | Schema::Duration(fixed)
            | Schema::Uuid(UuidSchema::Fixed(fixed)) => shape_of(fixed),
            Schema::Decimal(d) => {
                decimal = Some((d.precision, d.scale));
                match &d.inner {
                    InnerDecimalSchema::Bytes => Shape::Bytes,
                    InnerDecimalSchema::Fixed(fixed) => shape_of(fixed),
                }
            }
            Schema::Enum(e) => Shape::Enum {
                name: named(&e.name, e.aliases.as_deref()),
                symbols: &e.symbols,
                default: e.default.as_deref(),
            },
            Schema::Array(array) => Shape::Array(self.inside(&array.items)),
            Schema::Map(map) => Shape::Map(self.inside(&map.types)),
            Schema::Record(record) => Shape::Record(
                named(&record.name, record.aliases.as_deref()),
                record
                    .fields
                    .iter()
                    .map(|field| FieldView {
                        name: &field.name,
                        aliases: &field.aliases,
                        has_default: parse::default_of(field).is_some(),
                        ty: self.inside(&field.schema),
                    })
                    .collect(),
            ),
            Schema::Union(union) => {
                Shape::Union(union.variants().iter().map(|s| self.inside(s)).collect())
            }
        };
        View { shape, decimal }
    }
}

fn shape_of<'a>(fixed: &'a FixedSchema) -> Shape<'a, Part<'a>> {
    let name = named(&fixed.name, fixed.aliases.as_deref());
    Shape::Fixed(Some(name), fixed.size)
}

fn named<'a>(name: &'a Name, aliases: Option<&[Alias]>) -> Named<'a> {
    Named {
        full: Cow::Owned(name.fullname(None)),
        aliases: Cow::Owned(full_names(name, aliases)),
    }
}
