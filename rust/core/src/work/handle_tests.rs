use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Int32Array, RecordBatch};
use kappaflow_avro::{AvroSchema, CoercionPlan, Decoder, PlanOptions};
use proptest::prelude::*;

use super::*;
use crate::identity::JobId;
use crate::registry::{DirectoryRegistry, SchemaText};
use crate::work::service::Reply;
use crate::work::wire;

const SCHEMA: &str = r#"{"type":"record","name":"R","fields":[{"name":"x","type":"int"}]}"#;

/// What a record does to the service, by its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Good,
    Children(usize),
    Filtered,
    Dead,
    /// Raises so many times, then is good.
    Flaky(u32),
    /// Kills its process, always.
    Killer,
    /// Kills its process so many times, then is good.
    Clumsy(u32),
    /// Answered with a null where the schema has an int.
    Misfit,
}

struct Scripted {
    natures: Vec<Nature>,
    seen: BTreeMap<i32, u32>,
    /// Whether it says on which record it died.
    marks: bool,
    deaths: u64,
    /// Sizes of calls that killed it.
    killed: Vec<usize>,
}

impl Service for Scripted {
    fn call(
        &mut self,
        call: &Call<'_>,
        _: &dyn Fn() -> bool,
    ) -> std::result::Result<Reply, CallError> {
        let values = call.records.column(0).as_primitive::<Int32Type>().values();
        assert_eq!(values.len(), call.identities.len());
        let (mut verdicts, mut answers) = (Vec::new(), Vec::new());
        for (row, value) in values.iter().enumerate() {
            let seen = self.seen.entry(*value).or_default();
            *seen += 1;
            let retry = |reason: &str| Verdict::Retry {
                reason: reason.into(),
                detail: String::new(),
            };
            match self.natures[*value as usize] {
                Nature::Killer => return Err(self.die(row, values.len())),
                Nature::Clumsy(n) if *seen <= n => return Err(self.die(row, values.len())),
                Nature::Flaky(n) if *seen <= n => verdicts.push(retry("Flaky")),
                Nature::Filtered => verdicts.push(Verdict::Filtered("F".into())),
                Nature::Dead => verdicts.push(Verdict::DeadLetter {
                    reason: "D".into(),
                    detail: String::new(),
                }),
                Nature::Children(n) => {
                    verdicts.push(Verdict::Answered(n));
                    answers.extend(std::iter::repeat_n(Some(*value), n));
                }
                Nature::Misfit => {
                    verdicts.push(Verdict::Answered(1));
                    answers.push(None);
                }
                _ => {
                    verdicts.push(Verdict::Answered(1));
                    answers.push(Some(*value));
                }
            }
        }
        let answers = RecordBatch::try_new(
            std::sync::Arc::new(loose()),
            vec![std::sync::Arc::new(Int32Array::from(answers))],
        )
        .unwrap();
        Ok(Reply { verdicts, answers })
    }

    fn restarts(&self) -> u64 {
        self.deaths
    }
}

impl Scripted {
    fn die(&mut self, row: usize, size: usize) -> CallError {
        self.deaths += 1;
        self.killed.push(size);
        CallError::Died {
            marked: self.marks.then_some(row),
            reason: "KilledProcess",
            detail: "its process was killed by signal 11".into(),
        }
    }
}

fn loose() -> arrow_schema::Schema {
    let schema = AvroSchema::parse(SCHEMA).unwrap();
    wire::answer_schema(&Decoder::new(&schema).unwrap().arrow_schema())
}

