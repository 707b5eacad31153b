//! Columns of messages that are read side by side.

use super::block::{Across, Ahead, Cursor};
use super::column::{Column, Offsets, Store};
use super::fault::Fault;
use super::feed::{Feed, Optional, grow};
use super::lists::Lists;
use super::read::{Action, Done, Read, Step};
use super::source::Source;
use super::value::Value;
use crate::cpu;

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
        cpu::run(Leaves {
            read,
            store,
            optional,
            across: self,
        })
    }

    /// Those that are there are read side by side, as if there were no others, and moved to their slots then.
    fn optional(mut self, null: u8, read: &Read, column: &mut Column) -> Done {
        let mut present = Vec::with_capacity(self.cursors.len());
        self.again()
            .each(|r| {
                present.push(r.present(null)?);
                Ok(())
            })
            .map_err(|fault: Fault| fault.of(&column.path))?;
        let mut there = vec![Cursor::default(); present.len()];
        let mut count = 0;
        for (cursor, present) in self.cursors.iter().zip(&present) {
            there[count] = *cursor;
            count += usize::from(*present);
        }
        let across = Across {
            bytes: self.bytes,
            cursors: &mut there[..count],
            free: self.free,
        };
        read.slots(&mut column.store, None, across, &column.path)?;
        let mut there = there.iter();
        for (cursor, _) in self
            .cursors
            .iter_mut()
            .zip(&present)
            .filter(|(_, present)| **present)
        {
            *cursor = *there.next().unwrap_or(cursor);
        }
        column.store.spread(&present);
        if let Some(valid) = &mut column.valid {
            valid.append(&mut present);
        }
        Ok(())
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

/// Values that have no values inside, of messages side by side.
struct Leaves<'r, 'n, 'a, 'b> {
    read: &'r Read,
    store: &'r mut Store,
    optional: Optional<'n>,
    across: Across<'a, 'b>,
}

impl cpu::Work for Leaves<'_, '_, '_, '_> {
    type Done = Result<(), Fault>;

    #[inline(always)]
    fn run(self) -> Self::Done {
        self.read.leaf(self.store, self.optional, self.across)
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::Block;
    use super::super::read::Op;
    use super::super::resolve;
    use super::*;
    use crate::schema::AvroSchema;
    use crate::wire::push_long;

    /// Tests run on new processors: this is what runs on old ones.
    #[test]
    fn both_forms_read_the_same() {
        let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":30,"scale":2}"#;
        for ty in ["\"long\"", "\"double\"", "\"bytes\"", decimal] {
            let json =
                format!(r#"{{"type":"record","name":"R","fields":[{{"name":"f","type":{ty}}}]}}"#);
            let schema = AvroSchema::parse(&json).unwrap();
            let steps = resolve::record(schema.record(), schema.record()).unwrap();
            let [Step::Read(_, Op::One(Action::Value(read)))] = &steps[..] else {
                panic!("{steps:?}");
            };
            let messages: Vec<Vec<u8>> = (0..128).map(|i| message(ty, i)).collect();
            let made = [true, false].map(|new| {
                let mut block = Block::default();
                assert!(messages.iter().all(|message| block.add(message)));
                let mut column = Column::new(&schema.fields()[0].ty, String::new()).unwrap();
                let all = block.read(|across| match new {
                    true => across.leaf(read, &mut column.store, None),
                    false => read.leaf(&mut column.store, None, across),
                });
                assert!(all.is_some(), "{ty}");
                column.finish().unwrap()
            });
            assert_eq!(made[0].to_data(), made[1].to_data(), "{ty}");
        }
    }

    /// Of each type one of every length.
    fn message(ty: &str, i: usize) -> Vec<u8> {
        let mut out = Vec::new();
        match ty {
            "\"long\"" => push_long((i64::MIN >> (i % 64)) ^ i as i64, &mut out),
            "\"double\"" => out.extend_from_slice(&(i as f64).to_le_bytes()),
            _ => {
                let length = if ty == "\"bytes\"" { i } else { i % 12 + 1 };
                push_long(length as i64, &mut out);
                out.extend((0..length).map(|byte| (7 * byte + i) as u8));
            }
        }
        out
    }
}
