//! The rules: what becomes of a pair (Arrow type, Avro type). The one place where this is decided.

use arrow_schema::{DataType as A, FieldRef, Fields, TimeUnit};

use super::refusals::{check_supported, impossible};
use super::resolve::Resolver;
use super::{Branch, Certainty, Node, PlanRow, Rule, TextZone};
use crate::error::PlanError;
use crate::temporal::fixed_offset;
use crate::types::{AvroType as V, DecimalType, SubSecond};

/// Where a pair was met.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) column: String,
    pub(super) field: String,
    pub(super) zone: Option<String>,
    /// Whether the Arrow field may hold nulls.
    pub(super) nullable: bool,
}

/// A rule and what it may reject: nothing means that it is exact.
type Ruling = (Rule, Vec<String>);

const NULL: &str = "null where the schema requires a value";
const WHOLE: &str = "not a whole number";
const NAN: &str = "NaN or infinite";
const PRECISION: &str = "would lose precision";

/// Resolves one column to one type, unions included, and describes it in `rows`.
pub(super) fn node(
    resolver: &mut Resolver<'_>,
    arrow: &A,
    avro: &V,
    place: &Place,
    rows: &mut Vec<PlanRow>,
) -> Result<Node, PlanError> {
    check_supported(arrow, place)?;
    let at = rows.len();
    let mut nested = Vec::new();
    let (branch, rule, mut may_reject) = match avro {
        V::Union(branches) => {
            let null = branches.iter().position(|b| *b == V::Null);
            let (value, rule, may_reject) =
                choose(resolver, arrow, avro, branches, place, &mut nested)?;
            (
                Branch::Union {
                    null: null.map(number),
                    value: number(value),
                },
                rule,
                may_reject,
            )
        }
        _ => {
            let (rule, may_reject) = self::rule(resolver, arrow, avro, place, &mut nested)?;
            (Branch::Bare, rule, may_reject)
        }
    };
    if place.nullable && !avro.is_nullable() && may_reject.first().is_none_or(|r| r != NULL) {
        may_reject.insert(0, NULL.to_owned());
    }
    rows.push(PlanRow {
        column: Some(place.column.clone()),
        field: place.field.clone(),
        arrow_type: arrow.to_string(),
        avro_type: avro.to_string(),
        rule: if may_reject.is_empty() {
            Certainty::Exact
        } else {
            Certainty::Checked
        },
        may_reject,
    });
    debug_assert_eq!(rows.len(), at + 1);
    rows.append(&mut nested);
    Ok(Node {
        path: place.column.clone(),
        branch,
        rule,
    })
}

/// A branch number as its byte on the wire; unions of more than 64 branches are refused when a schema is parsed.
fn number(index: usize) -> u8 {
    debug_assert!(index < crate::schema::MAX_UNION_BRANCHES);
    (index as u8) << 1
}

/// The branch for a column: the first that fits exactly, else the first that fits with checks.
fn choose(
    resolver: &mut Resolver<'_>,
    arrow: &A,
    avro: &V,
    branches: &[V],
    place: &Place,
    nested: &mut Vec<PlanRow>,
) -> Result<(usize, Rule, Vec<String>), PlanError> {
    let mut best: Option<(usize, Ruling, Vec<PlanRow>)> = None;
    let mut refusal = None;
    for (index, branch) in branches.iter().enumerate() {
        if (*branch == V::Null) != (*arrow == A::Null) {
            continue;
        }
        let mut rows = Vec::new();
        match rule(resolver, arrow, branch, place, &mut rows) {
            Ok((rule, may_reject)) => {
                let exact =
                    may_reject.is_empty() && rows.iter().all(|row| row.rule != Certainty::Checked);
                if best.is_none() || exact {
                    best = Some((index, (rule, may_reject), rows));
                }
                if exact {
                    break;
                }
            }
            // The way out for the one type beside null is the best there is to say.
            Err(error) => {
                refusal.get_or_insert(error);
            }
        }
    }
    match (best, refusal) {
        (Some((index, (rule, may_reject), rows)), _) => {
            nested.extend(rows);
            Ok((index, rule, may_reject))
        }
        (None, Some(error)) => Err(error),
        (None, None) => Err(impossible(arrow, avro, place)),
    }
}

