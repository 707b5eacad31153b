//! What a registry, or what stands where one should be, may do wrong.

use std::time::Duration;

use kappaflow_avro::framing::Guid;
use kappaflow_core::registry::{Level, RegistryError, Which};

use super::server::{Reply, Request, Server, json};
use super::{asked, one_int, open, record, table};

const UNKNOWN_ID: &str = r#"{"error_code":40403,"message":"Schema not found"}"#;

fn schema_answer() -> Reply {
    let text = one_int("R").schema;
    json(&serde_json::json!({ "schema": text }).to_string())
}

/// The error of asking a server for schema 7, and how often it was asked.
async fn fails(
    answer: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
) -> (RegistryError, usize) {
    let server = Server::start(answer);
    let mut settings = table(&[&server.url]);
    settings.timeout_ms = 300;
    let registry = open(settings).unwrap();
    let error = asked(&registry, |r| r.by_id(7)).await.unwrap_err();
    assert!(error.to_string().contains(&server.url), "{error}");
    (error, server.count())
}

#[tokio::test]
async fn a_registry_that_is_down() {
    // A port that was free a moment ago.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/apis/ccompat/v7", taken.local_addr().unwrap());
    drop(taken);
    let registry = open(table(&[&url])).unwrap();
    let error = asked(&registry, |r| r.by_id(7)).await.unwrap_err();
    let RegistryError::Unavailable { tries, reason, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*tries, 4);
    assert!(reason.contains("no connection"), "{reason}");
    assert!(error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    type Answer = fn() -> Reply;
    let cases: [(Answer, &str); 6] = [
        (
            || Reply::Silence(Duration::from_secs(2)),
            "no answer in time",
        ),
        (|| Reply::Half, "broke off"),
        (|| Reply::Hang, "failed"),
        (
            || Reply::Json(500, r#"{"error_code":50001,"message":"no store"}"#.into()),
            "no store",
        ),
        (|| Reply::Html(503), "Sign in"),
        (|| Reply::Json(429, String::new()), "status 429"),
    ];
    for (answer, expected) in cases {
        let (error, count) = fails(move |_, _| answer()).await;
        assert_eq!(count, 4, "{error}");
        assert!(
            matches!(error, RegistryError::Unavailable { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(expected), "{expected}: {error}");

        // One bad answer costs a try and nothing else.
        let server = Server::start(move |n, _| if n == 0 { answer() } else { schema_answer() });
        let mut settings = table(&[&server.url]);
        settings.timeout_ms = 300;
        let registry = open(settings).unwrap();
        let found = asked(&registry, |r| r.by_id(7)).await.unwrap();
        assert_eq!(found.schema, one_int("R").schema);
        assert_eq!(server.count(), 2);
    }
}

#[tokio::test]
async fn a_busy_server_is_given_the_time_it_asks_for() {
    let server = Server::start(|n, _| match n {
        0 => Reply::With(429, "retry-after: 1\r\n", String::new()),
        _ => schema_answer(),
    });
    let registry = open(table(&[&server.url])).unwrap();
    let began = std::time::Instant::now();
    asked(&registry, |r| r.by_id(7)).await.unwrap();
    // At least: nothing is said of how long it took beyond that.
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn what_is_no_registry_is_called_that_at_once() {
    for (answer, expected) in [
        ((|| Reply::Html(200)) as fn() -> Reply, "Sign in"),
        (|| Reply::Html(404), "status 404 without an error code"),
        // So says Confluent's own of a path below which it has nothing.
        (
            || {
                Reply::Json(
                    404,
                    r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#.into(),
                )
            },
            "no such path",
        ),
        (
            || Reply::With(302, "location: http://u:hush@login/\r\n", String::new()),
            "http://login/",
        ),
        (|| json(r#"{"hello": "world"}"#), "missing field `schema`"),
        (|| json(r#"{"schema": "{\"type\":"#), "in its answer"),
    ] {
        let (error, count) = fails(move |_, _| answer()).await;
        assert_eq!(count, 1, "{error}");
        let told = error.to_string();
        assert!(
            matches!(error, RegistryError::NotARegistry { .. }),
            "{told}"
        );
        assert!(told.contains(expected) && !told.contains("hush"), "{told}");
        assert!(told.contains("/apis/ccompat/v7"), "{told}");
    }
}

#[tokio::test]
async fn what_the_registry_says_is_not_asked_twice() {
    let say = |status: u16, body: &'static str| fails(move |_, _| Reply::Json(status, body.into()));
    let (error, count) = say(404, UNKNOWN_ID).await;
    assert!(
        matches!(&error, RegistryError::NotFound { what, .. } if what.contains("id 7")),
        "{error}"
    );
    assert_eq!(count, 1);

    for status in [401, 403] {
        let (error, count) = say(status, r#"{"error_code":40101,"message":"who are you"}"#).await;
        assert!(
            matches!(error, RegistryError::Denied { status: s, .. } if s == status),
            "{error}"
        );
        assert!(error.to_string().contains("who are you"), "{error}");
        assert_eq!(count, 1);
    }

    let (error, count) = say(422, r#"{"error_code":42203,"message":"bad level"}"#).await;
    assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
    assert!(
        error.to_string().contains("bad level (error 42203)"),
        "{error}"
    );
    assert_eq!(count, 1);

    let (error, _) =
        fails(|_, _| json(r#"{"schemaType":"PROTOBUF","schema":"message A {}"}"#)).await;
    assert!(matches!(error, RegistryError::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("PROTOBUF"), "{error}");

    // As much of a message as can be read.
    let long = format!(
        r#"{{"error_code":42201,"message":"{}"}}"#,
        "x".repeat(1 << 20)
    );
    let (error, _) = fails(move |_, _| Reply::Json(422, long.clone())).await;
    assert!(error.to_string().len() < 10_000);
}

/// A registry that answers 409 with a message, and knows one version of the subject.
fn conflicting(message: &'static str) -> Server {
    Server::start(
        move |_, request| match (request.method.as_str(), request.target.as_str()) {
            ("POST", "/subjects/s/versions") => Reply::Json(
                409,
                serde_json::json!({"error_code": 409, "message": message}).to_string(),
            ),
            ("POST", "/compatibility/subjects/s/versions?verbose=true") => {
                json(r#"{"is_compatible":false}"#)
            }
            ("GET", "/config/s") => {
                Reply::Json(404, r#"{"error_code":40408,"message":"none"}"#.into())
            }
            ("GET", "/config") => json(r#"{"compatibilityLevel":"BACKWARD"}"#),
            ("GET", "/subjects/s/versions/latest") => json(
                &serde_json::json!({"subject":"s","version":3,"id":9,"schema":one_int("R").schema})
                    .to_string(),
            ),
            _ => Reply::Json(404, UNKNOWN_ID.into()),
        },
    )
}

#[tokio::test]
async fn an_incompatible_schema_says_why_and_is_sent_once() {
    let wrong = || record("R", r#"{"name":"x","type":"string"}"#);
    let registers = |server: &Server| {
        server
            .requests()
            .iter()
            .filter(|r| r.target == "/subjects/s/versions")
            .count()
    };

    let server = conflicting("x became a string");
    let registry = open(table(&[&server.url])).unwrap();
    let error = asked(&registry, move |r| r.register("s", &wrong(), false))
        .await
        .unwrap_err();
    let RegistryError::Incompatible {
        subject, reasons, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(
        (subject.as_str(), reasons.as_slice()),
        ("s", &["x became a string".to_owned()][..])
    );
    assert_eq!((registers(&server), server.count()), (1, 1));

    // One that gives no reason: ours.
    let server = conflicting("");
    let registry = open(table(&[&server.url])).unwrap();
    let error = asked(&registry, move |r| r.register("s", &wrong(), false))
        .await
        .unwrap_err();
    let told = error.to_string();
    assert!(
        matches!(error, RegistryError::Incompatible { .. }),
        "{told}"
    );
    assert!(
        told.contains("can't read what version 3 wrote") && told.contains('x'),
        "{told}"
    );
    assert_eq!(registers(&server), 1);

    let verdict = asked(&registry, move |r| r.compatibility("s", &wrong(), None))
        .await
        .unwrap();
    assert!(!verdict.compatible);
    assert!(verdict.reasons[0].contains("version 3"), "{verdict:?}");

    // One that gives no reason and lets nobody look for one: no is no.
    let server = Server::start(|_, request| match request.method.as_str() {
        "POST" => Reply::Json(409, r#"{"error_code":409,"message":""}"#.into()),
        _ => Reply::Json(403, r#"{"error_code":40301,"message":"not you"}"#.into()),
    });
    let registry = open(table(&[&server.url])).unwrap();
    let error = asked(&registry, move |r| r.register("s", &wrong(), false))
        .await
        .unwrap_err();
    let RegistryError::Incompatible { reasons, .. } = &error else {
        panic!("{error}");
    };
    assert!(reasons[0].contains("not why"), "{error}");
    assert_eq!(registers(&server), 1);
}

#[tokio::test]
async fn the_next_url_is_asked_when_one_fails() {
    for bad in [
        (|| Reply::Hang) as fn() -> Reply,
        || Reply::Html(200),
        || Reply::Html(502),
    ] {
        let down = Server::start(move |_, _| bad());
        let up = Server::start(|_, _| schema_answer());
        let base = format!("{}/some/path/", up.url);
        let registry = open(table(&[&down.url, &base])).unwrap();
        asked(&registry, |r| r.by_id(7)).await.unwrap();
        assert_eq!((down.count(), up.count()), (1, 1));
        assert_eq!(up.requests()[0].target, "/some/path/schemas/ids/7");
        // What answered is asked first from then on.
        asked(&registry, |r| r.by_id(8)).await.unwrap();
        assert_eq!((down.count(), up.count()), (1, 2));
    }
    // No is an answer too: the URL that gave it is asked first from then on.
    let down = Server::start(|_, _| Reply::Hang);
    let up = Server::start(|n, _| match n {
        0 => Reply::Json(404, UNKNOWN_ID.into()),
        1 => Reply::Json(401, r#"{"error_code":40101,"message":"who"}"#.into()),
        _ => schema_answer(),
    });
    let registry = open(table(&[&down.url, &up.url])).unwrap();
    asked(&registry, |r| r.by_id(7)).await.unwrap_err();
    asked(&registry, |r| r.by_id(7)).await.unwrap_err();
    asked(&registry, |r| r.by_id(7)).await.unwrap();
    assert_eq!((down.count(), up.count()), (1, 3));
    // A verdict is one, whoever gives it.
    let first = Server::start(|_, _| Reply::Json(404, UNKNOWN_ID.into()));
    let second = Server::start(|_, _| schema_answer());
    let registry = open(table(&[&first.url, &second.url])).unwrap();
    let error = asked(&registry, |r| r.by_id(7)).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    assert_eq!(second.count(), 0);
}

#[tokio::test]
async fn many_callers_make_one_request_and_an_id_stays() {
    let server = Server::start(|_, request| {
        std::thread::sleep(Duration::from_millis(100));
        match request.method.as_str() {
            "GET" => schema_answer(),
            _ => json(r#"{"id":5}"#),
        }
    });
    let registry = open(table(&[&server.url])).unwrap();
    let calls = (0..16).map(|i| {
        asked(&registry, move |r| match i % 2 {
            0 => r.by_id(7).map(|found| found.schema.len()),
            _ => r.register("s", &one_int("R"), true).map(|r| r.id as usize),
        })
    });
    for result in futures_util::future::join_all(calls).await {
        result.unwrap();
    }
    assert_eq!(server.count(), 2);
    for id in 100..400 {
        asked(&registry, move |r| r.by_id(id)).await.unwrap();
    }
    let before = server.count();
    for id in [7, 100, 399] {
        asked(&registry, move |r| r.by_id(id)).await.unwrap();
    }
    assert_eq!(server.count(), before);
}

#[tokio::test]
async fn many_callers_share_a_failure_which_does_not_stay() {
    let server = Server::start(|n, _| {
        std::thread::sleep(Duration::from_millis(100));
        match n {
            0 => Reply::Json(404, UNKNOWN_ID.into()),
            _ => schema_answer(),
        }
    });
    let registry = open(table(&[&server.url])).unwrap();
    let calls = (0..8).map(|_| asked(&registry, |r| r.by_id(7)));
    let failed = futures_util::future::join_all(calls).await;
    assert!(
        failed
            .iter()
            .all(|r| matches!(r, Err(RegistryError::NotFound { .. })))
    );
    assert_eq!(server.count(), 1);
    asked(&registry, |r| r.by_id(7)).await.unwrap();
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn guids_are_read_and_asked_for() {
    let guid = Guid([7; 16]);
    let body =
        serde_json::json!({"id": 5, "guid": guid.to_string(), "schema": one_int("R").schema})
            .to_string();
    let server = Server::start(move |_, _| json(&body));
    let registry = open(table(&[&server.url])).unwrap();
    let registered = asked(&registry, |r| r.register("s", &one_int("R"), false))
        .await
        .unwrap();
    assert_eq!((registered.id, registered.guid), (5, Some(guid)));
    let found = asked(&registry, move |r| r.by_guid(guid)).await.unwrap();
    assert_eq!(found.schema, one_int("R").schema);
    assert_eq!(
        server.requests()[1].target,
        format!("/schemas/guids/{guid}")
    );
}

#[tokio::test]
async fn parts_of_a_path_are_escaped() {
    let server = Server::start(|_, _| json("[1]"));
    let registry = open(table(&[&server.url])).unwrap();
    asked(&registry, |r| r.versions("a/b c?d")).await.unwrap();
    assert_eq!(
        server.requests()[0].target,
        "/subjects/a%2Fb%20c%3Fd/versions"
    );
}

#[tokio::test]
async fn an_unknown_level_is_refused_by_name() {
    let server = Server::start(|_, _| json(r#"{"compatibilityLevel":"SIDEWAYS"}"#));
    let registry = open(table(&[&server.url])).unwrap();
    let error = asked(&registry, |r| r.level(None)).await.unwrap_err();
    assert!(error.to_string().contains("SIDEWAYS"), "{error}");
    assert_eq!("FULL".parse(), Ok(Level::Full));
    assert_eq!(Which::Number(3).to_string(), "3");
}

#[test]
fn a_client_needs_a_runtime() {
    let error = open(table(&["http://127.0.0.1:1"])).err().unwrap();
    assert!(matches!(error, RegistryError::Settings { .. }), "{error}");
}
