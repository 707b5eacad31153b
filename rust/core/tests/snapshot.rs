//! A snapshot is pinned by its footers and cut into repeatable splits.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use kappaflow_core::Error;
use kappaflow_core::rows::FileRows;
use kappaflow_core::snapshot::{Reach, Snapshot, View};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;

fn pin(path: &Path) -> Result<Snapshot, Error> {
    let reach = Reach::new("/".as_ref(), Default::default());
    Snapshot::pin(path.to_str().unwrap(), &reach, View::default())
}

/// A file with row groups of the given sizes.
fn write(path: &Path, column: &str, groups: &[usize]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let batch = |rows: usize| {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        RecordBatch::try_from_iter([(column, values)]).unwrap()
    };
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(usize::MAX))
        .build();
    let mut writer = ArrowWriter::try_new(
        File::create(path).unwrap(),
        batch(0).schema(),
        Some(properties),
    )
    .unwrap();
    for rows in groups {
        writer.write(&batch(*rows)).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn a_directory_a_glob_and_a_file_are_pinned_in_path_order() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("m=2/b.parquet"), "x", &[3]);
    write(&dir.path().join("m=1/a.parquet"), "x", &[2, 2]);
    fs::write(dir.path().join("m=1/_SUCCESS"), "").unwrap();
    write(&dir.path().join("_delta_log/c.parquet"), "x", &[9]);
    let snapshot = pin(dir.path()).unwrap();
    let paths: Vec<_> = snapshot.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths, ["m=1/a.parquet", "m=2/b.parquet"]);
    assert_eq!(snapshot.rows(), 7);
    let globbed = pin(&dir.path().join("m=*/*.parquet")).unwrap();
    assert_eq!(globbed.digest(), snapshot.digest());
    assert_eq!(pin(&dir.path().join("m=2/b.parquet")).unwrap().rows(), 3);

    let splits = snapshot.splits(Some("m"), 3).unwrap();
    let cut: Vec<_> = splits
        .iter()
        .map(|s| (s.split, s.child.as_str(), s.first_row, s.rows))
        .collect();
    assert_eq!(cut, [(0, "1", 0, 2), (1, "1", 2, 2), (2, "2", 0, 3)]);
    let unknown = snapshot.splits(Some("day"), 3).unwrap_err().to_string();
    assert!(
        unknown.contains("day=") && unknown.contains("source.child_by"),
        "{unknown}"
    );
}

#[test]
fn what_is_no_snapshot_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path, word: &str| {
        let error = pin(path).unwrap_err();
        assert!(matches!(error, Error::Source { .. }), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
    };
    refused(&dir.path().join("nowhere"), "no such file or directory");
    refused(dir.path(), "no Parquet file");
    let text = dir.path().join("a.parquet");
    fs::write(&text, "not parquet at all").unwrap();
    refused(&text, "not a Parquet file");
    fs::remove_file(text).unwrap();
    write(&dir.path().join("a.parquet"), "x", &[1]);
    write(&dir.path().join("b.parquet"), "y", &[1]);
    let error = pin(dir.path()).unwrap().schema().unwrap_err().to_string();
    assert!(
        error.contains("b.parquet") && error.contains("\"y\""),
        "{error}"
    );
}

#[test]
fn a_source_that_changed_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    write(&path, "x", &[5]);
    let snapshot = pin(dir.path()).unwrap();
    assert!(FileRows::open(&snapshot, 0, 0..1, "job", &|_| true).is_ok());
    let changed = |word: &str| {
        let error = FileRows::open(&snapshot, 0, 0..1, "job", &|_| true)
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(error, Error::SourceChanged { .. }), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
    };
    write(&path, "x", &[5, 1]);
    changed("bytes");
    fs::remove_file(&path).unwrap();
    changed("gone");
    fs::write(&path, "cut").unwrap();
    changed("not a Parquet file");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn splits_cover_every_row_once_and_keep_to_their_size(
        files in prop::collection::vec(prop::collection::vec(1usize..40, 0..6), 1..4),
        split_rows in 1u32..60,
    ) {
        let dir = tempfile::tempdir().unwrap();
        for (i, groups) in files.iter().enumerate() {
            write(&dir.path().join(format!("{i}.parquet")), "x", groups);
        }
        let snapshot = pin(dir.path()).unwrap();
        let splits = snapshot.splits(None, split_rows).unwrap();
        for (i, groups) in files.iter().enumerate() {
            let mine: Vec<_> = splits.iter().filter(|s| s.file == i).collect();
            let mut next = (0, 0u64);
            for split in mine {
                prop_assert_eq!((split.row_group_first, split.first_row), next);
                prop_assert!(split.rows <= split_rows || split.row_group_count == 1);
                next = (next.0 + split.row_group_count, next.1 + u64::from(split.rows));
            }
            prop_assert_eq!(next, (groups.len(), groups.iter().sum::<usize>() as u64));
        }
        prop_assert!(splits.iter().enumerate().all(|(i, s)| s.split as usize == i));
        // Cut again, it is the same.
        prop_assert_eq!(pin(dir.path()).unwrap().splits(None, split_rows).unwrap(), splits);
    }
}
