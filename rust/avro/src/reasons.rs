//! Why a row is rejected: what a plan lists beforehand is how the reject's reason begins.

pub(crate) const NULL: &str = "null where the schema requires a value";
pub(crate) const NAN: &str = "NaN";
pub(crate) const INFINITE: &str = "infinite";
pub(crate) const NUMBER: &str = "not a number";
pub(crate) const DECIMAL: &str = "not a decimal number";
pub(crate) const WHOLE: &str = "not a whole number";
pub(crate) const BIT: &str = "neither 0 nor 1";
pub(crate) const BOOLEAN: &str = "not a boolean";
pub(crate) const PRECISION: &str = "would lose precision";
pub(crate) const NO_FLOAT: &str = "not exactly representable as float";
pub(crate) const NO_DOUBLE: &str = "not exactly representable as double";
pub(crate) const UTF8: &str = "not UTF-8";
pub(crate) const UUID: &str = "not a uuid";

pub(crate) const INT: &str = "out of range of int";
pub(crate) const LONG: &str = "out of range of long";
pub(crate) const FLOAT: &str = "out of range of float";
pub(crate) const DOUBLE: &str = "out of range of double";
pub(crate) const OF_DECIMAL: &str = "out of range of the decimal";
pub(crate) const OF_DATE: &str = "out of range of date";
pub(crate) const OF_DURATION: &str = "out of range of duration";
pub(crate) const OF_CALENDAR: &str = "out of range of the calendar";

pub(crate) const NO_DAY: &str = "not a whole day";
pub(crate) const DATE: &str = "not a date";
pub(crate) const TIME: &str = "not a time of day";
pub(crate) const TIMESTAMP: &str = "not an RFC 3339 timestamp";
pub(crate) const NO_ZONE: &str = "no zone in the text and none declared";
pub(crate) const A_ZONE: &str = "has a zone, but the field is local";
pub(crate) const TWICE: &str = "ambiguous local time";
pub(crate) const NEVER: &str = "non-existent local time";
pub(crate) const NEGATIVE: &str = "negative";
pub(crate) const NO_PART: &str = "a part of the duration is null";

pub(crate) const SEVERAL: &str = "more than one member holds a value";
pub(crate) const NO_MEMBER: &str = "no member holds a value";
pub(crate) const KEY_TWICE: &str = "a key of the map is there twice";

pub(crate) fn symbol(of: &str) -> String {
    format!("not a symbol of enum {of}")
}

pub(crate) fn of_size(bytes: usize) -> String {
    format!("not {bytes} bytes long")
}
