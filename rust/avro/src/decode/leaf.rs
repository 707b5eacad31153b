//! Values that have no values inside.

use arrow_buffer::i256;

use super::column::{Offsets, Store};
use super::decimal;
use super::fault::Fault;
use super::feed::{Feed, Optional};
use super::read::{DecimalRead, Number, Read};
use super::reader::Reader;
use crate::uuid;

impl Read {
    /// Reads values that have no values inside.
    pub(super) fn leaf<'a>(
        &self,
        store: &mut Store,
        optional: Optional<'_>,
        feed: impl Feed<'a>,
    ) -> Result<(), Fault> {
        match (self, store) {
            (Self::Boolean, Store::Boolean(values)) => {
                fill(values, optional, feed, |r| match r.byte()? {
                    byte @ (0 | 1) => Ok(byte == 1),
                    byte => Err(r.invalid(format!("{byte:#04x} is not a boolean"))),
                })
            }
            (Self::Int, Store::I32(values)) => fill_numbers(values, optional, feed, Reader::in_int),
            (Self::IntAs(number), Store::I32(values)) => {
                fill_numbers(values, optional, feed, |r, v| {
                    let v = number.of(r, r.in_int(v)?.into())?;
                    // A time of day is less than an int, whatever its unit.
                    r.in_int(v)
                })
            }
            (Self::IntAs(number), Store::I64(values)) => {
                fill_numbers(values, optional, feed, |r, v| {
                    number.of(r, r.in_int(v)?.into())
                })
            }
            (Self::Long, Store::I64(values)) => fill_numbers(values, optional, feed, |_, v| Ok(v)),
            (Self::LongAs(number), Store::I64(values)) => {
                fill_numbers(values, optional, feed, |r, v| number.of(r, v))
            }
            (Self::IntAsFloat, Store::F32(values)) => {
                fill_numbers(values, optional, feed, |r, v| Ok(r.in_int(v)? as f32))
            }
            (Self::LongAsFloat, Store::F32(values)) => {
                fill_numbers(values, optional, feed, |_, v| Ok(v as f32))
            }
            (Self::Float, Store::F32(values)) => fill(values, optional, feed, |r| {
                Ok(f32::from_le_bytes(r.array()?))
            }),
            (Self::IntAsFloat, Store::F64(values)) => {
                fill_numbers(values, optional, feed, |r, v| Ok(r.in_int(v)?.into()))
            }
            (Self::LongAsFloat, Store::F64(values)) => {
                fill_numbers(values, optional, feed, |_, v| Ok(v as f64))
            }
            (Self::FloatAsDouble, Store::F64(values)) => fill(values, optional, feed, |r| {
                Ok(f32::from_le_bytes(r.array()?).into())
            }),
            (Self::Double, Store::F64(values)) => fill(values, optional, feed, |r| {
                Ok(f64::from_le_bytes(r.array()?))
            }),
            (Self::Bytes, Store::Bytes(offsets, data)) => {
                feed.payloads::<false>(offsets, data, optional)
            }
            (Self::Text, Store::Bytes(offsets, data)) => {
                feed.payloads::<true>(offsets, data, optional)
            }
            (Self::UuidText, Store::Bytes(offsets, data)) => {
                fill_bytes(offsets, data, optional, feed, |r, out| {
                    let text = std::str::from_utf8(r.bytes()?).ok();
                    let Some(bytes) = text.and_then(uuid::parse) else {
                        return Err(r.invalid("not a uuid"));
                    };
                    out.extend_from_slice(&uuid::text(&bytes));
                    Ok(())
                })
            }
            (Self::Uuid, Store::Bytes(offsets, data)) => {
                fill_bytes(offsets, data, optional, feed, |r, out| {
                    out.extend_from_slice(&uuid::text(&r.array()?));
                    Ok(())
                })
            }
            (Self::Symbol(symbols), Store::Bytes(offsets, data)) => {
                fill_bytes(offsets, data, optional, feed, |r, out| {
                    let number = r.int()?;
                    match usize::try_from(number).ok().and_then(|n| symbols.get(n)) {
                        Some(Some(symbol)) => out.extend_from_slice(symbol.as_bytes()),
                        Some(None) => {
                            return Err(r.invalid(format!(
                                "the reader's enum has neither the writer's symbol {number} nor a default"
                            )));
                        }
                        None => {
                            return Err(
                                r.invalid(format!("the writer's enum has no symbol {number}"))
                            );
                        }
                    }
                    Ok(())
                })
            }
            (Self::Fixed, Store::Fixed(size, data)) => {
                let size = *size;
                match optional {
                    None => feed.each(|r| {
                        data.extend_from_slice(r.take(size)?);
                        Ok(())
                    }),
                    Some((valid, null)) => feed.each(|r| {
                        let present = r.present(null)?;
                        if present {
                            data.extend_from_slice(r.take(size)?);
                        } else {
                            data.resize(data.len() + size, 0);
                        }
                        valid.push(present);
                        Ok(())
                    }),
                }
            }
            (Self::Duration, Store::Duration([months, days, millis])) => {
                // The parts of a null come from the months, so that its branch is read once.
                let mut valid = optional;
                feed.each(|r| {
                    let present = match &mut valid {
                        None => true,
                        Some((valid, null)) => {
                            let present = r.present(*null)?;
                            valid.push(present);
                            present
                        }
                    };
                    for part in [&mut *months, &mut *days, &mut *millis] {
                        part.push(if present {
                            u32::from_le_bytes(r.array()?)
                        } else {
                            0
                        });
                    }
                    Ok(())
                })
            }
            (Self::Decimal(decimal), Store::I128(values)) => {
                fill(values, optional, feed, |r| decimal.narrow(r))
            }
            (Self::Decimal(decimal), Store::I256(values)) => {
                fill(values, optional, feed, |r| decimal.wide(r))
            }
            _ => feed.each(|r| Err(r.invalid("a column is not of its own type"))),
        }
    }
}

