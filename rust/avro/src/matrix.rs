//! The coercion matrix, asked of the rules: what becomes of every pair of types. Docs and tests are made of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use arrow_schema::{
    DataType as A, Field, Fields, IntervalUnit, Schema, TimeUnit, UnionFields, UnionMode,
};

use crate::error::PlanError;
use crate::plan::{Certainty, CoercionPlan, FieldDeclaration, Lossy, PlanOptions, Unit};
use crate::schema::AvroSchema;

/// What the rules say of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// There is a rule.
    Rule {
        /// Exact or checked.
        certainty: Certainty,
        /// What may be rejected.
        may_reject: Vec<String>,
        /// The declaration without which there is no rule.
        needs: Option<&'static str>,
    },
    /// No value of the one type can be the other, and what to do.
    Impossible(String),
}

/// Names of Arrow types, as the matrix has them, and the types.
#[must_use]
pub fn arrow_types() -> Vec<(&'static str, A)> {
    let child = |name: &str, ty| Field::new(name, ty, false);
    let item = |ty| Arc::new(child("item", ty));
    let entries = Fields::from(vec![child("keys", A::Utf8), child("values", A::Int32)]);
    let parts = ["months", "days", "millis"].map(|part| child(part, A::UInt32));
    let members = [("member0", A::Int32), ("member1", A::Utf8)];
    let members = members.map(|(name, ty)| Field::new(name, ty, true));
    let dictionary = A::Dictionary(Box::new(A::Int32), Box::new(A::Utf8));
    let naive = |unit| A::Timestamp(unit, None);
    let instant = |unit| A::Timestamp(unit, Some("UTC".into()));
    let (s, ms) = (TimeUnit::Second, TimeUnit::Millisecond);
    let (us, ns) = (TimeUnit::Microsecond, TimeUnit::Nanosecond);
    let runs = Arc::new(child("run_ends", A::Int32));
    vec![
        ("Null", A::Null),
        ("Boolean", A::Boolean),
        ("Int8", A::Int8),
        ("Int16", A::Int16),
        ("Int32", A::Int32),
        ("Int64", A::Int64),
        ("UInt8", A::UInt8),
        ("UInt16", A::UInt16),
        ("UInt32", A::UInt32),
        ("UInt64", A::UInt64),
        ("Float16", A::Float16),
        ("Float32", A::Float32),
        ("Float64", A::Float64),
        ("Decimal32(9, 2)", A::Decimal32(9, 2)),
        ("Decimal64(18, 3)", A::Decimal64(18, 3)),
        ("Decimal128(38, 4)", A::Decimal128(38, 4)),
        ("Decimal256(76, 0)", A::Decimal256(76, 0)),
        ("Utf8", A::Utf8),
        ("LargeUtf8", A::LargeUtf8),
        ("Utf8View", A::Utf8View),
        ("Dictionary of Utf8", dictionary),
        ("Binary", A::Binary),
        ("LargeBinary", A::LargeBinary),
        ("BinaryView", A::BinaryView),
        ("FixedSizeBinary(3)", A::FixedSizeBinary(3)),
        ("FixedSizeBinary(12)", A::FixedSizeBinary(12)),
        ("FixedSizeBinary(16)", A::FixedSizeBinary(16)),
        ("Date32", A::Date32),
        ("Date64", A::Date64),
        ("Time32(s)", A::Time32(s)),
        ("Time32(ms)", A::Time32(ms)),
        ("Time64(us)", A::Time64(us)),
        ("Time64(ns)", A::Time64(ns)),
        ("Timestamp(s)", naive(s)),
        ("Timestamp(ms)", naive(ms)),
        ("Timestamp(us)", naive(us)),
        ("Timestamp(ns)", naive(ns)),
        ("Timestamp(s, zone)", instant(s)),
        ("Timestamp(ms, zone)", instant(ms)),
        ("Timestamp(us, zone)", instant(us)),
        ("Timestamp(ns, zone)", instant(ns)),
        ("Duration(s)", A::Duration(s)),
        ("Duration(ms)", A::Duration(ms)),
        ("Duration(us)", A::Duration(us)),
        ("Duration(ns)", A::Duration(ns)),
        ("List", A::List(item(A::Int32))),
        ("LargeList", A::LargeList(item(A::Int32))),
        ("FixedSizeList", A::FixedSizeList(item(A::Int32), 2)),
        (
            "Map",
            A::Map(Arc::new(child("entries", A::Struct(entries))), false),
        ),
        ("Struct", A::Struct(vec![child("a", A::Int32)].into())),
        (
            "Struct of months, days, millis",
            A::Struct(parts.into_iter().collect()),
        ),
        (
            "Struct of member0, member1",
            A::Struct(members.into_iter().collect()),
        ),
        ("Interval", A::Interval(IntervalUnit::MonthDayNano)),
        ("RunEndEncoded", A::RunEndEncoded(runs, item(A::Int32))),
        ("ListView", A::ListView(item(A::Int32))),
        ("LargeListView", A::LargeListView(item(A::Int32))),
        ("Union", A::Union(UnionFields::empty(), UnionMode::Sparse)),
    ]
}