fn rule(
    resolver: &mut Resolver<'_>,
    arrow: &A,
    avro: &V,
    place: &Place,
    rows: &mut Vec<PlanRow>,
) -> Result<Ruling, PlanError> {
    check_supported(arrow, place)?;
    if let A::Dictionary(_, values) = arrow {
        return rule(resolver, values, avro, place, rows);
    }
    if place.zone.is_some() && !matches!(avro, V::Timestamp(_) | V::Array(_) | V::Map(_)) {
        return Err(PlanError::UselessZone {
            field: place.field.clone(),
            avro: avro.to_string(),
        });
    }
    let checked =
        |rule, reasons: &[&str]| Ok((rule, reasons.iter().map(|r| (*r).to_owned()).collect()));
    let exact = |rule| Ok((rule, Vec::new()));
    match (avro, arrow) {
        (V::Null, A::Null) => exact(Rule::Null),
        // A column that is all null: every row of a required field will be rejected, which is the truth about it.
        (_, A::Null) => checked(Rule::NoValue, &[NULL]),
        (V::Boolean, A::Boolean) => exact(Rule::Boolean),

        (V::Int, A::Int8 | A::Int16 | A::Int32 | A::UInt8 | A::UInt16) => exact(Rule::Int),
        (V::Int, A::Int64 | A::UInt32 | A::UInt64) => checked(Rule::Int, &["out of range of int"]),
        (V::Int, a) if a.is_floating() => checked(Rule::Int, &[WHOLE, NAN, "out of range of int"]),
        (V::Int, a) if a.is_decimal() => checked(Rule::Int, &[WHOLE, "out of range of int"]),
        (V::Long, A::UInt64) => checked(Rule::Long, &["out of range of long"]),
        (V::Long, a) if a.is_integer() => exact(Rule::Long),
        (V::Long, a) if a.is_floating() => {
            checked(Rule::Long, &[WHOLE, NAN, "out of range of long"])
        }
        (V::Long, a) if a.is_decimal() => checked(Rule::Long, &[WHOLE, "out of range of long"]),

        (V::Float, A::Int8 | A::Int16 | A::UInt8 | A::UInt16 | A::Float16 | A::Float32) => {
            exact(Rule::Float)
        }
        (V::Float, A::Float64) => checked(Rule::Float, &["not exactly representable as float"]),
        (V::Float, a) if a.is_integer() => {
            checked(Rule::Float, &["not exactly representable as float"])
        }
        (V::Double, A::Int64 | A::UInt64) => {
            checked(Rule::Double, &["not exactly representable as double"])
        }
        (V::Double, a) if a.is_integer() || a.is_floating() => exact(Rule::Double),

        (V::String, A::Utf8 | A::LargeUtf8 | A::Utf8View) => exact(Rule::Text),
        (V::String, A::Binary | A::LargeBinary | A::BinaryView) => {
            checked(Rule::Text, &["not UTF-8"])
        }
        (V::Bytes, a) if is_text(a) || is_bytes(a) => exact(Rule::Bytes),
        (V::Fixed(fixed), A::FixedSizeBinary(size)) if usize::try_from(*size) == Ok(fixed.size) => {
            exact(Rule::Fixed(fixed.size))
        }
        (V::Fixed(fixed), A::Binary | A::LargeBinary | A::BinaryView) => Ok((
            Rule::Fixed(fixed.size),
            vec![format!("not {} bytes long", fixed.size)],
        )),
        (V::Enum(e), a) if is_text(a) => {
            checked(Rule::Enum(e.clone()), &["not a symbol of the enum"])
        }
        (V::Uuid { fixed }, a) if is_text(a) => {
            checked(Rule::Uuid { fixed: *fixed }, &["not a uuid"])
        }
        (V::Uuid { fixed }, A::FixedSizeBinary(16)) => exact(Rule::Uuid { fixed: *fixed }),
        (V::Uuid { fixed }, A::Binary | A::LargeBinary | A::BinaryView) => {
            checked(Rule::Uuid { fixed: *fixed }, &["not 16 bytes long"])
        }

        (V::Duration, A::Struct(parts)) if is_duration(parts) => {
            if parts.iter().any(|part| part.is_nullable()) {
                checked(Rule::DurationParts, &["a part of the duration is null"])
            } else {
                exact(Rule::DurationParts)
            }
        }
        (V::Duration, A::Duration(unit)) => {
            let finer = matches!(unit, TimeUnit::Microsecond | TimeUnit::Nanosecond);
            let mut reasons = vec!["negative", "out of range of duration"];
            reasons.extend(finer.then_some(PRECISION));
            checked(Rule::DurationMillis, &reasons)
        }
        (V::Duration, A::FixedSizeBinary(12)) => exact(Rule::Fixed(12)),
        (V::Duration, A::Binary | A::LargeBinary | A::BinaryView) => {
            checked(Rule::Fixed(12), &["not 12 bytes long"])
        }

        (V::Decimal(d), a) if a.is_decimal() => decimal(*d, a),
        (V::Decimal(d), a) if a.is_integer() => decimal(*d, a),
        (V::Decimal(d), a) if is_text(a) => Ok((
            Rule::Decimal(*d),
            vec![
                "not a decimal number".to_owned(),
                PRECISION.to_owned(),
                out_of_range(avro),
            ],
        )),

        (V::Date, A::Date32) => exact(Rule::Date),
        (V::Date, A::Date64) => checked(Rule::Date, &["not a whole day", "out of range of date"]),
        (V::TimeMillis, A::Time32(_)) => checked(Rule::TimeMillis, &["not a time of day"]),
        (V::TimeMillis, A::Time64(_)) => {
            checked(Rule::TimeMillis, &["not a time of day", PRECISION])
        }
        (V::TimeMicros, A::Time64(TimeUnit::Nanosecond)) => {
            checked(Rule::TimeMicros, &["not a time of day", PRECISION])
        }
        (V::TimeMicros, A::Time32(_) | A::Time64(_)) => {
            checked(Rule::TimeMicros, &["not a time of day"])
        }

        (V::Timestamp(unit), A::Timestamp(from, zone)) => {
            let declared = offset(place)?;
            let offset = match (zone, declared) {
                (Some(_), _) => 0,
                (None, Some(offset)) => offset,
                (None, None) => {
                    return Err(PlanError::ZoneNeeded {
                        column: place.column.clone(),
                        field: place.field.clone(),
                        arrow: arrow.to_string(),
                        avro: avro.to_string(),
                    });
                }
            };
            Ok((
                Rule::Timestamp {
                    unit: *unit,
                    offset,
                },
                timestamp_rejects(*from, *unit, offset),
            ))
        }
        (V::LocalTimestamp(unit), A::Timestamp(from, None)) => Ok((
            Rule::Timestamp {
                unit: *unit,
                offset: 0,
            },
            timestamp_rejects(*from, *unit, 0),
        )),
        (V::Timestamp(unit), a) if is_text(a) => {
            let (zone, without) = match offset(place)? {
                Some(offset) => (TextZone::Assumed(offset), None),
                None => (
                    TextZone::Required,
                    Some("no zone in the text and none declared"),
                ),
            };
            let mut reasons = vec!["not an RFC 3339 timestamp".to_owned()];
            reasons.extend(without.map(str::to_owned));
            reasons.extend([PRECISION.to_owned(), "out of range of long".to_owned()]);
            Ok((Rule::TimestampText { unit: *unit, zone }, reasons))
        }
        (V::LocalTimestamp(unit), a) if is_text(a) => checked(
            Rule::TimestampText {
                unit: *unit,
                zone: TextZone::Refused,
            },
            &[
                "not an RFC 3339 timestamp",
                "has a zone, but the field is local",
                PRECISION,
                "out of range of long",
            ],
        ),

        (V::Array(items), A::List(f) | A::LargeList(f) | A::FixedSizeList(f, _)) => {
            let place = Place {
                column: format!("{}[]", place.column),
                field: format!("{}[]", place.field),
                nullable: f.is_nullable(),
                zone: place.zone.clone(),
            };
            let node = node(resolver, f.data_type(), items, &place, rows)?;
            exact(Rule::Array(Box::new(node)))
        }
        (V::Record(record), A::Struct(fields)) => {
            let (column, field) = (format!("{}.", place.column), format!("{}.", place.field));
            exact(Rule::Record(
                resolver.fields(fields, record, &column, &field, rows)?,
            ))
        }
        (V::Map(values), A::Map(entries, _)) => {
            let A::Struct(pair) = entries.data_type() else {
                return Err(impossible(arrow, avro, place));
            };
            let [key, value] = pair.as_ref() else {
                return Err(impossible(arrow, avro, place));
            };
            let at = |suffix: &str, nullable, zone| Place {
                column: format!("{}{suffix}", place.column),
                field: format!("{}{suffix}", place.field),
                nullable,
                zone,
            };
            let keys = node(
                resolver,
                key.data_type(),
                &V::String,
                &at("{key}", key.is_nullable(), None),
                rows,
            )?;
            let zone = place.zone.clone();
            let values = node(
                resolver,
                value.data_type(),
                values,
                &at("{}", value.is_nullable(), zone),
                rows,
            )?;
            exact(Rule::Map(Box::new(keys), Box::new(values)))
        }
        _ => Err(impossible(arrow, avro, place)),
    }
}

