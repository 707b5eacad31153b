//! Object stores by URL: Amazon's S3 and what speaks like it, Google Cloud Storage, Azure, HDFS. Their options are
//! those of the `object_store` crate, checked by name; secrets among them are references.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hdfs_native_object_store::HdfsObjectStoreBuilder;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use crate::job::resolve_reference;

/// A kind of object store, told by a URL's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    S3,
    Google,
    Azure,
    Hdfs,
}

/// Options that are named where another is refused; `object_store` knows more.
const S3: &str = "access_key_id, secret_access_key, session_token, region, endpoint, allow_http, \
                  virtual_hosted_style_request, skip_signature, unsigned_payload, request_payer, \
                  web_identity_token_file, role_arn, imdsv1_fallback";
const GOOGLE: &str =
    "service_account, service_account_key, application_credentials, skip_signature, base_url";
const AZURE: &str = "account_name, account_key, sas_key, client_id, client_secret, tenant_id, authority_host, \
                     endpoint, use_emulator, bearer_token, federated_token_file, msi_endpoint, use_azure_cli, \
                     skip_signature";
const CLIENT: &str = "timeout, connect_timeout, proxy_url, allow_http, user_agent";

impl Service {
    /// The service of a scheme, as `s3` of `s3://bucket/key`.
    pub fn of_scheme(scheme: &str) -> Option<Self> {
        Some(match scheme {
            "s3" | "s3a" => Self::S3,
            "gs" => Self::Google,
            "az" | "azure" | "abfs" | "abfss" => Self::Azure,
            "hdfs" | "viewfs" => Self::Hdfs,
            _ => return None,
        })
    }

    /// Whether it has an option of this name.
    pub fn has_option(self, name: &str) -> bool {
        match self {
            Self::S3 => AmazonS3ConfigKey::from_str(name).is_ok(),
            Self::Google => GoogleConfigKey::from_str(name).is_ok(),
            Self::Azure => AzureConfigKey::from_str(name).is_ok(),
            // Its client takes any setting of Hadoop's.
            Self::Hdfs => name.starts_with("dfs.") || name.starts_with("fs."),
        }
    }

    /// The options that it has, in words.
    pub fn options(self) -> String {
        match self {
            Self::S3 => format!("{S3}; {CLIENT}"),
            Self::Google => format!("{GOOGLE}; {CLIENT}"),
            Self::Azure => format!("{AZURE}; {CLIENT}"),
            Self::Hdfs => "Hadoop's own, which begin with dfs. or fs.".into(),
        }
    }

    /// Opens the store that a URL without its path names. What `options` don't say is taken from the environment, as
    /// `object_store` does (`AWS_REGION`, …).
    ///
    /// # Errors
    /// What is wrong, never with a value of a secret.
    pub fn open(
        self,
        root: &str,
        options: &BTreeMap<String, String>,
        base: &Path,
    ) -> Result<Arc<dyn ObjectStore>, String> {
        let given = options
            .iter()
            .map(|(name, value)| Ok((name.as_str(), resolve_reference(value, base)?)))
            .collect::<Result<Vec<_>, String>>()?;
        let unknown = |name: &str| {
            format!(
                "options.{name:?} is no option of it; it has: {}",
                self.options()
            )
        };
        match self {
            Self::S3 => {
                let mut builder = AmazonS3Builder::from_env()
                    .with_url(root)
                    .with_retry(retries());
                for (name, value) in given {
                    let key = AmazonS3ConfigKey::from_str(name).map_err(|_| unknown(name))?;
                    builder = builder.with_config(key, value);
                }
                built(builder.build())
            }
            Self::Google => {
                let builder = GoogleCloudStorageBuilder::from_env();
                let mut builder = builder.with_url(root).with_retry(retries());
                for (name, value) in given {
                    let key = GoogleConfigKey::from_str(name).map_err(|_| unknown(name))?;
                    builder = builder.with_config(key, value);
                }
                built(builder.build())
            }
            Self::Azure => {
                let builder = MicrosoftAzureBuilder::from_env();
                let mut builder = builder.with_url(root).with_retry(retries());
                for (name, value) in given {
                    let key = AzureConfigKey::from_str(name).map_err(|_| unknown(name))?;
                    builder = builder.with_config(key, value);
                }
                built(builder.build())
            }
            Self::Hdfs => {
                let mut builder = HdfsObjectStoreBuilder::new().with_url(root);
                let mut settings = Vec::new();
                for (name, value) in given {
                    if !self.has_option(name) {
                        return Err(unknown(name));
                    }
                    settings.push((name.to_owned(), value));
                }
                builder = builder.with_config(settings);
                built(builder.build())
            }
        }
    }
}

