//! What values are read from, and how a column's buffers are filled from it.

use super::column::{Column, Offsets};
use super::fault::Fault;
use super::leaf::fill_bytes;
use super::lists::{self, Elements, Inside};
use super::read::{Action, Done, Read, Step};
use super::reader::Reader;
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

    /// Appends bytes, which may have to be text.
    #[inline(always)]
    fn payloads<const TEXT: bool>(
        self,
        offsets: &mut Offsets,
        data: &mut Vec<u8>,
        optional: Optional<'_>,
    ) -> Result<(), Fault> {
        fill_bytes(offsets, data, optional, self, |r, out| match TEXT {
            true => r.text_into(out),
            false => r.bytes_into(out),
        })
    }

    /// Values of a union with null, which has this number.
    fn optional(self, null: u8, read: &Read, column: &mut Column) -> Done;

    /// Values of a union, with what to do by its branches.
    fn union(self, actions: &[Action], column: &mut Column) -> Done;

    /// Values of a record.
    fn record(self, steps: &[Step], columns: &mut [Column]) -> Done;

    /// Arrays or maps.
    fn lists(
        self,
        elements: &Elements,
        offsets: &mut Offsets,
        into: Inside<'_>,
        path: &str,
    ) -> Done {
        lists::in_turn(self, elements, offsets, into, path)
    }
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
        // Loops that are written out have all that they do compiled into them.
        for (slot, r) in grow(slots, self.0.len()).iter_mut().zip(self.0) {
            f(r, slot)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn fill_some<T: Copy + Default>(
        self,
        slots: &mut Vec<T>,
        valid: &mut Vec<bool>,
        mut f: impl FnMut(&mut Reader<'a>, &mut T) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let (slots, valid) = (grow(slots, self.0.len()), grow(valid, self.0.len()));
        for ((slot, valid), r) in slots.iter_mut().zip(valid).zip(self.0) {
            *valid = f(r, slot)?;
        }
        Ok(())
    }

    /// Text is checked later, see [`Reader::of_many`].
    #[inline(always)]
    fn payloads<const TEXT: bool>(
        self,
        offsets: &mut Offsets,
        data: &mut Vec<u8>,
        optional: Optional<'_>,
    ) -> Result<(), Fault> {
        let mut end = data.len();
        let ends = grow(&mut offsets.0, self.0.len()).iter_mut();
        match optional {
            None => {
                for (slot, r) in ends.zip(self.0) {
                    r.bytes_to(data, &mut end)?;
                    *slot = Offsets::of(end)?;
                }
            }
            Some((valid, null)) => {
                let valid = grow(valid, self.0.len());
                for ((slot, valid), r) in ends.zip(valid).zip(self.0) {
                    *valid = r.present(null)?;
                    if *valid {
                        r.bytes_to(data, &mut end)?;
                    }
                    *slot = Offsets::of(end)?;
                }
            }
        }
        data.truncate(end);
        Ok(())
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

    fn lists(
        self,
        elements: &Elements,
        offsets: &mut Offsets,
        into: Inside<'_>,
        path: &str,
    ) -> Done {
        lists::side_by_side(self.0, elements, offsets, into, path)
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
