//! Rows become records: each is sent, rejected or left out, and goes where its columns say.

use super::super::keys::KeySchema;
use super::*;
use crate::identity::JobId;
use crate::job::KeyFormat;
use arrow_array::{
    ArrayRef, BinaryArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use std::sync::Arc;

const SCHEMA: &str = r#"{"type":"record","name":"R","fields":[
    {"name":"id","type":"int"},{"name":"text","type":["null","string"]}]}"#;

fn recipe(key: &[&str], largest_record: usize) -> Recipe {
    Recipe {
        schema: AvroSchema::parse(SCHEMA).unwrap(),
        frame: Frame::Id(1),
        plan: PlanOptions::default(),
        routing: Routing {
            key: key.iter().map(|k| (*k).to_owned()).collect(),
            ..Routing::default()
        },
        policy: RejectPolicy::default(),
        partitions: 4,
        largest_record,
        largest_for_topic: 500,
        max_message_bytes: 1_000,
    }
}

fn batch() -> RecordBatch {
    let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 1 << 40, 3, 4]));
    let text = [Some("a"), Some("b"), None, Some("a long one")];
    let text: ArrayRef = Arc::new(StringArray::from_iter(text));
    RecordBatch::try_from_iter([("id", id), ("text", text)]).unwrap()
}

fn origin() -> Origin {
    Origin {
        job: JobId(1),
        split: 2,
        slot: 0,
    }
}

#[test]
fn rows_are_sent_rejected_or_left_out_each_once() {
    let batch = batch();
    let mut maker = Maker::new(recipe(&[], 1_000), &batch.schema()).unwrap();
    let chunk = maker
        .chunk(origin(), &batch, 10, &RoaringBitmap::new())
        .unwrap();
    assert_eq!(chunk.rows.seqs, [10, 12, 13]);
    assert_eq!(chunk.rejects.len(), 1);
    assert_eq!(
        (chunk.rejects[0].row, chunk.rejects[0].column.as_str()),
        (11, "id")
    );
    let whole = chunk.rows.payload(2).to_vec();

    let done: RoaringBitmap = [10, 11].into_iter().collect();
    let chunk = maker.chunk(origin(), &batch, 10, &done).unwrap();
    assert_eq!(chunk.rows.seqs, [12, 13]);
    assert_eq!(chunk.rows.payload(1), whole);
    assert!(chunk.rejects.is_empty());
}

#[test]
fn what_the_topic_does_not_take_is_rejected_by_name() {
    let batch = batch();
    for (largest_for_topic, why) in [
        (12, "max.message.bytes = 1000"),
        (500, "limits.publish_queue_mib"),
    ] {
        let recipe = Recipe {
            largest_for_topic,
            ..recipe(&[], 12)
        };
        let mut maker = Maker::new(recipe, &batch.schema()).unwrap();
        let chunk = maker
            .chunk(origin(), &batch, 0, &RoaringBitmap::new())
            .unwrap();
        assert_eq!(chunk.rows.seqs, [0, 2]);
        let large = &chunk.rejects[1];
        assert_eq!(large.row, 3);
        assert!(large.reason.contains(why), "{large:?}");
    }
}

#[test]
fn keys_are_the_text_of_their_columns() {
    let batch = batch();
    let mut maker = Maker::new(recipe(&["text"], 1_000), &batch.schema()).unwrap();
    let done = RoaringBitmap::from_iter([0]);
    let chunk = maker.chunk(origin(), &batch, 0, &done).unwrap();
    assert_eq!(chunk.rows.seqs, [2, 3]);
    assert_eq!(chunk.rows.key(0), b"");
    assert_eq!(chunk.rows.key(1), b"a long one");
    assert_eq!(chunk.rows.partitions[1], key_partition(b"a long one", 4));
    let missing = Maker::new(recipe(&["nope"], 1_000), &batch.schema())
        .err()
        .unwrap();
    assert!(missing.to_string().contains("nope"), "{missing}");
}

/// `id`, and columns that only say where a row goes.
fn routed() -> RecordBatch {
    let id: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, 3.5, 4.0, 5.0, 6.0]));
    let to = [Some(3), Some(0), Some(1), Some(4), None, Some(2)];
    let to: ArrayRef = Arc::new(Int64Array::from_iter(to));
    let at = [1_999, 2_000, 3_000, 4_000, 4_102_444_800_000_000, 0].map(Some);
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter(at).with_timezone("UTC"));
    RecordBatch::try_from_iter([("id", id), ("to", to), ("at", at)]).unwrap()
}

fn routing(change: impl FnOnce(&mut Routing)) -> Recipe {
    let mut recipe = recipe(&[], 1_000);
    recipe.schema = AvroSchema::parse(
        r#"{"type":"record","name":"n.R","fields":[{"name":"id","type":["null","long"]}]}"#,
    )
    .unwrap();
    change(&mut recipe.routing);
    recipe
}

