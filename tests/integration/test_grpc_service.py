"""gRPC services that speak the published proto: real jobs from Parquet to the table."""

import re
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from pathlib import Path

import grpc
import pytest
from confluent_kafka import Producer

import kappaflow
from kappaflow.dev import ports
from kappaflow.dev.secure import Authority
from kappaflow.errors import JobFileError, ServiceError
from tests.integration.grpc_services import (
    Call,
    answered,
    dead_letter,
    each,
    filtered,
    make_stubs,
    priced,
    response,
    retry,
    serving,
)
from tests.integration.http_services import Replay
from tests.integration.stock import eventually, messages

pytestmark = pytest.mark.integration

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def replay(tmp_path: Path, regions: dict[str, str]) -> Replay:
    return Replay(tmp_path, regions["east"])


def test_every_record_has_the_verdict_of_its_result(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICE_TOKEN", "Bearer hush-hush")
    again = set()

    def verdict(row: dict) -> object:
        n = row["n"]
        match n % 10:
            case 1:
                return filtered("Unpriced")
            case 2:
                return dead_letter("NoItem")
            case 3:
                return answered({"n": n, "price": 1.5}, {"n": n, "price": None, "note": "second"})
            case 4:
                return answered({"n": "no number"})
            case 5 if n not in again:
                again.add(n)
                return retry("Busy", after_ms=50)
            case 6:
                return retry("Broken")
            case 7:
                return answered()
        return answered({"n": n, "price": n / 2, "more": "is not asked for"})

    with serving(each(verdict)) as service:
        replay.make(
            600,
            f"""
deadline_ms = 5000
concurrency = 6
max_attempts = 2
as_of = "day"
[service.grpc]
url = "{service.url}"
records = 50
metadata = {{ authorization = "env:PRICE_TOKEN", x-team = "pricing" }}
""",
        )
        replay.publish()
        ledger = replay.work()
    assert (ledger["landed"], ledger["filtered"], ledger["dead_lettered"]) == (300, 120, 180)
    assert ledger["work"]["dead_lettered"] == {"NoItem": 60, "AnswerMisfit": 60, "Broken": 60}
    assert ledger["work"]["filtered"] == {"Unpriced": 60, "NoAnswer": 60}
    assert [row for row in replay.landed() if row["n"] in (0, 3, 5)] == [
        {"n": 0, "price": 0.0, "note": None},
        {"n": 3, "price": 1.5, "note": None},
        {"n": 3, "price": None, "note": "second"},
        {"n": 5, "price": 2.5, "note": None},
    ]
    job = ledger["job"]
    assert Counter(service.keys) == {f"{job}/0/{n}": 2 if n % 10 in (5, 6) else 1 for n in range(600)}
    assert len(service.peers) == 1, "all calls share a connection"
    assert max(len(call.request.records) for call in service.calls) > 10
    for call in service.calls:
        assert {call.metadata[key] for key in ("authorization", "x-team", "x-kappaflow-replay")} == {
            "Bearer hush-hush",
            "pricing",
            job,
        }
        assert re.fullmatch(job + r"/([0-9a-f]{64}|0/\d+)", call.metadata["idempotency-key"])
        assert 0 < call.seconds <= 5
        for record, row in zip(call.request.records, call.rows, strict=True):
            assert (record.as_of, call.request.job) == (row["day"], job)
            assert record.attempt == 1 or row["n"] % 10 in (5, 6)
    (row,) = [row for call in service.calls for row in call.rows if row["n"] == 1]
    assert row == {"n": 1, "item": "item 1 ü/?", "day": "2011-01-27", "photo": "0100ff", "shop": 1}
    assert service.checks[0]["authorization"] == "Bearer hush-hush"
    kept = [path for path in replay.dir.rglob("*") if path.is_file()]
    assert not [path for path in kept if b"hush-hush" in path.read_bytes()]


def test_a_service_that_is_full_is_left_in_peace_and_no_record_pays_for_it(replay: Replay) -> None:
    slots = threading.Semaphore(3)

    def answer(call: Call) -> object:
        if not slots.acquire(blocking=False):
            call.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", grpc_retry_pushback_ms="20")
        try:
            time.sleep(0.01)
            return each(priced)(call)
        finally:
            slots.release()

    with serving(answer) as service:
        grpc_ = f'max_attempts = 1\nconcurrency = 12\n[service.grpc]\nurl = "{service.url}"\nrecords = 4'
        replay.make(400, grpc_)
        replay.publish()
        assert replay.work()["landed"] == 400
    assert len(service.keys) > 400, "some were turned away"


def test_a_service_that_is_down_is_waited_for_until_it_says_that_it_serves(replay: Replay) -> None:
    down = threading.Event()
    early = []

    def answer(call: Call) -> object:
        if len(service.calls) == 25:
            down.set()
        if not_yet.is_set():
            early.append(call)
        return each(priced)(call)

    not_yet = threading.Event()

    def outage() -> None:
        down.wait(60)
        service.stop()
        time.sleep(1)
        service.serves(False)
        not_yet.set()
        service.start()
        checks = len(service.checks)
        eventually(lambda: len(service.checks) >= checks + 2, within_s=30)
        not_yet.clear()
        service.serves(True)

    with serving(answer) as service:
        replay.make(
            600, f'max_attempts = 2\nconcurrency = 4\n[service.grpc]\nurl = "{service.url}"\nrecords = 5'
        )
        replay.publish()
        outages = threading.Thread(target=outage)
        outages.start()
        ledger = replay.work()
        outages.join(60)
    assert (ledger["landed"], ledger["dead_lettered"]) == (600, 0)
    assert not early


def test_nothing_is_consumed_before_the_service_is_ready(replay: Replay) -> None:
    with serving(each(priced)) as service:
        service.serves(False)
        replay.make(50, f'[service.grpc]\nurl = "{service.url}"\nready_ms = 1_000')
        replay.publish()
        with pytest.raises(ServiceError, match=r"not ready within 1 s: it says NOT_SERVING"):
            kappaflow.work(replay.job, region="east")
        assert not service.calls
        threading.Timer(0.5, service.serves, [True]).start()
        assert replay.work()["landed"] == 50
    with pytest.raises(ServiceError, match=r"not ready within 1 s: .*refused"):
        kappaflow.work(replay.job, region="east")


def test_the_name_that_health_is_asked_for(replay: Replay) -> None:
    with serving(each(priced)) as service:
        replay.make(5, f'[service.grpc]\nurl = "{service.url}"\nhealth_service = "prices"')
        replay.publish()
        with pytest.raises(ServiceError, match=r'know no "prices": change service\.grpc\.health_service'):
            kappaflow.work(replay.job, region="east")


def test_a_service_without_health_checks_is_called_all_the_same(replay: Replay) -> None:
    down = threading.Event()

    def answer(call: Call) -> object:
        if len(service.calls) == 10:
            down.set()
        return each(priced)(call)

    def outage() -> None:
        down.wait(60)
        service.stop()
        time.sleep(1)
        service.start()

    told = []
    with serving(answer, has_health=False) as service:
        replay.make(300, f'max_attempts = 2\n[service.grpc]\nurl = "{service.url}"\nrecords = 5')
        replay.publish()
        outages = threading.Thread(target=outage)
        outages.start()
        done = kappaflow.work(replay.job, region="east", on_progress=lambda p: told.append(p["note"]))
        outages.join(60)
    assert done["dead_lettered"] == {}
    assert [note for note in told if "has no grpc.health.v1.Health" in note]


def test_a_call_that_hangs_costs_nobody_but_the_record_to_blame(replay: Replay) -> None:
    hangs = threading.Event()
    tries: Counter[int] = Counter()

    def verdict(row: dict) -> object:
        n = row["n"]
        tries[n] += 1
        if n == 7:
            hangs.wait(60)
        return priced(row)

    with serving(each(verdict)) as service:
        replay.make(
            40, f'deadline_ms = 700\nmax_attempts = 2\n[service.grpc]\nurl = "{service.url}"\nrecords = 8'
        )
        replay.publish()
        ledger = replay.work()
        hangs.set()
    assert (ledger["landed"], ledger["dead_lettered"]) == (39, 1)
    assert ledger["work"]["dead_lettered"] == {"Deadline": 1}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "GrpcInvalidArgument"),
        (grpc.StatusCode.INTERNAL, "GrpcInternal"),
        ("fewer", "AnswerMisfit"),
        ("junk", "AnswerMisfit"),
        ("raises", "GrpcUnknown"),
    ],
)
def test_of_a_batch_that_fails_only_the_record_to_blame_is_a_dead_letter(
    replay: Replay, code: object, reason: str
) -> None:
    def answer(call: Call) -> object:
        if any(row["n"] in (5, 77) for row in call.rows):
            if isinstance(code, grpc.StatusCode):
                call.refuse(code, "one of them")
            match code:
                case "fewer":
                    return response(*map(priced, call.rows[1:]))
                case "junk":
                    return b"\x0a\xff"
                case _:
                    raise RuntimeError("one of them")
        return each(priced)(call)

    with serving(answer) as service:
        replay.make(200, f'max_attempts = 2\n[service.grpc]\nurl = "{service.url}"\nrecords = 20')
        replay.publish()
        ledger = replay.work()
    assert (ledger["landed"], ledger["dead_lettered"]) == (198, 2)
    assert ledger["work"]["dead_lettered"] == {reason: 2}


