//! What is seen of a source: columns, and the rows that a filter lets pass.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray,
    Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    make_array,
};
use arrow_schema::DataType;
use kappaflow_core::Error;
use kappaflow_core::rows::FileRows;
use kappaflow_core::snapshot::{Filter, Reach, Snapshot, View};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use proptest::prelude::*;
use serde_json::{Value, json};

fn write(path: &Path, batch: &RecordBatch, group_rows: usize, statistics: bool) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group_rows))
        .set_statistics_enabled(match statistics {
            true => EnabledStatistics::Page,
            false => EnabledStatistics::None,
        })
        .build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn pin(dir: &Path, columns: Option<&[&str]>, filter: Option<Value>) -> Result<Snapshot, Error> {
    let view = View {
        columns: columns.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
        filter: filter.map(|filter| Filter::parse(&filter).unwrap()),
    };
    let reach = Reach::new("/".as_ref(), Default::default());
    Snapshot::pin(dir.to_str().unwrap(), &reach, view)
}

/// The column `n` of all splits, in order; each split gives what it was planned with.
fn numbers(snapshot: &Snapshot, split_rows: u32) -> Vec<i64> {
    let mut all = Vec::new();
    for split in snapshot.splits(None, split_rows).unwrap() {
        let groups = split.row_group_first..split.row_group_first + split.row_group_count;
        let mut rows = 0;
        for batch in FileRows::open(snapshot, split.file, groups, "job", &|_| true).unwrap() {
            let batch = batch.unwrap();
            rows += batch.num_rows();
            let column = batch.column_by_name("n").unwrap();
            all.extend(column.as_primitive::<Int64Type>().values());
        }
        assert_eq!(rows, split.rows as usize);
        assert!(rows > 0, "a split without rows");
    }
    assert_eq!(all.len() as u64, snapshot.rows());
    all
}

/// A row of the property test.
#[derive(Clone, Debug)]
struct Row {
    int: Option<i64>,
    float: Option<f64>,
    text: Option<String>,
}

fn row() -> impl Strategy<Value = Row> {
    let float = prop_oneof![
        4 => (-3i32..4).prop_map(|v| f64::from(v) / 2.0),
        1 => Just(-0.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
    ];
    (
        prop::option::weighted(0.8, -3i64..4),
        prop::option::weighted(0.8, float),
        prop::option::weighted(0.8, "[ab]{0,2}"),
    )
        .prop_map(|(int, float, text)| Row { int, float, text })
}

fn condition() -> impl Strategy<Value = Value> {
    let op = prop::sample::select(vec!["=", "==", "!=", "<", "<=", ">", ">="]);
    let list = prop::sample::select(vec!["in", "not in"]);
    let null = prop::sample::select(vec!["is null", "is not null"]);
    let value = prop_oneof![
        (-3i64..4).prop_map(|v| json!(["int", v])),
        (-3i32..4).prop_map(|v| json!(["float", f64::from(v) / 2.0])),
        "[ab]{0,2}".prop_map(|v| json!(["text", v])),
    ];
    let several = prop_oneof![
        prop::collection::vec(-3i64..4, 1..4).prop_map(|v| json!(["int", v])),
        prop::collection::vec((-3i32..4).prop_map(|v| f64::from(v) / 2.0), 1..4)
            .prop_map(|v| json!(["float", v])),
        prop::collection::vec("[ab]{0,2}", 1..4).prop_map(|v| json!(["text", v])),
    ];
    let column = prop::sample::select(vec!["int", "float", "text"]);
    prop_oneof![
        4 => (op, value).prop_map(|(op, v)| json!([v[0], op, v[1]])),
        2 => (list, several).prop_map(|(op, v)| json!([v[0], op, v[1]])),
        1 => (null, column).prop_map(|(op, column)| json!([column, op])),
    ]
}

/// The obvious way: one row, one condition.
fn holds(row: &Row, condition: &Value) -> bool {
    let (column, op) = (
        condition[0].as_str().unwrap(),
        condition[1].as_str().unwrap(),
    );
    let is_null = match column {
        "int" => row.int.is_none(),
        "float" => row.float.is_none(),
        _ => row.text.is_none(),
    };
    if op.starts_with("is ") {
        return is_null == (op == "is null");
    }
    if is_null {
        return false;
    }
    let order = |value: &Value| match column {
        "int" => row.int.unwrap().cmp(&value.as_i64().unwrap()),
        "float" if row.float.unwrap().is_nan() => Ordering::Greater,
        "float" => row
            .float
            .unwrap()
            .partial_cmp(&value.as_f64().unwrap())
            .unwrap(),
        _ => row.text.as_deref().unwrap().cmp(value.as_str().unwrap()),
    };
    let is_in = || {
        condition[2]
            .as_array()
            .unwrap()
            .iter()
            .any(|v| order(v).is_eq())
    };
    match op {
        "=" | "==" => order(&condition[2]).is_eq(),
        "!=" => order(&condition[2]).is_ne(),
        "<" => order(&condition[2]).is_lt(),
        "<=" => order(&condition[2]).is_le(),
        ">" => order(&condition[2]).is_gt(),
        ">=" => order(&condition[2]).is_ge(),
        "in" => is_in(),
        _ => !is_in(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_rows_that_pass_are_those_of_the_obvious_way(
        rows in prop::collection::vec(row(), 1..60),
        filter in prop::collection::vec(prop::collection::vec(condition(), 1..4), 1..3),
        (group_rows, split_rows) in (1usize..12, 1u32..20),
        (statistics, sorted) in (any::<bool>(), any::<bool>()),
    ) {
        let mut rows = rows;
        if sorted {
            // Row groups whose statistics say something.
            rows.sort_by_key(|row| (row.int, row.text.clone()));
        }
        let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows.len() as i64));
        let int: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.int)));
        let float: ArrayRef = Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.float)));
        let text: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|r| r.text.clone())));
        let columns = [("n", n), ("int", int), ("float", float), ("text", text)];
        let dir = tempfile::tempdir().unwrap();
        write(
            &dir.path().join("a.parquet"),
            &RecordBatch::try_from_iter_with_nullable(columns.map(|(k, v)| (k, v, true))).unwrap(),
            group_rows,
            statistics,
        );
        let expected: Vec<i64> = (0i64..)
            .zip(&rows)
            .filter(|(_, row)| filter.iter().any(|group| group.iter().all(|c| holds(row, c))))
            .map(|(n, _)| n)
            .collect();
        let snapshot = pin(dir.path(), None, Some(json!(filter))).unwrap();
        prop_assert_eq!(numbers(&snapshot, split_rows), expected);
    }
}

