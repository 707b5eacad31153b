//! A process of a fleet: it takes the jobs that were submitted for its service and region, and works on them at once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use tokio::task::{Id, JoinError, JoinSet};

use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::identity::JobId;
use crate::job::Service;
use crate::registry::RegistryError;
use crate::session::Session;
use crate::store::{FleetMember, JobFigures, Store, Submission, SubmissionState};
use crate::work::metrics::{Board, Exposed, Listener, Metrics};
use crate::work::native::Natives;
use crate::work::{self, Slots, Until, WorkOptions, WorkSummary};

/// Between two looks at the store, up to a half longer by chance, so that many processes do not look together.
const LOOK: Duration = Duration::from_millis(1_000);
/// Attempts of a process at a job that fails, the first included, before it is given up.
const ATTEMPTS: u32 = 3;
/// Before the second attempt; doubles with each.
const BACK_OFF: Duration = Duration::from_secs(2);

/// How a process of a fleet runs.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// `sqlite:PATH`, relative to the working directory; that of the jobs.
    pub store: String,
    /// The service that it is for, as jobs name it in `service.fleet.name` or by default.
    pub service: String,
    pub region: String,
    /// Jobs that it works on at once; others wait, in the order of their submission.
    pub max_jobs: u32,
    /// The interpreter of service processes.
    pub python: PathBuf,
    /// See [`WorkOptions::package_dir`].
    pub package_dir: Option<PathBuf>,
    /// Where `/metrics`, `/healthz`, `/readyz` and `/replicas` are answered, for all jobs. `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// See [`WorkOptions::natives`].
    pub natives: Natives,
}

/// What a process of a fleet did, until it was told to stop.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FleetSummary {
    pub service: String,
    pub region: String,
    /// Jobs that were done.
    pub done: u64,
    /// Jobs that it has given up.
    pub failed: u64,
    /// Records finished, of all jobs.
    pub read: u64,
    pub seconds: f64,
}

/// Serves the jobs that are submitted, until the context is cancelled: then what is under way is finished and committed.
/// A job that fails is tried again a few times, then left, and takes no other with it.
///
/// # Errors
/// [`Error::Store`] if the store can't be used as it begins; [`Error::Listen`].
pub async fn fleet(options: FleetOptions, ctx: &Context) -> Result<FleetSummary> {
    let began = Instant::now();
    let here = std::env::current_dir().map_err(Error::io("find the working directory", "."))?;
    let store = Store::open(&options.store, &here).await?;
    let board = Board::of_fleet();
    let _listener = match options.listen {
        Some(address) => Some(Listener::start(address, Arc::clone(&board)).await?),
        None => None,
    };
    let me = FleetMember {
        service: options.service.clone(),
        region: options.region.clone(),
        member: store.next("worker").await?,
        host: host(),
        pid: std::process::id(),
        max_jobs: options.max_jobs.max(1),
        started_ms: crate::store::now_ms(),
        seen_ms: 0,
        jobs: Vec::new(),
    };
    store.fleet_beat(&me).await?;
    let mut fleet = Fleet {
        shared: Arc::new(Shared {
            store,
            board,
            slots: Mutex::default(),
            options,
        }),
        me,
        served: HashMap::new(),
        tasks: JoinSet::new(),
        failures: HashMap::new(),
        summary: FleetSummary::default(),
        ctx: ctx.clone(),
    };
    fleet.turn().await;
    let me = FleetMember {
        jobs: Vec::new(),
        ..fleet.me
    };
    // One that can't say so is forgotten soon.
    let _ = fleet.shared.store.leave_fleet(&me).await;
    Ok(FleetSummary {
        service: me.service,
        region: me.region,
        seconds: began.elapsed().as_secs_f64(),
        ..fleet.summary
    })
}

/// What the tasks of all jobs have.
struct Shared {
    store: Store,
    board: Arc<Board>,
    /// Of each service, as its jobs define it.
    slots: Mutex<HashMap<String, Arc<Slots>>>,
    options: FleetOptions,
}

