//! Nulls that a field declares: what is written for one, and what is taken as one.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float16Type, Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, make_array};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::DataType;

use super::{Data, Lane, malformed};
use crate::error::EncodeError;
use crate::plan::Branch;

impl Lane {
    /// The same, where a null is written as the default.
    pub(super) fn or_default(mut self, default: &Arc<[u8]>) -> Self {
        match self.nulls.take() {
            None => self,
            Some(nulls) => Self {
                branch: Branch::Bare,
                nulls: None,
                data: Data::OrDefault(nulls, Arc::clone(default), Box::new(self)),
            },
        }
    }
}

/// Floats with a null where they are NaN.
pub(super) fn where_nan(array: &ArrayRef, path: &str) -> Result<ArrayRef, EncodeError> {
    let numbers: BooleanBuffer = match array.data_type() {
        DataType::Float16 => not_nan::<Float16Type>(array, |v| v.is_nan()),
        DataType::Float32 => not_nan::<Float32Type>(array, f32::is_nan),
        DataType::Float64 => not_nan::<Float64Type>(array, f64::is_nan),
        other => return Err(malformed(path, format!("unexpected type {other}"))),
    };
    let nulls = NullBuffer::union(array.nulls(), Some(&NullBuffer::new(numbers)));
    let data = array.to_data().into_builder().nulls(nulls).build();
    Ok(make_array(data.map_err(|e| malformed(path, e))?))
}

fn not_nan<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    is_nan: impl Fn(T::Native) -> bool,
) -> BooleanBuffer {
    let values = array.as_primitive::<T>().values();
    values.iter().map(|value| !is_nan(*value)).collect()
}
