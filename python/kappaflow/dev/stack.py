"""The dev stack: an Apache Kafka a region, and servers beside them, started, watched and stopped together."""

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from kappaflow.dev import process, status
from kappaflow.dev.kafka import Home
from kappaflow.dev.lock import locked
from kappaflow.dev.process import ProcessId
from kappaflow.dev.secure import Access
from kappaflow.dev.server import ServerStatus
from kappaflow.dev.servers import Servers
from kappaflow.dev.start import Start, Wanted
from kappaflow.dev.state import (
    STATE_FILE,
    BrokerRecord,
    Health,
    RegionRecord,
    RegionStatus,
    Shape,
    StackState,
    broker_home,
    check_region_name,
    load_state,
    save_state,
)
from kappaflow.errors import DevStackError

DEFAULT_DIR = Path(".kappaflow/dev")
DEFAULT_REGION = "local"
_NEEDED_BYTES = 300 << 20
_MAX_BROKERS = 9
_MIN_FILE_MIB = 11
_LOCK_TIMEOUT_S = 180.0
_PAUSE_TIMEOUT_S = 5.0


class DevStack:
    """Real Kafkas on loopback, one a region, whose data live in a directory.

    As a context manager it brings its regions up, and at the end stops those that it started itself: Kafkas
    that ran before go on. Data stay; `down(wipe=True)` removes them. Several processes may use one directory.

    directory: where data, logs and the state file are kept; made if absent. Default `.kappaflow/dev`.
    regions: names; by default those that the directory knows, or `local` if it knows none.
    brokers: how many brokers a region's cluster has, each a process of its own that is also one of its controllers;
        by default as many as before, or 1. With three, one may die and records stay to be had.
    min_insync_replicas: on how many brokers a record must be before it is acknowledged; by default 2 where there
        are three brokers or more, else 1.
    secure: whether a region also has listeners with TLS: by password (SCRAM-SHA-512 and PLAIN) or token
        (OAUTHBEARER), by the client's certificate, and one whose own certificate has expired; and rights. `access`
        tells how to connect.
        These three a region keeps from its first start.
    base_port: the port of the first region, the next ones following, one a broker; by default free ports are
        chosen at the first start. Later starts keep them.
    registry: whether `up` also starts a schema registry, for all regions; one that it started before is started
        again anyway.
    registry_port: its port, which also asks for one; by default a free port, kept from then on.
    s3: whether `up` also starts an S3 server, with one bucket, in memory; likewise.
    hdfs: whether `up` also starts an HDFS; likewise. It needs a Java of 17 to 23.
    ready_timeout_s: how long a Kafka may take until it answers. It takes 2 to 6 s if the machine is not busy.
    stop_timeout_s: how long a Kafka may take to end after SIGTERM, before it gets SIGKILL.
    on_event: called with a sentence at each step.

    Methods raise DevStackError, with what to do about it.
    """

    def __init__(
        self,
        directory: str | Path = DEFAULT_DIR,
        regions: Sequence[str] | None = None,
        *,
        brokers: int | None = None,
        min_insync_replicas: int | None = None,
        secure: bool = False,
        base_port: int | None = None,
        registry: bool = False,
        registry_port: int | None = None,
        s3: bool = False,
        hdfs: bool = False,
        ready_timeout_s: float = 90.0,
        stop_timeout_s: float = 20.0,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        if isinstance(regions, str):
            raise DevStackError("regions is a sequence of names, not one string")
        names = list(regions or [])
        for name in names:
            check_region_name(name)
        if len(set(names)) != len(names):
            raise DevStackError(f"a region is named twice in {', '.join(names)}")
        if brokers is not None and not 1 <= brokers <= _MAX_BROKERS:
            raise DevStackError(f"{brokers} brokers: use 1 to {_MAX_BROKERS}")
        if min_insync_replicas is not None and not 1 <= min_insync_replicas <= min(3, brokers or 3):
            raise DevStackError(
                f"min.insync.replicas {min_insync_replicas}: use 1 up to the number of brokers, 3 at most"
            )
        if base_port is not None and not 1 <= base_port <= 65_535 - max(0, len(names) - 1):
            raise DevStackError(f"port {base_port} is out of range: use 1 to 65535, one port a broker")
        if registry_port is not None and not 1 <= registry_port <= 65_535:
            raise DevStackError(f"port {registry_port} is out of range: use 1 to 65535")
        self.directory = Path(directory).expanduser().absolute()
        self._names = names
        self._brokers = brokers
        self._min_insync_replicas = min_insync_replicas
        self._secure = secure
        self._base_port = base_port
        self._ready_timeout_s = ready_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._on_event: Callable[[str], None] = on_event or (lambda _: None)
        self._started_here: set[tuple[str, int]] = set()
        self._servers = Servers(
            self.directory,
            registry=registry,
            registry_port=registry_port,
            s3=s3,
            hdfs=hdfs,
            on_event=self._on_event,
        )

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    # -- all regions

    def up(self) -> list[RegionStatus]:
        """Starts what does not run yet, waits until all answer, and returns their status.

        Safe to call again: what runs is left alone, what died is started on its data. If it fails or is
        interrupted, it stops what it started.
        """
        with self._at_work() as state, self._with_servers(state):
            self._start(state, dict.fromkeys(self._chosen(state)))
        return self.status()

    def down(self, *, wipe: bool = False) -> list[RegionStatus]:
        """Stops the regions (SIGTERM, after `stop_timeout_s` SIGKILL); with `wipe` their data go too.

        Safe to call again, and without a stack. Returns the status of what is left.
        """
        if not self.directory.exists():
            return []
        with self._at_work() as state:
            names = [name for name in (self._names or list(state.regions)) if name in state.regions]
            self._stop(state, {name: list(state.regions[name].brokers) for name in names})
            if not self._names:
                self._servers.stop(self._stop_timeout_s, remove=wipe)
            if wipe:
                for name in names:
                    self._remove(name)
                    del state.regions[name]
                save_state(self.directory, state)
                for log in self.directory.glob("*/broker-*/format.log"):  # what is left of starts that failed
                    if log.parent.parent.name not in state.regions:
                        self._remove(log.parent.parent.name)
                self._on_event(f"removed the data of {', '.join(names)}" if names else "no data to remove")
                if not state.regions:
                    self._remove_traces()
        return self.status()

    def release(self) -> None:
        """Stops the regions that this object started, and leaves the others."""
        if not self.directory.exists() or not (self._started_here or self._servers.started_here):
            return
        with self._at_work() as state:
            self._stop(state, _known(state, self._started_here))
            self._servers.release(self._stop_timeout_s)

    def servers(self) -> list[ServerStatus]:
        """How the servers beside the Kafkas are now, as far as there are any. Changes nothing."""
        return self._servers.status()

    def dead_servers(self) -> list[str]:
        """What the servers are called that have ended without having been asked to. Quick."""
        return self._servers.dead()

    def registry_url(self) -> str:
        """The URL of the schema registry for clients and job files."""
        return self._servers.one("registry").url

    def s3(self) -> ServerStatus:
        """The S3 server; its `options` are those that clients need, with the name of its `bucket`."""
        return self._servers.one("s3")

    def hdfs_url(self) -> str:
        """The URL of the HDFS's name node, `hdfs://HOST:PORT`."""
        return self._servers.one("hdfs").url

    def s3_fail(self, requests: int) -> None:
        """Lets the S3 server answer the next requests by 503 `SlowDown`, as S3 does when it has too many."""
        self._servers.s3.fail(requests)

    def s3_slow(self, every: int, ms: int) -> None:
        """Lets each so many-th PUT from now on be answered so much later than it is done; 0 ends that."""
        self._servers.s3.slow(every, ms)

    def status(self) -> list[RegionStatus]:
        """How each region is now. Asks each running Kafka; changes nothing."""
        state = status.recovered(self.directory, load_state(self.directory))
        names = [name for name in (self._names or list(state.regions)) if name in state.regions]
        return [status.of_region(self.directory, name, state.regions[name]) for name in names]

    def peek(self) -> dict[str, Health]:
        """As `status`, but by the processes alone, which is quick: *running* says nothing about answering."""
        state = status.recovered(self.directory, load_state(self.directory))
        names = [name for name in (self._names or list(state.regions)) if name in state.regions]
        return {name: status.peek(state.regions[name]) for name in names}

    def bootstrap(self, region: str | None = None) -> str:
        """A region's `host:port,…` for `bootstrap.servers`. With but one region its name may be left out."""
        return self._one(region)[1].bootstrap_servers

    def access(self, region: str | None = None) -> Access:
        """How clients connect to a region's secure listeners. With but one region its name may be left out."""
        name, record = self._one(region)
        found = status.access(self.directory, name, record)
        if found is None:
            raise DevStackError(
                f"region {name!r} has no secure listeners: `kappaflow dev up --secure` makes a region with them."
            )
        return found

    def log_file(self, region: str, broker: int = 1) -> Path:
        """The file with what a region's broker prints."""
        self._numbers(load_state(self.directory), region, broker)
        return self._home(region, broker).log_file

    # -- one region, or one of its brokers (`broker`: its number, from 1; None: all)

    def start(self, region: str, broker: int | None = None) -> RegionStatus:
        """Starts a region, or a broker, on its data if it has any, and waits until it answers.

        Of three brokers one does not answer by itself: two are needed for a quorum.
        """
        check_region_name(region)
        with self._at_work() as state:
            self._start(state, {region: broker})
            return status.of_region(self.directory, region, state.regions[region])

    def stop(self, region: str, broker: int | None = None) -> None:
        """Stops a region, or a broker, cleanly."""
        with self._at_work() as state:
            self._stop(state, {region: self._numbers(state, region, broker)})

    def restart(self, region: str, broker: int | None = None) -> RegionStatus:
        """Stops a region, or a broker, cleanly and starts it on its data, at the same port."""
        with self._at_work() as state:
            self._stop(state, {region: self._numbers(state, region, broker)})
            self._start(state, {region: broker})
            return status.of_region(self.directory, region, state.regions[region])

    def kill(self, region: str, broker: int | None = None) -> None:
        """Ends a region's brokers, or one, by SIGKILL, as a crash does. `start` brings them up on their data."""
        with self._at_work() as state:
            for found in self._running(state, region, broker):
                process.kill(found)

    def pause(self, region: str, broker: int | None = None) -> None:
        """Halts a region's brokers, or one, by SIGSTOP: the port takes connections, and nothing answers."""
        with self._at_work() as state:
            for found in self._running(state, region, broker):
                process.send(found, process.STOP)
                process.wait_paused(found, _PAUSE_TIMEOUT_S)

    def resume(self, region: str, broker: int | None = None) -> None:
        """Lets paused brokers go on."""
        with self._at_work() as state:
            for found in self._running(state, region, broker):
                process.send(found, process.CONTINUE)

    def fill(self, region: str, broker: int | None = None, *, file_mib: int = 16) -> None:
        """Lets a region's brokers, or one, find no room: from now on no file of theirs grows beyond `file_mib` MiB.

        Kafka takes it as it takes a full disk: the append fails, the directory is given up, and with it, being the
        only one, the broker. A later `start` is without the limit. Linux only.
        """
        if file_mib < _MIN_FILE_MIB:
            raise DevStackError(
                f"{file_mib} MiB: use {_MIN_FILE_MIB} or more, since Kafka's empty indexes are large"
            )
        with self._at_work() as state:
            for found in self._running(state, region, broker):
                process.limit_files(found, file_mib << 20)

    # -- inner

    @contextmanager
    def _at_work(self) -> Iterator[StackState]:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DevStackError(
                f"cannot make the directory {self.directory} ({error.strerror}). "
                "Choose one that you may write to, with --dir."
            ) from error
        lock = self.directory / "lock"
        with locked(lock, timeout_s=_LOCK_TIMEOUT_S, on_wait=self._on_event):
            yield status.recovered(self.directory, load_state(self.directory))

    @contextmanager
    def _with_servers(self, state: StackState) -> Iterator[None]:
        """Around the start of the Kafkas: the servers start meanwhile. All or nothing."""
        before = set(self._started_here)
        self._check_space()
        try:
            with self._servers.starting(state.ports(), self._ready_timeout_s, self._stop_timeout_s):
                yield
        except BaseException:
            self._stop(state, _known(state, self._started_here - before))
            raise

    def _start(self, state: StackState, targets: Mapping[str, int | None]) -> None:
        """Starts the regions, or one broker of a region, that don't run, and waits for those that do."""
        self._check_space()
        start = Start(self.directory, state, self._ready_timeout_s, self._stop_timeout_s, self._on_event)
        fresh: dict[str, Wanted] = {}
        for name, broker in targets.items():
            record = state.regions.get(name)
            shape = self._shape(name, record)
            every = list(range(1, shape.brokers + 1))
            numbers = every if broker is None else self._numbers(state, name, broker)
            dead: list[int] = []
            for number in numbers:
                known = record.brokers.get(number) if record is not None else None
                if known is None or known.process is None or not known.runs():
                    dead.append(number)
                    continue
                self._refuse_to_move(name, number, known, shape)
                process.send(known.process, process.CONTINUE)  # in case it is paused
            if dead:
                fresh[name] = Wanted(shape, dead, self._wanted_port(name, shape))
        for name, broker in targets.items():
            if name not in fresh:
                for number in [broker] if broker is not None else state.regions[name].brokers:
                    start.await_running(name, number)
                self._on_event(f"{name} is already up at {state.regions[name].bootstrap_servers}")
        if fresh:
            start.run(fresh)
            self._started_here |= {
                (name, number) for name, wanted in fresh.items() for number in wanted.brokers
            }

    def _shape(self, name: str, record: RegionRecord | None) -> Shape:
        """What the region is to be made with; refuses what it was not made with."""
        if record is None:
            brokers = self._brokers or 1
            return Shape(brokers, self._min_insync_replicas or (2 if brokers >= 3 else 1), self._secure)
        shape = record.shape
        asked = Shape(
            self._brokers or shape.brokers,
            self._min_insync_replicas or shape.min_insync_replicas,
            self._secure or shape.secure,
        )
        if asked != shape:
            raise DevStackError(
                f"region {name!r} was made with brokers={shape.brokers}, min.insync.replicas="
                f"{shape.min_insync_replicas} and secure={shape.secure}, and keeps that. Make another region, "
                "or this one anew after `kappaflow dev down --wipe`."
            )
        return shape

    def _refuse_to_move(self, name: str, number: int, broker: BrokerRecord, shape: Shape) -> None:
        first = self._wanted_port(name, shape)
        if first is not None and first + number - 1 != broker.port:
            raise DevStackError(
                f"region {name!r} already runs on port {broker.port}; to move it to {first + number - 1}, "
                "run `kappaflow dev down` first."
            )

    def _stop(self, state: StackState, targets: Mapping[str, Sequence[int]]) -> None:
        chosen = [
            (state.regions[name].label(name, number), state.regions[name].brokers[number])
            for name, numbers in targets.items()
            for number in numbers
        ]
        running = {
            broker.process: label for label, broker in chosen if broker.process is not None and broker.runs()
        }
        if running:
            self._on_event(f"stopping {', '.join(running.values())}")
        outcome = process.terminate(list(running), self._stop_timeout_s)
        for one, how in outcome.items():
            if how == "killed":
                self._on_event(
                    f"{running[one]} did not end within {self._stop_timeout_s:.0f} s of SIGTERM and was killed"
                )
        for _, broker in chosen:
            broker.process = None
        self._started_here -= {(name, number) for name, numbers in targets.items() for number in numbers}
        if targets:
            save_state(self.directory, state)

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.directory).free
        if free < _NEEDED_BYTES:
            raise DevStackError(
                f"no space: {self.directory} has {free >> 20} MiB free; Kafka wants "
                f"{_NEEDED_BYTES >> 20} MiB. Free some, or choose a directory on another disk with --dir."
            )

    def _remove_traces(self) -> None:
        (self.directory / STATE_FILE).unlink(missing_ok=True)
        (self.directory / "lock").unlink(missing_ok=True)
        with suppress(OSError):  # something else may be kept there
            self.directory.rmdir()

    def _chosen(self, state: StackState) -> list[str]:
        return self._names or list(state.regions) or [DEFAULT_REGION]

    def _wanted_port(self, name: str, shape: Shape) -> int | None:
        if self._base_port is None:
            return None
        names = self._names or [DEFAULT_REGION]
        return self._base_port + names.index(name) * shape.brokers if name in names else None

    def _home(self, name: str, number: int) -> Home:
        return Home(broker_home(self.directory, name, number))

    def _remove(self, name: str) -> None:
        try:
            shutil.rmtree(self.directory / name)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise DevStackError(f"cannot remove {self.directory / name} ({error}).") from error

    def _one(self, region: str | None) -> tuple[str, RegionRecord]:
        state = load_state(self.directory)
        if region is None:
            names = self._chosen(state)
            if len(names) != 1:
                raise DevStackError(f"which region? There are {', '.join(names)}.")
            region = names[0]
        return region, self._record(state, region)

    def _record(self, state: StackState, region: str) -> RegionRecord:
        record = state.regions.get(region)
        if record is None:
            known = ", ".join(state.regions) or "none: run `kappaflow dev up` first"
            raise DevStackError(f"no region {region!r} in {self.directory}; known regions: {known}.")
        return record

    def _numbers(self, state: StackState, region: str, broker: int | None) -> list[int]:
        brokers = self._record(state, region).brokers
        if broker is None:
            return list(brokers)
        if broker not in brokers:
            known = ", ".join(str(number) for number in brokers)
            raise DevStackError(f"no broker {broker} in region {region!r}; its brokers: {known}.")
        return [broker]

    def _running(self, state: StackState, region: str, broker: int | None) -> list[ProcessId]:
        found: list[ProcessId] = []
        for number in self._numbers(state, region, broker):
            one = state.regions[region].brokers[number]
            if one.process is None or not one.runs():
                raise DevStackError(f"{state.regions[region].label(region, number)} does not run.")
            found.append(one.process)
        return found


def _known(state: StackState, brokers: Collection[tuple[str, int]]) -> dict[str, list[int]]:
    """Those of these brokers that are (still) known, by region."""
    return {
        name: numbers
        for name, region in state.regions.items()
        if (numbers := [number for number in region.brokers if (name, number) in brokers])
    }