impl Number {
    #[inline(always)]
    fn of(self, r: &Reader<'_>, v: i64) -> Result<i64, Fault> {
        let Some(scaled) = v.checked_mul(self.multiply) else {
            return Err(r.invalid(format!("{v} is out of range in the reader's unit")));
        };
        let scaled = match self.divide {
            1 => scaled,
            by if scaled % by == 0 => scaled / by,
            _ => {
                return Err(r.invalid(format!("{v} is not a whole number of the reader's unit")));
            }
        };
        match self.day {
            Some(day) if !(0..day).contains(&scaled) => {
                Err(r.invalid(format!("{v} is not a time of day")))
            }
            _ => Ok(scaled),
        }
    }
}

impl DecimalRead {
    #[inline(always)]
    fn narrow(self, r: &mut Reader<'_>) -> Result<i128, Fault> {
        // Most are written as short as they can be, and have few digits.
        let found = match self.fixed {
            None => match r.big_endian() {
                Some(v) => decimal::in_digits(v.into(), self.precision),
                None => decimal::narrow(r.bytes()?, self.precision),
            },
            Some(size) => decimal::narrow(r.take(size)?, self.precision),
        };
        found.ok_or_else(|| self.refusal(r))
    }

    fn wide(self, r: &mut Reader<'_>) -> Result<i256, Fault> {
        let bytes = match self.fixed {
            None => r.bytes()?,
            Some(size) => r.take(size)?,
        };
        decimal::wide(bytes, self.precision).ok_or_else(|| self.refusal(r))
    }

    #[cold]
    fn refusal(self, r: &Reader<'_>) -> Fault {
        r.invalid(format!(
            "not a decimal of at most {} digits",
            self.precision
        ))
    }
}

/// Values of one size in the column.
#[inline(always)]
fn fill<'a, T: Copy + Default>(
    slots: &mut Vec<T>,
    optional: Optional<'_>,
    feed: impl Feed<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, Fault>,
) -> Result<(), Fault> {
    match optional {
        None => feed.fill(slots, |r, slot| {
            *slot = read(r)?;
            Ok(())
        }),
        Some((valid, null)) => feed.fill_some(slots, valid, |r, slot| {
            let present = r.present(null)?;
            if present {
                *slot = read(r)?;
            }
            Ok(present)
        }),
    }
}

/// Values that are ints or longs on the wire.
#[inline(always)]
fn fill_numbers<'a, T: Copy + Default>(
    slots: &mut Vec<T>,
    optional: Optional<'_>,
    feed: impl Feed<'a>,
    of: impl Fn(&Reader<'a>, i64) -> Result<T, Fault>,
) -> Result<(), Fault> {
    match optional {
        None => feed.fill(slots, |r, slot| {
            let v = r.long()?;
            *slot = of(r, v)?;
            Ok(())
        }),
        Some((valid, null)) => feed.fill_some(slots, valid, |r, slot| {
            let present = r.present(null)?;
            if present {
                let v = r.long()?;
                *slot = of(r, v)?;
            }
            Ok(present)
        }),
    }
}

/// Values of any size.
#[inline(always)]
pub(super) fn fill_bytes<'a>(
    offsets: &mut Offsets,
    data: &mut Vec<u8>,
    optional: Optional<'_>,
    feed: impl Feed<'a>,
    read: impl Fn(&mut Reader<'a>, &mut Vec<u8>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    match optional {
        None => feed.fill(&mut offsets.0, |r, end| {
            read(r, data)?;
            *end = Offsets::of(data.len())?;
            Ok(())
        }),
        Some((valid, null)) => feed.fill_some(&mut offsets.0, valid, |r, end| {
            let present = r.present(null)?;
            if present {
                read(r, data)?;
            }
            *end = Offsets::of(data.len())?;
            Ok(present)
        }),
    }
}
