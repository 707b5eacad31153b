//! The commit as a state machine: races, fences, lost answers and kills.

use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::Schema;
use proptest::prelude::*;

use super::*;
use crate::files::unique_name;
use crate::job::OutputMode;

const JOB: JobId = JobId(7);
const EGRESS: &str = r#"{"type":"record","name":"A","fields":[{"name":"x","type":"int"}]}"#;

fn at(next: i64) -> Position {
    Position {
        next,
        reached: next,
    }
}

fn request(
    from: i64,
    to: i64,
    token: i64,
    seqs: impl IntoIterator<Item = u32>,
    files: Vec<DataFile>,
) -> CommitRequest {
    let landed = SeenSplit {
        landed: seqs.into_iter().collect(),
        ..SeenSplit::default()
    };
    let advance = Advance {
        from: at(from),
        to: at(to),
    };
    let id = files
        .first()
        .map_or_else(unique_name, |f: &DataFile| f.commit.clone());
    CommitRequest {
        id,
        job: JOB,
        schema: EGRESS.into(),
        files,
        staged: false,
        offsets: [(offset_key(JOB, "cluster", "topic", 0), advance)].into(),
        tokens: [(token_key(JOB, "all"), token)].into(),
        seen: Seen([((JOB, 0), landed)].into()),
        re_published: 0,
    }
}

fn open(dir: &Path) -> Table {
    Table::new(Storage::on_disk(dir), Box::new(ManifestLog::default()))
}

/// A table whose manifests are created so.
fn faulty(
    dir: &Path,
    create: impl Fn(&Storage, &str, &str) -> std::io::Result<bool> + Send + Sync + 'static,
) -> Table {
    let create = Box::new(create);
    Table::new(Storage::on_disk(dir), Box::new(ManifestLog { create }))
}

/// A data file with the identity columns alone, as a lander writes it.
fn data_file(table: &Table, seqs: std::ops::Range<u32>) -> DataFile {
    let file = table.storage().begin(DATA).unwrap();
    let rows = seqs.len();
    let number = |value: i64| Arc::new(Int64Array::from(vec![value; rows])) as ArrayRef;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![JOB.to_string(); rows])),
        number(0),
        Arc::new(Int64Array::from_iter_values(seqs.map(i64::from))),
        number(0),
        number(1),
        number(9),
        Arc::new(Int32Array::from(vec![0; rows])),
        number(0),
    ];
    let schema = Arc::new(Schema::new(identity_fields()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let target = std::fs::File::create(&file.temporary).unwrap();
    let mut writer = ArrowWriter::try_new(target, schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    table.storage().finish(&file).unwrap();
    DataFile {
        path: file.name,
        rows: rows as u64,
        bytes: 1,
        job: JOB.to_string(),
        region: "east".into(),
        commit: unique_name(),
        partition: BTreeMap::new(),
    }
}

fn landed(table: &Table) -> Vec<u32> {
    let state = table.state().unwrap();
    let mut seqs = Vec::new();
    read_identities(
        table.storage(),
        &state.files,
        &Default::default(),
        |_, row| {
            seqs.push(row.seq);
            Ok(())
        },
    )
    .unwrap();
    seqs
}

#[test]
fn of_landers_that_race_for_a_partition_exactly_one_wins() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let results: Vec<_> = std::thread::scope(|scope| {
            let landers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let table = open(dir.path());
                        let file = data_file(&table, 0..10);
                        table.commit(&request(0, 10, 1, 0..10, vec![file]))
                    })
                })
                .collect();
            landers.into_iter().map(|l| l.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
        assert!(
            results
                .iter()
                .all(|r| matches!(r, Ok(_) | Err(CommitError::Conflict { .. })))
        );
        let table = open(dir.path());
        assert_eq!(landed(&table), (0..10).collect::<Vec<_>>());
        assert_eq!(table.state().unwrap().version, 1);
        assert_eq!(table.orphans().unwrap().len(), 3);
    }
}

