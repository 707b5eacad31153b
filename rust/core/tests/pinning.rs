//! A request is answered with the snapshot that was pinned for it, until a new one is asked for.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use kappaflow_core::rows::FileRows;
use kappaflow_core::snapshot::{Planner, Snapshot};
use kappaflow_core::{Error, Opening, Session};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use tempfile::TempDir;

const SCHEMA: &str = r#"{"type":"record","name":"R","fields":[{"name":"x","type":"long"},{"name":"m","type":"string"}]}"#;

/// A file of one column of whole numbers, with a Parquet field id if one is given.
fn write(path: &Path, column: &str, id: Option<i32>, values: &[i64]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let ids = id.map(|id| ("PARQUET:field_id".to_owned(), id.to_string()));
    let field = Field::new(column, DataType::Int64, true).with_metadata(ids.into_iter().collect());
    let values: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![values]).unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn job(dir: &Path, source: &str) -> PathBuf {
    for schema in ["in.avsc", "out.avsc"] {
        fs::write(dir.join(schema), SCHEMA).unwrap();
    }
    let text = format!(
        "name = 'pin'\nside_effects = 'none'\n[source]\n{source}\n[schema]\ningress = 'in.avsc'\negress = 'out.avsc'\n\
         [service]\nversion = '1'\ncallable = 'm:f'\n[output]\npath = 'landed'\n\
         [[regions]]\nname = 'east'\nbootstrap_servers = '127.0.0.1:1'\ncap_max = 1000\n"
    );
    let path = dir.join("job.toml");
    fs::write(&path, text).unwrap();
    path
}

async fn open(job: &Path) -> Session {
    Session::open(job, &BTreeMap::new()).await.unwrap()
}

async fn open_new(job: &Path) -> Session {
    let opening = Opening {
        new_snapshot: true,
        planner: None,
        ..Opening::default()
    };
    Session::open_with(job, &BTreeMap::new(), opening)
        .await
        .unwrap()
}

fn read(snapshot: &Snapshot, file: usize) -> Result<Vec<RecordBatch>, Error> {
    let groups = 0..snapshot.files[file].row_groups.len();
    let rows = FileRows::open(snapshot, file, groups, "job", &|_| true)?;
    Ok(rows.map(Result::unwrap).collect())
}

#[tokio::test]
async fn a_retry_uses_the_pinned_snapshot_until_a_new_one_is_asked_for() {
    let dir = TempDir::new().unwrap();
    let (data, file) = (dir.path().join("data"), job(dir.path(), "path = 'data'"));
    write(&data.join("a.parquet"), "x", None, &[1, 2]);
    let first = open(&file).await;
    assert_eq!(first.snapshot.rows(), 2);

    // The next day there is more, and what was pinned is still what is replayed.
    write(&data.join("b.parquet"), "x", None, &[3]);
    let again = open(&file).await;
    assert_eq!((again.id, again.snapshot.rows()), (first.id, 2));
    assert!(read(&again.snapshot, 0).is_ok());

    let new = open_new(&file).await;
    assert_ne!(new.id, first.id);
    assert_eq!(new.snapshot.rows(), 3);
    assert_eq!(open(&file).await.id, new.id, "the newest is used");

    // The id is a function of the content: what was there before is the job of before.
    fs::remove_file(data.join("b.parquet")).unwrap();
    assert_eq!(open_new(&file).await.id, first.id);
    assert_eq!(open(&file).await.id, first.id);

    // Another cut is another request.
    job(dir.path(), "path = 'data'\nsplit_rows = 1");
    assert_ne!(open(&file).await.id, first.id);
}

