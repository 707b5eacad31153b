//! Dates, times of day and durations.

use crate::families::{BINARY, CLOCKS, DURATIONS, FIXED, INSTANTS, NAIVE, NUMBERS, TEXT};
use crate::{Cells, cells, no, rule};

const BOOLEAN: &[&str] = &["Boolean"];
const DATES: &[&str] = &["Date32", "Date64"];
const DAYS: &[&str] = &["date", "time-millis", "time-micros", "duration"];
const NOT_DATE: &[&str] = &["time-millis", "time-micros", "duration"];
const NOT_TIME: &[&str] = &["date", "duration"];
const LOSS: &str = "would lose precision";
const CLOCK: &str = "not a time of day";
const DAY: &str = "not a whole day";
const DATE: &str = "out of range of date";
const RANGE_DURATION: &str = "out of range of duration";
const NESTED_BUT_PARTS: &[&str] = &[
    "List",
    "LargeList",
    "FixedSizeList",
    "Map",
    "Struct",
    "Struct of member0, member1",
];

pub const TABLE: &[Cells] = &[
    cells(&["Null"], DAYS, rule(&[], &[("", "null where")])),
    no(BOOLEAN, DAYS, "cast the column"),
    no(NUMBERS, &["date"], "a number says no unit"),
    no(NUMBERS, NOT_DATE, "cast the column"),
    no(NESTED_BUT_PARTS, DAYS, "cast the column"),
    no(
        &["Struct of months, days, millis"],
        &["date", "time-millis", "time-micros"],
        "cast the column",
    ),
    no(
        BINARY,
        &["date", "time-millis", "time-micros"],
        "cast the column",
    ),
    no(
        FIXED,
        &["date", "time-millis", "time-micros"],
        "cast the column",
    ),
    no(&["Interval"], DAYS, "cast it to int64"),
    no(&["RunEndEncoded"], DAYS, "cast it to its value type"),
    no(&["ListView", "LargeListView"], DAYS, "cast it to list"),
    no(&["Union"], DAYS, "split it into one column a type"),
    // Date.
    cells(
        &["Date32"],
        &["date"],
        rule(
            &[("-2147483648", "-2147483648"), ("2147483647", "2147483647")],
            &[],
        ),
    ),
    cells(
        &["Date64"],
        &["date"],
        rule(
            &[("86400000", "1"), ("-86400000", "-1")],
            &[("86400001", DAY), ("9223372036828800000", DATE)],
        ),
    ),
    cells(
        &["Timestamp(s)"],
        &["date"],
        rule(
            &[("86400", "1")],
            &[("86401", DAY), ("9223372036854720000", DATE)],
        ),
    ),
    cells(
        &["Timestamp(ms)"],
        &["date"],
        rule(
            &[("-86400000", "-1")],
            &[("-1", DAY), ("9223372036828800000", DATE)],
        ),
    ),
    cells(
        &["Timestamp(us)"],
        &["date"],
        rule(&[("86400000000", "1")], &[("1", DAY)]),
    ),
    cells(
        &["Timestamp(ns)"],
        &["date"],
        rule(&[("86400000000000", "1")], &[("1", DAY)]),
    ),
    no(
        INSTANTS,
        &["date"],
        "the column is an instant, whose day is another in each zone",
    ),
    no(CLOCKS, NOT_TIME, "cast the column"),
    no(
        DURATIONS,
        &["date", "time-millis", "time-micros"],
        "cast the column",
    ),
    cells(
        TEXT,
        &["date"],
        rule(
            &[("1970-01-02", "1"), (" 2000-02-29 ", "11016")],
            &[
                ("1900-02-29", "not a date: no such day"),
                ("1970-1-2", "not a date"),
                ("1970-01-02T00:00:00", "not a date"),
                ("", "not a date"),
            ],
        ),
    ),
    // Times of day.
    no(DATES, NOT_DATE, "cast the column"),
    no(NAIVE, NOT_DATE, "cast the column"),
    no(INSTANTS, NOT_DATE, "cast the column"),
    cells(
        &["Time32(s)"],
        &["time-millis"],
        rule(&[("86399", "86399000")], &[("86400", CLOCK), ("-1", CLOCK)]),
    ),
    cells(
        &["Time32(ms)"],
        &["time-millis"],
        rule(
            &[("86399999", "86399999")],
            &[("86400000", CLOCK), ("-1", CLOCK)],
        ),
    ),
    cells(
        &["Time64(us)"],
        &["time-millis"],
        rule(&[("5000", "5")], &[("5001", LOSS), ("86400000000", CLOCK)]),
    ),
    cells(
        &["Time64(ns)"],
        &["time-millis"],
        rule(&[("5000000", "5")], &[("5000001", LOSS), ("-1", CLOCK)]),
    ),
    cells(
        &["Time32(s)"],
        &["time-micros"],
        rule(&[("1", "1000000")], &[("86400", CLOCK)]),
    ),
    cells(
        &["Time32(ms)"],
        &["time-micros"],
        rule(&[("1", "1000")], &[("-1", CLOCK)]),
    ),
    cells(
        &["Time64(us)"],
        &["time-micros"],
        rule(&[("86399999999", "86399999999")], &[("86400000000", CLOCK)]),
    ),
    cells(
        &["Time64(ns)"],
        &["time-micros"],
        rule(
            &[("5000", "5")],
            &[("5001", LOSS), ("86400000000000", CLOCK)],
        ),
    ),
    cells(
        TEXT,
        &["time-millis"],
        rule(
            &[("05:00:00", "18000000"), ("00:00:00.001", "1")],
            &[
                ("00:00:00.0001", LOSS),
                ("24:00:00", "not a time of day: none"),
                ("5:00", CLOCK),
                ("05:00:00Z", CLOCK),
            ],
        ),
    ),
    cells(
        TEXT,
        &["time-micros"],
        rule(
            &[("23:59:59.999999", "86399999999")],
            &[("00:00:00.0000001", LOSS), ("noon", CLOCK)],
        ),
    ),
    // Duration.
    cells(
        &["Struct of months, days, millis"],
        &["duration"],
        rule(
            &[
                ("1/2/3", "1/2/3"),
                ("4294967295/0/4294967295", "4294967295/0/4294967295"),
            ],
            &[],
        ),
    ),
    cells(
        &["Duration(s)"],
        &["duration"],
        rule(
            &[("5", "0/0/5000")],
            &[("-1", "negative"), ("9223372036854775807", RANGE_DURATION)],
        ),
    ),
    cells(
        &["Duration(ms)"],
        &["duration"],
        rule(
            &[("4294967295", "0/0/4294967295")],
            &[("4294967296", RANGE_DURATION), ("-1", "negative")],
        ),
    ),
    cells(
        &["Duration(us)"],
        &["duration"],
        rule(
            &[("5000", "0/0/5")],
            &[("5001", LOSS), ("-5000", "negative")],
        ),
    ),
    cells(
        &["Duration(ns)"],
        &["duration"],
        rule(
            &[("5000000", "0/0/5")],
            &[("1", LOSS), ("-5000000", "negative")],
        ),
    ),
    cells(
        &["FixedSizeBinary(12)"],
        &["duration"],
        rule(&[("0x010000000200000003000000", "1/2/3")], &[]),
    ),
    cells(
        BINARY,
        &["duration"],
        rule(
            &[("0x010000000200000003000000", "1/2/3")],
            &[("0x01", "not 12 bytes long")],
        ),
    ),
    no(
        &["FixedSizeBinary(3)", "FixedSizeBinary(16)"],
        &["duration"],
        "cast the column",
    ),
    no(TEXT, &["duration"], "cast the column"),
];