pub(crate) const fn is_text(arrow: &A) -> bool {
    matches!(arrow, A::Utf8 | A::LargeUtf8 | A::Utf8View)
}

const fn is_bytes(arrow: &A) -> bool {
    matches!(
        arrow,
        A::Binary | A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_)
    )
}

/// Months, days and milliseconds, as an Avro duration counts them.
fn is_duration(parts: &Fields) -> bool {
    let is = |part: &FieldRef, name| part.name() == name && *part.data_type() == A::UInt32;
    matches!(parts.as_ref(), [m, d, ms] if is(m, "months") && is(d, "days") && is(ms, "millis"))
}

fn out_of_range(avro: &V) -> String {
    format!("out of range of {avro}")
}

/// The declared zone as seconds east of UTC.
fn offset(place: &Place) -> Result<Option<i64>, PlanError> {
    let Some(zone) = &place.zone else {
        return Ok(None);
    };
    match fixed_offset(zone) {
        Some(offset) => Ok(Some(offset)),
        None => Err(PlanError::BadZone {
            field: place.field.clone(),
            zone: zone.clone(),
        }),
    }
}

fn timestamp_rejects(from: TimeUnit, to: SubSecond, offset: i64) -> Vec<String> {
    let from = crate::gate::per_second(from);
    let mut reasons = Vec::new();
    if from > to.per_second() {
        reasons.push(PRECISION.to_owned());
    }
    if from < to.per_second() || offset != 0 {
        reasons.push("out of range of long".to_owned());
    }
    reasons
}

fn decimal(to: DecimalType, arrow: &A) -> Result<Ruling, PlanError> {
    let (precision, scale) = match arrow {
        A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) | A::Decimal256(p, s) => {
            (i64::from(*p), i64::from(*s))
        }
        A::Int8 | A::UInt8 => (3, 0),
        A::Int16 | A::UInt16 => (5, 0),
        A::Int32 | A::UInt32 => (10, 0),
        _ => (20, 0),
    };
    // Both are at most 76 and at least -128.
    let (to_precision, to_scale) = (to.precision as i64, to.scale as i64);
    let mut reasons = Vec::new();
    if scale > to_scale {
        reasons.push(PRECISION.to_owned());
    }
    // Arrow doesn't check that decimals keep to their precision, so the range is always checked; but a column whose
    // digits can't outgrow the field is exact by its type.
    let fixed_holds = to.fixed.is_none_or(|size| {
        size as f64 * 8.0 - 1.0 > to_precision as f64 * std::f64::consts::LOG2_10
    });
    if precision - scale > to_precision - to_scale || !fixed_holds {
        reasons.push(out_of_range(&V::Decimal(to)));
    }
    Ok((Rule::Decimal(to), reasons))
}
