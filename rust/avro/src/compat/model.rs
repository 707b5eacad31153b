//! Our own model of a schema, as types to compare.

use std::borrow::Cow;

use super::relation::{FieldView, Named, Node, Shape, View};
use crate::types::{AvroType, DecimalType};

impl<'a> Node<'a> for &'a AvroType {
    fn view(self) -> View<'a, Self> {
        let mut decimal = None;
        let shape = match self {
            AvroType::Null => Shape::Null,
            AvroType::Boolean => Shape::Boolean,
            AvroType::Int | AvroType::Date | AvroType::TimeMillis => Shape::Int,
            AvroType::Long
            | AvroType::TimeMicros
            | AvroType::Timestamp(_)
            | AvroType::LocalTimestamp(_) => Shape::Long,
            AvroType::Float => Shape::Float,
            AvroType::Double => Shape::Double,
            AvroType::Bytes => Shape::Bytes,
            AvroType::String | AvroType::Uuid { fixed: false } => Shape::String,
            AvroType::Fixed(fixed) => {
                Shape::Fixed(Some(named(&fixed.name, &fixed.aliases)), fixed.size)
            }
            AvroType::Uuid { fixed: true } => Shape::Fixed(None, 16),
            AvroType::Duration => Shape::Fixed(None, 12),
            AvroType::Decimal(DecimalType {
                precision,
                scale,
                fixed,
            }) => {
                decimal = Some((*precision, *scale));
                fixed.map_or(Shape::Bytes, |size| Shape::Fixed(None, size))
            }
            AvroType::Enum(e) => Shape::Enum {
                name: named(&e.name, &e.aliases),
                symbols: &e.symbols,
                default: e.default.as_deref(),
            },
            AvroType::Array(items) => Shape::Array(items.as_ref()),
            AvroType::Map(values) => Shape::Map(values.as_ref()),
            AvroType::Record(record) => Shape::Record(
                named(&record.name, &record.aliases),
                record
                    .fields
                    .iter()
                    .map(|field| FieldView {
                        name: &field.name,
                        aliases: &field.aliases,
                        has_default: field.default.is_some(),
                        ty: &field.ty,
                    })
                    .collect(),
            ),
            AvroType::Union(branches) => Shape::Union(branches.iter().collect()),
        };
        View { shape, decimal }
    }
}

fn named<'a>(name: &'a str, aliases: &'a [String]) -> Named<'a> {
    Named {
        full: Cow::Borrowed(name),
        aliases: Cow::Borrowed(aliases),
    }
}
