//! What services over a network have in common in the job file.

use std::collections::BTreeMap;

use super::secret::is_reference;

/// Headers whose values are secrets.
const SECRET_HEADERS: [&str; 5] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key",
    "x-auth-token",
];

/// The key of the endpoint's table, and what is wrong with it.
type Wrong = (String, String);

/// An `http://` or `https://` URL without a user.
///
/// # Errors
/// What is wrong with it; no secret is shown.
pub fn check_url(url: &str, headers: &str) -> Result<(), Wrong> {
    let wrong = |reason: String| Err(("url".to_owned(), reason));
    let host = url.split_once("://").map_or("", |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return wrong(format!(
            "has a user name or a password; give {headers} authorization instead"
        ));
    }
    if !["http://", "https://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        return wrong(format!("{url:?}: expected http://HOST… or https://HOST…"));
    }
    Ok(())
}

/// The client's own certificate has two files.
///
/// # Errors
/// The one that is missing.
pub fn check_certificate(cert_file: Option<&str>, key_file: Option<&str>) -> Result<(), Wrong> {
    let missing = match (cert_file, key_file) {
        (Some(_), None) => "key_file",
        (None, Some(_)) => "cert_file",
        _ => return Ok(()),
    };
    let reason = "is missing: cert_file and key_file go together".to_owned();
    Err((missing.to_owned(), reason))
}

/// Headers that are secrets are references.
///
/// # Errors
/// The first that is none; never its value. `table`: what the endpoint calls its headers.
pub fn check_secrets(table: &str, headers: &BTreeMap<String, String>) -> Result<(), Wrong> {
    for (name, value) in headers {
        let secret = SECRET_HEADERS
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known));
        if secret && !is_reference(value) {
            let reason = format!(
                "is a secret: write env:NAME or file:PATH, with all of the {}'s value there",
                table.trim_end_matches('s')
            );
            return Err((format!("{table}.{name}"), reason));
        }
    }
    Ok(())
}
