//! Reading: by the writer's types, in the writer's order, into the reader's columns.
//!
//! Many messages may be read at once, column by column: a message's next byte is known only when the one before it was
//! read, but those of different messages don't wait for each other.

use super::column::{Column, Offsets, Store};
use super::feed::{Along, Feed, One, Optional, fill, fill_bytes, fill_numbers};
use super::reader::{Fault, Reader};
use super::skip::Skip;
use super::{BLOCK, decimal};
use crate::error::DecodeError;
use crate::uuid;

/// What reading gives. An error that a column's values have is boxed, so that no error comes back in registers.
pub(super) type Done = Result<(), Box<DecodeError>>;

/// How the next slot of a column is read.
#[derive(Debug)]
pub(super) enum Op {
    /// The writer's type is no union.
    One(Action),
    /// It is one of two branches: null, which has this number, and another.
    Optional(u8, Read),
    /// It is another union, with what to do by its branches.
    Union(Box<[Action]>),
}

#[derive(Debug)]
pub(super) enum Action {
    Null,
    Value(Read),
    /// The value is the member of this number.
    Member(usize, Box<Op>),
    /// A type that the reader can't take, and why.
    Refused(String),
}

/// A value on the wire, and what is made of it. Each goes with the store that it fills.
#[derive(Debug)]
pub(super) enum Read {
    Boolean,
    Int,
    IntAs(Number),
    Long,
    LongAs(Number),
    /// The writer's int or long, as a float or a double.
    IntAsFloat,
    LongAsFloat,
    Float,
    FloatAsDouble,
    Double,
    Bytes,
    Text,
    UuidText,
    /// On the wire 16 bytes, in the column text.
    Uuid,
    /// On the wire a number, in the column its symbol: the reader's, where it has one.
    Symbol(Box<[Option<Box<str>>]>),
    Fixed,
    Duration,
    Decimal(DecimalRead),
    Array(Box<Elements>),
    Map(Box<Elements>),
    Record(Box<[Step]>),
}

/// What is done with a whole number beside promoting it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number {
    pub(super) multiply: i64,
    pub(super) divide: i64,
    /// Of a time of day, the units of a day.
    pub(super) day: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct DecimalRead {
    /// Size of the fixed that carries it.
    pub(super) fixed: Option<usize>,
    pub(super) precision: usize,
}

/// The elements of an array or the values of a map.
#[derive(Debug)]
pub(super) struct Elements {
    /// The fewest bytes of one.
    pub(super) min_size: usize,
    /// Memory that the reader's defaults take in one.
    pub(super) defaults: usize,
    pub(super) op: Op,
}

/// What to do for a record: in the order of the writer's fields, and then for the fields that only the reader has.
#[derive(Debug)]
pub(super) enum Step {
    /// Into the column of this number.
    Read(usize, Op),
    /// With the path of the writer's field.
    Skip(Skip, String),
    /// A default, into the column of this number.
    Default(usize, DefaultValue),
}

/// A reader's default, as a writer would have written it.
#[derive(Debug)]
pub(super) struct DefaultValue {
    op: Op,
    /// The value, so many times.
    bytes: Vec<u8>,
    times: usize,
    /// Memory that it takes at most, beside what any slot of its column takes.
    cost: usize,
}

impl Op {
    /// Appends the next values. After an error the column may hold a part of them: [`Column::truncate`] mends that.
    #[inline(always)]
    pub(super) fn read<'a>(&self, column: &mut Column, feed: impl Feed<'a>) -> Done {
        match self {
            Self::One(action) => action.apply(column, feed),
            Self::Optional(null, read) if read.is_leaf() => {
                let valid = column.valid.as_mut().map(|valid| (valid, *null));
                read.leaf(&mut column.store, valid, feed)
                    .map_err(|fault| fault.of(&column.path))
            }
            Self::Optional(null, read) => feed.optional(*null, read, column),
            Self::Union(actions) => feed.union(actions, column),
        }
    }
}

