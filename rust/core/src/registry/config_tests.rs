use super::*;

fn config(toml: &str) -> Result<RegistryConfig, toml::de::Error> {
    let table: toml::Table = toml::from_str(toml)?;
    table["registry"].clone().try_into()
}

fn problem(toml: &str) -> String {
    let (key, reason) = config(toml).unwrap().check().unwrap_err();
    format!("{key}: {reason}")
}

#[test]
fn an_address_or_a_table() {
    for address in [
        "dir:x",
        "http://a/b",
        "https://a, https://b",
        "conn:c",
        "env:E",
    ] {
        let read = config(&format!("registry = {address:?}")).unwrap();
        assert_eq!(read, RegistryConfig::Address(address.into()));
        assert_eq!(read.check(), Ok(()));
    }
    let text = r#"
        [registry]
        urls = ["https://a/apis/ccompat/v7"]
        username = "me"
        password = "env:P"
        timeout_ms = 5
        "#;
    let read = config(text).unwrap();
    assert_eq!(read.check(), Ok(()));
    let back: RegistryConfig =
        serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
    assert_eq!(back, read);
    let unknown = config("registry = {urls = [], pasword = \"x\"}").unwrap_err();
    assert!(unknown.to_string().contains("pasword"), "{unknown}");
}

#[test]
fn what_cannot_be_is_named() {
    for (text, expected) in [
        ("registry = 'ftp://x'", "expected dir:PATH"),
        ("registry = 'http://u:hush@x/y'", "has a password in it"),
        ("registry = 'http://u:hu/hush@x/y'", "has a password in it"),
        ("registry = 'http://u:hush?hush,hush@x/y'", "expected"),
        ("registry = {urls = []}", "urls: is empty"),
        ("registry = {urls = ['dir:x']}", "expected http://"),
        ("registry = {urls = ['http://x'], timeout_ms = 0}", "is 0"),
        (
            "registry = {urls = ['http://x'], username = 'u'}",
            "go together",
        ),
        (
            "registry = {urls = ['http://x'], cert_file = 'c'}",
            "go together",
        ),
        (
            "registry = {urls = ['http://x'], token = 'hush'}",
            "token: is a secret",
        ),
        (
            "registry = {urls = ['http://x'], username = 'u', password = 'hush'}",
            "password: is a secret",
        ),
        (
            "registry = {urls = ['http://x'], oauth = {token_url = 't', client_id = 'c', client_secret = 'hush'}}",
            "oauth.client_secret: is a secret",
        ),
        (
            "registry = {urls = ['http://x'], token = 'env:T', username = 'u', password = 'env:P'}",
            "choose one",
        ),
    ] {
        let told = problem(text);
        assert!(told.contains(expected), "{text}: {told}");
        assert!(!told.contains("hush"), "{told}");
    }
}

#[test]
fn user_info_is_never_shown() {
    for (url, shown) in [
        ("https://u:p@h:1/x", "https://h:1/x"),
        ("https://u@h", "https://h"),
        ("https://h/a", "https://h/a"),
        ("https://[::1]:8081/a", "https://[::1]:8081/a"),
        // What may be a password is none of a message's business.
        ("https://u:p/w@h/a", "https://h/a"),
        ("https://u:p#w@h", "https://h"),
        ("https://h/a@b", "https://b"),
        ("https://u:p@@h/", "https://h/"),
    ] {
        assert_eq!(shown_url(url), shown);
    }
    assert_eq!(
        shown_urls("http://u:p@a, http://u:q@b"),
        "http://a,http://b"
    );
    assert_eq!(shown_urls("http://u:p,w@a"), "http://…,a");
}

#[test]
fn references_are_followed_where_they_are_used() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("where"), "http://a, http://b\n").unwrap();
    let RegistryConfig::Table(table) = RegistryConfig::Address("file:where".into())
        .resolved(dir.path())
        .unwrap()
    else {
        panic!("URLs are a table");
    };
    assert_eq!(table.urls, ["http://a", "http://b"]);
    let missing = RegistryConfig::Address("conn:not-here".into())
        .resolved(dir.path())
        .unwrap_err();
    assert!(missing.contains("KAPPAFLOW_CONN_NOT_HERE"), "{missing}");
    let same = RegistryConfig::Address("dir:x".into());
    assert_eq!(same.resolved(dir.path()), Ok(same.clone()));
}
