//! Float, double and decimal.

use crate::families::{DURATIONS, FLOATS, TEXT};
use crate::{Cells, cells, needs, no, rule};

const DECIMAL: &[&str] = &["decimal(10, 2)", "decimal(10, 2) over fixed(5)"];
const FLOAT: &str = "not exactly representable as float";
const DOUBLE: &str = "not exactly representable as double";
const LOSS: &str = "would lose precision";
const NUMBER: &str = "not a number";
const RANGE: &str = "out of range of the decimal";

pub const TABLE: &[Cells] = &[
    // Float.
    cells(
        &["Int32"],
        &["float"],
        rule(&[("16777216", "16777216")], &[("16777217", FLOAT)]),
    ),
    cells(
        &["Int64"],
        &["float"],
        rule(
            &[("-16777216", "-16777216")],
            &[("9223372036854775807", FLOAT)],
        ),
    ),
    cells(
        &["UInt32"],
        &["float"],
        rule(&[("16777216", "16777216")], &[("4294967295", FLOAT)]),
    ),
    cells(
        &["UInt64"],
        &["float"],
        rule(
            &[("16777216", "16777216")],
            &[("18446744073709551615", FLOAT)],
        ),
    ),
    cells(
        &["Float16"],
        &["float", "double"],
        rule(&[("0.5", "0.5"), ("inf", "inf"), ("NaN", "NaN")], &[]),
    ),
    cells(
        &["Float32"],
        &["float"],
        rule(&[("0.1", "0.1"), ("-inf", "-inf"), ("NaN", "NaN")], &[]),
    ),
    cells(
        &["Float64"],
        &["float"],
        rule(
            &[("0.5", "0.5"), ("inf", "inf"), ("NaN", "NaN")],
            &[("0.1", FLOAT), ("1e300", "out of range of float")],
        ),
    ),
    cells(
        &["Decimal32(9, 2)"],
        &["float"],
        rule(&[("10", "0.1"), ("-1250", "-12.5")], &[("123456789", LOSS)]),
    ),
    cells(
        &["Decimal64(18, 3)"],
        &["float"],
        rule(&[("100", "0.1")], &[("16777217000", LOSS)]),
    ),
    cells(
        &["Decimal128(38, 4)"],
        &["float"],
        rule(&[("1000", "0.1")], &[("167772170000", LOSS)]),
    ),
    cells(
        &["Decimal256(76, 0)"],
        &["float"],
        rule(
            &[("5", "5")],
            &[
                ("16777217", LOSS),
                (
                    "1000000000000000000000000000000000000000",
                    "out of range of float",
                ),
            ],
        ),
    ),
    cells(
        TEXT,
        &["float"],
        rule(
            &[
                ("0.1", "0.1"),
                ("1e10", "10000000000"),
                (" -5 ", "-5"),
                ("NaN", "NaN"),
                ("Infinity", "inf"),
            ],
            &[
                ("16777217", LOSS),
                ("0.123456789012", LOSS),
                ("1e39", "out of range of float"),
                ("1,5", NUMBER),
                ("", NUMBER),
            ],
        ),
    ),
    // Double.
    cells(
        &["Int64"],
        &["double"],
        rule(
            &[("9007199254740992", "9007199254740992")],
            &[("9007199254740993", DOUBLE)],
        ),
    ),
    cells(
        &["UInt64"],
        &["double"],
        rule(
            &[("9007199254740992", "9007199254740992")],
            &[("18446744073709551615", DOUBLE)],
        ),
    ),
    cells(
        &["Float32"],
        &["double"],
        rule(&[("0.5", "0.5"), ("NaN", "NaN"), ("inf", "inf")], &[]),
    ),
    cells(
        &["Float64"],
        &["double"],
        rule(&[("0.1", "0.1"), ("NaN", "NaN"), ("-inf", "-inf")], &[]),
    ),
    cells(
        &["Decimal32(9, 2)"],
        &["double"],
        rule(&[("10", "0.1"), ("-123456789", "-1234567.89")], &[]),
    ),
    cells(
        &["Decimal64(18, 3)"],
        &["double"],
        rule(&[("100", "0.1")], &[("999999999999999999", LOSS)]),
    ),
    cells(
        &["Decimal128(38, 4)"],
        &["double"],
        rule(&[("1000", "0.1")], &[("90071992547409930000", LOSS)]),
    ),
    cells(
        &["Decimal256(76, 0)"],
        &["double"],
        rule(&[("5", "5")], &[("9007199254740993", LOSS)]),
    ),
    cells(
        TEXT,
        &["double"],
        rule(
            &[
                ("0.1", "0.1"),
                ("0.10000000000000001", "0.1"),
                ("1.0E7", "10000000"),
                ("-inf", "-inf"),
                ("nan", "NaN"),
            ],
            &[
                ("9007199254740993", LOSS),
                ("1e999", "out of range of double"),
                ("one", NUMBER),
            ],
        ),
    ),
    // Decimal.
    no(&["Boolean"], DECIMAL, "cast the column"),
    no(DURATIONS, DECIMAL, "cast the column"),
    cells(
        &["Int8"],
        DECIMAL,
        rule(&[("-128", "-12800"), ("127", "12700")], &[]),
    ),
    cells(&["UInt8"], DECIMAL, rule(&[("255", "25500")], &[])),
    cells(&["Int16"], DECIMAL, rule(&[("-32768", "-3276800")], &[])),
    cells(&["UInt16"], DECIMAL, rule(&[("65535", "6553500")], &[])),
    cells(
        &["Int32", "Int64"],
        DECIMAL,
        rule(&[("-99999999", "-9999999900")], &[("100000000", RANGE)]),
    ),
    cells(
        &["UInt32", "UInt64"],
        DECIMAL,
        rule(&[("99999999", "9999999900")], &[("100000000", RANGE)]),
    ),
    cells(
        FLOATS,
        DECIMAL,
        needs(
            "lossy",
            &[("0.5", "50"), ("-2", "-200")],
            &[("NaN", "NaN is no decimal"), ("inf", "infinite")],
        ),
    ),
    cells(
        &["Decimal32(9, 2)"],
        DECIMAL,
        rule(&[("-123456789", "-123456789")], &[]),
    ),
    cells(
        &["Decimal64(18, 3)"],
        DECIMAL,
        rule(
            &[("1230", "123")],
            &[("1231", LOSS), ("100000000000", RANGE)],
        ),
    ),
    cells(
        &["Decimal128(38, 4)"],
        DECIMAL,
        rule(
            &[("-12300", "-123")],
            &[("-12301", LOSS), ("1000000000000", RANGE)],
        ),
    ),
    cells(
        &["Decimal256(76, 0)"],
        DECIMAL,
        rule(&[("99999999", "9999999900")], &[("100000000", RANGE)]),
    ),
    cells(
        TEXT,
        DECIMAL,
        rule(
            &[
                ("1.5", "150"),
                ("-0.05", "-5"),
                ("+12", "1200"),
                (".5", "50"),
                ("1e3", "100000"),
                (" 1.500 ", "150"),
            ],
            &[
                ("1.234", LOSS),
                ("100000000", RANGE),
                ("", "not a decimal number"),
                ("1,5", "not a decimal number"),
            ],
        ),
    ),
];
