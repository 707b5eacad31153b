//! Reading: by the writer's types, in the writer's order, into the reader's columns.
//!
//! Many messages are read at once, column by column: a message's next byte is known only when the one before it was
//! read, but those of different messages don't wait for each other. One message is the same with a block of one.

use super::column::{Column, Offsets, Store};
use super::reader::{Fault, Reader};
use super::skip::Skip;
use super::{BLOCK, decimal};
use crate::error::DecodeError;
use crate::uuid;

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

/// What to read from: the next value of each of several messages, or the next values of one.
pub(super) enum Feed<'f, 'a> {
    Across(&'f mut [Reader<'a>]),
    Along(&'f mut Reader<'a>, usize),
}

impl<'a> Feed<'_, 'a> {
    const fn len(&self) -> usize {
        match self {
            Self::Across(readers) => readers.len(),
            Self::Along(_, count) => *count,
        }
    }

    #[inline(always)]
    fn each(self, mut f: impl FnMut(&mut Reader<'a>) -> Result<(), Fault>) -> Result<(), Fault> {
        match self {
            Self::Across(readers) => readers.iter_mut().try_for_each(f),
            Self::Along(reader, count) => (0..count).try_for_each(|_| f(reader)),
        }
    }

    /// As blocks of one, where values can't be read next to each other.
    fn one_by_one(
        self,
        mut f: impl FnMut(&mut [Reader<'a>]) -> Result<(), Box<DecodeError>>,
    ) -> Result<(), Box<DecodeError>> {
        match self {
            Self::Across(readers) => f(readers),
            Self::Along(reader, count) => {
                (0..count).try_for_each(|_| f(std::slice::from_mut(reader)))
            }
        }
    }
}

/// Which slots hold values, and the number of the branch that says that one doesn't.
type Optional<'c> = Option<(&'c mut Vec<bool>, u8)>;

#[inline(always)]
fn fill<'a, T: Copy + Default>(
    values: &mut Vec<T>,
    optional: Optional<'_>,
    feed: Feed<'_, 'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, Fault>,
) -> Result<(), Fault> {
    values.reserve(feed.len());
    match optional {
        None => feed.each(|r| {
            values.push(read(r)?);
            Ok(())
        }),
        Some((valid, null)) => {
            valid.reserve(feed.len());
            feed.each(|r| {
                let present = r.present(null)?;
                values.push(if present { read(r)? } else { T::default() });
                valid.push(present);
                Ok(())
            })
        }
    }
}

#[inline(always)]
fn fill_bytes<'a>(
    offsets: &mut Offsets,
    data: &mut Vec<u8>,
    optional: Optional<'_>,
    feed: Feed<'_, 'a>,
    read: impl Fn(&mut Reader<'a>, &mut Vec<u8>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    offsets.0.reserve(feed.len());
    match optional {
        None => feed.each(|r| {
            read(r, data)?;
            offsets.end(data.len())
        }),
        Some((valid, null)) => {
            valid.reserve(feed.len());
            feed.each(|r| {
                let present = r.present(null)?;
                if present {
                    read(r, data)?;
                }
                valid.push(present);
                offsets.end(data.len())
            })
        }
    }
}

/// Text, of which all of a block is checked at once: it is mostly ASCII.
#[inline(always)]
fn fill_text<'a>(
    offsets: &mut Offsets,
    data: &mut Vec<u8>,
    optional: Optional<'_>,
    feed: Feed<'_, 'a>,
) -> Result<(), Fault> {
    if let Feed::Across(readers) = feed {
        let (first, start) = (offsets.0.len(), data.len());
        fill_bytes(offsets, data, optional, Feed::Across(readers), |r, out| {
            r.bytes_into(out)
        })?;
        let text = data.get(start..).unwrap_or_default();
        if text.is_ascii() {
            return Ok(());
        }
        let mut begin = start;
        for (end, r) in offsets.0.iter().skip(first).zip(readers) {
            let end = end.unsigned_abs() as usize;
            let one = data.get(begin..end).unwrap_or_default();
            if std::str::from_utf8(one).is_err() {
                return Err(r.invalid("not UTF-8"));
            }
            begin = end;
        }
        return Ok(());
    }
    fill_bytes(offsets, data, optional, feed, |r, out| {
        let bytes = r.bytes()?;
        if std::str::from_utf8(bytes).is_err() {
            return Err(r.invalid("not UTF-8"));
        }
        out.extend_from_slice(bytes);
        Ok(())
    })
}