/// Avro types by families, a table of the docs each: names, as the matrix has them, and the types in JSON.
#[must_use]
pub fn avro_families() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    vec![
        (
            "Numbers",
            vec![
                ("boolean", r#""boolean""#),
                ("int", r#""int""#),
                ("long", r#""long""#),
                ("float", r#""float""#),
                ("double", r#""double""#),
                (
                    "decimal(10, 2)",
                    r#"{"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}"#,
                ),
                (
                    "decimal(10, 2) over fixed(5)",
                    r#"{"type": "fixed", "name": "D", "size": 5, "logicalType": "decimal", "precision": 10, "scale": 2}"#,
                ),
            ],
        ),
        (
            "Text and bytes",
            vec![
                ("string", r#""string""#),
                ("bytes", r#""bytes""#),
                ("fixed(3)", r#"{"type": "fixed", "name": "F", "size": 3}"#),
                (
                    "enum",
                    r#"{"type": "enum", "name": "E", "symbols": ["A", "B"]}"#,
                ),
                ("uuid", r#"{"type": "string", "logicalType": "uuid"}"#),
                (
                    "uuid over fixed(16)",
                    r#"{"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}"#,
                ),
            ],
        ),
        (
            "Dates and times",
            vec![
                ("date", r#"{"type": "int", "logicalType": "date"}"#),
                (
                    "time-millis",
                    r#"{"type": "int", "logicalType": "time-millis"}"#,
                ),
                (
                    "time-micros",
                    r#"{"type": "long", "logicalType": "time-micros"}"#,
                ),
                (
                    "duration",
                    r#"{"type": "fixed", "name": "P", "size": 12, "logicalType": "duration"}"#,
                ),
            ],
        ),
        (
            "Instants",
            vec![
                (
                    "timestamp-millis",
                    r#"{"type": "long", "logicalType": "timestamp-millis"}"#,
                ),
                (
                    "timestamp-micros",
                    r#"{"type": "long", "logicalType": "timestamp-micros"}"#,
                ),
                (
                    "timestamp-nanos",
                    r#"{"type": "long", "logicalType": "timestamp-nanos"}"#,
                ),
            ],
        ),
        (
            "Local timestamps",
            vec![
                (
                    "local-timestamp-millis",
                    r#"{"type": "long", "logicalType": "local-timestamp-millis"}"#,
                ),
                (
                    "local-timestamp-micros",
                    r#"{"type": "long", "logicalType": "local-timestamp-micros"}"#,
                ),
                (
                    "local-timestamp-nanos",
                    r#"{"type": "long", "logicalType": "local-timestamp-nanos"}"#,
                ),
            ],
        ),
        (
            "Nested types, and null",
            vec![
                ("array<int>", r#"{"type": "array", "items": "int"}"#),
                ("map<int>", r#"{"type": "map", "values": "int"}"#),
                (
                    "record",
                    r#"{"type": "record", "name": "S", "fields": [{"name": "a", "type": "int"}]}"#,
                ),
                ("[int, string]", r#"["int", "string"]"#),
                ("null", r#""null""#),
            ],
        ),
    ]
}

/// What the plan says of a column of the one type and a field of the other, neither of which holds nulls.
///
/// # Errors
/// Only if the Avro type is none.
pub fn cell(arrow: &A, avro: &str) -> Result<Cell, crate::SchemaError> {
    let schema = AvroSchema::parse(&format!(
        r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": {avro}}}]}}"#
    ))?;
    let table = Schema::new(vec![Field::new("f", arrow.clone(), false)]);
    let declarations = [
        (None, FieldDeclaration::default()),
        (
            Some("zone"),
            FieldDeclaration {
                zone: Some("Europe/Berlin".to_owned()),
                ..FieldDeclaration::default()
            },
        ),
        (
            Some("unit"),
            FieldDeclaration {
                unit: Some(Unit::Ms),
                ..FieldDeclaration::default()
            },
        ),
        (
            Some("lossy"),
            FieldDeclaration {
                lossy: Some(Lossy::Round),
                ..FieldDeclaration::default()
            },
        ),
    ];
    let mut way_out = None;
    for (needs, said) in declarations {
        let options = PlanOptions {
            fields: BTreeMap::from([("f".to_owned(), said)]),
            ..PlanOptions::default()
        };
        match CoercionPlan::new(&table, &schema, &options) {
            Ok(plan) => {
                let rows = plan.describe();
                let may_reject: Vec<_> = rows.iter().flat_map(|r| r.may_reject.clone()).collect();
                return Ok(Cell::Rule {
                    certainty: match may_reject.is_empty() {
                        true => Certainty::Exact,
                        false => Certainty::Checked,
                    },
                    may_reject,
                    needs,
                });
            }
            Err(PlanError::Impossible { way_out: said, .. }) => {
                way_out.get_or_insert(said);
            }
            Err(PlanError::Unsupported { way_out: said, .. }) => {
                way_out.get_or_insert(said.to_owned());
            }
            Err(error) => {
                way_out.get_or_insert(error.to_string());
            }
        }
    }
    Ok(Cell::Impossible(way_out.unwrap_or_default()))
}

/// The matrix as Markdown: a table a family, then what may be rejected, and what to do about what is impossible.
///
/// # Errors
/// None, as long as the Avro types above are.
pub fn markdown() -> Result<String, crate::SchemaError> {
    let mut out = String::new();
    let mut reasons: BTreeMap<(usize, &str, String), Vec<&str>> = BTreeMap::new();
    let mut ways_out: BTreeMap<String, Vec<(&str, &str)>> = BTreeMap::new();
    let (arrow_types, families) = (arrow_types(), avro_families());
    let mut order = 0;
    for (family, avro_types) in &families {
        let names = avro_types.iter().map(|(name, _)| *name);
        let _ = write!(
            out,
            "### {family}\n\n| Arrow | {} |\n|---|{}\n",
            names.collect::<Vec<_>>().join(" | "),
            "---|".repeat(avro_types.len())
        );
        // Arrow types of which the rules say the same share a line.
        let mut lines: Vec<(Vec<&str>, String)> = Vec::new();
        for (arrow_name, arrow) in &arrow_types {
            let mut line = String::new();
            for (i, (avro_name, avro)) in avro_types.iter().enumerate() {
                let shown = match cell(arrow, avro)? {
                    Cell::Rule {
                        certainty,
                        may_reject,
                        needs,
                    } => {
                        if certainty == Certainty::Checked {
                            let key = (order + i, *avro_name, may_reject.join("; "));
                            reasons.entry(key).or_default().push(arrow_name);
                        }
                        let certainty = match certainty {
                            Certainty::Checked => "checked",
                            _ => "exact",
                        };
                        match needs {
                            Some(key) => format!("{certainty}, `{key}`"),
                            None => certainty.to_owned(),
                        }
                    }
                    Cell::Impossible(way_out) => {
                        let pairs = ways_out.entry(way_out).or_default();
                        pairs.push((arrow_name, avro_name));
                        "–".to_owned()
                    }
                };
                let _ = write!(line, " {shown} |");
            }
            if line.chars().all(|c| matches!(c, ' ' | '–' | '|')) {
                continue;
            }
            match lines.iter_mut().find(|(_, same)| *same == line) {
                Some((names, _)) => names.push(arrow_name),
                None => lines.push((vec![arrow_name], line)),
            }
        }
        for (names, line) in lines {
            let _ = writeln!(out, "| {} |{line}", names.join(", "));
        }
        order += avro_types.len();
        out.push('\n');
    }
    out.push_str(
        "## What checked rules reject\n\n| Avro | Arrow | a value that is |\n|---|---|---|\n",
    );
    for ((_, avro, reason), arrow) in &reasons {
        let _ = writeln!(out, "| {avro} | {} | {reason} |", arrow.join(", "));
    }
    out.push_str(
        "\n## Ways out of what is impossible\n\n| the plan says | of pairs such as |\n|---|---|\n",
    );
    for (way_out, pairs) in &ways_out {
        let shown: Vec<_> = pairs
            .iter()
            .take(3)
            .map(|(arrow, avro)| format!("{arrow} → {avro}"))
            .collect();
        let _ = writeln!(out, "| {way_out} | {} |", shown.join(", "));
    }
    Ok(out)
}
