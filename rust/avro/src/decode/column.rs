//! Columns under construction: in the reader's shape, whatever the writer's.

use arrow_buffer::i256;
use arrow_schema::DataType;

use super::fault::Fault;
use crate::error::DecodeError;

/// A column, with the path that its errors name.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) path: String,
    pub(super) data_type: DataType,
    /// Which slots hold values, where a slot may hold none.
    pub(super) valid: Option<Vec<bool>>,
    pub(super) store: Store,
    /// Memory that a slot takes at most, beside the bytes that the message has for it.
    pub(super) cost: usize,
    /// Slots whose bytes are known to be text.
    pub(super) checked: usize,
}

/// The values. How they are read is not told by them, but by a [`super::read::Read`].
#[derive(Debug)]
pub(super) enum Store {
    /// The number of slots.
    Null(usize),
    Boolean(Vec<bool>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    I128(Vec<i128>),
    I256(Vec<i256>),
    Bytes(Offsets, Vec<u8>),
    Fixed(usize, Vec<u8>),
    /// Months, days and milliseconds.
    Duration([Vec<u32>; 3]),
    List(Offsets, Box<Column>),
    Map(Offsets, Box<Column>, Box<Column>),
    /// With the number of slots. The fields of a record, or the members of a union.
    Struct(Vec<Column>, usize),
}

/// Ends of the slots in a column's payload; starts with 0.
#[derive(Debug)]
pub(super) struct Offsets(pub(super) Vec<i32>);

impl Offsets {
    pub(super) fn new() -> Self {
        Self(vec![0])
    }

    /// The end of a payload so long.
    #[inline(always)]
    pub(super) fn of(len: usize) -> Result<i32, Fault> {
        i32::try_from(len).map_err(|_| Fault::full())
    }

    pub(super) fn last(&self) -> usize {
        self.0.last().map_or(0, |end| end.unsigned_abs() as usize)
    }

    pub(super) fn repeat(&mut self, slots: usize) {
        let end = self.0.last().copied().unwrap_or(0);
        self.0.resize(self.0.len() + slots, end);
    }

    /// Whether each slot from a number on is UTF-8.
    fn are_text(&self, from: usize, data: &[u8]) -> bool {
        let Some(ends @ [first, ..]) = self.0.get(from..) else {
            return true;
        };
        let start = first.unsigned_abs() as usize;
        let new = data.get(start..).unwrap_or_default();
        // Where all are ASCII there is no character to cut in two.
        new.is_ascii()
            || std::str::from_utf8(new).is_ok_and(|text| {
                ends.iter()
                    .all(|end| text.is_char_boundary(end.unsigned_abs() as usize - start))
            })
    }

    /// Keeps `slots` slots, and says where their payload ends.
    fn truncate(&mut self, slots: usize) -> usize {
        self.0.truncate(slots.saturating_add(1));
        self.last()
    }
}

impl Column {
    pub(super) const fn of_store(
        path: String,
        data_type: DataType,
        valid: Option<Vec<bool>>,
        store: Store,
        cost: usize,
    ) -> Self {
        Self {
            path,
            data_type,
            valid,
            store,
            cost,
            checked: 0,
        }
    }

    /// Whether what was read since the last time is text where it has to be, here and in all columns below. Much at once
    /// takes a fraction of the time that the values take one by one.
    pub(super) fn check_text(&mut self) -> Result<(), Box<DecodeError>> {
        match &mut self.store {
            Store::Bytes(offsets, data) if self.data_type == DataType::Utf8 => {
                if !offsets.are_text(self.checked, data) {
                    let reason = format!("{}: not UTF-8", self.path);
                    return Err(Box::new(DecodeError::Arrow(reason)));
                }
                self.checked = offsets.0.len() - 1;
                Ok(())
            }
            Store::List(_, items) => items.check_text(),
            Store::Map(_, keys, values) => {
                keys.check_text()?;
                values.check_text()
            }
            Store::Struct(columns, _) => columns.iter_mut().try_for_each(Self::check_text),
            _ => Ok(()),
        }
    }

    /// Appends slots that hold nothing: nulls, or what is below one.
    pub(super) fn skip(&mut self, slots: usize) {
        if let Some(valid) = &mut self.valid {
            valid.resize(valid.len() + slots, false);
        }
        self.store.skip(slots);
    }

    /// Keeps the first `slots` slots. The column may have fewer where a value was cut off before it.
    pub(super) fn truncate(&mut self, slots: usize) {
        if let Some(valid) = &mut self.valid {
            valid.truncate(slots);
        }
        self.checked = self.checked.min(slots);
        self.store.truncate(slots);
    }
}

fn grow<T: Clone + Default>(values: &mut Vec<T>, by: usize) {
    values.resize(values.len() + by, T::default());
}

impl Store {
    pub(super) fn skip(&mut self, slots: usize) {
        match self {
            Self::Null(n) => *n += slots,
            Self::Boolean(values) => grow(values, slots),
            Self::I32(values) => grow(values, slots),
            Self::I64(values) => grow(values, slots),
            Self::F32(values) => grow(values, slots),
            Self::F64(values) => grow(values, slots),
            Self::I128(values) => grow(values, slots),
            Self::I256(values) => grow(values, slots),
            Self::Bytes(offsets, _) | Self::List(offsets, _) | Self::Map(offsets, ..) => {
                offsets.repeat(slots);
            }
            Self::Fixed(size, data) => grow(data, slots.saturating_mul(*size)),
            Self::Duration(parts) => parts.iter_mut().for_each(|part| grow(part, slots)),
            Self::Struct(columns, n) => {
                columns.iter_mut().for_each(|column| column.skip(slots));
                *n += slots;
            }
        }
    }

    fn truncate(&mut self, slots: usize) {
        match self {
            Self::Null(n) => *n = slots.min(*n),
            Self::Boolean(values) => values.truncate(slots),
            Self::I32(values) => values.truncate(slots),
            Self::I64(values) => values.truncate(slots),
            Self::F32(values) => values.truncate(slots),
            Self::F64(values) => values.truncate(slots),
            Self::I128(values) => values.truncate(slots),
            Self::I256(values) => values.truncate(slots),
            Self::Bytes(offsets, data) => data.truncate(offsets.truncate(slots)),
            Self::Fixed(size, data) => data.truncate(slots.saturating_mul(*size)),
            Self::Duration(parts) => parts.iter_mut().for_each(|part| part.truncate(slots)),
            Self::List(offsets, items) => items.truncate(offsets.truncate(slots)),
            Self::Map(offsets, keys, values) => {
                let elements = offsets.truncate(slots);
                keys.truncate(elements);
                values.truncate(elements);
            }
            Self::Struct(columns, n) => {
                columns.iter_mut().for_each(|column| column.truncate(slots));
                *n = slots.min(*n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_full_where_its_offsets_end() {
        let fault = Offsets::of(1 << 31).unwrap_err();
        assert!(matches!(*fault.of("f"), DecodeError::BatchFull { path } if path == "f"));
    }
}
