//! The columns of files, as the table's format has them.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, TimeUnit};

use crate::job::TableFormat;

/// The type that files hold a column of answers in. Iceberg counts time in microseconds (its specification, "Primitive
/// Types"), so what is in milliseconds is held in those; all else is held as it is.
///
/// # Errors
/// A type that the format has none for.
pub fn held(kind: &DataType, format: TableFormat) -> Result<DataType, String> {
    if format != TableFormat::Iceberg {
        return Ok(kind.clone());
    }
    let inside = |field: &FieldRef| -> Result<FieldRef, String> {
        let kind = held(field.data_type(), format).map_err(|e| format!("{}: {e}", field.name()))?;
        Ok(Arc::new(Field::clone(field).with_data_type(kind)))
    };
    Ok(match kind {
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        DataType::Time32(TimeUnit::Millisecond) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            return Err(
                "Iceberg has no nanoseconds: make it timestamp-micros in schema.egress, or land into another format"
                    .into(),
            );
        }
        DataType::Null | DataType::Duration(_) | DataType::Interval(_) => {
            return Err(format!(
                "Iceberg has no type for {kind}: leave it out of schema.egress, or land into another format"
            ));
        }
        DataType::List(item) => DataType::List(inside(item)?),
        DataType::Map(entries, sorted) => DataType::Map(inside(entries)?, *sorted),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(inside).collect::<Result<_, _>>()?)
        }
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iceberg_counts_time_in_microseconds_however_deep() {
        let list = |kind| DataType::List(Arc::new(Field::new("item", kind, true)));
        let row = |kind| DataType::Struct(vec![Field::new("at", kind, true)].into());
        let time = |unit| DataType::Timestamp(unit, Some("UTC".into()));
        let (ms, us) = (time(TimeUnit::Millisecond), time(TimeUnit::Microsecond));
        let iceberg = |kind: &DataType| held(kind, TableFormat::Iceberg);
        assert_eq!(iceberg(&list(row(ms.clone()))), Ok(list(row(us))));
        assert_eq!(
            iceberg(&DataType::Time32(TimeUnit::Millisecond)),
            Ok(DataType::Time64(TimeUnit::Microsecond))
        );
        assert_eq!(held(&row(ms.clone()), TableFormat::Delta), Ok(row(ms)));
        let refused = iceberg(&list(row(time(TimeUnit::Nanosecond)))).unwrap_err();
        assert!(
            refused.starts_with("item: at: Iceberg has no nanoseconds"),
            "{refused}"
        );
        assert!(
            iceberg(&DataType::Null)
                .unwrap_err()
                .contains("no type for Null")
        );
    }
}
