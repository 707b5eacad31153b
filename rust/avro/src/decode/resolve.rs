//! The resolved plan: for each of the writer's types what to read, and into which of the reader's columns.

use std::sync::Arc;

use super::column::Column;
use super::decimal;
use super::lists::Elements;
use super::read::{Action, DecimalRead, DefaultValue, Number, Op, Read, Step};
use super::shape::Holds;
use super::skip::Skip;
use crate::compat::relation::{FieldSource, Node, Step as Relation, step};
use crate::compat::{Incompatibility, IncompatibilityKind as Kind};
use crate::error::ResolutionError;
use crate::types::{AvroType, RecordField, RecordType, SubSecond};

/// Most pairs of types that are compared, so that no two schemas can take for ever.
const MAX_PAIRS: usize = 1_000_000;

/// Why a type can't be resolved: every reason.
type Refused = Vec<Incompatibility>;

/// What to do to read as `reader` what `writer` wrote.
pub(super) fn record(
    reader: &Arc<RecordType>,
    writer: &Arc<RecordType>,
) -> Result<Box<[Step]>, ResolutionError> {
    let (ours, theirs) = (
        AvroType::Record(Arc::clone(reader)),
        AvroType::Record(Arc::clone(writer)),
    );
    match (Resolver { pairs: 0 }).read(&ours, &theirs, "") {
        Ok(Read::Record(steps)) => Ok(steps),
        Ok(_) => Ok(Box::from([])),
        Err(reasons) => Err(ResolutionError::Incompatible {
            reader: reader.name.clone(),
            writer: writer.name.clone(),
            reasons,
        }),
    }
}

struct Resolver {
    pairs: usize,
}

impl Resolver {
    /// How a column for `reader` gets what `writer` wrote.
    fn op(&mut self, reader: &AvroType, writer: &AvroType, path: &str) -> Result<Op, Refused> {
        let AvroType::Union(branches) = writer else {
            return Ok(Op::One(self.action(reader, writer, path)?));
        };
        let mut reasons = Vec::new();
        let mut actions = Vec::with_capacity(branches.len());
        for branch in branches.iter() {
            // A branch that doesn't fit is the fault of the messages that have it.
            actions.push(self.action(reader, branch, path).unwrap_or_else(|why| {
                let text = match why.first() {
                    Some(first) => first.reason.clone(),
                    None => format!("the writer's {branch} can't be read"),
                };
                reasons.extend(why);
                Action::Refused(text)
            }));
        }
        if actions.iter().all(|a| matches!(a, Action::Refused(_))) {
            if reasons.is_empty() {
                return Err(refused(
                    path,
                    Kind::TypeMismatch,
                    "the writer's union is empty",
                ));
            }
            return Err(reasons);
        }
        if let [a, b] = actions.as_slice() {
            match (a, b) {
                (Action::Null, Action::Value(_)) => {
                    if let Some(Action::Value(read)) = actions.pop() {
                        return Ok(Op::Optional(0, read));
                    }
                }
                (Action::Value(_), Action::Null) => {
                    if let Action::Value(read) = actions.swap_remove(0) {
                        return Ok(Op::Optional(1, read));
                    }
                }
                _ => {}
            }
        }
        Ok(Op::Union(actions.into()))
    }

    /// The same for a writer's type that is no union.
    fn action(
        &mut self,
        reader: &AvroType,
        writer: &AvroType,
        path: &str,
    ) -> Result<Action, Refused> {
        let AvroType::Union(branches) = reader else {
            return Ok(match reader {
                AvroType::Null if *writer == AvroType::Null => Action::Null,
                _ => Action::Value(self.read(reader, writer, path)?),
            });
        };
        let Relation::ReaderUnion(candidates, _) = step(reader.view(), writer.view()) else {
            return Err(mismatch(reader, writer, path));
        };
        let mut reasons = Vec::new();
        for i in candidates {
            let Some(branch) = branches.get(i) else {
                continue;
            };
            if *branch == AvroType::Null {
                return Ok(Action::Null);
            }
            match self.read(branch, writer, path) {
                Err(why) => reasons.extend(why),
                Ok(read) => {
                    let Holds::Members(..) = Holds::of(reader) else {
                        return Ok(Action::Value(read));
                    };
                    let before = branches.iter().take(i);
                    let number = before.filter(|b| **b != AvroType::Null).count();
                    let op = Op::One(Action::Value(read));
                    return Ok(Action::Member(number, Box::new(op)));
                }
            }
        }
        if reasons.is_empty() {
            let reason = format!("no branch of the reader's {reader} takes the writer's {writer}");
            return Err(refused(path, Kind::UnionBranchMissing, reason));
        }
        Err(reasons)
    }

