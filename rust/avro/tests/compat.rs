//! The compatibility relation: by hand, case by case of the specification, and against apache-avro on random schemas.

mod common;

use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use common::{Shape, schema};
use kappaflow_avro::AvroSchema;
use kappaflow_avro::compat::IncompatibilityKind::{self, *};
use kappaflow_avro::compat::{GeneralSchema, Incompatibility, check, check_general};
use proptest::collection::vec;
use proptest::prelude::*;

/// What keeps `reader` from reading `writer`.
fn found(reader: &str, writer: &str) -> Vec<Incompatibility> {
    let parse = |json| GeneralSchema::parse(json, &[]).unwrap();
    check_general(&parse(reader), &parse(writer))
}

fn kinds(reader: &str, writer: &str) -> Vec<(String, IncompatibilityKind)> {
    found(reader, writer)
        .into_iter()
        .map(|i| (i.path, i.kind))
        .collect()
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"ns.R","fields":[{fields}]}}"#)
}

const PLAIN: [&str; 8] = [
    "null", "boolean", "int", "long", "float", "double", "bytes", "string",
];

#[test]
fn plain_types_fit_themselves_and_what_they_are_promoted_to() {
    let promoted = |reader: &str, writer: &str| {
        matches!(
            (writer, reader),
            ("int", "long" | "float" | "double")
                | ("long", "float" | "double")
                | ("float", "double")
                | ("bytes", "string")
                | ("string", "bytes")
        )
    };
    for reader in PLAIN {
        for writer in PLAIN {
            let fits = reader == writer || promoted(reader, writer);
            let (r, w) = (format!("\"{reader}\""), format!("\"{writer}\""));
            let expected = if fits {
                vec![]
            } else {
                vec![(String::new(), TypeMismatch)]
            };
            assert_eq!(kinds(&r, &w), expected, "{reader} reads {writer}");
            // Inside arrays, maps and fields it is the same, and the path says where.
            let inside = [
                (
                    format!(r#"{{"type":"array","items":{r}}}"#),
                    format!(r#"{{"type":"array","items":{w}}}"#),
                    "[]",
                ),
                (
                    format!(r#"{{"type":"map","values":{r}}}"#),
                    format!(r#"{{"type":"map","values":{w}}}"#),
                    "{}",
                ),
                (
                    record(&format!(r#"{{"name":"f","type":{r}}}"#)),
                    record(&format!(r#"{{"name":"f","type":{w}}}"#)),
                    "f",
                ),
            ];
            for (r, w, path) in inside {
                let expected = if fits {
                    vec![]
                } else {
                    vec![(path.to_owned(), TypeMismatch)]
                };
                assert_eq!(kinds(&r, &w), expected, "{r} reads {w}");
            }
        }
    }
    assert_eq!(
        kinds(
            r#"{"type":"array","items":"int"}"#,
            r#"{"type":"map","values":"int"}"#
        )[0]
        .1,
        TypeMismatch
    );
}

#[test]
fn names_match_unqualified_or_by_alias() {
    for body in [
        r#""type":"fixed","size":4"#,
        r#""type":"enum","symbols":["A"]"#,
        r#""type":"record","fields":[]"#,
    ] {
        let named = |name: &str, more: &str| format!(r#"{{{body},"name":"{name}"{more}}}"#);
        assert_eq!(found(&named("a.X", ""), &named("a.X", "")), []);
        assert_eq!(found(&named("b.X", ""), &named("a.X", "")), []);
        assert_eq!(
            kinds(&named("a.Y", ""), &named("a.X", "")),
            [(String::new(), NameMismatch)]
        );
        assert_eq!(
            found(&named("a.Y", r#","aliases":["a.X"]"#), &named("a.X", "")),
            []
        );
        // An alias without a namespace is in its type's own.
        assert_eq!(
            found(&named("a.Y", r#","aliases":["X"]"#), &named("a.X", "")),
            []
        );
        assert_eq!(
            kinds(&named("b.Y", r#","aliases":["X"]"#), &named("a.X", "")),
            [(String::new(), NameMismatch)]
        );
        // It is the reader's aliases that count.
        assert_eq!(
            kinds(&named("a.X", ""), &named("a.Y", r#","aliases":["a.X"]"#)),
            [(String::new(), NameMismatch)]
        );
    }
    let fixed = |size| format!(r#"{{"type":"fixed","name":"F","size":{size}}}"#);
    assert_eq!(kinds(&fixed(4), &fixed(5)), [(String::new(), FixedSize)]);
}

#[test]
fn fields_by_name_then_alias_then_default() {
    let writer = record(r#"{"name":"a","type":"int"},{"name":"b","type":"string"}"#);
    // Order doesn't count, what only the writer has is skipped, what only the reader has needs a default.
    assert_eq!(
        found(
            &record(r#"{"name":"b","type":"string"},{"name":"a","type":"long"}"#),
            &writer
        ),
        []
    );
    assert_eq!(
        found(&record(r#"{"name":"b","type":"string"}"#), &writer),
        []
    );
    assert_eq!(
        found(&record(r#"{"name":"n","type":"int","default":0}"#), &writer),
        []
    );
    assert_eq!(
        found(
            &record(r#"{"name":"n","type":["null","int"],"default":null}"#),
            &writer
        ),
        []
    );
    let missing = found(
        &record(r#"{"name":"n","type":["null","int"]},{"name":"a","type":"string"}"#),
        &writer,
    );
    let named: Vec<_> = missing.iter().map(|i| (i.path.as_str(), i.kind)).collect();
    assert_eq!(named, [("n", MissingDefault), ("a", TypeMismatch)]);
    assert!(
        missing[0]
            .to_string()
            .starts_with("n: the writer's record ns.R has no such field"),
        "{}",
        missing[0]
    );
    // An alias; but the field's own name goes first.
    assert_eq!(
        found(
            &record(r#"{"name":"z","aliases":["a"],"type":"int"}"#),
            &writer
        ),
        []
    );
    assert_eq!(
        kinds(
            &record(r#"{"name":"b","aliases":["a"],"type":"int"}"#),
            &writer
        ),
        [("b".to_owned(), TypeMismatch)]
    );
    // Of several aliases the first that the writer has.
    assert_eq!(
        found(
            &record(r#"{"name":"z","aliases":["y","b","a"],"type":"string"}"#),
            &writer
        ),
        []
    );
    // Deep paths.
    let deep = |ty: &str| {
        record(&format!(
            r#"{{"name":"o","type":["null",{{"type":"array","items":{{"type":"record","name":"I","fields":[{{"name":"f","type":"{ty}"}}]}}}}]}}"#
        ))
    };
    let why = found(&deep("int"), &deep("long"));
    assert_eq!(
        (why[0].path.as_str(), why[0].kind),
        ("o", UnionBranchMissing)
    );
    assert!(
        why[0]
            .reason
            .contains("o[].f: the writer's long can't be read as int"),
        "{}",
        why[0]
    );
}

#[test]
fn enums() {
    let e = |symbols: &str, more: &str| {
        format!(r#"{{"type":"enum","name":"E","symbols":[{symbols}]{more}}}"#)
    };
    assert_eq!(found(&e(r#""B","A""#, ""), &e(r#""A""#, "")), []);
    let missing = found(&e(r#""A""#, ""), &e(r#""A","B","C""#, ""));
    assert_eq!(missing[0].kind, EnumSymbolMissing);
    assert!(missing[0].reason.contains("B, C"), "{}", missing[0]);
    assert_eq!(
        found(&e(r#""A""#, r#","default":"A""#), &e(r#""B""#, "")),
        []
    );
    // The writer's default is of no use.
    assert_eq!(
        kinds(&e(r#""A""#, ""), &e(r#""B""#, r#","default":"B""#))[0].1,
        EnumSymbolMissing
    );
}

#[test]
fn unions_on_either_side() {
    assert_eq!(found(r#"["null","int"]"#, r#""int""#), []);
    assert_eq!(found(r#"["null","long"]"#, r#"["int","null"]"#), []);
    assert_eq!(found(r#""double""#, r#"["int","long","float"]"#), []);
    assert_eq!(
        kinds(r#""int""#, r#"["null","int"]"#),
        [(String::new(), TypeMismatch)]
    );
    assert_eq!(
        kinds(r#"["null","int"]"#, r#""string""#),
        [(String::new(), UnionBranchMissing)]
    );
    let several = kinds(r#"["null","int"]"#, r#"["string","null","boolean"]"#);
    assert_eq!(
        several,
        [
            (String::new(), UnionBranchMissing),
            (String::new(), UnionBranchMissing)
        ]
    );
    assert_eq!(found("[]", "[]"), []);
    assert_eq!(
        kinds("[]", "\"int\""),
        [(String::new(), UnionBranchMissing)]
    );
    // Of two records that bear the name, one that fits is taken.
    let a = r#"{"type":"record","name":"a.X","fields":[{"name":"f","type":"int"}]}"#;
    let b = r#"{"type":"record","name":"b.X","fields":[{"name":"f","type":"string"}]}"#;
    let c = r#"{"type":"record","name":"c.X","fields":[{"name":"f","type":"string"}]}"#;
    assert_eq!(found(&format!("[{a},{b}]"), c), []);
    assert_eq!(
        kinds(&format!("[{a}]"), c),
        [(String::new(), UnionBranchMissing)]
    );
}

#[test]
fn logical_types_are_their_underlying_type_but_decimals() {
    let logical = |ty: &str, name: &str| format!(r#"{{"type":"{ty}","logicalType":"{name}"}}"#);
    assert_eq!(found("\"long\"", &logical("int", "date")), []);
    assert_eq!(
        found(
            &logical("long", "timestamp-micros"),
            &logical("long", "timestamp-millis")
        ),
        []
    );
    assert_eq!(found(&logical("string", "uuid"), "\"bytes\""), []);
    assert_eq!(
        kinds(
            &logical("int", "date"),
            &logical("long", "timestamp-millis")
        )[0]
        .1,
        TypeMismatch
    );
    let decimal = |p: u8, s: u8| {
        format!(r#"{{"type":"bytes","logicalType":"decimal","precision":{p},"scale":{s}}}"#)
    };
    let fixed = |p: u8, name: &str| {
        format!(
            r#"{{"type":"fixed","name":"{name}","size":8,"logicalType":"decimal","precision":{p}}}"#
        )
    };
    assert_eq!(found(&decimal(5, 2), &decimal(5, 2)), []);
    assert_eq!(
        kinds(&decimal(6, 2), &decimal(5, 2)),
        [(String::new(), DecimalMismatch)]
    );
    assert_eq!(
        kinds(&decimal(5, 1), &decimal(5, 2)),
        [(String::new(), DecimalMismatch)]
    );
    assert_eq!(
        kinds(&fixed(6, "F"), &fixed(5, "F")),
        [(String::new(), DecimalMismatch)]
    );
    assert_eq!(found(&decimal(5, 2), "\"bytes\""), []);
    assert_eq!(found("\"bytes\"", &decimal(5, 2)), []);
    // Over bytes and over fixed are two types on the wire.
    assert_eq!(
        kinds(&decimal(5, 0), &fixed(5, "F")),
        [(String::new(), TypeMismatch)]
    );
    assert_eq!(
        kinds(&fixed(5, "F"), &fixed(5, "G")),
        [(String::new(), NameMismatch)]
    );
    let uuid = r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#;
    assert_eq!(found(uuid, r#"{"type":"fixed","name":"U","size":16}"#), []);
    assert_eq!(
        kinds(uuid, r#"{"type":"string","logicalType":"uuid"}"#),
        [(String::new(), TypeMismatch)]
    );
}

#[test]
fn schemas_that_contain_themselves() {
    let list = |ty: &str, more: &str| {
        format!(
            r#"{{"type":"record","name":"L","fields":[{{"name":"head","type":"{ty}"}},{{"name":"tail","type":["null","L"]}}{more}]}}"#
        )
    };
    assert_eq!(found(&list("long", ""), &list("int", "")), []);
    assert_eq!(
        kinds(&list("int", ""), &list("long", "")),
        [("head".to_owned(), TypeMismatch)]
    );
    assert_eq!(
        kinds(
            &list("int", r#",{"name":"n","type":"int"}"#),
            &list("int", "")
        ),
        [("n".to_owned(), MissingDefault)]
    );
    // B fits only as long as A does. A is tried first within a union, and fails; B must then be looked at again.
    let cyclic = |x: &str| {
        format!(
            r#"{{"type":"record","name":"Top","fields":[
            {{"name":"u","type":["null",{{"type":"record","name":"A","fields":[
                {{"name":"b","type":{{"type":"record","name":"B","fields":[{{"name":"a","type":["null","A"]}}]}}}},
                {{"name":"x","type":"{x}"}}]}}]}},
            {{"name":"b","type":"B"}}]}}"#
        )
    };
    let why = kinds(&cyclic("int"), &cyclic("long"));
    assert_eq!(
        why,
        [
            ("u".to_owned(), UnionBranchMissing),
            ("b.a".to_owned(), UnionBranchMissing)
        ]
    );
}

#[test]
fn schemas_that_refer_to_others() {
    let item = |ty: &str| {
        format!(r#"{{"type":"record","name":"ns.Item","fields":[{{"name":"v","type":"{ty}"}}]}}"#)
    };
    let order =
        r#"{"type":"record","name":"ns.Order","fields":[{"name":"item","type":"ns.Item"}]}"#;
    let parse = |ty: &str| GeneralSchema::parse(order, &[&item(ty)]).unwrap();
    assert_eq!(check_general(&parse("long"), &parse("int")), []);
    let why = check_general(&parse("int"), &parse("long"));
    assert_eq!(
        (why[0].path.as_str(), why[0].kind),
        ("item.v", TypeMismatch)
    );
    assert!(GeneralSchema::parse(order, &[]).is_err());
    assert_eq!(
        GeneralSchema::parse("\"int\"", &[]).unwrap().canonical(),
        "\"int\""
    );
}

#[test]
fn no_schema_exhausts_the_stack_or_the_list() {
    // Each record holds the one before it: no JSON nests deeply, and yet the types do.
    let top = |i: usize| {
        format!(r#"{{"type":"record","name":"Top","fields":[{{"name":"t","type":"R{i}"}}]}}"#)
    };
    let parts: Vec<String> = (0..=300)
        .map(|i| match i {
            0 => r#"{"type":"record","name":"R0","fields":[]}"#.to_owned(),
            i => format!(
                r#"{{"type":"record","name":"R{i}","fields":[{{"name":"f","type":"R{}"}}]}}"#,
                i - 1
            ),
        })
        .collect();
    let references: Vec<&str> = parts.iter().map(String::as_str).collect();
    let deep = GeneralSchema::parse(&top(300), &references).unwrap();
    let why = check_general(&deep, &deep);
    assert_eq!(why.iter().map(|i| i.kind).collect::<Vec<_>>(), [TooDeep]);
    let shallow = GeneralSchema::parse(&top(200), &references[..201]).unwrap();
    assert_eq!(check_general(&shallow, &shallow), []);
    // At most a hundred reasons.
    let many = |ty: &str| {
        record(
            &(0..500)
                .map(|i| format!(r#"{{"name":"f{i}","type":"{ty}"}}"#))
                .collect::<Vec<_>>()
                .join(","),
        )
    };
    assert_eq!(found(&many("int"), &many("string")).len(), 100);
}

/// A shape like another, changed in a place or not.
fn variant(shape: Shape) -> BoxedStrategy<Shape> {
    match shape {
        Shape::Array(items) => variant(*items)
            .prop_map(|s| Shape::Array(Box::new(s)))
            .boxed(),
        Shape::Map(values) => variant(*values)
            .prop_map(|s| Shape::Map(Box::new(s)))
            .boxed(),
        Shape::Nullable(inner, first) => (variant(*inner), any::<bool>(), 0..4_u8)
            .prop_map(move |(s, f, keep)| match (keep, s) {
                (0, s) => s,
                (1, s) if !matches!(s, Shape::Nullable(..) | Shape::Plain("null")) => {
                    Shape::Nullable(Box::new(s), f)
                }
                (_, s) if !matches!(s, Shape::Nullable(..) | Shape::Plain("null")) => {
                    Shape::Nullable(Box::new(s), first)
                }
                (_, s) => s,
            })
            .boxed(),
        Shape::Record(fields) => (fields.into_iter().map(variant).collect::<Vec<_>>(), 0..3_u8)
            .prop_map(|(mut fields, cut)| {
                if cut == 0 {
                    fields.pop();
                }
                Shape::Record(fields)
            })
            .boxed(),
        Shape::Enum(n) => (1..=n.max(1) + 1).prop_map(Shape::Enum).boxed(),
        leaf => prop_oneof![3 => Just(leaf), 1 => common::shape()].boxed(),
    }
}

fn pairs() -> impl Strategy<Value = (Vec<Shape>, Vec<Shape>)> {
    vec(common::shape(), 0..4).prop_flat_map(|fields| {
        let other: Vec<_> = fields.iter().cloned().map(variant).collect();
        (Just(fields), other)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn apache_avro_agrees((reader, writer) in pairs()) {
        let (reader, writer) = (schema(&reader), schema(&writer));
        let parse = |json: &str| apache_avro::Schema::parse_str(json).unwrap();
        let ours = check(&AvroSchema::parse(&reader).unwrap(), &AvroSchema::parse(&writer).unwrap());
        let theirs = SchemaCompatibility::can_read(&parse(&writer), &parse(&reader));
        // It takes a decimal over fixed for one over bytes, which have not the same bytes on the wire.
        let lenient = ours.iter().any(|i| i.reason.contains("fixed") && i.reason.contains("bytes"));
        prop_assert!(lenient || ours.is_empty() == (theirs == Ok(Compatibility::Full)), "{ours:?} {theirs:?}\n{reader}\n{writer}");
        // Any schema reads itself.
        prop_assert_eq!(found(&reader, &reader), []);
    }
}
