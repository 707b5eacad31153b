use super::*;

fn options(pairs: &[(&str, &str)]) -> Options {
    let own = |(option, value): &(&str, &str)| ((*option).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

/// A region that signs in by a provider, and what is changed of it; an empty value takes an option out.
fn oidc(changes: &[(&str, &str)]) -> Options {
    let mut options = options(&[
        (PROTOCOL, "sasl_ssl"),
        ("sasl.mechanism", "OAUTHBEARER"),
        (METHOD, "oidc"),
        (ENDPOINT, "https://idp.example/token?tenant=t"),
        ("sasl.oauthbearer.client.id", "me"),
        ("sasl.oauthbearer.client.secret", "env:KF_SECRET"),
        (SCOPE, "kafka"),
    ]);
    for (option, value) in changes {
        options.remove(*option);
        if !value.is_empty() {
            options.insert((*option).to_owned(), (*value).to_owned());
        }
    }
    options
}

const FILE: [(&str, &str); 4] = [
    (ENDPOINT, "file:///var/run/token"),
    ("sasl.oauthbearer.client.id", ""),
    ("sasl.oauthbearer.client.secret", ""),
    (SCOPE, ""),
];

#[test]
fn what_can_be_together_is_taken() {
    for given in [
        options(&[]),
        options(&[(PROTOCOL, "SASL_SSL"), ("sasl.mechanism", "PLAIN")]),
        options(&[(PROTOCOL, "SSL")]),
        oidc(&[]),
        oidc(&FILE),
        oidc(&[(METHOD, "env:METHOD"), (SCOPE, "")]),
        oidc(&[
            (ENDPOINT, "env:URL"),
            ("sasl.oauthbearer.client.secret", ""),
        ]),
        oidc(&[("sasl.mechanism", ""), ("sasl.mechanisms", "OAUTHBEARER")]),
        oidc(&[
            ("sasl.mechanism", "env:MECHANISM"),
            (PROTOCOL, "env:PROTOCOL"),
        ]),
        oidc(&[(EXTENSIONS, "logicalCluster=lkc-1, identityPoolId=pool=1")]),
        oidc(&[
            ("sasl.oauthbearer.client.id", ""),
            ("sasl.oauthbearer.client.credentials.client.id", "me"),
            (GRANT, "client_credentials"),
            (UNSECURED, "false"),
        ]),
        options(&[
            (PROTOCOL, "SASL_PLAINTEXT"),
            ("sasl.mechanism", "OAUTHBEARER"),
            (UNSECURED, "true"),
        ]),
    ] {
        assert_eq!(check(&given), Ok(()), "{given:?}");
    }
}

#[test]
fn what_is_missing_or_contradicts_is_refused_by_name() {
    for (changes, option, reason) in [
        (&[(METHOD, "oauth")][..], METHOD, "expected oidc or default"),
        (
            &[(METHOD, "default")],
            "sasl.oauthbearer.client.id",
            "of use only with",
        ),
        (
            &[(METHOD, "")],
            "sasl.oauthbearer.client.id",
            "of use only with",
        ),
        (
            &[("sasl.mechanism", "")],
            "sasl.mechanism",
            "expected OAUTHBEARER",
        ),
        (
            &[("sasl.mechanism", "PLAIN")],
            "sasl.mechanism",
            "goes with OAUTHBEARER",
        ),
        (&[(PROTOCOL, "")], PROTOCOL, "expected SASL_SSL"),
        (&[(PROTOCOL, "SSL")], PROTOCOL, "expected SASL_SSL"),
        (&[(ENDPOINT, "")], ENDPOINT, "is missing"),
        (&[(ENDPOINT, "ftp://idp")], ENDPOINT, "expected http://"),
        (&[(ENDPOINT, "file:token")], ENDPOINT, "the whole path"),
        (
            &[(ENDPOINT, "https://me:hush@idp/token")],
            ENDPOINT,
            "user name",
        ),
        (
            &[("sasl.oauthbearer.client.id", "")],
            "sasl.oauthbearer.client.id",
            "is missing",
        ),
        (
            &[("sasl.oauthbearer.client.secret", "")],
            "sasl.oauthbearer.client.secret",
            "is missing",
        ),
        (
            &[(ENDPOINT, "file:///t")],
            "sasl.oauthbearer.client.id",
            "a file that has the token",
        ),
        (
            &[(GRANT, "urn:ietf:params:oauth:grant-type:jwt-bearer")],
            GRANT,
            "client_credentials",
        ),
        (&[(UNSECURED, "true")], UNSECURED, "another way"),
        (
            &[("sasl.oauthbearer.assertion.file", "/a")],
            "sasl.oauthbearer.assertion.file",
            "another way",
        ),
        (&[(CA_FILE, "/a"), (CA_PEM, "pem")], CA_PEM, "choose one"),
        (&[(EXTENSIONS, "a")], EXTENSIONS, "expected key=value"),
        (&[(EXTENSIONS, "a1=b")], EXTENSIONS, "can't be a key"),
        (&[(EXTENSIONS, "auth=b")], EXTENSIONS, "can't be a key"),
        (&[(EXTENSIONS, "a=\u{1}")], EXTENSIONS, "can't be sent"),
    ] {
        let (found, told) = check(&oidc(changes)).unwrap_err();
        assert_eq!(found, option, "{changes:?}: {told}");
        assert!(told.contains(reason), "{reason}: {told}");
        assert!(!told.contains("hush"), "{told}");
    }
    let alone = options(&[(PROTOCOL, "SASL_SSL"), ("sasl.mechanism", "OAUTHBEARER")]);
    assert_eq!(check(&alone).unwrap_err().0, METHOD);
}

#[test]
fn kerberos_is_refused_where_the_build_lacks_it() {
    let named = options(&[(PROTOCOL, "sasl_ssl"), ("sasl.mechanism", "GSSAPI")]);
    let implied = options(&[(PROTOCOL, "SASL_PLAINTEXT")]);
    for given in [named, implied] {
        let refused = check(&given).err();
        assert_eq!(refused.is_none(), cfg!(feature = "gssapi"));
        if let Some((option, reason)) = refused {
            assert_eq!(option, "sasl.mechanism");
            assert!(reason.contains("its feature gssapi"), "{reason}");
        }
    }
    // Nobody signs in, or it can't be told yet.
    assert_eq!(check(&options(&[("sasl.mechanism", "GSSAPI")])), Ok(()));
    assert_eq!(check(&options(&[(PROTOCOL, "env:PROTOCOL")])), Ok(()));
}

#[test]
fn a_provider_is_told_without_its_query_and_never_with_a_secret() {
    let given = oidc(&[
        ("sasl.oauthbearer.client.secret", "hush"),
        (EXTENSIONS, "a=b,c=d=e"),
    ]);
    let found = Oidc::of(&given).unwrap().unwrap();
    assert_eq!(found.place, "https://idp.example/token");
    assert_eq!(found.client_id, "me");
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(found.extensions, [pair("a", "b"), pair("c", "d=e")]);
    assert!(!format!("{found:?}").contains("hush"));
    let file = Oidc::of(&oidc(&FILE)).unwrap().unwrap();
    assert_eq!(file.place, "/var/run/token");
    assert!(Oidc::of(&options(&[])).unwrap().is_none());
}

#[test]
fn certificates_of_the_provider_that_can_t_be_read_are_told() {
    for (option, value, reason) in [
        (CA_FILE, "/nowhere/ca.pem", "can't read /nowhere/ca.pem"),
        (CA_FILE, "/dev/null", "no PEM certificate"),
        (CA_PEM, "nothing", "no PEM certificate"),
    ] {
        let (found, told) = Oidc::of(&oidc(&[(option, value)])).unwrap_err();
        assert_eq!(found, option);
        assert!(told.contains(reason), "{told}");
    }
    let system = Oidc::of(&oidc(&[(CA_FILE, "probe")]));
    assert!(system.unwrap().is_some());
}

#[test]
fn a_url_of_a_file_is_no_reference_to_what_is_in_it() {
    let base = Path::new("/");
    let url = "file:///dev/null";
    assert_eq!(resolved(ENDPOINT, url, base).as_deref(), Ok(url));
    assert_eq!(resolved("sasl.password", url, base).as_deref(), Ok(""));
}
