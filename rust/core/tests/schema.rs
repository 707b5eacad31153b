//! Schemas from tables: what is derived is exact and brings every value back; what a check counts is what a gate refuses.

use std::path::Path;
use std::sync::Arc;

use arrow_array::types::{Int8Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, LargeStringArray, ListArray, MapArray, NullArray, RecordBatch, RecordBatchIterator,
    StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array,
    UInt64Array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_cast::display::array_value_to_string;
use arrow_schema::{DataType, Field, Fields, Schema};
use kappaflow_avro::{AvroSchema, Certainty, CoercionPlan, Decoder, Encoder, PlanOptions, framing};
use kappaflow_core::schema::{self, DeriveOptions, Derived, Nullable, Table, Terms, derive};
use kappaflow_core::{Context, Error};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;

fn stream(batches: &[RecordBatch]) -> Table {
    let schema = batches[0].schema();
    let batches: Vec<_> = batches.iter().cloned().map(Ok).collect();
    Table::Stream(Box::new(RecordBatchIterator::new(batches, schema)))
}

fn derived(batches: &[RecordBatch], nullable: Nullable) -> Derived {
    let options = DeriveOptions {
        nullable,
        ..DeriveOptions::default()
    };
    derive(stream(batches), &options, &Context::default()).unwrap()
}

fn write(path: &Path, batch: &RecordBatch) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn bits(&mut self) -> u64 {
        self.roll(u64::MAX)
    }

    /// Values of which some are null, or none, or all.
    fn values<T>(&mut self, rows: usize, mut of: impl FnMut(u64) -> T) -> Vec<Option<T>> {
        let nulls = [0, 0, 2, 10][self.roll(4) as usize];
        (0..rows)
            .map(|_| (self.roll(10) >= nulls).then(|| of(self.bits())))
            .collect()
    }

    fn nulls(&mut self, rows: usize) -> Option<NullBuffer> {
        let nulls = [0, 3][self.roll(2) as usize];
        Some(NullBuffer::from_iter(
            (0..rows).map(|_| self.roll(10) >= nulls),
        ))
    }

    fn offsets(&mut self, rows: usize) -> OffsetBuffer<i32> {
        OffsetBuffer::from_lengths((0..rows).map(|_| self.roll(3) as usize))
    }

    /// A column of any type that Avro holds exactly.
    fn column(&mut self, rows: usize, depth: u32) -> ArrayRef {
        let kinds = if depth == 0 { 26 } else { 29 };
        // Ten digits, so that every unit's year has four.
        let instant = |x: u64, scale: i64| (x % 4_000_000_000) as i64 * scale;
        match self.roll(kinds) {
            0 => Arc::new(Int8Array::from(self.values(rows, |x| x as i8))),
            1 => Arc::new(Int16Array::from(self.values(rows, |x| x as i16))),
            2 => Arc::new(Int32Array::from(self.values(rows, |x| x as i32))),
            3 => Arc::new(Int64Array::from(self.values(rows, |x| x as i64))),
            4 => Arc::new(UInt8Array::from(self.values(rows, |x| x as u8))),
            5 => Arc::new(UInt16Array::from(self.values(rows, |x| x as u16))),
            6 => Arc::new(UInt32Array::from(self.values(rows, |x| x as u32))),
            7 => Arc::new(UInt64Array::from(self.values(rows, |x| x))),
            8 => Arc::new(Float32Array::from(self.values(rows, |x| x as f32 / 7.0))),
            9 => Arc::new(Float64Array::from(self.values(rows, |x| x as f64 / 7.0))),
            10 => Arc::new(BooleanArray::from(self.values(rows, |x| x % 2 == 0))),
            11 => Arc::new(StringArray::from(self.values(rows, |x| format!("é{x}")))),
            12 => Arc::new(LargeStringArray::from(self.values(rows, |x| x.to_string()))),
            13 => Arc::new(StringViewArray::from_iter(
                self.values(rows, |x| x.to_string()),
            )),
            14 => {
                let values = self.values(rows, |x| x.to_be_bytes().to_vec());
                Arc::new(BinaryArray::from_iter(values))
            }
            15 => {
                let values = self
                    .values(rows, |x| x.to_be_bytes()[..3].to_vec())
                    .into_iter();
                Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 3).unwrap())
            }
            16 => {
                let values = self.values(rows, |x| i128::from(x as i64 % 1_000_000_000));
                let array = Decimal128Array::from(values);
                Arc::new(array.with_precision_and_scale(9, 2).unwrap())
            }
            17 => Arc::new(Date32Array::from(
                self.values(rows, |x| (x % 60_000) as i32),
            )),
            18 => Arc::new(TimestampMillisecondArray::from(
                self.values(rows, |x| instant(x, 1_000)),
            )),
            19 => {
                let values = self.values(rows, |x| instant(x, 1_000));
                Arc::new(TimestampMillisecondArray::from(values).with_timezone("UTC"))
            }
            20 => Arc::new(TimestampMicrosecondArray::from(
                self.values(rows, |x| instant(x, 1_000_000)),
            )),
            21 => {
                let values = self.values(rows, |x| instant(x, 1_000_001));
                Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
            }
            22 => Arc::new(TimestampNanosecondArray::from(
                self.values(rows, |x| instant(x, 1_000_000_001)),
            )),
            23 => {
                let values = self.values(rows, |x| instant(x, 1_000_000_001));
                Arc::new(TimestampNanosecondArray::from(values).with_timezone("UTC"))
            }
            24 => {
                let keys = Int8Array::from(self.values(rows, |x| (x % 2) as i8));
                let names = Arc::new(StringArray::from(vec!["a", "b"]));
                Arc::new(DictionaryArray::<Int8Type>::new(keys, names))
            }
            25 => Arc::new(NullArray::new(rows)),
            26 => {
                let (a, b) = (self.column(rows, depth - 1), self.column(rows, depth - 1));
                let field = |name: &str, array: &ArrayRef| {
                    Field::new(name, array.data_type().clone(), true)
                };
                let fields = Fields::from(vec![field("a", &a), field("b", &b)]);
                Arc::new(StructArray::new(fields, vec![a, b], self.nulls(rows)))
            }
            27 => {
                let offsets = self.offsets(rows);
                let items = self.column(offsets.last().copied().unwrap_or(0) as usize, depth - 1);
                let item = Field::new("item", items.data_type().clone(), true);
                Arc::new(ListArray::new(
                    item.into(),
                    offsets,
                    items,
                    self.nulls(rows),
                ))
            }
            _ => {
                let offsets = self.offsets(rows);
                let count = offsets.last().copied().unwrap_or(0) as usize;
                let keys: ArrayRef = Arc::new(StringArray::from_iter_values(
                    (0..count).map(|i| i.to_string()),
                ));
                let values = self.column(count, depth - 1);
                let pair = Fields::from(vec![
                    Field::new("key", DataType::Utf8, false),
                    Field::new("value", values.data_type().clone(), true),
                ]);
                let entries = StructArray::new(pair.clone(), vec![keys, values], None);
                let field = Field::new("entries", DataType::Struct(pair), false);
                Arc::new(MapArray::new(
                    field.into(),
                    offsets,
                    entries,
                    self.nulls(rows),
                    false,
                ))
            }
        }
    }
}

