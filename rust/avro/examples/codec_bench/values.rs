//! The rows of a batch as apache-avro's trees of values, as one would write it who has Arrow and publishes with that crate.
//! What depends on the column alone is decided once a batch; what the tables of the benchmark don't have is not covered.

use apache_avro::types::Value;
use apache_avro::{Decimal, Schema};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use jiff::Timestamp;

use crate::Outcome;

type Make<'a> = Box<dyn Fn(usize) -> Outcome<Value> + 'a>;

/// Makes the value of a row.
pub fn of_rows<'a>(batch: &'a RecordBatch, schema: &'a Schema) -> Outcome<Make<'a>> {
    record(batch.columns().iter().map(AsRef::as_ref), schema)
}

fn record<'a>(
    columns: impl Iterator<Item = &'a dyn Array>,
    schema: &'a Schema,
) -> Outcome<Make<'a>> {
    let Schema::Record(record) = schema else {
        return Err("no record".into());
    };
    let fields = record
        .fields
        .iter()
        .zip(columns)
        .map(|(field, column)| Ok((field.name.as_str(), values(column, &field.schema)?)))
        .collect::<Outcome<Vec<_>>>()?;
    Ok(Box::new(move |row| {
        let mut made = Vec::with_capacity(fields.len());
        for (name, value) in &fields {
            made.push(((*name).to_owned(), value(row)?));
        }
        Ok(Value::Record(made))
    }))
}

fn values<'a>(array: &'a dyn Array, schema: &'a Schema) -> Outcome<Make<'a>> {
    macro_rules! numbers {
        ($arrow:ty, $value:path) => {{
            let values = array.as_primitive::<$arrow>().values();
            Box::new(move |row| Ok($value(values[row])))
        }};
    }
    Ok(match (schema, array.data_type()) {
        (Schema::Union(union), _) => {
            let place = |null: bool| {
                let mut branches = (0_u32..).zip(union.variants());
                branches.find(|(_, branch)| matches!(branch, Schema::Null) == null)
            };
            let (Some((null, _)), Some((branch, schema))) = (place(true), place(false)) else {
                return Err("a union of other than null and one type".into());
            };
            let value = values(array, schema)?;
            Box::new(move |row| {
                Ok(match array.is_null(row) {
                    true => Value::Union(null, Box::new(Value::Null)),
                    false => Value::Union(branch, Box::new(value(row)?)),
                })
            })
        }
        (Schema::Boolean, DataType::Boolean) => {
            let values = array.as_boolean();
            Box::new(move |row| Ok(Value::Boolean(values.value(row))))
        }
        (Schema::Int, DataType::Int32) => numbers!(Int32Type, Value::Int),
        (Schema::Int, DataType::Int64) => {
            let values = array.as_primitive::<Int64Type>().values();
            Box::new(move |row| Ok(Value::Int(values[row].try_into()?)))
        }
        (Schema::Int, DataType::Float64) => {
            let values = array.as_primitive::<Float64Type>().values();
            Box::new(move |row| match values[row] as i32 {
                int if f64::from(int) == values[row] => Ok(Value::Int(int)),
                _ => Err("no int".into()),
            })
        }
        (Schema::Long, DataType::Int64) => numbers!(Int64Type, Value::Long),
        (Schema::Float, DataType::Float32) => numbers!(Float32Type, Value::Float),
        (Schema::Double, DataType::Float64) => numbers!(Float64Type, Value::Double),
        (Schema::Date, DataType::Date32) => numbers!(Date32Type, Value::Date),
        (Schema::TimestampMillis, DataType::Timestamp(TimeUnit::Millisecond, _)) => {
            numbers!(TimestampMillisecondType, Value::TimestampMillis)
        }
        (Schema::TimestampMicros, DataType::Timestamp(TimeUnit::Microsecond, _)) => {
            numbers!(TimestampMicrosecondType, Value::TimestampMicros)
        }
        (Schema::TimestampMillis, DataType::Utf8) => {
            let texts = array.as_string::<i32>();
            Box::new(move |row| {
                let instant: Timestamp = texts.value(row).parse()?;
                Ok(Value::TimestampMillis(instant.as_millisecond()))
            })
        }
        (Schema::Decimal(_), DataType::Decimal128(..)) => {
            let values = array.as_primitive::<Decimal128Type>().values();
            Box::new(move |row| {
                let bytes = values[row].to_be_bytes();
                // The sign once, as Avro has it.
                let more = bytes.windows(2).take_while(|pair| {
                    let sign = if pair[1] < 0x80 { 0 } else { 0xff };
                    pair[0] == sign
                });
                Ok(Value::Decimal(Decimal::from(&bytes[more.count()..])))
            })
        }
        (Schema::String, DataType::Utf8) => {
            let texts = array.as_string::<i32>();
            Box::new(move |row| Ok(Value::String(texts.value(row).to_owned())))
        }
        (Schema::String, DataType::Utf8View) => {
            let texts = array.as_string_view();
            Box::new(move |row| Ok(Value::String(texts.value(row).to_owned())))
        }
        (Schema::Record(_), DataType::Struct(_)) => record(
            array.as_struct().columns().iter().map(AsRef::as_ref),
            schema,
        )?,
        (Schema::Array(schema), DataType::List(_)) => {
            let list = array.as_list::<i32>();
            let (offsets, item) = (list.value_offsets(), values(list.values(), &schema.items)?);
            Box::new(move |row| {
                let items = offsets[row] as usize..offsets[row + 1] as usize;
                Ok(Value::Array(items.map(&item).collect::<Outcome<_>>()?))
            })
        }
        (Schema::Map(schema), DataType::Map(..)) => {
            let map = array.as_map();
            let (offsets, keys) = (map.value_offsets(), map.keys().as_string::<i32>());
            let value = values(map.values(), &schema.types)?;
            Box::new(move |row| {
                let entries = offsets[row] as usize..offsets[row + 1] as usize;
                let entry = |at| Ok((keys.value(at).to_owned(), value(at)?));
                Ok(Value::Map(entries.map(entry).collect::<Outcome<_>>()?))
            })
        }
        (schema, found) => return Err(format!("no rule from {found} to {schema:?}").into()),
    })
}
