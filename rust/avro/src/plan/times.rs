//! Dates, times of day, timestamps and durations.

use arrow_schema::{DataType as A, TimeUnit};

use super::rules::{Place, Ruling, is_text};
use super::{Rule, Shift, TextZone};
use crate::error::PlanError;
use crate::gate::per_second;
use crate::reasons::*;
use crate::temporal::Zone;
use crate::types::{AvroType as V, SubSecond};

/// What clocks of a zone read twice, or never.
const UNREAD: [&str; 2] = [TWICE, NEVER];

/// The rule for a pair, if it is one of these and possible.
pub(super) fn rule(arrow: &A, avro: &V, place: &Place) -> Result<Option<Ruling>, PlanError> {
    Ok(Some(match (avro, arrow) {
        (V::Date, A::Date32) => Ruling::exact(Rule::Date(None)),
        (V::Date, A::Date64 | A::Timestamp(_, None)) => {
            Ruling::fitted(place, Rule::Date, NO_DAY, &[OF_DATE])
        }
        (V::Date, a) if is_text(a) => Ruling::checked(Rule::Date(None), &[DATE]),

        (V::TimeMillis, _) => match time_of_day(arrow, 1_000, place, Rule::TimeMillis) {
            Some(ruling) => ruling,
            None => return Ok(None),
        },
        (V::TimeMicros, _) => match time_of_day(arrow, 1_000_000, place, Rule::TimeMicros) {
            Some(ruling) => ruling,
            None => return Ok(None),
        },

        (V::Timestamp(to), A::Timestamp(_, Some(_))) => {
            timestamp_of(arrow, *to, Shift::None, place)
        }
        (V::Timestamp(to), _) if is_reading(arrow) => {
            let zone = place.zone.clone().ok_or_else(|| PlanError::ZoneNeeded {
                column: place.column.clone(),
                field: place.field.clone(),
                arrow: arrow.to_string(),
                avro: avro.to_string(),
            })?;
            timestamp_of(arrow, *to, Shift::ToInstant(zone), place)
        }
        (V::LocalTimestamp(to), A::Timestamp(_, Some(_))) => match place.zone.clone() {
            Some(zone) => timestamp_of(arrow, *to, Shift::ToLocal(zone), place),
            None => return Ok(None),
        },
        (V::LocalTimestamp(to), _) if is_reading(arrow) => {
            timestamp_of(arrow, *to, Shift::None, place)
        }
        (V::Timestamp(unit), a) if is_text(a) => {
            let assumed = place.zone.clone();
            let zone = assumed.map_or(TextZone::Required, TextZone::Assumed);
            let mut ruling = timestamp_text(*unit, zone, place);
            ruling.uses.zone = true;
            let unread = match &place.zone {
                None => &[NO_ZONE][..],
                Some(Zone::Named(_)) => &UNREAD,
                Some(Zone::Fixed(_)) => &[],
            };
            let unread = unread.iter().map(|reason| (*reason).to_owned());
            ruling.may_reject.extend(unread);
            ruling
        }
        (V::LocalTimestamp(unit), a) if is_text(a) => {
            let mut ruling = timestamp_text(*unit, TextZone::Refused, place);
            ruling.may_reject.push(A_ZONE.to_owned());
            ruling
        }

        (V::Duration, A::Duration(unit)) => {
            let others = [NEGATIVE, OF_DURATION];
            if per_second(*unit) > 1_000 {
                Ruling::fitted(place, Rule::DurationMillis, PRECISION, &others)
            } else {
                Ruling::checked(Rule::DurationMillis(None), &others)
            }
        }
        (V::Int | V::Long, A::Duration(from)) => count(*from, arrow, avro, place)?,
        _ => return Ok(None),
    }))
}

/// What says a day, or a day and a time, but no zone; a day counts as its midnight.
fn is_reading(arrow: &A) -> bool {
    matches!(arrow, A::Timestamp(_, None) | A::Date32 | A::Date64)
}

fn time_of_day(
    arrow: &A,
    to: i64,
    place: &Place,
    rule: fn(Option<super::Lossy>) -> Rule,
) -> Option<Ruling> {
    Some(match arrow {
        A::Time32(unit) | A::Time64(unit) if per_second(*unit) > to => {
            Ruling::fitted(place, rule, PRECISION, &[TIME])
        }
        A::Time32(_) | A::Time64(_) => Ruling::checked(rule(None), &[TIME]),
        a if is_text(a) => Ruling::fitted(place, rule, PRECISION, &[TIME]),
        _ => return None,
    })
}

fn timestamp_of(arrow: &A, to: SubSecond, shift: Shift, place: &Place) -> Ruling {
    let from = match arrow {
        A::Timestamp(unit, _) => per_second(*unit),
        A::Date64 => 1_000,
        _ => 1,
    };
    let asked = shift != Shift::None;
    let shift = match shift {
        Shift::ToInstant(Zone::Fixed(0)) | Shift::ToLocal(Zone::Fixed(0)) => Shift::None,
        shift => shift,
    };
    let named = matches!(
        shift,
        Shift::ToInstant(Zone::Named(_)) | Shift::ToLocal(Zone::Named(_))
    );
    // A long counts the milliseconds of every day of 32 bits; the calendar of named zones is shorter.
    let fits = *arrow == A::Date32 && to == SubSecond::Millis && !named;
    let mut others = Vec::new();
    if !fits && (from < to.per_second() || shift != Shift::None) {
        others.push(LONG);
    }
    if named {
        others.push(OF_CALENDAR);
    }
    if let Shift::ToInstant(Zone::Named(_)) = shift {
        others.extend(UNREAD);
    }
    let rule = |lossy| Rule::Timestamp {
        unit: to,
        shift,
        lossy,
    };
    let mut ruling = if from > to.per_second() {
        Ruling::fitted(place, rule, PRECISION, &others)
    } else {
        Ruling::checked(rule(None), &others)
    };
    ruling.uses.zone = asked;
    ruling
}

fn timestamp_text(unit: SubSecond, zone: TextZone, place: &Place) -> Ruling {
    let rule = |lossy| Rule::TimestampText { unit, zone, lossy };
    Ruling::fitted(place, rule, PRECISION, &[TIMESTAMP, LONG])
}

fn count(from: TimeUnit, arrow: &A, avro: &V, place: &Place) -> Result<Ruling, PlanError> {
    let unit = place.said.unit.ok_or_else(|| PlanError::UnitNeeded {
        column: place.column.clone(),
        field: place.field.clone(),
        arrow: arrow.to_string(),
        avro: avro.to_string(),
    })?;
    let long = *avro == V::Long;
    let rule = |lossy| Rule::DurationCount { long, unit, lossy };
    let range = format!("out of range of {avro}");
    let (from, to) = (per_second(from), unit.per_second());
    let others: &[&str] = if long && from >= to { &[] } else { &[&range] };
    let mut ruling = if from > to {
        Ruling::fitted(place, rule, PRECISION, others)
    } else {
        Ruling::checked(rule(None), others)
    };
    ruling.uses.unit = true;
    Ok(ruling)
}
