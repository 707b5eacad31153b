//! Every call against a real registry of the dev stack.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kappaflow_core::registry::{
    Level, Reference, RegistryError, SchemaRegistry, SchemaText, Which,
};

use super::{asked, one_int, open, record, table};

fn real() -> Option<Arc<dyn SchemaRegistry>> {
    let Ok(url) = std::env::var("KAPPAFLOW_TEST_REGISTRY") else {
        eprintln!("skipped: KAPPAFLOW_TEST_REGISTRY names no registry (scripts/test does)");
        return None;
    };
    Some(open(table(&[&url])).unwrap())
}

/// A subject that no other test and no earlier run has.
fn subject(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!(
        "{name}-{}-{}-{count}",
        now.unwrap().as_nanos(),
        std::process::id()
    )
}

#[tokio::test]
async fn a_schema_and_what_can_be_asked_of_it() {
    let Some(registry) = real() else { return };
    let s = subject("calls");
    let told = asked(&registry, move |r| {
        let text = one_int(&s.replace('-', "_"));
        let missing = r.version(&s, Which::Latest).unwrap_err();
        assert!(
            matches!(missing, RegistryError::NotFound { .. }),
            "{missing}"
        );
        let missing = r.lookup(&s, &text, false).unwrap_err();
        assert!(
            matches!(missing, RegistryError::NotFound { .. }),
            "{missing}"
        );

        let id = r.register(&s, &text, false).unwrap().id;
        assert_eq!(r.register(&s, &text, false).unwrap().id, id);
        let version = r.lookup(&s, &text, false).unwrap();
        assert_eq!(
            (version.id, version.version, version.subject.as_str()),
            (id, 1, s.as_str())
        );
        assert_eq!(r.version(&s, Which::Latest).unwrap().id, id);
        assert_eq!(r.version(&s, Which::Number(1)).unwrap().text, text);
        assert_eq!(r.versions(&s).unwrap(), [1]);
        assert!(r.subjects().unwrap().contains(&s));
        assert_eq!(r.by_id(id).unwrap().schema, text.schema);
        for error in [
            r.by_id(999_999_999).unwrap_err(),
            r.version(&s, Which::Number(9)).unwrap_err(),
            r.versions(&subject("nope")).unwrap_err(),
        ] {
            assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
        }
        r.register(&s, &SchemaText::whole("{"), false).unwrap_err()
    })
    .await;
    assert!(matches!(told, RegistryError::Refused { .. }), "{told}");
}

#[tokio::test]
async fn compatibility_is_enforced_and_explained() {
    let Some(registry) = real() else { return };
    let s = subject("rules");
    asked(&registry, move |r| {
        assert_eq!(r.level(None).unwrap(), Level::Backward);
        let name = s.replace('-', "_");
        r.register(&s, &one_int(&name), false).unwrap();
        let wrong = record(&name, r#"{"name":"x","type":"string"}"#);
        let error = r.register(&s, &wrong, false).unwrap_err();
        let RegistryError::Incompatible { reasons, .. } = &error else {
            panic!("{error}");
        };
        assert!(!reasons.is_empty());
        assert_eq!(r.versions(&s).unwrap(), [1]);
        for against in [None, Some(Which::Latest), Some(Which::Number(1))] {
            let told = r.compatibility(&s, &wrong, against).unwrap();
            assert!(!told.compatible);
            // Apicurio says no more than "no": the reasons are ours.
            assert!(told.reasons.iter().any(|r| r.contains('x')), "{told:?}");
        }
        let wider = record(&name, r#"{"name":"x","type":"long"}"#);
        assert!(r.compatibility(&s, &wider, None).unwrap().compatible);

        r.set_level(Some(&s), Level::Full).unwrap();
        assert_eq!(r.level(Some(&s)).unwrap(), Level::Full);
        let error = r.register(&s, &wider, false).unwrap_err();
        assert!(
            matches!(error, RegistryError::Incompatible { .. }),
            "{error}"
        );
        r.set_level(Some(&s), Level::None).unwrap();
        r.register(&s, &wrong, false).unwrap();
        assert_eq!(r.versions(&s).unwrap(), [1, 2]);
    })
    .await;
}

#[tokio::test]
async fn normalizing_finds_a_schema_that_is_written_otherwise() {
    let Some(registry) = real() else { return };
    let s = subject("normal");
    asked(&registry, move |r| {
        let name = s.replace('-', "_");
        let id = r.register(&s, &one_int(&name), true).unwrap().id;
        let other = SchemaText::whole(format!(
            r#"{{"namespace": "kf.test", "name": "{name}", "fields": [{{"type": {{"type": "int"}}, "name": "x"}}], "type": "record"}}"#
        ));
        assert_eq!(r.register(&s, &other, true).unwrap().id, id);
        assert_eq!(r.lookup(&s, &other, true).unwrap().version, 1);
        assert_eq!(r.versions(&s).unwrap(), [1]);
    })
    .await;
}

#[tokio::test]
async fn references_are_followed() {
    let Some(registry) = real() else { return };
    let (inner, outer) = (subject("inner"), subject("outer"));
    asked(&registry, move |r| {
        let name = inner.replace('-', "_");
        r.register(&inner, &one_int(&name), false).unwrap();
        let text = SchemaText {
            schema: record("Outer", &format!(r#"{{"name":"a","type":"kf.test.{name}"}},{{"name":"b","type":["null","{name}"]}}"#)).schema,
            references: vec![Reference {
                name: format!("kf.test.{name}"),
                subject: inner.clone(),
                version: 1,
            }],
        };
        let id = r.register(&outer, &text, false).unwrap().id;
        let version = r.version(&outer, Which::Latest).unwrap();
        assert_eq!(version.text.references, text.references);
        for whole in [r.by_id(id).unwrap().schema, r.whole(&version.text).unwrap()] {
            let schema = kappaflow_avro::AvroSchema::parse(&whole).unwrap();
            assert_eq!(schema.fields().len(), 2);
        }
    })
    .await;
}