#[test]
fn landers_of_other_partitions_all_get_in() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for lander in 0..6u32 {
            let dir = dir.path();
            scope.spawn(move || {
                let table = open(dir);
                for step in 0..5u32 {
                    let first = lander * 100 + step * 10;
                    let file = data_file(&table, first..first + 10);
                    let (from, to) = (i64::from(step), i64::from(step + 1));
                    let mut request = request(from, to, 1, first..first + 10, vec![file]);
                    let advance = request.offsets.pop_first().unwrap().1;
                    let key = offset_key(JOB, "cluster", "topic", lander as i32);
                    request.offsets.insert(key, advance);
                    table.commit(&request).unwrap();
                }
            });
        }
    });
    let table = open(dir.path());
    let state = table.state().unwrap();
    assert_eq!((state.version, state.files.len()), (30, 30));
    assert_eq!(landed(&table).len(), 300);
    assert_eq!(state.files_of(Some(JOB)).count(), 30);
    assert_eq!(state.files_of(Some(JobId(8))).count(), 0);
    // The sidecar and the identity columns say the same.
    assert_eq!(
        table.seen(&state).unwrap(),
        rebuild(table.storage(), &state).unwrap()
    );
}

#[test]
fn a_lander_with_an_older_token_is_fenced() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    table.commit(&request(0, 5, 2, [], vec![])).unwrap();
    let refused = table.commit(&request(5, 9, 1, [], vec![])).unwrap_err();
    let fenced = CommitError::Fenced {
        child: "all".into(),
        held: 2,
        ours: 1,
    };
    assert_eq!(refused, fenced);
    table.commit(&request(5, 9, 3, [], vec![])).unwrap();
}

#[test]
fn an_input_lands_once_whatever_topic_it_comes_by() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    table.commit(&request(0, 5, 1, 0..5, vec![])).unwrap();
    let mut moved = request(0, 5, 2, 4..9, vec![]);
    let advance = moved.offsets.pop_first().unwrap().1;
    moved
        .offsets
        .insert(offset_key(JOB, "other", "topic", 0), advance);
    assert!(matches!(
        table.commit(&moved),
        Err(CommitError::Conflict { .. })
    ));
}

#[test]
fn an_answer_that_was_lost_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    // The commit succeeds, the answer says it failed.
    let table = faulty(dir.path(), |storage, name, text| {
        storage.create(name, text)?;
        Err(std::io::Error::other("connection reset"))
    });
    let file = data_file(&table, 0..3);
    let first = request(0, 3, 1, 0..3, vec![file]);
    assert_eq!(table.commit(&first).unwrap().version, 1);
    // Asked again with the same id, also after others: it is in, once.
    let table = open(dir.path());
    assert_eq!(table.commit(&first).unwrap().version, 1);
    table.commit(&request(3, 4, 1, [3], vec![])).unwrap();
    assert_eq!(table.commit(&first).unwrap().version, 2);
    assert_eq!(landed(&table), [0, 1, 2]);
    // Nothing was written: refused, and the table is as it was.
    let table = faulty(dir.path(), |_, _, _| Err(std::io::Error::other("no space")));
    let refused = table.commit(&request(4, 5, 1, [4], vec![])).unwrap_err();
    assert!(
        matches!(&refused, CommitError::Refused { reason } if reason.contains("no space")),
        "{refused}"
    );
    assert_eq!(table.state().unwrap().version, 2);
    // Nobody can say: something else is under the name.
    let table = faulty(dir.path(), |storage, name, _| {
        storage.create(name, "{")?;
        Err(std::io::Error::other("time-out"))
    });
    let unknown = table.commit(&request(4, 5, 1, [4], vec![])).unwrap_err();
    assert!(
        matches!(unknown, CommitError::Ambiguous { .. }),
        "{unknown}"
    );
}

#[test]
fn files_of_a_killed_lander_are_not_in_the_table_and_a_lost_sidecar_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    // Killed after its file, before its commit; and while it wrote one.
    data_file(&table, 0..10);
    std::fs::create_dir(dir.path().join("_kappaflow")).unwrap();
    std::fs::write(dir.path().join("data/half.tmp"), "PAR1").unwrap();
    std::fs::write(dir.path().join("_kappaflow/x.tmp-1"), "{").unwrap();
    assert_eq!(table.state().unwrap(), TableState::default());
    let file = data_file(&table, 0..10);
    table.commit(&request(0, 10, 1, 0..10, vec![file])).unwrap();
    assert_eq!(landed(&table), (0..10).collect::<Vec<_>>());
    assert_eq!(table.orphans().unwrap().len(), 2);

    let state = table.state().unwrap();
    let sidecar = dir
        .path()
        .join("_kappaflow")
        .join(state.seen.clone().unwrap());
    let before = table.seen(&state).unwrap();
    std::fs::write(&sidecar, "damaged").unwrap();
    assert_eq!(table.seen(&state).unwrap(), before);
    std::fs::remove_file(&sidecar).unwrap();
    assert_eq!(table.seen(&state).unwrap(), before);
    let again = table.commit(&request(10, 12, 1, [9], vec![]));
    assert!(matches!(again, Err(CommitError::Conflict { .. })));
}

