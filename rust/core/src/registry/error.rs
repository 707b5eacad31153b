//! What can go wrong with a schema registry. `url` never shows a password: user info is taken out of it.

/// Why a registry did not do what was asked of it.
///
/// It can be cloned, since many callers may have waited for one answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The settings can't be used: a URL, a certificate, a reference to a secret that leads nowhere.
    #[error("schema registry {url}: {reason}")]
    Settings { url: String, reason: String },
    /// No answer that can be used, from any URL, however often it was asked. Trying later may help.
    #[error("schema registry {url} can't be reached: {reason} (asked {tries} times)")]
    Unavailable {
        url: String,
        tries: u32,
        reason: String,
    },
    /// It answered, and not as a schema registry does.
    #[error(
        "schema registry {url} did not answer as one: {reason}. The URL needs the path of its Confluent-compatible API, such as /apis/ccompat/v7 of Apicurio"
    )]
    NotARegistry { url: String, reason: String },
    /// Wrong or missing credentials, or too few rights.
    #[error(
        "schema registry {url} denied access ({status}): {reason}; check its username and password, token or oauth, and what they may do"
    )]
    Denied {
        url: String,
        status: u16,
        reason: String,
    },
    /// It has no such subject, version or schema.
    #[error("schema registry {url} has no {what}: {reason}")]
    NotFound {
        url: String,
        what: String,
        reason: String,
    },
    /// The schema breaks the subject's compatibility rule, so nothing was sent.
    #[error(
        "schema registry {url}: the schema is not compatible with subject {subject}: {reasons}. Change the schema so that it is, or the subject's compatibility level",
        reasons = reasons.join("; ")
    )]
    Incompatible {
        url: String,
        subject: String,
        reasons: Vec<String>,
    },
    /// It has what was asked for, which is of no use here: a schema of another kind, one whose references don't fit.
    #[error("schema registry {url}: {what} can't be used: {reason}")]
    Unusable {
        url: String,
        what: String,
        reason: String,
    },
    /// It understood, and refused: not a schema, a wrong level, a conflict.
    #[error("schema registry {url} refuses {what}: {reason}")]
    Refused {
        url: String,
        what: String,
        reason: String,
    },
}
