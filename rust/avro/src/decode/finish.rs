//! Columns that are done, as Arrow arrays.

use std::sync::Arc;

use arrow_array::types::{Decimal128Type, Decimal256Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, MapArray,
    NullArray, PrimitiveArray, StringArray, StructArray, Time32MillisecondArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, UInt32Array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, TimeUnit};

use super::column::{Column, Kind, Offsets, Payload};
use super::kind::{digits, duration_parts};
use crate::error::DecodeError;

type Finished = Result<ArrayRef, ArrowError>;

impl Column {
    /// The column's values; it is empty afterwards.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, DecodeError> {
        self.finish_array()
            .map_err(|e| DecodeError::Arrow(format!("{}: {e}", self.path)))
    }

    fn finish_array(&mut self) -> Finished {
        let data_type = self.data_type();
        let nulls = self
            .nullable
            .as_mut()
            .map(|nullable| NullBuffer::from(take(&mut nullable.valid)));
        self.kind.finish(&data_type, nulls)
    }
}

/// Takes a buffer, and leaves one that expects as much again.
fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let next = Vec::with_capacity(values.len());
    std::mem::replace(values, next)
}

impl Offsets {
    fn finish(&mut self) -> OffsetBuffer<i32> {
        let mut next = Vec::with_capacity(self.0.len());
        next.push(0);
        // Pushed in order by the reader, from 0.
        OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.0, next)))
    }
}

impl Kind {
    fn finish(&mut self, data_type: &DataType, nulls: Option<NullBuffer>) -> Finished {
        Ok(match self {
            Self::Null(slots) => Arc::new(NullArray::new(std::mem::take(slots))),
            Self::Boolean(bits) => Arc::new(BooleanArray::new(take(bits).into(), nulls)),
            Self::Int(values) => Arc::new(Int32Array::try_new(take(values).into(), nulls)?),
            Self::Date(values) => Arc::new(Date32Array::try_new(take(values).into(), nulls)?),
            Self::TimeMillis(values) => {
                Arc::new(Time32MillisecondArray::try_new(take(values).into(), nulls)?)
            }
            Self::Long(values) => Arc::new(Int64Array::try_new(take(values).into(), nulls)?),
            Self::TimeMicros(values) => {
                Arc::new(Time64MicrosecondArray::try_new(take(values).into(), nulls)?)
            }
            Self::Timestamp(values, unit, instant) => {
                let (values, zone) = (take(values).into(), instant.then_some("UTC"));
                match unit {
                    TimeUnit::Millisecond => Arc::new(
                        TimestampMillisecondArray::try_new(values, nulls)?.with_timezone_opt(zone),
                    ),
                    TimeUnit::Microsecond => Arc::new(
                        TimestampMicrosecondArray::try_new(values, nulls)?.with_timezone_opt(zone),
                    ),
                    _ => Arc::new(
                        TimestampNanosecondArray::try_new(values, nulls)?.with_timezone_opt(zone),
                    ),
                }
            }
            Self::Float(values) => Arc::new(Float32Array::try_new(take(values).into(), nulls)?),
            Self::Double(values) => Arc::new(Float64Array::try_new(take(values).into(), nulls)?),
            Self::Bytes(offsets, data, Payload::Bytes) => Arc::new(BinaryArray::try_new(
                offsets.finish(),
                take(data).into(),
                nulls,
            )?),
            Self::Bytes(offsets, data, _) => Arc::new(StringArray::try_new(
                offsets.finish(),
                take(data).into(),
                nulls,
            )?),
            Self::Fixed(size, data) => {
                let size = i32::try_from(*size).unwrap_or(i32::MAX);
                Arc::new(FixedSizeBinaryArray::try_new(
                    size,
                    take(data).into(),
                    nulls,
                )?)
            }
            Self::Duration(parts) => {
                let arrays = parts
                    .iter_mut()
                    .map(|part| Arc::new(UInt32Array::from(take(part))) as ArrayRef)
                    .collect();
                Arc::new(StructArray::try_new(duration_parts(), arrays, nulls)?)
            }
            Self::Decimal128(ty, values) => {
                let (precision, scale) = digits(*ty);
                let array: Decimal128Array =
                    PrimitiveArray::<Decimal128Type>::try_new(take(values).into(), nulls)?;
                Arc::new(array.with_precision_and_scale(precision, scale)?)
            }
            Self::Decimal256(ty, values) => {
                let (precision, scale) = digits(*ty);
                let array: Decimal256Array =
                    PrimitiveArray::<Decimal256Type>::try_new(take(values).into(), nulls)?;
                Arc::new(array.with_precision_and_scale(precision, scale)?)
            }
            Self::Array(offsets, _, items) => {
                let values = items.finish_array()?;
                let DataType::List(field) = data_type else {
                    return Err(defect());
                };
                Arc::new(ListArray::try_new(
                    Arc::clone(field),
                    offsets.finish(),
                    values,
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
            Self::Record(fields, slots) => {
                let slots = std::mem::take(slots);
                let arrays: Vec<_> = fields
                    .iter_mut()
                    .map(|(_, column)| column.finish_array())
                    .collect();
                let arrays = arrays.into_iter().collect::<Result<Vec<_>, _>>()?;
                let DataType::Struct(fields) = data_type else {
                    return Err(defect());
                };
                let array = StructArray::try_new_with_length(fields.clone(), arrays, nulls, slots)?;
                debug_assert_eq!(array.len(), slots);
                Arc::new(array)
            }
        })
    }
}

fn defect() -> ArrowError {
    ArrowError::ComputeError("a column is not of its own type".to_owned())
}
