//! Timestamps that clocks read, anywhere.

use crate::families::TEXT;
use crate::{Cells, cells, needs, rule};

const LOSS: &str = "would lose precision";
const RANGE: &str = "out of range of long";
const MAX: &str = "9223372036854775807";
const TEXT_BAD: &str = "not an RFC 3339 timestamp";
const HAS_ZONE: &str = "has a zone, but the field is local";

pub const TABLE: &[Cells] = &[
    cells(
        &["Timestamp(s)"],
        &["local-timestamp-millis"],
        rule(&[("5", "5000")], &[(MAX, RANGE)]),
    ),
    cells(
        &["Timestamp(s)"],
        &["local-timestamp-micros"],
        rule(&[("5", "5000000")], &[(MAX, RANGE)]),
    ),
    cells(
        &["Timestamp(s)"],
        &["local-timestamp-nanos"],
        rule(&[("5", "5000000000")], &[(MAX, RANGE)]),
    ),
    cells(
        &["Timestamp(ms)"],
        &["local-timestamp-millis"],
        rule(&[(MAX, MAX)], &[]),
    ),
    cells(
        &["Timestamp(ms)"],
        &["local-timestamp-micros"],
        rule(&[("5", "5000")], &[(MAX, RANGE)]),
    ),
    cells(
        &["Timestamp(ms)"],
        &["local-timestamp-nanos"],
        rule(&[("5", "5000000")], &[(MAX, RANGE)]),
    ),
    cells(
        &["Timestamp(us)"],
        &["local-timestamp-millis"],
        rule(&[("5000", "5")], &[("5001", LOSS)]),
    ),
    cells(
        &["Timestamp(us)"],
        &["local-timestamp-micros"],
        rule(&[(MAX, MAX)], &[]),
    ),
    cells(
        &["Timestamp(us)"],
        &["local-timestamp-nanos"],
        rule(&[("5", "5000")], &[(MAX, RANGE)]),
    ),
    cells(
        &["Timestamp(ns)"],
        &["local-timestamp-millis"],
        rule(&[("5000000", "5")], &[("1", LOSS)]),
    ),
    cells(
        &["Timestamp(ns)"],
        &["local-timestamp-micros"],
        rule(&[("5000", "5")], &[("1", LOSS)]),
    ),
    cells(
        &["Timestamp(ns)"],
        &["local-timestamp-nanos"],
        rule(&[(MAX, MAX)], &[]),
    ),
    cells(
        &["Timestamp(s, zone)"],
        &["local-timestamp-millis"],
        needs(
            "zone",
            &[
                ("1609455600", "1609459200000"),
                ("1635640200", "1635647400000"),
            ],
            &[(MAX, "out of range")],
        ),
    ),
    cells(
        &["Timestamp(s, zone)"],
        &["local-timestamp-micros"],
        needs(
            "zone",
            &[("1609455600", "1609459200000000")],
            &[(MAX, "out of range")],
        ),
    ),
    cells(
        &["Timestamp(s, zone)"],
        &["local-timestamp-nanos"],
        needs(
            "zone",
            &[("1609455600", "1609459200000000000")],
            &[("9223372037", RANGE)],
        ),
    ),
    cells(
        &["Timestamp(ms, zone)"],
        &["local-timestamp-millis"],
        needs(
            "zone",
            &[("1609455600001", "1609459200001")],
            &[(MAX, "out of range")],
        ),
    ),
    cells(
        &["Timestamp(ms, zone)"],
        &["local-timestamp-micros"],
        needs(
            "zone",
            &[("1609455600001", "1609459200001000")],
            &[(MAX, "out of range")],
        ),
    ),
    cells(
        &["Timestamp(ms, zone)"],
        &["local-timestamp-nanos"],
        needs(
            "zone",
            &[("1609455600001", "1609459200001000000")],
            &[(MAX, "out of range")],
        ),
    ),
    cells(
        &["Timestamp(us, zone)"],
        &["local-timestamp-millis"],
        needs(
            "zone",
            &[("1609455600001000", "1609459200001")],
            &[("1609455600000001", LOSS)],
        ),
    ),
    cells(
        &["Timestamp(us, zone)"],
        &["local-timestamp-micros"],
        needs(
            "zone",
            &[("1609455600000001", "1609459200000001")],
            &[(MAX, "out of range")],
        ),
    ),
    cells(
        &["Timestamp(us, zone)"],
        &["local-timestamp-nanos"],
        needs(
            "zone",
            &[("1609455600000001", "1609459200000001000")],
            &[(MAX, "out of range")],
        ),
    ),
    cells(
        &["Timestamp(ns, zone)"],
        &["local-timestamp-millis"],
        needs(
            "zone",
            &[("1609455600001000000", "1609459200001")],
            &[("1609455600000000001", LOSS)],
        ),
    ),
    cells(
        &["Timestamp(ns, zone)"],
        &["local-timestamp-micros"],
        needs(
            "zone",
            &[("1609455600000001000", "1609459200000001")],
            &[("1609455600000000001", LOSS)],
        ),
    ),
    cells(
        &["Timestamp(ns, zone)"],
        &["local-timestamp-nanos"],
        needs(
            "zone",
            &[("1609455600000000001", "1609459200000000001")],
            &[(MAX, RANGE)],
        ),
    ),
    cells(
        &["Date32"],
        &["local-timestamp-millis"],
        rule(
            &[("2147483647", "185542587100800000"), ("-1", "-86400000")],
            &[],
        ),
    ),
    cells(
        &["Date32"],
        &["local-timestamp-micros"],
        rule(&[("1", "86400000000")], &[("2147483647", RANGE)]),
    ),
    cells(
        &["Date32"],
        &["local-timestamp-nanos"],
        rule(&[("1", "86400000000000")], &[("200000", RANGE)]),
    ),
    cells(
        &["Date64"],
        &["local-timestamp-millis"],
        rule(&[(MAX, MAX)], &[]),
    ),
    cells(
        &["Date64"],
        &["local-timestamp-micros"],
        rule(&[("5", "5000")], &[(MAX, RANGE)]),
    ),
    cells(
        &["Date64"],
        &["local-timestamp-nanos"],
        rule(&[("5", "5000000")], &[(MAX, RANGE)]),
    ),
    cells(
        TEXT,
        &["local-timestamp-millis"],
        rule(
            &[("2013-01-01 05:00:00.0", "1357016400000")],
            &[
                ("2013-01-01T05:00:00Z", HAS_ZONE),
                ("2013-01-01 05:00:00.0001", LOSS),
                ("", TEXT_BAD),
            ],
        ),
    ),
    cells(
        TEXT,
        &["local-timestamp-micros"],
        rule(
            &[("1970-01-01T00:00:00.000001", "1")],
            &[("1970-01-01T00:00:00+01:00", HAS_ZONE), ("now", TEXT_BAD)],
        ),
    ),
    cells(
        TEXT,
        &["local-timestamp-nanos"],
        rule(
            &[("1970-01-01T00:00:00.000000001", "1")],
            &[
                ("9999-01-01T00:00:00", RANGE),
                ("1970-01-01T00:00:00Z", HAS_ZONE),
            ],
        ),
    ),
];
