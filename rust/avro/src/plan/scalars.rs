//! Booleans, numbers, decimals, text and bytes.

use arrow_schema::{DataType as A, FieldRef, Fields};

use super::Rule;
use super::rules::{Place, Ruling, is_bytes, is_text};
use crate::reasons::*;
use crate::types::{AvroType as V, DecimalType};

/// The rule for a pair, if it is one of these and possible.
pub(super) fn rule(arrow: &A, avro: &V, place: &Place) -> Option<Ruling> {
    let (exact, checked) = (Ruling::exact, Ruling::checked);
    Some(match (avro, arrow) {
        (V::Boolean, _) => boolean(arrow)?,
        (V::Int, _) => whole(arrow, place, Rule::Int, INT, is_int)?,
        (V::Long, _) => whole(arrow, place, Rule::Long, LONG, is_long)?,
        (V::Float, _) => float(arrow, place)?,
        (V::Double, _) => double(arrow, place)?,
        (V::Decimal(to), _) => decimal(*to, arrow, place)?,

        (V::String, a) if is_text(a) => exact(Rule::Text),
        (V::String, a) if is_bytes(a) => checked(Rule::Text, &[UTF8]),
        (V::Bytes, a) if is_text(a) || is_bytes(a) => exact(Rule::Bytes),
        (V::Enum(e), a) if is_text(a) => checked(Rule::Enum(e.clone()), &[&symbol(&e.name)]),
        (V::Fixed(fixed), _) => bytes(arrow, fixed.size, Rule::Fixed(fixed.size))?,
        (V::Uuid { fixed }, a) if is_text(a) => checked(Rule::Uuid { fixed: *fixed }, &[UUID]),
        (V::Uuid { fixed }, _) => bytes(arrow, 16, Rule::Uuid { fixed: *fixed })?,

        (V::Duration, A::Struct(parts)) if is_duration(parts) => {
            if parts.iter().any(|part| part.is_nullable()) {
                checked(Rule::DurationParts, &[NO_PART])
            } else {
                exact(Rule::DurationParts)
            }
        }
        (V::Duration, a) if is_bytes(a) => bytes(arrow, 12, Rule::Fixed(12))?,
        _ => return None,
    })
}

/// Bytes of one size. Text is no bytes of a size, but for a fixed, which may be of letters.
fn bytes(arrow: &A, size: usize, rule: Rule) -> Option<Ruling> {
    let reason = of_size(size);
    match arrow {
        A::FixedSizeBinary(n) => (usize::try_from(*n) == Ok(size)).then(|| Ruling::exact(rule)),
        a if is_bytes(a) || is_text(a) => Some(Ruling::checked(rule, &[&reason])),
        _ => None,
    }
}

/// Months, days and milliseconds, as an Avro duration counts them.
fn is_duration(parts: &Fields) -> bool {
    let is = |part: &FieldRef, name| part.name() == name && *part.data_type() == A::UInt32;
    matches!(parts.as_ref(), [m, d, ms] if is(m, "months") && is(d, "days") && is(ms, "millis"))
}

fn boolean(arrow: &A) -> Option<Ruling> {
    Some(match arrow {
        A::Boolean => Ruling::exact(Rule::Boolean),
        A::UInt64 => Ruling::checked(Rule::Boolean, &[BIT, LONG]),
        a if a.is_integer() => Ruling::checked(Rule::Boolean, &[BIT]),
        a if a.is_decimal() => Ruling::checked(Rule::Boolean, &[BIT, WHOLE, LONG]),
        a if is_text(a) => Ruling::checked(Rule::Boolean, &[BOOLEAN]),
        _ => return None,
    })
}

fn is_int(arrow: &A) -> bool {
    matches!(
        arrow,
        A::Boolean | A::Int8 | A::Int16 | A::Int32 | A::UInt8 | A::UInt16
    )
}

fn is_long(arrow: &A) -> bool {
    is_int(arrow) || matches!(arrow, A::Int64 | A::UInt32)
}

fn whole(
    arrow: &A,
    place: &Place,
    rule: fn(Option<super::Lossy>) -> Rule,
    range: &str,
    fits: fn(&A) -> bool,
) -> Option<Ruling> {
    Some(match arrow {
        a if fits(a) => Ruling::exact(rule(None)),
        a if a.is_integer() => Ruling::checked(rule(None), &[range]),
        a if a.is_floating() => Ruling::fitted(place, rule, WHOLE, &[NAN, INFINITE, range]),
        A::Decimal32(_, s) | A::Decimal64(_, s) | A::Decimal128(_, s) | A::Decimal256(_, s)
            if *s <= 0 =>
        {
            Ruling::checked(rule(None), &[range])
        }
        a if a.is_decimal() => Ruling::fitted(place, rule, WHOLE, &[range]),
        a if is_text(a) => Ruling::fitted(place, rule, WHOLE, &[NUMBER, range]),
        _ => return None,
    })
}

