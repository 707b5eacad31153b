//! The decoder, on any bytes.

use std::sync::LazyLock;

use arrow_array::RecordBatch;
use kappaflow_avro::{AvroSchema, AvroType, CoercionPlan, Decoder, Encoder, PlanOptions};
use serde_json::Value;

use super::choices::Choices;
use super::memory::peak;
use super::mutation::mutate;
use super::schemas::SCHEMAS;

static WRITERS: LazyLock<Vec<AvroSchema>> = LazyLock::new(|| {
    let parse = |json: &&str| AvroSchema::parse(json).expect("a writer's schema");
    SCHEMAS.iter().map(parse).collect()
});

/// A datum of the type.
fn datum(ty: &AvroType, choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    match ty {
        AvroType::Null => {}
        AvroType::Boolean => out.push(choices.byte() & 1),
        AvroType::Float => out.extend([0, 0, choices.byte(), 0x40]),
        AvroType::Double => out.extend([0, 0, 0, 0, 0, 0, choices.byte(), 0x40]),
        AvroType::Bytes | AvroType::String => out.extend([4, b'x', choices.byte() & 0x7f]),
        AvroType::Uuid { fixed: false } => {
            out.push(72);
            out.extend(b"01234567-89ab-cdef-0123-456789abcdef");
        }
        AvroType::Uuid { fixed: true } => out.extend([choices.byte(); 16]),
        AvroType::Duration => out.extend([choices.byte(); 12]),
        AvroType::Enum(_) => out.push(0),
        AvroType::Fixed(fixed) => out.resize(out.len() + fixed.size, choices.byte()),
        AvroType::Decimal(decimal) => match decimal.fixed {
            Some(size) => out.resize(out.len() + size, 0),
            None => out.extend([2, choices.byte() & 7]),
        },
        AvroType::Array(items) => {
            for _ in 0..choices.below(3) {
                out.push(2);
                datum(items, choices, out);
            }
            out.push(0);
        }
        AvroType::Map(values) => {
            for key in 0..choices.below(3) {
                out.extend([2, 2, b'a' + key as u8]);
                datum(values, choices, out);
            }
            out.push(0);
        }
        AvroType::Record(record) => {
            for field in &record.fields {
                datum(&field.ty, choices, out);
            }
        }
        AvroType::Union(branches) => {
            let branch = choices.below(branches.len());
            out.push(2 * branch as u8);
            datum(&branches[branch], choices, out);
        }
        // Varints.
        _ => out.push(choices.byte() & 0x7f),
    }
}

/// A reader's schema: the writer's with some changes, or none.
fn reader(writer: usize, choices: &mut Choices<'_>) -> Option<AvroSchema> {
    let changes = choices.below(8);
    let changes = choices.split(8 * changes);
    if changes.is_empty() {
        return None;
    }
    let (mut choices, mut json): (_, Value) =
        (changes, serde_json::from_str(SCHEMAS[writer]).ok()?);
    while !choices.is_empty() {
        mutate(&mut json, &mut choices);
    }
    AvroSchema::parse(&json.to_string()).ok()
}

/// A message is a row or an error; an error leaves no trace, and neither costs memory beyond what the message can justify.
pub fn run(data: &[u8]) {
    let mut choices = Choices(data);
    let writer = choices.below(SCHEMAS.len());
    let (schema, reader) = (&WRITERS[writer], reader(writer, &mut choices));
    let target = reader.as_ref().unwrap_or(schema);
    let decoder = || match &reader {
        None => Decoder::new(schema).ok(),
        Some(reader) => Decoder::with_reader(schema, reader).ok(),
    };
    let (Some(mut decoder), Some(mut clean), Some(mut many)) = (decoder(), decoder(), decoder())
    else {
        return;
    };
    let mut good = Vec::new();
    let mut seed = choices.split(8);
    schema
        .fields()
        .iter()
        .for_each(|field| datum(&field.ty, &mut seed, &mut good));
    let message = choices.0;

    // A reader may refuse what a writer wrote (a branch or a symbol that it doesn't have), but always the same.
    let before = decoder.push(&good);
    let (taken, memory) = peak(|| decoder.push(message));
    assert!(
        memory <= bound(message.len()),
        "{memory} bytes for a message of {}",
        message.len()
    );
    assert_eq!(decoder.push(&good), before);
    for (message, taken) in [(&good[..], &before), (message, &taken), (&good, &before)] {
        if taken.is_ok() {
            assert_eq!(clean.push(message), Ok(()));
        }
    }
    assert_eq!(decoder.len(), clean.len());

    // Many at once are what they are one by one.
    let all = [(&good[..], &before), (message, &taken), (&good, &before)];
    let wrong = all.iter().enumerate().filter_map(|(i, (_, taken))| {
        let error = taken.as_ref().err()?;
        Some((i, error.clone()))
    });
    let (refused, memory) = peak(|| many.push_all(all.map(|(message, _)| message)));
    assert_eq!(refused, wrong.collect::<Vec<_>>());
    let len = message.len() + 2 * good.len();
    assert!(memory <= bound(len), "{memory} bytes for messages of {len}");
    assert_eq!(many.held_bytes(), decoder.held_bytes());
    let (batch, expected) = (
        decoder.flush().expect("a batch"),
        clean.flush().expect("a batch"),
    );
    assert!(same(&batch, &expected), "{batch:?}, not {expected:?}");
    let many = many.flush().expect("a batch");
    assert!(same(&many, &batch), "{many:?}, not {batch:?}");

    // What was read can be written, and read again, and is the same.
    let plan = CoercionPlan::new(batch.schema_ref(), target, &PlanOptions::default())
        .expect("what was decoded fits the schema");
    let encoded = Encoder::new(plan, 1)
        .encode(&batch)
        .expect("a batch that was read");
    // A message may repeat a key of a map; whoever writes may not.
    let may = |reason: &str| reason == "a key of the map is there twice";
    let wrong = encoded.rejects.iter().find(|r| !may(&r.reason));
    assert_eq!(wrong, None);
    if !encoded.rejects.is_empty() {
        return;
    }
    let mut again = Decoder::new(target).expect("a decoder");
    for (_, message) in encoded.iter() {
        let (_, datum) = kappaflow_avro::framing::split(message).expect("a frame");
        assert_eq!(again.push(datum), Ok(()));
    }
    let again = again.flush().expect("a batch");
    assert!(same(&again, &batch), "{again:?}, not {batch:?}");
}

/// Equal; but NaN isn't equal to itself, so what differs is told by its debug form.
fn same(a: &RecordBatch, b: &RecordBatch) -> bool {
    a == b || format!("{a:?}") == format!("{b:?}")
}

/// A value may be larger in memory than on the wire (a null of a wide type takes a byte there), but not without limit.
const fn bound(message: usize) -> usize {
    (64 << 20) + 1024 * message
}
