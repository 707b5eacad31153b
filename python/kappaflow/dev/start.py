"""Starting the brokers of several regions together, all or none."""

import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from kappaflow.dev import acls, kafka, ports, probe, process, secure
from kappaflow.dev.jars import KAFKA, class_path
from kappaflow.dev.java import find_java
from kappaflow.dev.kafka import Home, Runtime
from kappaflow.dev.process import ProcessId
from kappaflow.dev.state import (
    CONTROLLER,
    PLAINTEXT,
    BrokerRecord,
    RegionRecord,
    Shape,
    StackState,
    broker_home,
    save_state,
)
from kappaflow.dev.wire import AnswerError
from kappaflow.errors import DevStackError

_POLL_S = 0.1
_TRIES = 3  # for ports that we chose and somebody took before Kafka had bound them


@dataclass(frozen=True)
class Wanted:
    """What to start of a region: these brokers. `port` is the first broker's; None: as before, or a free one."""

    shape: Shape
    brokers: Sequence[int]
    port: int | None = None


class Start:
    """One start. It writes into `state` what it starts, and saves it as it goes."""

    def __init__(
        self,
        directory: Path,
        state: StackState,
        ready_timeout_s: float,
        stop_timeout_s: float,
        on_event: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._state = state
        self._ready_timeout_s = ready_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._on_event = on_event
        self._wanted: Mapping[str, Wanted] = {}
        self._free_to_move: set[tuple[str, int, str]] = set()  # ports that we chose in this very start
        self._new: list[Home] = []  # of brokers that had no data before
        self._launched: dict[str, float] = {}

    def run(self, wanted: Mapping[str, Wanted]) -> None:
        """Starts what is `wanted`, by region, and waits until all of it answers.

        On any failure, also an interrupt, it stops what it started before the error goes on.
        """
        self._wanted = wanted
        known = deepcopy(self._state.regions)
        try:
            for name in wanted:
                self._place(name)
            runtime = Runtime(find_java(), tuple(class_path(KAFKA, self._on_event)))
            self._format(runtime)
            for name in wanted:
                self._launch(name, runtime)
            for name in wanted:
                self._await(name, runtime)
        except BaseException:
            self._undo(known)
            raise

    def await_running(self, name: str, number: int) -> None:
        """Waits until a broker that was started before answers. DevStackError if it does not in time."""
        region = self._state.regions[name]
        broker, home = region.brokers[number], self._home(name, number)
        deadline = time.monotonic() + self._ready_timeout_s
        while not probe.is_member(broker.port, region.cluster_id, number):
            if broker.process is None or not broker.runs():
                raise self._died(name, number)
            if time.monotonic() >= deadline:
                raise DevStackError(
                    f"{region.label(name, number)} runs as pid {broker.process.pid}, but has not answered on "
                    f"{ports.HOST}:{broker.port} for {self._ready_timeout_s:.0f} s. Stop it with "
                    f"`kappaflow dev down` and start again. Its last lines in {home.log_file}:\n"
                    f"{kafka.last_lines(home.log_file, 15)}"
                )
            time.sleep(_POLL_S)

    def _place(self, name: str) -> None:
        """Settles the region's cluster id and the ports of the brokers to start; refuses a port that is taken."""
        wanted = self._wanted[name]
        region = self._state.regions.get(name)
        if region is None:
            kept = (
                self._home(name, number).kept_cluster_id() for number in range(1, wanted.shape.brokers + 1)
            )
            cluster_id = next((one for one in kept if one is not None), None) or kafka.new_cluster_id()
            region = RegionRecord(cluster_id, {}, wanted.shape)
            self._state.regions[name] = region
        whole = not any(broker.runs() for broker in region.brokers.values())
        for number in wanted.brokers:
            before = region.brokers.get(number)
            region.brokers[number] = BrokerRecord(dict(before.ports) if before is not None else {})
            for listener in _listeners(wanted.shape):
                # Controllers' ports stay only while another broker runs that was told them.
                stays = before is not None and (listener != CONTROLLER or not whole)
                self._settle(name, number, listener, stays=stays)
            home = self._home(name, number)
            if home.kept_cluster_id() is None:
                if home.data.exists() and any(home.data.iterdir()):
                    raise DevStackError(
                        f"{home.data} holds files but no data of a Kafka (no meta.properties). "
                        f"Move them away, delete {home.root}, or use another directory with --dir."
                    )
                self._new.append(home)

    def _settle(self, name: str, number: int, listener: str, *, stays: bool) -> None:
        wanted, broker = self._wanted[name], self._state.regions[name].brokers[number]
        asked = wanted.port + number - 1 if wanted.port is not None and listener == PLAINTEXT else None
        kept = broker.ports.pop(listener, None) if stays else None
        port = asked if asked is not None else kept
        if port is None:
            broker.ports[listener] = ports.choose_free(self._state.ports())
            self._free_to_move.add((name, number, listener))
            return
        what = self._state.regions[name].label(name, number)
        ports.refuse_taken(port, what)
        for other, region in self._state.regions.items():
            if any(port in one.ports.values() for one in region.brokers.values()):
                raise DevStackError(
                    f"port {port} is that of region {other!r} here; choose another for {what} with --port."
                )
        broker.ports[listener] = port

    def _format(self, runtime: Runtime) -> None:
        tools: list[tuple[Home, ProcessId]] = []
        for name, wanted in self._wanted.items():
            region = self._state.regions[name]
            if region.shape.secure:
                secure.prepare(self._home(name, 1).secure, wanted.brokers)
            for number in wanted.brokers:
                home = self._home(name, number)
                kafka.write_config(home, number, region)
                if home.kept_cluster_id() is None:
                    tools.append((home, kafka.start_formatting(home, runtime, region)))
        for home, tool in tools:
            kafka.finish_formatting(home, tool)

    def _launch(self, name: str, runtime: Runtime) -> None:
        region, wanted = self._state.regions[name], self._wanted[name]
        self._launched[name] = time.monotonic()
        for number in wanted.brokers:
            broker = region.brokers[number]
            self._on_event(f"starting {region.label(name, number)} at {ports.HOST}:{broker.port}")
            broker.process = kafka.launch(self._home(name, number), runtime, kafka.heap_mib(region.shape))
            save_state(self._directory, self._state)

    def _await(self, name: str, runtime: Runtime) -> None:
        region, wanted = self._state.regions[name], self._wanted[name]
        for attempt in range(1, _TRIES + 1):
            try:
                for number in wanted.brokers:
                    self.await_running(name, number)
            except DevStackError:
                if attempt == _TRIES or not self._lost_a_race(name):
                    raise
                self._on_event(f"a port chosen for {name} was taken meanwhile: trying others")
                self._end([region.brokers[number] for number in wanted.brokers])
                for number in wanted.brokers:
                    for listener in _listeners(region.shape):
                        movable = (name, number, listener) in self._free_to_move
                        self._settle(name, number, listener, stays=not movable)
                for number in wanted.brokers:
                    kafka.write_config(self._home(name, number), number, region)
                self._launch(name, runtime)
            else:
                if region.shape.secure:
                    self._grant(name)
                self._on_event(f"{name} is ready after {time.monotonic() - self._launched[name]:.1f} s")
                return

    def _grant(self, name: str) -> None:
        region, first = self._state.regions[name], self._wanted[name].brokers[0]
        try:
            acls.grant(region.brokers[first].port, secure.acls())
        except AnswerError as error:
            raise DevStackError(
                f"the users of region {name!r} could not be given their rights: {error}"
            ) from error

    def _lost_a_race(self, name: str) -> bool:
        region = self._state.regions[name]
        dead = [number for number in self._wanted[name].brokers if not region.brokers[number].runs()]
        logs = (kafka.last_lines(self._home(name, number).log_file, 400) for number in dead)
        return any("Address already in use" in log for log in logs)

    def _died(self, name: str, number: int) -> DevStackError:
        region, home = self._state.regions[name], self._home(name, number)
        lines = kafka.last_lines(home.log_file, 400)
        why = "it ended while it started"
        if "No space left on device" in lines:
            why = (
                f"no space is left on the disk of {home.root}; free some, or use another directory with --dir"
            )
        elif "Address already in use" in lines:
            taken = ", ".join(str(port) for port in region.brokers[number].ports.values())
            why = f"one of its ports ({taken}) was taken meanwhile; try again"
        elif "OutOfMemoryError" in lines or "insufficient memory" in lines:
            heap_mib = kafka.heap_mib(region.shape)
            why = f"it had too little memory (it wants {heap_mib} MiB of heap); end something else"
        return DevStackError(
            f"{region.label(name, number)} did not start: {why}. Its last lines in {home.log_file}:\n"
            f"{kafka.last_lines(home.log_file, 20)}"
        )

    def _undo(self, known: dict[str, RegionRecord]) -> None:
        """Stops what this start launched, and forgets the ports of regions that were never up."""
        mine = [(name, number) for name, wanted in self._wanted.items() for number in wanted.brokers]
        running: list[ProcessId] = []
        for name, number in mine:
            region = self._state.regions.get(name)
            broker = region.brokers.get(number) if region is not None and name in self._launched else None
            if broker is not None and broker.process is not None:
                running.append(broker.process)
        # A formatting, or a Kafka whose launch was interrupted before its record, is found by its own trace,
        # which it leaves within a moment of its start.
        time.sleep(0.1)
        for name, number in mine:
            home = self._home(name, number)
            traced = process.from_pid_file(home.pid_file, home.mark)
            if traced is not None and traced not in running:
                running.append(traced)
        if running:
            self._on_event("stopping what was started")
        process.terminate(running, self._stop_timeout_s)
        for name, number in mine:
            if name in known and number in known[name].brokers:
                known[name].brokers[number].process = None
        for home in self._new:
            home.format_arguments.unlink(missing_ok=True)
            home.remove_data()  # never used; its log is kept, to be read
        self._state.regions = known
        save_state(self._directory, self._state)

    def _end(self, brokers: Sequence[BrokerRecord]) -> None:
        process.terminate([one.process for one in brokers if one.process is not None], self._stop_timeout_s)

    def _home(self, name: str, number: int) -> Home:
        return Home(broker_home(self._directory, name, number))


def _listeners(shape: Shape) -> list[str]:
    return [PLAINTEXT, *(secure.LISTENERS if shape.secure else ()), CONTROLLER]
