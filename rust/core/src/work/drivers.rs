//! Drivers of a service: what is called and how, and the threads that do it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kappaflow_avro::AvroSchema;
use serde_json::json;
use tokio::sync::mpsc;

use super::desk::Desk;
use super::endpoint::{Calls, EndpointDriver};
use super::grpc::{self, GrpcService, Ready};
use super::http::{HttpService, Mapping, Told};
use super::native::NativeDriver;
use super::python::{PythonDriver, Spec};
use super::worker::{Mail, Worker};
use super::{WorkOptions, milliseconds, service_error};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::job::Service;
use crate::registry::SchemaRegistry;
use crate::session::Session;

/// What is called, and how.
#[derive(Clone)]
pub enum Kind {
    Python(Arc<Spec>),
    Http(Arc<Calls<HttpService>>),
    Grpc(Arc<grpc::Spec>),
    Native(NativeDriver),
}

impl Kind {
    /// Threads that drive it.
    pub fn drivers(&self, service: &Service) -> u32 {
        match self {
            Self::Python(_) => service.processes.max(1),
            Self::Http(_) | Self::Grpc(_) | Self::Native(_) => 1,
        }
    }
}

/// What a job's service is.
///
/// # Errors
/// The key of the job file that can't be used; [`Error::Service`] if there can be no client.
pub fn kind(
    session: &Session,
    options: &WorkOptions,
    answers: &Arc<arrow_schema::Schema>,
    worker: &Arc<Worker>,
) -> Result<Kind> {
    let (job, service) = (&session.job, &session.job.file.service);
    let deadline = milliseconds(service.deadline_ms);
    if let Some(endpoint) = &service.grpc {
        return Ok(Kind::Grpc(Arc::new(grpc::Spec {
            endpoint: endpoint.clone(),
            base: job.dir.clone(),
            as_of: service.as_of.clone(),
            deadline,
        })));
    }
    if let Some(name) = &service.native {
        let native = options.natives.get(name);
        return Ok(Kind::Native(NativeDriver {
            name: name.clone(),
            service: native
                .ok_or_else(|| job.error("service.native", options.natives.missing(name)))?,
            batch_records: service.batch_records.max(1),
            deadline,
            answers: Arc::clone(answers),
        }));
    }
    let Some(endpoint) = &service.http else {
        return Ok(Kind::Python(Arc::new(spec(session, options, answers)?)));
    };
    let told = Told {
        base: &job.dir,
        as_of: service.as_of.as_deref(),
    };
    let mapping = Mapping::new(endpoint, &session.ingress, &told)
        .map_err(|(key, reason)| job.error(format!("service.http.{key}"), reason))?;
    let service = HttpService::new(endpoint.clone(), mapping, &job.dir)?;
    let calls = Calls::new(service, Arc::clone(worker), deadline);
    Ok(Kind::Http(Arc::new(calls)))
}

fn spec(
    session: &Session,
    options: &WorkOptions,
    answers: &Arc<arrow_schema::Schema>,
) -> Result<Spec> {
    let (job, service) = (&session.job, &session.job.file.service);
    let logs = session.work_dir().join("logs");
    std::fs::create_dir_all(&logs).map_err(Error::io("make the directory", &logs))?;
    let python_path: Vec<_> = service
        .python_path
        .iter()
        .map(|p| job.resolve(p).to_string_lossy().into_owned())
        .collect();
    Ok(Spec {
        name: service.name().to_owned(),
        batch_records: service.batch_records.max(1) as usize,
        processes: service.processes.max(1),
        share: service.concurrency().div_ceil(service.processes.max(1)) as usize,
        python: options.python.clone(),
        package_dir: options.package_dir.clone(),
        dir: job.dir.clone(),
        log: logs.join(format!(
            "service-{}-{}.log",
            options.region,
            std::process::id()
        )),
        start: json!({
            "job": session.id.to_string(),
            "callable": service.callable,
            "warm_up": service.warm_up,
            "options": service.options,
            "python_path": python_path,
            "verdicts": service.verdicts,
            "deadline_ms": service.deadline_ms,
            "answer_schema": job.file.schema.egress,
            "as_of": service.as_of,
        }),
        answers: Arc::clone(answers),
        deadline: milliseconds(service.deadline_ms),
        start_timeout: milliseconds(options.start_timeout_ms),
    })
}

