//! What the gate should say of a value: slow and obvious, one value at a time, by the documented rules and on numbers
//! of any size. Nothing of it is taken from the crate.

use apache_avro::types::Value;
use apache_avro::{Decimal, Uuid};
use num_bigint::BigInt;

use super::slots::{DAY, Slot};
use super::texts::{decimal_text, number_text, timestamp_text};
use super::types::Ty;

/// Where a value is wrong: its place in the order of the schema's fields, and the path of its column.
pub type Bad = (Vec<usize>, String);

/// The Avro value that the slot is; else every place where it can't be. `zone` is declared for the field, in seconds
/// east of UTC.
pub fn judge(
    slot: &Slot,
    ty: &Ty,
    zone: Option<i64>,
    path: &str,
    order: &[usize],
) -> Result<Value, Vec<Bad>> {
    let bad = || vec![(order.to_vec(), path.to_owned())];
    let below = |n: usize| [order, &[n]].concat();
    match (ty, slot) {
        (Ty::Nullable(_, first), Slot::Null) => {
            Ok(Value::Union(u32::from(!first), Box::new(Value::Null)))
        }
        (Ty::Nullable(ty, first), slot) => Ok(Value::Union(
            u32::from(*first),
            Box::new(judge(slot, ty, zone, path, order)?),
        )),
        (Ty::Union(types, Some(first)), Slot::Null) => Ok(Value::Union(
            if *first { 0 } else { types.len() as u32 },
            Box::new(Value::Null),
        )),
        (_, Slot::Null) => Err(bad()),
        (Ty::Union(types, null), Slot::Struct(slots)) => {
            let members = slots.iter().zip(types).enumerate();
            let held = members.filter(|(_, (slot, _))| !matches!(slot, Slot::Null));
            let value = |(i, (slot, ty)): (usize, (&Slot, &Ty))| {
                let path = format!("{path}.member{i}");
                let branch = i + usize::from(*null == Some(true));
                let value = judge(slot, ty, None, &path, &below(i))?;
                Ok(Value::Union(branch as u32, Box::new(value)))
            };
            let results: Vec<_> = held.map(value).collect();
            match (results.len(), null) {
                (0, Some(_)) => judge(&Slot::Null, ty, None, path, order),
                (1, _) => all(results.into_iter()).map(|mut values| values.remove(0)),
                // The members are looked at before the union.
                _ => {
                    let own = (below(types.len()), path.to_owned());
                    let members = all(results.into_iter()).err().unwrap_or_default();
                    Err([members, vec![own]].concat())
                }
            }
        }
        (Ty::Array(ty), Slot::List(slots)) => {
            let item = |slot| judge(slot, ty, zone, &format!("{path}[]"), &below(0));
            Ok(Value::Array(all(slots.iter().map(item))?))
        }
        (Ty::Map(ty), Slot::Map(entries)) => {
            let value = |(key, slot): &(String, Slot)| {
                Ok((
                    key.clone(),
                    judge(slot, ty, zone, &format!("{path}{{}}"), &below(1))?,
                ))
            };
            Ok(Value::Map(
                all(entries.iter().map(value))?.into_iter().collect(),
            ))
        }
        (Ty::Record(types), Slot::Struct(slots)) => record(slots, types, path, order),
        (ty, slot) => leaf(slot, ty, zone).ok_or_else(bad),
    }
}

fn all<T>(results: impl Iterator<Item = Result<T, Vec<Bad>>>) -> Result<Vec<T>, Vec<Bad>> {
    let (mut values, mut bads) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(bad) => bads.extend(bad),
        }
    }
    if bads.is_empty() {
        Ok(values)
    } else {
        Err(bads)
    }
}

fn record(slots: &[Slot], types: &[Ty], path: &str, order: &[usize]) -> Result<Value, Vec<Bad>> {
    let fields = slots.iter().zip(types).enumerate().map(|(i, (slot, ty))| {
        let order = [order, &[i]].concat();
        Ok((
            format!("f{i}"),
            judge(slot, ty, None, &format!("{path}.f{i}"), &order)?,
        ))
    });
    Ok(Value::Record(all(fields)?))
}

fn ten_to(n: i32) -> BigInt {
    BigInt::from(10).pow(n.unsigned_abs())
}

/// The number at another scale, if it has no digits beyond it.
fn rescaled(v: &BigInt, from: i32, to: i32) -> Option<BigInt> {
    if to >= from {
        return Some(v * ten_to(to - from));
    }
    let factor = ten_to(from - to);
    ((v % &factor) == BigInt::ZERO).then(|| v / factor)
}

/// A whole float, as a number of any size.
fn whole(v: f64) -> Option<BigInt> {
    if !v.is_finite() || v.trunc() != v {
        return None;
    }
    // The decimal digits of a whole float are all written out.
    format!("{v:.0}").parse().ok()
}

