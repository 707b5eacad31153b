//! Nanoseconds a row of the encoder and the decoder beside arrow-avro's and apache-avro's, on the rows of a Parquet
//! file; outputs are compared. One thread. `benchmarks/encode.py` makes the data and runs this.
//!
//! `cargo run --release -p kappaflow-avro --example codec_bench -- DATA.parquet SCHEMA.avsc [--batch ROWS]
//! [--rounds N] [--warehouse] [--out FILE] [--only CONTENDER]`
//!
//! `--warehouse`: the columns are not of the schema's types, so arrow-avro is left out: it would write other values.
//! `--out` writes our messages, one after the other. `--only` runs one contender (`encode/ours`) once, for callgrind:
//! `valgrind --tool=callgrind --toggle-collect='*measured*'`.

mod peers;
mod values;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use kappaflow_avro::{
    AvroSchema, CoercionPlan, Decoder, Encoded, Encoder, FieldDeclaration, PlanOptions, framing,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The id in the frames.
const ID: u32 = 1;

/// One way to do the work, a batch at a time.
struct Contender<'a> {
    name: &'static str,
    work: Box<dyn FnMut(usize) -> Outcome<()> + 'a>,
    /// Rows of each batch.
    rows: Vec<usize>,
    /// The least time of each batch, over the rounds: what the machine's other work disturbed least.
    best: Vec<Duration>,
}

impl<'a> Contender<'a> {
    fn new(
        name: &'static str,
        rows: Vec<usize>,
        work: impl FnMut(usize) -> Outcome<()> + 'a,
    ) -> Self {
        Self {
            name,
            work: Box::new(work),
            best: vec![Duration::MAX; rows.len()],
            rows,
        }
    }

    fn rows(&self) -> usize {
        self.rows.iter().sum()
    }

    fn ns_per_row(&self) -> f64 {
        self.best.iter().sum::<Duration>().as_nanos() as f64 / self.rows() as f64
    }
}

/// What is timed, and what callgrind is told to count.
#[inline(never)]
fn measured(contender: &mut Contender<'_>) -> Outcome<()> {
    for (number, best) in contender.best.iter_mut().enumerate() {
        let start = Instant::now();
        (contender.work)(number)?;
        *best = start.elapsed().min(*best);
    }
    Ok(())
}

struct Arguments {
    data: String,
    schema: String,
    batch: usize,
    rounds: usize,
    warehouse: bool,
    out: Option<String>,
    only: Option<String>,
}

fn arguments() -> Outcome<Arguments> {
    let mut given = std::env::args().skip(1);
    let mut next = |what: &str| given.next().ok_or_else(|| format!("{what} is missing"));
    let mut found = Arguments {
        data: next("DATA.parquet")?,
        schema: next("SCHEMA.avsc")?,
        batch: 16_384,
        rounds: 15,
        warehouse: false,
        out: None,
        only: None,
    };
    while let Ok(flag) = next("") {
        match flag.as_str() {
            "--batch" => found.batch = next(&flag)?.parse()?,
            "--rounds" => found.rounds = next(&flag)?.parse()?,
            "--warehouse" => found.warehouse = true,
            "--out" => found.out = Some(next(&flag)?),
            "--only" => found.only = Some(next(&flag)?),
            _ => return Err(format!("unknown argument {flag}").into()),
        }
    }
    Ok(found)
}

fn read(path: &str, batch: usize) -> Outcome<Vec<RecordBatch>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?
        .with_batch_size(batch)
        .build()?;
    Ok(reader.collect::<Result<_, _>>()?)
}

fn encoder(batches: &[RecordBatch], avro: &AvroSchema) -> Outcome<Encoder> {
    let schema = batches.first().ok_or("no rows")?.schema();
    let mut options = PlanOptions::default();
    for field in schema.fields() {
        // The only text for a timestamp is that of the flights, which has no zone; elsewhere there is nothing to say.
        if field.name() == "time_hour" && field.data_type().is_string() {
            let zone = FieldDeclaration {
                zone: Some("UTC".to_owned()),
                ..FieldDeclaration::default()
            };
            options.fields.insert(field.name().clone(), zone);
        }
    }
    let plan = CoercionPlan::new(&schema, avro, &options)?;
    Ok(Encoder::new(plan, ID))
}

