//! Every error of decoder and framing, raised, and what it says.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, RecordBatch};
use kappaflow_avro::framing::{Frame, Guid, SchemaKey};
use kappaflow_avro::*;

fn field(ty: &str) -> String {
    format!(
        r#"{{"type": "record", "name": "ns.R", "fields": [{{"name": "f", "aliases": ["g"], "type": {ty}}}]}}"#
    )
}

fn avro(ty: &str) -> AvroSchema {
    AvroSchema::parse(&field(ty)).unwrap()
}

#[test]
fn messages() {
    let refused = |ty: &str, datum: &[u8]| {
        let mut decoder = Decoder::new(&avro(ty)).unwrap();
        let error = decoder.push(datum).unwrap_err();
        assert_eq!(decoder.len(), 0);
        assert_eq!(decoder.flush().unwrap().num_rows(), 0);
        error
    };
    assert!(
        matches!(refused("\"int\"", &[]), DecodeError::Truncated { path, at: 0 } if path == "f")
    );
    assert!(
        matches!(refused("\"string\"", &[0x80, 0x80, 0x80, 0x80, 0x10]), DecodeError::LengthTooLarge { length, .. } if length == 1 << 31)
    );
    assert!(matches!(
        refused("\"int\"", &[2, 2]),
        DecodeError::TrailingBytes { extra: 1 }
    ));
    let e = r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#;
    let time = r#"{"type": "int", "logicalType": "time-millis"}"#;
    let micros = r#"{"type": "long", "logicalType": "time-micros"}"#;
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 2}"#;
    for (ty, datum) in [
        ("\"boolean\"", &[2_u8][..]),
        ("\"int\"", &[0x80, 0x80, 0x80, 0x80, 0x10]),
        ("\"long\"", &[0xff; 11]),
        (
            "\"long\"",
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ),
        ("\"string\"", &[2, 0xff]),
        ("\"string\"", &[1]),
        ("[\"null\", \"int\"]", &[4, 2]),
        (e, &[2]),
        (e, &[1]),
        (time, &[1]),
        (micros, &[1]),
        (decimal, &[2, 100]),
        (decimal, &[0]),
    ] {
        let error = refused(ty, datum);
        assert!(
            matches!(error, DecodeError::Invalid { .. }),
            "{ty} {error:?}"
        );
    }
    // Counts that no message could hold: of values, of values without bytes, and the smallest long there is.
    let huge = &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0][..];
    let lowest = &[
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0,
    ][..];
    for items in ["int", "null", "string"] {
        for datum in [huge, lowest] {
            let error = refused(
                &format!(r#"{{"type": "array", "items": "{items}"}}"#),
                datum,
            );
            assert!(
                match error {
                    // Nothing in the message bounds the number of values without bytes.
                    DecodeError::TooManyElements { count, .. } =>
                        items == "null" && count > 1 << 60,
                    DecodeError::LengthTooLarge { .. } => items != "null",
                    _ => false,
                },
                "{error:?}"
            );
        }
    }
    assert!(matches!(
        refused(r#"{"type": "map", "values": "int"}"#, huge),
        DecodeError::LengthTooLarge { .. }
    ));
    // A block with its size in bytes, as other writers write it, is read.
    let mut decoder = Decoder::new(&avro(r#"{"type": "array", "items": "int"}"#)).unwrap();
    decoder.push(&[3, 4, 2, 4, 2, 6, 0]).unwrap();
    assert!(format!("{:?}", decoder.flush().unwrap().column(0)).contains('3'));

    let unsupported = |ty: &str| Decoder::new(&avro(ty)).unwrap_err();
    assert!(matches!(
        unsupported(r#"{"type": "fixed", "name": "F", "size": 0}"#),
        ResolutionError::Unsupported { path, .. } if path == "f"
    ));
}

#[test]
fn frames() {
    let mut message = Vec::new();
    framing::write(258, &mut message);
    message.push(9);
    assert_eq!(message, [0, 0, 0, 1, 2, 9]);
    assert_eq!(framing::split(&message), Ok((258, &[9][..])));
    for length in 0..5 {
        assert_eq!(
            framing::split(&message[..length]),
            Err(FrameError::TooShort { length })
        );
    }
    assert_eq!(
        framing::split(b"{"),
        Err(FrameError::BadMagic { byte: b'{' })
    );
    assert!(
        FrameError::BadMagic { byte: b'{' }
            .to_string()
            .contains("0x7b")
    );
}

#[test]
fn headers_with_a_guid() {
    let text = "01234567-89ab-cdef-0123-456789abcdef";
    let guid: Guid = text.parse().unwrap();
    assert_eq!(guid.to_string(), text);
    assert_eq!(text.to_uppercase().parse(), Ok(guid));
    let header = guid.header();
    assert_eq!(header[..4], [1, 0x01, 0x23, 0x45]);
    assert_eq!(framing::parse_header(&header), Ok(SchemaKey::Guid(guid)));
    assert_eq!(
        framing::parse_header(&framing::bytes(258)),
        Ok(SchemaKey::Id(258))
    );

    // With a header the message is bare, whatever it starts with; without one it has a prefix.
    let bare = [0, 0, 0, 1, 2, 9];
    assert_eq!(
        framing::read(Some(&header), &bare),
        Ok((SchemaKey::Guid(guid), &bare[..]))
    );
    assert_eq!(
        framing::read(None, &bare),
        Ok((SchemaKey::Id(258), &[9][..]))
    );
    assert_eq!(
        framing::read(None, b"{"),
        Err(FrameError::BadMagic { byte: b'{' })
    );
    assert_eq!(SchemaKey::Id(258).to_string(), "id 258");
    assert_eq!(SchemaKey::Guid(guid).to_string(), format!("GUID {text}"));

    for bad in [&[][..], &[0; 4], &[1; 16], &[1; 18], &[2; 17], &header[..5]] {
        let expected = FrameError::BadHeader {
            length: bad.len(),
            first: bad.first().copied(),
        };
        let text = expected.to_string();
        assert!(text.contains("__value_schema_id"), "{text}");
        assert_eq!(framing::read(Some(bad), &bare), Err(expected));
    }
    for bad in [
        "",
        "01234567-89ab-cdef-0123-456789abcde",
        "01234567-89ab-cdef-0123-456789abcdeg",
        "0123456789abc-def-0123-456789abcdef0",
        "01234567x89ab-cdef-0123-456789abcdef",
        "01234567-89ab-cdef-0123-456789abcdé",
    ] {
        let expected = FrameError::BadGuid {
            text: bad.to_owned(),
        };
        assert_eq!(bad.parse::<Guid>(), Err(expected));
    }
}

#[test]
fn frames_of_an_encoder() {
    assert_eq!(Frame::from(258), Frame::Id(258));
    assert_eq!(Frame::Id(258).prefix(), Some([0, 0, 0, 1, 2]));
    assert_eq!(Frame::Guid.prefix(), None);
    let avro = AvroSchema::parse(
        r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}"#,
    )
    .unwrap();
    let batch =
        RecordBatch::try_from_iter([("a", Arc::new(Int32Array::from(vec![5])) as ArrayRef)])
            .unwrap();
    let plan = CoercionPlan::new(batch.schema_ref(), &avro, &PlanOptions::default()).unwrap();
    for (frame, expected) in [
        (Frame::Id(258), &[0, 0, 0, 1, 2, 10][..]),
        (Frame::Guid, &[10]),
    ] {
        let encoded = Encoder::new(plan.clone(), frame).encode(&batch).unwrap();
        assert_eq!(encoded.buffer, expected);
    }
}
