//! The exact list of missing rows, as Parquet, so that only they are looked at or replayed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;

use super::report::MissingRow;
use crate::error::{Error, Result};
use crate::files::unique_name;

const BATCH_ROWS: usize = 8_192;

/// Writes the rows to `path` and says whether there were any; without any, a list of before is removed.
///
/// # Errors
/// [`Error::Io`] names the path.
pub fn write(path: &Path, rows: impl Iterator<Item = MissingRow>) -> Result<bool> {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return match fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
            _ => Ok(false),
        };
    }
    let field = |name: &str, kind| Field::new(name, kind, false);
    let schema = Arc::new(Schema::new(vec![
        field("split", DataType::Int64),
        field("seq", DataType::Int64),
        field("file", DataType::Utf8),
        field("row_in_file", DataType::Int64),
        field("child", DataType::Utf8),
        field("why", DataType::Utf8),
    ]));
    let failed = |e: parquet::errors::ParquetError| {
        Error::io("write", path)(std::io::Error::other(e.to_string()))
    };
    let temporary = path.with_extension(format!("tmp-{}", unique_name()));
    let file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), None).map_err(failed)?;
    loop {
        let some: Vec<MissingRow> = rows.by_ref().take(BATCH_ROWS).collect();
        if some.is_empty() {
            break;
        }
        let row_in_file = |r: &MissingRow| i64::try_from(r.row_in_file).unwrap_or(i64::MAX);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(
                some.iter().map(|r| i64::from(r.split)),
            )),
            Arc::new(Int64Array::from_iter_values(
                some.iter().map(|r| i64::from(r.seq)),
            )),
            Arc::new(StringArray::from_iter_values(some.iter().map(|r| &r.file))),
            Arc::new(Int64Array::from_iter_values(some.iter().map(row_in_file))),
            Arc::new(StringArray::from_iter_values(some.iter().map(|r| &r.child))),
            Arc::new(StringArray::from_iter_values(some.iter().map(|r| r.why))),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
            .map_err(|e| Error::io("write", path)(std::io::Error::other(e.to_string())))?;
        writer.write(&batch).map_err(failed)?;
    }
    writer.close().map_err(failed)?;
    fs::rename(&temporary, path).map_err(Error::io("rename", &temporary))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    #[test]
    fn the_list_is_whole_and_goes_when_nothing_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing.parquet");
        let row = |seq| MissingRow {
            split: 1,
            seq,
            file: "a.parquet".into(),
            row_in_file: 10 + u64::from(seq),
            child: "all".into(),
            why: "lost",
        };
        assert!(write(&path, (0..20_000).map(row)).unwrap());
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 20_000);
        assert!(!write(&path, std::iter::empty()).unwrap());
        assert!(!path.exists());
        assert!(!write(&path, std::iter::empty()).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