/// A job that is worked on.
struct Served {
    submission: Submission,
    task: Id,
    ctx: Context,
    /// Once it is opened.
    metrics: Arc<OnceLock<Arc<Metrics>>>,
}

/// Of a submission that failed here: how often, and when it may be tried again.
struct Failure {
    number: i64,
    times: u32,
    again: Instant,
}

struct Fleet {
    shared: Arc<Shared>,
    me: FleetMember,
    served: HashMap<JobId, Served>,
    tasks: JoinSet<Result<WorkSummary>>,
    failures: HashMap<JobId, Failure>,
    summary: FleetSummary,
    ctx: Context,
}

/// How the task of a job ended.
type Ended = std::result::Result<(Id, Result<WorkSummary>), JoinError>;

impl Fleet {
    async fn turn(&mut self) {
        while !self.ctx.cancel.is_cancelled() {
            if let Err(error) = self.look().await {
                // What is under way goes on: only what is new has to wait.
                self.say(format!("the store can't be asked: {error}"));
            }
            let pause = LOOK + LOOK.mul_f64(0.5 * fastrand::f64());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended).await,
                () = self.ctx.cancel.cancelled() => {}
            }
        }
        self.shared.board.end();
        self.served
            .values()
            .for_each(|served| served.ctx.cancel.cancel());
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.ended(ended).await;
        }
    }

    /// Lets go of what is no longer submitted, takes what is, and says how it stands.
    async fn look(&mut self) -> Result<()> {
        let of = (self.me.service.as_str(), self.me.region.as_str());
        let submitted = self.shared.store.submissions(Some(of)).await?;
        for (job, served) in &self.served {
            if !submitted.iter().any(|s| s.job == *job) {
                served.ctx.cancel.cancel();
            }
        }
        self.failures.retain(|job, f| {
            submitted
                .iter()
                .any(|s| (s.job, s.number) == (*job, f.number))
        });
        for submission in submitted {
            let waits = self.failures.get(&submission.job);
            let waits = waits.is_some_and(|f| Instant::now() < f.again);
            if self.served.len() < self.me.max_jobs as usize
                && !self.served.contains_key(&submission.job)
                && !waits
            {
                self.take(submission);
            }
        }
        let served = self.served.values();
        self.me.jobs = served.map(Served::figures).collect();
        let jobs = self.me.jobs.len();
        self.say(match jobs {
            0 => format!("waiting for jobs in {}", self.shared.store.place()),
            1 => "1 job".into(),
            n => format!("{n} jobs"),
        });
        self.shared.store.fleet_beat(&self.me).await
    }

    fn take(&mut self, submission: Submission) {
        let metrics = Arc::new(OnceLock::new());
        let (above, name) = (self.ctx.clone(), submission.name.clone());
        let ctx = Context::new(move |progress| {
            above.report(Progress {
                label: format!("{name} {}", progress.label),
                ..progress
            });
        });
        let task = serve(
            Arc::clone(&self.shared),
            submission.clone(),
            Arc::clone(&metrics),
            ctx.clone(),
        );
        let task = self.tasks.spawn(task).id();
        let served = Served {
            submission,
            task,
            ctx,
            metrics,
        };
        self.served.insert(served.submission.job, served);
    }

    async fn ended(&mut self, ended: Ended) {
        let (task, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let service = self.me.service.clone();
                let reason = format!("its worker broke off: {error}");
                (error.id(), Err(Error::Service { service, reason }))
            }
        };
        let mut served = self.served.values();
        let Some(job) = served.find(|s| s.task == task).map(|s| s.submission.job) else {
            return;
        };
        let Some(Served { submission, .. }) = self.served.remove(&job) else {
            return;
        };
        let (state, note) = match result {
            Ok(summary) => {
                self.summary.done += 1;
                self.summary.read += summary.read;
                (SubmissionState::Done, String::new())
            }
            // Cancelled, or the fleet ends: it is as it was.
            Err(Error::Interrupted { .. }) => return,
            Err(error) => self.failed(&submission, &error),
        };
        // What the store does not take is found out again: the job is opened once more.
        let _ = self
            .shared
            .store
            .settle_submission(&submission, state, &note)
            .await;
    }

    /// What a job's failure means for it.
    fn failed(&mut self, submission: &Submission, error: &Error) -> (SubmissionState, String) {
        let times = self.failures.get(&submission.job).map_or(0, |f| f.times) + 1;
        self.say(format!("{} failed: {error}", submission.name));
        if times >= ATTEMPTS || !may_pass(error) {
            self.summary.failed += 1;
            return (SubmissionState::Failed, error.to_string());
        }
        let wait = BACK_OFF * 2u32.pow(times - 1);
        let failure = Failure {
            number: submission.number,
            times,
            again: Instant::now() + wait,
        };
        self.failures.insert(submission.job, failure);
        let note = format!(
            "attempt {times} of {ATTEMPTS} failed, the next is in {} s: {error}",
            wait.as_secs()
        );
        (SubmissionState::Submitted, note)
    }

    fn say(&self, note: String) {
        self.ctx.report(Progress {
            stage: "fleet",
            label: format!("{} {}", self.me.service, self.me.region),
            done: self.summary.done,
            total: None,
            note,
            figures: std::collections::BTreeMap::new(),
        });
    }
}

