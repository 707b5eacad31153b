//! The work stage as one program: `kappaflow-worker`, and programs that have services in Rust in them. Such a program is
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use kappaflow_core::work::native::Natives;
//!
//! fn main() -> ExitCode {
//!     kappaflow_worker::run(Natives::default()) // .with("pricing", Pricing::new())
//! }
//! ```

// What data or the network brings is an error, never a panic.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use kappaflow_core::fleet::{FleetOptions, FleetSummary, fleet};
use kappaflow_core::work::native::Natives;
use kappaflow_core::work::{Until, WorkOptions, WorkSummary, work};
use kappaflow_core::{Context, Error, Progress, Session};
use tokio::signal::unix::{SignalKind, signal};

/// Works on a region's ingress until it is done: each record through the job's service, each answer to egress.
///
/// Exit codes: 0 done, or stopped as --until says; 1 the stage failed; 2 wrong usage or wrong job file; 130 interrupted
/// (run it again to go on).
#[derive(Parser)]
#[command(
    name = "kappaflow-worker",
    version,
    args_conflicts_with_subcommands = true
)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    work: Option<Arguments>,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the jobs that are submitted for a service in a region, several at once, until SIGTERM or Ctrl-C.
    Fleet(FleetArguments),
}

#[derive(Args)]
struct FleetArguments {
    /// The store of the jobs, sqlite:PATH.
    #[arg(long, value_name = "URL")]
    store: String,
    /// What the jobs call the service: service.fleet.name, by default the callable, or scheme://host:port of the URL.
    #[arg(long, value_name = "NAME")]
    service: String,
    /// The region to work in, as the job files name it.
    #[arg(long)]
    region: String,
    /// Jobs that are worked on at once here; others wait in the order of their submission.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    max_jobs: u32,
    /// The interpreter of service processes; the package `kappaflow` must be importable in it.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// A directory that holds the package `kappaflow`, if the interpreter doesn't have it.
    #[arg(long, value_name = "DIR")]
    package_dir: Option<PathBuf>,
    /// Answer /metrics (Prometheus), /healthz, /readyz and /replicas there, for all jobs, e.g. 127.0.0.1:9464. Whoever
    /// reaches the address may read: 0.0.0.0:9464 opens it to all that reach the machine.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Print the summary as one JSON object on stdout, last.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Arguments {
    /// The job file.
    job: PathBuf,
    /// The region to work in, as the job file names it.
    #[arg(long)]
    region: String,
    /// A param of the job file, NAME=VALUE; may be given several times.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<(String, String)>,
    /// The interpreter of the service processes; the package `kappaflow` must be importable in it.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// A directory that holds the package `kappaflow`, if the interpreter doesn't have it.
    #[arg(long, value_name = "DIR")]
    package_dir: Option<PathBuf>,
    /// When to end: done (all is published and worked on), now (what is in the topic now is worked on), or stopped (by a
    /// signal: a fleet that others scale).
    #[arg(long, default_value = "done")]
    until: Until,
    /// Answer /metrics (Prometheus), /healthz, /readyz and /replicas there, e.g. 127.0.0.1:9464. Whoever reaches the
    /// address may read: 0.0.0.0:9464 opens it to all that reach the machine.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// A name that this worker keeps over restarts (a pod's name), so that a quick restart moves no partition.
    #[arg(long, value_name = "NAME")]
    instance_id: Option<String>,
    /// Print the summary as one JSON object on stdout, last.
    #[arg(long)]
    json: bool,
}

fn param(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("expected NAME=VALUE, got {text:?}"))
}

/// Does as its arguments say, with these services in it; how the process is to end.
#[must_use]
pub fn run(natives: Natives) -> ExitCode {
    let program = Program::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: no runtime: {e}");
            return ExitCode::from(1);
        }
    };
    match program {
        Program {
            command: Some(Command::Fleet(arguments)),
            ..
        } => {
            let json = arguments.json;
            match runtime.block_on(serve(arguments, natives)) {
                Ok(summary) if json => print(serde_json::to_string(&summary).unwrap_or_default()),
                Ok(summary) => print(told_of_fleet(&summary)),
                Err(error) => fail(&error, None),
            }
        }
        Program {
            work: Some(arguments),
            ..
        } => {
            let (json, job) = (arguments.json, arguments.job.clone());
            match runtime.block_on(work_on(arguments, natives)) {
                Ok(summary) if json => print(serde_json::to_string(&summary).unwrap_or_default()),
                Ok(summary) => print(told(&summary)),
                Err(error) => fail(&error, Some(&job)),
            }
        }
        // The parser lets no other through.
        Program { .. } => ExitCode::from(2),
    }
}

