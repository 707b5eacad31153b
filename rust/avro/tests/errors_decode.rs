//! Every error of decoder and framing, raised, and what it says.

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
                matches!(error, DecodeError::LengthTooLarge { .. }),
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
    assert!(
        matches!(unsupported("[\"int\", \"string\"]"), DecodeError::Unsupported { path, .. } if path == "f")
    );
    assert!(matches!(
        unsupported(r#"{"type": "fixed", "name": "F", "size": 2000000}"#),
        DecodeError::Unsupported { .. }
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
