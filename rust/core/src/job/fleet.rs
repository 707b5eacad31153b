//! `service.fleet`: which fleet serves the job, in `service.mode = "fleet"`, and how it is served beside other jobs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::Service;

/// Between a fleet that has not been seen for so long and an error, in milliseconds.
const TIMEOUT_MS: u64 = 300_000;

/// The fleet that serves the job.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceFleet {
    /// The service that the fleet was started for (`kappaflow fleet run --service`). Default: the callable, or the scheme,
    /// host and port of the URL.
    pub name: Option<String>,
    /// What the job gets of the service's calls beside other jobs: with 2, twice as many as one with 1.
    pub weight: f64,
    /// How long a submitted job waits for a fleet that is not there, or has gone, before it fails.
    pub timeout_ms: u64,
}

impl Default for ServiceFleet {
    fn default() -> Self {
        Self {
            name: None,
            weight: 1.0,
            timeout_ms: TIMEOUT_MS,
        }
    }
}

impl ServiceFleet {
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if !(0.01..=100.0).contains(&self.weight) {
            let reason = format!("{}: expected a number from 0.01 to 100", self.weight);
            return Err(("weight", reason));
        }
        if self
            .name
            .as_ref()
            .is_some_and(|name| name.trim().is_empty())
        {
            return Err(("name", "is empty; leave it out for the default".into()));
        }
        Ok(())
    }
}

impl Service {
    /// The callable, or the scheme, host and port of the URL.
    pub fn address(&self) -> String {
        let name = self.name();
        match name.split_once("://") {
            None => name.to_owned(),
            Some((scheme, rest)) => {
                let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
                format!("{scheme}://{host}")
            }
        }
    }

    /// What the fleet that serves it was started for.
    pub fn fleet_name(&self) -> String {
        let name = self.fleet.name.clone();
        name.unwrap_or_else(|| self.address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_by_its_key() {
        let of = |toml: &str| toml::from_str::<ServiceFleet>(toml).unwrap().check();
        assert!(of("").is_ok() && of("name = \"prices\"\nweight = 0.5").is_ok());
        for (toml, key) in [
            ("weight = 0", "weight"),
            ("weight = nan", "weight"),
            ("name = \" \"", "name"),
        ] {
            assert_eq!(of(toml).unwrap_err().0, key);
        }
    }
}
