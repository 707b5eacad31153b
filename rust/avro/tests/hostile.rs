//! Bytes that no writer wrote: they are refused by name, take nothing with them, and no more memory than they may.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{Shape, record, schema, shape, write};
use kappaflow_avro::{AvroSchema, DecodeError, Decoder};
use proptest::collection::vec;
use proptest::prelude::*;

/// Counts what the thread holds, and the most that it held.
struct Counting;

thread_local! {
    static HELD: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn count(more: usize, less: usize) {
    // Not while the thread is being taken down.
    let _ = HELD.try_with(|held| {
        let now = (held.get().0 + more).saturating_sub(less);
        held.set((now, held.get().1.max(now)));
    });
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, layout.size());
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it moves, both are there.
        count(size, 0);
        let to = unsafe { System.realloc(at, layout, size) };
        count(0, layout.size());
        to
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that the thread takes beyond what it has, during the call.
fn peak<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.with(|held| {
        let now = held.get().0;
        held.set((now, now));
        now
    });
    let result = f();
    (
        result,
        HELD.with(|held| held.get().1).saturating_sub(before),
    )
}

/// What a message may take: vectors grow by doubling, and while one moves, both of it are there.
fn bound(message: usize, row: usize) -> usize {
    4 * ((16 << 20) + 65 * message + row) + (1 << 16)
}

fn field(ty: &str) -> AvroSchema {
    let json = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"f","type":{ty}}}]}}"#);
    AvroSchema::parse(&json).unwrap()
}

fn long(v: i64) -> Vec<u8> {
    let mut z = ((v << 1) ^ (v >> 63)) as u64;
    let mut out = Vec::new();
    while z >= 0x80 {
        out.push((z as u8) | 0x80);
        z >>= 7;
    }
    out.push(z as u8);
    out
}

/// Refused, in bounded memory.
fn refused(writer: &AvroSchema, reader: &AvroSchema, datum: &[u8]) -> DecodeError {
    let mut decoder = Decoder::with_reader(writer, reader).unwrap();
    let (error, peak) = peak(|| decoder.push(datum).unwrap_err());
    assert!(
        peak <= bound(datum.len(), 1 << 10),
        "{peak} for {} bytes: {error}",
        datum.len()
    );
    assert_eq!(decoder.flush().unwrap().num_rows(), 0);
    error
}

