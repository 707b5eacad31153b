//! Setting a worker up: the service first, so that one that can't start takes nothing; then the producer, the group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use kappaflow_avro::{AvroSchema, CoercionPlan, Decoder, Encoder, PlanOptions};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::admission::Admission;
use super::consumer::{self, Loop};
use super::egress::{Egress, EgressTopics};
use super::handle::Handler;
use super::http::{HttpService, Mapping, Shared};
use super::partitions::Partitions;
use super::python::{PythonService, Spec};
use super::service::Service;
use super::worker::{Mail, Worker};
use super::{WorkOptions, milliseconds, service_error, wire};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::kafka::Cluster;
use crate::session::Session;
use crate::store::{Role, TopicRow};

/// The threads of a worker.
pub struct Running {
    ended: Option<oneshot::Receiver<Result<()>>>,
    consumer: Option<JoinHandle<()>>,
    services: Vec<JoinHandle<u64>>,
}

impl Running {
    /// How the consumer's thread ended. Once: later calls wait for ever.
    pub async fn ended(&mut self) -> Result<()> {
        match self.ended.as_mut() {
            Some(ended) => {
                let result = ended.await.unwrap_or_else(|_| {
                    Err(service_error("(worker)", "its consumer thread panicked"))
                });
                self.ended = None;
                result
            }
            None => std::future::pending().await,
        }
    }

    /// Waits for all threads; the number of service processes that were replaced.
    pub async fn join(self) -> u64 {
        let all = tokio::task::spawn_blocking(move || {
            if let Some(consumer) = self.consumer {
                let _ = consumer.join();
            }
            self.services
                .into_iter()
                .map(|s| s.join().unwrap_or(0))
                .sum()
        });
        all.await.unwrap_or(0)
    }
}

/// What the threads share, before any of them runs.
pub async fn worker(session: &Session, options: &WorkOptions) -> Result<Arc<Worker>> {
    let limits = &session.job.file.limits;
    let topic = session.topic(&options.region, Role::Ingress).await?;
    // Records with keys meet the service in the order of their partition.
    let serial = session.job.file.topics.routed_by_columns();
    Ok(Arc::new(Worker::new(
        topic.name,
        session.store.clone(),
        Partitions::new(serial),
        Admission::new(
            u64::from(limits.max_in_flight_records),
            u64::from(limits.max_in_flight_mib) << 20,
        ),
        &options.region,
    )))
}

/// Starts the service, then everything else.
pub async fn start(
    session: &Session,
    options: &WorkOptions,
    worker: &Arc<Worker>,
    ctx: &Context,
) -> Result<Running> {
    let region = &options.region;
    let file = &session.job.file;
    let cluster = session.cluster(region)?;
    let registry = session.registry(region)?;
    let mut topics = Vec::with_capacity(Role::ALL.len());
    for role in Role::ALL {
        topics.push(session.topic(region, role).await?);
    }
    let [ingress, egress, dead_letter, verdict]: [TopicRow; 4] =
        topics.try_into().map_err(|_| Error::NotReady {
            what: "a topic of the job is not noted".into(),
            fix: "run `kappaflow dispatch` on the job file first".into(),
        })?;
    ctx.report(Progress {
        stage: "work",
        label: region.clone(),
        done: 0,
        total: None,
        note: "starting the service".into(),
        figures: BTreeMap::new(),
    });

    let schema = |e: String| Error::Schema {
        what: file.schema.egress.clone(),
        reason: e,
    };
    let decoder = Decoder::new(&session.egress).map_err(|e| schema(e.to_string()))?;
    let answers = Arc::new(wire::answer_schema(&decoder.arrow_schema()));
    let settle = |role| session.settle(&registry, region, role, ctx, "work");
    let writer = settle(Role::Egress).await?;
    let verdict_id = settle(Role::Verdict).await?.id;
    let plan = CoercionPlan::new(&answers, &writer.schema, &PlanOptions::default())?;

    // First contact, before minutes may go into warming up.
    let check = cluster.clone();
    let wanted = [ingress.clone(), egress.clone()];
    blocking(&cluster, move || {
        wanted.iter().try_for_each(|t| same(&check, t))
    })
    .await?;

    let kind = kind(session, options, &answers)?;
    let (ready, mut started) = mpsc::unbounded_channel();
    let (go_on, _) = tokio::sync::watch::channel(None::<Arc<Egress>>);
    let mut services = Vec::new();
    for number in 0..file.service.processes.max(1) {
        let handler = Setup {
            kind: kind.clone(),
            name: file.service.name().to_owned(),
            registry: Arc::clone(&registry),
            ingress: session.ingress.clone(),
            encoder: Encoder::new(plan.clone(), writer.stamp.frame),
            max_attempts: file.service.max_attempts,
        };
        let (worker, ctx, ready) = (Arc::clone(worker), ctx.clone(), ready.clone());
        let (egress, runtime) = (go_on.subscribe(), tokio::runtime::Handle::current());
        let thread = std::thread::Builder::new()
            .name(format!("service-{number}"))
            .spawn(move || serve(handler, &worker, &ctx, ready, egress, &runtime))
            .map_err(|e| service_error(file.service.name(), format!("no thread: {e}")))?;
        services.push(thread);
    }
    drop(ready);
    let mut running = Running {
        ended: None,
        consumer: None,
        services,
    };
    let mut missing = running.services.len();
    while missing > 0 {
        let gone = || Err(service_error(file.service.name(), "its thread panicked"));
        if let Err(error) = started.recv().await.unwrap_or_else(gone) {
            worker.abort();
            drop(go_on);
            running.join().await;
            return Err(error);
        }
        missing -= 1;
    }

    let egress = Egress::new(
        &cluster,
        session.id,
        EgressTopics {
            ingress: ingress.name.clone(),
            egress,
            dead_letter,
            verdict,
            schema_header: writer.stamp.header,
            verdict_schema: verdict_id,
        },
        &file.topics.compression,
        Arc::clone(&worker.mail),
    )?;
    go_on.send_replace(Some(Arc::new(egress)));

    let consumer = consumer::join(worker, &cluster, &session.group(region), &file.limits)?;
    let turn = Loop {
        worker: Arc::clone(worker),
        cluster,
        job: session.id,
        batch_records: file.service.batch_records.max(1) as usize,
        ctx: ctx.clone(),
    };
    let (end, ended) = oneshot::channel();
    running.ended = Some(ended);
    running.consumer = Some(
        std::thread::Builder::new()
            .name("consumer".into())
            .spawn(move || {
                let _ = end.send(turn.run(consumer));
            })
            .map_err(|e| service_error("(worker)", format!("no thread: {e}")))?,
    );
    Ok(running)
}

