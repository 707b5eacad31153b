"""`kappaflow dev`: real Kafkas, and more, started, watched and stopped; and single brokers, ended as tests want it."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from kappaflow.dev import kafka, show
from kappaflow.dev.server import ServerStatus
from kappaflow.dev.stack import DEFAULT_DIR, DEFAULT_REGION, DevStack
from kappaflow.dev.state import RegionStatus
from kappaflow.errors import KappaFlowError

if TYPE_CHECKING:
    from rich.status import Status

    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

OK, FAILED, INTERRUPTED = 0, 1, 130
# Each is a method of DevStack.
_ON_ONE = {
    "start": "start a region, or one of its brokers, on its data",
    "stop": "stop a region, or one of its brokers, cleanly",
    "kill": "end a region's brokers, or one, by SIGKILL, as a crash does",
    "pause": "halt a region's brokers, or one, by SIGSTOP: nothing answers",
    "resume": "let paused brokers go on",
    "fill": "let a region's brokers, or one, find their disk full once a file of theirs has 16 MiB",
}
_WATCH_S = 0.5


class _Progress:
    """Shows sentences on stderr: with a spinner on a terminal, as plain lines elsewhere.

    What is printed on stdout comes after `stop`: while it turns, rich's spinner takes stdout for itself.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._status: Status | None = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True, highlight=False).status("looking")
            self._status.start()

    def say(self, text: str) -> None:
        """Shows a sentence. That nobody is there to read it any more stops nothing."""
        if self._quiet:
            return
        with suppress(OSError):
            if self._status is None:
                print(text, file=sys.stderr, flush=True)
                return
            from rich.markup import escape

            self._status.update(escape(text))
            if not text.startswith("downloading"):
                self._status.console.print(f"[dim]{escape(text)}[/dim]")

    def stop(self) -> None:
        """Ends the spinner; sentences that come later are plain lines."""
        if self._status is not None:
            with suppress(OSError):
                self._status.stop()
            self._status = None


def add_parser(subparsers: "SubParsers") -> None:
    """Adds `dev` to the subparsers of the `kappaflow` command line; `args.run(args)` gives the exit code."""
    parser = subparsers.add_parser(
        "dev", help="real Kafkas on this machine, for trying and testing", description=__doc__
    )
    _add_commands(parser)


