//! Values that were read without the nulls between them, moved to their slots.

use std::hint::select_unpredictable;

use super::column::{Column, Offsets, Store};

impl Column {
    /// As [`Store::spread`], of what lies below an optional value.
    fn spread(&mut self, present: &[bool]) {
        if let Some(valid) = &mut self.valid {
            spread(valid, present);
        }
        self.store.spread(present);
    }
}

impl Store {
    /// Moves the last slots, one for each value that is there, to where `present` says that they are; in between are
    /// empty ones then.
    pub(super) fn spread(&mut self, present: &[bool]) {
        match self {
            Self::Null(slots) => *slots += missing(present),
            Self::Boolean(values) => spread(values, present),
            Self::I32(values) => spread(values, present),
            Self::I64(values) => spread(values, present),
            Self::F32(values) => spread(values, present),
            Self::F64(values) => spread(values, present),
            Self::I128(values) => spread(values, present),
            Self::I256(values) => spread(values, present),
            Self::Bytes(offsets, _) | Self::List(offsets, _) | Self::Map(offsets, ..) => {
                offsets.spread(present);
            }
            Self::Fixed(size, data) => spread_pieces(data, *size, present),
            Self::Duration(parts) => parts.iter_mut().for_each(|part| spread(part, present)),
            Self::Struct(columns, slots) => {
                columns.iter_mut().for_each(|column| column.spread(present));
                *slots += missing(present);
            }
        }
    }
}

impl Offsets {
    /// An empty slot ends where the one before it does.
    fn spread(&mut self, present: &[bool]) {
        let ends = &mut self.0;
        let mut from = ends.len();
        ends.resize(from + missing(present), 0);
        for (to, present) in (0..ends.len()).rev().zip(present.iter().rev()) {
            ends[to] = ends[from - 1];
            from -= usize::from(*present);
        }
    }
}

fn missing(present: &[bool]) -> usize {
    present.iter().filter(|present| !**present).count()
}

/// The same of values, from the last one on, so that none is written over before it was moved.
fn spread<T: Copy + Default>(values: &mut Vec<T>, present: &[bool]) {
    let mut from = values.len();
    values.resize(from + missing(present), T::default());
    for (to, present) in (0..values.len()).rev().zip(present.iter().rev()) {
        // Which are there can't be foretold, so both are taken, and one is chosen.
        let before = values.get(from.wrapping_sub(1)).copied();
        values[to] = select_unpredictable(*present, before.unwrap_or_default(), T::default());
        from -= usize::from(*present);
    }
}

/// The same of values of so many bytes.
fn spread_pieces(data: &mut Vec<u8>, size: usize, present: &[bool]) {
    let mut from = data.len();
    data.resize(from + missing(present) * size, 0);
    let mut to = data.len();
    for present in present.iter().rev() {
        to -= size;
        if *present {
            from -= size;
            data.copy_within(from..from + size, to);
        } else {
            data[to..to + size].fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_moved_to_their_slots() {
        let present = [false, true, false, false, true, true, false];
        let mut values = vec![7, 1, 2, 3];
        spread(&mut values, &present);
        assert_eq!(values, [7, 0, 1, 0, 0, 2, 3, 0]);

        let mut pairs = vec![7, 7, 1, 2, 3, 4, 5, 6];
        spread_pieces(&mut pairs, 2, &present);
        assert_eq!(pairs, [7, 7, 0, 0, 1, 2, 0, 0, 0, 0, 3, 4, 5, 6, 0, 0]);

        let mut offsets = Offsets(vec![0, 5, 6, 6, 8]);
        offsets.spread(&present);
        assert_eq!(offsets.0, [0, 5, 5, 6, 6, 6, 6, 8, 8]);

        for present in [&[][..], &[false; 3], &[true; 3]] {
            let mut values = vec![7; present.iter().filter(|p| **p).count()];
            spread(&mut values, present);
            assert_eq!(
                values,
                present
                    .iter()
                    .map(|p| 7 * i32::from(*p))
                    .collect::<Vec<_>>()
            );
        }
    }
}
