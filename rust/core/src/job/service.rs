//! `[service]`: what is called, looked at as a whole.

use super::load::Job;
use crate::error::Result;

/// What is called, and that it is one thing.
///
/// # Errors
/// [`Error::JobFile`](crate::Error::JobFile) names the key.
pub fn check(job: &Job) -> Result<()> {
    let spec = |key: &str, text: &str| match text.split_once(':') {
        Some((module, name)) if !module.is_empty() && !name.is_empty() => Ok(()),
        _ => Err(job.error(key, format!("{text:?}: expected module:name"))),
    };
    let service = &job.file.service;
    let given = [
        ("callable", service.callable.is_some()),
        ("http", service.http.is_some()),
        ("grpc", service.grpc.is_some()),
        ("native", service.native.is_some()),
    ];
    let given = given.into_iter().filter(|(_, given)| *given);
    let given: Vec<_> = given.map(|(key, _)| key).collect();
    match given[..] {
        [] => {
            let reason = "has neither callable nor http nor grpc nor native: give one of them";
            return Err(job.error("service", reason));
        }
        [first, second, ..] => {
            let reason = format!("has both {first} and {second}: give one of them");
            return Err(job.error("service", reason));
        }
        [_] => {}
    }
    if let Some(callable) = &service.callable {
        spec("service.callable", callable)?;
        if let Some(warm_up) = &service.warm_up {
            spec("service.warm_up", warm_up)?;
        }
        return service
            .verdicts
            .keys()
            .try_for_each(|class| spec(&format!("service.verdicts.{class:?}"), class));
    }
    let callables = [
        ("service.warm_up", service.warm_up.is_some()),
        ("service.options", !service.options.is_empty()),
        ("service.python_path", !service.python_path.is_empty()),
        ("service.verdicts", !service.verdicts.is_empty()),
    ];
    if let Some((key, _)) = callables.iter().find(|(_, given)| *given) {
        let how = match given[..] {
            ["http"] => "called by HTTP",
            ["grpc"] => "called by gRPC",
            _ => "in Rust",
        };
        return Err(job.error(
            *key,
            format!("is for service.callable; this service is {how}"),
        ));
    }
    let http = service.http.as_ref().map(|http| ("http", http.check()));
    let grpc = service.grpc.as_ref().map(|grpc| ("grpc", grpc.check()));
    http.into_iter()
        .chain(grpc)
        .try_for_each(|(table, checked)| {
            checked.map_err(|(key, reason)| job.error(format!("service.{table}.{key}"), reason))
        })
}