    /// How values are read, neither side being a union.
    fn read(&mut self, reader: &AvroType, writer: &AvroType, path: &str) -> Result<Read, Refused> {
        self.pairs += 1;
        if self.pairs > MAX_PAIRS {
            let reason = format!("more than {MAX_PAIRS} pairs of types, and not all were compared");
            return Err(refused(path, Kind::TooDeep, reason));
        }
        let elements = |op: Op, theirs: &AvroType| {
            let skip = Skip::new(theirs);
            Box::new(Elements {
                min_size: theirs.min_size(),
                defaults: op.defaults(),
                op,
                skip: skip.is_flat().then_some(skip),
            })
        };
        match step(reader.view(), writer.view()) {
            Relation::Refused(kind, reason) => Err(refused(path, kind, reason)),
            Relation::Leaf => leaf(reader, writer).map_err(|reason| {
                let kind = Kind::LogicalMismatch;
                refused(path, kind, reason)
            }),
            Relation::Enum(symbols, _) => {
                if symbols.iter().all(Option::is_none) {
                    let reason = format!(
                        "the reader's {reader} has no symbol of the writer's, nor a default"
                    );
                    return Err(refused(path, Kind::EnumSymbolMissing, reason));
                }
                let symbols = symbols.into_iter().map(|s| s.map(Box::from)).collect();
                Ok(Read::Symbol(symbols))
            }
            Relation::Array(ours, theirs) => {
                let op = self.op(ours, theirs, &format!("{path}[]"))?;
                Ok(Read::Array(elements(op, theirs)))
            }
            Relation::Map(ours, theirs) => {
                let op = self.op(ours, theirs, &format!("{path}{{}}"))?;
                Ok(Read::Map(elements(op, theirs)))
            }
            Relation::Record(ours, theirs, sources) => {
                let at = |name: &str| match path {
                    "" => name.to_owned(),
                    path => format!("{path}.{name}"),
                };
                let (mut reasons, mut defaults) = (Vec::new(), Vec::new());
                let fields: &[RecordField] = match reader {
                    AvroType::Record(record) => &record.fields,
                    _ => &[],
                };
                let mut reads: Vec<Vec<(usize, Op)>> = theirs.iter().map(|_| Vec::new()).collect();
                for (i, (field, source)) in ours.iter().zip(sources).enumerate() {
                    let path = at(field.name);
                    match source {
                        FieldSource::Default => {
                            let default = fields.get(i).and_then(|f| f.default.as_deref());
                            match self.default(field.ty, default.unwrap_or_default(), &path) {
                                Ok(default) => defaults.push(Step::Default(i, default)),
                                Err(why) => reasons.extend(why),
                            }
                        }
                        FieldSource::Missing => reasons.extend(refused(
                            &path,
                            Kind::MissingDefault,
                            format!("the writer's {writer} has no such field, and the reader's has no default"),
                        )),
                        FieldSource::Writer(from) => {
                            let Some((theirs, read)) = theirs.get(from).zip(reads.get_mut(from)) else {
                                continue;
                            };
                            match self.op(field.ty, theirs.ty, &path) {
                                Ok(op) => read.push((i, op)),
                                Err(why) => reasons.extend(why),
                            }
                        }
                    }
                }
                if !reasons.is_empty() {
                    return Err(reasons);
                }
                let mut steps = Vec::with_capacity(theirs.len());
                for (field, reads) in theirs.iter().zip(reads) {
                    let mut reads = reads.into_iter();
                    steps.push(match reads.next() {
                        Some((i, op)) => Step::Read(i, op),
                        None => Step::Skip(Skip::new(field.ty), at(field.name)),
                    });
                    if let Some((i, _)) = reads.next() {
                        // By aliases, two of the reader's fields are this one.
                        let name = ours.get(i).map_or("", |f| f.name);
                        let reason = format!(
                            "the writer's field {} is already another field of the reader",
                            field.name
                        );
                        return Err(refused(&at(name), Kind::NameMismatch, reason));
                    }
                }
                steps.extend(defaults);
                Ok(Read::Record(steps.into()))
            }
            // Not here: both are taken apart before.
            Relation::WriterUnion(_) | Relation::ReaderUnion(..) => {
                Err(mismatch(reader, writer, path))
            }
        }
    }
}