/// The integer that the slot is exactly.
fn integer(slot: &Slot) -> Option<BigInt> {
    match slot {
        Slot::Boolean(v) => Some(BigInt::from(u8::from(*v))),
        Slot::Text(text) => {
            let (v, scale) = number_text(text)?;
            rescaled(&v, scale, 0)
        }
        Slot::Integer(v) => Some(v.clone()),
        Slot::Decimal(v, scale) => rescaled(v, *scale, 0),
        Slot::Float(v) => whole(*v),
        _ => None,
    }
}

/// The double or (of 24 digits) float that the slot is: an integer exactly, a decimal as the nearest that reads the same.
fn float(slot: &Slot, digits: u64, exponent: u64) -> Option<f64> {
    let (v, scale) = match slot {
        Slot::Float(v) => return Some(*v),
        Slot::Integer(v) => {
            let magnitude = v.magnitude();
            let significant = magnitude.bits() - magnitude.trailing_zeros().unwrap_or(0);
            let exact = significant <= digits && magnitude.bits() <= exponent;
            return exact.then(|| v.to_string().parse().expect("a float"));
        }
        Slot::Decimal(v, scale) => (v.clone(), *scale),
        Slot::Text(text) => number_text(text)?,
        _ => return None,
    };
    // A float, unlike an integer, keeps the sign of a zero.
    let minus =
        matches!(slot, Slot::Text(text) if v == BigInt::ZERO && text.trim().starts_with('-'));
    let text = format!("{}{v}e{}", if minus { "-" } else { "" }, -scale);
    let nearest = if digits == 24 {
        f64::from(text.parse::<f32>().expect("a number"))
    } else {
        text.parse::<f64>().expect("a number")
    };
    // Written with as many digits as the number has; zeros behind the point are none.
    let shown = v.magnitude().to_string();
    let whole = (shown.len() as i32 - scale).clamp(0, shown.len() as i32);
    let count = shown.trim_end_matches('0').len().max(whole as usize);
    let (back, back_scale) = number_text(&format!("{nearest:.*e}", count.saturating_sub(1)))?;
    let scales = scale.max(back_scale);
    (rescaled(&v, scale, scales) == rescaled(&back, back_scale, scales)).then_some(nearest)
}

/// A count at another number of units a second, exactly, as a long.
fn at(count: i64, per: i64, to: i64, shift: i64) -> Option<i64> {
    let scaled = i128::from(count) * i128::from(to);
    let exact = (scaled % i128::from(per) == 0).then(|| scaled / i128::from(per))?;
    i64::try_from(exact - i128::from(shift) * i128::from(to)).ok()
}