def test_messages_are_bounded_by_the_job_and_by_the_server(replay: Replay) -> None:
    options = {"grpc.max_receive_message_length": 4_000}
    with serving(each(priced), options=options) as service:
        replay.make(200, f'[service.grpc]\nurl = "{service.url}"\nrecords = 100')
        replay.publish()
        ledger = replay.work()
    assert ledger["landed"] == 200
    assert max(len(call.request.records) for call in service.calls) < 50


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, r"does not know who calls \(Unauthenticated: who are you\?\)"),
        (grpc.StatusCode.PERMISSION_DENIED, r"does not let the worker call it"),
        (grpc.StatusCode.UNIMPLEMENTED, r"has no kappaflow\.service\.v1\.Records/Process"),
    ],
)
def test_what_can_never_go_well_ends_the_worker_and_costs_no_record(
    replay: Replay, code: grpc.StatusCode, told: str
) -> None:
    refused = threading.Event()

    def answer(call: Call) -> object:
        if len(service.calls) > 3 and not refused.is_set():
            call.refuse(code, "who are you?")
        return each(priced)(call)

    with serving(answer) as service:
        replay.make(100, f'max_attempts = 1\n[service.grpc]\nurl = "{service.url}"\nrecords = 5')
        replay.publish()
        with pytest.raises(ServiceError, match=told):
            kappaflow.work(replay.job, region="east")
        refused.set()
        ledger = replay.work()
    assert (ledger["landed"], ledger["dead_lettered"]) == (100, 0)


