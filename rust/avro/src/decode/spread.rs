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
    use crate::decode::Decoder;
    use crate::schema::AvroSchema;
    use crate::wire::push_long;

    /// Fields of each kind of store, with a value of number `i`.
    fn fields(i: u8) -> [(&'static str, Vec<u8>); 14] {
        let mut long = Vec::new();
        push_long(i64::from(i) << 20, &mut long);
        [
            (r#""null""#, vec![]),
            (r#""boolean""#, vec![i % 2]),
            (r#""int""#, long.clone()),
            (r#""long""#, long),
            (r#""float""#, vec![i; 4]),
            (r#""double""#, vec![i; 8]),
            (
                r#"{"type":"bytes","logicalType":"decimal","precision":9}"#,
                vec![2, i],
            ),
            (
                r#"{"type":"bytes","logicalType":"decimal","precision":50}"#,
                vec![2, i],
            ),
            (
                r#"["null","string"]"#,
                [&[2, 2 * (i % 40)][..], &[b'x'; 40][..usize::from(i % 40)]].concat(),
            ),
            (r#"{"type":"fixed","name":"F","size":3}"#, vec![i; 3]),
            (
                r#"{"type":"fixed","name":"D","size":12,"logicalType":"duration"}"#,
                vec![i; 12],
            ),
            (
                r#"{"type":"array","items":"boolean"}"#,
                vec![4, i % 2, 0, 0],
            ),
            (
                r#"{"type":"map","values":"boolean"}"#,
                vec![2, 2, b'a' + i % 26, i % 2, 0],
            ),
            (r#"["int","string"]"#, vec![0, 2 * (i % 60)]),
        ]
    }

    #[test]
    fn optional_records_of_many_messages_are_those_of_one_by_one() {
        let parts: Vec<String> = fields(0)
            .iter()
            .enumerate()
            .map(|(n, (ty, _))| format!(r#"{{"name":"f{n}","type":{ty}}}"#))
            .collect();
        let inner = format!(
            r#"{{"type":"record","name":"I","fields":[{}]}}"#,
            parts.join(",")
        );
        let schema = AvroSchema::parse(&format!(
            r#"{{"type":"record","name":"R","fields":[
                {{"name":"of","type":["null",{inner}]}},{{"name":"last","type":"int"}}]}}"#
        ))
        .unwrap();
        let messages: Vec<Vec<u8>> = (0..200_u8)
            .map(|i| {
                let mut out = vec![0];
                if i % 3 != 0 && i / 10 % 2 == 0 {
                    out = vec![2];
                    fields(i).iter().for_each(|(_, value)| out.extend(value));
                }
                out.push(2 * (i % 60));
                out
            })
            .collect();
        let (mut one, mut many) = (
            Decoder::new(&schema).unwrap(),
            Decoder::new(&schema).unwrap(),
        );
        assert_eq!(many.push_all(messages.iter().map(Vec::as_slice)), []);
        for message in &messages {
            one.push(message).unwrap();
        }
        assert_eq!(one.flush().unwrap(), many.flush().unwrap());
    }

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
