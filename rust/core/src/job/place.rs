//! A path or a URL in a job file, and the options of the store that it is in.

use std::collections::BTreeMap;

use super::secret;
use crate::snapshot::Address;

/// # Errors
/// A key (`path`, or one of `options`), and what is wrong with it; never a value that may be a secret.
pub fn check(path: &str, options: &BTreeMap<String, String>) -> Result<(), (String, String)> {
    check_options(options)?;
    let address = Address::parse(path).map_err(|reason| ("path".to_owned(), reason))?;
    for name in options.keys() {
        let wrong = |reason: String| Err((format!("options.{name:?}"), reason));
        match &address {
            None => return wrong("is for an object store, and the path is on disk".into()),
            Some(address) if !address.service.has_option(name) => {
                return wrong(format!(
                    "is no option of that store; it has: {}",
                    address.service.options()
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// # Errors
/// An option that is a secret in the clear.
pub fn check_options(options: &BTreeMap<String, String>) -> Result<(), (String, String)> {
    secret::check_named(options).map_err(|(key, reason)| (format!("options.{key:?}"), reason))
}
