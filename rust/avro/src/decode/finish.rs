//! Columns that are done, as Arrow arrays.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, MapArray,
    NullArray, StringArray, StructArray, UInt32Array, make_array,
};
use arrow_buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType};

use super::column::{Column, Offsets, Store};
use crate::error::DecodeError;

type Finished = Result<ArrayRef, ArrowError>;

impl Column {
    /// The column's values; it is empty afterwards.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, DecodeError> {
        self.finish_array()
            .map_err(|e| DecodeError::Arrow(format!("{}: {e}", self.path)))
    }

    fn finish_array(&mut self) -> Finished {
        self.checked = 0;
        let valid = self.valid.as_mut();
        let nulls = valid.map(|valid| NullBuffer::new(bits(valid)));
        self.store.finish(&self.data_type, nulls)
    }
}

/// Takes a buffer, and leaves one that expects as much again, and a little: growing takes a copy.
fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let next = Vec::with_capacity(values.len() + values.len() / 8);
    std::mem::replace(values, next)
}

/// Takes a buffer of flags, as bits.
fn bits(flags: &mut Vec<bool>) -> BooleanBuffer {
    // A multiplication brings the lowest bits of eight bytes together in the highest one.
    let byte = |eight: [bool; 8]| {
        let word = u64::from_le_bytes(eight.map(u8::from));
        (word.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
    };
    let (eights, rest) = flags.as_chunks();
    let mut packed: Vec<u8> = eights.iter().map(|eight| byte(*eight)).collect();
    if !rest.is_empty() {
        let mut last = [false; 8];
        last[..rest.len()].copy_from_slice(rest);
        packed.push(byte(last));
    }
    let bits = BooleanBuffer::new(packed.into(), 0, flags.len());
    flags.clear();
    bits
}

impl Offsets {
    fn finish(&mut self) -> OffsetBuffer<i32> {
        let done = take(&mut self.0);
        self.0.push(0);
        let ordered = done
            .iter()
            .zip(done.get(1..).unwrap_or_default())
            .fold(true, |ordered, (a, b)| ordered & (a <= b));
        if done.first() != Some(&0) || !ordered {
            // The reader pushes them in order, from 0: this says what is wrong if it ever doesn't.
            return OffsetBuffer::new(ScalarBuffer::from(done));
        }
        #[expect(
            unsafe_code,
            reason = "the safe way compares offsets one by one, which takes eight times as long"
        )]
        // SAFETY: there is an offset, the first is 0 and none is less than the one before, as was just looked at.
        unsafe {
            OffsetBuffer::new_unchecked(ScalarBuffer::from(done))
        }
    }
}

/// Bytes as text, if they are.
fn text(bytes: BinaryArray) -> Result<StringArray, ArrowError> {
    let (offsets, data, nulls) = bytes.into_parts();
    if !data.is_ascii() {
        return StringArray::try_new(offsets, data, nulls);
    }
    #[expect(
        unsafe_code,
        reason = "the safe way asks of each offset whether it cuts a character in two, which none of ASCII can"
    )]
    // SAFETY: the array of bytes had its offsets within the data and its nulls of their length; beyond that, text has
    // to be UTF-8 between any two offsets, which every part of ASCII is, as the data was just found to be.
    unsafe {
        Ok(StringArray::new_unchecked(offsets, data, nulls))
    }
}

/// Numbers as what they mean.
fn of_type(array: &dyn Array, data_type: &DataType) -> Finished {
    let data = array.to_data().into_builder().data_type(data_type.clone());
    Ok(make_array(data.build()?))
}

impl Store {
    fn finish(&mut self, data_type: &DataType, nulls: Option<NullBuffer>) -> Finished {
        Ok(match self {
            Self::Null(slots) => Arc::new(NullArray::new(std::mem::take(slots))),
            Self::Boolean(values) => Arc::new(BooleanArray::new(bits(values), nulls)),
            Self::I32(values) => {
                let array = Int32Array::try_new(take(values).into(), nulls)?;
                return of_type(&array, data_type);
            }
            Self::I64(values) => {
                let array = Int64Array::try_new(take(values).into(), nulls)?;
                return of_type(&array, data_type);
            }
            Self::F32(values) => Arc::new(Float32Array::try_new(take(values).into(), nulls)?),
            Self::F64(values) => Arc::new(Float64Array::try_new(take(values).into(), nulls)?),
            Self::I128(values) => {
                let array = Decimal128Array::try_new(take(values).into(), nulls)?;
                return of_type(&array, data_type);
            }
            Self::I256(values) => {
                let array = Decimal256Array::try_new(take(values).into(), nulls)?;
                return of_type(&array, data_type);
            }
            Self::Bytes(offsets, data) => {
                let (offsets, data) = (offsets.finish(), take(data).into());
                let bytes = BinaryArray::try_new(offsets, data, nulls)?;
                match data_type {
                    DataType::Binary => Arc::new(bytes),
                    _ => Arc::new(text(bytes)?),
                }
            }
            Self::Fixed(_, data) => {
                let data = take(data).into();
                let DataType::FixedSizeBinary(size) = data_type else {
                    return Err(defect());
                };
                Arc::new(FixedSizeBinaryArray::try_new(*size, data, nulls)?)
            }
            Self::Duration(parts) => {
                let arrays = parts
                    .iter_mut()
                    .map(|part| Arc::new(UInt32Array::from(take(part))) as ArrayRef)
                    .collect();
                let DataType::Struct(fields) = data_type else {
                    return Err(defect());
                };
                Arc::new(StructArray::try_new(fields.clone(), arrays, nulls)?)
            }
            Self::List(offsets, items) => {
                let (offsets, values) = (offsets.finish(), items.finish_array());
                let DataType::List(field) = data_type else {
                    return Err(defect());
                };
                Arc::new(ListArray::try_new(
                    Arc::clone(field),
                    offsets,
                    values?,
                    nulls,
                )?)
            }
            Self::Map(offsets, keys, values) => {
                let (offsets, keys, values) =
                    (offsets.finish(), keys.finish_array(), values.finish_array());
                let DataType::Map(field, _) = data_type else {
                    return Err(defect());
                };
                let DataType::Struct(fields) = field.data_type() else {
                    return Err(defect());
                };
                let entries = StructArray::try_new(fields.clone(), vec![keys?, values?], None)?;
                Arc::new(MapArray::try_new(
                    Arc::clone(field),
                    offsets,
                    entries,
                    nulls,
                    false,
                )?)
            }
            Self::Struct(columns, slots) => {
                let slots = std::mem::take(slots);
                // All are emptied before an error is returned, so that they stay of one length.
                let arrays: Vec<_> = columns.iter_mut().map(Column::finish_array).collect();
                let arrays = arrays.into_iter().collect::<Result<Vec<_>, _>>()?;
                let DataType::Struct(fields) = data_type else {
                    return Err(defect());
                };
                let fields = fields.clone();
                Arc::new(StructArray::try_new_with_length(
                    fields, arrays, nulls, slots,
                )?)
            }
        })
    }
}

fn defect() -> ArrowError {
    ArrowError::ComputeError("a column is not of its own type".to_owned())
}
