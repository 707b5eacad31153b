//! What a worker says of inputs that leave no egress record (filtered, zero children), or another number than one.
//!
//! Delivered to the verdict topic as ranges, in Avro under the registry's framing, before the offset is committed.

use std::sync::LazyLock;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Schema, to_value};
use kappaflow_avro::AvroSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The Avro schema of one message of the verdict topic.
pub const SCHEMA: &str = r#"{
  "type": "record", "name": "Verdicts", "namespace": "kappaflow",
  "fields": [
    {"name": "job", "type": "string", "doc": "16 hex digits"},
    {"name": "attempt", "type": "long"},
    {"name": "ranges", "type": {"type": "array", "items": {
      "type": "record", "name": "VerdictRange", "fields": [
        {"name": "split", "type": "long"},
        {"name": "first", "type": "long", "doc": "first seq of the range"},
        {"name": "last", "type": "long", "doc": "last seq of the range, included"},
        {"name": "of", "type": "long", "doc": "children each input of the range was answered with; 0: filtered"},
        {"name": "reason", "type": "string", "doc": "why the service filtered, or empty"}
      ]}}}
  ]
}"#;

/// Header of a dead letter: why, in words.
pub const REASON_HEADER: &str = "kf-reason";
/// Header of a dead letter: how often the service was tried, as decimal text.
pub const ATTEMPTS_HEADER: &str = "kf-attempts";
/// Header of a dead letter: `topic/partition/offset` of the ingress record.
pub const ORIGIN_HEADER: &str = "kf-origin";

/// Header of a dead letter: the stage that it is from, where that is not the worker.
pub const STAGE_HEADER: &str = "kf-stage";
/// The stage header of a row that the publisher rejected: it never was in the ingress topic.
pub const STAGE_PUBLISH: &str = "publish";
/// The stage header of an egress record that the lander could not read.
pub const STAGE_LAND: &str = "land";
/// Header of an egress record in the dead-letter topic: `attempt/child/of`, as decimal text.
pub const ANSWER_HEADER: &str = "kf-answer";
/// Headers of a rejected row: its column, the value there, the source file and the row in it, from 0.
pub const COLUMN_HEADER: &str = "kf-column";
pub const VALUE_HEADER: &str = "kf-value";
pub const FILE_HEADER: &str = "kf-file";
pub const ROW_HEADER: &str = "kf-row";
/// Header of a rejected row whose values are too large for the topic: their size.
pub const LEFT_OUT_HEADER: &str = "kf-left-out";

/// A header's text is no longer than this.
const TEXT_BYTES: usize = 1_000;

/// A text as a header's value: its beginning, cut between characters.
pub fn header_text(text: &str) -> &[u8] {
    let ends = (0..=TEXT_BYTES.min(text.len())).rev();
    let end = ends.into_iter().find(|end| text.is_char_boundary(*end));
    &text.as_bytes()[..end.unwrap_or(0)]
}

/// One message of the verdict topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    pub job: String,
    pub attempt: i64,
    pub ranges: Vec<VerdictRange>,
}

/// Inputs `first..=last` of a split that got the same verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRange {
    pub split: i64,
    pub first: i64,
    pub last: i64,
    /// Children of each input; 0 is filtered.
    pub of: i64,
    pub reason: String,
}

static PARSED: LazyLock<Result<Schema, String>> =
    LazyLock::new(|| Schema::parse_str(SCHEMA).map_err(|e| e.to_string()));

/// [`SCHEMA`], as the registry is given it.
///
/// # Errors
/// [`Error::Schema`]; it does not happen for this text.
pub fn schema() -> Result<AvroSchema, Error> {
    AvroSchema::parse(SCHEMA).map_err(|e| Error::Schema {
        what: "of verdicts".into(),
        reason: e.to_string(),
    })
}

impl Verdicts {
    /// The Avro datum, without framing.
    ///
    /// # Errors
    /// The encoder's message; it does not happen for values of these types.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let schema = PARSED.as_ref().map_err(Clone::clone)?;
        let value = to_value(self).map_err(|e| e.to_string())?;
        GenericDatumWriter::builder(schema)
            .build()
            .and_then(|writer| writer.write_value_to_vec(value))
            .map_err(|e| e.to_string())
    }

    /// Reads a datum without framing.
    ///
    /// # Errors
    /// The decoder's message, if the bytes are not of [`SCHEMA`].
    pub fn decode(mut datum: &[u8]) -> Result<Self, String> {
        let schema = PARSED.as_ref().map_err(Clone::clone)?;
        GenericDatumReader::builder(schema)
            .build()
            .and_then(|reader| reader.read_deser(&mut datum))
            .map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_survive_the_wire() {
        let verdicts = Verdicts {
            job: "00000000000000ff".into(),
            attempt: 7,
            ranges: vec![VerdictRange {
                split: 3,
                first: 10,
                last: 19,
                of: 0,
                reason: "cancelled".into(),
            }],
        };
        let datum = verdicts.encode().unwrap();
        assert_eq!(Verdicts::decode(&datum), Ok(verdicts));
        assert!(Verdicts::decode(&datum[..5]).is_err());
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(header_text("short"), b"short");
        let long = "é".repeat(TEXT_BYTES);
        let cut = std::str::from_utf8(header_text(&long)).unwrap();
        assert!(long.starts_with(cut) && cut.len() == TEXT_BYTES);
        assert_eq!(header_text(&format!("a{long}")).len(), TEXT_BYTES - 1);
    }
}