#[test]
fn newer_and_other_tables_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    let mut other = request(0, 1, 1, [], vec![]);
    table.commit(&other).unwrap();
    other = request(1, 2, 1, [], vec![]);
    other.schema = EGRESS.replace("int", "string");
    let refused = table.commit(&other).unwrap_err().to_string();
    assert!(
        refused.contains("its column x is Int32, that of schema.egress is Utf8"),
        "{refused}"
    );
    let newer = dir.path().join("_kappaflow/00000000000000000009.json");
    std::fs::write(newer, r#"{"format": 99, "something": "new"}"#).unwrap();
    let refused = table.state().unwrap_err().to_string();
    assert!(
        refused.contains("newer KappaFlow (manifest format 99"),
        "{refused}"
    );
}

#[test]
fn columns_that_come_are_added_and_those_that_change_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    let with = |fields: &str| format!(r#"{{"type":"record","name":"A","fields":[{fields}]}}"#);
    let (x, y, z) = (
        r#"{"name":"x","type":"int"}"#,
        r#"{"name":"y","type":["null","string"],"default":null}"#,
        r#"{"name":"z","type":"long"}"#,
    );
    let commit = |at: i64, schema: &str| {
        let mut request = request(at, at + 1, 1, [at as u32], vec![]);
        request.schema = schema.to_owned();
        table
            .commit(&request)
            .map(|_| table.state().unwrap().schema.unwrap())
    };
    let wide = with(&format!("{y},{x}"));
    assert_eq!(commit(0, &with(x)), Ok(with(x)));
    assert_eq!(commit(1, &wide), Ok(wide.clone()));
    // A job that knows less lands on, and takes nothing away.
    assert_eq!(commit(2, &with(x)), Ok(wide.clone()));
    let refused = commit(3, &with(&format!("{x},{z}")))
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("has a column y that schema.egress lacks, which has z instead"),
        "{refused}"
    );
}

/// Files of a job in partitions of `day`, committed at once.
fn stage(table: &Table, job: JobId, days: &[&str]) -> Vec<DataFile> {
    let files: Vec<DataFile> = days
        .iter()
        .enumerate()
        .map(|(n, day)| {
            let mut file = data_file(table, n as u32 * 10..n as u32 * 10 + 10);
            file.job = job.to_string();
            let values = (!day.is_empty()).then(|| (*day).to_owned());
            file.partition.insert("day".into(), values);
            file
        })
        .collect();
    let mut request = request(0, 9, 1, [], files.clone());
    (request.job, request.staged, request.id) = (job, true, unique_name());
    let key = offset_key(job, "cluster", "topic", 0);
    let advance = request.offsets.pop_first().unwrap().1;
    request.offsets.insert(key, advance);
    table.commit(&request).unwrap();
    files
}

