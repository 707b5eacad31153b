//! How paths and URLs of a source are reached.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use object_store::ObjectStore;
use tokio::runtime::Handle;

use super::place::{Place, Remote};
use super::stores::Service;
use crate::error::{Error, Result};

/// How paths and URLs of a source are reached: what they are relative to, and the options of their store.
#[derive(Clone, Default)]
pub struct Reach {
    base: PathBuf,
    options: BTreeMap<String, String>,
    /// Where requests run; `None` outside of any runtime, where only files on disk can be read.
    runtime: Option<Handle>,
    /// By the URL without its path.
    stores: Arc<Mutex<HashMap<String, Arc<dyn ObjectStore>>>>,
}

/// Options may be secrets.
impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reach").field(&self.base).finish()
    }
}

/// A URL of an object store in its parts.
pub struct Address<'a> {
    pub service: Service,
    /// `s3://bucket`
    root: &'a str,
    /// Below the root.
    pub key: &'a str,
}

impl<'a> Address<'a> {
    /// `None` if it is a path on disk.
    ///
    /// # Errors
    /// A URL of another kind, or one with a password in it.
    pub fn parse(text: &'a str) -> Result<Option<Self>, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(None);
        };
        if scheme == "file" {
            return Ok(None);
        }
        let Some(service) = Service::of_scheme(scheme) else {
            return Err(format!(
                "{scheme}:// is no store that is known here; expected a path, file://, s3://, gs://, az://, abfss:// \
                 or hdfs://"
            ));
        };
        let authority = rest.split('/').next().unwrap_or(rest);
        if authority
            .rsplit_once('@')
            .is_some_and(|(user, _)| user.contains(':'))
        {
            return Err("a URL with a password is no place for it: give options".into());
        }
        let end = scheme.len() + 3 + authority.len();
        Ok(Some(Self {
            service,
            root: &text[..end],
            key: text[end..].trim_matches('/'),
        }))
    }
}

/// The path of a file on disk that is written as a URL.
pub(crate) fn without_scheme(text: &str) -> &str {
    text.strip_prefix("file://").unwrap_or(text)
}

impl Reach {
    /// Paths are relative to `base`; `options` are those of an object store. Requests run on the runtime of the caller.
    pub fn new(base: &Path, options: BTreeMap<String, String>) -> Self {
        Self {
            base: base.to_path_buf(),
            options,
            runtime: Handle::try_current().ok(),
            stores: Arc::default(),
        }
    }

    /// The same, with options that come before its own.
    pub fn with(&self, options: &BTreeMap<String, String>) -> Self {
        let mut all = self.options.clone();
        all.extend(options.clone());
        Self {
            options: all,
            stores: Arc::default(),
            ..self.clone()
        }
    }

    /// A path on disk, made absolute.
    pub(super) fn on_disk(&self, text: &str) -> PathBuf {
        self.base.join(without_scheme(text))
    }

    /// A path or URL as errors show it.
    pub(super) fn shown(&self, text: &str) -> PathBuf {
        match Address::parse(text) {
            Ok(None) => self.on_disk(text),
            _ => PathBuf::from(text),
        }
    }

    /// What is at a path or a URL.
    ///
    /// # Errors
    /// [`Error::Source`] if there can't be a store of such a URL.
    pub fn place(&self, text: &str) -> Result<Place> {
        let wrong = |reason: String| Error::Source {
            path: text.into(),
            reason,
        };
        let Some(address) = Address::parse(text).map_err(|reason| Error::Source {
            // It may have a password.
            path: text.split("://").next().unwrap_or_default().into(),
            reason,
        })?
        else {
            return Ok(Place::Local(self.on_disk(text)));
        };
        let runtime = self
            .runtime
            .clone()
            .ok_or_else(|| wrong("an object store is read from within a runtime only".into()))?;
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let store = match stores.get(address.root) {
            Some(store) => store.clone(),
            None => {
                let _entered = runtime.enter();
                let opened = address
                    .service
                    .open(address.root, &self.options, &self.base)
                    .map_err(wrong)?;
                stores.insert(address.root.to_owned(), opened.clone());
                opened
            }
        };
        let key = object_store::path::Path::parse(address.key)
            .map_err(|e| wrong(format!("is no path of an object: {e}")))?;
        Ok(Place::Remote(Remote {
            url: text.to_owned(),
            root: address.root.to_owned(),
            store,
            key,
            runtime,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_told_from_a_path() {
        for (text, root, key) in [
            ("s3://lake/a/b", "s3://lake", "a/b"),
            ("s3://lake", "s3://lake", ""),
            ("hdfs://namenode:8020/a/", "hdfs://namenode:8020", "a"),
            (
                "abfss://box@acc.dfs.core.windows.net/a",
                "abfss://box@acc.dfs.core.windows.net",
                "a",
            ),
        ] {
            let address = Address::parse(text).unwrap().unwrap();
            assert_eq!((address.root, address.key), (root, key), "{text}");
        }
        for path in ["data/a.parquet", "/data", "file:///data"] {
            assert!(Address::parse(path).unwrap().is_none(), "{path}");
        }
        for (text, word) in [
            ("ftp://host/a", "s3://"),
            ("s3://key:hush@lake/a", "give options"),
        ] {
            let error = Address::parse(text).err().unwrap();
            assert!(error.contains(word) && !error.contains("hush"), "{error}");
            let shown = Reach::default().place(text).err().unwrap().to_string();
            assert!(!shown.contains("hush"), "{shown}");
        }
    }

    #[test]
    fn a_store_is_reached_from_within_a_runtime_only() {
        let reach = Reach::new(Path::new("/job"), BTreeMap::new());
        let error = reach.place("s3://lake/a").err().unwrap().to_string();
        assert!(error.contains("runtime"), "{error}");
        let Ok(Place::Local(path)) = reach.place("file:///data/a.parquet") else {
            panic!("a file:// URL is on disk");
        };
        assert_eq!(path, Path::new("/data/a.parquet"));
        assert_eq!(reach.on_disk("data"), Path::new("/job/data"));
    }
}