fn fail(error: &Error, job: Option<&Path>) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(match error {
        Error::Interrupted { .. } => 130,
        Error::JobFile { .. } => 2,
        Error::Io { path, .. } if Some(path.as_path()) == job => 2,
        _ => 1,
    })
}

/// A context that is stopped by SIGTERM and Ctrl-C.
fn context() -> Context {
    let ctx = Context::new(show);
    let cancel = ctx.cancel.clone();
    tokio::spawn(async move {
        let (Ok(mut term), Ok(mut int)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            return;
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        eprintln!("stopping: finishing what is under way");
        cancel.cancel();
        // A second signal doesn't wait.
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        std::process::exit(130);
    });
    ctx
}

async fn serve(arguments: FleetArguments, natives: Natives) -> Result<FleetSummary, Error> {
    let options = FleetOptions {
        store: arguments.store,
        service: arguments.service,
        region: arguments.region,
        max_jobs: arguments.max_jobs,
        python: arguments.python,
        package_dir: arguments.package_dir,
        listen: arguments.listen,
        natives,
    };
    fleet(options, &context()).await
}

async fn work_on(arguments: Arguments, natives: Natives) -> Result<WorkSummary, Error> {
    let ctx = context();
    let params: BTreeMap<String, String> = arguments.params.into_iter().collect();
    let session = Session::open(&arguments.job, &params).await?;
    let options = WorkOptions {
        until: arguments.until,
        package_dir: arguments.package_dir,
        listen: arguments.listen,
        instance_id: arguments.instance_id,
        natives,
        ..WorkOptions::new(arguments.region, arguments.python)
    };
    work(&session, options, &ctx).await
}

/// A line every ten seconds or when the note changes: a worker's stderr is a log.
fn show(progress: Progress) {
    use std::sync::Mutex;
    use std::time::{Duration, Instant};
    // By what it is about.
    static LAST: Mutex<BTreeMap<String, (Instant, String)>> = Mutex::new(BTreeMap::new());
    let Ok(mut last) = LAST.lock() else {
        return;
    };
    let due = last.get(&progress.label).is_none_or(|(at, note)| {
        at.elapsed() >= Duration::from_secs(10)
            || *note != progress.note && !progress.note.is_empty()
    });
    if !due {
        return;
    }
    let total = progress
        .total
        .map_or(String::new(), |total| format!(" of {total}"));
    let (label, done, note) = (&progress.label, progress.done, &progress.note);
    let dash = if note.is_empty() { "" } else { ": " };
    let (stage, unit) = match progress.stage {
        "fleet" => ("fleet", "jobs"),
        stage => (stage, "records"),
    };
    eprintln!("{stage} {label}: {done}{total} {unit}{dash}{note}");
    last.insert(progress.label, (Instant::now(), progress.note));
}

fn told(summary: &WorkSummary) -> String {
    let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    format!(
        "{}: {} records in {:.1} s ({:.0}/s): {} answered with {} records, {} filtered, {} dead letters; {} tries repeated, {} processes replaced",
        summary.region,
        summary.read,
        summary.seconds,
        summary.rows_per_s,
        summary.answered,
        summary.children,
        sum(&summary.filtered),
        sum(&summary.dead_lettered),
        summary.retried,
        summary.service_restarts,
    )
}

fn told_of_fleet(summary: &FleetSummary) -> String {
    format!(
        "{} {}: {} jobs done with {} records, {} given up, in {:.1} s",
        summary.service,
        summary.region,
        summary.done,
        summary.read,
        summary.failed,
        summary.seconds,
    )
}

fn print(text: impl std::fmt::Display) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(1),
    }
}
