"""Starting the Kafkas of several regions together, all or none."""

import time
from collections.abc import Callable
from pathlib import Path

from kappaflow.dev import kafka, ports, probe, process
from kappaflow.dev.jars import kafka_jars
from kappaflow.dev.java import find_java
from kappaflow.dev.kafka import Home, Runtime
from kappaflow.dev.process import ProcessId
from kappaflow.dev.state import RegionRecord, StackState, save_state
from kappaflow.errors import DevStackError

_POLL_S = 0.1
_TRIES = 3  # for ports that we chose and somebody took before Kafka had bound them


class Start:
    """One start. It writes into `state` what it starts, and saves it as it goes."""

    def __init__(
        self, directory: Path, state: StackState, ready_timeout_s: float, on_event: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._state = state
        self._ready_timeout_s = ready_timeout_s
        self._on_event = on_event
        self._homes: dict[str, Home] = {}
        self._controller_ports: set[int] = set()
        self._free_to_move: set[str] = set()  # regions whose client port we chose in this very start
        self._new: set[str] = set()  # regions that had no data before
        self._launched: dict[str, float] = {}

    def run(self, wanted: dict[str, tuple[Home, int | None]], stop_timeout_s: float) -> None:
        """Starts the regions `wanted` and waits until all answer.

        wanted: by name, the region's directory and port; None for the port kept from before, or a free one.

        On any failure, also an interrupt, it stops those it started before the error goes on.
        """
        self._homes = {name: home for name, (home, _) in wanted.items()}
        known = dict(self._state.regions)
        try:
            for name, (home, port) in wanted.items():
                self._place(name, home, port)
            runtime = Runtime(find_java(), tuple(kafka_jars(self._on_event)))
            self._format(runtime)
            for name in wanted:
                self._launch(name, runtime)
            for name in wanted:
                self._await(name, runtime)
        except BaseException:
            self._undo(known, stop_timeout_s)
            raise

    def await_running(self, name: str, home: Home) -> None:
        """Waits until a Kafka that was started before answers. DevStackError if it does not in time."""
        record = self._state.regions[name]
        deadline = time.monotonic() + self._ready_timeout_s
        while not probe.is_member(record.port, record.cluster_id, kafka.NODE_ID):
            if record.process is None or not process.is_running(record.process):
                raise self._died(name, home)
            if time.monotonic() >= deadline:
                raise DevStackError(
                    f"the Kafka of region {name!r} runs as pid {record.process.pid}, but has not answered on "
                    f"{record.bootstrap_servers} for {self._ready_timeout_s:.0f} s. Stop it with "
                    f"`kappaflow dev down` and start again. Its last lines in {home.log_file}:\n"
                    f"{kafka.last_lines(home.log_file, 15)}"
                )
            time.sleep(_POLL_S)

    def _place(self, name: str, home: Home, wanted: int | None) -> None:
        """Settles the region's port and cluster id, and refuses a port that is taken."""
        before = self._state.regions.get(name)
        port = wanted if wanted is not None else (before.port if before is not None else None)
        if port is None:
            port = ports.choose_free(self._ports_in_use())
            self._free_to_move.add(name)
        else:
            ports.refuse_taken(port, f"the Kafka of region {name!r}")
        for other, record in self._state.regions.items():
            if other != name and record.port == port and name not in self._free_to_move:
                raise DevStackError(
                    f"port {port} is that of region {other!r} here; choose another for {name!r} with --port."
                )
        kept = home.kept_cluster_id()
        if kept is None and home.data.exists() and any(home.data.iterdir()):
            raise DevStackError(
                f"{home.data} holds files but no data of a Kafka (no meta.properties). "
                f"Move them away, delete {home.root}, or use another directory with --dir."
            )
        if kept is None:
            self._new.add(name)
        cluster_id = kept or kafka.new_cluster_id()
        self._state.regions[name] = RegionRecord(port, cluster_id)

    def _format(self, runtime: Runtime) -> None:
        tools: list[tuple[Home, ProcessId]] = []
        for name, home in self._homes.items():
            self._configure(name, home)
            if home.kept_cluster_id() is None:
                record = self._state.regions[name]
                tools.append((home, kafka.start_formatting(home, runtime, record.cluster_id)))
        for home, tool in tools:
            kafka.finish_formatting(home, tool)

    def _configure(self, name: str, home: Home) -> None:
        port = self._state.regions[name].port
        controller_port = ports.choose_free(self._ports_in_use())
        self._controller_ports.add(controller_port)
        kafka.write_config(home, port=port, controller_port=controller_port)

    def _launch(self, name: str, runtime: Runtime) -> None:
        self._on_event(f"starting the Kafka of {name} at {self._state.regions[name].bootstrap_servers}")
        self._launched[name] = time.monotonic()
        self._state.regions[name].process = kafka.launch(self._homes[name], runtime)
        save_state(self._directory, self._state)

    def _await(self, name: str, runtime: Runtime) -> None:
        home = self._homes[name]
        for attempt in range(1, _TRIES + 1):
            try:
                self.await_running(name, home)
            except DevStackError:
                lost_a_race = self._lost_a_race(name)
                if attempt == _TRIES or not lost_a_race:
                    raise
                self._on_event(f"a port chosen for {name} was taken meanwhile: trying others")
                if name in self._free_to_move:
                    self._state.regions[name].port = ports.choose_free(self._ports_in_use())
                else:
                    ports.refuse_taken(self._state.regions[name].port, f"the Kafka of region {name!r}")
                self._configure(name, home)
                self._launch(name, runtime)
            else:
                self._on_event(f"{name} is ready after {time.monotonic() - self._launched[name]:.1f} s")
                return

    def _lost_a_race(self, name: str) -> bool:
        record = self._state.regions[name]
        if record.process is not None and process.is_running(record.process):
            return False
        return "Address already in use" in kafka.last_lines(self._homes[name].log_file, 400)

    def _died(self, name: str, home: Home) -> DevStackError:
        lines = kafka.last_lines(home.log_file, 400)
        why = "it ended while it started"
        if "No space left on device" in lines:
            why = (
                f"no space is left on the disk of {home.root}; free some, or use another directory with --dir"
            )
        elif "Address already in use" in lines:
            port = self._state.regions[name].port
            why = f"port {port} or its controller's port was taken meanwhile; try again"
        elif "OutOfMemoryError" in lines or "insufficient memory" in lines:
            why = f"it had too little memory (it wants {kafka.HEAP_MIB} MiB of heap); end something else"
        return DevStackError(
            f"the Kafka of region {name!r} did not start: {why}. Its last lines in {home.log_file}:\n"
            f"{kafka.last_lines(home.log_file, 20)}"
        )

    def _undo(self, known: dict[str, RegionRecord], stop_timeout_s: float) -> None:
        """Stops what this start launched, and forgets the ports of regions that were never up."""
        running = [
            record.process
            for name, record in self._state.regions.items()
            if name in self._launched and record.process is not None
        ]
        # A formatting, or a Kafka whose launch was interrupted before its record, is found by its own trace,
        # which it leaves within a moment of its start.
        time.sleep(0.1)
        for home in self._homes.values():
            traced = process.from_pid_file(home.pid_file, home.mark)
            if traced is not None and traced not in running:
                running.append(traced)
        if running:
            self._on_event("stopping what was started")
        process.terminate(running, stop_timeout_s)
        for name, home in self._homes.items():
            if name in known:
                known[name].process = None
            elif name in self._new:
                home.remove_data()  # never used; its log is kept, to be read
        self._state.regions = known
        save_state(self._directory, self._state)

    def _ports_in_use(self) -> set[int]:
        taken = {record.port for record in self._state.regions.values()}
        return taken | self._controller_ports
