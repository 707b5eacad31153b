//! A filter bound to the columns of one file: which row groups can't hold a row that passes, and which rows do.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, Scalar, StringArray,
};
use arrow_buffer::BooleanBuffer;
use arrow_cast::{CastOptions, cast, cast_with_options};
use arrow_ord::cmp;
use arrow_schema::{ArrowError, DataType, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ArrowReaderMetadata, RowFilter};

use super::layout::Found;
use crate::snapshot::{Filter, HIVE_NULL, Literal, Op, PlannedField, Test};

/// What a filter is for one file.
pub enum Bound {
    /// No row passes.
    Nothing,
    /// Every row passes.
    Everything,
    Rows(Predicate),
}

/// A filter of rows by columns of the file. Cheap to clone.
#[derive(Clone)]
pub struct Predicate {
    /// The columns that it reads.
    pub mask: ProjectionMask,
    groups: Arc<Vec<Vec<Bind>>>,
}

/// A condition with its column.
struct Bind {
    /// Number of the column in the file.
    root: usize,
    /// Among the columns that are read for the filter.
    position: usize,
    test: Typed,
}

/// A test whose values are of the column's type: arrays of one.
enum Typed {
    Compare(Op, ArrayRef),
    In(Vec<ArrayRef>),
    NotIn(Vec<ArrayRef>),
    IsNull,
    IsNotNull,
}

impl Bound {
    /// Binds a filter to a file. Folder keys decide by themselves, and a column that an old file lacks is null.
    ///
    /// # Errors
    /// Names a column that is not there, or a value that its column can't be compared with.
    pub fn new(
        filter: &Filter,
        metadata: &ArrowReaderMetadata,
        fields: Option<&[PlannedField]>,
        folders: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let mut groups = Vec::new();
        let mut everything = false;
        for group in &filter.0 {
            let mut bound = Vec::new();
            let mut never = false;
            for condition in group {
                let column = &condition.column;
                if let Some(folder) = folders.get(column) {
                    let folder = (folder != HIVE_NULL).then_some(folder.as_str());
                    never |= !condition.passes(folder)?;
                    continue;
                }
                match Found::find(column, metadata, fields) {
                    Found::Nowhere => never |= condition.test != Test::IsNull,
                    Found::Unknown(known) => {
                        let folders = folders.keys().cloned();
                        let known: Vec<String> = known.into_iter().chain(folders).collect();
                        return Err(format!(
                            "source.filter names column {column:?}, which is not there; there are: {}",
                            known.join(", ")
                        ));
                    }
                    Found::At(root) => {
                        let ty = metadata.schema().field(root).data_type();
                        bound.push((root, typed_test(column, &condition.test, ty)?));
                    }
                }
            }
            if !never {
                everything |= bound.is_empty();
                groups.push(bound);
            }
        }
        if everything {
            return Ok(Self::Everything);
        }
        if groups.is_empty() {
            return Ok(Self::Nothing);
        }
        let mut roots: Vec<usize> = groups.iter().flatten().map(|(root, _)| *root).collect();
        roots.sort_unstable();
        roots.dedup();
        let bind = |(root, test): (usize, Typed)| Bind {
            position: roots.binary_search(&root).unwrap_or_default(),
            root,
            test,
        };
        let groups = groups
            .into_iter()
            .map(|group| group.into_iter().map(bind).collect());
        Ok(Self::Rows(Predicate {
            mask: ProjectionMask::roots(metadata.parquet_schema(), roots.iter().copied()),
            groups: Arc::new(groups.collect()),
        }))
    }
}

fn typed_test(column: &str, test: &Test, ty: &DataType) -> Result<Typed, String> {
    let one = |value: &Literal| {
        typed(value, ty).ok_or_else(|| {
            format!("source.filter compares column {column:?} of type {ty} with {value}, which is no such value")
        })
    };
    let all = |values: &[Literal]| values.iter().map(one).collect::<Result<Vec<_>, _>>();
    Ok(match test {
        Test::Compare(op, value) => Typed::Compare(*op, one(value)?),
        Test::In(values) => Typed::In(all(values)?),
        Test::NotIn(values) => Typed::NotIn(all(values)?),
        Test::IsNull => Typed::IsNull,
        Test::IsNotNull => Typed::IsNotNull,
    })
}

