"""The dev stack: one Apache Kafka a region, and a schema registry, started, watched and stopped together."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from kappaflow.dev import kafka, probe, process
from kappaflow.dev.kafka import Home
from kappaflow.dev.lock import locked
from kappaflow.dev.process import ProcessId
from kappaflow.dev.registry import Registry, RegistryStatus
from kappaflow.dev.start import Start
from kappaflow.dev.state import (
    REGISTRY,
    STATE_FILE,
    Health,
    RegionRecord,
    RegionStatus,
    StackState,
    check_region_name,
    load_state,
    save_state,
)
from kappaflow.errors import DevStackError

DEFAULT_DIR = Path(".kappaflow/dev")
DEFAULT_REGION = "local"
_NEEDED_BYTES = 300 << 20
_LOCK_TIMEOUT_S = 180.0
_PAUSE_TIMEOUT_S = 5.0


class DevStack:
    """Real Kafkas on loopback, one a region, whose data live in a directory.

    As a context manager it brings its regions up, and at the end stops those that it started itself: Kafkas
    that ran before go on. Data stay; `down(wipe=True)` removes them. Several processes may use one directory.

    directory: where data, logs and the state file are kept; made if absent. Default `.kappaflow/dev`.
    regions: names; by default those that the directory knows, or `local` if it knows none.
    base_port: the port of the first region, the next ones following; by default free ports are chosen at the
        first start. Later starts keep them.
    registry: whether `up` also starts a schema registry, for all regions; one that it started before is started
        again anyway.
    registry_port: its port, which also asks for one; by default a free port, kept from then on.
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
        base_port: int | None = None,
        registry: bool = False,
        registry_port: int | None = None,
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
        if base_port is not None and not 1 <= base_port <= 65_535 - max(0, len(names) - 1):
            raise DevStackError(f"port {base_port} is out of range: use 1 to 65535, one port a region")
        if registry_port is not None and not 1 <= registry_port <= 65_535:
            raise DevStackError(f"port {registry_port} is out of range: use 1 to 65535")
        self.directory = Path(directory).expanduser().absolute()
        self._names = names
        self._base_port = base_port
        self._ready_timeout_s = ready_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._on_event: Callable[[str], None] = on_event or (lambda _: None)
        self._started_here: set[str] = set()
        self._registry = Registry(self.directory / REGISTRY, self._on_event)
        self._registry_wanted = registry or registry_port is not None
        self._registry_port = registry_port

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
        with self._at_work() as state, self._with_registry(state):
            self._start(state, self._chosen(state))
        return self.status()

    def down(self, *, wipe: bool = False) -> list[RegionStatus]:
        """Stops the regions (SIGTERM, after `stop_timeout_s` SIGKILL); with `wipe` their data go too.

        Safe to call again, and without a stack. Returns the status of what is left.
        """
        if not self.directory.exists():
            return []
        with self._at_work() as state:
            names = [name for name in (self._names or list(state.regions)) if name in state.regions]
            self._stop(state, names)
            if not self._names and self._registry.known():
                self._registry.stop(self._stop_timeout_s)
                if wipe:
                    self._registry.remove()
            if wipe:
                for name in names:
                    self._home(name).remove()
                    del state.regions[name]
                save_state(self.directory, state)
                for log in self.directory.glob("*/format.log"):  # what is left of starts that failed
                    if log.parent.name not in state.regions:
                        self._home(log.parent.name).remove()
                self._on_event(f"removed the data of {', '.join(names)}" if names else "no data to remove")
                if not state.regions:
                    self._remove_traces()
        return self.status()

    def release(self) -> None:
        """Stops the regions that this object started, and leaves the others."""
        if not self._started_here or not self.directory.exists():
            return
        with self._at_work() as state:
            self._stop(state, [name for name in state.regions if name in self._started_here])
            if REGISTRY in self._started_here:
                self._registry.stop(self._stop_timeout_s)
                self._started_here.discard(REGISTRY)

    def registry(self) -> RegistryStatus | None:
        """How the schema registry is now; None if there is none here. Changes nothing."""
        return self._registry.status()

    def registry_has_died(self) -> bool:
        """True if the schema registry has ended without having been asked to. Quick."""
        return self._registry.has_died()

    def registry_url(self) -> str:
        """The URL of the schema registry for clients and job files."""
        found = self._registry.status()
        if found is None:
            raise DevStackError(
                f"no schema registry in {self.directory}: run `kappaflow dev up --registry` first."
            )
        return found.url

    def status(self) -> list[RegionStatus]:
        """How each region is now. Asks each running Kafka; changes nothing."""
        state = self._recovered(load_state(self.directory))
        names = [name for name in (self._names or list(state.regions)) if name in state.regions]
        return [self._status_of(name, state.regions[name]) for name in names]

    def peek(self) -> dict[str, Health]:
        """As `status`, but by the processes alone, which is quick: *running* says nothing about answering."""
        state = self._recovered(load_state(self.directory))
        names = [name for name in (self._names or list(state.regions)) if name in state.regions]
        return {name: self._health(state.regions[name], ask=False) for name in names}

    def bootstrap(self, region: str | None = None) -> str:
        """A region's `host:port` for `bootstrap.servers`. With but one region its name may be left out."""
        state = load_state(self.directory)
        if region is None:
            names = self._chosen(state)
            if len(names) != 1:
                raise DevStackError(f"which region? There are {', '.join(names)}.")
            region = names[0]
        return self._record(state, region).bootstrap_servers

    def log_file(self, region: str) -> Path:
        """The file with what the region's Kafka prints."""
        self._record(load_state(self.directory), region)
        return self._home(region).log_file

    # -- one region

    def start(self, region: str) -> RegionStatus:
        """Starts one region, on its data if it has any, and waits until it answers."""
        check_region_name(region)
        with self._at_work() as state:
            self._start(state, [region])
            return self._status_of(region, state.regions[region])

    def stop(self, region: str) -> None:
        """Stops one region cleanly."""
        with self._at_work() as state:
            self._record(state, region)
            self._stop(state, [region])

    def restart(self, region: str) -> RegionStatus:
        """Stops one region cleanly and starts it on its data, at the same port."""
        with self._at_work() as state:
            self._record(state, region)
            self._stop(state, [region])
            self._start(state, [region])
            return self._status_of(region, state.regions[region])

    def kill(self, region: str) -> None:
        """Ends one region's Kafka by SIGKILL, as a crash does. `start` brings it up on its data."""
        with self._at_work() as state:
            process.kill(self._running(state, region))

    def pause(self, region: str) -> None:
        """Halts one region's Kafka by SIGSTOP: its port takes connections, and nothing answers."""
        with self._at_work() as state:
            found = self._running(state, region)
            process.send(found, process.STOP)
            process.wait_paused(found, _PAUSE_TIMEOUT_S)

    def resume(self, region: str) -> None:
        """Lets a paused Kafka go on."""
        with self._at_work() as state:
            process.send(self._running(state, region), process.CONTINUE)

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
            yield self._recovered(load_state(self.directory))

    @contextmanager
    def _with_registry(self, state: StackState) -> Iterator[None]:
        """Around the start of the Kafkas: the registry starts meanwhile, if there is to be one. All or nothing."""
        launched = False
        before = set(self._started_here)
        try:
            if self._registry_wanted or self._registry.known():
                self._check_space()
                taken = {record.port for record in state.regions.values()}
                launched = self._registry.launch(self._registry_port, taken)
            yield
            self._registry.await_ready(self._ready_timeout_s)
        except BaseException:
            self._stop(state, [name for name in state.regions if name in self._started_here - before])
            if launched:
                self._registry.stop(self._stop_timeout_s)
            raise
        if launched:
            self._started_here.add(REGISTRY)

    def _start(self, state: StackState, names: list[str]) -> None:
        self._check_space()
        awaited: list[str] = []
        for name in names:
            record = state.regions.get(name)
            if record is None or record.process is None or not process.is_running(record.process):
                continue
            wanted = self._wanted_port(name)
            if wanted is not None and wanted != record.port:
                raise DevStackError(
                    f"region {name!r} already runs on port {record.port}; to move it to {wanted}, "
                    "run `kappaflow dev down` first."
                )
            process.send(record.process, process.CONTINUE)  # in case it is paused
            awaited.append(name)
        start = Start(self.directory, state, self._ready_timeout_s, self._on_event)
        for name in awaited:
            start.await_running(name, self._home(name))
            self._on_event(f"{name} is already up at {state.regions[name].bootstrap_servers}")
        fresh = [name for name in names if name not in awaited]
        if fresh:
            start.run(
                {name: (self._home(name), self._wanted_port(name)) for name in fresh}, self._stop_timeout_s
            )
            self._started_here.update(fresh)

    def _stop(self, state: StackState, names: list[str]) -> None:
        running: dict[str, ProcessId] = {}
        for name in names:
            found = state.regions[name].process
            if found is not None and process.is_running(found):
                running[name] = found
        if running:
            self._on_event(f"stopping {', '.join(running)}")
        outcome = process.terminate(list(running.values()), self._stop_timeout_s)
        for name in names:
            record = state.regions[name]
            if name in running and outcome[running[name]] == "killed":
                self._on_event(
                    f"{name} did not end within {self._stop_timeout_s:.0f} s of SIGTERM and was killed"
                )
            record.process = None
            self._started_here.discard(name)
        if names:
            save_state(self.directory, state)

    def _recovered(self, state: StackState) -> StackState:
        """The state, with what the region's directories tell beyond it: a starter may have died half-way."""
        for config in sorted(self.directory.glob("*/server.properties")):
            home = Home(config.parent)
            name, port, cluster_id = home.root.name, home.kept_port(), home.kept_cluster_id()
            if name not in state.regions and port is not None and cluster_id is not None:
                state.regions[name] = RegionRecord(port, cluster_id)
        for name, record in state.regions.items():
            if record.process is None or not process.is_running(record.process):
                home = self._home(name)
                found = process.from_pid_file(home.pid_file, home.mark)
                record.process = found if found is not None else record.process
        return state

    def _status_of(self, name: str, record: RegionRecord) -> RegionStatus:
        home = self._home(name)
        health = self._health(record, ask=True)
        return RegionStatus(
            region=name,
            state=health,
            bootstrap_servers=record.bootstrap_servers,
            cluster_id=record.cluster_id,
            pid=record.process.pid
            if record.process is not None and health not in ("dead", "stopped")
            else None,
            directory=str(home.root),
            log_file=str(home.log_file),
        )

    def _health(self, record: RegionRecord, *, ask: bool) -> Health:
        if record.process is None:
            return "stopped"
        if not process.is_running(record.process):
            return "dead"
        if process.is_paused(record.process):
            return "paused"
        if not ask or probe.is_member(record.port, record.cluster_id, kafka.NODE_ID):
            return "running"
        return "unresponsive"

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

    def _wanted_port(self, name: str) -> int | None:
        if self._base_port is None:
            return None
        names = self._names or [DEFAULT_REGION]
        return self._base_port + names.index(name) if name in names else None

    def _home(self, name: str) -> Home:
        return Home(self.directory / name)

    def _record(self, state: StackState, region: str) -> RegionRecord:
        record = state.regions.get(region)
        if record is None:
            known = ", ".join(state.regions) or "none: run `kappaflow dev up` first"
            raise DevStackError(f"no region {region!r} in {self.directory}; known regions: {known}.")
        return record

    def _running(self, state: StackState, region: str) -> ProcessId:
        found = self._record(state, region).process
        if found is None or not process.is_running(found):
            raise DevStackError(f"the Kafka of region {region!r} does not run.")
        return found
