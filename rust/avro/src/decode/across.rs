//! Columns of messages that are read side by side.

use super::block::{Across, Ahead};
use super::column::{Column, Offsets, Store};
use super::cpu;
use super::fault::Fault;
use super::feed::{Feed, Optional, grow};
use super::lists::Lists;
use super::read::{Action, Done, Read, Step};
use super::source::Source;
use super::value::Value;

impl<'a> Feed<'a> for Across<'_, 'a> {
    type From = Ahead<'a>;

    #[inline(always)]
    fn len(&self) -> usize {
        self.cursors.len()
    }

    #[inline(always)]
    fn each<E>(self, mut f: impl FnMut(&mut Ahead<'a>) -> Result<(), E>) -> Result<(), E> {
        let free = *self.free;
        for cursor in self.cursors {
            let mut r = Ahead::new(self.bytes, *cursor, free);
            f(&mut r)?;
            *cursor = r.cursor();
        }
        Ok(())
    }

    #[inline(always)]
    fn fill<V: Value>(self, slots: &mut Vec<V::Slot>, value: V) -> Result<(), Fault> {
        let free = *self.free;
        let slots = grow(slots, self.cursors.len()).iter_mut();
        for (slot, cursor) in slots.zip(self.cursors) {
            let mut r = Ahead::new(self.bytes, *cursor, free);
            *slot = value.read(&mut r)?;
            *cursor = r.cursor();
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
        let free = *self.free;
        let slots = grow(slots, self.cursors.len()).iter_mut();
        let valid = grow(valid, self.cursors.len());
        for ((slot, valid), cursor) in slots.zip(valid).zip(self.cursors) {
            let mut r = Ahead::new(self.bytes, *cursor, free);
            *valid = r.present(null)?;
            if *valid {
                *slot = value.read(&mut r)?;
            }
            *cursor = r.cursor();
        }
        Ok(())
    }

    /// That it is text is checked later, by [`Column::check_text`].
    #[inline(always)]
    fn payloads<const TEXT: bool>(
        self,
        offsets: &mut Offsets,
        data: &mut Vec<u8>,
        optional: Optional<'_>,
    ) -> Result<(), Fault> {
        let (mut end, count, free) = (data.len(), self.cursors.len(), *self.free);
        let ends = grow(&mut offsets.0, count).iter_mut();
        match optional {
            None => {
                for (slot, cursor) in ends.zip(self.cursors) {
                    let mut r = Ahead::new(self.bytes, *cursor, free);
                    r.bytes_to(data, &mut end)?;
                    *slot = end as i32;
                    *cursor = r.cursor();
                }
            }
            Some((valid, null)) => {
                let valid = grow(valid, count);
                for ((slot, valid), cursor) in ends.zip(valid).zip(self.cursors) {
                    let mut r = Ahead::new(self.bytes, *cursor, free);
                    *valid = r.present(null)?;
                    if *valid {
                        r.bytes_to(data, &mut end)?;
                    }
                    *slot = end as i32;
                    *cursor = r.cursor();
                }
            }
        }
        data.truncate(end);
        // They only grow, so that all are in range if the last one is.
        Offsets::of(end).map(drop)
    }

    fn leaf(self, read: &Read, store: &mut Store, optional: Optional<'_>) -> Result<(), Fault> {
        cpu::leaf(read, store, optional, self)
    }

    fn optional(mut self, null: u8, read: &Read, column: &mut Column) -> Done {
        let mut present = Vec::with_capacity(self.cursors.len());
        self.again()
            .each(|r| {
                present.push(r.present(null)?);
                Ok(())
            })
            .map_err(|fault: Fault| fault.of(&column.path))?;
        self.runs(&present, |present, run| match present {
            false => {
                column.skip(run.len());
                Ok(())
            }
            true => read.values(column, run),
        })
    }

    fn union(mut self, actions: &[Action], column: &mut Column) -> Done {
        let mut branches = Vec::with_capacity(self.cursors.len());
        self.again()
            .each(|r| {
                branches.push(r.union(actions.len())?);
                Ok(())
            })
            .map_err(|fault: Fault| fault.of(&column.path))?;
        self.runs(&branches, |branch, run| match actions.get(branch) {
            Some(action) => action.apply(column, run),
            None => Ok(()),
        })
    }

    fn record(mut self, steps: &[Step], columns: &mut [Column]) -> Done {
        steps
            .iter()
            .try_for_each(|step| step.take(columns, self.again()))
    }

    fn lists(self, lists: Lists<'_>, optional: Optional<'_>) -> Done {
        lists.read_across(self, optional)
    }
}

impl<'a> Across<'_, 'a> {
    /// Calls for each run of messages that have the same branch next.
    fn runs<B: Copy + PartialEq>(
        self,
        branches: &[B],
        mut f: impl FnMut(B, Across<'_, 'a>) -> Done,
    ) -> Done {
        let mut cursors = self.cursors;
        for run in branches.chunk_by(|a, b| a == b) {
            let (these, rest) = cursors.split_at_mut(run.len());
            let across = Across {
                bytes: self.bytes,
                cursors: these,
                free: self.free,
            };
            if let Some(branch) = run.first() {
                f(*branch, across)?;
            }
            cursors = rest;
        }
        Ok(())
    }
}