fn decode(decoder: &mut Decoder, messages: &Encoded) -> Outcome<RecordBatch> {
    for (_, message) in messages.iter() {
        decoder.push(framing::split(message)?.1)?;
    }
    Ok(decoder.flush()?)
}

fn decode_all(decoder: &mut Decoder, messages: &Encoded) -> Outcome<RecordBatch> {
    let datums = messages
        .iter()
        .map(|(_, message)| Ok(framing::split(message)?.1))
        .collect::<Outcome<Vec<&[u8]>>>()?;
    match decoder.push_all(datums).pop() {
        None => Ok(decoder.flush()?),
        Some((_, error)) => Err(error.into()),
    }
}

fn main() -> Outcome<()> {
    let arguments = arguments()?;
    let batches = read(&arguments.data, arguments.batch)?;
    let rows: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
    let total: usize = rows.iter().sum();
    let json = std::fs::read_to_string(&arguments.schema)?;
    let avro = AvroSchema::parse(&json)?;

    let mut ours = encoder(&batches, &avro)?;
    let encoded: Vec<Encoded> = batches
        .iter()
        .map(|batch| ours.encode(batch))
        .collect::<Result<_, _>>()?;
    if let Some(reject) = encoded.iter().flat_map(|e| &e.rejects).next() {
        return Err(format!("a row was rejected: {reject:?}").into());
    }
    let bytes: usize = encoded.iter().map(|e| e.buffer.len()).sum();
    if let Some(path) = &arguments.out {
        let all: Vec<&[u8]> = encoded.iter().map(|e| &e.buffer[..]).collect();
        std::fs::write(path, all.concat())?;
    }

    let (mut decoder, mut many) = (Decoder::new(&avro)?, Decoder::new(&avro)?);
    let arrow = match arguments.warehouse {
        true => None,
        false => Some(peers::ArrowAvro::new(&batches, &json)?),
    };
    let apache = peers::ApacheAvro::new(&json, &batches)?;
    let mut contenders = vec![
        Contender::new("encode/ours", rows.clone(), |number| {
            std::hint::black_box(ours.encode(&batches[number])?);
            Ok(())
        }),
        Contender::new("decode/ours", rows.clone(), |number| {
            std::hint::black_box(decode(&mut decoder, &encoded[number])?);
            Ok(())
        }),
        Contender::new("decode/ours, many at once", rows, |number| {
            std::hint::black_box(decode_all(&mut many, &encoded[number])?);
            Ok(())
        }),
    ];
    contenders.extend(apache.contenders(&encoded)?);
    if let Some(arrow) = &arrow {
        contenders.extend(arrow.contenders(&encoded)?);
    }
    let mut wrong = Vec::new();
    if arguments.only.is_none() {
        wrong.extend(apache.differences(&encoded)?);
        if let Some(arrow) = &arrow {
            wrong.extend(arrow.differences(&encoded, &avro)?);
        }
    }
    if let Some(only) = &arguments.only {
        contenders.retain(|contender| contender.name == only);
        if contenders.len() != 1 {
            return Err(format!("no contender {only}").into());
        }
        measured(&mut contenders[0])?;
        println!("{}", json!({"rows": contenders[0].rows()}));
        return Ok(());
    }
    // By turns, so that a busy minute of the machine falls on all.
    for _ in 0..arguments.rounds {
        for contender in &mut contenders {
            measured(contender)?;
        }
    }
    let figures: BTreeMap<_, _> = contenders
        .iter()
        .map(|contender| (contender.name, contender.ns_per_row()))
        .collect();
    println!(
        "{}",
        json!({
            "rows": total,
            "fields": avro.fields().len(),
            "bytes_per_row": bytes as f64 / total as f64,
            "ns_per_row": figures,
            "wrong": wrong,
        })
    );
    Ok(())
}
