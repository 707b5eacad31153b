//! Pairs that no rule takes, and the way out that the error tells.

use arrow_schema::DataType as A;

use super::rules::Place;
use crate::error::PlanError;
use crate::types::AvroType as V;

/// Arrow types that are not read at all, refused by name.
pub(super) fn check_supported(arrow: &A, place: &Place) -> Result<(), PlanError> {
    let way_out = match arrow {
        A::Interval(_) => "cast it to int64 in the unit you mean",
        A::RunEndEncoded(_, _) => "cast it to its value type",
        A::ListView(_) | A::LargeListView(_) => "cast it to list",
        A::Union(_, _) => "split it into one column a type",
        _ => return Ok(()),
    };
    Err(PlanError::Unsupported {
        column: place.column.clone(),
        arrow: arrow.to_string(),
        way_out,
    })
}

/// No value of the one type can be the other.
pub(super) fn impossible(arrow: &A, avro: &V, place: &Place) -> PlanError {
    let way_out = match (avro, arrow) {
        (V::String, a) if a.is_numeric() || a.is_temporal() || *a == A::Boolean => {
            "cast the column to a string in the form you mean, or change the field's type".to_owned()
        }
        (V::Date | V::Timestamp(_) | V::LocalTimestamp(_), a) if a.is_numeric() => {
            "a number says no unit: cast the column to a date or a timestamp of its unit".to_owned()
        }
        (V::LocalTimestamp(_), A::Timestamp(_, Some(_))) => {
            "the column is an instant: use a timestamp type, or declare the `zone` in which it is read".to_owned()
        }
        (V::Date, A::Timestamp(_, Some(_))) => {
            "the column is an instant, whose day is another in each zone: cast it to a date in the one you mean".to_owned()
        }
        (V::Int | V::Long, A::Timestamp(_, _) | A::Date32 | A::Date64 | A::Time32(_) | A::Time64(_)) => {
            "use a date, time or timestamp type in the schema, or cast the column to int64 in the unit you mean".to_owned()
        }
        (V::Decimal(_), a) if a.is_floating() => {
            "a float is no decimal: declare `lossy = \"round\"`, cast the column to decimal, or use double".to_owned()
        }
        (V::Union(_), _) => {
            "no type of the union takes it: cast the column to one, or make a struct of member0, member1, … of it, one for each type".to_owned()
        }
        (V::Fixed(fixed), A::FixedSizeBinary(size)) => {
            format!("the sizes differ ({size} and {} bytes): change one of them", fixed.size)
        }
        _ => "cast the column, or change the field's type".to_owned(),
    };
    PlanError::Impossible {
        column: place.column.clone(),
        field: place.field.clone(),
        arrow: arrow.to_string(),
        avro: avro.to_string(),
        way_out,
    }
}
