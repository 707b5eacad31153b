//! What can go wrong, each naming the thing, what was expected, and the way out.

use thiserror::Error;

use crate::compat::Incompatibility;

/// Why an Avro schema was not taken.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaError {
    /// The text is not a valid Avro schema (not JSON, duplicate or unknown names, a union in a union, …).
    #[error("not a valid Avro schema: {0}")]
    Invalid(String),
    /// The schema is valid, but its top is not a record, so rows can't be made of it.
    #[error(
        "the schema's top is {found}, but rows need a record; wrap it in a record with one field"
    )]
    NotARecord {
        /// The type found at the top.
        found: String,
    },
    /// Two types of one name.
    #[error(
        "the name {name} is defined twice; rename one, or refer to the other by its name alone"
    )]
    DuplicateName {
        /// The full name.
        name: String,
    },
    /// Types nested so deeply that reading them could exhaust the stack.
    #[error("types are nested more than {limit} deep; flatten the schema")]
    TooDeep {
        /// The most levels taken.
        limit: usize,
    },
    /// Defaults that, written out, are larger than any row should be.
    #[error("the defaults take more than {limit} bytes written out; make them smaller")]
    DefaultsTooLarge {
        /// The most bytes taken.
        limit: usize,
    },
    /// A record contains itself, which no Arrow column can hold.
    #[error(
        "{name} contains itself; recursive schemas can't be columns: bound the depth by spelling out the levels"
    )]
    Recursive {
        /// Full name of the type met again inside itself.
        name: String,
    },
    /// A part of the schema that is valid Avro but is not built here.
    #[error("{path}: {what} is not supported; {way_out}")]
    Unsupported {
        /// Path of the field from the top record.
        path: String,
        /// What was met.
        what: String,
        /// What to do instead.
        way_out: &'static str,
    },
    /// A default that its field's type can't hold.
    #[error("{path}: default {value} is not a {expected}")]
    BadDefault {
        /// Path of the field from the top record.
        path: String,
        /// The default as JSON.
        value: String,
        /// The field's type.
        expected: String,
    },
    /// Named types used many times unfold to more nodes than any table has columns.
    #[error(
        "the schema unfolds to more than {limit} types; split it, or use fewer nested references"
    )]
    TooLarge {
        /// The most nodes taken.
        limit: usize,
    },
}