fn chunk_of(recipe: Recipe, batch: &RecordBatch) -> Chunk {
    let mut maker = Maker::new(recipe, &batch.schema()).unwrap();
    maker
        .chunk(origin(), batch, 0, &RoaringBitmap::new())
        .unwrap()
}

fn told(chunk: &Chunk) -> Vec<(u32, &str, &str)> {
    let told = |r: &'_ RejectRow| (r.row, r.column.clone(), r.value.clone());
    let mut told: Vec<_> = chunk.rejects.iter().map(told).collect();
    told.sort();
    let leak = |s: String| &*Box::leak(s.into_boxed_str());
    told.into_iter()
        .map(|(r, c, v)| (r, leak(c), leak(v)))
        .collect()
}

#[test]
fn a_column_names_the_partition() {
    let named = routing(|r| r.partition = Some("to".into()));
    // `at` is neither in the schema nor what rows are routed by.
    let error = Maker::new(named.clone(), &routed().schema()).err().unwrap();
    assert!(error.to_string().contains("at"), "{error}");
    let batch = routed().project(&[0, 1]).unwrap();
    let chunk = chunk_of(named, &batch);
    assert_eq!(chunk.rows.seqs, [0, 1, 5]);
    assert_eq!(chunk.rows.partitions, [3, 0, 2]);
    assert_eq!(
        told(&chunk),
        [(2, "id", "3.5"), (3, "to", "4"), (4, "to", "null")]
    );
    assert!(
        chunk
            .rejects
            .iter()
            .any(|r| r.reason.contains("the topic has 4"))
    );
}

#[test]
fn a_column_is_the_time_of_its_record() {
    let mut recipe = routing(|r| r.timestamp = Some("at".into()));
    recipe.routing.ahead_ms = 3_600_000;
    let batch = routed().project(&[0, 2]).unwrap();
    let chunk = chunk_of(recipe, &batch);
    // To the earlier millisecond; not before 1970 ends its first; not too far ahead.
    assert_eq!(chunk.rows.seqs, [0, 1, 3]);
    assert_eq!(chunk.rows.timestamps, [1, 2, 4]);
    assert_eq!(
        told(&chunk)[1..],
        [(4, "at", "4102444800000"), (5, "at", "0")]
    );
    let text = RecordBatch::try_from_iter([
        ("id", batch.column(0).clone()),
        ("at", {
            let naive: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1; 6]));
            naive
        }),
    ])
    .unwrap();
    let recipe = routing(|r| r.timestamp = Some("at".into()));
    let error = Maker::new(recipe, &text.schema())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("topics.timestamp_column") && error.contains("zone"),
        "{error}"
    );
}

#[test]
fn keys_are_bytes_or_avro_or_the_text_of_what_the_field_is() {
    let batch = routed();
    let keyed = |format, schema: Option<KeySchema>| {
        let mut recipe = routing(|r| {
            r.key = vec!["id".into()];
            r.key_format = format;
            r.key_schema = schema.map(Arc::new);
        });
        recipe.plan.extra = Extra::Ignore;
        recipe
    };
    let chunk = chunk_of(keyed(KeyFormat::String, None), &batch);
    assert_eq!(
        (chunk.rows.key(0), chunk.rows.key(2)),
        (&b"1"[..], &b"4"[..])
    );

    let mut schema = KeySchema::of(&keyed(KeyFormat::Avro, None).schema, &["id".into()]).unwrap();
    assert_eq!(schema.text, r#"["null","long"]"#);
    schema.id = 7;
    let chunk = chunk_of(keyed(KeyFormat::Avro, Some(schema)), &batch);
    // The frame, the branch, the number in zigzag.
    assert_eq!(chunk.rows.key(2), [0, 0, 0, 0, 7, 2, 8]);
    assert_eq!(
        chunk.rows.partitions[2],
        key_partition(chunk.rows.key(2), 4)
    );

    let error = Maker::new(keyed(KeyFormat::Bytes, None), &batch.schema())
        .err()
        .unwrap();
    assert!(error.to_string().contains("id (Float64)"), "{error}");
    let mut bytes = keyed(KeyFormat::Bytes, None);
    bytes.routing.key = vec!["raw".into()];
    let raw: ArrayRef = Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0xff]), None]));
    let id = batch.column(0).slice(0, 2);
    let two = RecordBatch::try_from_iter([("id", id), ("raw", raw)]).unwrap();
    let chunk = chunk_of(bytes, &two);
    assert_eq!(
        (chunk.rows.key(0), chunk.rows.key(1)),
        (&[0xff][..], &[][..])
    );
}

#[test]
fn keys_in_avro_have_the_types_of_fields() {
    let schema = AvroSchema::parse(SCHEMA).unwrap();
    let two = KeySchema::of(&schema, &["text".into(), "id".into()]).unwrap();
    assert_eq!(two.text, two.record.json());
    assert_eq!(two.record.full_name(), "RKey");
    let error = KeySchema::of(&schema, &["nope".into()]).unwrap_err();
    assert!(
        error.to_string().contains("\"nope\" is no field"),
        "{error}"
    );
}