/// What is called, and how.
#[derive(Clone)]
enum Kind {
    Python(Arc<Spec>),
    Http(Arc<Shared>),
}

impl Kind {
    /// A place where one batch at a time is worked on. `None`: `go` said to stop.
    fn start(self, go: &dyn Fn() -> bool) -> Result<Option<Box<dyn Service>>> {
        Ok(match self {
            Self::Python(spec) => match PythonService::start(spec, go)? {
                Some(service) => Some(Box::new(service)),
                None => None,
            },
            Self::Http(shared) => Some(Box::new(HttpService::new(shared))),
        })
    }
}

fn kind(
    session: &Session,
    options: &WorkOptions,
    answers: &Arc<arrow_schema::Schema>,
) -> Result<Kind> {
    let (job, service) = (&session.job, &session.job.file.service);
    let Some(endpoint) = &service.http else {
        return Ok(Kind::Python(Arc::new(spec(session, options, answers)?)));
    };
    let mapping = Mapping::new(endpoint, &session.ingress, &job.dir)
        .map_err(|(key, reason)| job.error(format!("service.http.{key}"), reason))?;
    Ok(Kind::Http(Arc::new(Shared::new(
        endpoint.clone(),
        mapping,
        Arc::clone(answers),
        milliseconds(service.deadline_ms),
    )?)))
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
        }),
        answers: Arc::clone(answers),
        deadline: milliseconds(service.deadline_ms),
        start_timeout: milliseconds(options.start_timeout_ms),
    })
}

/// The topic is there, and is the one that the job began with.
fn same(cluster: &Cluster, noted: &TopicRow) -> Result<()> {
    let wrong = |reason: &str| Error::Topic {
        topic: noted.name.clone(),
        partition: None,
        offset: None,
        reason: reason.into(),
    };
    match cluster.topic(&noted.name)? {
        None => Err(wrong(
            "is gone, though this job has used it; run the job under a new name or param",
        )),
        Some(found)
            if (&found.topic_id, found.partitions) != (&noted.topic_id, noted.partitions) =>
        {
            Err(wrong(
                "is not the topic this job began with: it was recreated or its partitions changed; run the job under a new name or param",
            ))
        }
        Some(_) => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(
    cluster: &Cluster,
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|e| cluster.error("a blocking call", e))?
}

struct Setup {
    kind: Kind,
    name: String,
    registry: Arc<dyn crate::registry::SchemaRegistry>,
    ingress: AvroSchema,
    encoder: Encoder,
    max_attempts: u32,
}

/// One service process's thread: start, wait until all have started, then batch after batch.
fn serve(
    setup: Setup,
    worker: &Worker,
    ctx: &Context,
    ready: mpsc::UnboundedSender<Result<()>>,
    mut egress: tokio::sync::watch::Receiver<Option<Arc<Egress>>>,
    runtime: &tokio::runtime::Handle,
) -> u64 {
    let starting = || worker.goes_on() && !ctx.cancel.is_cancelled();
    let service = match setup.kind.start(&starting) {
        Ok(Some(service)) => service,
        Ok(None) => {
            let _ = ready.send(Err(Error::Interrupted { stage: "work" }));
            return 0;
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            return 0;
        }
    };
    let mut handler = Handler::new(
        service,
        setup.name,
        setup.registry,
        setup.ingress,
        setup.encoder,
        setup.max_attempts,
    );
    if ready.send(Ok(())).is_err() {
        return 0;
    }
    // The starter waits until every thread has said how its start went, or is gone.
    drop(ready);
    let found = runtime
        .block_on(egress.wait_for(Option::is_some))
        .map(|e| e.clone());
    let Ok(Some(egress)) = found else {
        return 0;
    };
    let go = || worker.goes_on();
    while let Some(batch) = worker.queue.pop() {
        let sent = handler
            .handle(&batch.records, &go)
            .and_then(|handled| match handled {
                Some(handled) => egress.send(&batch, handled, &go),
                None => Ok(false),
            });
        match sent {
            Ok(true) => {}
            // The worker stops: what is under way is done again by whoever is next.
            Ok(false) => break,
            Err(error) => {
                worker.mail.push(Mail::Failed(error));
                break;
            }
        }
    }
    handler.service().restarts()
}
