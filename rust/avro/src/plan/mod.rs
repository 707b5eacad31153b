//! The coercion plan: one rule a column, resolved once for a pair of schemas.

mod refusals;
mod resolve;
mod rules;

pub(crate) use rules::is_text;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, Schema};
use serde::{Deserialize, Serialize};

use crate::error::PlanError;
use crate::schema::AvroSchema;
use crate::types::{DecimalType, EnumType, SubSecond};

/// What to do with columns that no field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extra {
    /// Refuse the plan, naming them (the default).
    #[default]
    Refuse,
    /// Leave them out.
    Ignore,
}

/// What a job says about one field. Fields in nested records are declared by path (`order.created`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FieldDeclaration {
    /// Source column, if it is named otherwise.
    pub from: Option<String>,
    /// Zone of naive timestamps, Arrow or text: `UTC` or a fixed offset such as `+01:00`.
    pub zone: Option<String>,
}

/// How a plan is made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanOptions {
    /// What to do with columns that no field takes.
    pub extra: Extra,
    /// Declarations by field name (a path in nested records).
    pub fields: BTreeMap<String, FieldDeclaration>,
}

/// Whether a rule can reject a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// No value can fail.
    Exact,
    /// Some values are rejected.
    Checked,
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
    /// Exact, checked, or default.
    pub rule: Certainty,
    /// What may be rejected; empty for exact rules.
    pub may_reject: Vec<String>,
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
    /// zone that is needed, a declaration that fits nothing.
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
    /// Any number to int.
    Int,
    /// Any number to long.
    Long,
    Float,
    Double,
    Text,
    Bytes,
    /// Exactly this many bytes.
    Fixed(usize),
    Enum(Arc<EnumType>),
    /// Text or 16 bytes to a uuid, over a fixed or as text.
    Uuid {
        fixed: bool,
    },
    /// A struct of months, days and milliseconds to a duration.
    DurationParts,
    /// An Arrow duration to the milliseconds of a duration.
    DurationMillis,
    Decimal(DecimalType),
    Date,
    TimeMillis,
    TimeMicros,
    /// An Arrow timestamp; `offset` seconds are taken away.
    Timestamp {
        unit: SubSecond,
        offset: i64,
    },
    /// Text to a timestamp.
    TimestampText {
        unit: SubSecond,
        zone: TextZone,
    },
    Array(Box<Node>),
    Map(Box<Node>, Box<Node>),
    Record(Vec<Child>),
}

/// What a timestamp as text must say about its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextZone {
    /// It must carry one.
    Required,
    /// Without one, it is this many seconds east of UTC.
    Assumed(i64),
    /// It must not carry one (local-timestamp).
    Refused,
}