/// A throttled or failing request is tried again, ever later, for a minute in all.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(8),
            base: 3.0,
        },
        // The time decides: the first waits are short.
        max_retries: 100,
        retry_timeout: Duration::from_secs(60),
    }
}

fn built<S: ObjectStore>(store: object_store::Result<S>) -> Result<Arc<dyn ObjectStore>, String> {
    match store {
        Ok(store) => Ok(Arc::new(store)),
        Err(e) => Err(told(&e)),
    }
}

/// What a store says, without what follows a `?` in URLs: a shared access signature may be there.
pub fn told(error: &object_store::Error) -> String {
    let text = error.to_string();
    let mut out = String::with_capacity(text.len());
    let mut hidden = false;
    for c in text.chars() {
        match c {
            '?' => {
                hidden = true;
                out.push_str("?…");
            }
            _ if hidden && !c.is_whitespace() && !matches!(c, '"' | '\'' | ')' | '>' | ',') => {}
            _ => {
                hidden = false;
                out.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(url: &str, options: &[(&str, &str)]) -> Result<String, String> {
        let (scheme, _) = url.split_once("://").unwrap();
        let options = options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let service = Service::of_scheme(scheme).unwrap();
        let store = service.open(url, &options.collect(), Path::new("/"))?;
        Ok(store.to_string())
    }

    #[test]
    fn each_kind_of_store_opens_by_its_url_and_options() {
        for (url, options, word) in [
            (
                "s3://lake",
                &[("region", "eu-central-1"), ("skip_signature", "true")][..],
                "lake",
            ),
            (
                "s3a://lake",
                &[
                    ("aws_endpoint", "http://127.0.0.1:1"),
                    ("allow_http", "true"),
                ],
                "lake",
            ),
            (
                "gs://lake",
                &[("skip_signature", "true"), ("timeout", "5 seconds")],
                "lake",
            ),
            (
                "az://box",
                &[("account_name", "acc"), ("skip_signature", "true")],
                "box",
            ),
            (
                "abfss://box@acc.dfs.core.windows.net",
                &[("use_azure_cli", "true")],
                "box",
            ),
        ] {
            let shown = opened(url, options).unwrap_or_else(|e| panic!("{url}: {e}"));
            assert!(shown.contains(word), "{url}: {shown}");
        }
        assert!(Service::of_scheme("ftp").is_none());
    }

    #[tokio::test]
    async fn hdfs_opens_by_its_url() {
        assert!(
            opened(
                "hdfs://127.0.0.1:8020",
                &[("dfs.client.socket-timeout", "1000")]
            )
            .is_ok()
        );
    }

    #[test]
    fn an_option_that_a_store_lacks_is_refused_with_those_that_it_has() {
        for (url, has) in [
            ("s3://lake", "region"),
            ("gs://lake", "service_account"),
            ("az://box", "account_name"),
            ("hdfs://namenode:8020", "dfs."),
        ] {
            let error = opened(url, &[("regoin", "x")]).unwrap_err();
            assert!(error.contains("regoin") && error.contains(has), "{error}");
        }
        // What is named to people is known to the library.
        for (service, names) in [
            (Service::S3, S3),
            (Service::Google, GOOGLE),
            (Service::Azure, AZURE),
            (Service::S3, CLIENT),
            (Service::Google, CLIENT),
            (Service::Azure, CLIENT),
        ] {
            for name in names.split(", ") {
                assert!(service.has_option(name), "{service:?} {name}");
            }
        }
    }

    #[test]
    fn a_secret_is_resolved_where_it_is_used_and_never_shown() {
        let missing = opened(
            "s3://lake",
            &[("secret_access_key", "env:KAPPAFLOW_NOT_SET")],
        )
        .unwrap_err();
        assert!(missing.contains("KAPPAFLOW_NOT_SET"), "{missing}");
        let error = object_store::Error::Generic {
            store: "Azure",
            source: "GET https://a.blob/x?sig=hush&se=1 (status 403), tried twice".into(),
        };
        let text = told(&error);
        assert!(
            !text.contains("hush") && text.contains("https://a.blob/x?…"),
            "{text}"
        );
        assert!(text.ends_with("(status 403), tried twice"), "{text}");
    }
}