/// Why no plan can be made for a table and a schema.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// No value of the column's type can be the field's type.
    #[error("column {column} ({arrow}) can't become field {field} ({avro}); {way_out}")]
    Impossible {
        /// Source column.
        column: String,
        /// Avro field path.
        field: String,
        /// Arrow type.
        arrow: String,
        /// Avro type.
        avro: String,
        /// What to do.
        way_out: String,
    },
    /// An Arrow type that is not read at all.
    #[error("column {column} has type {arrow}, which is not supported; {way_out}")]
    Unsupported {
        /// Source column.
        column: String,
        /// Arrow type.
        arrow: String,
        /// The cast that helps.
        way_out: &'static str,
    },
    /// A schema field has neither a column nor a default.
    #[error(
        "field {field} has no column and no default; the columns are: {columns}. Add the column, declare `from`, or give the field a default"
    )]
    MissingColumn {
        /// Avro field path.
        field: String,
        /// The columns there are.
        columns: String,
    },
    /// Columns that no field takes, and [`crate::Extra::Refuse`] is set.
    #[error(
        "columns {columns} are not in schema {schema}; add them to it, drop them, or set extra = \"ignore\""
    )]
    ExtraColumns {
        /// The columns, comma separated.
        columns: String,
        /// Name of the record.
        schema: String,
    },
    /// More than one column fits a field.
    #[error("field {field} fits several columns: {columns}; declare `from` for it")]
    Ambiguous {
        /// Avro field path.
        field: String,
        /// The columns, comma separated.
        columns: String,
    },
    /// Two fields take one column.
    #[error(
        "column {column} is taken by fields {first} and {second}; declare `from` for one of them, or give it a column of its own"
    )]
    TakenTwice {
        /// Source column.
        column: String,
        /// Avro field path.
        first: String,
        /// Avro field path.
        second: String,
    },
    /// Naive timestamps or dates bound for an instant, with no zone declared.
    #[error(
        "column {column} ({arrow}) has no zone, and field {field} ({avro}) is an instant; declare the zone of the column (`zone = \"UTC\"`, `\"+01:00\"` or `\"Europe/Berlin\"`), or use a local-timestamp type"
    )]
    ZoneNeeded {
        /// Source column.
        column: String,
        /// Avro field path.
        field: String,
        /// Arrow type.
        arrow: String,
        /// Avro type.
        avro: String,
    },
    /// A duration bound for a number, with no unit declared.
    #[error(
        "column {column} ({arrow}) is a duration, and field {field} ({avro}) says no unit; declare it (`unit = \"ms\"`; or `s`, `us`, `ns`)"
    )]
    UnitNeeded {
        /// Source column.
        column: String,
        /// Avro field path.
        field: String,
        /// Arrow type.
        arrow: String,
        /// Avro type.
        avro: String,
    },
    /// A declared zone that is not understood.
    #[error(
        "field {field}: zone {zone:?} is not known; give \"UTC\", a fixed offset such as \"+01:00\", or a name such as \"Europe/Berlin\""
    )]
    BadZone {
        /// Avro field path.
        field: String,
        /// The zone as declared.
        zone: String,
    },
    /// A declaration for a field that has no use for it.
    #[error("field {field}: `{declaration}` has no meaning, since {why}; remove the declaration")]
    Useless {
        /// Avro field path.
        field: String,
        /// The key declared.
        declaration: &'static str,
        /// Why it has no meaning.
        why: String,
    },
    /// A rule that may reject or change values, and the mode is [`crate::Mode::Strict`].
    #[error(
        "column {column} to field {field} ({pair}) is not exact ({may}), and the mode is strict; cast the column to the field's type, or set mode = \"checked\""
    )]
    NotExact {
        /// Source column.
        column: String,
        /// Avro field path.
        field: String,
        /// Arrow type and Avro type.
        pair: String,
        /// What may happen.
        may: String,
    },
    /// A declaration for a field that the schema doesn't have.
    #[error(
        "a declaration names field {field}, which the schema doesn't have; its fields are: {fields}"
    )]
    UnknownField {
        /// The name declared.
        field: String,
        /// The fields there are.
        fields: String,
    },
    /// `from` names a column that the table doesn't have.
    #[error("field {field}: from = {from:?} is not a column; the columns are: {columns}")]
    UnknownColumn {
        /// Avro field path.
        field: String,
        /// The column declared.
        from: String,
        /// The columns there are.
        columns: String,
    },
}

/// Why a whole batch could not be encoded. A bad row is no error: it is a [`crate::Reject`].
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The batch is not of the schema that the plan was made for.
    #[error("the batch doesn't have the planned schema: {0}; make a new plan for it")]
    SchemaChanged(String),
    /// The batch has more rows than a row number (u32) can name.
    #[error("the batch has {rows} rows, more than a u32 can number; slice it")]
    TooManyRows {
        /// Rows in the batch.
        rows: usize,
    },
    /// The encoded batch would not fit into memory that can be addressed.
    #[error("the batch needs up to {bytes} bytes encoded, which can't be reserved; slice it")]
    TooLarge {
        /// Upper bound of the encoded bytes.
        bytes: usize,
    },
    /// Arrow failed on the batch (a malformed array), or an invariant of this crate did not hold.
    #[error("column {column}: {reason}")]
    Malformed {
        /// Column, or the whole batch.
        column: String,
        /// What failed.
        reason: String,
    },
}