/// A rule that rejects what a float can't hold, unless rounding is declared. A float is rounded or not: what it would
/// be cut off to is nobody's number, so `lossy = "truncate"` is not followed, and refused with that.
fn nearest(place: &Place, rule: fn(bool) -> Rule, loss: &str, others: &[&str]) -> Ruling {
    let round = place.said.lossy == Some(super::Lossy::Round);
    let mut ruling = Ruling::fitted(place, |_| rule(round), loss, others);
    ruling.uses.lossy = round;
    ruling
}

fn float(arrow: &A, place: &Place) -> Option<Ruling> {
    Some(match arrow {
        A::Int8 | A::Int16 | A::UInt8 | A::UInt16 | A::Float16 | A::Float32 => {
            Ruling::exact(Rule::Float(false))
        }
        A::Float64 => nearest(place, Rule::Float, NO_FLOAT, &[FLOAT]),
        a if a.is_integer() => nearest(place, Rule::Float, NO_FLOAT, &[]),
        A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) | A::Decimal256(p, s) => {
            // Six digits are told apart by any float, as long as it is neither too large nor too small.
            if *p <= 6 && (-30..=30).contains(s) {
                Ruling::exact(Rule::Float(false))
            } else {
                nearest(place, Rule::Float, PRECISION, &[FLOAT])
            }
        }
        a if is_text(a) => nearest(place, Rule::Float, PRECISION, &[NUMBER, FLOAT]),
        _ => return None,
    })
}

fn double(arrow: &A, place: &Place) -> Option<Ruling> {
    Some(match arrow {
        A::Int64 | A::UInt64 => nearest(place, Rule::Double, NO_DOUBLE, &[]),
        a if a.is_integer() || a.is_floating() => Ruling::exact(Rule::Double(false)),
        A::Decimal32(p, _) | A::Decimal64(p, _) | A::Decimal128(p, _) | A::Decimal256(p, _) => {
            // Fifteen digits are told apart by any double.
            if *p <= 15 {
                Ruling::exact(Rule::Double(false))
            } else {
                nearest(place, Rule::Double, PRECISION, &[DOUBLE])
            }
        }
        a if is_text(a) => nearest(place, Rule::Double, PRECISION, &[NUMBER, DOUBLE]),
        _ => return None,
    })
}

fn decimal(to: DecimalType, arrow: &A, place: &Place) -> Option<Ruling> {
    let rule = |lossy| Rule::Decimal(to, lossy);
    let (precision, scale) = match arrow {
        A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) | A::Decimal256(p, s) => {
            (i64::from(*p), i64::from(*s))
        }
        A::Int8 | A::UInt8 => (3, 0),
        A::Int16 | A::UInt16 => (5, 0),
        A::Int32 | A::UInt32 => (10, 0),
        A::Int64 | A::UInt64 => (20, 0),
        // The digits of a float are the shortest that read back as it: somebody must have said that they will do.
        a if a.is_floating() => {
            place.said.lossy?;
            return Some(Ruling::fitted(
                place,
                rule,
                PRECISION,
                &[NAN, INFINITE, OF_DECIMAL],
            ));
        }
        a if is_text(a) => {
            let others = [DECIMAL, OF_DECIMAL];
            return Some(Ruling::fitted(place, rule, PRECISION, &others));
        }
        _ => return None,
    };
    // Both are at most 76 and at least -128.
    let (to_precision, to_scale) = (to.precision as i64, to.scale as i64);
    // Arrow doesn't check that decimals keep to their precision, so the range is always checked; but a column whose
    // digits can't outgrow the field is exact by its type. Rounding up may make one more.
    let fixed_holds = to.fixed.is_none_or(|size| {
        size as f64 * 8.0 - 1.0 > to_precision as f64 * std::f64::consts::LOG2_10
    });
    let grows = i64::from(scale > to_scale && place.said.lossy == Some(super::Lossy::Round));
    let outgrows = precision - scale + grows > to_precision - to_scale || !fixed_holds;
    let others: &[&str] = if outgrows { &[OF_DECIMAL] } else { &[] };
    Some(if scale > to_scale {
        Ruling::fitted(place, rule, PRECISION, others)
    } else {
        Ruling::checked(rule(None), others)
    })
}