impl Action {
    #[inline]
    pub(super) fn apply<'a>(&self, column: &mut Column, feed: impl Feed<'a>) -> Done {
        match self {
            Self::Value(read) => read.values(column, feed),
            Self::Null => {
                column.skip(feed.len());
                Ok(())
            }
            Self::Member(number, op) => {
                set_valid(column, feed.len());
                let Store::Struct(members, slots) = &mut column.store else {
                    return Err(defect(&column.path));
                };
                *slots += feed.len();
                for (i, member) in members.iter_mut().enumerate() {
                    if i != *number {
                        member.skip(feed.len());
                    }
                }
                match members.get_mut(*number) {
                    Some(member) => op.read(member, feed),
                    None => Err(defect(&column.path)),
                }
            }
            Self::Refused(why) => feed
                .each(|r| Err(r.invalid(why.as_str())))
                .map_err(|fault| fault.of(&column.path)),
        }
    }
}

/// Of a column that may hold nulls, that the next slots don't.
#[inline(always)]
fn set_valid(column: &mut Column, slots: usize) {
    if let Some(valid) = &mut column.valid {
        valid.resize(valid.len() + slots, true);
    }
}

#[cold]
fn defect(path: &str) -> Box<DecodeError> {
    Box::new(DecodeError::Arrow(format!(
        "{path}: a column is not of its own type"
    )))
}

impl Read {
    pub(super) const fn is_leaf(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Map(_) | Self::Record(_))
    }

    /// Reads values that are there.
    #[inline(always)]
    pub(super) fn values<'a>(&self, column: &mut Column, feed: impl Feed<'a>) -> Done {
        set_valid(column, feed.len());
        if self.is_leaf() {
            let leaf = self.leaf(&mut column.store, None, feed);
            return leaf.map_err(|fault| fault.of(&column.path));
        }
        self.nested(&mut column.store, feed, &column.path)
    }

    /// Reads values that have no values inside.
    fn leaf<'a>(
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
                fill_bytes(offsets, data, optional, feed, |r, out| r.bytes_into(out))
            }
            (Self::Text, Store::Bytes(offsets, data)) => {
                fill_bytes(offsets, data, optional, feed, |r, out| r.text_into(out))
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
                fill(values, optional, feed, |r| decimal.of(r, decimal::narrow))
            }
            (Self::Decimal(decimal), Store::I256(values)) => {
                fill(values, optional, feed, |r| decimal.of(r, decimal::wide))
            }
            _ => feed.each(|r| Err(r.invalid("a column is not of its own type"))),
        }
    }

    /// Reads values that have values inside.
    fn nested<'a>(&self, store: &mut Store, feed: impl Feed<'a>, path: &str) -> Done {
        match (self, store) {
            (Self::Array(elements), Store::List(offsets, items)) => {
                let (min_size, cost) = (elements.min_size, elements.cost(items));
                feed.each(|r| {
                    blocks(r, offsets, min_size, cost, path, |r, count| {
                        elements.op.read(items, Along(r, count))
                    })
                })
            }
            (Self::Map(elements), Store::Map(offsets, keys, values)) => {
                let cost = keys.cost.saturating_add(elements.cost(values));
                feed.each(|r| {
                    // A key is one byte at least.
                    blocks(r, offsets, 1, cost, path, |r, count| {
                        (0..count).try_for_each(|_| {
                            Self::Text.values(keys, One(&mut *r))?;
                            elements.op.read(values, One(&mut *r))
                        })
                    })
                })
            }
            (Self::Record(steps), Store::Struct(columns, slots)) => {
                *slots += feed.len();
                feed.record(steps, columns)
            }
            _ => Err(defect(path)),
        }
    }
}

