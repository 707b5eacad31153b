//! Values that have no values inside.

use super::column::{Offsets, Store};
use super::fault::Fault;
use super::feed::{Feed, Optional};
use super::read::Read;
use super::source::Source;
use super::value::{self, Value};
use crate::uuid;

impl Read {
    /// Reads values that have no values inside.
    #[inline(always)]
    pub(super) fn leaf<'a>(
        &self,
        store: &mut Store,
        optional: Optional<'_>,
        feed: impl Feed<'a>,
    ) -> Result<(), Fault> {
        match (self, store) {
            (Self::Boolean, Store::Boolean(slots)) => fill(slots, optional, feed, value::Boolean),
            (Self::Int, Store::I32(slots)) => fill(slots, optional, feed, value::Int),
            (Self::IntAs(number), Store::I32(slots)) => {
                fill(slots, optional, feed, value::IntAsInt(*number))
            }
            (Self::IntAs(number), Store::I64(slots)) => {
                fill(slots, optional, feed, value::IntAsLong(*number))
            }
            (Self::Long, Store::I64(slots)) => fill(slots, optional, feed, value::Long),
            (Self::LongAs(number), Store::I64(slots)) => {
                fill(slots, optional, feed, value::LongAs(*number))
            }
            (Self::IntAsFloat, Store::F32(slots)) => fill(slots, optional, feed, value::IntAsFloat),
            (Self::LongAsFloat, Store::F32(slots)) => {
                fill(slots, optional, feed, value::LongAsFloat)
            }
            (Self::Float, Store::F32(slots)) => fill(slots, optional, feed, value::Float),
            (Self::IntAsFloat, Store::F64(slots)) => {
                fill(slots, optional, feed, value::IntAsDouble)
            }
            (Self::LongAsFloat, Store::F64(slots)) => {
                fill(slots, optional, feed, value::LongAsDouble)
            }
            (Self::FloatAsDouble, Store::F64(slots)) => {
                fill(slots, optional, feed, value::FloatAsDouble)
            }
            (Self::Double, Store::F64(slots)) => fill(slots, optional, feed, value::Double),
            (Self::Decimal(decimal), Store::I128(slots)) => {
                fill(slots, optional, feed, value::Narrow(*decimal))
            }
            (Self::Decimal(decimal), Store::I256(slots)) => {
                fill(slots, optional, feed, value::Wide(*decimal))
            }
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
            _ => feed.each(|r| Err(r.invalid("a column is not of its own type"))),
        }
    }
}

/// Values of one size in the column.
#[inline(always)]
fn fill<'a, V: Value>(
    slots: &mut Vec<V::Slot>,
    optional: Optional<'_>,
    feed: impl Feed<'a>,
    value: V,
) -> Result<(), Fault> {
    match optional {
        None => feed.fill(slots, value),
        Some((valid, null)) => feed.fill_some(slots, valid, null, value),
    }
}

/// Values of any size.
#[inline(always)]
pub(super) fn fill_bytes<'a, F: Feed<'a>>(
    offsets: &mut Offsets,
    data: &mut Vec<u8>,
    optional: Optional<'_>,
    feed: F,
    read: impl Fn(&mut F::From, &mut Vec<u8>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    match optional {
        None => feed.each(|r| {
            read(r, data)?;
            offsets.0.push(Offsets::of(data.len())?);
            Ok(())
        }),
        Some((valid, null)) => feed.each(|r| {
            let present = r.present(null)?;
            if present {
                read(r, data)?;
            }
            offsets.0.push(Offsets::of(data.len())?);
            valid.push(present);
            Ok(())
        }),
    }
}
