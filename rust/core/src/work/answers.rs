//! The schema in which services give their answers.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};

/// The schema in which answers come back: wide enough that Python loses nothing on the way to the egress schema's gate,
/// which then judges row by row. Everything may be null, and times have microseconds.
pub fn answer_schema(egress: &Schema) -> Schema {
    Schema::new(egress.fields().iter().map(|f| loose(f)).collect::<Fields>())
}

fn loose(field: &Field) -> Field {
    Field::new(field.name(), loose_type(field.data_type()), true)
}

fn loose_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, zone) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        DataType::Time32(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Dictionary(_, values) => loose_type(values),
        DataType::List(item) => DataType::List(Arc::new(loose(item))),
        DataType::LargeList(item) => DataType::LargeList(Arc::new(loose(item))),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| loose(f)).collect()),
        DataType::Map(entries, sorted) => match entries.data_type() {
            // Keys and entries of a map are never null.
            DataType::Struct(pair) if pair.len() == 2 => {
                let pair: Fields = pair
                    .iter()
                    .enumerate()
                    .map(|(at, f)| match at {
                        0 => f.as_ref().clone(),
                        _ => loose(f),
                    })
                    .collect();
                let entries = Field::new(entries.name(), DataType::Struct(pair), false);
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => data_type.clone(),
        },
        other => other.clone(),
    }
}
