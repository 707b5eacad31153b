//! The program as it is called.

use std::process::{Command, Output};

fn worker(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_kappaflow-worker");
    Command::new(program).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_says_what_it_does_and_how_it_ends() {
    let output = worker(&["--help"]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["--region", "--until", "--listen", "Exit codes: 0 done"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_is_wrong_is_named_and_ends_with_2() {
    for (arguments, told) in [
        (&["job.toml"][..], "--region"),
        (
            &["job.toml", "--region", "east", "--until", "never"],
            "expected done, now or stopped",
        ),
        (
            &["job.toml", "--region", "east", "--param", "day"],
            "expected NAME=VALUE",
        ),
        (
            &["job.toml", "--region", "east", "--listen", "here"],
            "--listen",
        ),
        (
            &["no/such/job.toml", "--region", "east"],
            "no/such/job.toml",
        ),
    ] {
        let output = worker(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            said(&output).contains(told),
            "{arguments:?}: {}",
            said(&output)
        );
    }
}