fn handler(natures: &[Nature], marks: bool) -> (Handler<Scripted>, Vec<Record>) {
    let dir = tempfile::tempdir().unwrap();
    let registry = Arc::new(DirectoryRegistry::new(dir.keep()));
    let text = SchemaText::whole(SCHEMA);
    let id = registry.register("s", &text, false).unwrap().id;
    let schema = AvroSchema::parse(SCHEMA).unwrap();
    let plan = CoercionPlan::new(&loose(), &schema, &PlanOptions::default()).unwrap();
    let service = Scripted {
        natures: natures.to_vec(),
        seen: BTreeMap::new(),
        marks,
        deaths: 0,
        killed: Vec::new(),
    };
    let records = (0..natures.len())
        .map(|x| Record {
            offset: x as i64,
            identity: Identity {
                job: JobId(1),
                split: 0,
                seq: x as u32,
            },
            key: None,
            schema: None,
            payload: payload(id, x as i32),
        })
        .collect();
    let encoder = Encoder::new(plan, id);
    (
        Handler::new(service, "m:f".into(), registry, schema, encoder, 3),
        records,
    )
}

/// An Avro int, framed.
fn payload(id: u32, x: i32) -> Vec<u8> {
    let mut out = Vec::new();
    kappaflow_avro::framing::write(id, &mut out);
    let mut zigzag = ((x << 1) ^ (x >> 31)) as u32;
    while zigzag >= 0x80 {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
    out
}

fn reason(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::DeadLetter { reason, .. } => reason,
        Outcome::Filtered(reason) => reason,
        Outcome::Answered(_) => "",
    }
}

fn check(natures: &[Nature], marks: bool) {
    let (mut handler, records) = handler(natures, marks);
    let handled = handler.handle(&records, &|| true).unwrap().unwrap();
    for (row, (nature, outcome)) in natures.iter().zip(&handled.outcomes).enumerate() {
        let wanted = match nature {
            Nature::Killer => "KilledProcess",
            Nature::Flaky(n) if *n >= 3 => "Flaky",
            Nature::Filtered => "F",
            Nature::Dead => "D",
            Nature::Misfit => "AnswerMisfit",
            _ => "",
        };
        assert_eq!(reason(outcome), wanted, "{row} {nature:?} {outcome:?}");
        if let Outcome::Answered(family) = outcome {
            let count = match nature {
                Nature::Children(n) => *n,
                _ => 1,
            };
            assert_eq!(family, &vec![records[row].payload.clone(); count]);
        }
    }
}

