//! Arrays as hostile as Arrow allows: sliced at every level, with garbage below nulls and elements that belong to no
//! list.

use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer, i256};
use arrow_schema::{DataType, Field, TimeUnit};

use super::choices::Choices;
use super::types::Ty;
use super::values::{binary, float, integer, text, unscaled};

fn nulls(len: usize, choices: &mut Choices<'_>) -> Option<NullBuffer> {
    match choices.below(4) {
        0 | 3 => None,
        1 => Some((0..len).map(|_| choices.below(8) != 7).collect()),
        _ => Some((0..len).map(|_| choices.below(2) == 0).collect()),
    }
}
fn strings<O: OffsetSizeTrait>(
    values: &[Vec<u8>],
    nulls: Option<NullBuffer>,
    text: bool,
) -> ArrayRef {
    let offsets = OffsetBuffer::<O>::from_lengths(values.iter().map(Vec::len));
    let data = Buffer::from(values.concat());
    if text {
        Arc::new(GenericStringArray::<O>::new(offsets, data, nulls))
    } else {
        Arc::new(GenericBinaryArray::<O>::new(offsets, data, nulls))
    }
}

fn views(values: &[Vec<u8>], nulls: Option<NullBuffer>) -> BinaryViewArray {
    let (views, buffers, _) = BinaryViewArray::from_iter_values(values).into_parts();
    BinaryViewArray::new(views, buffers, nulls)
}

fn lists<O: OffsetSizeTrait>(
    items: &Arc<Field>,
    ty: &Ty,
    nulls: Option<NullBuffer>,
    len: usize,
    choices: &mut Choices<'_>,
) -> ArrayRef {
    let offsets = offsets::<O>(len, choices);
    let used = offsets.last().map_or(0, |last| last.as_usize());
    let values = array(items.data_type(), ty, used + choices.below(2), choices);
    Arc::new(GenericListArray::<O>::new(
        Arc::clone(items),
        offsets,
        values,
        nulls,
    ))
}

