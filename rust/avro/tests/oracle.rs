//! Random schemas and values: what apache-avro writes we read, and what we write it reads.

mod common;

use apache_avro::types::Value;
use arrow_array::Array;
use common::{Shape, arrow_value, encode_with, record, schema, shape, values, write};
use kappaflow_avro::{AvroSchema, Decoder, PlanOptions};
use proptest::collection::vec;
use proptest::prelude::*;

fn table() -> impl Strategy<Value = (Vec<Shape>, Vec<Value>)> {
    vec(shape(), 0..5).prop_flat_map(|fields| {
        let rows = vec(record(&fields), 0..12);
        (Just(fields), rows)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_ways((fields, rows) in table(), cut in 0..4_usize) {
        let json = schema(&fields);
        let oracle = apache_avro::Schema::parse_str(&json).unwrap();
        let mut decoder = Decoder::new(&AvroSchema::parse(&json).unwrap()).unwrap();
        for row in &rows {
            let datum = write(&oracle, row);
            decoder.push(&datum).unwrap();
        }
        prop_assert_eq!(decoder.len(), rows.len());
        let batch = decoder.flush().unwrap();
        prop_assert_eq!(batch.schema(), decoder.arrow_schema());
        prop_assert_eq!(batch.num_rows(), rows.len());
        for (i, row) in rows.iter().enumerate() {
            let Value::Record(expected) = row else { unreachable!() };
            for ((shape, column), (_, value)) in fields.iter().zip(batch.columns()).zip(expected) {
                prop_assert_eq!(&arrow_value(shape, column as &dyn Array, i), value);
            }
        }

        // A slice has offsets and bit offsets that don't start at 0.
        let cut = cut.min(rows.len());
        let slice = batch.slice(cut, rows.len() - cut);
        let encoded = encode_with(&slice, &json, &PlanOptions::default());
        prop_assert!(encoded.rejects.is_empty(), "{:?}", encoded.rejects);
        let read: Vec<_> = values(&encoded, &json, slice.num_rows()).into_iter().flatten().collect();
        prop_assert_eq!(&read[..], &rows[cut..]);

        // Flushed, the decoder is as new.
        prop_assert!(decoder.is_empty());
        prop_assert_eq!(decoder.flush().unwrap().num_rows(), 0);
    }

    #[test]
    fn cut_and_broken_messages_leave_nothing((fields, rows) in table(), noise in vec((any::<prop::sample::Index>(), any::<u8>()), 0..40)) {
        let json = schema(&fields);
        let oracle = apache_avro::Schema::parse_str(&json).unwrap();
        let avro = AvroSchema::parse(&json).unwrap();
        let (mut clean, mut dirty) = (Decoder::new(&avro).unwrap(), Decoder::new(&avro).unwrap());
        for row in &rows {
            let datum = write(&oracle, row);
            for end in 0..datum.len() {
                prop_assert!(dirty.push(&datum[..end]).is_err(), "cut at {}", end);
            }
            let mut longer = datum.clone();
            longer.push(0);
            prop_assert!(dirty.push(&longer).is_err());
            let mut bent = datum.clone();
            for (at, byte) in &noise {
                if !bent.is_empty() {
                    let at = at.index(bent.len());
                    bent[at] ^= byte;
                    // It may still be a message; then both have it.
                    if dirty.push(&bent).is_ok() {
                        clean.push(&bent).unwrap();
                    }
                }
            }
            dirty.push(&datum).unwrap();
            clean.push(&datum).unwrap();
        }
        let (a, b) = (clean.flush().unwrap(), dirty.flush().unwrap());
        // NaNs aren't equal to themselves, so the debug form is compared, which holds every value.
        prop_assert_eq!(format!("{a:?}"), format!("{b:?}"));
    }

    #[test]
    fn any_bytes((fields, _) in table(), bytes in vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::new(&AvroSchema::parse(&schema(&fields)).unwrap()).unwrap();
        let taken = usize::from(decoder.push(&bytes).is_ok());
        prop_assert_eq!(decoder.len(), taken);
        prop_assert_eq!(decoder.flush().unwrap().num_rows(), taken);
    }
}
