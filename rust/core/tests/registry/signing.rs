//! Who asks: credentials in requests, tokens of an identity provider, and that none is ever shown.

use std::path::Path;
use std::sync::Arc;

use kappaflow_core::registry::{
    self, OAuthConfig, RegistryConfig, RegistryError, RegistryTable, SchemaRegistry,
};

use super::server::{Reply, Server, json};
use super::{asked, open, table};

const SECRET: &str = "s3cret-w0rd";

/// What a server sees of a client with these settings.
async fn seen(change: impl FnOnce(&mut RegistryTable, &str)) -> Option<String> {
    let server = Server::start(|_, _| json("[]"));
    let mut settings = table(&[&server.url]);
    change(&mut settings, &server.url);
    let registry = open(settings).unwrap();
    asked(&registry, |r| r.subjects()).await.unwrap();
    assert!(!registry.url().contains(SECRET));
    server.requests()[0].authorization.clone()
}

fn secret_file() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    let reference = format!("file:{}", path.display());
    (dir, reference)
}

#[tokio::test]
async fn credentials_are_references_and_reach_the_server() {
    // "me:s3cret-w0rd" in base64.
    const BASIC: &str = "Basic bWU6czNjcmV0LXcwcmQ=";
    let (_dir, reference) = secret_file();
    assert_eq!(seen(|_, _| {}).await, None);
    let password = Some(reference.clone());
    let basic = seen(move |t, _| {
        t.username = Some("me".into());
        t.password = password;
    });
    assert_eq!(basic.await.as_deref(), Some(BASIC));
    let bearer = seen(|t, _| t.token = Some(reference)).await;
    assert_eq!(bearer, Some(format!("Bearer {SECRET}")));
    let in_url =
        seen(|t, url| t.urls = vec![url.replace("http://", &format!("http://me:{SECRET}@"))]);
    // A reference may lead to such a URL; a job file that has one is refused.
    assert_eq!(in_url.await.as_deref(), Some(BASIC));
}

#[tokio::test]
async fn wrong_credentials_are_denied_and_never_shown() {
    let (_dir, reference) = secret_file();
    let server =
        Server::start(|_, _| Reply::Json(401, r#"{"error_code":401,"message":"no"}"#.into()));
    let mut settings = table(&[&server
        .url
        .replace("http://", &format!("http://me:{SECRET}@"))]);
    let error = asked(&open(settings.clone()).unwrap(), |r| r.subjects())
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::Denied { status: 401, .. }),
        "{error}"
    );
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
    assert_eq!(server.count(), 1);

    settings.token = Some(reference);
    let error = open(settings).err().unwrap();
    assert!(matches!(error, RegistryError::Settings { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
    let down = table(&[&format!("http://me:{SECRET}@127.0.0.1:1")]);
    let error = asked(&open(down).unwrap(), |r| r.subjects())
        .await
        .unwrap_err();
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
}

#[tokio::test]
async fn settings_that_lead_nowhere_are_told() {
    for (change, expected) in [
        (
            (|t| t.urls = vec!["http://".into()]) as fn(&mut RegistryTable),
            "is no URL",
        ),
        (|t| t.urls = vec!["env:KF_NOT_SET".into()], "KF_NOT_SET"),
        (
            |t| t.token = Some("file:/nowhere/token".into()),
            "/nowhere/token",
        ),
        (
            |t| t.ca_file = Some("/nowhere/ca.pem".into()),
            "ca_file /nowhere/ca.pem",
        ),
        (
            |t| t.ca_file = Some("/dev/null".into()),
            "no PEM certificate",
        ),
        (
            |t| {
                t.cert_file = Some("/dev/null".into());
                t.key_file = Some("/dev/null".into());
            },
            "without a password",
        ),
    ] {
        let mut settings = table(&["http://127.0.0.1:1"]);
        change(&mut settings);
        let error = open(settings).err().unwrap();
        assert!(matches!(error, RegistryError::Settings { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    let odd = registry::open(&RegistryConfig::Address("ftp://x".into()), Path::new("/"));
    assert!(odd.err().unwrap().to_string().contains("http://"));
}

/// An identity provider whose tokens are `t0`, `t1`, … and a registry that takes those that `takes` says.
fn with_tokens(
    life: u64,
    takes: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> (Server, Server, Arc<dyn SchemaRegistry>, tempfile::TempDir) {
    let provider = Server::start(move |n, request| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(
            request.authorization.as_deref(),
            Some("Basic aWQ6czNjcmV0LXcwcmQ=")
        );
        assert_eq!(request.body, "grant_type=client_credentials&scope=registry");
        json(&format!(
            r#"{{"access_token":"t{n}","token_type":"Bearer","expires_in":{life}}}"#
        ))
    });
    let server = Server::start(move |_, request| {
        let token = request.authorization.clone().unwrap_or_default();
        if takes(token.trim_start_matches("Bearer ")) {
            json("[]")
        } else {
            Reply::Json(401, r#"{"error_code":40101,"message":"token?"}"#.into())
        }
    });
    let (dir, reference) = secret_file();
    let mut settings = table(&[&server.url]);
    settings.oauth = Some(OAuthConfig {
        token_url: format!("{}/token", provider.url),
        client_id: "id".into(),
        client_secret: reference,
        scope: Some("registry".into()),
    });
    let registry = open(settings).unwrap();
    (provider, server, registry, dir)
}

#[tokio::test]
async fn one_token_serves_many_callers() {
    let (provider, server, registry, _dir) = with_tokens(3_600, |_| true);
    let calls = (0..8).map(|_| asked(&registry, |r| r.subjects()));
    for result in futures_util::future::join_all(calls).await {
        result.unwrap();
    }
    assert_eq!((provider.count(), server.count()), (1, 8));
    assert_eq!(
        server.requests()[7].authorization.as_deref(),
        Some("Bearer t0")
    );
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    // One without a life to speak of is never used twice.
    let (provider, _server, registry, _dir) = with_tokens(0, |_| true);
    for _ in 0..3 {
        asked(&registry, |r| r.subjects()).await.unwrap();
    }
    assert_eq!(provider.count(), 3);
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once() {
    let (provider, server, registry, _dir) = with_tokens(3_600, |token| token != "t0");
    asked(&registry, |r| r.subjects()).await.unwrap();
    assert_eq!((provider.count(), server.count()), (2, 2));

    let (provider, server, registry, _dir) = with_tokens(3_600, |_| false);
    let error = asked(&registry, |r| r.subjects()).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Denied { status: 401, .. }),
        "{error}"
    );
    assert_eq!((provider.count(), server.count()), (2, 2));
}

#[tokio::test]
async fn a_provider_that_refuses_or_fails_is_named() {
    for (answer, expected, asked_for) in [
        (
            (|| Reply::Json(400, r#"{"error":"invalid_client"}"#.into())) as fn() -> Reply,
            "identity provider refuses a token (400): invalid_client",
            1,
        ),
        (|| Reply::Html(200), "without a token", 1),
        (|| Reply::Html(503), "identity provider answers 503", 4),
        (|| Reply::Hang, "identity provider", 4),
    ] {
        let provider = Server::start(move |_, _| answer());
        let server = Server::start(|_, _| json("[]"));
        let (_dir, reference) = secret_file();
        let mut settings = table(&[&server.url]);
        settings.oauth = Some(OAuthConfig {
            token_url: provider.url.clone(),
            client_id: "id".into(),
            client_secret: reference,
            scope: None,
        });
        let error = asked(&open(settings).unwrap(), |r| r.subjects())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert_eq!(
            (provider.count(), server.count()),
            (asked_for, 0),
            "{error}"
        );
    }
}
