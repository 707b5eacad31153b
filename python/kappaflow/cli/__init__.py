"""The command `kappaflow`: every stage by itself, and all in order."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from kappaflow.cli import fleet, k8s, proto, replicas, schema, stages, table
from kappaflow.dev import cli as dev
from kappaflow.errors import JobFileError, KappaFlowError, StoppedError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_EPILOG = """\
A job in order:  dispatch -> publish + work (at once) -> land -> reconcile -> sql.   `run` does them all.
Exit codes: 0 done, 1 a stage failed, 2 wrong usage or job file, 130 interrupted (run again: it resumes).
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="kappaflow",
        description="Replay offline data through a production service, as an event stream, "
        "and prove what happened to every record.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"kappaflow {_version()}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    stages.add_parsers(commands)
    replicas.add_parser(commands)
    table.add_parser(commands)
    fleet.add_parsers(commands)
    schema.add_parser(commands)
    proto.add_parser(commands)
    k8s.add_parser(commands)
    dev.add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = _parse(argv)
    if args.command == "dev":
        # It has its own signal handling: a half-started stack is stopped again.
        dev_run: Callable[[argparse.Namespace], int] = args.run
        return dev_run(args)
    signal.signal(signal.SIGTERM, _terminate)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        if "job" in args:
            _check_readable(args.job)
        return run(args)
    except JobFileError as error:
        return _fail(error, USAGE, args)
    except StoppedError as error:
        return _fail(error, INTERRUPTED, args)
    except KappaFlowError as error:
        return _fail(error, FAILED, args)
    except KeyboardInterrupt:
        sys.stderr.write("kappaflow: interrupted; what was done is kept, run it again to go on\n")
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED


def command_words(argv: Sequence[str]) -> list[str]:
    """The words as the parser has them: `work replicas` is one command, since `work` takes a job file there."""
    words = list(argv)
    if words[:2] == replicas.COMMAND.split():
        words[:2] = [replicas.COMMAND]
    return words


def _check_readable(job: str) -> None:
    """A wrong path is wrong usage, whatever the stage would make of it."""
    try:
        Path(job).read_text(encoding="utf-8")
    except OSError as error:
        raise JobFileError(
            f"can't read the job file {job}: {error.strerror}; give the path of a job.toml"
        ) from None
    except ValueError:
        raise JobFileError(
            f"can't read the job file {job}: it is no text; give the path of a job.toml"
        ) from None


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    top = parser()
    args, rest = top.parse_known_args(command_words(sys.argv[1:] if argv is None else argv))
    if args.command == "sql" and args.query is None and len(rest) == 1 and not rest[0].startswith("-"):
        # argparse fills an optional positional before it has seen the options that follow the job file.
        args.query = rest.pop()
    if rest:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def _fail(error: KappaFlowError, code: int, args: argparse.Namespace) -> int:
    sys.stderr.write(f"kappaflow {args.command}: {error}\n")
    if getattr(args, "json", False):
        sys.stdout.write(json.dumps({"error": {"kind": error.kind, "message": str(error)}}) + "\n")
    return code


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    # The same way out as Ctrl-C: the native stage is told to stop and leaves a state that resumes.
    raise KeyboardInterrupt


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("kappaflow")
    except PackageNotFoundError:
        return "(not installed)"