#[test]
fn no_count_is_believed() {
    let array = |items: &str| format!(r#"{{"type":"array","items":{items}}}"#);
    let empty = r#"{"type":"record","name":"E","fields":[]}"#;
    let nulls = r#"{"type":"record","name":"N","fields":[{"name":"a","type":"null"},{"name":"b","type":"null"}]}"#;
    let big = r#"["null",{"type":"fixed","name":"F","size":1048576}]"#;
    let symbol = "S".repeat(10_000);
    let e = format!(r#"{{"type":"enum","name":"S","symbols":["{symbol}"]}}"#);
    for items in [
        "\"null\"",
        empty,
        nulls,
        &array("\"null\""),
        big,
        &e,
        "\"string\"",
        "\"double\"",
    ] {
        let schema = field(&array(items));
        for count in [1 << 20, 1 << 31, 1 << 40, i64::MAX, i64::MIN] {
            let counted = [
                long(count),
                if count < 0 { long(2) } else { vec![] },
                vec![0; 2],
            ]
            .concat();
            let error = refused(&schema, &schema, &counted);
            let named = matches!(&error, DecodeError::LengthTooLarge { path, .. } | DecodeError::TooManyElements { path, .. } if path.starts_with('f'));
            assert!(named, "{items} {count}: {error:?}");
        }
    }
    // Elements that the message does hold, each of which would take far more than its one byte.
    for items in [big, &e] {
        let schema = field(&array(items));
        let datum = [long(1 << 20), vec![0; 1 << 20], vec![0]].concat();
        let error = refused(&schema, &schema, &datum);
        let text = error.to_string();
        assert!(
            text.starts_with("f: 1048576 elements at byte 4 would take"),
            "{text}"
        );
    }
    // Arrays of empty records in arrays: what is left of the allowance is shared by all.
    let schema = field(&array(&array(empty)));
    let inner = [long(60_000), vec![0]].concat();
    let datum = [long(200), inner.repeat(200), vec![0]].concat();
    assert!(matches!(
        refused(&schema, &schema, &datum),
        DecodeError::TooManyElements { .. }
    ));
    // The reader's default is no way around it.
    let with = |fields: &str| {
        field(&array(&format!(
            r#"{{"type":"record","name":"E","fields":[{fields}]}}"#
        )))
    };
    let text = "x".repeat(100_000);
    let reader = with(&format!(
        r#"{{"name":"d","type":"string","default":"{text}"}}"#
    ));
    let error = refused(&with(""), &reader, &[long(60_000), vec![0]].concat());
    assert!(
        matches!(error, DecodeError::TooManyElements { count: 60_000, .. }),
        "{error:?}"
    );
    // What is skipped takes nothing at all.
    let skip = |items: &str| {
        AvroSchema::parse(&format!(
        r#"{{"type":"record","name":"R","fields":[{{"name":"g","type":{}}},{{"name":"f","type":"int"}}]}}"#, array(items)
    )).unwrap()
    };
    let reader = field("\"int\"");
    for items in ["\"null\"", empty] {
        let mut decoder = Decoder::with_reader(&skip(items), &reader).unwrap();
        let datum = [long(i64::MAX), vec![0, 2]].concat();
        let ((), peak) = peak(|| decoder.push(&datum).unwrap());
        assert!(peak < 4_096, "{peak}");
    }
    assert!(
        matches!(refused(&skip("\"int\""), &reader, &[long(1 << 40), vec![0]].concat()), DecodeError::LengthTooLarge { path, .. } if path == "g")
    );
    assert!(
        matches!(refused(&skip("\"int\""), &reader, &[long(-1), long(1 << 40)].concat()), DecodeError::LengthTooLarge { path, .. } if path == "g")
    );
}

#[test]
fn blocks_end_where_the_writer_says() {
    let schema = field(r#"{"type":"array","items":"int"}"#);
    let mut decoder = Decoder::new(&schema).unwrap();
    decoder.push(&[3, 4, 2, 4, 0]).unwrap();
    for wrong in [2, 6] {
        let error = decoder.push(&[3, wrong, 2, 4, 0]).unwrap_err().to_string();
        assert!(
            error.starts_with("f: the writer says that the block ends at byte"),
            "{error}"
        );
    }
    assert_eq!(decoder.len(), 1);
}

#[test]
fn what_a_decoder_holds_is_known() {
    let big = field(r#"["null",{"type":"fixed","name":"F","size":1048576}]"#);
    let mut decoder = Decoder::new(&big).unwrap();
    for _ in 0..10 {
        decoder.push(&[0]).unwrap();
    }
    // Ten bytes of messages, ten megabytes of nulls.
    assert!(decoder.held_bytes() >= 10 << 20);
    decoder.flush().unwrap();
    assert_eq!(decoder.held_bytes(), 0);
    let array = field(r#"{"type":"array","items":"double"}"#);
    let mut decoder = Decoder::new(&array).unwrap();
    decoder
        .push(&[long(1_000), vec![0; 8_000], vec![0]].concat())
        .unwrap();
    let held = decoder.held_bytes();
    let batch = decoder.flush().unwrap();
    assert!(held >= batch.get_array_memory_size() / 2, "{held}");
}

fn table() -> impl Strategy<Value = (Vec<Shape>, Vec<apache_avro::types::Value>)> {
    vec(shape(), 0..5).prop_flat_map(|fields| {
        let rows = vec(record(&fields), 1..12);
        (Just(fields), rows)
    })
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    /// A count or a length that nothing stands behind.
    Insert(prop::sample::Index, Vec<u8>),
    Noise(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (index(), 1..=255_u8).prop_map(|(at, by)| Damage::Flip(at, by)),
        index().prop_map(Damage::Cut),
        (index(), any::<i64>(), 0..63_u32)
            .prop_map(|(at, v, by)| Damage::Insert(at, long(v >> by))),
        vec(any::<u8>(), 0..300).prop_map(Damage::Noise),
    ]
}

fn damaged(datum: &[u8], damage: &Damage) -> Vec<u8> {
    let mut out = datum.to_vec();
    match damage {
        Damage::Flip(at, by) if !out.is_empty() => {
            let at = at.index(out.len());
            out[at] ^= by;
        }
        Damage::Flip(..) => {}
        Damage::Cut(at) => out.truncate(at.index(out.len() + 1)),
        Damage::Insert(at, bytes) => {
            let at = at.index(out.len() + 1);
            out.splice(at..at, bytes.iter().copied());
        }
        Damage::Noise(bytes) => out.clone_from(bytes),
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Good and bad messages in one stream, one by one and many at once: the good ones are the rows, whatever is among
    /// them; and no message takes more than its length allows.
    #[test]
    fn a_bad_message_takes_nothing_with_it(
        (fields, rows) in table(),
        damages in vec((any::<prop::sample::Index>(), damage()), 0..40),
    ) {
        let json = schema(&fields);
        let oracle = apache_avro::Schema::parse_str(&json).unwrap();
        let avro = AvroSchema::parse(&json).unwrap();
        let good: Vec<Vec<u8>> = rows.iter().map(|row| write(&oracle, row)).collect();
        let mut all = good.clone();
        for (at, damage) in &damages {
            let bad = damaged(&good[at.index(good.len())], damage);
            all.insert(at.index(all.len() + 1), bad);
        }
        let (mut alone, mut kept, mut wrong) = (Decoder::new(&avro).unwrap(), Vec::new(), Vec::new());
        for (i, datum) in all.iter().enumerate() {
            let (result, peak) = peak(|| alone.push(datum));
            prop_assert!(peak <= bound(datum.len(), 1 << 16), "{peak} for {} bytes", datum.len());
            match result {
                Ok(()) => kept.push(datum.as_slice()),
                Err(error) => wrong.push((i, error)),
            }
        }
        let mut together = Decoder::new(&avro).unwrap();
        prop_assert_eq!(together.push_all(all.iter().map(Vec::as_slice)), wrong);
        // What was taken is as if nothing else had ever come.
        let mut clean = Decoder::new(&avro).unwrap();
        for datum in &kept {
            clean.push(datum).unwrap();
        }
        prop_assert_eq!(together.held_bytes(), clean.held_bytes());
        let clean = format!("{:?}", clean.flush().unwrap());
        prop_assert_eq!(format!("{:?}", together.flush().unwrap()), clean.clone());
        prop_assert_eq!(format!("{:?}", alone.flush().unwrap()), clean);
    }
}

/// Bytes that are text only together with those of the value before, among many messages.
#[test]
fn a_character_in_two_values_is_no_text() {
    let json = r#"{"type":"record","name":"R","fields":[
        {"name":"a","type":"string"},{"name":"b","type":{"type":"array","items":["null","string"]}}]}"#;
    let text = |bytes: &[u8]| [&[2 * bytes.len() as u8], bytes].concat();
    let message = |a: &[u8], b: [&[u8]; 2]| {
        let (first, second) = (text(b[0]), text(b[1]));
        [&text(a)[..], &[4, 2], &first, &[2], &second, &[0]].concat()
    };
    let mut messages: Vec<_> = (0..300)
        .map(|_| message("é".as_bytes(), [b"x", "…".as_bytes()]))
        .collect();
    messages[140] = message(b"\xc3", [b"x", b"y"]);
    messages[141] = message(b"\xa9", [b"x", b"y"]);
    messages[200] = message(b"z", [b"\xc3", b"\xa9"]);
    let mut decoder = Decoder::new(&AvroSchema::parse(json).unwrap()).unwrap();
    let refused = decoder.push_all(messages.iter().map(Vec::as_slice));
    let at: Vec<_> = refused
        .iter()
        .map(|(i, e)| (*i, matches!(e, DecodeError::Invalid { .. })))
        .collect();
    assert_eq!(at, [(140, true), (141, true), (200, true)]);
    assert_eq!(decoder.flush().unwrap().num_rows(), 297);
}

/// More elements in a message than are read side by side, in two blocks, beside messages that have few or none.
#[test]
fn many_elements_are_the_same_one_by_one() {
    let json = r#"{"type":"record","name":"R","fields":[
        {"name":"a","type":{"type":"array","items":{"type":"record","name":"E","fields":[
            {"name":"n","type":"long"},{"name":"t","type":["string","null"]}]}}},
        {"name":"m","type":["null",{"type":"map","values":"int"}]}]}"#;
    let mut messages = Vec::new();
    for count in [0_usize, 1, 700, 3, 1300, 0, 2] {
        let mut message = Vec::new();
        for _ in 0..if count == 0 { 0 } else { 2 } {
            message.extend(long(count as i64));
            for i in 0..count {
                message.extend(long(i as i64 * 1_000_003));
                message.extend(match i % 3 {
                    0 => vec![2],
                    1 => vec![0, 6, b'a', b'b', b'c'],
                    _ => [&[0, 80][..], &[b'd'; 40]].concat(),
                });
            }
        }
        message.push(0);
        if count % 2 == 0 {
            message.push(0);
        } else {
            message.extend([2, 2, 2, b'k', 10, 0]);
        }
        messages.push(message);
    }
    let avro = AvroSchema::parse(json).unwrap();
    let (mut one, mut many) = (Decoder::new(&avro).unwrap(), Decoder::new(&avro).unwrap());
    for message in &messages {
        one.push(message).unwrap();
    }
    assert_eq!(many.push_all(messages.iter().map(Vec::as_slice)), []);
    assert_eq!(one.held_bytes(), many.held_bytes());
    assert_eq!(one.flush().unwrap(), many.flush().unwrap());
}