impl Op {
    /// Appends the next values. After an error the column may hold a part of them: [`Column::truncate`] mends that.
    pub(super) fn read(
        &self,
        column: &mut Column,
        feed: Feed<'_, '_>,
    ) -> Result<(), Box<DecodeError>> {
        match self {
            Self::One(action) => action.apply(column, feed),
            Self::Optional(null, read) if read.is_leaf() => {
                let Column {
                    path, valid, store, ..
                } = column;
                let optional = valid.as_mut().map(|valid| (valid, *null));
                read.leaf(store, optional, feed)
                    .map_err(|fault| fault.of(path))
            }
            Self::Optional(null, read) => feed.one_by_one(|readers| {
                for r in &mut *readers {
                    let present = r.present(*null).map_err(|fault| fault.of(&column.path))?;
                    r.branch = u8::from(present);
                }
                runs(readers, |branch, run| match branch {
                    0 => {
                        column.skip(run.len());
                        Ok(())
                    }
                    _ => value(read, column, Feed::Across(run)),
                })
            }),
            Self::Union(actions) => feed.one_by_one(|readers| {
                for r in &mut *readers {
                    let branch = r.union(actions.len());
                    // There are at most 64 branches.
                    r.branch = branch.map_err(|fault| fault.of(&column.path))? as u8;
                }
                runs(readers, |branch, run| {
                    match actions.get(usize::from(branch)) {
                        Some(action) => action.apply(column, Feed::Across(run)),
                        None => Ok(()),
                    }
                })
            }),
        }
    }
}