/// One row of each type that can be compared, and the value that it has.
fn typed() -> (RecordBatch, Vec<(&'static str, Value, Value)>) {
    let days = 15_737; // 2013-02-01
    let dictionary: DictionaryArray<arrow_array::types::Int32Type> = ["UA"].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int64Array::from(vec![0]))),
        ("i32", Arc::new(Int32Array::from(vec![7]))),
        ("bool", Arc::new(BooleanArray::from(vec![true]))),
        ("date", Arc::new(Date32Array::from(vec![days]))),
        (
            "at",
            Arc::new(TimestampMillisecondArray::from(vec![
                i64::from(days) * 86_400_000 + 5,
            ])),
        ),
        (
            "utc",
            Arc::new(
                TimestampMillisecondArray::from(vec![i64::from(days) * 86_400_000])
                    .with_timezone("UTC"),
            ),
        ),
        (
            "price",
            Arc::new(
                Decimal128Array::from(vec![12_50])
                    .with_precision_and_scale(9, 2)
                    .unwrap(),
            ),
        ),
        ("dict", Arc::new(dictionary)),
    ];
    let passing = vec![
        ("i32", json!(7), json!(8)),
        ("bool", json!(true), json!(false)),
        ("date", json!("2013-02-01"), json!("2013-02-02")),
        ("at", json!("2013-02-01T00:00:00.005"), json!("2013-02-01")),
        (
            "utc",
            json!("2013-02-01T01:00:00+01:00"),
            json!("2013-02-01T01:00:00Z"),
        ),
        ("price", json!(12.5), json!("12.51")),
        ("dict", json!("UA"), json!("AA")),
    ];
    (RecordBatch::try_from_iter(columns).unwrap(), passing)
}

#[test]
fn values_are_of_their_column_s_type() {
    let (batch, passing) = typed();
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.parquet"), &batch, 10, true);
    let rows = |filter: Value| pin(dir.path(), None, Some(filter)).unwrap().rows();
    for (column, same, other) in passing {
        assert_eq!(rows(json!([[column, "=", same]])), 1, "{column}");
        assert_eq!(rows(json!([[column, "!=", same]])), 0, "{column}");
        assert_eq!(rows(json!([[column, "in", [other]]])), 0, "{column}");
    }
    for (column, value) in [
        ("i32", json!("7")),
        ("i32", json!(7.5)),
        ("i32", json!(3_000_000_000_i64)),
        ("bool", json!("true")),
        ("date", json!("February")),
        ("at", json!("2013-02-01T00:00:00.0000005")),
        ("price", json!(12.505)),
        ("dict", json!(1)),
    ] {
        let error = pin(dir.path(), None, Some(json!([[column, "=", value]]))).unwrap_err();
        let (text, shown) = (
            error.to_string(),
            value.as_str().map_or(value.to_string(), str::to_owned),
        );
        let ty = batch
            .schema_ref()
            .field_with_name(column)
            .unwrap()
            .data_type()
            .to_string();
        for word in [column, shown.as_str(), ty.as_str(), "source.filter"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}

#[test]
fn folder_keys_leave_files_out_before_they_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    let batch = |first: i64| {
        let n: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + 4));
        RecordBatch::try_from_iter([("n", n)]).unwrap()
    };
    for day in 1..4 {
        write(
            &dir.path().join(format!("day={day}/a.parquet")),
            &batch(day * 10),
            2,
            true,
        );
    }
    write(
        &dir.path().join("day=__HIVE_DEFAULT_PARTITION__/a.parquet"),
        &batch(90),
        2,
        true,
    );
    fs::create_dir_all(dir.path().join("day=9")).unwrap();
    fs::write(dir.path().join("day=9/a.parquet"), "not parquet").unwrap();
    let seen = |filter: Value| numbers(&pin(dir.path(), None, Some(filter)).unwrap(), 3);
    assert_eq!(
        seen(json!([["day", "in", [2, 3]], ["n", "<", 31]])),
        [20, 21, 22, 23, 30]
    );
    assert_eq!(seen(json!([["day", "is null"], ["n", ">=", 92]])), [92, 93]);
    assert_eq!(
        seen(json!([
            [["day", "=", "1"], ["n", "=", 10]],
            [["day", "<", 3], ["n", "=", 23]]
        ])),
        [10, 23]
    );
    assert_eq!(
        pin(dir.path(), None, Some(json!([["day", "=", 7]])))
            .unwrap()
            .files
            .len(),
        0
    );
    let opened = pin(dir.path(), None, Some(json!([["n", "=", 1]]))).unwrap_err();
    assert!(opened.to_string().contains("day=9"), "{opened}");
    let text = pin(dir.path(), None, Some(json!([["day", "=", true]])))
        .unwrap_err()
        .to_string();
    assert!(text.contains("\"day\"") && text.contains("true"), "{text}");
}