/// Reads the blocks of an array or a map, and ends its slot.
#[inline]
fn blocks<'a>(
    r: &mut Reader<'a>,
    offsets: &mut Offsets,
    min_size: usize,
    cost: usize,
    path: &str,
    mut read: impl FnMut(&mut Reader<'a>, usize) -> Done,
) -> Done {
    let mut len = offsets.last();
    loop {
        let block = r.block(min_size, cost).map_err(|fault| fault.of(path))?;
        if block.count == 0 {
            let end = Offsets::of(len).map_err(|fault| fault.of(path))?;
            offsets.0.push(end);
            return Ok(());
        }
        read(r, block.count)?;
        r.check_end(block).map_err(|fault| fault.of(path))?;
        len += block.count;
    }
}

impl Step {
    #[inline(always)]
    pub(super) fn take<'a>(&self, columns: &mut [Column], feed: impl Feed<'a>) -> Done {
        match self {
            Self::Read(number, op) => match columns.get_mut(*number) {
                Some(column) => op.read(column, feed),
                None => Ok(()),
            },
            Self::Skip(over, path) => feed.each(|r| over.skip(r)).map_err(|fault| fault.of(path)),
            Self::Default(number, default) => match columns.get_mut(*number) {
                Some(column) => default.read(column, feed.len()),
                None => Ok(()),
            },
        }
    }
}

impl Elements {
    /// Memory that one takes at most, beside what its bytes hold.
    fn cost(&self, column: &Column) -> usize {
        column.cost.saturating_add(self.defaults)
    }
}

impl DefaultValue {
    /// A default that `op` reads from `bytes`; `scratch` is a column for it.
    pub(super) fn new(
        op: Op,
        bytes: &[u8],
        scratch: &mut Column,
    ) -> Result<Self, Box<DecodeError>> {
        let mut reader = Reader::new(bytes);
        op.read(scratch, One(&mut reader))?;
        // Short ones are written out often enough to be read many at once.
        let times = (1024 / bytes.len().max(1)).clamp(1, BLOCK);
        Ok(Self {
            op,
            bytes: bytes.repeat(times),
            times,
            cost: reader.taken(),
        })
    }

    fn read(&self, column: &mut Column, slots: usize) -> Result<(), Box<DecodeError>> {
        let mut left = slots;
        while left > 0 {
            let now = left.min(self.times);
            self.op
                .read(column, Along(&mut Reader::new(&self.bytes), now))?;
            left -= now;
        }
        Ok(())
    }
}

/// Memory that the reader's defaults take in a record, arrays and maps apart.
pub(super) fn defaults_of(steps: &[Step]) -> usize {
    steps.iter().fold(0, |sum: usize, step| {
        sum.saturating_add(match step {
            Step::Read(_, op) => op.defaults(),
            Step::Skip(..) => 0,
            Step::Default(_, default) => default.cost,
        })
    })
}

impl Op {
    pub(super) fn defaults(&self) -> usize {
        match self {
            Self::One(action) => action.defaults(),
            Self::Optional(_, read) => read.defaults(),
            Self::Union(actions) => actions.iter().map(Action::defaults).max().unwrap_or(0),
        }
    }
}

impl Action {
    fn defaults(&self) -> usize {
        match self {
            Self::Value(read) => read.defaults(),
            Self::Member(_, op) => op.defaults(),
            Self::Null | Self::Refused(_) => 0,
        }
    }
}

impl Read {
    fn defaults(&self) -> usize {
        match self {
            Self::Record(steps) => defaults_of(steps),
            _ => 0,
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
    fn of<T>(
        self,
        r: &mut Reader<'_>,
        number: impl Fn(&[u8], usize) -> Option<T>,
    ) -> Result<T, Fault> {
        let bytes = match self.fixed {
            Some(size) => r.take(size)?,
            None => r.bytes()?,
        };
        number(bytes, self.precision).ok_or_else(|| {
            r.invalid(format!(
                "not a decimal of at most {} digits",
                self.precision
            ))
        })
    }
}
