//! What a service in Rust says, checked. Pure.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{Schema, SchemaRef};

use super::{Answer, Answered};
use crate::work::verdict::Verdict;

/// Verdicts for so many records, and their rows as `answers` has them.
///
/// # Errors
/// What does not fit, in a text. That is the service's mistake and no record's.
pub fn checked(
    answered: Answered,
    records: usize,
    answers: &SchemaRef,
) -> Result<(Vec<Verdict>, RecordBatch), String> {
    let (said, rows) = (answered.answers, answered.rows);
    if said.len() != records {
        return Err(format!("{} answers to {records} records", said.len()));
    }
    let due: usize = said
        .iter()
        .map(|answer| match answer {
            Answer::Rows(rows) => *rows,
            _ => 0,
        })
        .sum();
    if due != rows.num_rows() {
        let given = rows.num_rows();
        return Err(format!("{given} rows, and answers that have {due}"));
    }
    if said.contains(&Answer::Rows(0)) {
        return Err("an answer of no rows: say that it is filtered, and why".into());
    }
    let verdicts = said.into_iter().map(|answer| match answer {
        Answer::Rows(rows) => Verdict::Answered(rows),
        Answer::Filtered(reason) => Verdict::Filtered(reason),
        Answer::Retry {
            reason,
            detail,
            after,
        } => Verdict::Retry {
            reason,
            detail,
            after,
        },
        Answer::DeadLetter { reason, detail } => Verdict::DeadLetter { reason, detail },
    });
    Ok((verdicts.collect(), fitted(&rows, answers)?))
}

/// The rows with the columns of the schema.
fn fitted(rows: &RecordBatch, answers: &SchemaRef) -> Result<RecordBatch, String> {
    if rows.schema_ref() == answers {
        return Ok(rows.clone());
    }
    let known = |schema: &Schema, name: &str| schema.column_with_name(name).is_some();
    let mut given = rows.schema_ref().fields().iter();
    if let Some(extra) = given.find(|field| !known(answers, field.name())) {
        return Err(format!(
            "a column {}, which the egress schema has not",
            extra.name()
        ));
    }
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let columns = answers.fields().iter().map(|field| {
        let Some(column) = rows.column_by_name(field.name()) else {
            return Ok(new_null_array(field.data_type(), rows.num_rows()));
        };
        if column.data_type() == field.data_type() {
            return Ok(Arc::clone(column));
        }
        cast_with_options(column, field.data_type(), &strict)
            .map_err(|e| format!("column {} can't be cast: {e}", field.name()))
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_, String>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(answers), columns, &options)
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{Int32Array, Int64Array, StringArray};
    use arrow_schema::{DataType, Field};

    use super::*;

    fn answers() -> SchemaRef {
        let field = |name, data_type| Field::new(name, data_type, true);
        Arc::new(Schema::new(vec![
            field("id", DataType::Int64),
            field("price", DataType::Float64),
        ]))
    }

    fn answered(answers: Vec<Answer>, rows: RecordBatch) -> Answered {
        Answered { answers, rows }
    }

    fn ids(ids: &[i32]) -> RecordBatch {
        let ids = Int32Array::from(ids.to_vec());
        RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef)]).unwrap()
    }

    #[test]
    fn columns_are_found_by_name_cast_and_null_where_they_are_not_given() {
        let said = vec![Answer::Rows(2), Answer::Filtered("old".into())];
        let (verdicts, rows) = checked(answered(said, ids(&[1, 2])), 2, &answers()).unwrap();
        assert_eq!(
            verdicts,
            [Verdict::Answered(2), Verdict::Filtered("old".into())]
        );
        assert_eq!(
            rows.column(0).as_primitive::<Int64Type>(),
            &Int64Array::from(vec![1, 2])
        );
        assert_eq!(rows.column(1).null_count(), 2);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let names = StringArray::from(vec!["one"]);
        let text = RecordBatch::try_from_iter([("id", Arc::new(names) as ArrayRef)]).unwrap();
        let other = Int64Array::from(vec![1]);
        let extra = RecordBatch::try_from_iter([("other", Arc::new(other) as ArrayRef)]).unwrap();
        for (said, rows, told) in [
            (vec![], ids(&[]), "0 answers to 1 records"),
            (
                vec![Answer::Rows(2)],
                ids(&[1]),
                "1 rows, and answers that have 2",
            ),
            (vec![Answer::Rows(0)], ids(&[]), "an answer of no rows"),
            (vec![Answer::Rows(1)], text, "column id can't be cast"),
            (vec![Answer::Rows(1)], extra, "a column other"),
        ] {
            let error = checked(answered(said, rows), 1, &answers()).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