def test_headers_of_a_record_go_with_it(replay: Replay) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    more = [("traceparent", trace.encode()), ("x-owner", b"\xff\x00")]
    with serving(each(priced)) as service:
        replay.make(20, f'[service.grpc]\nurl = "{service.url}"\nrecords = 1')
        job = kappaflow.dispatch(replay.job)["job"]
        topic = f"{tomllib.loads(replay.job.read_text())['name']}.{job}.east.ingress"
        kappaflow.publish(replay.job)
        # Who traces its records writes them anew, with headers of its own.
        producer = Producer({"bootstrap.servers": replay.servers})
        for message in list(messages(replay.servers, topic)):
            headers = [*message.headers(), *more]
            producer.produce(topic, message.value(), partition=message.partition(), headers=headers)
        assert producer.flush(30) == 0
        assert replay.work()["landed"] == 20
    traced = [call for call in service.calls if "traceparent" in call.metadata]
    assert sorted(row["n"] for call in traced for row in call.rows) == list(range(20))
    for call in traced:
        assert call.metadata["traceparent"] == trace
        (record,) = call.request.records
        assert [(header.name, header.value) for header in record.headers] == more


def test_records_of_a_key_are_called_in_their_order(replay: Replay) -> None:
    seen: dict[int, list[int]] = {}

    def answer(call: Call) -> object:
        shops = [row["shop"] for row in call.rows]
        assert len(set(shops)) == len(shops)
        with service.lock:
            for row in call.rows:
                seen.setdefault(row["shop"], []).append(row["n"])
        return each(priced)(call)

    with serving(answer) as service:
        replay.make(300, f'[service.grpc]\nurl = "{service.url}"', topics='key = ["shop"]')
        replay.publish()
        assert replay.work()["landed"] == 300
    assert all(order == sorted(order) for order in seen.values())


