use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn jwt(claims: &str) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

fn in_seconds(seconds: f64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs_f64() + seconds
}

#[test]
fn a_token_lives_as_long_as_the_provider_or_it_itself_says() {
    let asked = Instant::now();
    let life = |text: &str, said: Option<u64>| {
        let token = Token::new(text, asked, said.map(Duration::from_secs)).unwrap();
        assert!(token.renew <= token.ends);
        (token.ends - asked).as_secs_f64()
    };
    let of_a_minute = jwt(&format!(r#"{{"sub":"me","exp":{}}}"#, in_seconds(60.0)));
    assert_eq!(life(&of_a_minute, Some(10)), 10.0);
    assert!((59.0..=60.0).contains(&life(&of_a_minute, None)));
    assert_eq!(life(&jwt(r#"{"exp":1}"#), None), 0.0);
    assert_eq!(life("opaque", Some(10)), 10.0);
    for without in ["opaque", "a.b.c", &jwt("[]"), &jwt(r#"{"exp":"soon"}"#)] {
        assert_eq!(life(without, None), DEFAULT_LIFE.as_secs_f64());
    }
    assert_eq!(life("opaque", Some(u64::MAX)), LONGEST_LIFE.as_secs_f64());
    assert_eq!(
        life(&jwt(r#"{"exp":1e300}"#), None),
        LONGEST_LIFE.as_secs_f64()
    );
    let subject = |text: &str| Token::new(text, asked, None).unwrap().subject;
    assert_eq!(subject(&of_a_minute).as_deref(), Some("me"));
    assert_eq!(subject("opaque"), None);
    for no_token in ["", "two words", "line\n", "é", "\u{1}"] {
        assert!(Token::new(no_token, asked, None).is_none());
    }
}

#[tokio::test]
async fn the_token_in_a_file_is_read_again_when_it_is_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let source = TokenSource::of_file(path.clone());
    let missing = source.token().await.err().unwrap();
    assert!(
        missing.to_string().starts_with("can't be read"),
        "{missing}"
    );
    std::fs::write(&path, "\n").unwrap();
    let empty = source.token().await.err().unwrap();
    assert_eq!(empty.to_string(), "holds no token");
    std::fs::write(&path, jwt(r#"{"exp":1}"#)).unwrap();
    let ended = source.token().await.err().unwrap();
    assert!(ended.to_string().contains("has ended"), "{ended}");

    let of_a_minute = jwt(&format!(r#"{{"exp":{}}}"#, in_seconds(60.0)));
    std::fs::write(&path, format!("{of_a_minute}\n")).unwrap();
    assert_eq!(source.token().await.unwrap().text, of_a_minute);
    std::fs::write(&path, "opaque").unwrap();
    assert_eq!(source.token().await.unwrap().text, of_a_minute);
    source.forget("another").await;
    assert_eq!(source.token().await.unwrap().text, of_a_minute);
    source.forget(&of_a_minute).await;
    assert_eq!(source.token().await.unwrap().text, "opaque");
}

/// A provider that answers request `n` (from 0) so: status line's end, and body.
fn provider(
    answer: impl Fn(usize) -> (&'static str, String) + Send + 'static,
) -> (Credentials, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"client_credentials") {
                let mut part = [0; 1024];
                let read = stream.read(&mut part).unwrap();
                request.extend_from_slice(&part[..read]);
            }
            let (status, body) = answer(seen.fetch_add(1, Ordering::SeqCst));
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    let credentials = Credentials {
        client: Client::new(),
        token_url: http::parse_url(&url).unwrap(),
        client_id: "me".into(),
        client_secret: "hu\"sh".into(),
        scope: None,
    };
    (credentials, count)
}

fn granted(n: usize, life: u64) -> String {
    format!(r#"{{"access_token":"t{n}","expires_in":{life}}}"#)
}

#[tokio::test]
async fn a_token_that_should_have_been_renewed_serves_while_the_provider_is_away() {
    // Its time to be renewed is there at once, and its end is not.
    let (credentials, count) = provider(|n| match n {
        0 | 3 => ("200 OK", granted(n, 1)),
        4 => ("400 Bad Request", r#"{"error":"invalid_client"}"#.into()),
        _ => ("503 Away", String::new()),
    });
    let source = TokenSource::of_credentials(credentials);
    let first = source.token().await.unwrap();
    assert_eq!(first.text, "t0");
    tokio::time::sleep_until(first.renew.into()).await;
    let away = source.renewed().await.err().unwrap();
    assert_eq!(away.to_string(), "answers 503 Service Unavailable");
    // Over only once it has ended, if the test is held up for so long.
    let again = source.token().await;
    assert!(again.is_ok_and(|t| t.text == "t0") || first.ended());
    tokio::time::sleep_until(first.ends.into()).await;
    assert_eq!(source.token().await.unwrap().text, "t3");
    // A refusal is no matter of time.
    source.forget("t3").await;
    let refused = source.token().await.err().unwrap();
    assert_eq!(refused.to_string(), "refuses a token (400): invalid_client");
    assert_eq!(count.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn what_is_told_of_a_refusal_holds_no_secret() {
    // A provider that says what it was told, as it came, in base64 and in JSON.
    for echoed in ["hu\"sh", "bWU6aHUic2g=", "hu\\\"sh"] {
        let (credentials, _) = provider(move |n| {
            let described = match n {
                0 => format!("<p>no {echoed} here</p>"),
                _ => format!(r#"{{"error":"no","error_description":"not {echoed}"}}"#),
            };
            ("401 Unauthorized", described)
        });
        let source = TokenSource::of_credentials(credentials);
        for _ in 0..2 {
            let error = source.token().await.err().unwrap();
            let told = format!("{error} {error:?}");
            assert!(
                matches!(error, TokenError::Refused { status: 401, .. }),
                "{told}"
            );
            assert!(!told.contains("sh") && !told.contains("bWU6"), "{told}");
        }
    }
}

#[tokio::test]
async fn what_is_no_provider_is_told() {
    let long = format!(
        r#"{{"error":"no","error_description":"{}"}}"#,
        "x".repeat(9_000)
    );
    for (status, body, expected) in [
        ("200 OK", "<html>".to_owned(), "answers without a token"),
        (
            "200 OK",
            r#"{"access_token":""}"#.into(),
            "answers without a token",
        ),
        ("302 Found", String::new(), "sends us elsewhere (302 Found)"),
        (
            "404 Not Found",
            "<h1>Nothing here".into(),
            "refuses a token (404): <h1>Nothing here",
        ),
        ("400 Bad Request", long, "refuses a token (400): no, xxx"),
    ] {
        let (credentials, _) = provider(move |_| (status, body.clone()));
        let source = TokenSource::of_credentials(credentials);
        let error = source.token().await.err().unwrap().to_string();
        assert!(error.starts_with(expected), "{expected}: {error}");
        assert!(error.chars().count() < 600, "{error}");
    }
    let (mut credentials, _) = provider(|_| ("200 OK", String::new()));
    credentials.token_url = http::parse_url("http://127.0.0.1:1/").unwrap();
    let error = TokenSource::of_credentials(credentials)
        .token()
        .await
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .starts_with("does not answer: no connection"),
        "{error}"
    );
}
