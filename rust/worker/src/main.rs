//! `kappaflow-worker`: the work stage as one program, to run beside a service or by itself in a fleet.

use std::process::ExitCode;

use kappaflow_core::work::native::Natives;

fn main() -> ExitCode {
    kappaflow_worker::run(Natives::default())
}