def test_a_service_may_listen_on_a_unix_socket(replay: Replay) -> None:
    with serving(each(priced), path=replay.dir / "service.socket") as service:
        replay.make(50, '[service.grpc]\nurl = "http://prices"\nunix_socket = "service.socket"')
        replay.publish()
        assert replay.work()["landed"] == 50
    assert {call.context.peer() for call in service.calls} == {"unix:"}


def test_a_service_may_ask_for_certificates(replay: Replay) -> None:
    authority = Authority(replay.dir)
    authority.issue("prices", replay.dir / "prices.pem", replay.dir / "prices.key")
    authority.issue("worker", replay.dir / "worker.pem", replay.dir / "worker.key")
    pem = {path.name: path.read_bytes() for path in replay.dir.glob("*.*")}
    tls = grpc.ssl_server_credentials(
        [(pem["prices.key"], pem["prices.pem"])],
        root_certificates=pem["ca.pem"],
        require_client_auth=True,
    )
    own = 'cert_file = "worker.pem"\nkey_file = "worker.key"'
    with serving(each(priced), tls=tls) as service:
        replay.make(
            50,
            f'[service.grpc]\nurl = "{service.url}"\nca_file = "ca.pem"\n{own}\n'
            "connections = 3\nrecords = 2\nready_ms = 1_000",
        )
        replay.publish()
        assert replay.work()["landed"] == 50
        assert len(service.peers) == 3
        text = replay.job.read_text()
        for wrong, message in [
            ('ca_file = "prices.key"\n' + own, r"ca_file prices\.key holds no PEM certificate"),
            ('ca_file = "none.pem"\n' + own, r"can't read ca_file .*none\.pem"),
            ('cert_file = "worker.pem"', r"key_file.*go together"),
            (own, r"not ready within 1 s: .*UnknownIssuer"),
            ('ca_file = "ca.pem"', r"not ready within 1 s: .*"),
        ]:
            replay.job.write_text(text.replace('ca_file = "ca.pem"\n' + own, wrong))
            with pytest.raises(kappaflow.KappaFlowError, match=message):
                kappaflow.work(replay.job, region="east")


@pytest.mark.parametrize(
    ("service", "told"),
    [
        ('[service.grpc]\nurl = "http://x/v1"', r"service\.grpc\.url.*the proto says the path"),
        ('[service.grpc]\nurl = "http://x"\nkib = 9999', r"service\.grpc\.kib.*more than a message"),
        (
            '[service.grpc]\nurl = "http://x"\nmetadata = {authorization = "hush"}',
            r"service\.grpc\.metadata\.authorization.*is a secret",
        ),
        ('warm_up = "m:f"\n[service.grpc]\nurl = "http://x"', r"service\.warm_up.*is called by gRPC"),
        ('warm_up = "m:f"\nnative = "x"', r"service\.warm_up.*this service is in Rust"),
        (
            'http = {url = "http://x"}\n[service.grpc]\nurl = "http://x"',
            r"has both http and grpc: give one of them",
        ),
    ],
)
def test_what_can_not_be_called_is_told_by_its_key(replay: Replay, service: str, told: str) -> None:
    replay.make(1, service)
    with pytest.raises(JobFileError, match=told) as refused:
        kappaflow.dispatch(replay.job)
    assert "hush" not in str(refused.value)


def test_the_service_of_the_docs_answers(replay: Replay) -> None:
    text = (DOCS / "services.md").read_text()
    (code,) = re.findall(r"```python\n(import json\n.*?)```", text, re.S)
    port = ports.choose_free(())
    (replay.dir / "server.py").write_text(code.replace("50051", str(port)))
    make_stubs(replay.dir)
    server = subprocess.Popen([sys.executable, "server.py"], cwd=replay.dir)
    try:
        replay.make(100, f'[service.grpc]\nurl = "http://127.0.0.1:{port}"')
        replay.publish()
        ledger = replay.work()
    finally:
        server.terminate()
        server.wait(30)
    assert (ledger["landed"], ledger["filtered"]) == (80, 20)
