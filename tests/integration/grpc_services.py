"""gRPC services of this machine that speak the published proto, from stubs that are made as users make theirs."""

import functools
import importlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

SERVICE = "kappaflow.service.v1.Records"


@functools.cache
def stubs() -> ModuleType:
    """The messages, made of what `kappaflow proto` writes."""
    directory = Path(tempfile.mkdtemp(prefix="kappaflow-proto-"))
    make_stubs(directory)
    sys.path.append(str(directory))
    return importlib.import_module("kappaflow_service_pb2")


def make_stubs(directory: Path) -> None:
    """What a user does."""
    run = functools.partial(subprocess.run, check=True, cwd=directory, stdout=subprocess.DEVNULL)
    run([sys.executable, "-m", "kappaflow", "proto", "--out", "."])
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--grpc_python_out=."]
    run([*protoc, "kappaflow_service.proto"])


@dataclass
class Call:
    """A call, as the service sees it."""

    request: Any
    metadata: dict[str, str]
    context: grpc.ServicerContext
    seconds: float
    """Until its deadline, when it came."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(record.json) for record in self.request.records]

    def refuse(self, code: grpc.StatusCode, detail: str, **metadata: str) -> None:
        self.context.set_trailing_metadata([(k.replace("_", "-"), v) for k, v in metadata.items()])
        self.context.abort(code, detail)


def answered(*objects: object) -> Any:
    pb = stubs()
    return pb.Result(answered=pb.Answered(json=[json.dumps(one) for one in objects]))


def filtered(reason: str) -> Any:
    pb = stubs()
    return pb.Result(filtered=pb.Filtered(reason=reason))


def retry(reason: str, after_ms: int = 0) -> Any:
    pb = stubs()
    return pb.Result(retry=pb.Retry(reason=reason, detail="not now", after_ms=after_ms))


def dead_letter(reason: str) -> Any:
    pb = stubs()
    return pb.Result(dead_letter=pb.DeadLetter(reason=reason, detail="no such item"))


def response(*results: Any) -> Any:
    return stubs().ProcessResponse(results=results)


def each(verdict: Callable[[dict[str, Any]], Any]) -> Callable[[Call], Any]:
    """A service that looks at one row after the other."""
    return lambda call: response(*map(verdict, call.rows))


def priced(row: dict[str, Any]) -> Any:
    return answered({"n": row["n"], "price": row["n"] * 2.0})


@dataclass
class Service:
    """A server that can be stopped and started again on its port; it keeps what it was asked."""

    answer: Callable[[Call], Any]
    has_health: bool = True
    tls: grpc.ServerCredentials | None = None
    path: Path | None = None
    """Of a Unix socket, in place of the port."""
    options: dict[str, int] = field(default_factory=dict)
    port: int = 0
    calls: list[Call] = field(default_factory=list)
    checks: list[dict[str, str]] = field(default_factory=list)
    """Metadata of the health checks."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    health: HealthServicer = field(default_factory=HealthServicer)
    server: grpc.Server | None = None

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    @property
    def keys(self) -> list[str]:
        return [record.idempotency_key for call in self.calls for record in call.request.records]

    @property
    def peers(self) -> set[str]:
        """Connections that calls came by."""
        return {call.context.peer() for call in self.calls}

    def serves(self, does: bool) -> None:
        status = health_pb2.HealthCheckResponse
        self.health.set("", status.SERVING if does else status.NOT_SERVING)

    def start(self) -> None:
        def process(request: Any, context: grpc.ServicerContext) -> Any:
            metadata = dict(context.invocation_metadata())
            call = Call(request, metadata, context, context.time_remaining())
            with self.lock:
                self.calls.append(call)
            return self.answer(call)

        handler = grpc.unary_unary_rpc_method_handler(
            process,
            request_deserializer=stubs().ProcessRequest.FromString,
            # Some answer with bytes that are no message.
            response_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
        )
        options = {"grpc.so_reuseport": 0, **self.options}
        pool = futures.ThreadPoolExecutor(32)
        self.server = grpc.server(pool, options=list(options.items()), interceptors=[Watch(self)])
        generic = grpc.method_handlers_generic_handler(SERVICE, {"Process": handler})
        self.server.add_generic_rpc_handlers([generic])
        if self.has_health:
            health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        address = f"127.0.0.1:{self.port}" if self.path is None else f"unix:{self.path}"
        if self.tls is None:
            self.port = self.server.add_insecure_port(address)
        else:
            self.port = self.server.add_secure_port(address, self.tls)
        self.server.start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop(None).wait(30)
            self.server = None


class Watch(grpc.ServerInterceptor):
    """Keeps the metadata of health checks."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        if details.method.endswith("/Check"):
            self.service.checks.append(dict(details.invocation_metadata))
        return continuation(details)


@contextmanager
def serving(answer: Callable[[Call], Any], **more: Any) -> Iterator[Service]:
    service = Service(answer, **more)
    service.start()
    try:
        yield service
    finally:
        service.stop()
