//! Reading: by the writer's types, in the writer's order, into the reader's columns.
//!
//! Many messages may be read at once, column by column: a message's next byte is known only when the one before it was
//! read, but those of different messages don't wait for each other.

use super::column::{Column, Store};
use super::feed::{Along, Feed, One, Optional};
use super::lists::{Elements, Inside, Lists};
use super::reader::Reader;
use super::skip::Skip;
use super::source::Source;
use crate::error::DecodeError;

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
    /// What values of 64 bits are below.
    pub(super) limit: u64,
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
            // By far the most, and so without another call.
            Self::One(Action::Value(read)) => read.values(column, feed),
            Self::One(action) => action.apply(column, feed),
            Self::Optional(null, read @ Read::Record(_)) => feed.optional(*null, read, column),
            Self::Optional(null, read) => {
                let valid = column.valid.as_mut().map(|valid| (valid, *null));
                read.slots(&mut column.store, valid, feed, &column.path)
            }
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
    /// Reads values that are there.
    #[inline(always)]
    pub(super) fn values<'a>(&self, column: &mut Column, feed: impl Feed<'a>) -> Done {
        set_valid(column, feed.len());
        self.slots(&mut column.store, None, feed, &column.path)
    }

    /// Reads values, which may be null instead; a record is none then.
    #[inline(always)]
    pub(super) fn slots<'a>(
        &self,
        store: &mut Store,
        optional: Optional<'_>,
        feed: impl Feed<'a>,
        path: &str,
    ) -> Done {
        match self {
            Self::Array(_) | Self::Map(_) | Self::Record(_) => {
                self.nested(store, optional, feed, path)
            }
            _ => feed
                .leaf(self, store, optional)
                .map_err(|fault| fault.of(path)),
        }
    }

    /// Reads values that have values inside.
    fn nested<'a>(
        &self,
        store: &mut Store,
        optional: Optional<'_>,
        feed: impl Feed<'a>,
        path: &str,
    ) -> Done {
        let (elements, offsets, into) = match (self, store) {
            (Self::Record(steps), Store::Struct(columns, slots)) => {
                *slots += feed.len();
                return feed.record(steps, columns);
            }
            (Self::Array(elements), Store::List(offsets, items)) => {
                (elements, offsets, Inside::Items(items))
            }
            (Self::Map(elements), Store::Map(offsets, keys, values)) => {
                (elements, offsets, Inside::Entries(keys, values))
            }
            _ => return Err(defect(path)),
        };
        feed.lists(Lists::new(elements, offsets, into, path), optional)
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
        let times = (1024 / bytes.len().max(1)).clamp(1, 128);
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