#[test]
fn only_the_columns_that_are_named_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (batch, _) = typed();
    write(&dir.path().join("day=1/a.parquet"), &batch, 10, true);
    let snapshot = pin(
        dir.path(),
        Some(&["price", "day", "n"]),
        Some(json!([["i32", "=", 7]])),
    )
    .unwrap();
    let rows = FileRows::open(&snapshot, 0, 0..1, "job", &|_| true).unwrap();
    let names = |schema: &arrow_schema::Schema| -> Vec<String> {
        schema.fields().iter().map(|f| f.name().clone()).collect()
    };
    assert_eq!(names(&rows.schema()), ["n", "price", "day"]);
    assert_eq!(names(&snapshot.schema().unwrap()), ["n", "price"]);
    assert_eq!(
        rows.map(|batch| batch.unwrap().num_columns())
            .collect::<Vec<_>>(),
        [3]
    );

    let other = pin(dir.path(), Some(&["n"]), None).unwrap();
    assert_ne!(
        other.digest(),
        snapshot.digest(),
        "what is seen is part of the job"
    );
    for (columns, filter, key) in [
        (Some(&["nn"][..]), None, "source.columns"),
        (None, Some(json!([["nn", "=", 1]])), "source.filter"),
    ] {
        let text = pin(dir.path(), columns, filter).unwrap_err().to_string();
        for word in [key, "\"nn\"", "price", "day"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}

#[test]
fn text_that_is_none_is_compared_as_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = BinaryArray::from_iter_values([&b"a"[..], b"\xff", b"b", b"a"]);
    // Arrow's writer checks nothing: the file says text.
    let data = bytes.into_data_unchecked_text();
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..4));
    let batch = RecordBatch::try_from_iter([("n", n), ("text", make_array(data))]).unwrap();
    write(&dir.path().join("a.parquet"), &batch, 2, false);
    let seen = |filter: Value| numbers(&pin(dir.path(), None, Some(filter)).unwrap(), 10);
    assert_eq!(seen(json!([["text", "=", "a"]])), [0, 3]);
    assert_eq!(seen(json!([["text", "!=", "a"]])), [1, 2]);
}

/// Bytes as an array that is said to be text.
trait Unchecked {
    fn into_data_unchecked_text(self) -> arrow_data::ArrayData;
}

impl Unchecked for BinaryArray {
    fn into_data_unchecked_text(self) -> arrow_data::ArrayData {
        use arrow_array::Array;
        let builder = self.into_data().into_builder().data_type(DataType::Utf8);
        // SAFETY: what is made of it is written to a file and never looked at as text.
        unsafe { builder.build_unchecked() }
    }
}

#[test]
fn a_filter_that_is_none_is_refused_by_its_condition() {
    for (filter, word) in [
        (json!([]), "expected [[column, op, value], …]"),
        (json!({"x": 1}), "expected [[column, op, value], …]"),
        (
            json!([["x", "=", 1], [["x", "=", 1]]]),
            "expected [[column, op, value], …]",
        ),
        (json!([["x", "like", "a"]]), "not in, is null"),
        (json!([["x", "="]]), "expected a value"),
        (json!([["x", "=", null]]), "is null"),
        (json!([["x", "=", [1]]]), "is no value"),
        (json!([["x", "in", 1]]), "expected a list"),
        (json!([["x", "in", []]]), "expected a list"),
        (json!([["x", "is null", 1]]), "expected no value"),
        (json!([["x", "=", 1, 2]]), "expected [column, op, value]"),
    ] {
        let error = Filter::parse(&filter).unwrap_err();
        assert!(error.contains(word), "{filter}: {error}");
    }
}