/// Some columns, named so that Avro takes some and others not.
fn batch(seed: u64) -> RecordBatch {
    let mut dice = Dice(seed | 1);
    let rows = dice.roll(6) as usize;
    let names = ["id", "a b", "a_b", "1st", "Straße", "ID2"];
    let columns: Vec<(&str, ArrayRef)> = (0..=dice.roll(5) as usize)
        .map(|i| (names[i], dice.column(rows, 2)))
        .collect();
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn texts(array: &dyn Array) -> Vec<String> {
    let text = |i| array_value_to_string(array, i).unwrap();
    (0..array.len()).map(text).collect()
}

/// The record's fields of an Avro schema that are a union with null, by name.
fn nullable(schema: &AvroSchema, field: &str) -> bool {
    let found = schema.fields().iter().find(|f| f.name == field);
    found.unwrap().ty.is_nullable()
}

proptest! {
    #[test]
    fn what_is_derived_is_exact_and_brings_every_value_back(seed: u64) {
        let batch = batch(seed);
        let declared = derived(std::slice::from_ref(&batch), Nullable::Declared);
        let schema = AvroSchema::parse(&declared.schema).unwrap();
        let plan = CoercionPlan::new(&batch.schema(), &schema, &PlanOptions::default()).unwrap();
        for row in plan.describe() {
            prop_assert_eq!(row.rule, Certainty::Exact, "{:?}", row);
        }
        prop_assert!(declared.checked.is_empty());

        let seen = derived(std::slice::from_ref(&batch), Nullable::Seen);
        prop_assert!(seen.checked.is_empty(), "{:?}", seen.checked);
        for json in [&declared.schema, &seen.schema] {
            let schema = AvroSchema::parse(json).unwrap();
            let plan = CoercionPlan::new(&batch.schema(), &schema, &PlanOptions::default()).unwrap();
            let encoded = Encoder::new(plan, 1).encode(&batch).unwrap();
            prop_assert_eq!(&encoded.rejects, &[]);
            let mut decoder = Decoder::new(&schema).unwrap();
            for (_, message) in encoded.iter() {
                decoder.push(framing::split(message).unwrap().1).unwrap();
            }
            let back = decoder.flush().unwrap();
            for (column, field) in batch.columns().iter().zip(back.columns()) {
                prop_assert_eq!(texts(column), texts(field), "{}", json);
            }
        }
        let schema = AvroSchema::parse(&seen.schema).unwrap();
        for (column, field) in batch.columns().iter().zip(schema.fields()) {
            let has_null = column.logical_nulls().is_some_and(|n| n.null_count() > 0);
            let is_null = *column.data_type() == DataType::Null;
            let expected = if batch.num_rows() == 0 { true } else { has_null || is_null };
            prop_assert_eq!(nullable(&schema, &field.name), expected);
        }
    }
}

#[test]
fn files_say_where_their_nulls_are() {
    let dir = tempfile::tempdir().unwrap();
    let one = |full: Vec<Option<i64>>, item: Option<i64>| {
        let full: ArrayRef = Arc::new(Int64Array::from(full));
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1)]),
            Some(vec![item]),
        ]);
        RecordBatch::try_from_iter_with_nullable([
            (
                "always",
                Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef,
                true,
            ),
            ("once", full, true),
            ("list", Arc::new(list), true),
        ])
        .unwrap()
    };
    let data = dir.path().join("data");
    write(
        &data.join("m=1/a.parquet"),
        &one(vec![Some(1), Some(2)], Some(3)),
    );
    write(&data.join("m=2/a.parquet"), &one(vec![Some(1), None], None));
    let of = |table: Table, options: &DeriveOptions| derive(table, options, &Context::default());
    let found = of(Table::at(&data).unwrap(), &DeriveOptions::default()).unwrap();
    assert_eq!(found.rows, 4);
    let expected = r#"{
  "type": "record",
  "name": "Row",
  "fields": [
    {"name":"always","type":"long"},
    {"name":"once","type":["null","long"],"default":null},
    {"name":"list","type":{"type":"array","items":["null","long"]}}
  ]
}
"#;
    assert_eq!(found.schema, expected);
    let first = of(
        Table::at(&data.join("m=1/*.parquet")).unwrap(),
        &DeriveOptions {
            name: Some("Trip".into()),
            namespace: Some("a.b".into()),
            nullable: Nullable::Seen,
        },
    )
    .unwrap();
    assert!(!first.schema.contains("null"), "{}", first.schema);
    assert_eq!(
        AvroSchema::parse(&first.schema).unwrap().full_name(),
        "a.b.Trip"
    );
}

