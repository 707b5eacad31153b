use super::*;
use crate::registry::types::Reference;

const A: &str = r#"{"type":"record","name":"A","fields":[{"name":"x","type":"int"}]}"#;
const B: &str = r#"{"type":"record","name":"B","fields":[{"name":"x","type":"long"}]}"#;
/// `A`, written otherwise.
const A2: &str = r#"{"name": "A", "type": "record", "fields": [{"type": {"type": "int"}, "name": "x", "doc": "!"}]}"#;
/// `A` with another meaning of the same bytes.
const DATE: &str = r#"{"type":"record","name":"A","fields":[{"name":"x","type":{"type":"int","logicalType":"date"}}]}"#;

fn registry(dir: &tempfile::TempDir) -> DirectoryRegistry {
    DirectoryRegistry::new(dir.path().join("registry"))
}

fn text(schema: &str) -> SchemaText {
    SchemaText::whole(schema)
}

#[test]
fn a_schema_keeps_its_id_and_subjects_keep_versions() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(&dir);
    registry.set_level(None, Level::None).unwrap();
    let id =
        |subject: &str, schema: &str| registry.register(subject, &text(schema), false).unwrap().id;
    assert_eq!(registry.subjects().unwrap(), Vec::<String>::new());
    assert_eq!(
        [id("s", A), id("s", B), id("t", A), id("s", A)],
        [1, 2, 1, 1]
    );
    assert_eq!(registry.subjects().unwrap(), ["s", "t"]);
    assert_eq!(registry.versions("s").unwrap(), [1, 2]);
    let latest = registry.version("s", Which::Latest).unwrap();
    assert_eq!((latest.version, latest.id), (2, 2));
    assert_eq!(latest.text, text(B));
    assert_eq!(registry.version("s", Which::Number(1)).unwrap().id, 1);
    assert_eq!(registry.lookup("s", &text(A), false).unwrap().version, 1);
    let found = registry.by_id(1).unwrap();
    assert_eq!(found.schema, A);
    assert_eq!(registry.by_guid(found.guid.unwrap()).unwrap(), found);
}

#[test]
fn what_is_not_there_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(&dir);
    registry.register("s", &text(A), false).unwrap();
    let missing = [
        registry.by_id(9).unwrap_err(),
        registry.by_guid(Guid([0; 16])).unwrap_err(),
        registry.versions("nope").unwrap_err(),
        registry.version("nope", Which::Latest).unwrap_err(),
        registry.version("s", Which::Number(7)).unwrap_err(),
        registry.lookup("s", &text(B), false).unwrap_err(),
    ];
    for error in missing {
        assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    }
    for subject in ["../x", "", ".hidden", "a/b"] {
        let error = registry.register(subject, &text(A), false).unwrap_err();
        assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
    }
    let error = registry.register("s", &text("{"), false).unwrap_err();
    assert!(error.to_string().contains("not an Avro schema"), "{error}");
    fs::write(dir.path().join("registry/subjects/s/1.json"), "{").unwrap();
    let error = registry.versions("s").unwrap_err();
    assert!(matches!(error, RegistryError::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("1.json"), "{error}");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = DirectoryRegistry::new(file).register("s", &text(A), false);
    let error = error.unwrap_err();
    assert!(
        matches!(error, RegistryError::Unavailable { .. }),
        "{error}"
    );
}

#[test]
fn normalizing_joins_what_is_only_written_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(&dir);
    let id = |schema: &str, normalize: bool| {
        registry.register("s", &text(schema), normalize).unwrap().id
    };
    assert_eq!(id(A, true), 1);
    assert_eq!(id(A2, true), 1);
    assert_eq!(id(A2, false), 2);
    // The same bytes, read as another thing: another schema.
    assert_eq!(id(DATE, true), 3);
}

#[test]
fn an_incompatible_version_is_refused_with_its_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(&dir);
    let more = r#"{"type":"record","name":"A","fields":[{"name":"x","type":"int"},{"name":"y","type":"int"}]}"#;
    registry.register("s", &text(A), false).unwrap();
    assert_eq!(registry.level(Some("s")).unwrap(), Level::Backward);
    let error = registry.register("s", &text(more), false).unwrap_err();
    let RegistryError::Incompatible {
        subject, reasons, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(subject, "s");
    assert!(
        reasons[0].contains("version 1") && reasons[0].contains('y'),
        "{reasons:?}"
    );
    assert_eq!(registry.versions("s").unwrap(), [1]);
    let told = registry.compatibility("s", &text(more), None).unwrap();
    assert_eq!((told.compatible, &told.reasons), (false, reasons));

    registry.set_level(Some("s"), Level::Forward).unwrap();
    assert_eq!(registry.level(Some("s")).unwrap(), Level::Forward);
    assert_eq!(registry.level(None).unwrap(), Level::Backward);
    let told = registry.compatibility("s", &text(more), Some(Which::Latest));
    assert!(told.unwrap().compatible);
    registry.register("s", &text(more), false).unwrap();
    assert_eq!(registry.versions("s").unwrap(), [1, 2]);
}