/// A value as an array of one of the column's type; `None` if it is no such value, exactly.
fn typed(value: &Literal, ty: &DataType) -> Option<ArrayRef> {
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let to = |array: &dyn Array| cast_with_options(array, ty, &strict).ok();
    let text = |text: &str| to(&StringArray::from(vec![text]));
    let digits = |text: &str| {
        let after = text
            .split_once('.')
            .map(|(_, after)| after)
            .unwrap_or_default();
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        digits.trim_end_matches('0').len()
    };
    match (ty, value) {
        (DataType::Dictionary(_, values), value) => typed(value, values),
        (DataType::Boolean, Literal::Bool(value)) => {
            Some(Arc::new(BooleanArray::from(vec![*value])))
        }
        (ty, Literal::Int(value)) if ty.is_integer() => to(&Int64Array::from(vec![*value])),
        (DataType::Float32 | DataType::Float64, Literal::Int(value)) => {
            let exact = value.unsigned_abs() <= 1 << 53;
            exact.then(|| to(&Float64Array::from(vec![*value as f64])))?
        }
        (DataType::Float32 | DataType::Float64, Literal::Float(value)) => {
            to(&Float64Array::from(vec![*value])).map(|array| plain_zeros(&array))
        }
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, Literal::Text(value)) => {
            text(value)
        }
        (DataType::Date32 | DataType::Date64, Literal::Text(value)) => text(value),
        (DataType::Timestamp(unit, _), Literal::Text(value)) => {
            (digits(value) <= places(*unit)).then(|| text(value))?
        }
        (DataType::Time32(unit) | DataType::Time64(unit), Literal::Text(value)) => {
            (digits(value) <= places(*unit)).then(|| text(value))?
        }
        (DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale), value) => {
            let value = match value {
                Literal::Int(value) => value.to_string(),
                Literal::Float(value) => value.to_string(),
                Literal::Text(value) => value.clone(),
                Literal::Bool(_) => return None,
            };
            let fits = digits(&value) <= usize::try_from(*scale).unwrap_or(0);
            fits.then(|| text(&value))?
        }
        _ => None,
    }
}

/// Digits after the point.
fn places(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// Floats with one zero: Arrow compares -0.0 as less than 0.0.
fn plain_zeros(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float32 => Arc::new(
            array
                .as_primitive::<Float32Type>()
                .unary::<_, Float32Type>(|v| if v == 0.0 { 0.0 } else { v }),
        ),
        DataType::Float64 => Arc::new(
            array
                .as_primitive::<Float64Type>()
                .unary::<_, Float64Type>(|v| if v == 0.0 { 0.0 } else { v }),
        ),
        _ => array.clone(),
    }
}

/// The same, with NaN as null: a bound that is NaN bounds nothing.
fn bounds(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float32 => Arc::new(
            array
                .as_primitive::<Float32Type>()
                .unary_opt::<_, Float32Type>(|v| (!v.is_nan()).then_some(v + 0.0)),
        ),
        DataType::Float64 => Arc::new(
            array
                .as_primitive::<Float64Type>()
                .unary_opt::<_, Float64Type>(|v| (!v.is_nan()).then_some(v + 0.0)),
        ),
        _ => array.clone(),
    }
}

