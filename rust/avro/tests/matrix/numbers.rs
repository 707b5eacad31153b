//! Boolean, int and long; and what is no number at all.

use crate::families::{BYTES, DAYS, DURATIONS, FLOATS, NESTED, TEXT};
use crate::{Cells, cells, needs, no, rule};

const ALL: &[&str] = &[
    "boolean",
    "int",
    "long",
    "float",
    "double",
    "decimal(10, 2)",
    "decimal(10, 2) over fixed(5)",
];
const DECIMAL: &[&str] = &["decimal(10, 2)", "decimal(10, 2) over fixed(5)"];
const NULL: &str = "null where";
const WHOLE: &str = "not a whole number";
const NAN: &str = "NaN is not a whole number";
const INT: &str = "out of range of int";
const LONG: &str = "out of range of long";
const LOSS: &str = "would lose precision";
const NUMBER: &str = "not a number";
const BIT: &str = "neither 0 nor 1";
const DURATIONS_COARSE: &[&str] = &["Duration(s)", "Duration(ms)"];

pub const TABLE: &[Cells] = &[
    cells(&["Null"], ALL, rule(&[], &[("", NULL)])),
    // Boolean.
    cells(
        &["Boolean"],
        &["boolean"],
        rule(&[("true", "true"), ("false", "false")], &[]),
    ),
    cells(
        &[
            "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32",
        ],
        &["boolean"],
        rule(&[("1", "true"), ("0", "false")], &[("2", BIT)]),
    ),
    cells(
        &["UInt64"],
        &["boolean"],
        rule(
            &[("1", "true"), ("0", "false")],
            &[("2", BIT), ("18446744073709551615", LONG)],
        ),
    ),
    cells(
        &["Decimal32(9, 2)"],
        &["boolean"],
        rule(
            &[("100", "true"), ("0", "false")],
            &[("200", BIT), ("50", WHOLE)],
        ),
    ),
    cells(
        &["Decimal64(18, 3)"],
        &["boolean"],
        rule(
            &[("1000", "true"), ("0", "false")],
            &[("-1000", BIT), ("1", WHOLE)],
        ),
    ),
    cells(
        &["Decimal128(38, 4)"],
        &["boolean"],
        rule(&[("10000", "true")], &[("20000", BIT), ("1", WHOLE)]),
    ),
    cells(
        &["Decimal256(76, 0)"],
        &["boolean"],
        rule(
            &[("1", "true")],
            &[("2", BIT), ("99999999999999999999", LONG)],
        ),
    ),
    cells(
        TEXT,
        &["boolean"],
        rule(
            &[
                ("true", "true"),
                ("FALSE", "false"),
                ("t", "true"),
                ("F", "false"),
                ("Yes", "true"),
                ("no", "false"),
                ("y", "true"),
                ("N", "false"),
                (" 1 ", "true"),
                ("0", "false"),
            ],
            &[
                ("", "not a boolean"),
                ("2", "not a boolean"),
                ("on", "not a boolean"),
            ],
        ),
    ),
    no(FLOATS, &["boolean"], "cast the column"),
    // Int.
    cells(
        &["Boolean"],
        &["int", "long"],
        rule(&[("true", "1"), ("false", "0")], &[]),
    ),
    cells(
        &["Int8"],
        &["int", "long", "float", "double"],
        rule(&[("-128", "-128"), ("127", "127")], &[]),
    ),
    cells(
        &["Int16"],
        &["int", "long", "float", "double"],
        rule(&[("-32768", "-32768"), ("32767", "32767")], &[]),
    ),
    cells(
        &["UInt8"],
        &["int", "long", "float", "double"],
        rule(&[("0", "0"), ("255", "255")], &[]),
    ),
    cells(
        &["UInt16"],
        &["int", "long", "float", "double"],
        rule(&[("0", "0"), ("65535", "65535")], &[]),
    ),
    cells(
        &["Int32"],
        &["int", "long", "double"],
        rule(
            &[("-2147483648", "-2147483648"), ("2147483647", "2147483647")],
            &[],
        ),
    ),
    cells(
        &["Int64"],
        &["int"],
        rule(
            &[("-2147483648", "-2147483648")],
            &[
                ("2147483648", INT),
                ("-2147483649", INT),
                ("9223372036854775807", INT),
            ],
        ),
    ),
    cells(
        &["UInt32"],
        &["int"],
        rule(
            &[("2147483647", "2147483647")],
            &[("2147483648", INT), ("4294967295", INT)],
        ),
    ),
    cells(
        &["UInt64"],
        &["int"],
        rule(
            &[("2147483647", "2147483647")],
            &[("2147483648", INT), ("18446744073709551615", INT)],
        ),
    ),
    cells(
        &["Float16"],
        &["int", "long"],
        rule(
            &[("517", "517"), ("-0", "0")],
            &[("0.5", WHOLE), ("NaN", NAN), ("inf", "infinite")],
        ),
    ),
    cells(
        &["Float32", "Float64"],
        &["int"],
        rule(
            &[("517", "517"), ("-2147483648", "-2147483648")],
            &[
                ("517.5", WHOLE),
                ("NaN", NAN),
                ("-inf", "infinite"),
                ("2147483648", INT),
            ],
        ),
    ),
    cells(
        &["Decimal32(9, 2)"],
        &["int", "long"],
        rule(&[("51700", "517"), ("-100", "-1")], &[("51701", WHOLE)]),
    ),
    cells(
        &["Decimal64(18, 3)"],
        &["int"],
        rule(
            &[("517000", "517")],
            &[("1", WHOLE), ("2147483648000", INT)],
        ),
    ),
    cells(
        &["Decimal128(38, 4)"],
        &["int"],
        rule(
            &[("5170000", "517")],
            &[("1", WHOLE), ("21474836480000", INT)],
        ),
    ),
    cells(
        &["Decimal256(76, 0)"],
        &["int"],
        rule(&[("517", "517")], &[("2147483648", INT)]),
    ),
    cells(
        TEXT,
        &["int"],
        rule(
            &[
                ("517", "517"),
                ("517.0", "517"),
                ("+5", "5"),
                (" -5 ", "-5"),
                ("5.17E2", "517"),
            ],
            &[
                ("5.5", WHOLE),
                ("2147483648", INT),
                ("", NUMBER),
                ("five", NUMBER),
                ("0x5", NUMBER),
                ("NaN", NUMBER),
            ],
        ),
    ),
    cells(
        DURATIONS_COARSE,
        &["int"],
        needs("unit", &[("0", "0")], &[("9223372036854775807", INT)]),
    ),
    cells(
        &["Duration(us)"],
        &["int"],
        needs(
            "unit",
            &[("5000", "5")],
            &[("5001", LOSS), ("9223372036854775000", INT)],
        ),
    ),
    cells(
        &["Duration(ns)"],
        &["int"],
        needs(
            "unit",
            &[("5000000", "5")],
            &[("5000001", LOSS), ("9223372036854000000", INT)],
        ),
    ),
    // Long.
    cells(
        &["Int64"],
        &["long"],
        rule(
            &[
                ("-9223372036854775808", "-9223372036854775808"),
                ("9223372036854775807", "9223372036854775807"),
            ],
            &[],
        ),
    ),
    cells(
        &["UInt32"],
        &["long", "double"],
        rule(&[("4294967295", "4294967295")], &[]),
    ),
    cells(
        &["UInt64"],
        &["long"],
        rule(
            &[("9223372036854775807", "9223372036854775807")],
            &[("9223372036854775808", LONG)],
        ),
    ),
    cells(
        &["Float32", "Float64"],
        &["long"],
        rule(
            &[
                ("-9223372036854775808", "-9223372036854775808"),
                ("517", "517"),
            ],
            &[
                ("9223372036854775808", LONG),
                ("1e30", LONG),
                ("0.5", WHOLE),
                ("NaN", NAN),
                ("inf", "infinite"),
            ],
        ),
    ),
    cells(
        &["Decimal64(18, 3)"],
        &["long"],
        rule(
            &[("999999999999999000", "999999999999999")],
            &[("1", WHOLE)],
        ),
    ),
    cells(
        &["Decimal128(38, 4)"],
        &["long"],
        rule(
            &[("92233720368547758070000", "9223372036854775807")],
            &[("92233720368547758080000", LONG), ("1", WHOLE)],
        ),
    ),
    cells(
        &["Decimal256(76, 0)"],
        &["long"],
        rule(
            &[("9223372036854775807", "9223372036854775807")],
            &[("9223372036854775808", LONG)],
        ),
    ),
    cells(
        TEXT,
        &["long"],
        rule(
            &[
                ("9223372036854775807", "9223372036854775807"),
                ("1.0E7", "10000000"),
            ],
            &[
                ("9223372036854775808", LONG),
                ("1e99", LONG),
                ("0.1", WHOLE),
                ("1 2", NUMBER),
            ],
        ),
    ),
    cells(
        &["Duration(s)"],
        &["long"],
        needs("unit", &[("5", "5000")], &[("9223372036854775807", LONG)]),
    ),
    cells(
        &["Duration(ms)"],
        &["long"],
        needs(
            "unit",
            &[("9223372036854775807", "9223372036854775807")],
            &[],
        ),
    ),
    cells(
        &["Duration(us)"],
        &["long"],
        needs("unit", &[("-5000", "-5")], &[("-5001", LOSS)]),
    ),
    cells(
        &["Duration(ns)"],
        &["long"],
        needs("unit", &[("5000000", "5")], &[("1", LOSS)]),
    ),
    no(&["Boolean"], &["float", "double"], "cast the column"),
    no(
        DURATIONS,
        &["boolean", "float", "double"],
        "cast the column",
    ),
    // What is no number, and says so in no way.
    no(BYTES, ALL, "cast the column"),
    no(DAYS, &["boolean", "float", "double"], "cast the column"),
    no(DAYS, &["int", "long"], "use a date, time or timestamp type"),
    no(DAYS, DECIMAL, "cast the column"),
    no(NESTED, ALL, "cast the column"),
    no(&["Interval"], ALL, "cast it to int64"),
    no(&["RunEndEncoded"], ALL, "cast it to its value type"),
    no(&["ListView", "LargeListView"], ALL, "cast it to list"),
    no(&["Union"], ALL, "split it into one column a type"),
];
