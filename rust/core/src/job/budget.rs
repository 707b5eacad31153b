//! `service.budget`: what all workers together may ask of a service, so that what it calls itself is protected.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::windows::Windows;

/// What the workers of all jobs that share it may ask of a service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceBudget {
    /// Jobs that name the same, and have the same store, share it. Default: the callable, or the scheme, host and port of
    /// the URL.
    pub name: Option<String>,
    /// Calls a second, over all of them; where jobs say different numbers, the smallest. A call is a record that the
    /// service is given, each try anew. Absent: no limit.
    pub max_calls_per_s: Option<f64>,
    /// When the service may be called: days on which a window begins, hours, or both, as `mon-fri 20:00-06:00`,
    /// `sat-sun` or `22:00-24:00`. Empty: always.
    pub windows: Vec<String>,
    /// IANA time zone of the windows (default: UTC).
    pub time_zone: Option<String>,
}

impl ServiceBudget {
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn check(&self) -> Result<Windows, (&'static str, String)> {
        if let Some(rate) = self.max_calls_per_s
            && !(rate > 0.0 && rate.is_finite())
        {
            return Err((
                "max_calls_per_s",
                format!("{rate}: expected a number above 0; leave it out for no limit"),
            ));
        }
        let zone = self.time_zone.as_deref().unwrap_or("UTC");
        Windows::new(&self.windows, zone).map_err(|reason| {
            let of_zone = reason.starts_with("time zone");
            (if of_zone { "time_zone" } else { "windows" }, reason)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_by_its_key() {
        let of = |toml: &str| toml::from_str::<ServiceBudget>(toml).unwrap().check();
        for toml in [
            "",
            "max_calls_per_s = 0.5",
            "max_calls_per_s = 50\nwindows = [\"sat\"]",
        ] {
            assert!(of(toml).is_ok(), "{toml}");
        }
        for (toml, key) in [
            ("max_calls_per_s = 0", "max_calls_per_s"),
            ("max_calls_per_s = nan", "max_calls_per_s"),
            ("windows = [\"noon\"]", "windows"),
            ("time_zone = \"Here\"", "time_zone"),
        ] {
            assert_eq!(of(toml).unwrap_err().0, key);
        }
    }
}
