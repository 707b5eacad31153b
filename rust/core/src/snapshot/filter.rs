//! `source.filter`: which rows of the source are replayed. A list of conditions that all must hold, or a list of such
//! lists of which one must, as pyarrow and pandas write it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A filter, as it was checked: one of the groups must hold, and of that all conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filter(pub Vec<Vec<Condition>>);

/// A column compared with a value. What is null compares as false, also with `!=` and `not in`, as in SQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    pub column: String,
    pub test: Test,
}

/// What a condition asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    Compare(Op, Literal),
    In(Vec<Literal>),
    NotIn(Vec<Literal>),
    IsNull,
    IsNotNull,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value of the job file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Literal {
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Also dates, times and decimals.
    Text(String),
}

const OPS: &str = "=, ==, !=, <, <=, >, >=, in, not in, is null, is not null";

impl Filter {
    /// Reads what the job file says.
    ///
    /// # Errors
    /// What is wrong, with the condition it is in.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let expected = || {
            format!(
                "{value}: expected [[column, op, value], …], or a list of such lists of which one must hold"
            )
        };
        let items = value.as_array().filter(|items| !items.is_empty());
        let items = items.ok_or_else(expected)?;
        let is_condition = |item: &Value| item.get(0).is_some_and(Value::is_string);
        if items.iter().all(is_condition) {
            return Ok(Self(vec![conditions(items)?]));
        }
        let groups = items.iter().map(|group| match group.as_array() {
            Some(group) if !group.is_empty() && group.iter().all(is_condition) => conditions(group),
            _ => Err(expected()),
        });
        Ok(Self(groups.collect::<Result<_, _>>()?))
    }

    /// The columns that it names, each once.
    pub fn columns(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.conditions().map(|c| c.column.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.0.iter().flatten()
    }
}

fn conditions(items: &[Value]) -> Result<Vec<Condition>, String> {
    items.iter().map(condition).collect()
}

fn condition(item: &Value) -> Result<Condition, String> {
    let wrong = |why: &str| format!("{item}: {why}");
    let parts = item.as_array().map(Vec::as_slice).unwrap_or_default();
    let (column, op, value) = match parts {
        [Value::String(column), Value::String(op)] => (column, op, None),
        [Value::String(column), Value::String(op), value] => (column, op, Some(value)),
        _ => return Err(wrong("expected [column, op, value]")),
    };
    let words: Vec<String> = op.split_whitespace().map(str::to_lowercase).collect();
    let one = || match value {
        Some(value) => literal(value).map_err(|why| wrong(&why)),
        None => Err(wrong("expected a value after the operator")),
    };
    let several = || match value {
        Some(Value::Array(values)) if !values.is_empty() => {
            let values = values.iter().map(literal);
            values
                .collect::<Result<Vec<_>, _>>()
                .map_err(|why| wrong(&why))
        }
        _ => Err(wrong("expected a list of values after the operator")),
    };
    let compare = |op: Op| Ok::<_, String>(Test::Compare(op, one()?));
    let test = match words.join(" ").as_str() {
        "=" | "==" => compare(Op::Equal)?,
        "!=" => compare(Op::Unequal)?,
        "<" => compare(Op::Less)?,
        "<=" => compare(Op::LessOrEqual)?,
        ">" => compare(Op::Greater)?,
        ">=" => compare(Op::GreaterOrEqual)?,
        "in" => Test::In(several()?),
        "not in" => Test::NotIn(several()?),
        "is null" | "is not null" if value.is_some() => {
            return Err(wrong("expected no value after the operator"));
        }
        "is null" => Test::IsNull,
        "is not null" => Test::IsNotNull,
        _ => {
            return Err(wrong(&format!(
                "unknown operator {op:?}; expected one of {OPS}"
            )));
        }
    };
    Ok(Condition {
        column: column.clone(),
        test,
    })
}

fn literal(value: &Value) -> Result<Literal, String> {
    match value {
        Value::Bool(value) => Ok(Literal::Bool(*value)),
        Value::String(value) => Ok(Literal::Text(value.clone())),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Ok(Literal::Int(int)),
            (None, Some(float)) => Ok(Literal::Float(float)),
            (None, None) => Err(format!("{number} is no number that can be compared")),
        },
        Value::Null => Err("null compares with nothing; expected `is null`".into()),
        // What a TOML date becomes on its way here is a text; anything else is no value.
        Value::Array(_) | Value::Object(_) => Err(format!(
            "{value} is no value; expected a text, a number, true or false"
        )),
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(value) => write!(f, "{value:?}"),
        }
    }
}

impl Condition {
    /// Whether a value that is the same in a whole file passes: a Hive folder's, or one of a plan. `None` is null.
    ///
    /// # Errors
    /// Says which value of the filter can't be compared with it.
    pub fn passes(&self, folder: Option<&str>) -> Result<bool, String> {
        let Some(folder) = folder else {
            return Ok(self.test == Test::IsNull);
        };
        let any = |values: &[Literal]| -> Result<bool, String> {
            for value in values {
                if self
                    .order(folder, value)?
                    .is_some_and(std::cmp::Ordering::is_eq)
                {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        Ok(match &self.test {
            Test::IsNull => false,
            Test::IsNotNull => true,
            Test::In(values) => any(values)?,
            Test::NotIn(values) => !any(values)?,
            Test::Compare(op, value) => {
                let order = self.order(folder, value)?;
                order.is_some_and(|order| op.holds(order))
            }
        })
    }

    /// A folder's value is text; what it is compared with says what it means.
    fn order(&self, folder: &str, value: &Literal) -> Result<Option<std::cmp::Ordering>, String> {
        let no = |expected: &str| {
            format!(
                "source.filter compares {:?} with {value}, {expected}, and a folder has {:?}",
                self.column, folder
            )
        };
        Ok(match value {
            Literal::Text(text) => Some(folder.cmp(text.as_str())),
            Literal::Int(int) => {
                let folder: i64 = folder.parse().map_err(|_| no("a whole number"))?;
                Some(folder.cmp(int))
            }
            Literal::Float(float) => {
                let folder: f64 = folder.parse().map_err(|_| no("a number"))?;
                folder.partial_cmp(float)
            }
            Literal::Bool(bool) => {
                let folder: bool = folder.parse().map_err(|_| no("true or false"))?;
                Some(folder.cmp(bool))
            }
        })
    }
}

impl Op {
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}
