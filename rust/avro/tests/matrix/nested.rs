//! Array, map, record, a union of several types, and null.

use crate::families::{BYTES, DAYS};
use crate::{Cells, cells, needs, no, rule};

const LISTS: &[&str] = &["List", "LargeList", "FixedSizeList"];
const PARTS: &[&str] = &["Struct of months, days, millis"];
const MEMBERS: &[&str] = &["Struct of member0, member1"];
const ARRAYS_MAPS: &[&str] = &["array<int>", "map<int>"];
const ARRAY_MAP_RECORD: &[&str] = &["array<int>", "map<int>", "record"];
const UNION: &[&str] = &["[int, string]"];
const NULL: &[&str] = &["null"];
const PLAIN: &[&str] = &[
    "Boolean",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "Float16",
    "Float32",
    "Float64",
    "Decimal32(9, 2)",
    "Decimal64(18, 3)",
    "Decimal128(38, 4)",
    "Decimal256(76, 0)",
    "Utf8",
    "LargeUtf8",
    "Utf8View",
    "Dictionary of Utf8",
    "Duration(s)",
    "Duration(ms)",
    "Duration(us)",
    "Duration(ns)",
];
const REFUSED: &[&str] = &["array<int>", "map<int>", "record", "[int, string]", "null"];
const INT: &str = "out of range of int";

pub const TABLE: &[Cells] = &[
    // Null.
    cells(&["Null"], NULL, rule(&[("", "null")], &[])),
    cells(
        &["Null"],
        &["array<int>", "map<int>", "record", "[int, string]"],
        rule(&[], &[("", "null where")]),
    ),
    no(PLAIN, NULL, "cast the column"),
    no(BYTES, NULL, "cast the column"),
    no(DAYS, NULL, "cast the column"),
    no(LISTS, NULL, "cast the column"),
    no(&["Map", "Struct"], NULL, "cast the column"),
    no(PARTS, NULL, "cast the column"),
    no(MEMBERS, NULL, "cast the column"),
    // What does not nest.
    no(PLAIN, ARRAY_MAP_RECORD, "cast the column"),
    no(BYTES, ARRAY_MAP_RECORD, "cast the column"),
    no(DAYS, ARRAY_MAP_RECORD, "cast the column"),
    // What does.
    cells(
        &["List", "LargeList"],
        &["array<int>"],
        rule(&[("1,2,3", "1,2,3"), ("-5", "-5")], &[]),
    ),
    cells(
        &["FixedSizeList"],
        &["array<int>"],
        rule(&[("1,2", "1,2")], &[]),
    ),
    no(LISTS, &["map<int>", "record"], "cast the column"),
    cells(
        &["Map"],
        &["map<int>"],
        rule(&[("k=1", "k=1"), ("é=-2", "é=-2")], &[]),
    ),
    no(&["Map"], &["array<int>", "record"], "cast the column"),
    cells(
        &["Struct"],
        &["record"],
        rule(&[("5", "5"), ("-5", "-5")], &[]),
    ),
    no(&["Struct"], ARRAYS_MAPS, "cast the column"),
    no(PARTS, ARRAYS_MAPS, "cast the column"),
    no(MEMBERS, ARRAYS_MAPS, "cast the column"),
    // The fields are looked for by name, and there are none of these.
    no(PARTS, &["record"], "field f.a has no column"),
    no(MEMBERS, &["record"], "field f.a has no column"),
    // A union: the branch that fits exactly, else the first that fits.
    cells(&["Boolean"], UNION, rule(&[("true", "1")], &[])),
    cells(
        &["Int8", "Int16", "Int32", "UInt8", "UInt16"],
        UNION,
        rule(&[("5", "5")], &[]),
    ),
    cells(
        &["Int64", "UInt32", "UInt64"],
        UNION,
        rule(&[("5", "5")], &[("2147483648", INT)]),
    ),
    cells(
        &["Float16"],
        UNION,
        rule(&[("5", "5")], &[("0.5", "not a whole number")]),
    ),
    cells(
        &["Float32", "Float64"],
        UNION,
        rule(&[("5", "5")], &[("2147483648", INT)]),
    ),
    cells(
        &["Decimal32(9, 2)"],
        UNION,
        rule(&[("500", "5")], &[("1", "not a whole number")]),
    ),
    cells(
        &["Decimal64(18, 3)"],
        UNION,
        rule(&[("5000", "5")], &[("1", "not a whole number")]),
    ),
    cells(
        &["Decimal128(38, 4)"],
        UNION,
        rule(&[("50000", "5")], &[("1", "not a whole number")]),
    ),
    cells(
        &["Decimal256(76, 0)"],
        UNION,
        rule(&[("5", "5")], &[("2147483648", INT)]),
    ),
    cells(
        &["Utf8", "LargeUtf8", "Utf8View", "Dictionary of Utf8"],
        UNION,
        rule(&[("5", "5"), ("x", "x")], &[]),
    ),
    cells(
        &["Binary", "LargeBinary", "BinaryView"],
        UNION,
        rule(&[("x", "x")], &[("0xff", "not UTF-8")]),
    ),
    cells(
        &["FixedSizeBinary(3)"],
        UNION,
        rule(&[("abc", "abc")], &[("0xffffff", "not UTF-8")]),
    ),
    cells(
        &["FixedSizeBinary(12)"],
        UNION,
        rule(
            &[("twelve bytes", "twelve bytes")],
            &[("0xffffffffffffffffffffffff", "not UTF-8")],
        ),
    ),
    cells(
        &["FixedSizeBinary(16)"],
        UNION,
        rule(
            &[("sixteen bytes it", "sixteen bytes it")],
            &[("0xffffffffffffffffffffffffffffffff", "not UTF-8")],
        ),
    ),
    no(DAYS, UNION, "no type of the union takes it"),
    cells(
        &[
            "Duration(s)",
            "Duration(ms)",
            "Duration(us)",
            "Duration(ns)",
        ],
        UNION,
        needs("unit", &[("0", "0")], &[("9000000000000000000", INT)]),
    ),
    no(LISTS, UNION, "no type of the union takes it"),
    no(&["Map", "Struct"], UNION, "no type of the union takes it"),
    no(PARTS, UNION, "no type of the union takes it"),
    cells(
        MEMBERS,
        UNION,
        rule(
            &[("0:5", "5"), ("1:x", "x")],
            &[("01:5", "more than one member"), ("-", "no member")],
        ),
    ),
    no(&["Interval"], REFUSED, "cast it to int64"),
    no(&["RunEndEncoded"], REFUSED, "cast it to its value type"),
    no(&["ListView", "LargeListView"], REFUSED, "cast it to list"),
    no(&["Union"], REFUSED, "split it into one column a type"),
];