fn leaf(slot: &Slot, ty: &Ty, zone: Option<i64>) -> Option<Value> {
    let per = |digits: u32| 10_i64.pow(digits);
    Some(match (ty, slot) {
        (Ty::Boolean, Slot::Boolean(v)) => Value::Boolean(*v),
        (Ty::Boolean, Slot::Text(v)) => match v.to_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" => Value::Boolean(true),
            "false" | "f" | "no" | "n" | "0" => Value::Boolean(false),
            _ => return None,
        },
        (Ty::Boolean, Slot::Integer(_) | Slot::Decimal(..)) => {
            match u8::try_from(integer(slot)?).ok()? {
                v @ (0 | 1) => Value::Boolean(v == 1),
                _ => return None,
            }
        }
        (Ty::Int, slot) => Value::Int(integer(slot)?.try_into().ok()?),
        (Ty::Long, slot) => Value::Long(integer(slot)?.try_into().ok()?),
        (Ty::Float, slot) => {
            let v = float(slot, 24, 128)?;
            let narrow = v as f32;
            (f64::from(narrow) == v || v.is_nan()).then_some(Value::Float(narrow))?
        }
        (Ty::Double, slot) => Value::Double(float(slot, 53, 1024)?),
        (Ty::String, Slot::Text(v)) => Value::String(v.clone()),
        (Ty::String, Slot::Bytes(v)) => Value::String(String::from_utf8(v.clone()).ok()?),
        (Ty::Bytes, Slot::Text(v)) => Value::Bytes(v.clone().into_bytes()),
        (Ty::Bytes, Slot::Bytes(v)) => Value::Bytes(v.clone()),
        (Ty::Fixed(size), Slot::Text(v)) => {
            (v.len() == *size).then(|| Value::Fixed(*size, v.clone().into_bytes()))?
        }
        (Ty::Fixed(size), Slot::Bytes(v)) => {
            (v.len() == *size).then(|| Value::Fixed(*size, v.clone()))?
        }
        (Ty::Enum(n), Slot::Text(v)) => {
            let symbol = (0..*n).find(|i| *v == format!("S{i}"))?;
            Value::Enum(symbol as u32, v.clone())
        }
        (Ty::Uuid { .. }, Slot::Text(v)) => {
            // The one form with hyphens; the library takes others too.
            (v.len() == 36 && !v.contains(['{', ':']))
                .then(|| Uuid::parse_str(v).ok())?
                .map(Value::Uuid)?
        }
        (Ty::Uuid { .. }, Slot::Bytes(v)) => Value::Uuid(Uuid::from_slice(v).ok()?),
        (Ty::Duration, Slot::Bytes(v)) => duration(v.clone().try_into().ok()?),
        (Ty::Duration, Slot::Struct(parts)) => {
            let part = |i: usize| -> Option<u32> { integer(&parts[i])?.try_into().ok() };
            duration_of(part(0)?, part(1)?, part(2)?)
        }
        (Ty::Duration, Slot::Time(count, per)) => {
            duration_of(0, 0, at(*count, *per, 1_000, 0)?.try_into().ok()?)
        }
        (
            Ty::Decimal {
                precision,
                scale,
                fixed,
            },
            slot,
        ) => {
            let (v, from) = match slot {
                Slot::Integer(v) => (v.clone(), 0),
                Slot::Decimal(v, scale) => (v.clone(), *scale),
                Slot::Text(text) => decimal_text(text)?,
                _ => return None,
            };
            let v = rescaled(&v, from, i32::from(*scale))?;
            let limit = ten_to(i32::from(*precision));
            if v.magnitude() >= limit.magnitude() {
                return None;
            }
            let mut bytes = v.to_signed_bytes_be();
            if let Some(size) = fixed {
                let sign = if v < BigInt::ZERO { 0xff } else { 0 };
                let mut whole = vec![sign; size.checked_sub(bytes.len())?];
                whole.append(&mut bytes);
                bytes = whole;
            }
            Value::Decimal(Decimal::from(bytes))
        }
        (Ty::Date, Slot::Time(count, per)) => {
            let days = (count % (per * DAY) == 0).then_some(count / (per * DAY))?;
            Value::Date(days.try_into().ok()?)
        }
        (Ty::Date, Slot::Text(text)) => {
            let (nanos, _) = timestamp_text(&format!("{}T00:00:00", text.trim()))?;
            Value::Date(
                (nanos / (i128::from(DAY) * 1_000_000_000))
                    .try_into()
                    .ok()?,
            )
        }
        (Ty::TimeMillis | Ty::TimeMicros, Slot::Text(text)) => {
            let (nanos, None) = timestamp_text(&format!("1970-01-01T{}", text.trim()))? else {
                return None;
            };
            let slot = Slot::Time(nanos.try_into().ok()?, 1_000_000_000);
            return leaf(&slot, ty, zone);
        }
        (Ty::TimeMillis, Slot::Time(count, per)) => {
            Value::TimeMillis(of_day(*count, *per, 1_000)?.try_into().ok()?)
        }
        (Ty::TimeMicros, Slot::Time(count, per)) => {
            Value::TimeMicros(of_day(*count, *per, 1_000_000)?)
        }
        (Ty::Timestamp(digits), Slot::Time(count, from)) => {
            let v = at(*count, *from, per(*digits), zone.unwrap_or(0))?;
            timestamp(*digits, v)
        }
        (Ty::Local(digits), Slot::Time(count, from)) => {
            local(*digits, at(*count, *from, per(*digits), 0)?)
        }
        (Ty::Timestamp(digits), Slot::Text(text)) => {
            let (nanos, offset) = timestamp_text(text)?;
            timestamp(*digits, text_count(nanos, offset.or(zone)?, *digits)?)
        }
        (Ty::Local(digits), Slot::Text(text)) => match timestamp_text(text)? {
            (nanos, None) => local(*digits, text_count(nanos, 0, *digits)?),
            _ => return None,
        },
        _ => return None,
    })
}

fn duration(bytes: [u8; 12]) -> Value {
    Value::Duration(bytes.into())
}

fn duration_of(months: u32, days: u32, millis: u32) -> Value {
    let bytes = [
        months.to_le_bytes(),
        days.to_le_bytes(),
        millis.to_le_bytes(),
    ]
    .concat();
    duration(bytes.try_into().expect("twelve bytes"))
}

fn of_day(count: i64, per: i64, to: i64) -> Option<i64> {
    let v = at(count, per, to, 0)?;
    (0..DAY * to).contains(&v).then_some(v)
}

fn timestamp(digits: u32, v: i64) -> Value {
    match digits {
        3 => Value::TimestampMillis(v),
        6 => Value::TimestampMicros(v),
        _ => Value::TimestampNanos(v),
    }
}

fn local(digits: u32, v: i64) -> Value {
    match digits {
        3 => Value::LocalTimestampMillis(v),
        6 => Value::LocalTimestampMicros(v),
        _ => Value::LocalTimestampNanos(v),
    }
}

/// Nanoseconds at an offset as a count of units of so many digits.
fn text_count(nanos: i128, offset: i64, digits: u32) -> Option<i64> {
    let instant = nanos - i128::from(offset) * 1_000_000_000;
    let grain = 10_i128.pow(9 - digits);
    (instant % grain == 0).then(|| i64::try_from(instant / grain).ok())?
}
