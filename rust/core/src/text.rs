//! Text that is none: columns whose bytes are not UTF-8 though their type says so, such as Latin-1 in a warehouse's
//! files. They are taken for bytes, so that the gate refuses the rows that hold them, and no others.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow_data::ArrayData;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, ParquetMetaDataBuilder};
use parquet::schema::types::{SchemaDescriptor, Type};

/// A batch from a producer that nobody has checked. Columns with text that is none have it as bytes.
///
/// # Errors
/// If a column is no Arrow data at all: offsets beyond its end, dictionary keys without a value.
pub fn checked(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let data = column.to_data();
        columns.push(match data.validate_full() {
            Ok(()) => column.clone(),
            Err(wrong) => match retyped(data, &as_bytes(field.data_type())) {
                Ok(bytes) => make_array(bytes),
                Err(_) => {
                    let column = format!("column {:?}: {wrong}", field.name());
                    return Err(ArrowError::InvalidArgumentError(column));
                }
            },
        });
    }
    with_columns(&batch, columns)
}

/// Whether a batch is what was planned, but for text that is none.
///
/// # Errors
/// The first difference.
pub fn fits(planned: &Schema, batch: &Schema) -> Result<(), String> {
    let (planned, found) = (planned.fields(), batch.fields());
    if planned.len() != found.len() {
        let (planned, found) = (planned.len(), found.len());
        return Err(format!(
            "a batch of {found} columns, {planned} were planned"
        ));
    }
    for (planned, found) in planned.iter().zip(found) {
        let (name, ty) = (planned.name(), planned.data_type());
        if name != found.name() || (ty != found.data_type() && as_bytes(ty) != *found.data_type()) {
            return Err(format!(
                "a batch with column {:?} of {} where {name:?} of {ty} was planned",
                found.name(),
                found.data_type()
            ));
        }
    }
    Ok(())
}

/// A batch that was read by [`reader_of_bytes`]: its columns are text again where that is what they hold.
///
/// # Errors
/// None that are known of.
pub fn restored(batch: RecordBatch, wanted: &Schema) -> Result<RecordBatch, ArrowError> {
    let columns = wanted.fields().iter().zip(batch.columns());
    let columns = columns
        .map(|(field, column)| {
            if field.data_type() == column.data_type() {
                return column.clone();
            }
            let text = retyped(column.to_data(), field.data_type());
            text.map_or_else(|_| column.clone(), make_array)
        })
        .collect();
    with_columns(&batch, columns)
}

fn with_columns(batch: &RecordBatch, columns: Vec<ArrayRef>) -> Result<RecordBatch, ArrowError> {
    let old = batch.schema_ref();
    let fields = old.fields().iter().zip(&columns);
    if fields.clone().all(|(f, c)| f.data_type() == c.data_type()) {
        return Ok(batch.clone());
    }
    let fields: Fields = fields
        .map(|(f, c)| {
            let field = f.as_ref().clone();
            field.with_data_type(c.data_type().clone())
        })
        .collect();
    let schema = Schema::new_with_metadata(fields, old.metadata().clone());
    // Without any column, only this says how many rows there are.
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(schema), columns, &rows)
}

/// The same buffers as another type, checked in full.
fn retyped(data: ArrayData, to: &DataType) -> Result<ArrayData, ArrowError> {
    let children = data
        .child_data()
        .iter()
        .zip(children(to))
        .map(|(child, to)| retyped(child.clone(), to))
        .collect::<Result<_, _>>()?;
    data.into_builder()
        .data_type(to.clone())
        .child_data(children)
        .build()
}

/// The types of an array's children, in order.
fn children(of: &DataType) -> Vec<&DataType> {
    match of {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => vec![item.data_type()],
        DataType::Struct(fields) => fields.iter().map(|f| f.data_type()).collect(),
        DataType::Dictionary(_, values) => vec![values.as_ref()],
        _ => Vec::new(),
    }
}

/// The type with bytes wherever it has text.
fn as_bytes(of: &DataType) -> DataType {
    let field = |field: &FieldRef| -> FieldRef {
        let to = as_bytes(field.data_type());
        Arc::new(Field::clone(field).with_data_type(to))
    };
    match of {
        DataType::Utf8 => DataType::Binary,
        DataType::LargeUtf8 => DataType::LargeBinary,
        DataType::Utf8View => DataType::BinaryView,
        DataType::List(item) => DataType::List(field(item)),
        DataType::LargeList(item) => DataType::LargeList(field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(field(item), *size),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::Dictionary(key, values) => {
            DataType::Dictionary(key.clone(), Box::new(as_bytes(values)))
        }
        other => other.clone(),
    }
}

/// The metadata of a Parquet file as if its text were bytes, which are not looked at when they are read.
///
/// # Errors
/// If the schema can't be written otherwise.
pub fn reader_of_bytes(
    metadata: &ArrowReaderMetadata,
) -> Result<ArrowReaderMetadata, ParquetError> {
    let parquet = metadata.metadata();
    let file = parquet.file_metadata();
    let root = parquet_bytes(file.schema_descr().root_schema())?;
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        file.key_value_metadata().cloned(),
        Arc::new(SchemaDescriptor::new(Arc::new(root))),
        file.column_orders().cloned(),
    );
    let parquet = ParquetMetaDataBuilder::new(file)
        .set_row_groups(parquet.row_groups().to_vec())
        .build();
    let fields: Fields = metadata
        .schema()
        .fields()
        .iter()
        .map(|f| Field::clone(f).with_data_type(as_bytes(f.data_type())))
        .collect();
    let schema = Schema::new_with_metadata(fields, metadata.schema().metadata().clone());
    let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
    ArrowReaderMetadata::try_new(Arc::new(parquet), options)
}

fn parquet_bytes(of: &Type) -> Result<Type, ParquetError> {
    let info = of.get_basic_info();
    let id = info.has_id().then(|| info.id());
    match of {
        Type::PrimitiveType {
            physical_type: Physical::BYTE_ARRAY,
            ..
        } if info.converted_type() == ConvertedType::UTF8
            || info.logical_type_ref() == Some(&LogicalType::String) =>
        {
            Type::primitive_type_builder(info.name(), Physical::BYTE_ARRAY)
                .with_repetition(info.repetition())
                .with_id(id)
                .build()
        }
        Type::PrimitiveType { .. } => Ok(of.clone()),
        Type::GroupType { fields, .. } => {
            let fields = fields
                .iter()
                .map(|f| parquet_bytes(f).map(Arc::new))
                .collect::<Result<_, _>>()?;
            let mut group = Type::group_type_builder(info.name())
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_fields(fields)
                .with_id(id);
            if info.has_repetition() {
                group = group.with_repetition(info.repetition());
            }
            group.build()
        }
    }
}
