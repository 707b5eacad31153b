//! The peers, each used as its documentation says, and what they make of the same rows.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use arrow_array::RecordBatch;
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{
    AvroSchema as ArrowAvroSchema, Fingerprint, FingerprintAlgorithm, FingerprintStrategy,
    SCHEMA_METADATA_KEY, SchemaStore,
};
use arrow_avro::writer::format::AvroSoeFormat;
use arrow_avro::writer::{EncodedRows, Encoder, WriterBuilder};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Schema};
use kappaflow_avro::{AvroSchema, Encoded, framing};

use crate::{Contender, ID, Outcome, values};

/// Rows for apache-avro, which holds each as a tree of values and is tens of times slower.
const FEW: usize = 20_000;
/// Of these, so many are timed at once.
const PART: usize = 1_000;

/// arrow-avro: batches under the Avro schema, as it wants it, in the Arrow schema's metadata.
pub struct ArrowAvro {
    batches: Vec<RecordBatch>,
    json: String,
    largest: usize,
}

impl ArrowAvro {
    pub fn new(batches: &[RecordBatch], json: &str) -> Outcome<Self> {
        let fields = batches.first().ok_or("no rows")?.schema().fields().clone();
        let metadata = HashMap::from([(SCHEMA_METADATA_KEY.to_owned(), json.to_owned())]);
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let batches = batches
            .iter()
            .map(|batch| RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()))
            .collect::<Result<Vec<_>, _>>()?;
        let largest = batches.iter().map(RecordBatch::num_rows).max().unwrap_or(0);
        Ok(Self {
            batches,
            json: json.to_owned(),
            largest,
        })
    }

    fn encoder(&self) -> Outcome<Encoder> {
        let schema = self.batches.first().ok_or("no rows")?.schema();
        Ok(WriterBuilder::new(schema.as_ref().clone())
            .with_fingerprint_strategy(FingerprintStrategy::Id(ID))
            .with_row_capacity(self.largest)
            .build_encoder::<AvroSoeFormat>()?)
    }

    fn decoder(&self) -> Outcome<Decoder> {
        let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
        store.set(Fingerprint::Id(ID), ArrowAvroSchema::new(self.json.clone()))?;
        Ok(ReaderBuilder::new()
            .with_writer_schema_store(store)
            .with_active_fingerprint(Fingerprint::Id(ID))
            .with_batch_size(self.largest + 1)
            .build_decoder()?)
    }

    /// Where its bytes or its decoded values are not ours.
    pub fn differences(&self, ours: &[Encoded], avro: &AvroSchema) -> Outcome<Vec<String>> {
        let mut wrong = Vec::new();
        let (mut encoder, mut decoder) = (self.encoder()?, self.decoder()?);
        let mut our_decoder = kappaflow_avro::Decoder::new(avro)?;
        for (number, (batch, ours)) in self.batches.iter().zip(ours).enumerate() {
            let theirs = encode(&mut encoder, batch)?;
            if theirs.bytes()[..] != ours.buffer[..] || theirs.offsets() != &ours.offsets[..] {
                wrong.push(format!("batch {number}: arrow-avro wrote other bytes"));
            }
            let left = crate::decode(&mut our_decoder, ours)?;
            let right = decode(&mut decoder, ours)?;
            // Schemas differ in the names of list items and in metadata: the values are what counts.
            if left.num_rows() != right.num_rows() || shown(&left)? != shown(&right)? {
                wrong.push(format!("batch {number}: arrow-avro read other values"));
            }
        }
        Ok(wrong)
    }

    pub fn contenders<'a>(&'a self, messages: &'a [Encoded]) -> Outcome<Vec<Contender<'a>>> {
        let rows: Vec<usize> = self.batches.iter().map(RecordBatch::num_rows).collect();
        let (mut encoder, mut decoder) = (self.encoder()?, self.decoder()?);
        Ok(vec![
            Contender::new("encode/arrow-avro", rows.clone(), move |number| {
                std::hint::black_box(encode(&mut encoder, &self.batches[number])?);
                Ok(())
            }),
            Contender::new("decode/arrow-avro", rows, move |number| {
                std::hint::black_box(decode(&mut decoder, &messages[number])?);
                Ok(())
            }),
        ])
    }
}

fn encode(encoder: &mut Encoder, batch: &RecordBatch) -> Outcome<EncodedRows> {
    encoder.encode(batch)?;
    Ok(encoder.flush())
}

/// Message by message, as a consumer hands them over.
fn decode(decoder: &mut Decoder, messages: &Encoded) -> Outcome<RecordBatch> {
    for (_, message) in messages.iter() {
        if decoder.decode(message)? != message.len() {
            return Err("arrow-avro left a part of a message".into());
        }
    }
    Ok(decoder.flush()?.ok_or("arrow-avro gave no batch")?)
}

