//! Every error there is, raised, and what it says.

use std::sync::Arc;

use arrow_array::{Array, Int32Array, ListArray, RecordBatch};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{
    DataType, Field, Fields, IntervalUnit, Schema, TimeUnit, UnionFields, UnionMode,
};
use kappaflow_avro::*;

fn field(ty: &str) -> String {
    format!(
        r#"{{"type": "record", "name": "ns.R", "fields": [{{"name": "f", "aliases": ["g"], "type": {ty}}}]}}"#
    )
}

fn avro(ty: &str) -> AvroSchema {
    AvroSchema::parse(&field(ty)).unwrap()
}

fn columns(columns: &[(&str, DataType)]) -> Schema {
    Schema::new(
        columns
            .iter()
            .map(|(n, t)| Field::new(*n, t.clone(), false))
            .collect::<Vec<_>>(),
    )
}

fn plan(table: &[(&str, DataType)], ty: &str) -> Result<CoercionPlan, PlanError> {
    CoercionPlan::new(&columns(table), &avro(ty), &PlanOptions::default())
}

fn declared(name: &str, from: Option<&str>, zone: Option<&str>) -> PlanOptions {
    let mut options = PlanOptions::default();
    let declaration = FieldDeclaration {
        from: from.map(str::to_owned),
        zone: zone.map(str::to_owned),
        ..FieldDeclaration::default()
    };
    options.fields.insert(name.to_owned(), declaration);
    options
}

const INSTANT: &str = r#"{"type": "long", "logicalType": "timestamp-millis"}"#;

