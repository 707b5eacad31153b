//! Messages of random schemas, read by what these evolve to, as apache-avro reads them.

mod common;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use arrow_array::Array;
use common::{Shape, arrow_value, record, schema, shape, write};
use kappaflow_avro::{AvroSchema, Decoder};
use proptest::collection::vec;
use proptest::prelude::*;

/// A shape that a value of `shape` can be read as by the same common functions: promoted, made nullable, reordered.
fn evolved(shape: Shape) -> BoxedStrategy<Shape> {
    let same = Just(shape.clone());
    match shape {
        Shape::Plain("int") => prop::sample::select(vec!["int", "long", "double"])
            .prop_map(Shape::Plain)
            .boxed(),
        Shape::Plain("float") => prop::sample::select(vec!["float", "double"])
            .prop_map(Shape::Plain)
            .boxed(),
        Shape::Array(items) => evolved(*items)
            .prop_map(|s| Shape::Array(Box::new(s)))
            .boxed(),
        Shape::Map(values) => evolved(*values)
            .prop_map(|s| Shape::Map(Box::new(s)))
            .boxed(),
        Shape::Nullable(inner, _) => (evolved(*inner), any::<bool>())
            .prop_map(|(s, first)| match s {
                s @ Shape::Nullable(..) => s,
                s => Shape::Nullable(Box::new(s), first),
            })
            .boxed(),
        Shape::Record(fields) => fields
            .into_iter()
            .map(evolved)
            .collect::<Vec<_>>()
            .prop_map(Shape::Record)
            .boxed(),
        _ => same.boxed(),
    }
}

/// What a value becomes: slow and obvious.
fn read_as(value: &Value, from: &Shape, to: &Shape) -> Value {
    match (value, from, to) {
        (Value::Union(_, v), Shape::Nullable(from, _), Shape::Nullable(to, first)) => {
            match v.as_ref() {
                Value::Null => Value::Union(u32::from(!first), Box::new(Value::Null)),
                v => Value::Union(u32::from(*first), Box::new(read_as(v, from, to))),
            }
        }
        (Value::Int(v), _, Shape::Plain("long")) => Value::Long(i64::from(*v)),
        (Value::Int(v), _, Shape::Plain("double")) => Value::Double(f64::from(*v)),
        (Value::Float(v), _, Shape::Plain("double")) => Value::Double(f64::from(*v)),
        (Value::Array(items), Shape::Array(from), Shape::Array(to)) => {
            Value::Array(items.iter().map(|v| read_as(v, from, to)).collect())
        }
        (Value::Map(values), Shape::Map(from), Shape::Map(to)) => {
            let read = |(k, v): (&String, &Value)| (k.clone(), read_as(v, from, to));
            Value::Map(values.iter().map(read).collect())
        }
        (Value::Record(fields), Shape::Record(from), Shape::Record(to)) => {
            let shapes = from.iter().zip(to);
            let read = |((name, v), (from, to)): (&(String, Value), _)| {
                (name.clone(), read_as(v, from, to))
            };
            Value::Record(fields.iter().zip(shapes).map(read).collect())
        }
        _ => value.clone(),
    }
}

fn pairs() -> impl Strategy<Value = (Vec<Shape>, Vec<Shape>, Vec<Value>)> {
    vec(shape(), 0..5).prop_flat_map(|fields| {
        let other: Vec<_> = fields.iter().cloned().map(evolved).collect();
        let rows = vec(record(&fields), 0..8);
        (Just(fields), other, rows)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn apache_avro_reads_the_same((writer, reader, rows) in pairs()) {
        let (written, read) = (schema(&writer), schema(&reader));
        let parse = |json: &str| apache_avro::Schema::parse_str(json).unwrap();
        let (writer_schema, reader_schema) = (parse(&written), parse(&read));
        let ours = [&written, &read].map(|json| AvroSchema::parse(json).unwrap());
        let mut decoder = Decoder::with_reader(&ours[0], &ours[1]).unwrap();
        let datums: Vec<Vec<u8>> = rows.iter().map(|row| write(&writer_schema, row)).collect();
        prop_assert_eq!(decoder.push_all(datums.iter().map(Vec::as_slice)), vec![]);
        let batch = decoder.flush().unwrap();
        let oracle = GenericDatumReader::builder(&writer_schema).reader_schema(&reader_schema).build().unwrap();
        let (from, to) = (Shape::Record(writer), Shape::Record(reader.clone()));
        for (i, (row, datum)) in rows.iter().zip(&datums).enumerate() {
            let expected = read_as(row, &from, &to);
            // It resolves values rather than bytes, and doesn't promote what is inside a union.
            if let Ok(theirs) = oracle.read_value(&mut datum.as_slice()) {
                prop_assert_eq!(&theirs, &expected);
            }
            let Value::Record(expected) = expected else { unreachable!() };
            for ((shape, column), (_, value)) in reader.iter().zip(batch.columns()).zip(&expected) {
                prop_assert_eq!(&arrow_value(shape, column as &dyn Array, i), value);
            }
        }
    }
}