fn compare(op: Op, column: &ArrayRef, value: &ArrayRef) -> Result<BooleanBuffer, ArrowError> {
    // Text that is none is read as bytes, which compare as their text does.
    let is_bytes = matches!(
        column.data_type(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView
    );
    let value = match is_bytes {
        true => cast(value, column.data_type())?,
        false => value.clone(),
    };
    let value = Scalar::new(value);
    let result = match op {
        Op::Equal => cmp::eq(column, &value),
        Op::Unequal => cmp::neq(column, &value),
        Op::Less => cmp::lt(column, &value),
        Op::LessOrEqual => cmp::lt_eq(column, &value),
        Op::Greater => cmp::gt(column, &value),
        Op::GreaterOrEqual => cmp::gt_eq(column, &value),
    }?;
    Ok(match result.nulls() {
        Some(valid) => result.values() & valid.inner(),
        None => result.values().clone(),
    })
}

fn any_equal(column: &ArrayRef, values: &[ArrayRef]) -> Result<BooleanBuffer, ArrowError> {
    let mut any = BooleanBuffer::new_unset(column.len());
    for value in values {
        any = &any | &compare(Op::Equal, column, value)?;
    }
    Ok(any)
}

fn valid(column: &ArrayRef) -> BooleanBuffer {
    match column.logical_nulls() {
        Some(nulls) => nulls.inner().clone(),
        None => BooleanBuffer::new_set(column.len()),
    }
}

impl Typed {
    /// Which rows of a column pass.
    fn pass(&self, column: &ArrayRef) -> Result<BooleanBuffer, ArrowError> {
        Ok(match self {
            Self::Compare(op, value) => compare(*op, &plain_zeros(column), value)?,
            Self::In(values) => any_equal(&plain_zeros(column), values)?,
            Self::NotIn(values) => &!&any_equal(&plain_zeros(column), values)? & &valid(column),
            Self::IsNull => !&valid(column),
            Self::IsNotNull => valid(column),
        })
    }

    /// Of which row groups no row passes, by the smallest and largest value of each. What is not known is null there.
    fn never(&self, least: &ArrayRef, most: &ArrayRef) -> Result<BooleanBuffer, ArrowError> {
        let is_float = least.data_type().is_floating();
        let outside = |value: &ArrayRef| {
            let below = compare(Op::Less, most, value)?;
            let above = compare(Op::Greater, least, value)?;
            Ok::<_, ArrowError>(&below | &above)
        };
        let only = |value: &ArrayRef| {
            let low = compare(Op::Equal, least, value)?;
            let high = compare(Op::Equal, most, value)?;
            Ok::<_, ArrowError>(&low & &high)
        };
        let unknown = BooleanBuffer::new_unset(least.len());
        Ok(match self {
            Self::Compare(Op::Equal, value) => outside(value)?,
            Self::Compare(Op::Less, value) => compare(Op::GreaterOrEqual, least, value)?,
            Self::Compare(Op::LessOrEqual, value) => compare(Op::Greater, least, value)?,
            // NaN is in no bounds, and greater than all.
            _ if is_float && !matches!(self, Self::In(_)) => unknown,
            Self::Compare(Op::Greater, value) => compare(Op::LessOrEqual, most, value)?,
            Self::Compare(Op::GreaterOrEqual, value) => compare(Op::Less, most, value)?,
            Self::Compare(Op::Unequal, value) => only(value)?,
            Self::In(values) => {
                let mut never = BooleanBuffer::new_set(least.len());
                for value in values {
                    never = &never & &outside(value)?;
                }
                never
            }
            Self::NotIn(values) => {
                let mut never = unknown;
                for value in values {
                    never = &never | &only(value)?;
                }
                never
            }
            Self::IsNull | Self::IsNotNull => unknown,
        })
    }
}

impl Predicate {
    /// For Parquet's reader.
    pub fn row_filter(&self) -> RowFilter {
        let this = self.clone();
        let keep = move |batch: RecordBatch| {
            let passed = this.pass(&batch)?;
            Ok(BooleanArray::new(passed, None))
        };
        RowFilter::new(vec![Box::new(ArrowPredicateFn::new(
            self.mask.clone(),
            keep,
        ))])
    }

    fn pass(&self, batch: &RecordBatch) -> Result<BooleanBuffer, ArrowError> {
        let mut any = BooleanBuffer::new_unset(batch.num_rows());
        for group in self.groups.iter() {
            let mut all = BooleanBuffer::new_set(batch.num_rows());
            for one in group {
                all = &all & &one.test.pass(batch.column(one.position))?;
            }
            any = &any | &all;
        }
        Ok(any)
    }

    /// The row groups of a file that may hold a row that passes, by their statistics.
    ///
    /// # Errors
    /// If statistics of a type can't be compared.
    pub fn candidates(&self, metadata: &ArrowReaderMetadata) -> Result<Vec<usize>, ArrowError> {
        let count = metadata.metadata().num_row_groups();
        let mut may = BooleanBuffer::new_unset(count);
        for group in self.groups.iter() {
            let mut never = BooleanBuffer::new_unset(count);
            for one in group {
                never = &never | &one.never(metadata)?;
            }
            may = &may | &!&never;
        }
        Ok(may.set_indices().collect())
    }
}

impl Bind {
    /// The row groups that hold no row that passes.
    fn never(&self, metadata: &ArrowReaderMetadata) -> Result<BooleanBuffer, ArrowError> {
        let groups = metadata.metadata().row_groups();
        let parquet = metadata.parquet_schema();
        let field = metadata.schema().field(self.root);
        let leaf =
            (0..parquet.num_columns()).find(|i| parquet.get_column_root_idx(*i) == self.root);
        let is_flat = parquet.root_schema().get_fields()[self.root].is_primitive();
        let unknown = BooleanBuffer::new_unset(groups.len());
        let Some(leaf) = leaf.filter(|_| is_flat) else {
            return Ok(unknown);
        };
        let trusted = BooleanBuffer::collect_bool(groups.len(), |i| {
            // What old writers noted was ordered by other rules.
            let noted = groups[i].column(leaf).statistics();
            noted.is_some_and(|s| !s.is_min_max_deprecated() || s.is_min_max_backwards_compatible())
        });
        let nulls = |all: bool| {
            BooleanBuffer::collect_bool(groups.len(), |i| {
                let count = groups[i]
                    .column(leaf)
                    .statistics()
                    .and_then(|s| s.null_count_opt());
                let rows = u64::try_from(groups[i].num_rows()).unwrap_or(u64::MAX);
                count.is_some_and(|count| count == if all { rows } else { 0 })
            })
        };
        let no_value = nulls(true);
        match self.test {
            Typed::IsNull => return Ok(nulls(false)),
            Typed::IsNotNull => return Ok(no_value),
            _ => {}
        }
        let told = StatisticsConverter::try_new(field.name(), metadata.schema(), parquet);
        let Ok(told) = told else {
            return Ok(no_value);
        };
        let least = bounds(&told.row_group_mins(groups.iter())?);
        let most = bounds(&told.row_group_maxes(groups.iter())?);
        Ok(&no_value | &(&self.test.never(&least, &most)? & &trusted))
    }
}