#[tokio::test]
async fn a_changed_file_is_refused_by_what_differs_and_the_way_out_is_named() {
    let dir = TempDir::new().unwrap();
    let file = job(dir.path(), "path = 'data/*.parquet'");
    let data = dir.path().join("data/a.parquet");
    write(&data, "x", None, &[1, 2]);
    open(&file).await;
    let day = Duration::from_secs(86_400);
    let touch = |to: SystemTime| {
        File::options()
            .write(true)
            .open(&data)
            .unwrap()
            .set_modified(to)
    };
    let written = fs::metadata(&data).unwrap().modified().unwrap();
    touch(written + day).unwrap();
    let refused = |error: Error, word: &str| {
        assert!(matches!(error, Error::SourceChanged { .. }), "{error:?}");
        let text = error.to_string();
        for word in [word, "data/a.parquet", "--new-snapshot"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    };
    refused(
        read(&open(&file).await.snapshot, 0).unwrap_err(),
        "written at",
    );
    touch(written).unwrap();
    assert!(
        read(&open(&file).await.snapshot, 0).is_ok(),
        "put back as it was"
    );
    write(&data, "x", None, &[1, 2, 3, 4, 5, 6, 7, 8]);
    refused(read(&open(&file).await.snapshot, 0).unwrap_err(), "bytes");
    fs::remove_file(&data).unwrap();
    refused(read(&open(&file).await.snapshot, 0).unwrap_err(), "gone");
}

#[tokio::test]
async fn a_source_of_which_nothing_is_seen_is_refused() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("data/a.parquet"), "x", None, &[1, 2]);
    for (source, word) in [
        (
            "path = 'data'\nfilter = [['x', '>', 2]]",
            "no row of it passes",
        ),
        ("path = 'none'", "no rows"),
    ] {
        write(&dir.path().join("none/a.parquet"), "x", None, &[]);
        let file = job(dir.path(), source);
        let error = Session::open(&file, &BTreeMap::new()).await.err().unwrap();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_job_whose_directory_moved_reads_its_files_there() {
    let (dir, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = job(dir.path(), "path = 'data'");
    write(&dir.path().join("data/a.parquet"), "x", None, &[1, 2]);
    let id = open(&file).await.id;
    let moved = to.path().join("moved");
    fs::rename(dir.path(), &moved).unwrap();
    let session = open(&moved.join("job.toml")).await;
    assert_eq!(session.id, id);
    assert_eq!(session.snapshot.path(0), moved.join("data/a.parquet"));
    assert!(read(&session.snapshot, 0).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_that_pin_at_once_one_wins() {
    let dir = TempDir::new().unwrap();
    let file = job(dir.path(), "path = 'data'");
    write(&dir.path().join("data/0.parquet"), "x", None, &[0]);
    let openings: Vec<_> = (1..6)
        .map(|n| {
            let (file, dir) = (file.clone(), dir.path().to_path_buf());
            tokio::spawn(async move {
                write(&dir.join(format!("data/{n}.parquet")), "x", None, &[n]);
                open(&file).await.id
            })
        })
        .collect();
    let mut ids = Vec::new();
    for opening in openings {
        ids.push(opening.await.unwrap());
    }
    ids.push(open(&file).await.id);
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

/// A planner that gives one answer and keeps what it was asked.
fn planner(answer: Value) -> (Planner, Arc<Mutex<Vec<Value>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let keep = asked.clone();
    let planner: Planner = Arc::new(move |spec: &str| {
        keep.lock()
            .unwrap()
            .push(serde_json::from_str(spec).unwrap());
        Ok(answer.to_string())
    });
    (planner, asked)
}

async fn open_planned(job: &Path, planner: Planner) -> Result<Session, Error> {
    let opening = Opening {
        new_snapshot: false,
        planner: Some(planner),
        ..Opening::default()
    };
    Session::open_with(job, &BTreeMap::new(), opening).await
}

const TABLE: &str =
    "format = 'iceberg'\ntable = 'db.t'\nsnapshot_id = 8\ncatalog = {type = 'sql'}\nchild_by = 'm'";

#[tokio::test]
async fn a_planned_table_is_read_by_field_ids_and_names() {
    let dir = TempDir::new().unwrap();
    let file = job(dir.path(), TABLE);
    write(&dir.path().join("t/0.parquet"), "old_x", Some(1), &[1, 2]);
    write(&dir.path().join("t/1.parquet"), "col-7", Some(7), &[3]);
    let bytes = fs::metadata(dir.path().join("t/0.parquet")).unwrap().len();
    let (planner, asked) = planner(json!({
        "version": 1, "what": "iceberg db.t at snapshot 8", "pin": "uuid/8",
        "files": [
            {"path": "t/0.parquet", "bytes": bytes, "rows": 2, "partition": {"m": "a"}},
            {"path": dir.path().join("t/1.parquet"), "bytes": null, "rows": null, "partition": {"m": null}},
        ],
        "fields": [
            {"name": "x", "id": 1, "physical": null},
            {"name": "y", "id": null, "physical": "col-7"},
            {"name": "m", "id": 3, "physical": null},
        ],
    }));
    let session = open_planned(&file, planner.clone()).await.unwrap();
    let spec = asked.lock().unwrap()[0].clone();
    assert_eq!(spec["format"], "iceberg");
    assert_eq!(spec["table"], "db.t");
    assert_eq!(spec["snapshot_id"], 8);
    assert_eq!(spec["dir"], json!(dir.path()));
    assert_eq!(spec["request"].as_str().unwrap().len(), 64);

    let columns = |file: usize| {
        let batch = read(&session.snapshot, file).unwrap().remove(0);
        let shown = batch.schema_ref().fields().iter().zip(batch.columns());
        let shown = shown.map(|(field, column)| {
            let value = match field.data_type() {
                DataType::Int64 => column.as_primitive::<Int64Type>().value(0).to_string(),
                DataType::Utf8 if column.is_null(0) => "null".into(),
                DataType::Utf8 => column.as_string::<i32>().value(0).to_owned(),
                other => other.to_string(),
            };
            format!("{}={value}", field.name())
        });
        shown.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(columns(0), "x=1 y=Null m=a");
    assert_eq!(columns(1), "x=Null y=3 m=null");
    let types: Vec<_> = session.snapshot.schema().unwrap().fields().to_vec();
    assert!(
        types.iter().all(|f| f.data_type() == &DataType::Int64),
        "{types:?}"
    );
    let children: Vec<_> = session.plan().await.unwrap().children;
    let names: Vec<_> = children.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["__HIVE_DEFAULT_PARTITION__", "a"]);

    // Pinned: nobody plans again, not even without a planner.
    assert_eq!(open(&file).await.id, session.id);
    open_planned(&file, planner.clone()).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 1);

    // Asked for anew, it is planned anew, and what was kept for the request before does not answer.
    let opening = Opening {
        new_snapshot: true,
        planner: Some(planner),
        ..Opening::default()
    };
    let again = Session::open_with(&file, &BTreeMap::new(), opening)
        .await
        .unwrap();
    assert_eq!(again.id, session.id, "the same content is the same job");
    assert_ne!(asked.lock().unwrap()[1]["request"], spec["request"]);
}

#[tokio::test]
async fn a_plan_that_can_t_be_used_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let file = job(dir.path(), TABLE);
    let error = Session::open(&file, &BTreeMap::new()).await.err().unwrap();
    assert!(matches!(error, Error::NotReady { .. }), "{error:?}");
    assert!(error.to_string().contains("kappaflow plan"), "{error}");

    write(&dir.path().join("0.parquet"), "x", Some(1), &[1, 2]);
    let plan = |version: u32, bytes: Option<u64>, path: &str| {
        json!({"version": version, "what": "iceberg db.t", "pin": "p", "fields": null,
               "files": [{"path": path, "bytes": bytes, "rows": 2, "partition": {"m": "a"}}]})
    };
    write(&dir.path().join("plain.parquet"), "x", None, &[1, 2]);
    let mut by_id = plan(1, None, "plain.parquet");
    by_id["fields"] = json!([{"name": "x", "id": 1, "physical": null}]);
    for (answer, word) in [
        (json!({"version": 1}), "missing field"),
        (plan(2, None, "0.parquet"), "version 2, expected 1"),
        (plan(1, Some(7), "0.parquet"), "the table's metadata says 7"),
        (by_id, "none of its columns has a field id"),
        (plan(1, None, "1.parquet"), "1.parquet"),
    ] {
        let error = open_planned(&file, planner(answer).0).await.err().unwrap();
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
    let failing: Planner = Arc::new(|_: &str| {
        Err(Error::Planner {
            kind: "job_file".into(),
            message: "no table db.t".into(),
        })
    });
    let error = open_planned(&file, failing).await.err().unwrap();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        ("job_file", "no table db.t")
    );
}