/// Calls for each run of messages that have the same branch next.
fn runs<'a>(
    mut readers: &mut [Reader<'a>],
    mut f: impl FnMut(u8, &mut [Reader<'a>]) -> Result<(), Box<DecodeError>>,
) -> Result<(), Box<DecodeError>> {
    while let Some(first) = readers.first() {
        let branch = first.branch;
        let other = readers.iter().position(|r| r.branch != branch);
        let (run, rest) = readers.split_at_mut(other.unwrap_or(readers.len()));
        f(branch, run)?;
        readers = rest;
    }
    Ok(())
}

/// Values that are there.
fn value(read: &Read, column: &mut Column, feed: Feed<'_, '_>) -> Result<(), Box<DecodeError>> {
    if let Some(valid) = &mut column.valid {
        valid.resize(valid.len() + feed.len(), true);
    }
    if read.is_leaf() {
        let leaf = read.leaf(&mut column.store, None, feed);
        return leaf.map_err(|fault| fault.of(&column.path));
    }
    read.nested(&mut column.store, feed, &column.path)
}

impl Action {
    fn apply(&self, column: &mut Column, feed: Feed<'_, '_>) -> Result<(), Box<DecodeError>> {
        match self {
            Self::Null => {
                column.skip(feed.len());
                Ok(())
            }
            Self::Value(read) => value(read, column, feed),
            Self::Member(number, op) => {
                if let Some(valid) = &mut column.valid {
                    valid.resize(valid.len() + feed.len(), true);
                }
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

    /// Reads values that have no values inside.
    fn leaf(
        &self,
        store: &mut Store,
        optional: Optional<'_>,
        feed: Feed<'_, '_>,
    ) -> Result<(), Fault> {
        match (self, store) {
            (Self::Boolean, Store::Boolean(values)) => {
                fill(values, optional, feed, |r| match r.byte()? {
                    byte @ (0 | 1) => Ok(byte == 1),
                    byte => Err(r.invalid(format!("{byte:#04x} is not a boolean"))),
                })
            }
            (Self::Int, Store::I32(values)) => fill(values, optional, feed, Reader::int),
            (Self::IntAs(number), Store::I32(values)) => fill(values, optional, feed, |r| {
                let v = r.int()?.into();
                // A time of day is less than an int, whatever its unit.
                i32::try_from(number.of(r, v)?).map_err(|_| r.invalid("out of range of int"))
            }),
            (Self::IntAs(number), Store::I64(values)) => fill(values, optional, feed, |r| {
                let v = r.int()?.into();
                number.of(r, v)
            }),
            (Self::Long, Store::I64(values)) => fill(values, optional, feed, Reader::long),
            (Self::LongAs(number), Store::I64(values)) => fill(values, optional, feed, |r| {
                let v = r.long()?;
                number.of(r, v)
            }),
            (Self::IntAsFloat, Store::F32(values)) => {
                fill(values, optional, feed, |r| Ok(r.int()? as f32))
            }
            (Self::LongAsFloat, Store::F32(values)) => {
                fill(values, optional, feed, |r| Ok(r.long()? as f32))
            }
            (Self::Float, Store::F32(values)) => fill(values, optional, feed, |r| {
                Ok(f32::from_le_bytes(r.array()?))
            }),
            (Self::IntAsFloat, Store::F64(values)) => {
                fill(values, optional, feed, |r| Ok(r.int()?.into()))
            }
            (Self::LongAsFloat, Store::F64(values)) => {
                fill(values, optional, feed, |r| Ok(r.long()? as f64))
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
            (Self::Text, Store::Bytes(offsets, data)) => fill_text(offsets, data, optional, feed),
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
    fn nested(
        &self,
        store: &mut Store,
        feed: Feed<'_, '_>,
        path: &str,
    ) -> Result<(), Box<DecodeError>> {
        match (self, store) {
            (Self::Array(elements), Store::List(offsets, items)) => {
                let (min_size, cost) = (elements.min_size, elements.cost(items));
                feed.one_by_one(|readers| {
                    readers.iter_mut().try_for_each(|r| {
                        blocks(r, offsets, min_size, cost, path, |r, count| {
                            elements.op.read(items, Feed::Along(r, count))
                        })
                    })
                })
            }
            (Self::Map(elements), Store::Map(offsets, keys, values)) => {
                let cost = keys.cost.saturating_add(elements.cost(values));
                feed.one_by_one(|readers| {
                    readers.iter_mut().try_for_each(|r| {
                        // A key is one byte at least.
                        blocks(r, offsets, 1, cost, path, |r, count| {
                            for _ in 0..count {
                                value(&Self::Text, keys, Feed::Along(r, 1))?;
                                elements.op.read(values, Feed::Along(r, 1))?;
                            }
                            Ok(())
                        })
                    })
                })
            }
            (Self::Record(steps), Store::Struct(columns, slots)) => {
                *slots += feed.len();
                feed.one_by_one(|readers| read_record(steps, columns, readers))
            }
            _ => Err(defect(path)),
        }
    }
}

/// Reads the blocks of an array or a map, and ends its slot.
fn blocks<'a>(
    r: &mut Reader<'a>,
    offsets: &mut Offsets,
    min_size: usize,
    cost: usize,
    path: &str,
    mut read: impl FnMut(&mut Reader<'a>, usize) -> Result<(), Box<DecodeError>>,
) -> Result<(), Box<DecodeError>> {
    let mut len = offsets.last();
    loop {
        let block = r.block(min_size, cost).map_err(|fault| fault.of(path))?;
        if block.count == 0 {
            return offsets.end(len).map_err(|fault| fault.of(path));
        }
        read(r, block.count)?;
        r.check_end(block).map_err(|fault| fault.of(path))?;
        len += block.count;
    }
}

/// Reads the fields of a record.
pub(super) fn read_record(
    steps: &[Step],
    columns: &mut [Column],
    readers: &mut [Reader<'_>],
) -> Result<(), Box<DecodeError>> {
    for step in steps {
        match step {
            Step::Read(number, op) => {
                if let Some(column) = columns.get_mut(*number) {
                    op.read(column, Feed::Across(readers))?;
                }
            }
            Step::Skip(over, path) => {
                for r in &mut *readers {
                    over.skip(r).map_err(|fault| fault.of(path))?;
                }
            }
            Step::Default(number, default) => {
                if let Some(column) = columns.get_mut(*number) {
                    default.read(column, readers.len())?;
                }
            }
        }
    }
    Ok(())
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
        op.read(scratch, Feed::Along(&mut reader, 1))?;
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
                .read(column, Feed::Along(&mut Reader::new(&self.bytes), now))?;
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