/// What a driver's thread begins with.
pub struct Setup {
    pub kind: Kind,
    pub registry: Arc<dyn SchemaRegistry>,
    pub ingress: AvroSchema,
    pub max_attempts: u32,
    pub concurrency: u32,
}

/// Fails the worker if its thread panics: nobody else would notice.
pub struct OrFail(pub Arc<Worker>);

impl Drop for OrFail {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = service_error("(worker)", "one of its threads panicked");
            self.0.mail.push(Mail::Failed(error));
        }
    }
}

/// A driver's thread: starts, says how many calls it may have under way, then works until the worker stops; how many
/// processes were replaced. It has a runtime of its own, so that nothing it waits for or computes holds up anything else.
pub fn drive(
    setup: Setup,
    number: u32,
    worker: &Arc<Worker>,
    ctx: &Context,
    ready: mpsc::UnboundedSender<Result<u32>>,
) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            let _ = ready.send(Err(service_error("(worker)", format!("no runtime: {e}"))));
            return 0;
        }
    };
    let worker = Arc::clone(worker);
    let _guard = OrFail(Arc::clone(&worker));
    let mut desk = Desk::new(
        Arc::clone(&worker),
        setup.registry,
        setup.ingress,
        setup.max_attempts,
    );
    let ended = runtime.block_on(async {
        match setup.kind {
            Kind::Python(spec) => {
                let starting = || worker.goes_on() && !ctx.cancel.is_cancelled();
                match PythonDriver::start(spec, number, &starting).await {
                    Ok(Some(driver)) => {
                        let _ = ready.send(Ok(driver.concurrency()));
                        driver.run(&mut desk).await
                    }
                    Ok(None) => {
                        let _ = ready.send(Err(Error::Interrupted { stage: "work" }));
                        Ok(0)
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        Ok(0)
                    }
                }
            }
            Kind::Http(calls) => {
                let _ = ready.send(Ok(setup.concurrency));
                let driver = EndpointDriver::new(calls);
                driver.run(&mut desk).await.map(|()| 0)
            }
            Kind::Native(driver) => {
                let _ = ready.send(Ok(setup.concurrency));
                driver.run(&mut desk).await.map(|()| 0)
            }
            Kind::Grpc(spec) => match start_grpc(&spec, &worker, ctx).await {
                Ok(calls) => {
                    let _ = ready.send(Ok(setup.concurrency));
                    let driver = EndpointDriver::new(Arc::new(calls));
                    driver.run(&mut desk).await.map(|()| 0)
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                    Ok(0)
                }
            },
        }
    });
    ended.unwrap_or_else(|error| {
        worker.mail.push(Mail::Failed(error));
        0
    })
}

/// What calls a gRPC service, once it is ready.
async fn start_grpc(
    spec: &Arc<grpc::Spec>,
    worker: &Arc<Worker>,
    ctx: &Context,
) -> Result<Calls<GrpcService>> {
    let starting = || worker.goes_on() && !ctx.cancel.is_cancelled();
    let service = GrpcService::new(Arc::clone(spec))?;
    match service.ready(&starting).await? {
        Ready::Serving => {}
        Ready::NoHealth => ctx.report(Progress {
            stage: "work",
            label: worker.state().summary.region.clone(),
            done: 0,
            total: None,
            note: "the service has no grpc.health.v1.Health: calls tell whether it is there".into(),
            figures: BTreeMap::new(),
        }),
        Ready::Interrupted => return Err(Error::Interrupted { stage: "work" }),
    }
    Ok(Calls::new(service, Arc::clone(worker), spec.deadline))
}
