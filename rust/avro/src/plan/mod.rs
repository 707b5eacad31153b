//! The coercion plan: one rule a column, resolved once for a pair of schemas.

mod members;
mod options;
mod refusals;
mod resolve;
mod rules;
mod scalars;
mod times;

use std::sync::Arc;

use arrow_schema::{DataType, Schema};
use serde::{Deserialize, Serialize};

pub use options::{Extra, FieldDeclaration, Lossy, Mode, NanAs, NullAs, PlanOptions, Unit};
pub(crate) use rules::is_text;

use crate::error::PlanError;
use crate::schema::AvroSchema;
use crate::temporal::Zone;
use crate::types::{DecimalType, EnumType, SubSecond};

/// Whether a rule can reject a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// No value can fail.
    Exact,
    /// Some values are rejected.
    Checked,
    /// No value can fail, and some are changed as the field declares (`lossy`, `nan`, `null`).
    Lossy,
    /// No column: the schema's default is written.
    Default,
}

/// One line of a plan, for people: a field, where its values come from, and what may be rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanRow {
    /// Source column (a path in nested columns); `None` when the schema's default is written.
    pub column: Option<String>,
    /// Avro field path.
    pub field: String,
    /// Arrow type, empty when there is no column.
    pub arrow_type: String,
    /// Avro type.
    pub avro_type: String,
    /// Exact, checked, lossy, or default.
    pub rule: Certainty,
    /// What may be rejected; empty for exact rules.
    pub may_reject: Vec<String>,
    /// The declarations that the rule follows, as in a job file (`zone = "UTC"`).
    pub declared: Vec<String>,
}

/// How batches of one Arrow schema become rows of one Avro schema. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CoercionPlan {
    pub(crate) inner: Arc<PlanInner>,
}

#[derive(Debug)]
pub(crate) struct PlanInner {
    pub(crate) record: Vec<Child>,
    /// Name and type of every column of the batches, by position.
    pub(crate) columns: Vec<(String, DataType)>,
    rows: Vec<PlanRow>,
}

impl CoercionPlan {
    /// Resolves every field of the Avro schema to a column and a rule.
    ///
    /// # Errors
    /// [`PlanError`] for the first thing that can't be: an impossible pair, a missing, extra or ambiguous column, a
    /// zone or a unit that is needed, a declaration that fits nothing, a rule that is not exact where all must be.
    pub fn new(
        arrow: &Schema,
        avro: &AvroSchema,
        options: &PlanOptions,
    ) -> Result<Self, PlanError> {
        let (record, rows) = resolve::record(arrow.fields(), avro.record(), options)?;
        let columns = arrow
            .fields()
            .iter()
            .map(|f| (f.name().clone(), f.data_type().clone()))
            .collect();
        Ok(Self {
            inner: Arc::new(PlanInner {
                record,
                columns,
                rows,
            }),
        })
    }

    /// The plan as a table, in the order of the schema's fields, nested fields after their parents.
    #[must_use]
    pub fn describe(&self) -> Vec<PlanRow> {
        self.inner.rows.clone()
    }
}

/// How a value is marked as a branch of a union.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Branch {
    /// The type is no union: nothing is written before a value, and null is a reject.
    Bare,
    /// Branch numbers, already encoded as their one byte.
    Union {
        /// The null branch, if there is one.
        null: Option<u8>,
        /// The branch of the values.
        value: u8,
    },
}

/// A place in the plan: what to do with one (possibly nested) column.
#[derive(Debug)]
pub(crate) struct Node {
    /// Source column path, for rejects.
    pub(crate) path: String,
    pub(crate) branch: Branch,
    pub(crate) rule: Rule,
    /// Floats that are NaN are nulls.
    pub(crate) nan_is_null: bool,
    /// What is written for a null, encoded, if it is declared.
    pub(crate) null: Option<Arc<[u8]>>,
}

/// A field of a record.
#[derive(Debug)]
pub(crate) enum Child {
    /// From the column (or struct child) at this position.
    Column(usize, Node),
    /// The schema's default, encoded.
    Default(Arc<[u8]>),
}

/// What is made of a column. The Arrow type is looked at once a batch, by the gate.
#[derive(Debug)]
pub(crate) enum Rule {
    /// Null, where null is the type.
    Null,
    /// Null, where a value is required: every row is rejected.
    NoValue,
    Boolean,
    /// Any number, or text, to int.
    Int(Option<Lossy>),
    /// Any number, or text, to long.
    Long(Option<Lossy>),
    /// Any number, or text, to float; and whether the nearest will do.
    Float(bool),
    /// The same to double.
    Double(bool),
    Text,
    Bytes,
    /// Exactly this many bytes.
    Fixed(usize),
    Enum(Arc<EnumType>),
    /// Text or 16 bytes to a uuid, over a fixed or as text.
    Uuid {
        fixed: bool,
    },
    Decimal(DecimalType, Option<Lossy>),
    /// A struct of months, days and milliseconds to a duration.
    DurationParts,
    /// An Arrow duration to the milliseconds of a duration.
    DurationMillis(Option<Lossy>),
    /// An Arrow duration to a number of units.
    DurationCount {
        long: bool,
        unit: Unit,
        lossy: Option<Lossy>,
    },
    Date(Option<Lossy>),
    TimeMillis(Option<Lossy>),
    TimeMicros(Option<Lossy>),
    /// An Arrow timestamp or date.
    Timestamp {
        unit: SubSecond,
        shift: Shift,
        lossy: Option<Lossy>,
    },
    /// Text to a timestamp.
    TimestampText {
        unit: SubSecond,
        zone: TextZone,
        lossy: Option<Lossy>,
    },
    Array(Box<Node>),
    Map(Box<Node>, Box<Node>),
    Record(Vec<Child>),
    /// A struct of `member0`, `member1`, … to a union, with the byte of its null branch.
    Members(Vec<Node>, Option<u8>),
}

/// Between an instant and what a clock reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shift {
    None,
    /// The column is read by clocks of this zone, and the field is an instant.
    ToInstant(Zone),
    /// The column is an instant, and the field what clocks of this zone read.
    ToLocal(Zone),
}

/// What a timestamp as text must say about its zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TextZone {
    /// It must carry one.
    Required,
    /// Without one, it is read by clocks of this zone.
    Assumed(Zone),
    /// It must not carry one (local-timestamp).
    Refused,
}
