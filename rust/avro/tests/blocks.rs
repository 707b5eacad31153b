//! Batches of more rows than the encoder takes at once: byte for byte what apache-avro writes of the same rows.

mod common;

use common::{encode_with, record, schema, shape, write};
use kappaflow_avro::{AvroSchema, Decoder, PlanOptions, framing};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    // A few different rows, in any order and number: making hundreds of random ones takes longer than all that is tested.
    #[test]
    fn rows_of_several_blocks(
        (fields, some) in vec(shape(), 1..6).prop_flat_map(|fields| (Just(fields.clone()), vec(record(&fields), 1..12))),
        order in vec(any::<Index>(), 0..700),
        cut in 0..300_usize,
    ) {
        let json = schema(&fields);
        let oracle = apache_avro::Schema::parse_str(&json).unwrap();
        let datums: Vec<_> = some.iter().map(|row| write(&oracle, row)).collect();
        let rows: Vec<&[u8]> = order.iter().map(|at| &at.get(&datums)[..]).collect();

        let mut decoder = Decoder::new(&AvroSchema::parse(&json).unwrap()).unwrap();
        for row in &rows {
            decoder.push(row).unwrap();
        }
        let batch = decoder.flush().unwrap();
        let cut = cut.min(rows.len());
        let slice = batch.slice(cut, rows.len() - cut);
        let encoded = encode_with(&slice, &json, &PlanOptions::default());

        prop_assert!(encoded.rejects.is_empty(), "{:?}", encoded.rejects);
        prop_assert_eq!(encoded.len(), slice.num_rows());
        for (expected, (number, message)) in rows[cut..].iter().zip(encoded.iter()) {
            let (_, datum) = framing::split(message).unwrap();
            prop_assert_eq!(datum, *expected, "row {}", number);
        }
    }
}