/// Why no decoder can be made of a writer's and a reader's schema.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResolutionError {
    /// No message of the writer, or none without a value of some branch, can be read with the reader's schema.
    #[error(
        "what {writer} wrote can't be read as {reader}: {}; give new fields a default, and keep the types of the others",
        listed(reasons)
    )]
    Incompatible {
        /// Full name of the reader's record.
        reader: String,
        /// Full name of the writer's record.
        writer: String,
        /// Every reason, with its place.
        reasons: Vec<Incompatibility>,
    },
    /// The reader's schema has a type that no column is made of.
    #[error("{path}: {what} can't be decoded to Arrow; {way_out}")]
    Unsupported {
        /// Avro field path.
        path: String,
        /// Avro type.
        what: String,
        /// What to do instead.
        way_out: &'static str,
    },
}

fn listed(reasons: &[Incompatibility]) -> String {
    let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
    reasons.join("; ")
}

/// Why a message was not decoded. The decoder is as it was before the message.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message ends inside a value.
    #[error("{path}: the message ends at byte {at}, inside a value")]
    Truncated {
        /// Avro field path.
        path: String,
        /// Byte at which more was needed.
        at: usize,
    },
    /// A length or count that the rest of the message can't hold.
    #[error("{path}: length {length} at byte {at} is more than the {remaining} bytes that remain")]
    LengthTooLarge {
        /// Avro field path.
        path: String,
        /// Byte after the length.
        at: usize,
        /// The length as written.
        length: i64,
        /// Bytes left in the message.
        remaining: usize,
    },
    /// Elements of an array or a map that would take far more memory than the message has bytes.
    #[error(
        "{path}: {count} elements at byte {at} would take more memory than a message of {message} bytes may"
    )]
    TooManyElements {
        /// Avro field path.
        path: String,
        /// Byte after the count.
        at: usize,
        /// The elements of the block.
        count: usize,
        /// Bytes of the message.
        message: usize,
    },
    /// Bytes that are no value of the type.
    #[error("{path}: {reason} (at byte {at})")]
    Invalid {
        /// Avro field path.
        path: String,
        /// Byte after the value.
        at: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Bytes after the last field: the message was written with another schema.
    #[error("{extra} bytes follow the last field; the message was written with another schema")]
    TrailingBytes {
        /// Bytes left over.
        extra: usize,
    },
    /// The batch being built would outgrow Arrow's 32-bit offsets.
    #[error("{path}: the batch is full (32-bit offsets); flush it and push the message again")]
    BatchFull {
        /// Avro field path.
        path: String,
    },
    /// Arrow refused the finished columns: an invariant of this crate did not hold.
    #[error("the decoded columns don't make a batch: {0}")]
    Arrow(String),
}

/// Why bytes are not a registry-framed message.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// Fewer than five bytes.
    #[error("{length} bytes are too short for a registry frame (0x00 and a 4-byte schema id)")]
    TooShort {
        /// Length of the message.
        length: usize,
    },
    /// The first byte is not `0x00`.
    #[error("first byte is {byte:#04x}, not 0x00; the message is not registry-framed Avro")]
    BadMagic {
        /// The first byte.
        byte: u8,
    },
    /// The header that names the schema holds neither an id nor a GUID.
    #[error(
        "header {} has {length} bytes, the first {}; expected 0x01 and a 16-byte GUID, or 0x00 and a 4-byte id",
        crate::framing::VALUE_HEADER,
        first.map_or_else(|| "missing".to_owned(), |byte| format!("{byte:#04x}"))
    )]
    BadHeader {
        /// Length of the header's value.
        length: usize,
        /// Its first byte.
        first: Option<u8>,
    },
    /// Text that is no GUID.
    #[error("{text:?} is no GUID; expected 8-4-4-4-12 hexadecimal digits")]
    BadGuid {
        /// The text, its start if it is long.
        text: String,
    },
}
