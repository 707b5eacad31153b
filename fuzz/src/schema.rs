//! The parser of schemas, on any text and on schemas with a few changes.

use kappaflow_avro::{AvroSchema, CoercionPlan, Decoder, PlanOptions};
use serde_json::Value;

use super::choices::Choices;
use super::memory::peak;
use super::mutation::mutate;
use super::schemas::SCHEMAS;

/// Text beyond which a schema is not changed further: a part may be copied into itself.
const MOST_TEXT: usize = 1 << 16;
/// More than the types that any schema may unfold to, and all defaults, need; and for each byte of its text.
const MOST_MEMORY: usize = 128 << 20;
const MOST_MEMORY_BYTE: usize = 256;

/// The text that the bytes stand for: the first says whether they are the text or changes of a schema.
#[must_use]
pub fn text(data: &[u8]) -> String {
    let mut choices = Choices(data);
    match usize::from(choices.byte()).checked_sub(usize::from(b'0')) {
        Some(base) if base < SCHEMAS.len() => {
            let mut schema: Value = serde_json::from_str(SCHEMAS[base]).expect("it is JSON");
            for _ in 0..16 {
                if choices.is_empty() || schema.to_string().len() > MOST_TEXT {
                    break;
                }
                mutate(&mut schema, &mut choices);
            }
            schema.to_string()
        }
        _ => String::from_utf8_lossy(choices.0).into_owned(),
    }
}

/// Whatever the text, it is a schema or an error; and what is taken as a schema can be worked with.
pub fn run(data: &[u8]) {
    let json = text(data);
    let (parsed, memory) = peak(|| AvroSchema::parse(&json));
    assert!(
        memory < MOST_MEMORY + MOST_MEMORY_BYTE * json.len(),
        "{memory} bytes for {} of text",
        json.len()
    );
    let Ok(schema) = parsed else { return };
    assert_eq!(schema.json(), json);

    // The canonical form has neither logical types nor defaults, and is its own canonical form.
    let canonical = AvroSchema::parse(&schema.canonical()).expect("a canonical form is a schema");
    assert_eq!(canonical.canonical(), schema.canonical());

    // What is decoded can be encoded again, by a plan that needs no declaration.
    let Ok(mut decoder) = Decoder::new(&schema) else {
        return;
    };
    CoercionPlan::new(&decoder.arrow_schema(), &schema, &PlanOptions::default())
        .expect("the decoder's columns fit the schema they are of");
    assert_eq!(decoder.flush().expect("an empty batch").num_rows(), 0);
}
