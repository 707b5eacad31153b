//! What values are read from, and how a column's buffers are filled from it.

use super::column::{Column, Offsets, Store};
use super::fault::Fault;
use super::leaf::fill_bytes;
use super::lists::Lists;
use super::read::{Action, Done, Read, Step};
use super::reader::Reader;
use super::source::Source;
use super::value::Value;

/// Where the next values of a column are. All that reads is compiled for each kind of it, so that one message is read
/// without loops, and many are without a decision a value.
pub(super) trait Feed<'a>: Sized {
    type From: Source<'a>;

    /// How many values.
    fn len(&self) -> usize;

    fn each<E>(self, f: impl FnMut(&mut Self::From) -> Result<(), E>) -> Result<(), E>;

    /// Appends a slot a value.
    fn fill<V: Value>(self, slots: &mut Vec<V::Slot>, value: V) -> Result<(), Fault>;

    /// Appends a slot a value of a union with null, which has this number, and whether there is one.
    fn fill_some<V: Value>(
        self,
        slots: &mut Vec<V::Slot>,
        valid: &mut Vec<bool>,
        null: u8,
        value: V,
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

    /// Reads values that have no values inside.
    fn leaf(self, read: &Read, store: &mut Store, optional: Optional<'_>) -> Result<(), Fault> {
        read.leaf(store, optional, self)
    }

    /// Values of a union with null, which has this number.
    fn optional(self, null: u8, read: &Read, column: &mut Column) -> Done;

    /// Values of a union, with what to do by its branches.
    fn union(self, actions: &[Action], column: &mut Column) -> Done;

    /// Values of a record.
    fn record(self, steps: &[Step], columns: &mut [Column]) -> Done;

    /// Arrays or maps.
    fn lists(self, lists: Lists<'_>, optional: Optional<'_>) -> Done;
}

/// The next value of one message.
pub(super) struct One<'f, 'a>(pub(super) &'f mut Reader<'a>);

/// The next values of one message.
pub(super) struct Along<'f, 'a>(pub(super) &'f mut Reader<'a>, pub(super) usize);

impl<'a> Feed<'a> for One<'_, 'a> {
    type From = Reader<'a>;

    #[inline(always)]
    fn len(&self) -> usize {
        1
    }

    #[inline(always)]
    fn each<E>(self, mut f: impl FnMut(&mut Self::From) -> Result<(), E>) -> Result<(), E> {
        f(self.0)
    }

    #[inline(always)]
    fn fill<V: Value>(self, slots: &mut Vec<V::Slot>, value: V) -> Result<(), Fault> {
        slots.push(value.read(self.0)?);
        Ok(())
    }

    #[inline(always)]
    fn fill_some<V: Value>(
        self,
        slots: &mut Vec<V::Slot>,
        valid: &mut Vec<bool>,
        null: u8,
        value: V,
    ) -> Result<(), Fault> {
        let present = self.0.present(null)?;
        slots.push(match present {
            true => value.read(self.0)?,
            false => V::Slot::default(),
        });
        valid.push(present);
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

    fn lists(self, mut lists: Lists<'_>, mut optional: Optional<'_>) -> Done {
        lists.read_along(self.0, &mut optional)
    }
}

impl<'a> Feed<'a> for Along<'_, 'a> {
    type From = Reader<'a>;

    #[inline(always)]
    fn len(&self) -> usize {
        self.1
    }

    #[inline(always)]
    fn each<E>(self, mut f: impl FnMut(&mut Self::From) -> Result<(), E>) -> Result<(), E> {
        (0..self.1).try_for_each(|_| f(self.0))
    }

    #[inline(always)]
    fn fill<V: Value>(self, slots: &mut Vec<V::Slot>, value: V) -> Result<(), Fault> {
        for slot in grow(slots, self.1) {
            *slot = value.read(self.0)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn fill_some<V: Value>(
        self,
        slots: &mut Vec<V::Slot>,
        valid: &mut Vec<bool>,
        null: u8,
        value: V,
    ) -> Result<(), Fault> {
        let slots = grow(slots, self.1).iter_mut();
        for (slot, valid) in slots.zip(grow(valid, self.1)) {
            *valid = self.0.present(null)?;
            if *valid {
                *slot = value.read(self.0)?;
            }
        }
        Ok(())
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

    fn lists(self, mut lists: Lists<'_>, mut optional: Optional<'_>) -> Done {
        self.each(|r| lists.read_along(r, &mut optional))
    }
}

/// Appends empty slots, and gives them.
#[inline(always)]
pub(super) fn grow<T: Copy + Default>(slots: &mut Vec<T>, by: usize) -> &mut [T] {
    let start = slots.len();
    slots.resize(start + by, T::default());
    slots.get_mut(start..).unwrap_or_default()
}

/// Which slots hold values, and the number of the branch that says that one doesn't.
pub(super) type Optional<'c> = Option<(&'c mut Vec<bool>, u8)>;
