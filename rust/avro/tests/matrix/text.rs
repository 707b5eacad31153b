//! String, bytes, fixed, enum and uuid.

use crate::families::{BINARY, DAYS, DURATIONS, NESTED, TEXT};
use crate::{Cells, cells, no, rule};

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
];
const ALL: &[&str] = &[
    "string",
    "bytes",
    "fixed(3)",
    "enum",
    "uuid",
    "uuid over fixed(16)",
];
const NOT_STRING: &[&str] = &["bytes", "fixed(3)", "enum", "uuid", "uuid over fixed(16)"];
const UUIDS: &[&str] = &["uuid", "uuid over fixed(16)"];

const ID: &str = "00112233-4455-6677-8899-aabbccddeeff";
const ID_BYTES: &str = "0x00112233445566778899aabbccddeeff";
const ID_TEXT_BYTES: &str =
    "0x30303131323233332d343435352d363637372d383839392d616162626363646465656666";

pub const TABLE: &[Cells] = &[
    cells(&["Null"], ALL, rule(&[], &[("", "null where")])),
    // String.
    cells(
        TEXT,
        &["string"],
        rule(
            &[
                ("", ""),
                ("é", "é"),
                (
                    "a string of more than sixteen bytes",
                    "a string of more than sixteen bytes",
                ),
            ],
            &[],
        ),
    ),
    cells(
        BINARY,
        &["string"],
        rule(
            &[("", ""), ("0xc3a9", "é")],
            &[("0xff", "not UTF-8"), ("0x61c3", "not UTF-8")],
        ),
    ),
    cells(
        &["FixedSizeBinary(3)"],
        &["string"],
        rule(&[("abc", "abc")], &[("0x61ffff", "not UTF-8")]),
    ),
    cells(
        &["FixedSizeBinary(12)"],
        &["string"],
        rule(
            &[("twelve bytes", "twelve bytes")],
            &[("0xffffffffffffffffffffffff", "not UTF-8")],
        ),
    ),
    cells(
        &["FixedSizeBinary(16)"],
        &["string"],
        rule(
            &[("sixteen bytes it", "sixteen bytes it")],
            &[(ID_BYTES, "not UTF-8")],
        ),
    ),
    no(
        PLAIN,
        &["string"],
        "cast the column to a string in the form you mean",
    ),
    no(
        DAYS,
        &["string"],
        "cast the column to a string in the form you mean",
    ),
    no(
        DURATIONS,
        &["string"],
        "cast the column to a string in the form you mean",
    ),
    no(PLAIN, NOT_STRING, "cast the column"),
    no(DAYS, NOT_STRING, "cast the column"),
    no(DURATIONS, NOT_STRING, "cast the column"),
    no(NESTED, ALL, "cast the column"),
    // Bytes.
    cells(TEXT, &["bytes"], rule(&[("", "0x"), ("é", "0xc3a9")], &[])),
    cells(
        BINARY,
        &["bytes"],
        rule(&[("", "0x"), ("0xff00", "0xff00")], &[]),
    ),
    cells(
        &["FixedSizeBinary(3)"],
        &["bytes", "fixed(3)"],
        rule(&[("0xff0001", "0xff0001")], &[]),
    ),
    cells(
        &["FixedSizeBinary(12)"],
        &["bytes"],
        rule(&[("twelve bytes", "0x7477656c7665206279746573")], &[]),
    ),
    cells(
        &["FixedSizeBinary(16)"],
        &["bytes"],
        rule(&[(ID_BYTES, ID_BYTES)], &[]),
    ),
    // Fixed.
    cells(
        TEXT,
        &["fixed(3)"],
        rule(
            &[("JFK", "0x4a464b")],
            &[
                ("JFKX", "not 3 bytes long"),
                ("", "not 3 bytes long"),
                ("éé", "not 3 bytes long"),
            ],
        ),
    ),
    cells(
        BINARY,
        &["fixed(3)"],
        rule(&[("0xff0001", "0xff0001")], &[("0xff", "not 3 bytes long")]),
    ),
    no(
        &["FixedSizeBinary(12)", "FixedSizeBinary(16)"],
        &["fixed(3)"],
        "the sizes differ",
    ),
    // Enum.
    cells(
        TEXT,
        &["enum"],
        rule(
            &[("A", "A"), ("B", "B")],
            &[
                ("a", "not a symbol"),
                ("", "not a symbol"),
                ("C", "not a symbol"),
            ],
        ),
    ),
    no(BINARY, &["enum"], "cast the column"),
    no(
        &[
            "FixedSizeBinary(3)",
            "FixedSizeBinary(12)",
            "FixedSizeBinary(16)",
        ],
        &["enum"],
        "cast the column",
    ),
    // Uuid.
    cells(
        TEXT,
        UUIDS,
        rule(
            &[(ID, ID), ("00112233-4455-6677-8899-AABBCCDDEEFF", ID)],
            &[
                ("", "not a uuid"),
                ("00112233445566778899aabbccddeeff", "not a uuid"),
                ("00112233-4455-6677-8899-aabbccddeefg", "not a uuid"),
            ],
        ),
    ),
    cells(
        BINARY,
        &["uuid"],
        rule(
            &[(ID_BYTES, ID)],
            &[
                ("0x00", "not 16 bytes long"),
                (ID_TEXT_BYTES, "not 16 bytes long"),
            ],
        ),
    ),
    cells(
        BINARY,
        &["uuid over fixed(16)"],
        rule(
            &[(ID_BYTES, ID)],
            &[
                ("0x00", "not 16 bytes long"),
                (ID_TEXT_BYTES, "not 16 bytes long"),
            ],
        ),
    ),
    cells(
        &["FixedSizeBinary(16)"],
        UUIDS,
        rule(&[(ID_BYTES, ID)], &[]),
    ),
    no(
        &["FixedSizeBinary(3)", "FixedSizeBinary(12)"],
        UUIDS,
        "cast the column",
    ),
    no(&["Interval"], ALL, "cast it to int64"),
    no(&["RunEndEncoded"], ALL, "cast it to its value type"),
    no(&["ListView", "LargeListView"], ALL, "cast it to list"),
    no(&["Union"], ALL, "split it into one column a type"),
];