fn days(table: &Table) -> Vec<(u64, String)> {
    let state = table.state().unwrap();
    let files = state.files.iter().map(|f| {
        let job: JobId = f.job.parse().unwrap();
        (job.0, f.partition["day"].clone().unwrap_or_default())
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

#[test]
fn rows_that_replace_others_show_at_once_and_only_there() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    let of = |job, day: &str| (job, day.to_owned());
    let (one, two, three) = (JobId(1), JobId(2), JobId(3));
    let replace = OutputMode::ReplacePartitions;
    stage(&table, one, &["1", "2", "3", ""]);
    assert_eq!(days(&table), []);
    assert_eq!(table.publish(one, OutputMode::Append), Ok(None));
    assert_eq!(table.publish(one, replace), Ok(Some(2)));
    let first = [of(1, ""), of(1, "1"), of(1, "2"), of(1, "3")];
    assert_eq!(days(&table), first);
    assert_eq!(table.publish(one, replace), Ok(None));
    // What is staged is its job's, and nobody else's.
    stage(&table, two, &["2", "", "4"]);
    assert_eq!(days(&table), first);
    assert_eq!(table.state().unwrap().files_of(Some(two)).count(), 3);
    assert_eq!(table.publish(two, replace), Ok(Some(4)));
    let second = [of(1, "1"), of(1, "3"), of(2, ""), of(2, "2"), of(2, "4")];
    assert_eq!(days(&table), second);
    let state = table.state().unwrap();
    assert_eq!(state.replaced, [(one.to_string(), two.to_string())].into());
    assert_eq!(
        (state.removed.len(), table.orphans().unwrap().len()),
        (2, 0)
    );
    // Rows that come later replace none of their own job's.
    let mut late = data_file(&table, 90..95);
    late.job = two.to_string();
    late.partition.insert("day".into(), Some("2".into()));
    let mut request = request(9, 10, 1, [], vec![late]);
    (request.job, request.staged) = (two, true);
    let advance = request.offsets.pop_first().unwrap().1;
    request
        .offsets
        .insert(offset_key(two, "cluster", "topic", 0), advance);
    table.commit(&request).unwrap();
    assert_eq!(table.publish(two, replace), Ok(Some(6)));
    assert_eq!(days(&table).iter().filter(|d| d.0 == 2).count(), 4);
    // Nor rows of its own that others have put into files of theirs, as far as one can know.
    let mut state = table.state().unwrap();
    state.staged.clone_from(&state.files);
    state.files.truncate(1);
    state.files[0].job.clear();
    let mixed = admit::publish(&state, two, OutputMode::NewVersion, 0);
    assert!(matches!(mixed, Err(CommitError::Refused { .. })));
    state.published.clear();
    let whole = admit::publish(&state, two, OutputMode::NewVersion, 0);
    let whole = whole.unwrap().unwrap();
    assert_eq!(whole.removed.len(), 1);
    assert!(whole.state.replaced.contains_key(&one.to_string()));
    // A new version has its own job's rows alone, though these be none.
    assert_eq!(table.publish(three, OutputMode::NewVersion), Ok(Some(7)));
    assert_eq!(days(&table), []);
    assert_eq!(table.publish(three, OutputMode::NewVersion), Ok(None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Landers that work from old states, with old tokens, and lose answers: the table is always a gapless sequence of
    /// accepted drains, and every input is in it once.
    #[test]
    fn whatever_landers_do_the_table_has_each_input_once(
        steps in prop::collection::vec((any::<bool>(), 0i64..30, 1i64..12, 0i64..3, 0u8..4), 1..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut end, mut token) = (0i64, 0i64);
        for (current, from, length, ours, fault) in steps {
            // A first lander starts where the topic's records begin, a later one may work from an old state.
            let from = if current || end == 0 { end } else { from };
            let seqs = from as u32..(from + length) as u32;
            let table = faulty(dir.path(), move |storage, name, text| match fault {
                0 => Err(std::io::Error::other("nothing was written")),
                1 => {
                    storage.create(name, text)?;
                    Err(std::io::Error::other("the answer was lost"))
                }
                _ => storage.create(name, text),
            });
            let file = data_file(&table, seqs.clone());
            let request = request(from, from + length, ours, seqs, vec![file]);
            let result = table.commit(&request);
            let wanted = from == end && ours >= token && fault != 0;
            prop_assert_eq!(result.is_ok(), wanted, "{:?}", result);
            if wanted {
                (end, token) = (from + length, ours);
            }
            prop_assert_eq!(landed(&table), (0..end as u32).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_lander_that_slept_while_others_went_on_and_were_cleaned_up_comes_too_late() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_path_buf();
    // Between the look at version 1 and the making of version 2, others have made many, and the early ones are gone.
    let table = faulty(dir.path(), move |storage, name, text| {
        if name.ends_with("02.json") {
            let far = path.join("_kappaflow/00000000000000000300.json");
            let first = path.join("_kappaflow/00000000000000000001.json");
            let newest =
                std::fs::read_to_string(&first)?.replace("\"version\": 1", "\"version\": 300");
            std::fs::write(far, newest)?;
            std::fs::remove_file(first)?;
        }
        storage.create(name, text)
    });
    table.commit(&request(0, 5, 1, 0..5, vec![])).unwrap();
    let late = table.commit(&request(5, 9, 1, 5..9, vec![])).unwrap();
    assert_eq!(late.version, 301);
    assert!(
        !dir.path()
            .join("_kappaflow/00000000000000000002.json")
            .exists()
    );
}
