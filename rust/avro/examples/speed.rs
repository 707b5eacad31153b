//! Nanoseconds a row of the encoder and the decoder, on rows like a flight's: 19 columns, 14 of them nullable, floats
//! for integers and naive timestamps, as a warehouse holds them. One thread.
//!
//! `cargo run --release -p kappaflow-avro --example speed [rows] [rounds]`

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{
    ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt16Array,
};
use kappaflow_avro::{
    AvroSchema, CoercionPlan, Decoder, Encoder, FieldDeclaration, PlanOptions, framing,
};

/// Name, Avro type, and whether it is nullable.
const FIELDS: [(&str, &str, bool); 19] = [
    ("year", "int", false),
    ("month", "int", false),
    ("day", "int", false),
    ("dep_time", "int", true),
    ("sched_dep_time", "int", true),
    ("dep_delay", "int", true),
    ("arr_time", "int", true),
    ("sched_arr_time", "int", true),
    ("arr_delay", "int", true),
    ("carrier", "string", true),
    ("flight", "int", true),
    ("tailnum", "string", true),
    ("origin", "string", false),
    ("dest", "string", true),
    ("air_time", "int", true),
    ("distance", "long", true),
    ("hour", "int", true),
    ("minute", "int", true),
    ("time_hour", "timestamp", false),
];

fn schema() -> String {
    let fields: Vec<_> = FIELDS
        .iter()
        .map(|(name, ty, nullable)| {
            let ty = match *ty {
                "timestamp" => r#"{"type": "long", "logicalType": "timestamp-millis"}"#.to_owned(),
                ty => format!("\"{ty}\""),
            };
            let ty = if *nullable {
                format!("[\"null\", {ty}]")
            } else {
                ty
            };
            format!(r#"{{"name": "{name}", "type": {ty}}}"#)
        })
        .collect();
    format!(
        r#"{{"type": "record", "name": "Flight", "fields": [{}]}}"#,
        fields.join(", ")
    )
}

/// A number that is no pattern to a branch predictor, the same in every run.
fn noise(i: usize, salt: usize) -> usize {
    (i.wrapping_add(salt << 32)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        >> 33)
        ^ (i * 7)
}

fn batch(rows: usize) -> Result<RecordBatch, Box<dyn Error>> {
    let words = [
        "UA", "JFK", "N14228", "LGA", "N24211", "AA", "ORD", "N619AA",
    ];
    let columns = FIELDS
        .iter()
        .enumerate()
        .map(|(salt, (name, ty, nullable))| {
            let valid = |i: usize| !nullable || !noise(i, salt + 50).is_multiple_of(40);
            let column: ArrayRef = match *ty {
                "string" => Arc::new(
                    (0..rows)
                        .map(|i| valid(i).then(|| words[noise(i, salt) % 8]))
                        .collect::<StringArray>(),
                ),
                "timestamp" => {
                    Arc::new(TimestampMicrosecondArray::from_iter_values((0..rows).map(
                        |i| 1_357_016_400_000_000 + 3_600_000_000 * (noise(i, salt) % 8760) as i64,
                    )))
                }
                _ if *name == "year" => Arc::new(UInt16Array::from_value(2013, rows)),
                _ if *nullable => Arc::new(
                    (0..rows)
                        .map(|i| valid(i).then(|| (noise(i, salt) % 2400) as f64 - 40.0))
                        .collect::<Float64Array>(),
                ),
                _ => Arc::new(Int32Array::from_iter_values(
                    (0..rows).map(|i| (noise(i, salt) % 31) as i32),
                )),
            };
            (*name, column)
        });
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// The least of the rounds: what the machine's other work disturbed least.
fn least(
    rounds: usize,
    rows: usize,
    mut f: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        f()?;
        best = best.min(start.elapsed().as_nanos() as f64 / rows as f64);
    }
    Ok(best)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let rows = arguments.next().transpose()?.unwrap_or(50_000);
    let rounds = arguments.next().transpose()?.unwrap_or(30);
    let batch = batch(rows)?;
    let avro = AvroSchema::parse(&schema())?;
    let mut options = PlanOptions::default();
    options.fields.insert(
        "time_hour".to_owned(),
        FieldDeclaration {
            from: None,
            zone: Some("UTC".to_owned()),
        },
    );
    let mut encoder = Encoder::new(CoercionPlan::new(batch.schema_ref(), &avro, &options)?, 1);
    let encoded = encoder.encode(&batch)?;
    assert_eq!((encoded.len(), encoded.rejects.len()), (rows, 0));

    let encode = least(rounds, rows, || {
        std::hint::black_box(encoder.encode(&batch)?);
        Ok(())
    })?;
    let mut decoder = Decoder::new(&avro)?;
    let decode = least(rounds, rows, || {
        for (_, message) in encoded.iter() {
            decoder.push(framing::split(message)?.1)?;
        }
        std::hint::black_box(decoder.flush()?);
        Ok(())
    })?;
    println!(
        "{{\"rows\": {rows}, \"bytes_per_row\": {:.1}, \"encode_ns_per_row\": {encode:.1}, \"decode_ns_per_row\": {decode:.1}}}",
        encoded.buffer.len() as f64 / rows as f64
    );
    Ok(())
}
