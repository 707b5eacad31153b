//! Arrow types that the rules treat alike, by their names in the matrix.

/// Strings.
pub const TEXT: &[&str] = &["Utf8", "LargeUtf8", "Utf8View", "Dictionary of Utf8"];

/// Bytes of any length.
pub const BINARY: &[&str] = &["Binary", "LargeBinary", "BinaryView"];

/// Bytes of one length.
pub const FIXED: &[&str] = &[
    "FixedSizeBinary(3)",
    "FixedSizeBinary(12)",
    "FixedSizeBinary(16)",
];

/// What is a number.
pub const NUMBERS: &[&str] = &[
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

/// Times of day.
pub const CLOCKS: &[&str] = &["Time32(s)", "Time32(ms)", "Time64(us)", "Time64(ns)"];

/// Timestamps without a zone.
pub const NAIVE: &[&str] = &[
    "Timestamp(s)",
    "Timestamp(ms)",
    "Timestamp(us)",
    "Timestamp(ns)",
];

/// Timestamps with one.
pub const INSTANTS: &[&str] = &[
    "Timestamp(s, zone)",
    "Timestamp(ms, zone)",
    "Timestamp(us, zone)",
    "Timestamp(ns, zone)",
];

/// Lengths of time.
pub const DURATIONS: &[&str] = &[
    "Duration(s)",
    "Duration(ms)",
    "Duration(us)",
    "Duration(ns)",
];

/// Binary floating-point numbers.
pub const FLOATS: &[&str] = &["Float16", "Float32", "Float64"];

/// Bytes, of any length or of one.
pub const BYTES: &[&str] = &[
    "Binary",
    "LargeBinary",
    "BinaryView",
    "FixedSizeBinary(3)",
    "FixedSizeBinary(12)",
    "FixedSizeBinary(16)",
];

/// Dates, times of day and timestamps.
pub const DAYS: &[&str] = &[
    "Date32",
    "Date64",
    "Time32(s)",
    "Time32(ms)",
    "Time64(us)",
    "Time64(ns)",
    "Timestamp(s)",
    "Timestamp(ms)",
    "Timestamp(us)",
    "Timestamp(ns)",
    "Timestamp(s, zone)",
    "Timestamp(ms, zone)",
    "Timestamp(us, zone)",
    "Timestamp(ns, zone)",
];

/// What holds other values.
pub const NESTED: &[&str] = &[
    "List",
    "LargeList",
    "FixedSizeList",
    "Map",
    "Struct",
    "Struct of months, days, millis",
    "Struct of member0, member1",
];
