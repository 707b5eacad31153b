//! Where nulls are: every row looked at, nested places included.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder, NullBuffer};
use arrow_schema::DataType;

/// Whether null has been seen at a place, and at the places below it. What lies below a null is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nulls {
    pub here: bool,
    pub below: Vec<Nulls>,
}

impl Nulls {
    /// A column of this type, with no null seen yet.
    pub fn none(data_type: &DataType) -> Self {
        let below = match data_type {
            DataType::Struct(fields) => fields.iter().map(|f| Self::none(f.data_type())).collect(),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                vec![Self::none(item.data_type())]
            }
            // Its entries, a struct that is never null: the keys and the values.
            DataType::Map(entries, _) => Self::none(entries.data_type()).below,
            _ => Vec::new(),
        };
        Self { here: false, below }
    }

    /// Takes in a batch of the column.
    pub fn look(&mut self, array: &dyn Array) {
        self.look_among(array, None);
    }

    /// `alive` marks the slots that have a value to look at; none: all.
    fn look_among(&mut self, array: &dyn Array, alive: Option<&BooleanBuffer>) {
        // Also the nulls of a dictionary's values, and of arrays that are null by their type.
        let nulls = array.logical_nulls();
        self.here |= match (&nulls, alive) {
            (None, _) => false,
            (Some(nulls), None) => nulls.null_count() > 0,
            (Some(nulls), Some(alive)) => (alive & &!nulls.inner()).count_set_bits() > 0,
        };
        if self.below.is_empty() {
            return;
        }
        let alive = both(nulls.as_ref(), alive);
        match array.data_type() {
            DataType::Struct(_) => {
                for (nulls, column) in self.below.iter_mut().zip(array.as_struct().columns()) {
                    nulls.look_among(column, alive.as_ref());
                }
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let offsets = list.value_offsets().iter().map(|o| *o as usize);
                self.look_into(list.values(), offsets, alive.as_ref());
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                let offsets = list.value_offsets().iter().map(|o| *o as usize);
                self.look_into(list.values(), offsets, alive.as_ref());
            }
            DataType::FixedSizeList(_, size) => {
                let list = array.as_fixed_size_list();
                let size = usize::try_from(*size).unwrap_or(0);
                let offsets = (0..=list.len()).map(|i| i * size);
                self.look_into(list.values(), offsets, alive.as_ref());
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                let offsets = map.value_offsets().iter().map(|o| *o as usize);
                let elements = elements(offsets, map.entries().len(), alive.as_ref());
                for (nulls, column) in self.below.iter_mut().zip(map.entries().columns()) {
                    nulls.look_among(column, Some(&elements));
                }
            }
            _ => {}
        }
    }

    fn look_into(
        &mut self,
        values: &dyn Array,
        offsets: impl Iterator<Item = usize>,
        alive: Option<&BooleanBuffer>,
    ) {
        let elements = elements(offsets, values.len(), alive);
        if let [item] = self.below.as_mut_slice() {
            item.look_among(values, Some(&elements));
        }
    }
}

fn both(nulls: Option<&NullBuffer>, alive: Option<&BooleanBuffer>) -> Option<BooleanBuffer> {
    match (nulls, alive) {
        (None, alive) => alive.cloned(),
        (Some(nulls), None) => Some(nulls.inner().clone()),
        (Some(nulls), Some(alive)) => Some(nulls.inner() & alive),
    }
}

/// Which elements lie in a list that has a value.
fn elements(
    offsets: impl Iterator<Item = usize>,
    len: usize,
    alive: Option<&BooleanBuffer>,
) -> BooleanBuffer {
    let mut marks = BooleanBufferBuilder::new(len);
    let mut offsets = offsets;
    let mut from = offsets.next().unwrap_or(0);
    marks.append_n(from.min(len), false);
    for (list, to) in offsets.enumerate() {
        let there = alive.is_none_or(|alive| alive.value(list));
        marks.append_n(to.min(len).saturating_sub(from), there);
        from = to;
    }
    marks.append_n(len.saturating_sub(marks.len()), false);
    marks.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::builder::{Int32Builder, ListBuilder};
    use arrow_array::types::Int8Type;
    use arrow_array::{
        ArrayRef, DictionaryArray, Int8Array, Int32Array, NullArray, StringArray, StructArray,
    };
    use arrow_schema::{Field, Fields};
    use std::sync::Arc;

    fn seen(array: &dyn Array) -> Nulls {
        let mut nulls = Nulls::none(array.data_type());
        nulls.look(array);
        nulls
    }

    #[test]
    fn a_null_below_a_null_is_not_one() {
        let inner: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        let fields = Fields::from(vec![Field::new("x", DataType::Int32, true)]);
        let whole = StructArray::new(fields.clone(), vec![inner.clone()], None);
        assert!(!seen(&whole).here);
        assert!(seen(&whole).below[0].here);
        let hidden = StructArray::new(
            fields,
            vec![inner],
            Some(NullBuffer::from(vec![true, false])),
        );
        assert!(seen(&hidden).here);
        assert!(!seen(&hidden).below[0].here);
    }

    #[test]
    fn only_elements_of_lists_that_are_there_count() {
        let mut lists = ListBuilder::new(Int32Builder::new());
        lists.values().append_null();
        lists.append(true);
        lists.values().append_value(1);
        lists.append(true);
        lists.append(false);
        let lists = lists.finish();
        assert!(seen(&lists).here && seen(&lists).below[0].here);
        let sliced = lists.slice(1, 1);
        assert_eq!(seen(&sliced), Nulls::none(sliced.data_type()));
        assert!(seen(&lists.slice(2, 1)).here);
    }

    #[test]
    fn dictionaries_and_null_columns_say_it_too() {
        let values = Arc::new(StringArray::from(vec![Some("a"), None]));
        let keys = Int8Array::from(vec![0, 1]);
        let dictionary = DictionaryArray::<Int8Type>::new(keys, values);
        assert!(seen(&dictionary).here);
        assert!(!seen(&dictionary.slice(0, 1)).here);
        assert!(seen(&NullArray::new(1)).here);
    }
}