/// Every value as text.
fn shown(batch: &RecordBatch) -> Outcome<Vec<String>> {
    let options = FormatOptions::default().with_null("null");
    let columns = batch
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            // The formatter wants a database of zones to name one, even UTC.
            DataType::Timestamp(unit, Some(_)) => {
                arrow_cast::cast(column, &DataType::Timestamp(*unit, None))
            }
            _ => Ok(Arc::clone(column)),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let columns = columns
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((0..batch.num_rows())
        .flat_map(|row| columns.iter().map(move |c| c.value(row).to_string()))
        .collect())
}

/// apache-avro: a tree of values a row. It has no way in from Arrow: who holds batches builds the trees, so that is part
/// of its encoding; beside it is what the crate takes once it is given them.
pub struct ApacheAvro<'a> {
    schema: apache_avro::Schema,
    values: Vec<Value>,
    batches: &'a [RecordBatch],
}

impl<'b> ApacheAvro<'b> {
    pub fn new(json: &str, batches: &'b [RecordBatch]) -> Outcome<Self> {
        let schema = apache_avro::Schema::parse_str(json)?;
        let mut values = Vec::with_capacity(FEW);
        for batch in batches {
            let row = values::of_rows(batch, &schema)?;
            let left = FEW - values.len();
            for number in 0..batch.num_rows().min(left) {
                values.push(row(number)?);
            }
        }
        Ok(Self {
            schema,
            values,
            batches,
        })
    }

    /// Where it writes other bytes than ours; entries of a map have no order there, so then other values.
    pub fn differences(&self, ours: &[Encoded]) -> Outcome<Vec<String>> {
        let writer = GenericDatumWriter::builder(&self.schema).build()?;
        let reader = GenericDatumReader::builder(&self.schema).build()?;
        for (row, (value, message)) in self.values.iter().zip(few(ours)).enumerate() {
            let theirs = writer.write_value_to_vec(value.clone())?;
            let ours = framing::split(message)?.1;
            if theirs != ours
                && (theirs.len() != ours.len() || reader.read_value(&mut &theirs[..])? != *value)
            {
                return Ok(vec![format!("row {row}: apache-avro wrote another row")]);
            }
        }
        Ok(Vec::new())
    }

    pub fn contenders<'a>(&'a self, messages: &'a [Encoded]) -> Outcome<Vec<Contender<'a>>> {
        let writer = GenericDatumWriter::builder(&self.schema).build()?;
        let reader = GenericDatumReader::builder(&self.schema).build()?;
        let messages: Vec<&[u8]> = few(messages).collect();
        let rows: Vec<usize> = messages.chunks(PART).map(<[_]>::len).collect();
        let part = |number: usize| PART * number..PART * (number + 1);
        // Parts of the first batches that hold the same rows.
        let parts: Vec<RecordBatch> = self
            .batches
            .iter()
            .flat_map(|batch| {
                let starts = (0..batch.num_rows()).step_by(PART);
                starts.map(|at| batch.slice(at, PART.min(batch.num_rows() - at)))
            })
            .scan(FEW, |left, part| {
                let part = part.slice(0, part.num_rows().min(*left));
                *left -= part.num_rows();
                (part.num_rows() > 0).then_some(part)
            })
            .collect();
        let from_batches = parts.iter().map(RecordBatch::num_rows).collect();
        let to_bytes = GenericDatumWriter::builder(&self.schema).build()?;
        Ok(vec![
            Contender::new("encode/apache-avro", from_batches, move |number| {
                let mut out = Vec::with_capacity(1 << 20);
                let row = values::of_rows(&parts[number], &self.schema)?;
                for number in 0..parts[number].num_rows() {
                    framing::write(ID, &mut out);
                    to_bytes.write_value_ref(&mut out, &row(number)?)?;
                }
                std::hint::black_box(out);
                Ok(())
            }),
            Contender::new(
                "encode/apache-avro-from-values",
                rows.clone(),
                move |number| {
                    let mut out = Vec::with_capacity(1 << 20);
                    for value in self
                        .values
                        .iter()
                        .take(part(number).end)
                        .skip(part(number).start)
                    {
                        framing::write(ID, &mut out);
                        writer.write_value_ref(&mut out, value)?;
                    }
                    std::hint::black_box(out);
                    Ok(())
                },
            ),
            Contender::new("decode/apache-avro", rows, move |number| {
                for message in messages
                    .iter()
                    .take(part(number).end)
                    .skip(part(number).start)
                {
                    let datum = &mut framing::split(message)?.1;
                    std::hint::black_box(reader.read_value(datum)?);
                }
                Ok(())
            }),
        ])
    }
}

fn few(messages: &[Encoded]) -> impl Iterator<Item = &[u8]> {
    messages
        .iter()
        .flat_map(|encoded| encoded.iter().map(|(_, message)| message))
        .take(FEW)
}
