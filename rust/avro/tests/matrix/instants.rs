//! Timestamps that are instants.

use crate::families::{BINARY, CLOCKS, DURATIONS, FIXED, NESTED, NUMBERS, TEXT};
use crate::{Cells, cells, needs, no, rule};

const BOOLEAN: &[&str] = &["Boolean"];
const LOSS: &str = "would lose precision";
const ALL: &[&str] = &[
    "timestamp-millis",
    "timestamp-micros",
    "timestamp-nanos",
    "local-timestamp-millis",
    "local-timestamp-micros",
    "local-timestamp-nanos",
];
const RANGE: &str = "out of range of long";
/// In Europe/Berlin: the first of January of 2021, an hour that was skipped, and one that came twice.
const GAP: &str = "non-existent local time";
const TWICE: &str = "ambiguous local time";
const MAX: &str = "9223372036854775807";
const NO_ZONE: &str = "no zone in the text";
const TEXT_BAD: &str = "not an RFC 3339 timestamp";

pub const TABLE: &[Cells] = &[
    cells(&["Null"], ALL, rule(&[], &[("", "null where")])),
    no(BOOLEAN, ALL, "cast the column"),
    no(NUMBERS, ALL, "a number says no unit"),
    no(BINARY, ALL, "cast the column"),
    no(FIXED, ALL, "cast the column"),
    no(CLOCKS, ALL, "cast the column"),
    no(DURATIONS, ALL, "cast the column"),
    no(NESTED, ALL, "cast the column"),
    no(&["Interval"], ALL, "cast it to int64"),
    no(&["RunEndEncoded"], ALL, "cast it to its value type"),
    no(&["ListView", "LargeListView"], ALL, "cast it to list"),
    no(&["Union"], ALL, "split it into one column a type"),
    // Instants.
    cells(
        &["Timestamp(s, zone)"],
        &["timestamp-millis"],
        rule(&[("-5", "-5000")], &[(MAX, RANGE)]),
    ),
    cells(
        &["Timestamp(s, zone)"],
        &["timestamp-micros"],
        rule(&[("5", "5000000")], &[(MAX, RANGE)]),
    ),
    cells(
        &["Timestamp(s, zone)"],
        &["timestamp-nanos"],
        rule(&[("5", "5000000000")], &[("9223372037", RANGE)]),
    ),
    cells(
        &["Timestamp(ms, zone)"],
        &["timestamp-millis"],
        rule(&[(MAX, MAX)], &[]),
    ),
    cells(
        &["Timestamp(ms, zone)"],
        &["timestamp-micros"],
        rule(&[("5", "5000")], &[(MAX, RANGE)]),
    ),
    cells(
        &["Timestamp(ms, zone)"],
        &["timestamp-nanos"],
        rule(&[("5", "5000000")], &[(MAX, RANGE)]),
    ),
    cells(
        &["Timestamp(us, zone)"],
        &["timestamp-millis"],
        rule(&[("-5000", "-5")], &[("-5001", LOSS)]),
    ),
    cells(
        &["Timestamp(us, zone)"],
        &["timestamp-micros"],
        rule(&[(MAX, MAX)], &[]),
    ),
    cells(
        &["Timestamp(us, zone)"],
        &["timestamp-nanos"],
        rule(&[("5", "5000")], &[(MAX, RANGE)]),
    ),
    cells(
        &["Timestamp(ns, zone)"],
        &["timestamp-millis"],
        rule(&[("5000000", "5")], &[("5000001", LOSS)]),
    ),
    cells(
        &["Timestamp(ns, zone)"],
        &["timestamp-micros"],
        rule(&[("5000", "5")], &[("5001", LOSS)]),
    ),
    cells(
        &["Timestamp(ns, zone)"],
        &["timestamp-nanos"],
        rule(&[(MAX, MAX)], &[]),
    ),
    // Readings of clocks, bound for instants.
    cells(
        &["Timestamp(s)"],
        &["timestamp-millis"],
        needs(
            "zone",
            &[("1609459200", "1609455600000")],
            &[
                ("1616898600", GAP),
                ("1635647400", TWICE),
                (MAX, "out of range"),
            ],
        ),
    ),
    cells(
        &["Timestamp(s)"],
        &["timestamp-micros"],
        needs(
            "zone",
            &[("1609459200", "1609455600000000")],
            &[("1616898600", GAP), ("1635647400", TWICE)],
        ),
    ),
    cells(
        &["Timestamp(s)"],
        &["timestamp-nanos"],
        needs(
            "zone",
            &[("1609459200", "1609455600000000000")],
            &[("1616898600", GAP), ("9223372037", RANGE)],
        ),
    ),
    cells(
        &["Timestamp(ms)"],
        &["timestamp-millis"],
        needs(
            "zone",
            &[("1609459200001", "1609455600001")],
            &[("1616898600000", GAP), (MAX, "out of range")],
        ),
    ),
    cells(
        &["Timestamp(ms)"],
        &["timestamp-micros"],
        needs(
            "zone",
            &[("1609459200001", "1609455600001000")],
            &[("1635647400000", TWICE)],
        ),
    ),
    cells(
        &["Timestamp(ms)"],
        &["timestamp-nanos"],
        needs(
            "zone",
            &[("1609459200001", "1609455600001000000")],
            &[("1635647400000", TWICE)],
        ),
    ),
    cells(
        &["Timestamp(us)"],
        &["timestamp-millis"],
        needs(
            "zone",
            &[("1609459200000000", "1609455600000")],
            &[("1609459200000001", LOSS), ("1616898600000000", GAP)],
        ),
    ),
    cells(
        &["Timestamp(us)"],
        &["timestamp-micros"],
        needs(
            "zone",
            &[("1609459200000001", "1609455600000001")],
            &[("1616898600000000", GAP)],
        ),
    ),
    cells(
        &["Timestamp(us)"],
        &["timestamp-nanos"],
        needs(
            "zone",
            &[("1609459200000001", "1609455600000001000")],
            &[("1616898600000000", GAP)],
        ),
    ),
    cells(
        &["Timestamp(ns)"],
        &["timestamp-millis"],
        needs(
            "zone",
            &[("1609459200000000000", "1609455600000")],
            &[("1609459200000000001", LOSS)],
        ),
    ),
    cells(
        &["Timestamp(ns)"],
        &["timestamp-micros"],
        needs(
            "zone",
            &[("1609459200000001000", "1609455600000001")],
            &[("1609459200000000001", LOSS)],
        ),
    ),
    cells(
        &["Timestamp(ns)"],
        &["timestamp-nanos"],
        needs(
            "zone",
            &[("1609459200000000001", "1609455600000000001")],
            &[("1616898600000000000", GAP)],
        ),
    ),
    cells(
        &["Date32"],
        &["timestamp-millis"],
        needs(
            "zone",
            &[("18628", "1609455600000")],
            &[("2147483647", "out of range of the calendar")],
        ),
    ),
    cells(
        &["Date32"],
        &["timestamp-micros"],
        needs(
            "zone",
            &[("18628", "1609455600000000")],
            &[("2147483647", "out of range")],
        ),
    ),
    cells(
        &["Date32"],
        &["timestamp-nanos"],
        needs(
            "zone",
            &[("18628", "1609455600000000000")],
            &[("200000", RANGE)],
        ),
    ),
    cells(
        &["Date64"],
        &["timestamp-millis"],
        needs(
            "zone",
            &[("1609459200000", "1609455600000")],
            &[(MAX, "out of range")],
        ),
    ),
    cells(
        &["Date64"],
        &["timestamp-micros"],
        needs(
            "zone",
            &[("1609459200000", "1609455600000000")],
            &[(MAX, "out of range")],
        ),
    ),
    cells(
        &["Date64"],
        &["timestamp-nanos"],
        needs(
            "zone",
            &[("1609459200000", "1609455600000000000")],
            &[(MAX, "out of range")],
        ),
    ),
    cells(
        TEXT,
        &["timestamp-millis"],
        rule(
            &[
                ("2013-01-01T05:00:00Z", "1357016400000"),
                ("2013-01-01 00:00:00.250-05:00", "1357016400250"),
            ],
            &[
                ("2013-01-01 05:00:00", NO_ZONE),
                ("2013-01-01T05:00:00.0001Z", LOSS),
                ("soon", TEXT_BAD),
                (
                    "2013-02-29T00:00:00Z",
                    "not an RFC 3339 timestamp: no such day",
                ),
            ],
        ),
    ),
    cells(
        TEXT,
        &["timestamp-micros"],
        rule(
            &[("1969-12-31T23:59:59.999999Z", "-1")],
            &[("1970-01-01T00:00:00.0000001Z", LOSS), ("", TEXT_BAD)],
        ),
    ),
    cells(
        TEXT,
        &["timestamp-nanos"],
        rule(
            &[("1970-01-01T00:00:00.000000001Z", "1")],
            &[("9999-01-01T00:00:00Z", RANGE), ("1970-01-01", TEXT_BAD)],
        ),
    ),
];
