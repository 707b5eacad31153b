"""What a worker tells of itself while it works: its page as Prometheus reads it, its probes, and OTLP to a receiver."""

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import kappaflow
from kappaflow.dev import ports
from kappaflow.errors import ListenError
from tests.integration.http_services import Answer, Replay, Request, said, serving

pytestmark = pytest.mark.integration
Figures = dict[str, dict[tuple[tuple[str, str], ...], float]]
ALONE: tuple[tuple[str, str], ...] = ()
"""The labels of a figure that has but one sample."""


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scrape(address: str) -> Figures:
    """Values by sample and by the labels that tell its samples apart."""
    status, page = get(address, "/metrics")
    assert status == 200
    own = {
        *("messaging_system", "messaging_destination_name", "messaging_consumer_group_name"),
        *("kappaflow_service", "kappaflow_region"),
    }
    found: Figures = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            assert own <= set(sample.labels), sample
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k not in own))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


@contextmanager
def receiver(port: int) -> Iterator[list[ExportMetricsServiceRequest]]:
    """A receiver of metrics over OTLP/HTTP: what it was sent."""
    received: list[ExportMetricsServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/metrics"
            assert self.headers["Content-Type"] == "application/x-protobuf"
            assert self.headers["x-tenant"] == "flights"
            received.append(ExportMetricsServiceRequest.FromString(body))
            answer = ExportMetricsServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()


def test_a_worker_shows_its_figures_while_it_works_and_sends_them(
    tmp_path: Path, regions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{ports.choose_free(())}"
    collector = ports.choose_free(())
    for name, value in {
        "ENDPOINT": f"http://127.0.0.1:{collector}",
        "HEADERS": "x-tenant=flights",
    }.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
    go_on = threading.Event()

    def answer(request: Request) -> Answer:
        n = request.record["n"]
        if n >= 100:
            go_on.wait()
        if n % 10 == 1:
            return 204, {}, b""
        if n % 10 == 2:
            return said({"error": "no such item"}, 404)
        return said({"n": n, "price": n / 2})

    with serving(answer) as service, receiver(collector) as received:
        replay = Replay(tmp_path, regions["east"]).make(
            300, f'deadline_ms = 60000\nconcurrency = 4\n[service.http]\nurl = "{service.url}"'
        )
        replay.publish()
        command = [sys.executable, "-m", "kappaflow", "work", str(replay.job), "--listen", address, "--json"]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            seen = _until_it_stands_still(address)
            assert seen["kappaflow_worker_in_flight"][ALONE] == 4
            assert seen["kappaflow_worker_limit"][ALONE] == 4
            assert seen["kappaflow_worker_oldest_open_seconds"][ALONE] > 0
            consumed = seen["messaging_client_consumed_messages_total"].values()
            # What is answered, with the service, and held beside: not all that there is.
            assert 104 <= sum(consumed) <= 300
            assert all(seconds >= 0 for seconds in seen["kappaflow_worker_lag_seconds"].values())
            assert get(address, "/healthz") == (200, "alive\n")
            assert get(address, "/readyz") == (200, "ready\n")
            assert json.loads(_when_known(address)) == {"desired_replicas": 1}
            with pytest.raises(ListenError, match=f"{address}.*--listen"):
                kappaflow.work(replay.job, region="east", listen=address)
        finally:
            go_on.set()
            out, _ = worker.communicate(timeout=120)
        assert worker.returncode == 0
    summary = json.loads(out.splitlines()[-1])
    assert (summary["read"], summary["answered"]) == (300, 240)
    _sent(received, summary)


def _until_it_stands_still(address: str) -> Figures:
    """Until the first hundred are done, the service has four more, and the worker knows how many are left."""
    done = with_service = left = -1.0
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            seen = scrape(address)
        except OSError:
            time.sleep(0.2)
            continue
        done, with_service = (
            seen["kappaflow_worker_read_total"][ALONE],
            seen["kappaflow_worker_in_flight"][ALONE],
        )
        left = sum(seen.get("kappaflow_worker_lag_records", {}).values())
        if (done, with_service, left) == (100, 4, 200):
            return seen
        time.sleep(0.2)
    raise AssertionError(f"done {done}, with the service {with_service}, left {left}")


def _when_known(address: str) -> str:
    """How many workers there should be, once the worker knows what a call takes."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        status, said_so = get(address, "/replicas")
        if status == 200:
            return said_so
        time.sleep(0.2)
    raise AssertionError("the worker never said how many there should be")


def _sent(received: list[ExportMetricsServiceRequest], summary: dict[str, object]) -> None:
    """The last export has the figures of the end."""
    [resource] = received[-1].resource_metrics
    names = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert names["service.name"] == "kappaflow-worker"
    metrics = {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}
    assert metrics["kappaflow.worker.read"].sum.is_monotonic
    [point] = metrics["kappaflow.worker.read"].sum.data_points
    assert point.as_double == summary["read"]
    attributes = {item.key for item in point.attributes}
    assert {"messaging.system", "messaging.destination.name", "messaging.consumer.group.name"} <= attributes
    reasons = metrics["kappaflow.worker.dead_lettered"].sum.data_points
    assert sum(point.as_double for point in reasons) == 30
    duration = metrics["messaging.process.duration"]
    assert duration.unit == "s"
    assert sum(point.count for point in duration.histogram.data_points) == 300
    assert list(duration.histogram.data_points[0].explicit_bounds)[:2] == [0.005, 0.01]