def main(argv: list[str] | None = None) -> int:
    """`python -m kappaflow.dev`: the commands of `kappaflow dev` by themselves. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m kappaflow.dev", description=__doc__)
    _add_commands(parser)
    args = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    return run(args)


def _add_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="dev_command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--dir",
        type=Path,
        default=DEFAULT_DIR,
        help=f"where data, logs and state are (default: {DEFAULT_DIR})",
    )
    common.add_argument(
        "--regions",
        type=_names,
        default=None,
        metavar="A,B",
        help=f"region names, one Kafka each (default: those known to the directory, or {DEFAULT_REGION!r})",
    )
    common.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout, and nothing else there"
    )

    up = commands.add_parser("up", parents=[common], help="start the Kafkas and wait until they answer")
    up.add_argument(
        "--port",
        type=int,
        default=None,
        metavar="N",
        help="port of the first region, the next ones following (default: free ports, kept from then on)",
    )
    up.add_argument(
        "--brokers",
        type=int,
        default=None,
        metavar="N",
        help="brokers of each region, which form one cluster (default: as before, or 1)",
    )
    up.add_argument(
        "--min-insync-replicas",
        type=int,
        default=None,
        metavar="N",
        help="on how many brokers a record is before it is acknowledged (default: 2 of three or more, else 1)",
    )
    up.add_argument(
        "--secure",
        action="store_true",
        help="also listeners with TLS, passwords, tokens and certificates, and rights",
    )
    up.add_argument(
        "--registry",
        action="store_true",
        help="start a schema registry too (Apicurio), for all regions; once started it is part of the stack",
    )
    up.add_argument(
        "--registry-port",
        type=int,
        default=None,
        metavar="N",
        help="port of the schema registry (default: a free port, kept from then on)",
    )
    up.add_argument(
        "--s3", action="store_true", help="start an S3 server too (moto, in memory), with one bucket"
    )
    up.add_argument("--hdfs", action="store_true", help="start an HDFS too (Hadoop, on a Java of 17 to 23)")
    up.add_argument(
        "--foreground",
        action="store_true",
        help="stay; Ctrl-C, SIGTERM or a closed terminal stops all of them",
    )
    up.set_defaults(run=_run_up)

    down = commands.add_parser("down", parents=[common], help="stop the Kafkas; data stay")
    down.add_argument("--wipe", action="store_true", help="remove their data too")
    down.set_defaults(run=_run_down)

    status = commands.add_parser(
        "status", parents=[common], help="how each Kafka is; exit code 1 unless all run"
    )
    status.set_defaults(run=_run_status)

    one = argparse.ArgumentParser(add_help=False)
    one.add_argument(
        "broker",
        metavar="REGION[/N]",
        help="a region, or its broker N, as `status` shows them",
    )
    for name, summary in _ON_ONE.items():
        command = commands.add_parser(name, parents=[one, common], help=summary)
        command.set_defaults(run=_run_on_one)

    logs = commands.add_parser("logs", parents=[common], help="what the Kafkas print")
    logs.add_argument(
        "-n", "--lines", type=int, default=50, help="how many last lines a region (default: 50)"
    )
    logs.add_argument(
        "-f", "--follow", action="store_true", help="go on printing new lines, of one region, until Ctrl-C"
    )
    logs.set_defaults(run=_run_logs)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _run_up(args: argparse.Namespace) -> int:
    def body(progress: _Progress) -> int:
        stack = DevStack(
            args.dir,
            args.regions,
            brokers=args.brokers,
            min_insync_replicas=args.min_insync_replicas,
            secure=args.secure,
            base_port=args.port,
            registry=args.registry,
            registry_port=args.registry_port,
            s3=args.s3,
            hdfs=args.hdfs,
            on_event=progress.say,
        )
        begun = time.monotonic()
        regions, servers = stack.up(), stack.servers()
        progress.stop()
        if args.json:
            seconds = round(time.monotonic() - begun, 3)
            _print_json("up", args.dir, regions, servers, seconds=seconds)
        else:
            print(show.ready_text(args.dir, regions, servers), flush=True)
        return _stay(stack, progress.say) if args.foreground else OK

    return _guarded(args, body)


def _run_down(args: argparse.Namespace) -> int:
    def body(progress: _Progress) -> int:
        stack = DevStack(args.dir, args.regions, on_event=progress.say)
        left = stack.down(wipe=args.wipe)
        progress.stop()
        if args.json:
            _print_json("down", args.dir, left, stack.servers(), wiped=args.wipe)
        elif args.wipe:
            print(f"stopped; the data in {args.dir} are removed")
        else:
            print(f"stopped; the data stay in {args.dir}" if left else f"nothing to stop in {args.dir}")
        return OK

    return _guarded(args, body)


def _run_status(args: argparse.Namespace) -> int:
    def body(_: _Progress) -> int:
        stack = DevStack(args.dir, args.regions)
        regions, servers = stack.status(), stack.servers()
        if args.json:
            _print_json("status", args.dir, regions, servers)
        else:
            print(
                show.tables(regions, servers)
                if regions
                else f"no dev stack in {args.dir}: start one with `kappaflow dev up`"
            )
        states = [region.state for region in regions] + [server.state for server in servers]
        return OK if regions and all(state == "running" for state in states) else FAILED

    return _guarded(args, body)


def _run_on_one(args: argparse.Namespace) -> int:
    def body(progress: _Progress) -> int:
        region, _, number = args.broker.partition("/")
        if number and not number.isdigit():
            raise KappaFlowError(f"{args.broker!r} names no broker: write REGION, or REGION/N with a number")
        stack = DevStack(args.dir, on_event=progress.say)
        getattr(stack, args.dev_command)(region, int(number) if number else None)
        progress.stop()
        regions = [one for one in stack.status() if one.region == region]
        if args.json:
            _print_json(args.dev_command, args.dir, regions, [])
        else:
            print(show.tables(regions, []))
        return OK

    return _guarded(args, body)


def _run_logs(args: argparse.Namespace) -> int:
    def body(_: _Progress) -> int:
        stack = DevStack(args.dir, args.regions)
        regions, servers = stack.status(), stack.servers()
        if not regions:
            raise KappaFlowError(f"no dev stack in {args.dir}: start one with `kappaflow dev up`")
        files = {
            show.broker_name(region, broker): broker.log_file
            for region in regions
            for broker in region.brokers
        }
        if args.follow and len(files) != 1:
            raise KappaFlowError(
                f"--follow takes one log: name a region with --regions; there are {', '.join(files)}. "
                "Of several brokers, follow the file itself, as `status --json` names it."
            )
        if args.regions is None and not args.follow:
            files |= {server.kind: server.log_file for server in servers}
        texts = {name: kafka.last_lines(Path(file), args.lines) for name, file in files.items()}
        if args.json:
            print(json.dumps({"command": "logs", "logs": texts}))
            return OK
        for name, text in texts.items():
            if len(texts) > 1:
                print(f"==> {name}: {files[name]} <==")
            print(text, flush=True)
        if args.follow:
            _follow(Path(regions[0].brokers[0].log_file))
        return OK

    return _guarded(args, body)


def _guarded(args: argparse.Namespace, body: Callable[[_Progress], int]) -> int:
    """Runs a command: errors become one message on stderr, an interrupt becomes an exit code."""
    progress = _Progress(quiet=args.dev_command in ("status", "logs"))
    try:
        with _interruptible():
            try:
                return body(progress)
            finally:
                progress.stop()
    except KappaFlowError as error:
        if args.json:
            print(json.dumps({"command": args.dev_command, "error": str(error)}))
        with suppress(OSError):
            print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        with suppress(OSError):
            print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _stay(stack: DevStack, say: Callable[[str], None]) -> int:
    """Watches the Kafkas until a signal comes, or one of them ends; then stops all."""
    say("running; Ctrl-C stops")
    try:
        while True:
            time.sleep(_WATCH_S)
            regions = stack.peek()
            if all(region == "stopped" for region in regions.values()):
                say("stopped by someone else")
                return OK
            for title in stack.dead_servers():
                raise KappaFlowError(f"{title} has ended by itself: see `kappaflow dev logs`")
            dead = [name for name, state in regions.items() if state == "dead"]
            if dead:
                lines = kafka.last_lines(stack.log_file(dead[0]), 20)
                raise KappaFlowError(
                    f"the Kafka of {dead[0]!r} has ended by itself. Its last lines:\n{lines}"
                )
    except KeyboardInterrupt:
        return OK  # the usual end of it
    finally:
        stack.down()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turns the first SIGINT, SIGTERM or SIGHUP into KeyboardInterrupt; later ones don't disturb the end."""
    came = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        if came:
            with suppress(OSError):
                print("still stopping; please wait", file=sys.stderr)
            return
        came = True
        raise KeyboardInterrupt

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before[number] = signal.signal(number, interrupt)
    except ValueError:  # not in the main thread: whoever runs us there has its own ways to stop
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(path: Path) -> None:
    with path.open(encoding="utf-8", errors="replace") as file:
        file.seek(0, 2)
        while True:
            text = file.read()
            if text:
                print(text, end="", flush=True)
            else:
                time.sleep(0.2)


def _print_json(
    command: str,
    directory: Path,
    regions: list[RegionStatus],
    servers: list[ServerStatus],
    **more: object,
) -> None:
    listed = [asdict(region) for region in regions]
    more |= {server.kind: asdict(server) for server in servers}
    print(
        json.dumps({"command": command, "dir": str(directory.absolute()), "regions": listed, **more}),
        flush=True,
    )