impl Served {
    fn figures(&self) -> JobFigures {
        let metrics = self.metrics.get();
        let of = |what: fn(&Metrics) -> u64| metrics.map_or(0, |m| what(m));
        JobFigures {
            job: self.submission.job.to_string(),
            read: of(|m| m.read.get()),
            share: of(|m| m.limit.get()),
            in_flight: of(|m| m.in_flight.get()),
            lag: of(Metrics::lag_records),
        }
    }
}

/// Works on a job until it is done, or its context is cancelled.
async fn serve(
    shared: Arc<Shared>,
    submission: Submission,
    seen: Arc<OnceLock<Arc<Metrics>>>,
    ctx: Context,
) -> Result<WorkSummary> {
    let options = &shared.options;
    let mut session = Session::submitted(shared.store.clone(), &submission).await?;
    // All jobs together hold no more than a worker by itself would.
    let limits = &mut session.job.file.limits;
    for limit in [
        &mut limits.max_in_flight_records,
        &mut limits.max_in_flight_mib,
    ] {
        *limit = (*limit / options.max_jobs.max(1)).max(1);
    }
    let slots = {
        let mut all = shared.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let service = definition(&session.job.file.service);
        Arc::clone(all.entry(service).or_default())
    };
    let work_options = WorkOptions {
        until: Until::Done,
        package_dir: options.package_dir.clone(),
        listen: options.listen,
        natives: options.natives.clone(),
        ..WorkOptions::new(options.region.clone(), options.python.clone())
    };
    let metrics = work::measured(&session, &options.region).await?;
    let exposed = Exposed::start(None, &metrics).await?;
    shared.board.add(&metrics);
    let _ = seen.set(Arc::clone(&metrics));
    let worked = work::run(&session, work_options, &metrics, slots, &ctx).await;
    shared.board.remove(&metrics);
    exposed.stop().await;
    worked
}

/// What is called, and how many calls it takes: jobs that say the same share its slots.
fn definition(service: &Service) -> String {
    let of_http = service.http.as_ref().and_then(|h| h.unix_socket.as_ref());
    let of_grpc = service.grpc.as_ref().and_then(|g| g.unix_socket.as_ref());
    let socket = of_http.or(of_grpc);
    let processes = service.callable.as_ref().map(|_| service.processes);
    let limits = (service.concurrency(), processes, service.limiter);
    json!((service.address(), socket, limits)).to_string()
}

/// Whether another attempt may go better: something outside was not there, or did not answer.
fn may_pass(error: &Error) -> bool {
    matches!(
        error,
        Error::Kafka { .. }
            | Error::Service { .. }
            | Error::Store { .. }
            | Error::Io { .. }
            | Error::Registry(RegistryError::Unavailable { .. })
    )
}

/// What the machine calls itself.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = name.map(|name| name.trim().to_owned()).ok();
    name.or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| "(unknown)".into())
}
