//! What a job says about a plan: the mode, and declarations by field.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to do with columns that no field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Extra {
    /// Refuse the plan, naming them (the default).
    #[default]
    Refuse,
    /// Leave them out.
    Ignore,
}

/// Which rules a plan may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Exact and checked rules: a value that can't be what the schema says rejects its row (the default).
    #[default]
    Checked,
    /// Exact rules only: the plan is refused if any value could be rejected or changed.
    Strict,
}

/// How a value is made to fit that would lose precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lossy {
    /// To the nearest; a half goes away from zero, of a time to the later.
    Round,
    /// What is too fine is cut off: numbers go towards zero, times to the earlier.
    Truncate,
}

impl Lossy {
    /// A float without what is behind the point.
    pub(crate) fn whole(self, v: f64) -> f64 {
        match self {
            Self::Round => v.round(),
            Self::Truncate => v.trunc(),
        }
    }
}

/// What `NaN` is taken as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NanAs {
    /// Null.
    Null,
}

/// What null is taken as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NullAs {
    /// The schema's default of the field.
    Default,
}

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl Unit {
    pub(crate) const fn per_second(self) -> i64 {
        match self {
            Self::S => 1,
            Self::Ms => 1_000,
            Self::Us => 1_000_000,
            Self::Ns => 1_000_000_000,
        }
    }
}

/// What a job says about one field. Fields in nested records are declared by path (`order.created`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FieldDeclaration {
    /// The source column, if it is named otherwise.
    pub from: Option<String>,
    /// The zone of naive timestamps and dates (`UTC`, `+01:00` or `Europe/Berlin`), without which no instant is made of
    /// them; for a local timestamp made of an instant, the zone in which it is read.
    pub zone: Option<String>,
    /// The unit in which a duration becomes an int or a long.
    pub unit: Option<Unit>,
    /// What a float that is NaN is taken as; absent, as NaN.
    pub nan: Option<NanAs>,
    /// What a null is taken as; absent, as null.
    pub null: Option<NullAs>,
    /// What is done with values that are finer than the field; absent, they are rejected.
    pub lossy: Option<Lossy>,
}

/// How a plan is made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanOptions {
    /// Which rules the plan may hold.
    pub mode: Mode,
    /// What to do with columns that no field takes.
    pub extra: Extra,
    /// Declarations by field name (a path in nested records).
    pub fields: BTreeMap<String, FieldDeclaration>,
}