#[test]
fn names_types_and_mistakes() {
    let zero = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let none = derived(&[zero], Nullable::Seen);
    assert!(AvroSchema::parse(&none.schema).unwrap().fields().is_empty());

    let uuid = Field::new("key", DataType::FixedSizeBinary(16), false)
        .with_metadata([("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())].into());
    let time = Field::new(
        "at",
        DataType::Time64(arrow_schema::TimeUnit::Microsecond),
        false,
    );
    let columns = Arc::new(Schema::new(vec![
        uuid,
        time,
        Field::new("a b", DataType::Utf8, false),
    ]));
    let found = derived(&[RecordBatch::new_empty(columns)], Nullable::Seen);
    assert!(
        found
            .schema
            .contains(r#"{"name":"key","type":{"type":"string","logicalType":"uuid"}}"#),
        "{}",
        found.schema
    );
    assert_eq!(found.renamed, [("a b".to_owned(), "a_b".to_owned())]);

    let refused = |field: Field, options: &DeriveOptions| {
        let empty = RecordBatch::new_empty(Arc::new(Schema::new(vec![field])));
        derive(stream(&[empty]), options, &Context::default()).unwrap_err()
    };
    let interval = Field::new(
        "span",
        DataType::Interval(arrow_schema::IntervalUnit::YearMonth),
        true,
    );
    let error = refused(interval, &DeriveOptions::default());
    assert!(
        matches!(&error, Error::Plan(e) if e.to_string().contains("span") && e.to_string().contains("int64")),
        "{error}"
    );
    let x = || Field::new("x", DataType::Int8, true);
    for (name, namespace) in [(Some("no name"), None), (None, Some("a..b"))] {
        let options = DeriveOptions {
            name: name.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
            nullable: Nullable::Seen,
        };
        let error = refused(x(), &options).to_string();
        assert!(error.contains("Avro's rules"), "{error}");
    }
}

#[test]
fn a_check_counts_what_the_gate_refuses() {
    let schema = r#"{"type":"record","name":"R","fields":[
        {"name":"id","type":"int"},{"name":"m","type":"string"}]}"#;
    let terms = Terms::new("r.avsc", schema, PlanOptions::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (m, ids) in [
        (1, vec![Some(1.0), Some(0.5), None]),
        (2, vec![Some(2.5), Some(4.0)]),
    ] {
        let ids: ArrayRef = Arc::new(Float64Array::from(ids));
        let batch = RecordBatch::try_from_iter_with_nullable([("id", ids, true)]).unwrap();
        write(&dir.path().join(format!("m={m}/a.parquet")), &batch);
    }
    let table = || Table::at(dir.path()).unwrap();
    let found = schema::check(table(), &terms, &Context::default()).unwrap();
    assert_eq!((found.rows, found.passed, found.rejected), (5, 2, 3));
    let [whole, null] = found.by_reason.as_slice() else {
        panic!("{:?}", found.by_reason);
    };
    assert_eq!((whole.column.as_str(), whole.rows, null.rows), ("id", 2, 1));
    let example = &whole.examples[1];
    assert_eq!(
        (example.file.as_str(), example.row, example.value.as_str()),
        ("m=2/a.parquet", 0, "2.5")
    );

    let rows = schema::plan(&table(), &terms).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (rows[0].rule, rows[1].column.as_deref()),
        (Certainty::Checked, Some("m"))
    );
    let error = Terms::new("r.avsc", "{", PlanOptions::default()).unwrap_err();
    assert!(
        matches!(&error, Error::Schema { what, .. } if what == "r.avsc"),
        "{error}"
    );
    let stopped = Context::default();
    stopped.cancel.cancel();
    let error = schema::check(table(), &terms, &stopped).unwrap_err();
    assert!(
        matches!(error, Error::Interrupted { stage: "check" }),
        "{error}"
    );
}
