//! Secrets are references, resolved where they are used: never in the file, the store or a log.

use std::collections::BTreeMap;
use std::path::Path;

/// Options whose value is a secret, so that a literal in the job file is refused.
const SECRET_OPTIONS: [&str; 7] = [
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "sasl.jaas.config",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
];

pub fn is_reference(value: &str) -> bool {
    value.starts_with("env:") || value.starts_with("file:")
}

pub fn is_secret_option(option: &str) -> bool {
    SECRET_OPTIONS.contains(&option)
}

/// Words in the names of options of other libraries whose values are secrets.
const SECRET_WORDS: [&str; 8] = [
    "secret",
    "password",
    "passphrase",
    "token",
    "credential",
    "account_key",
    "access_key",
    "sas",
];

/// Names that have such a word and hold no secret: an id, a file, a URL.
const NO_SECRETS: [&str; 7] = [
    "access_key_id",
    "credentials_path",
    "credential_path",
    "application_credentials",
    "token_file",
    "uri",
    "url",
];

/// Whether an option of another library holds a secret, by its name.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase().replace(['-', '.'], "_");
    SECRET_WORDS.iter().any(|word| name.contains(word))
        && !NO_SECRETS.iter().any(|end| name.ends_with(end))
}

/// Checks that the secrets among options of another library are references.
///
/// # Errors
/// The option's name, and what is wrong; never a value.
pub fn check_named(options: &BTreeMap<String, String>) -> Result<(), (String, String)> {
    match options
        .iter()
        .find(|(name, value)| is_secret_name(name) && !is_reference(value))
    {
        Some((name, _)) => Err((
            name.clone(),
            "is a secret: give a reference, env:NAME or file:PATH, not the value".into(),
        )),
        None => Ok(()),
    }
}

/// Resolves `env:NAME` or `file:PATH` (relative to `base`); any other text is itself.
///
/// # Errors
/// Says which variable or file is missing, never a value.
pub fn resolve_reference(value: &str, base: &Path) -> Result<String, String> {
    if let Some(name) = value.strip_prefix("env:") {
        return std::env::var(name)
            .map_err(|_| format!("the environment variable {name} is not set"));
    }
    if let Some(path) = value.strip_prefix("file:") {
        let path = base.join(path);
        return std::fs::read_to_string(&path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|e| format!("can't read the secret file {}: {e}", path.display()));
    }
    Ok(value.to_owned())
}