#[test]
fn schemas() {
    let refused = |json: &str| AvroSchema::parse(json).unwrap_err();
    for bad in [
        "",
        "{",
        "\"nonsense\"",
        "{\"type\": \"record\"}",
        &field("[[\"int\"], \"null\"]"),
        &field("[\"int\", \"int\"]"),
    ] {
        assert!(matches!(refused(bad), SchemaError::Invalid(_)), "{bad}");
    }
    assert!(matches!(refused("\"int\""), SchemaError::NotARecord { found } if found == "int"));
    assert!(
        matches!(refused(&field("[\"null\", \"ns.R\"]")), SchemaError::Recursive { name } if name == "ns.R")
    );
    let uuid = r#"{"type": "bytes", "logicalType": "uuid"}"#;
    assert!(matches!(refused(&field(uuid)), SchemaError::Unsupported { path, .. } if path == "f"));
    let branches: Vec<_> = (0..65)
        .map(|i| format!(r#"{{"type": "fixed", "name": "F{i}", "size": 1}}"#))
        .collect();
    assert!(matches!(
        refused(&field(&format!("[{}]", branches.join(",")))),
        SchemaError::Unsupported { .. }
    ));
    let default = r#"{"type": "record", "name": "R", "fields": [{"name": "f", "type": "int", "default": 4000000000}]}"#;
    let error = refused(default);
    assert!(
        matches!(
            error,
            SchemaError::BadDefault { .. } | SchemaError::Invalid(_)
        ),
        "{error:?}"
    );
    let default = r#"{"type": "record", "name": "R", "fields": [{"name": "f", "type": {"type": "fixed", "name": "F", "size": 2}, "default": "a"}]}"#;
    let error = refused(default);
    assert!(
        matches!(
            error,
            SchemaError::BadDefault { .. } | SchemaError::Invalid(_)
        ),
        "{error:?}"
    );
    // Bytes are written as characters up to U+00FF.
    let default = r#"{"type": "record", "name": "R", "fields": [{"name": "f", "type": "bytes", "default": "\u0100"}]}"#;
    assert!(
        matches!(refused(default), SchemaError::BadDefault { path, expected, .. } if path == "f" && expected == "bytes")
    );

    // Each record holds the one before twice: 2^20 types from twenty lines.
    let mut ty =
        r#"{"type": "record", "name": "R0", "fields": [{"name": "x", "type": "int"}]}"#.to_owned();
    for i in 1..20 {
        ty = format!(
            r#"{{"type": "record", "name": "R{i}", "fields": [{{"name": "a", "type": {ty}}}, {{"name": "b", "type": "R{}"}}]}}"#,
            i - 1
        );
    }
    assert!(matches!(refused(&ty), SchemaError::TooLarge { .. }));
}

#[test]
fn a_schema_tells_of_itself() {
    let schema = avro("\"int\"");
    assert_eq!(schema.full_name(), "ns.R");
    assert_eq!(schema.json(), field("\"int\""));
    assert_eq!(
        schema.canonical(),
        r#"{"name":"ns.R","type":"record","fields":[{"name":"f","type":"int"}]}"#
    );
    assert_eq!(
        (schema.fields()[0].name.as_str(), &schema.fields()[0].ty),
        ("f", &AvroType::Int)
    );
}

#[test]
fn impossible_pairs() {
    let naive = DataType::Timestamp(TimeUnit::Millisecond, None);
    for (arrow, ty) in [
        (DataType::Int32, "\"string\""),
        (DataType::Boolean, "\"double\""),
        (DataType::Utf8, r#"{"type": "array", "items": "int"}"#),
        (DataType::Int64, INSTANT),
        (
            DataType::Float64,
            r#"{"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1}"#,
        ),
        (
            DataType::FixedSizeBinary(3),
            r#"{"type": "fixed", "name": "F", "size": 2}"#,
        ),
        (
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            r#"{"type": "long", "logicalType": "local-timestamp-millis"}"#,
        ),
        (naive, "\"long\""),
        (DataType::Date32, "\"int\""),
        (DataType::Int32, "[\"null\", \"string\"]"),
        (DataType::Struct(Fields::empty()), "\"int\""),
        (DataType::Duration(TimeUnit::Second), "\"string\""),
    ] {
        let error = plan(&[("f", arrow.clone())], ty).unwrap_err();
        assert!(matches!(error, PlanError::Impossible { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains(&arrow.to_string()) && text.contains("column f"),
            "{text}"
        );
    }
}

#[test]
fn unsupported_arrow_types() {
    let item = Arc::new(Field::new("item", DataType::Int32, true));
    for arrow in [
        DataType::Interval(IntervalUnit::DayTime),
        DataType::RunEndEncoded(
            Arc::new(Field::new("r", DataType::Int32, false)),
            item.clone(),
        ),
        DataType::ListView(item.clone()),
        DataType::LargeListView(item),
        DataType::Union(UnionFields::empty(), UnionMode::Sparse),
    ] {
        let error = plan(&[("f", arrow)], "[\"null\", \"int\"]").unwrap_err();
        assert!(matches!(error, PlanError::Unsupported { .. }), "{error:?}");
    }
}

#[test]
fn fields_and_columns() {
    let int = || DataType::Int32;
    assert!(plan(&[("f", int())], "\"int\"").is_ok());
    assert!(plan(&[("g", int())], "\"int\"").is_ok(), "by alias");
    assert!(plan(&[("F", int())], "\"int\"").is_ok(), "by another case");
    assert!(
        matches!(plan(&[("x", int())], "\"int\""), Err(PlanError::MissingColumn { field, columns }) if field == "f" && columns == "x")
    );
    assert!(
        matches!(plan(&[("f", int()), ("x", int())], "\"int\""), Err(PlanError::ExtraColumns { columns, .. }) if columns == "x")
    );
    let two = [("f", int()), ("f", int())];
    assert!(matches!(
        plan(&two, "\"int\""),
        Err(PlanError::Ambiguous { .. })
    ));
    // The name wins over alias and case; two of another case are one too many.
    let rows = CoercionPlan::new(
        &columns(&[("F", int()), ("g", int()), ("f", int())]),
        &avro("\"int\""),
        &PlanOptions {
            extra: Extra::Ignore,
            ..PlanOptions::default()
        },
    )
    .unwrap()
    .describe();
    assert_eq!(
        (rows.len(), rows[0].column.as_deref(), rows[0].rule),
        (1, Some("f"), Certainty::Exact)
    );
    let upper = r#"{"type": "record", "name": "R", "fields": [{"name": "Id", "type": "int"}]}"#;
    let cases = columns(&[("ID", int()), ("id", int())]);
    let error = CoercionPlan::new(
        &cases,
        &AvroSchema::parse(upper).unwrap(),
        &PlanOptions::default(),
    )
    .unwrap_err();
    assert!(matches!(error, PlanError::Ambiguous { .. }));
    // Two fields that differ in case don't share a column.
    let both = r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "A", "type": "int"}]}"#;
    let one = columns(&[("a", int())]);
    let error = CoercionPlan::new(
        &one,
        &AvroSchema::parse(both).unwrap(),
        &PlanOptions::default(),
    )
    .unwrap_err();
    assert!(matches!(error, PlanError::MissingColumn { field, .. } if field == "A"));
}

#[test]
fn declarations() {
    let (avro_int, instant) = (avro("\"int\""), avro(INSTANT));
    let x = columns(&[("x", DataType::Int32)]);
    assert!(CoercionPlan::new(&x, &avro_int, &declared("f", Some("x"), None)).is_ok());
    let refused = |table: &Schema, schema: &AvroSchema, options: PlanOptions| {
        CoercionPlan::new(table, schema, &options).unwrap_err()
    };
    assert!(matches!(
        refused(&x, &avro_int, declared("f", Some("y"), None)),
        PlanError::UnknownColumn { .. }
    ));
    let f = columns(&[("f", DataType::Int32)]);
    assert!(matches!(
        refused(&f, &avro_int, declared("nope", None, None)),
        PlanError::UnknownField { .. }
    ));
    assert!(matches!(
        refused(&f, &avro_int, declared("f", None, Some("UTC"))),
        PlanError::Useless { .. }
    ));
    let naive = columns(&[("f", DataType::Timestamp(TimeUnit::Nanosecond, None))]);
    assert!(matches!(
        refused(&naive, &instant, PlanOptions::default()),
        PlanError::ZoneNeeded { .. }
    ));
    assert!(matches!(
        refused(&naive, &instant, declared("f", None, Some("Mars/Olympus"))),
        PlanError::BadZone { .. }
    ));
    let nullable = avro(&format!("[\"null\", {INSTANT}]"));
    let rows = CoercionPlan::new(&naive, &nullable, &declared("f", None, Some("UTC")))
        .unwrap()
        .describe();
    assert_eq!(
        (rows[0].rule, rows[0].may_reject.clone()),
        (Certainty::Checked, vec!["would lose precision".to_owned()])
    );
    assert_eq!(rows[0].avro_type, "[null, timestamp-millis]");
}

#[test]
fn batches() {
    let schema = Arc::new(columns(&[("f", DataType::Int32)]));
    let plan = CoercionPlan::new(&schema, &avro("\"int\""), &PlanOptions::default()).unwrap();
    let mut encoder = Encoder::new(plan, 1);
    let good = RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(vec![1]))]).unwrap();
    assert_eq!(encoder.encode(&good).unwrap().buffer, [0, 0, 0, 0, 1, 2]);
    let other = columns(&[("x", DataType::Int32)]);
    let other = RecordBatch::try_new(Arc::new(other), good.columns().to_vec()).unwrap();
    let empty = RecordBatch::new_empty(Arc::new(Schema::empty()));
    for batch in [other, empty] {
        assert!(matches!(
            encoder.encode(&batch),
            Err(EncodeError::SchemaChanged(_))
        ));
    }
    let options =
        arrow_array::RecordBatchOptions::new().with_row_count(Some(u32::MAX as usize + 1));
    let none = Arc::new(Schema::empty());
    let many = RecordBatch::try_new_with_options(Arc::clone(&none), vec![], &options).unwrap();
    let nothing = AvroSchema::parse(r#"{"type": "record", "name": "R", "fields": []}"#).unwrap();
    let mut encoder = Encoder::new(
        CoercionPlan::new(&none, &nothing, &PlanOptions::default()).unwrap(),
        1,
    );
    assert!(matches!(
        encoder.encode(&many),
        Err(EncodeError::TooManyRows { .. })
    ));
}