#[test]
fn references_are_put_into_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(&dir);
    registry.register("a", &text(A), false).unwrap();
    let user = SchemaText {
        schema: r#"{"type":"record","name":"U","fields":[{"name":"a","type":"A"}]}"#.into(),
        references: vec![super::super::Reference {
            name: "A".into(),
            subject: "a".into(),
            version: 1,
        }],
    };
    let id = registry.register("u", &user, false).unwrap().id;
    let schema = kappaflow_avro::AvroSchema::parse(&registry.by_id(id).unwrap().schema).unwrap();
    assert_eq!(schema.full_name(), "U");
    let loose = SchemaText::whole(user.schema);
    assert!(registry.register("u", &loose, false).is_err());
}

#[test]
fn racing_registrations_agree() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry");
    DirectoryRegistry::new(path.clone())
        .set_level(None, Level::None)
        .unwrap();
    let ids: Vec<u32> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|i| {
                let registry = DirectoryRegistry::new(path.clone());
                scope.spawn(move || {
                    let schema = text(if i % 2 == 0 { A } else { B });
                    registry.register("s", &schema, false).unwrap().id
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let (even, odd): (Vec<_>, Vec<_>) = ids.chunks(2).map(|c| (c[0], c[1])).unzip();
    assert!(even.iter().all(|i| *i == even[0]) && odd.iter().all(|i| *i == odd[0]));
    assert_ne!(even[0], odd[0]);
}

#[test]
fn of_racing_versions_only_compatible_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry");
    // Any two of these are incompatible: whoever is first is the only one.
    let schemas: Vec<String> = (0..6)
        .map(|i| {
            format!(r#"{{"type":"record","name":"R","fields":[{{"name":"f{i}","type":"int"}}]}}"#)
        })
        .collect();
    let taken = std::thread::scope(|scope| {
        let threads: Vec<_> = schemas
            .iter()
            .map(|schema| {
                let registry = DirectoryRegistry::new(path.clone());
                scope.spawn(move || registry.register("s", &text(schema), false).is_ok())
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap())
            .filter(|ok| *ok)
            .count()
    });
    assert_eq!(taken, 1);
    assert_eq!(DirectoryRegistry::new(path).versions("s").unwrap(), [1]);
}

#[test]
fn a_subject_keeps_its_own_way_of_writing_a_schema() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(&dir);
    let id = |subject: &str, schema: &str| {
        let registered = registry.register(subject, &text(schema), true);
        registered.unwrap().id
    };
    let first = registry.register("t", &text(A), false).unwrap().id;
    let second = registry.register("s", &text(A2), false).unwrap().id;
    assert_ne!(first, second);
    assert_eq!((id("s", A), id("t", A2)), (second, first));
    assert_eq!(registry.lookup("s", &text(A), true).unwrap().id, second);
    assert_eq!(registry.versions("s").unwrap(), [1]);
}

#[test]
fn any_named_type_can_be_registered_and_referenced() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(&dir);
    let zip = r#"{"type":"fixed","name":"Zip","size":2}"#;
    let kind = r#"{"type":"enum","name":"Kind","namespace":"n","symbols":["A","B"]}"#;
    registry.register("zip", &text(zip), false).unwrap();
    registry.register("kind", &text(kind), false).unwrap();
    let reference = |name: &str, subject: &str| Reference {
        name: name.into(),
        subject: subject.into(),
        version: 1,
    };
    let place = SchemaText {
        schema: r#"{"type":"record","name":"Place","namespace":"n","fields":[
            {"name":"zip","type":"Zip"},{"name":"was","type":["null","Zip"]},{"name":"kind","type":"n.Kind"}]}"#
            .into(),
        references: vec![reference("Zip", "zip"), reference("n.Kind", "kind")],
    };
    let id = registry.register("place", &place, false).unwrap().id;
    let whole = registry.by_id(id).unwrap().schema;
    let schema = kappaflow_avro::AvroSchema::parse(&whole).unwrap();
    assert_eq!(schema.fields().len(), 3, "{whole}");
}
