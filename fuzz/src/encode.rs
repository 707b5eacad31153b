//! The gate and the encoder, on random schemas and tables, against the reference.

use std::collections::BTreeMap;
use std::sync::Arc;

use apache_avro::Schema as Oracle;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema};
use kappaflow_avro::framing;
use kappaflow_avro::{AvroSchema, CoercionPlan, Decoder, Encoder, FieldDeclaration, PlanOptions};

use super::arrays::array;
use super::choices::Choices;
use super::reference::{Bad, judge};
use super::slots::{Slot, read};
use super::sources::source;
use super::types::Ty;

/// Every row is encoded to what the reference says, and read so by apache-avro; or is rejected where it says.
pub fn run(data: &[u8]) {
    let mut choices = Choices(data);
    let types: Vec<Ty> = (0..1 + choices.below(4))
        .map(|_| Ty::any(&mut choices, 3))
        .collect();
    let json = Ty::Record(types.clone()).json(&mut 0).to_string();
    let (columns, options, zones) = columns(&types, &mut choices);
    let field = |(i, column): (usize, &ArrayRef)| {
        Field::new(format!("f{i}"), column.data_type().clone(), true)
    };
    let fields: Vec<_> = columns.iter().enumerate().map(field).collect();
    let rows = columns.first().map_or(0, |column| column.len());
    let batch = RecordBatch::try_new_with_options(
        Arc::new(Schema::new(fields)),
        columns,
        &RecordBatchOptions::new().with_row_count(Some(rows)),
    )
    .expect("a batch");

    let schema = AvroSchema::parse(&json).expect("a schema");
    let plan = CoercionPlan::new(batch.schema_ref(), &schema, &options).expect("a plan");
    let encoded = Encoder::new(plan, 7).encode(&batch).expect("encoded rows");
    let oracle = Oracle::parse_str(&json).expect("a schema");
    let reader = GenericDatumReader::builder(&oracle)
        .build()
        .expect("a reader");
    let writer = GenericDatumWriter::builder(&oracle)
        .build()
        .expect("a writer");
    let mut decoder = Decoder::new(&schema).expect("a decoder");
    let (mut messages, mut rejects) = (encoded.iter(), encoded.rejects.iter());
    let mut taken = 0;
    for row in 0..rows {
        let slots: Vec<Slot> = batch
            .columns()
            .iter()
            .map(|column| read(column, row))
            .collect();
        match expected(&slots, &types, &zones) {
            Ok(value) => {
                let (number, message) = messages
                    .next()
                    .unwrap_or_else(|| panic!("row {row} is missing: {slots:?}"));
                assert_eq!(
                    number as usize, row,
                    "rejected: {:?}\n{slots:?}",
                    encoded.rejects
                );
                let (id, mut datum) = framing::split(message).expect("a frame");
                assert_eq!(id, 7);
                decoder.push(datum).expect("a message that we wrote");
                taken += 1;
                let found = reader
                    .read_value(&mut datum)
                    .expect("a message that apache-avro reads");
                assert!(
                    datum.is_empty() && same(&found, &value),
                    "row {row}: {found:?}, not {value:?}"
                );
                // What the other writes we read to the same.
                decoder
                    .push(&writer.write_value_to_vec(value).expect("a value"))
                    .expect("a message of apache-avro's");
            }
            Err(bads) => {
                let first = bads.iter().min().expect("a reason");
                let reject = rejects
                    .next()
                    .unwrap_or_else(|| panic!("row {row} has passed, but {bads:?}: {slots:?}"));
                assert_eq!(
                    (reject.row as usize, &reject.column),
                    (row, &first.1),
                    "{reject:?}: {slots:?}"
                );
                assert!(!reject.reason.is_empty() && reject.value.chars().count() <= 200);
            }
        }
    }
    assert_eq!((messages.next(), rejects.next()), (None, None));
    let decoded = decoder.flush().expect("a batch");
    assert_eq!(decoded.num_rows(), 2 * taken);
    for row in (0..decoded.num_rows()).step_by(2) {
        for column in decoded.columns() {
            assert_eq!(sorted(read(column, row)), sorted(read(column, row + 1)));
        }
    }
}

/// Columns of the types, the declarations that they need, and the zones declared.
fn columns(
    types: &[Ty],
    choices: &mut Choices<'_>,
) -> (Vec<ArrayRef>, PlanOptions, Vec<Option<i64>>) {
    let (mut options, mut zones, mut columns) = (PlanOptions::default(), Vec::new(), Vec::new());
    let rows = choices.below(20);
    for (i, ty) in types.iter().enumerate() {
        let declared = match ty {
            Ty::Nullable(ty, _) => matches!(**ty, Ty::Timestamp(_)),
            ty => matches!(ty, Ty::Timestamp(_)),
        };
        let zone = choices.one(&[None, Some(("UTC", 0)), Some(("-05:30", -19_800))]);
        let zone = zone.filter(|_| declared);
        let data_type = source(ty, zone.is_some(), choices);
        let values = match &data_type {
            DataType::Dictionary(_, values) => values,
            data_type => data_type,
        };
        // To declare a zone for a column that carries its own is refused.
        let zone = zone.filter(|_| !matches!(values, DataType::Timestamp(_, Some(_))));
        if let Some((name, _)) = zone {
            let declaration = FieldDeclaration {
                zone: Some(name.to_owned()),
                ..FieldDeclaration::default()
            };
            options.fields.insert(format!("f{i}"), declaration);
        }
        zones.push(zone.map(|(_, offset)| offset));
        columns.push(array(&data_type, ty, rows, choices));
    }
    (columns, options, zones)
}

fn expected(slots: &[Slot], types: &[Ty], zones: &[Option<i64>]) -> Result<Value, Vec<Bad>> {
    let (mut values, mut bads) = (Vec::new(), Vec::new());
    for (i, ((slot, ty), zone)) in slots.iter().zip(types).zip(zones).enumerate() {
        let name = format!("f{i}");
        match judge(slot, ty, *zone, &name, &[i]) {
            Ok(value) => values.push((name, value)),
            Err(bad) => bads.extend(bad),
        }
    }
    if bads.is_empty() {
        Ok(Value::Record(values))
    } else {
        Err(bads)
    }
}

/// A slot as text, the entries of maps in order: apache-avro's maps have none.
fn sorted(slot: Slot) -> String {
    match slot {
        Slot::List(slots) => format!("{:?}", slots.into_iter().map(sorted).collect::<Vec<_>>()),
        Slot::Struct(slots) => format!("{:?}", slots.into_iter().map(sorted).collect::<Vec<_>>()),
        Slot::Map(entries) => {
            let entries = entries.into_iter().map(|(key, slot)| (key, sorted(slot)));
            format!("{:?}", entries.collect::<BTreeMap<_, _>>())
        }
        slot => format!("{slot:?}"),
    }
}

/// Equal, NaN to NaN.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => {
            a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
        }
        (Value::Double(a), Value::Double(b)) => {
            a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
        }
        (Value::Union(i, a), Value::Union(j, b)) => i == j && same(a, b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (Value::Record(a), Value::Record(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((n, a), (m, b))| n == m && same(a, b))
        }
        (a, b) => a == b,
    }
}
