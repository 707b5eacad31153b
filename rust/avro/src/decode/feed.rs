//! What values are read from, and how a column's buffers are filled from it.

use super::column::{Column, Offsets};
use super::read::{Action, Done, Read, Step};
use super::reader::{Fault, Reader};
use crate::error::DecodeError;

/// Where the next values of a column are. All that reads is compiled for each kind of it, so that one message is read
/// without loops, and many are without a decision a value.
pub(super) trait Feed<'a>: Sized {
    /// How many values.
    fn len(&self) -> usize;

    fn each<E>(self, f: impl FnMut(&mut Reader<'a>) -> Result<(), E>) -> Result<(), E>;

    /// Appends a slot a value.
    fn fill<T: Copy + Default>(
        self,
        slots: &mut Vec<T>,
        f: impl FnMut(&mut Reader<'a>, &mut T) -> Result<(), Fault>,
    ) -> Result<(), Fault>;

    /// Appends a slot a value, and whether there is one.
    fn fill_some<T: Copy + Default>(
        self,
        slots: &mut Vec<T>,
        valid: &mut Vec<bool>,
        f: impl FnMut(&mut Reader<'a>, &mut T) -> Result<bool, Fault>,
    ) -> Result<(), Fault>;

    /// Values of a union with null, which has this number.
    fn optional(self, null: u8, read: &Read, column: &mut Column) -> Done;

    /// Values of a union, with what to do by its branches.
    fn union(self, actions: &[Action], column: &mut Column) -> Done;

    /// Values of a record.
    fn record(self, steps: &[Step], columns: &mut [Column]) -> Done;
}

/// The next value of one message.
pub(super) struct One<'f, 'a>(pub(super) &'f mut Reader<'a>);

/// The next values of one message.
pub(super) struct Along<'f, 'a>(pub(super) &'f mut Reader<'a>, pub(super) usize);

/// The next value of each of several messages.
pub(super) struct Across<'f, 'a>(pub(super) &'f mut [Reader<'a>]);

impl<'a> Feed<'a> for One<'_, 'a> {
    #[inline(always)]
    fn len(&self) -> usize {
        1
    }

    #[inline(always)]
    fn each<E>(self, mut f: impl FnMut(&mut Reader<'a>) -> Result<(), E>) -> Result<(), E> {
        f(self.0)
    }

    #[inline(always)]
    fn fill<T: Copy + Default>(
        self,
        slots: &mut Vec<T>,
        mut f: impl FnMut(&mut Reader<'a>, &mut T) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut slot = T::default();
        f(self.0, &mut slot)?;
        slots.push(slot);
        Ok(())
    }

    #[inline(always)]
    fn fill_some<T: Copy + Default>(
        self,
        slots: &mut Vec<T>,
        valid: &mut Vec<bool>,
        mut f: impl FnMut(&mut Reader<'a>, &mut T) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let mut slot = T::default();
        valid.push(f(self.0, &mut slot)?);
        slots.push(slot);
        Ok(())
    }

    fn optional(self, null: u8, read: &Read, column: &mut Column) -> Done {
        let present = self.0.present(null);
        if present.map_err(|fault| fault.of(&column.path))? {
            return read.values(column, self);
        }
        column.skip(1);
        Ok(())
    }

    fn union(self, actions: &[Action], column: &mut Column) -> Done {
        let branch = self.0.union(actions.len());
        let branch = branch.map_err(|fault| fault.of(&column.path))?;
        // `Reader::union` gives none but the branches there are.
        actions
            .get(branch)
            .map_or(Ok(()), |action| action.apply(column, self))
    }

    fn record(self, steps: &[Step], columns: &mut [Column]) -> Done {
        steps
            .iter()
            .try_for_each(|step| step.take(columns, One(&mut *self.0)))
    }
}

impl<'a> Feed<'a> for Along<'_, 'a> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.1
    }

    #[inline(always)]
    fn each<E>(self, mut f: impl FnMut(&mut Reader<'a>) -> Result<(), E>) -> Result<(), E> {
        (0..self.1).try_for_each(|_| f(self.0))
    }

    #[inline(always)]
    fn fill<T: Copy + Default>(
        self,
        slots: &mut Vec<T>,
        mut f: impl FnMut(&mut Reader<'a>, &mut T) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        grow(slots, self.1)
            .iter_mut()
            .try_for_each(|slot| f(self.0, slot))
    }

    #[inline(always)]
    fn fill_some<T: Copy + Default>(
        self,
        slots: &mut Vec<T>,
        valid: &mut Vec<bool>,
        mut f: impl FnMut(&mut Reader<'a>, &mut T) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let slots = grow(slots, self.1).iter_mut();
        slots
            .zip(grow(valid, self.1))
            .try_for_each(|(slot, valid)| {
                *valid = f(self.0, slot)?;
                Ok(())
            })
    }

    fn optional(self, null: u8, read: &Read, column: &mut Column) -> Done {
        self.each(|r| One(r).optional(null, read, column))
    }

    fn union(self, actions: &[Action], column: &mut Column) -> Done {
        self.each(|r| One(r).union(actions, column))
    }

    fn record(self, steps: &[Step], columns: &mut [Column]) -> Done {
        self.each(|r| One(r).record(steps, columns))
    }
}

impl<'a> Feed<'a> for Across<'_, 'a> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn each<E>(self, f: impl FnMut(&mut Reader<'a>) -> Result<(), E>) -> Result<(), E> {
        self.0.iter_mut().try_for_each(f)
    }

    #[inline(always)]
    fn fill<T: Copy + Default>(
        self,
        slots: &mut Vec<T>,
        mut f: impl FnMut(&mut Reader<'a>, &mut T) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let slots = grow(slots, self.0.len()).iter_mut();
        slots.zip(self.0).try_for_each(|(slot, r)| f(r, slot))
    }

    #[inline(always)]
    fn fill_some<T: Copy + Default>(
        self,
        slots: &mut Vec<T>,
        valid: &mut Vec<bool>,
        mut f: impl FnMut(&mut Reader<'a>, &mut T) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let (slots, valid) = (grow(slots, self.0.len()), grow(valid, self.0.len()));
        let slots = slots.iter_mut().zip(valid);
        slots.zip(self.0).try_for_each(|((slot, valid), r)| {
            *valid = f(r, slot)?;
            Ok(())
        })
    }

    fn optional(self, null: u8, read: &Read, column: &mut Column) -> Done {
        for r in &mut *self.0 {
            let present = r.present(null);
            r.branch = u8::from(present.map_err(|fault| fault.of(&column.path))?);
        }
        runs(self.0, |branch, run| match branch {
            0 => {
                column.skip(run.len());
                Ok(())
            }
            _ => read.values(column, Across(run)),
        })
    }

    fn union(self, actions: &[Action], column: &mut Column) -> Done {
        for r in &mut *self.0 {
            let branch = r.union(actions.len());
            // There are at most 64 branches.
            r.branch = branch.map_err(|fault| fault.of(&column.path))? as u8;
        }
        runs(self.0, |branch, run| {
            match actions.get(usize::from(branch)) {
                Some(action) => action.apply(column, Across(run)),
                None => Ok(()),
            }
        })
    }

    fn record(self, steps: &[Step], columns: &mut [Column]) -> Done {
        steps
            .iter()
            .try_for_each(|step| step.take(columns, Across(&mut *self.0)))
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

/// Appends empty slots, and gives them.
#[inline(always)]
fn grow<T: Copy + Default>(slots: &mut Vec<T>, by: usize) -> &mut [T] {
    let start = slots.len();
    slots.resize(start + by, T::default());
    slots.get_mut(start..).unwrap_or_default()
}

/// Which slots hold values, and the number of the branch that says that one doesn't.
pub(super) type Optional<'c> = Option<(&'c mut Vec<bool>, u8)>;

/// Values of one size in the column.
#[inline(always)]
pub(super) fn fill<'a, T: Copy + Default>(
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
pub(super) fn fill_numbers<'a, T: Copy + Default>(
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
            let Some(v) = r.optional_long(null)? else {
                return Ok(false);
            };
            *slot = of(r, v)?;
            Ok(true)
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
