//! The commit as a state machine: races, fences, lost answers and kills.

use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::Schema;
use proptest::prelude::*;

use super::*;
use crate::files::{create_whole, unique_name};

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
        offsets: [(offset_key(JOB, "cluster", "topic", 0), advance)].into(),
        tokens: [(token_key(JOB, "all"), token)].into(),
        seen: Seen([((JOB, 0), landed)].into()),
        re_published: 0,
    }
}

/// A data file with the identity columns alone, as a lander writes it.
fn data_file(table: &ParquetTable, seqs: std::ops::Range<u32>) -> DataFile {
    let file = table.new_file().unwrap();
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
    std::fs::rename(&file.temporary, &file.place).unwrap();
    DataFile {
        path: file.path,
        rows: rows as u64,
        bytes: 1,
        job: JOB.to_string(),
        region: "east".into(),
        commit: unique_name(),
    }
}

fn landed(table: &ParquetTable) -> Vec<u32> {
    let state = table.state().unwrap();
    let mut seqs = Vec::new();
    read_identities(
        table.location(),
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
        ParquetTable::open(dir.path()).unwrap();
        let results: Vec<_> = std::thread::scope(|scope| {
            let landers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let table = ParquetTable::open(dir.path()).unwrap();
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
        let table = ParquetTable::view(dir.path());
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
                let table = ParquetTable::open(dir).unwrap();
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
    let table = ParquetTable::view(dir.path());
    let state = table.state().unwrap();
    assert_eq!((state.version, state.files.len()), (30, 30));
    assert_eq!(landed(&table).len(), 300);
    assert_eq!(live_files(dir.path(), Some(JOB)).unwrap().len(), 30);
    assert_eq!(live_files(dir.path(), Some(JobId(8))).unwrap().len(), 0);
    // The sidecar and the identity columns say the same.
    assert_eq!(
        table.seen(&state).unwrap(),
        rebuild(dir.path(), &state).unwrap()
    );
}

#[test]
fn a_lander_with_an_older_token_is_fenced() {
    let dir = tempfile::tempdir().unwrap();
    let table = ParquetTable::open(dir.path()).unwrap();
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
    let table = ParquetTable::open(dir.path()).unwrap();
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
    let mut table = ParquetTable::open(dir.path()).unwrap();
    // The commit succeeds, the answer says it failed.
    table.create = Box::new(|path, text| {
        create_whole(path, text)?;
        Err(std::io::Error::other("connection reset"))
    });
    let file = data_file(&table, 0..3);
    let first = request(0, 3, 1, 0..3, vec![file]);
    assert_eq!(table.commit(&first).unwrap().version, 1);
    // Asked again with the same id, also after others: it is in, once.
    table.create = Box::new(create_whole);
    assert_eq!(table.commit(&first).unwrap().version, 1);
    table.commit(&request(3, 4, 1, [3], vec![])).unwrap();
    assert_eq!(table.commit(&first).unwrap().version, 2);
    assert_eq!(landed(&table), [0, 1, 2]);
    // Nothing was written: refused, and the table is as it was.
    table.create = Box::new(|_, _| Err(std::io::Error::other("no space")));
    let refused = table.commit(&request(4, 5, 1, [4], vec![])).unwrap_err();
    assert!(
        matches!(&refused, CommitError::Refused { reason } if reason.contains("no space")),
        "{refused}"
    );
    assert_eq!(table.state().unwrap().version, 2);
    // Nobody can say: something else is under the name.
    table.create = Box::new(|path, _| {
        std::fs::write(path, "{")?;
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
    let table = ParquetTable::open(dir.path()).unwrap();
    assert_eq!(live_files(dir.path(), None).unwrap().len(), 0);
    // Killed after its file, before its commit; and while it wrote one.
    data_file(&table, 0..10);
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
    let table = ParquetTable::open(dir.path()).unwrap();
    let mut other = request(0, 1, 1, [], vec![]);
    table.commit(&other).unwrap();
    other = request(1, 2, 1, [], vec![]);
    other.schema = EGRESS.replace("int", "string");
    let refused = table.commit(&other).unwrap_err().to_string();
    assert!(refused.contains("another schema"), "{refused}");
    let newer = dir.path().join("_kappaflow/00000000000000000009.json");
    std::fs::write(newer, r#"{"format": 99, "something": "new"}"#).unwrap();
    let refused = table.state().unwrap_err().to_string();
    assert!(
        refused.contains("newer KappaFlow (manifest format 99"),
        "{refused}"
    );
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
        let mut table = ParquetTable::open(dir.path()).unwrap();
        let (mut end, mut token) = (0i64, 0i64);
        for (current, from, length, ours, fault) in steps {
            // A first lander starts where the topic's records begin, a later one may work from an old state.
            let from = if current || end == 0 { end } else { from };
            let seqs = from as u32..(from + length) as u32;
            table.create = match fault {
                0 => Box::new(|_, _| Err(std::io::Error::other("nothing was written"))),
                1 => Box::new(|path, text| {
                    create_whole(path, text)?;
                    Err(std::io::Error::other("the answer was lost"))
                }),
                _ => Box::new(create_whole),
            };
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