#[test]
fn malformed_arrays() {
    let backwards = (vec![1, 0, 1], "list offsets go backwards");
    let negative = (vec![-1, 0, 1], "a list offset below 0");
    for (offsets, expected) in [backwards, negative] {
        let item = Arc::new(Field::new("item", DataType::Int32, false));
        // SAFETY: none is needed: that the offsets are none is what the gate must find.
        let offsets = unsafe { OffsetBuffer::new_unchecked(offsets.into()) };
        let list = ListArray::new(item, offsets, Arc::new(Int32Array::from(vec![1])), None);
        let schema = columns(&[("f", list.data_type().clone())]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(list)]).unwrap();
        let ty = avro(r#"{"type": "array", "items": "int"}"#);
        let plan = CoercionPlan::new(batch.schema_ref(), &ty, &PlanOptions::default()).unwrap();
        let error = Encoder::new(plan, 1).encode(&batch).unwrap_err();
        assert!(
            matches!(&error, EncodeError::Malformed { column, reason } if column == "f" && reason == expected),
            "{error}"
        );
    }
}

#[test]
fn options_are_read_from_a_job_file() {
    let options: PlanOptions = serde_json::from_str(
        r#"{"extra": "ignore", "fields": {"f": {"from": "x", "zone": "UTC"}}}"#,
    )
    .unwrap();
    assert_eq!(options.extra, Extra::Ignore);
    assert_eq!(options.fields["f"].from.as_deref(), Some("x"));
    assert!(serde_json::from_str::<PlanOptions>(r#"{"extras": "ignore"}"#).is_err());
}