fn natures() -> impl Strategy<Value = Vec<Nature>> {
    let one = prop_oneof![
        6 => Just(Nature::Good),
        1 => (1usize..4).prop_map(Nature::Children),
        1 => Just(Nature::Filtered),
        1 => Just(Nature::Dead),
        1 => Just(Nature::Flaky(u32::MAX)),
        1 => Just(Nature::Killer),
        1 => Just(Nature::Clumsy(1)),
        1 => Just(Nature::Misfit),
    ];
    prop::collection::vec(one, 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn each_record_gets_its_own_fate(natures in natures(), marks: bool) {
        check(&natures, marks);
    }
}

#[test]
fn a_flaky_record_is_tried_again() {
    check(&[Nature::Good, Nature::Flaky(1), Nature::Flaky(2)], true);
}

#[test]
fn a_marked_killer_dies_once_in_company_and_once_alone() {
    let natures = [Nature::Good, Nature::Good, Nature::Killer, Nature::Good];
    let (mut handler, records) = handler(&natures, true);
    let handled = handler.handle(&records, &|| true).unwrap().unwrap();
    assert_eq!(handler.service().killed, [4, 1]);
    let Outcome::DeadLetter {
        reason,
        detail,
        attempts,
    } = &handled.outcomes[2]
    else {
        panic!("{handled:?}");
    };
    assert_eq!((reason.as_str(), *attempts), ("KilledProcess", 2));
    assert!(detail.contains("alone"), "{detail}");
}

#[test]
fn what_cannot_be_decoded_is_a_dead_letter_and_no_more() {
    let (mut handler, mut records) = handler(&[Nature::Good, Nature::Good, Nature::Good], true);
    records[0].payload = vec![1, 2, 3];
    records[1].payload = payload(77, 1);
    let handled = handler.handle(&records, &|| true).unwrap().unwrap();
    let reasons: Vec<&str> = handled.outcomes.iter().map(reason).collect();
    assert_eq!(reasons, ["Undecodable", "Undecodable", ""]);
}

#[test]
fn a_record_is_read_by_the_schema_that_it_was_written_with() {
    let registry = Arc::new(DirectoryRegistry::new(tempfile::tempdir().unwrap().keep()));
    let register = |fields: &str| {
        let json = format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
        let text = SchemaText::whole(&json);
        // Each under a subject of its own, so that no rule of compatibility is in the way.
        registry
            .register(&json.len().to_string(), &text, false)
            .unwrap()
            .id
    };
    let same = register(r#"{"name":"x","type":"int"}"#);
    let more = register(r#"{"name":"more","type":"int"},{"name":"x","type":"int"}"#);
    let other = register(r#"{"name":"x","type":"string"}"#);
    let perhaps = register(r#"{"name":"x","type":["null","int"]}"#);
    let record = |payload: Vec<u8>| Record {
        offset: 0,
        identity: Identity {
            job: JobId(1),
            split: 0,
            seq: 0,
        },
        key: None,
        schema: None,
        payload,
    };
    let framed = |id, datum: &[u8]| record([&kappaflow_avro::framing::bytes(id), datum].concat());
    let reader = AvroSchema::parse(SCHEMA).unwrap();
    let mut decoders = super::super::decode::Decoders::new(registry.clone(), reader);
    let records = [
        framed(same, &[2]),
        framed(more, &[40, 4]),
        framed(other, &[2, b'a']),
        framed(same, &[0x80]),
        framed(perhaps, &[0]),
        framed(more, &[40, 6]),
        framed(perhaps, &[2, 8]),
        framed(99, &[2]),
        record(b"{}".to_vec()),
    ];
    let (groups, undecodable) = decoders.decode(&records).unwrap();
    let read: Vec<(Vec<usize>, Vec<i32>)> = groups
        .into_iter()
        .map(|(rows, batch)| {
            let x = batch.column(0).as_primitive::<Int32Type>();
            (rows, x.values().to_vec())
        })
        .collect();
    assert_eq!(
        read,
        [
            (vec![0], vec![1]),
            (vec![1, 5], vec![2, 3]),
            (vec![6], vec![4])
        ]
    );
    let why: BTreeMap<usize, String> = undecodable.into_iter().collect();
    assert_eq!(why.keys().copied().collect::<Vec<_>>(), [2, 3, 4, 7, 8]);
    for (row, text) in [
        (
            2,
            format!(
                "schema id {other}: what R wrote can't be read as R: x: the writer's string can't be read as int"
            ),
        ),
        (
            3,
            format!("schema id {same}: x: the message ends at byte 1"),
        ),
        (
            4,
            format!("schema id {perhaps}: x: the writer's null can't be read as int"),
        ),
        (7, "schema id 99: ".to_owned()),
        (8, "first byte is 0x7b".to_owned()),
    ] {
        assert!(why[&row].starts_with(&text), "{}", why[&row]);
    }

    // A schema that comes later than its first record is found, though not by asking for each of its records.
    let late = [framed(perhaps + 1, &[2, 4])];
    assert_eq!(decoders.decode(&late).unwrap().1.len(), 1);
    let id = register(r#"{"name":"x","type":"int"},{"name":"a_late_one","type":"int"}"#);
    assert_eq!(id, perhaps + 1);
    assert_eq!(decoders.decode(&late).unwrap().1.len(), 1);
    std::thread::sleep(Duration::from_millis(250));
    let (groups, undecodable) = decoders.decode(&late).unwrap();
    assert_eq!((groups.len(), undecodable), (1, Vec::new()));
}

#[test]
fn a_service_that_only_dies_fails_the_worker() {
    let (mut handler, records) = handler(&[Nature::Killer; 40], true);
    let error = handler.handle(&records, &|| true).unwrap_err().to_string();
    assert!(error.contains("times in a row"), "{error}");
}

#[test]
fn a_worker_that_stops_leaves_at_once() {
    let (mut handler, records) = handler(&[Nature::Flaky(2)], true);
    let began = Instant::now();
    assert_eq!(handler.handle(&records, &|| false).unwrap(), None);
    assert!(began.elapsed() < Duration::from_secs(1));
}
