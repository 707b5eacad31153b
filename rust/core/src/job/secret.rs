//! Secrets are references, resolved where they are used: never in the file, the store or a log.

use std::path::Path;

/// Options whose value is a secret, so that a literal in the job file is refused.
const SECRET_OPTIONS: [&str; 6] = [
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "sasl.jaas.config",
    "sasl.oauthbearer.client.secret",
];

pub fn is_reference(value: &str) -> bool {
    value.starts_with("env:") || value.starts_with("file:")
}

pub fn is_secret_option(option: &str) -> bool {
    SECRET_OPTIONS.contains(&option)
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
