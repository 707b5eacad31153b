//! `[service.grpc]`: a service that speaks the published proto.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoint::{check_certificate, check_secrets, check_url};

const MOST_RECORDS: u32 = 10_000;
const MOST_CONNECTIONS: u32 = 64;
/// As large as a message's length can be said, in MiB.
const MOST_MIB: u32 = 2_048;

/// A gRPC service (`kappaflow.service.v1.Records`, see `kappaflow proto`), called with several records at once and a
/// verdict for each.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpcEndpoint {
    /// `http://host:port`, or `https://host:port` for TLS.
    pub url: String,
    /// A Unix socket where the service listens; `url` then says only the name it is called by. Relative to the job file.
    pub unix_socket: Option<String>,
    /// What every call carries beside its records. A secret is a reference (`env:NAME`, `file:PATH`).
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Records that a call takes at most, up to 10000.
    #[serde(default = "default_records")]
    pub records: u32,
    /// KiB of records that a call takes at most; what is larger goes alone.
    #[serde(default = "default_kib")]
    pub kib: u32,
    /// How long a record that could go waits for others, in milliseconds.
    #[serde(default = "default_linger_ms")]
    pub linger_ms: u64,
    /// The largest message in MiB, of a call and of its answer. Servers take 4 where nobody says otherwise.
    #[serde(default = "default_max_message_mib")]
    pub max_message_mib: u32,
    /// Connections that the calls share, in turn.
    #[serde(default = "default_connections")]
    pub connections: u32,
    /// What `grpc.health.v1.Health` is asked for. Default: the server as a whole.
    #[serde(default)]
    pub health_service: String,
    /// How long a worker that begins waits until the service is ready, in milliseconds; then it fails.
    #[serde(default = "default_ready_ms")]
    pub ready_ms: u64,
    /// PEM certificate authorities that are trusted beside the system's. Relative to the job file, as the next two.
    pub ca_file: Option<String>,
    /// The client's own certificate (PEM), with `key_file`.
    pub cert_file: Option<String>,
    /// Its key, without a password.
    pub key_file: Option<String>,
}

fn default_records() -> u32 {
    100
}

fn default_kib() -> u32 {
    1024
}

fn default_linger_ms() -> u64 {
    5
}

fn default_max_message_mib() -> u32 {
    4
}

fn default_connections() -> u32 {
    1
}

fn default_ready_ms() -> u64 {
    120_000
}

impl GrpcEndpoint {
    /// The largest message, in bytes.
    pub fn max_message(&self) -> usize {
        (self.max_message_mib as usize) << 20
    }

    /// Looks at what can be seen before anything is called.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        check_url(&self.url, "metadata")?;
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let (host, path) = rest.split_once(['/', '?', '#']).unwrap_or((rest, ""));
        if host.is_empty() || !path.is_empty() {
            let reason = format!(
                "{:?}: expected http://HOST:PORT or https://HOST:PORT; the proto says the path",
                self.url
            );
            return Err(("url".into(), reason));
        }
        check_certificate(self.cert_file.as_deref(), self.key_file.as_deref())?;
        check_secrets("metadata", &self.metadata)?;
        for name in self.metadata.keys() {
            let is_name =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
            let own = ["grpc-", "x-kappaflow-"];
            let reason = if name.is_empty() || !name.bytes().all(is_name) {
                "is no name of metadata: use a-z, 0-9, '-', '_' and '.'"
            } else if own.iter().any(|start| name.starts_with(start)) || name == "idempotency-key" {
                "is said by the worker itself"
            } else if name.ends_with("-bin") {
                "would be bytes, and only text can be given here"
            } else {
                continue;
            };
            return Err((format!("metadata.{name}"), reason.into()));
        }
        for (key, value, most) in [
            ("records", self.records, MOST_RECORDS),
            ("max_message_mib", self.max_message_mib, MOST_MIB - 1),
            ("connections", self.connections, MOST_CONNECTIONS),
        ] {
            if !(1..=most).contains(&value) {
                return Err((key.into(), format!("is {value}, expected 1 to {most}")));
            }
        }
        if u64::from(self.kib) > u64::from(self.max_message_mib) << 10 {
            let reason = format!(
                "is {}, more than a message takes: max_message_mib is {}",
                self.kib, self.max_message_mib
            );
            return Err(("kib".into(), reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(more: &str) -> String {
        let endpoint: GrpcEndpoint = toml::from_str(more).unwrap();
        let (key, reason) = endpoint.check().unwrap_err();
        format!("{key} {reason}")
    }

    #[test]
    fn what_can_not_be_called_is_told_by_its_key() {
        for (more, told) in [
            ("url = \"grpc://x:1\"", "url \"grpc://x:1\": expected http"),
            ("url = \"http://x:1/v1\"", "the proto says the path"),
            ("url = \"http://me:hush@x\"", "give metadata authorization"),
            (
                "url = \"http://x\"\nrecords = 0",
                "records is 0, expected 1 to 10000",
            ),
            (
                "url = \"http://x\"\nkib = 5000",
                "kib is 5000, more than a message",
            ),
            (
                "url = \"http://x\"\nkey_file = \"k\"",
                "cert_file is missing",
            ),
            (
                "url = \"http://x\"\nmetadata = {authorization = \"hush\"}",
                "metadata.authorization is a secret",
            ),
            (
                "url = \"http://x\"\nmetadata = {grpc-timeout = \"1\"}",
                "metadata.grpc-timeout is said by the worker",
            ),
            (
                "url = \"http://x\"\nmetadata = {\"X Y\" = \"1\"}",
                "metadata.X Y is no name",
            ),
        ] {
            let found = wrong(more);
            assert!(found.contains(told) && !found.contains("hush"), "{found}");
        }
        let good: GrpcEndpoint = toml::from_str("url = \"https://x:1/\"").unwrap();
        assert_eq!(good.check(), Ok(()));
        assert_eq!(good.max_message(), 4 << 20);
    }
}
