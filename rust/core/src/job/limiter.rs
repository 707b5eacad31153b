//! `service.limiter`: how many calls a service gets at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::work::limiter::LimiterSettings;

/// Calls at once with which a limit begins that is found.
const START: u32 = 8;

/// How many calls a worker makes at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceLimiter {
    /// As many as are declared.
    #[default]
    Static,
    /// As many as make more answers, found by trying; at most the declared.
    Adaptive,
    /// As many as keep the processors busy for this share of the time (0 to 1), by whomever; at most the declared.
    CpuShare(f64),
}

impl ServiceLimiter {
    /// # Errors
    /// What is wrong with it.
    pub fn check(self) -> Result<(), String> {
        match self {
            Self::CpuShare(share) if !(share > 0.0 && share <= 1.0) => Err(format!(
                "{share}: expected a share above 0 and up to 1, as 0.5"
            )),
            _ => Ok(()),
        }
    }

    /// The limiter's settings where `most` calls at once are declared.
    pub fn settings(self, most: u32) -> LimiterSettings {
        let (min, max, start) = (1, most, START.min(most));
        match self {
            Self::Static => LimiterSettings::Static(most),
            Self::Adaptive => LimiterSettings::Adaptive { min, max, start },
            Self::CpuShare(target_share) => LimiterSettings::Cpu {
                target_share,
                min,
                max,
                start,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> ServiceLimiter {
        let table: toml::Table = toml::from_str(toml).unwrap();
        table["limiter"].clone().try_into().unwrap()
    }

    #[test]
    fn is_a_word_or_a_share() {
        assert_eq!(
            read("limiter = 'static'").settings(20),
            LimiterSettings::Static(20)
        );
        assert_eq!(
            read("limiter = 'adaptive'").settings(20),
            LimiterSettings::Adaptive {
                min: 1,
                max: 20,
                start: 8
            }
        );
        assert_eq!(
            read("limiter = { cpu_share = 0.5 }").settings(3),
            LimiterSettings::Cpu {
                target_share: 0.5,
                min: 1,
                max: 3,
                start: 3
            }
        );
        assert_eq!(ServiceLimiter::default(), ServiceLimiter::Static);
    }

    #[test]
    fn a_share_is_above_none_and_up_to_all() {
        for share in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY] {
            let reason = ServiceLimiter::CpuShare(share).check().unwrap_err();
            assert!(reason.contains("expected a share"), "{reason}");
        }
        for limiter in [
            ServiceLimiter::CpuShare(1.0),
            ServiceLimiter::Adaptive,
            ServiceLimiter::Static,
        ] {
            assert_eq!(limiter.check(), Ok(()));
        }
    }
}
