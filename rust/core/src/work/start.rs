//! Setting a worker up: the service first, so that one that can't start takes nothing; then the producer, the group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use kappaflow_avro::{CoercionPlan, Decoder, Encoder, PlanOptions};
use tokio::sync::{mpsc, oneshot};

use super::admission::Admission;
use super::answers::answer_schema;
use super::budget::Budget;
use super::consumer::Loop;
use super::drivers::{OrFail, Setup, drive, kind};
use super::egress::{Egress, EgressTopics};
use super::finish::Finisher;
use super::group;
use super::metrics::Metrics;
use super::schedule::Schedule;
use super::slots::{Seat, Slots};
use super::transactions::{Committer, Joint};
use super::worker::Worker;
use super::{WorkOptions, service_error};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::files::unique_name;
use crate::job::Order;
use crate::kafka::Cluster;
use crate::session::Session;
use crate::store::{Role, TopicRow};

/// The threads of a worker.
pub struct Running {
    ended: Option<oneshot::Receiver<Result<()>>>,
    consumer: Option<JoinHandle<()>>,
    drivers: Vec<JoinHandle<u64>>,
    finisher: Option<JoinHandle<()>>,
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
            if let Some(finisher) = self.finisher {
                let _ = finisher.join();
            }
            let drivers = self.drivers.into_iter();
            drivers.map(|driver| driver.join().unwrap_or(0)).sum()
        });
        all.await.unwrap_or(0)
    }
}

/// What the threads share, before any of them runs.
pub async fn worker(
    session: &Session,
    options: &WorkOptions,
    metrics: &Arc<Metrics>,
    slots: Arc<Slots>,
) -> Result<Arc<Worker>> {
    let limits = &session.job.file.limits;
    let topic = session.topic(&options.region, Role::Ingress).await?;
    let file = &session.job.file;
    let by_default = if file.topics.key.is_empty() {
        Order::None
    } else {
        Order::Key
    };
    let order = file.service.order.unwrap_or(by_default);
    let mut worker = Worker::new(
        topic.name,
        session.store.clone(),
        Schedule::new(order),
        Admission::new(
            u64::from(limits.max_in_flight_records),
            u64::from(limits.max_in_flight_mib) << 20,
        ),
        Budget::of(&file.service),
        Seat::new(slots, file.service.fleet.weight),
        Arc::clone(metrics),
    );
    if file.service.transactional {
        worker.joint = Some(Joint::new(&session.cluster(&options.region)?));
    }
    Ok(Arc::new(worker))
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
    let answers = Arc::new(answer_schema(&decoder.arrow_schema()));
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

    let kind = kind(session, options, &answers, worker)?;
    let (ready, mut started) = mpsc::unbounded_channel();
    let mut drivers = Vec::new();
    for number in 0..kind.drivers(&file.service) {
        let setup = Setup {
            kind: kind.clone(),
            registry: Arc::clone(&registry),
            ingress: session.ingress.clone(),
            max_attempts: file.service.max_attempts,
            concurrency: file.service.concurrency(),
        };
        let (worker, ctx, ready) = (Arc::clone(worker), ctx.clone(), ready.clone());
        let thread = std::thread::Builder::new()
            .name(format!("service-{number}"))
            .spawn(move || drive(setup, number, &worker, &ctx, ready))
            .map_err(|e| service_error(file.service.name(), format!("no thread: {e}")))?;
        drivers.push(thread);
    }
    drop(ready);
    let mut running = Running {
        ended: None,
        consumer: None,
        drivers,
        finisher: None,
    };
    let mut missing = running.drivers.len();
    let mut concurrency = 0;
    while missing > 0 {
        let gone = || Err(service_error(file.service.name(), "its thread panicked"));
        match started.recv().await.unwrap_or_else(gone) {
            Ok(calls) => concurrency += calls,
            Err(error) => {
                worker.abort();
                running.join().await;
                return Err(error);
            }
        }
        missing -= 1;
    }
    let limiter = file.service.limiter.settings(concurrency);
    worker.seat.open(concurrency, limiter);

    let group = session.group(region);
    let transactional_id = file.service.transactional.then(|| {
        let name = options.instance_id.clone().unwrap_or_else(unique_name);
        format!("{group}.worker.{name}")
    });
    let topics = EgressTopics {
        ingress: ingress.name.clone(),
        egress,
        dead_letter,
        verdict,
        schema_header: writer.stamp.header,
        verdict_schema: verdict_id,
    };
    let (job, compression) = (session.id, file.topics.compression.clone());
    let (mail, of_egress, context) = (Arc::clone(&worker.mail), cluster.clone(), ctx.clone());
    let (egress, committer) = blocking(&cluster, move || {
        let id = transactional_id.as_deref();
        let egress = Egress::new(&of_egress, job, topics, &compression, id, mail)?;
        let claim = |id| Committer::claim(&egress, id, of_egress, &context);
        let committer = id.map(claim).transpose()?;
        Ok((egress, committer))
    })
    .await?;
    let finisher = Finisher {
        name: file.service.name().to_owned(),
        encoder: Encoder::new(plan, writer.stamp.frame),
        answers,
        egress,
        committer,
    };
    let of_finisher = Arc::clone(worker);
    running.finisher = Some(
        std::thread::Builder::new()
            .name("finisher".into())
            .spawn(move || {
                let _guard = OrFail(Arc::clone(&of_finisher));
                finisher.run(&of_finisher);
            })
            .map_err(|e| service_error("(worker)", format!("no thread: {e}")))?,
    );

    let consumer = group::join(
        worker,
        &cluster,
        &group,
        &file.limits,
        options.instance_id.as_deref(),
    )?;
    let turn = Loop {
        worker: Arc::clone(worker),
        cluster,
        job: session.id,
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