/// Offsets that need not start at 0.
fn offsets<O: OffsetSizeTrait>(len: usize, choices: &mut Choices<'_>) -> OffsetBuffer<O> {
    let mut at = choices.below(3);
    let mut offsets = vec![O::usize_as(at)];
    for _ in 0..len {
        at += choices.below(4);
        offsets.push(O::usize_as(at));
    }
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

fn primitive<T: ArrowPrimitiveType>(
    len: usize,
    nulls: Option<NullBuffer>,
    choices: &mut Choices<'_>,
    f: impl Fn(&mut Choices<'_>) -> T::Native,
) -> PrimitiveArray<T> {
    PrimitiveArray::new((0..len).map(|_| f(choices)).collect(), nulls)
}

/// An array of the Arrow type, mostly of values that the Avro type takes.
pub fn array(data_type: &DataType, ty: &Ty, len: usize, choices: &mut Choices<'_>) -> ArrayRef {
    let before = choices.below(6).saturating_sub(3);
    whole(data_type, ty, before + len, choices).slice(before, len)
}

fn whole(data_type: &DataType, ty: &Ty, len: usize, choices: &mut Choices<'_>) -> ArrayRef {
    let ty = match ty {
        Ty::Nullable(ty, _) => ty,
        ty => ty,
    };
    let nulls = nulls(len, choices);
    macro_rules! ints {
        ($t:ty) => {
            Arc::new(primitive::<$t>(len, nulls, choices, |c| integer(c) as _))
        };
    }
    macro_rules! decimals {
        ($t:ty, $f:expr) => {
            Arc::new(
                primitive::<$t>(len, nulls, choices, |c| $f(unscaled(c)))
                    .with_data_type(data_type.clone()),
            )
        };
    }
    match data_type {
        DataType::Boolean => {
            let bits: BooleanBuffer = (0..len).map(|_| choices.below(2) == 1).collect();
            Arc::new(BooleanArray::new(bits, nulls))
        }
        DataType::Int8 => ints!(Int8Type),
        DataType::Int16 => ints!(Int16Type),
        DataType::Int32 => ints!(Int32Type),
        DataType::Int64 => ints!(Int64Type),
        DataType::UInt8 => ints!(UInt8Type),
        DataType::UInt16 => ints!(UInt16Type),
        DataType::UInt32 => ints!(UInt32Type),
        DataType::UInt64 => ints!(UInt64Type),
        DataType::Float16 => {
            let half = |c: &mut Choices<'_>| {
                <Float16Type as ArrowPrimitiveType>::Native::from_f64(float(c))
            };
            Arc::new(primitive::<Float16Type>(len, nulls, choices, half))
        }
        DataType::Float32 => Arc::new(primitive::<Float32Type>(len, nulls, choices, |c| {
            float(c) as f32
        })),
        DataType::Float64 => Arc::new(primitive::<Float64Type>(len, nulls, choices, float)),
        DataType::Decimal32(_, _) => decimals!(Decimal32Type, |v: i256| v.as_i128() as i32),
        DataType::Decimal64(_, _) => decimals!(Decimal64Type, |v: i256| v.as_i128() as i64),
        DataType::Decimal128(_, _) => decimals!(Decimal128Type, |v: i256| v.as_i128()),
        DataType::Decimal256(_, _) => decimals!(Decimal256Type, |v: i256| v),
        DataType::Date32 => ints!(Date32Type),
        DataType::Date64 => ints!(Date64Type),
        DataType::Time32(TimeUnit::Second) => ints!(Time32SecondType),
        DataType::Time32(_) => ints!(Time32MillisecondType),
        DataType::Time64(TimeUnit::Microsecond) => ints!(Time64MicrosecondType),
        DataType::Time64(_) => ints!(Time64NanosecondType),
        DataType::Duration(TimeUnit::Second) => ints!(DurationSecondType),
        DataType::Duration(TimeUnit::Millisecond) => ints!(DurationMillisecondType),
        DataType::Duration(TimeUnit::Microsecond) => ints!(DurationMicrosecondType),
        DataType::Duration(TimeUnit::Nanosecond) => ints!(DurationNanosecondType),
        DataType::Timestamp(unit, zone) => {
            let values: ScalarBuffer<i64> = (0..len).map(|_| integer(choices) as i64).collect();
            let zone = zone.clone();
            match unit {
                TimeUnit::Second => {
                    Arc::new(TimestampSecondArray::new(values, nulls).with_timezone_opt(zone))
                }
                TimeUnit::Millisecond => {
                    Arc::new(TimestampMillisecondArray::new(values, nulls).with_timezone_opt(zone))
                }
                TimeUnit::Microsecond => {
                    Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone_opt(zone))
                }
                TimeUnit::Nanosecond => {
                    Arc::new(TimestampNanosecondArray::new(values, nulls).with_timezone_opt(zone))
                }
            }
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let values: Vec<_> = (0..len).map(|_| text(ty, choices).into_bytes()).collect();
            match data_type {
                DataType::Utf8 => strings::<i32>(&values, nulls, true),
                DataType::LargeUtf8 => strings::<i64>(&values, nulls, true),
                _ => Arc::new(
                    views(&values, nulls)
                        .to_string_view()
                        .expect("they were strings"),
                ),
            }
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let values: Vec<_> = (0..len).map(|_| binary(ty, choices)).collect();
            match data_type {
                DataType::Binary => strings::<i32>(&values, nulls, false),
                DataType::LargeBinary => strings::<i64>(&values, nulls, false),
                _ => Arc::new(views(&values, nulls)),
            }
        }
        DataType::FixedSizeBinary(size) => {
            let bytes: Vec<u8> = (0..len)
                .flat_map(|_| vec![choices.byte(); *size as usize])
                .collect();
            Arc::new(
                FixedSizeBinaryArray::try_new_with_len(*size, bytes.into(), nulls, len)
                    .expect("it is whole"),
            )
        }
        DataType::Dictionary(keys, values) => {
            let values = array(values, ty, 1 + choices.below(4), choices);
            let n = values.len();
            // A key below a null may point anywhere.
            let key = |i: usize, c: &mut Choices<'_>| {
                let valid = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(i));
                if valid {
                    c.below(n) as i8
                } else {
                    c.byte() as i8
                }
            };
            let keys_of: Vec<i8> = (0..len).map(|i| key(i, choices)).collect();
            macro_rules! dictionary {
                ($t:ty) => {{
                    let keys = keys_of.iter().map(|key| *key as _).collect();
                    Arc::new(DictionaryArray::<$t>::new(
                        PrimitiveArray::new(keys, nulls),
                        values,
                    ))
                }};
            }
            match keys.as_ref() {
                DataType::Int8 => dictionary!(Int8Type),
                DataType::UInt8 => dictionary!(UInt8Type),
                _ => dictionary!(Int32Type),
            }
        }
        DataType::List(items) => lists::<i32>(items, inner(ty), nulls, len, choices),
        DataType::LargeList(items) => lists::<i64>(items, inner(ty), nulls, len, choices),
        DataType::FixedSizeList(items, size) => {
            let values = array(items.data_type(), inner(ty), len * *size as usize, choices);
            let list = FixedSizeListArray::try_new_with_length(
                Arc::clone(items),
                *size,
                values,
                nulls,
                len,
            );
            Arc::new(list.expect("it is whole"))
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else {
                unreachable!("made by `source`")
            };
            let offsets = offsets::<i32>(len, choices);
            let used = offsets.last().map_or(0, |last| *last as usize);
            let keys: Vec<_> = (0..used)
                .map(|i| format!("{}{i}", text(&Ty::String, choices)).into_bytes())
                .collect();
            let keys = match fields[0].data_type() {
                DataType::Utf8 => strings::<i32>(&keys, None, true),
                DataType::LargeUtf8 => strings::<i64>(&keys, None, true),
                _ => Arc::new(
                    views(&keys, None)
                        .to_string_view()
                        .expect("they were strings"),
                ),
            };
            let values = array(fields[1].data_type(), inner(ty), used, choices);
            let pairs = StructArray::new(fields.clone(), vec![keys, values], None);
            Arc::new(MapArray::new(
                Arc::clone(entries),
                offsets,
                pairs,
                nulls,
                false,
            ))
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().enumerate().map(|(i, field)| match ty {
                Ty::Record(types) | Ty::Union(types, _) => {
                    array(field.data_type(), &types[i], len, choices)
                }
                ty => array(field.data_type(), ty, len, choices),
            });
            let mut columns: Vec<_> = columns.collect();
            if matches!(ty, Ty::Union(..)) {
                one_each(&mut columns, len, choices);
            }
            let array = StructArray::try_new_with_length(fields.clone(), columns, nulls, len);
            Arc::new(array.expect("it is whole"))
        }
        other => unreachable!("no source is a {other}"),
    }
}

/// Makes all members null but one, mostly: the members of a union.
fn one_each(members: &mut [ArrayRef], len: usize, choices: &mut Choices<'_>) {
    let of: Vec<_> = (0..len).map(|_| choices.below(20)).collect();
    let n = members.len();
    for (i, member) in members.iter_mut().enumerate() {
        let data = member.to_data();
        // Arrow wants room for what is before a slice.
        let before = std::iter::repeat_n(true, data.offset());
        let held = |(row, of): (usize, &usize)| member.is_valid(row) && (*of == 19 || of % n == i);
        let nulls: NullBuffer = before.chain(of.iter().enumerate().map(held)).collect();
        let nulls = nulls.slice(data.offset(), len);
        let data = data.into_builder().nulls(Some(nulls));
        *member = make_array(data.build().expect("it was whole"));
    }
}

fn inner(ty: &Ty) -> &Ty {
    match ty {
        Ty::Array(inner) | Ty::Map(inner) => inner,
        ty => ty,
    }
}
