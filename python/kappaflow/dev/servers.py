"""The servers beside the Kafkas, together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kappaflow.dev.hdfs import Hdfs
from kappaflow.dev.registry import Registry
from kappaflow.dev.s3 import S3
from kappaflow.dev.server import Server, ServerStatus
from kappaflow.errors import DevStackError


class Servers:
    """Those of one stack: once one was started here, it is part of the stack until it is removed."""

    def __init__(
        self,
        directory: Path,
        *,
        registry: bool,
        registry_port: int | None,
        s3: bool,
        hdfs: bool,
        on_event: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self.registry = Registry(directory / Registry.kind, on_event)
        self.s3 = S3(directory / S3.kind, on_event)
        self._all: tuple[Server, ...] = (self.registry, self.s3, Hdfs(directory / Hdfs.kind, on_event))
        self._ports = {Registry.kind: registry_port}
        asked = {Registry.kind: registry or registry_port is not None, S3.kind: s3, Hdfs.kind: hdfs}
        self._wanted = {kind for kind, wanted in asked.items() if wanted}
        self.started_here: set[str] = set()

    def status(self) -> list[ServerStatus]:
        """How they are now, as far as there are any."""
        return [found for server in self._all if (found := server.status()) is not None]

    def one(self, kind: str) -> ServerStatus:
        """How one is now. DevStackError if there is none here."""
        for found in self.status():
            if found.kind == kind:
                return found
        titles = {server.kind: server.title for server in self._all}
        raise DevStackError(
            f"{titles[kind]} is not in {self._directory}: run `kappaflow dev up --{kind}` first."
        )

    def dead(self) -> list[str]:
        """What they are called that have ended without having been asked to. Quick."""
        return [server.title for server in self._all if server.has_died()]

    @contextmanager
    def starting(self, avoid: set[int], ready_timeout_s: float, stop_timeout_s: float) -> Iterator[None]:
        """Starts them, and when the block is done waits until they answer. On any failure they are stopped again."""
        launched: list[Server] = []
        try:
            for server in self._all:
                wanted = server.kind in self._wanted or server.known()
                if wanted and server.launch(self._ports.get(server.kind), avoid):
                    launched.append(server)
            yield
            for server in self._all:
                server.await_ready(ready_timeout_s)
        except BaseException:
            for server in launched:
                server.stop(stop_timeout_s)
            raise
        self.started_here.update(server.kind for server in launched)

    def stop(self, timeout_s: float, *, remove: bool) -> None:
        """Stops all; with `remove` their data go too."""
        for server in self._all:
            if server.known():
                server.stop(timeout_s)
                if remove:
                    server.remove()

    def release(self, timeout_s: float) -> None:
        """Stops those that this object started."""
        for server in self._all:
            if server.kind in self.started_here:
                server.stop(timeout_s)
        self.started_here.clear()