impl Resolver {
    /// A default is read as what a writer of the reader's own schema wrote.
    fn default(
        &mut self,
        ty: &AvroType,
        bytes: &[u8],
        path: &str,
    ) -> Result<DefaultValue, Refused> {
        let op = self.op(ty, ty, path)?;
        let no_value = |why: String| {
            let reason = format!("the reader's default is no value of its type: {why}");
            refused(path, Kind::MissingDefault, reason)
        };
        let mut scratch = Column::new(ty, path.to_owned()).map_err(|e| no_value(e.to_string()))?;
        DefaultValue::new(op, bytes, &mut scratch).map_err(|e| no_value(e.to_string()))
    }
}

fn refused(path: &str, kind: Kind, reason: impl Into<String>) -> Refused {
    vec![Incompatibility {
        path: path.to_owned(),
        kind,
        reason: reason.into(),
    }]
}

fn mismatch(reader: &AvroType, writer: &AvroType, path: &str) -> Refused {
    let reason = format!("the writer's {writer} can't be read as {reader}");
    refused(path, Kind::TypeMismatch, reason)
}

/// What a whole number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Number,
    Date,
    TimeOfDay,
    Instant,
    Local,
}

/// What a type counts, and how many of it are a second.
fn meaning(ty: &AvroType) -> (Meaning, i64) {
    match ty {
        AvroType::Date => (Meaning::Date, 1),
        AvroType::TimeMillis => (Meaning::TimeOfDay, SubSecond::Millis.per_second()),
        AvroType::TimeMicros => (Meaning::TimeOfDay, SubSecond::Micros.per_second()),
        AvroType::Timestamp(unit) => (Meaning::Instant, unit.per_second()),
        AvroType::LocalTimestamp(unit) => (Meaning::Local, unit.per_second()),
        _ => (Meaning::Number, 1),
    }
}

/// How a type without types inside is read, the underlying types being known to fit.
fn leaf(reader: &AvroType, writer: &AvroType) -> Result<Read, String> {
    use AvroType as T;
    let written_as_int = matches!(writer, T::Int | T::Date | T::TimeMillis);
    Ok(match reader {
        T::Boolean => Read::Boolean,
        T::Int
        | T::Date
        | T::TimeMillis
        | T::Long
        | T::TimeMicros
        | T::Timestamp(_)
        | T::LocalTimestamp(_) => {
            let number = number(reader, writer)?;
            let same = number.multiply == 1 && number.divide == 1 && number.day.is_none();
            match (written_as_int, same) {
                (true, true) if matches!(reader, T::Int | T::Date) => Read::Int,
                (true, _) => Read::IntAs(number),
                (false, true) => Read::Long,
                (false, false) => Read::LongAs(number),
            }
        }
        T::Float | T::Double => match writer {
            T::Float if matches!(reader, T::Float) => Read::Float,
            T::Float => Read::FloatAsDouble,
            T::Double => Read::Double,
            _ if written_as_int => Read::IntAsFloat,
            _ => Read::LongAsFloat,
        },
        T::String => Read::Text,
        T::Uuid { fixed: false } => Read::UuidText,
        T::Uuid { fixed: true } => Read::Uuid,
        T::Fixed(_) => Read::Fixed,
        T::Duration => Read::Duration,
        T::Decimal(decimal) => Read::Decimal(DecimalRead {
            fixed: decimal.fixed,
            precision: decimal.precision,
            limit: decimal::limit(decimal.precision),
        }),
        _ => Read::Bytes,
    })
}

/// Where both say what a number counts, it has to be the same, and its unit is converted.
fn number(reader: &AvroType, writer: &AvroType) -> Result<Number, String> {
    let ((ours, unit), (theirs, written)) = (meaning(reader), meaning(writer));
    let day = matches!(ours, Meaning::TimeOfDay).then(|| unit.saturating_mul(86_400));
    let said = ours != Meaning::Number && theirs != Meaning::Number;
    if said && ours != theirs {
        return Err(format!(
            "the writer's {writer} is no {reader}, though both are whole numbers"
        ));
    }
    // Units are powers of ten, so that one divides the other.
    let (multiply, divide) = match (said, unit >= written) {
        (false, _) => (1, 1),
        (true, true) => (unit / written, 1),
        (true, false) => (1, written / unit),
    };
    Ok(Number {
        multiply,
        divide,
        day,
    })
}
