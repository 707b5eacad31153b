"""HTTP services, called as they are: a real job from Parquet to the table."""

import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer

import kappaflow
from kappaflow.dev.secure import Authority
from kappaflow.errors import JobFileError
from tests.integration.http_services import Answer, Replay, Request, said, serving
from tests.integration.stock import eventually, messages

pytestmark = pytest.mark.integration


@pytest.fixture
def replay(tmp_path: Path, regions: dict[str, str]) -> Replay:
    return Replay(tmp_path, regions["east"])


def test_every_record_is_called_once_and_its_answer_lands(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRICE_TOKEN", "Bearer hush-hush")

    def answer(request: Request) -> Answer:
        time.sleep(0.005)
        record = request.record
        n = record["n"]
        if n % 10 == 1:
            return 204, {}, b""
        if n % 10 == 2:
            return said({"error": "no such item"}, 404)
        if n % 10 == 3:
            return said([{"n": n, "price": 1.5}, {"n": n, "price": None, "note": "second"}])
        if n % 10 == 4:
            return said({"n": "no number"})
        return said({"n": n, "price": n / 2, "more": "is not asked for"})

    with serving(answer) as service:
        replay.make(
            600,
            f"""
deadline_ms = 5000
concurrency = 6
[service.http]
url = "{service.url}/v1/price/{{n}}"
query = {{ day = "{{day}}", item = "{{item}}" }}
headers = {{ authorization = "env:PRICE_TOKEN", x-row = "row {{n}}" }}
""",
        )
        replay.publish()
        ledger = replay.work()
    assert (ledger["landed"], ledger["filtered"], ledger["dead_lettered"]) == (420, 60, 120)
    assert ledger["work"]["dead_lettered"] == {"Http404": 60, "AnswerMisfit": 60}
    rows = replay.landed()
    assert len(rows) == 480
    assert [row for row in rows if row["n"] in (0, 3, 5)] == [
        {"n": 0, "price": 0.0, "note": None},
        {"n": 3, "price": 1.5, "note": None},
        {"n": 3, "price": None, "note": "second"},
        {"n": 5, "price": 2.5, "note": None},
    ]
    assert len(service.requests) == 600
    assert 2 <= service.most_at_once <= 6
    job = ledger["job"]
    keys = Counter(request.headers["idempotency-key"] for request in service.requests)
    assert set(keys) == {f"{job}/0/{n}" for n in range(600)}
    by_n = {request.record["n"]: request for request in service.requests}
    assert by_n[1].path == "/v1/price/1?day=2011-01-27&item=item+1+%C3%BC%2F%3F"
    assert by_n[5].path == "/v1/price/5?day=2011-01-31"
    assert by_n[1].record == {"n": 1, "item": "item 1 ü/?", "day": "2011-01-27", "photo": "0100ff", "shop": 1}
    for header, value in {
        "authorization": "Bearer hush-hush",
        "x-row": "row 1",
        "x-kappaflow-replay": job,
        "content-type": "application/json",
    }.items():
        assert by_n[1].headers[header] == value
    kept = [path for path in replay.dir.rglob("*") if path.is_file()]
    assert not [path for path in kept if b"hush-hush" in path.read_bytes()]


def test_a_service_that_is_full_is_left_in_peace_and_no_record_pays_for_it(replay: Replay) -> None:
    slots = threading.Semaphore(3)

    def answer(request: Request) -> Answer:
        if not slots.acquire(blocking=False):
            return 503, {"Retry-After": "0"}, b"full"
        try:
            time.sleep(0.01)
            return said({"n": request.record["n"]})
        finally:
            slots.release()

    with serving(answer) as service:
        http = f'max_attempts = 1\nconcurrency = 12\n[service.http]\nurl = "{service.url}"'
        replay.make(300, http)
        replay.publish()
        ledger = replay.work()
    assert ledger["landed"] == 300
    assert len(service.requests) > 300, "some were turned away"


def test_a_service_that_is_down_is_waited_for(replay: Replay) -> None:
    down = threading.Event()

    def answer(request: Request) -> Answer:
        if len(service.requests) == 100 and not down.is_set():
            down.set()
        return said({"n": request.record["n"]})

    def outage() -> None:
        down.wait(60)
        service.stop()
        time.sleep(2)
        service.start()

    with serving(answer) as service:
        http = f'max_attempts = 2\nconcurrency = 4\n[service.http]\nurl = "{service.url}"'
        replay.make(400, http)
        replay.publish()
        service.stop()
        starts = threading.Timer(2, service.start)
        starts.start()
        outages = threading.Thread(target=outage)
        outages.start()
        ledger = replay.work()
        outages.join(60)
    assert ledger["landed"] == 400


def test_what_fails_is_tried_again_and_then_a_dead_letter(replay: Replay) -> None:
    tries: Counter[int] = Counter()
    hangs = threading.Event()

    def answer(request: Request) -> Answer:
        n = request.record["n"]
        tries[n] += 1
        if n == 7:
            hangs.wait(60)
        if n == 8:
            return said("broken", 500)
        if n == 9 and tries[n] < 3:
            return said("broken", 500)
        return said({"n": n})

    with serving(answer) as service:
        http = f'deadline_ms = 700\nmax_attempts = 3\n[service.http]\nurl = "{service.url}"'
        replay.make(30, http)
        replay.publish()
        ledger = replay.work()
        hangs.set()
    assert (ledger["landed"], ledger["dead_lettered"]) == (28, 2)
    assert ledger["work"]["dead_lettered"] == {"Deadline": 1, "Http500": 1}
    assert (tries[7], tries[8], tries[9], tries[10]) == (3, 3, 3, 1)


def test_a_worker_leaves_a_service_that_hangs(replay: Replay) -> None:
    hangs = threading.Event()

    def answer(request: Request) -> Answer:
        hangs.wait(120)
        return said({"n": request.record["n"]})

    with serving(answer) as service:
        http = f'deadline_ms = 100000\nconcurrency = 4\n[service.http]\nurl = "{service.url}"'
        replay.make(30, http)
        replay.publish()
        command = [sys.executable, "-m", "kappaflow", "work", str(replay.job), "--region", "east"]
        worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        eventually(lambda: len(service.requests) == 4, within_s=60)
        worker.send_signal(signal.SIGTERM)
        _, err = worker.communicate(timeout=30)
        hangs.set()
        assert worker.returncode not in (0, -signal.SIGKILL), err
        assert "Traceback" not in err
        assert replay.work()["landed"] == 30


def test_a_body_and_an_answer_as_the_job_maps_them(replay: Replay) -> None:
    egress = {
        "type": "record",
        "name": "Seen",
        "fields": [
            {"name": "n", "type": "long"},
            {"name": "text", "type": "string"},
            {"name": "status", "type": "int"},
            {"name": "cost", "type": ["null", "string"]},
        ],
    }

    def answer(request: Request) -> Answer:
        return 202, {"X-Cost": str(len(request.body))}, request.body.hex().encode()

    with serving(answer) as service:
        http = f"""
[service.http]
url = "{service.url}"
method = "PUT"
body = {{ field = "photo" }}
statuses = {{ 202 = "answer" }}
[service.http.answer]
body = "text"
text_field = "text"
status_field = "status"
headers = {{ cost = "x-cost" }}
carry = ["n"]
"""
        replay.make(20, http, egress)
        replay.publish()
        replay.work()
    assert replay.landed()[3] == {"n": 3, "text": "0300ff", "status": 202, "cost": "3"}
    assert {request.method for request in service.requests} == {"PUT"}
    assert service.requests[0].headers["content-type"] == "application/octet-stream"


def test_records_of_a_key_are_called_in_their_order(replay: Replay) -> None:
    seen: dict[int, list[int]] = {}

    def answer(request: Request) -> Answer:
        record = request.record
        time.sleep(0.002 * (record["n"] % 3))
        with service.lock:
            seen.setdefault(record["shop"], []).append(record["n"])
        return said({"n": record["n"]})

    with serving(answer) as service:
        http = f'concurrency = 8\n[service.http]\nurl = "{service.url}"'
        replay.make(300, http, topics='key = ["shop"]')
        replay.publish()
        replay.work()
    assert sum(map(len, seen.values())) == 300
    assert all(order == sorted(order) for order in seen.values())
    assert service.most_at_once > 1


@pytest.mark.parametrize(
    ("http", "told"),
    [
        ('url = "http://x/{nn}"', r"service\.http\.url.*no field \"nn\"; it has: n, item, day, photo, shop"),
        ('url = "http://x/{n"', r"service\.http\.url.*a brace without its other half"),
        ('url = "http://me:hush@x"', r"service\.http\.url.*a user name or a password"),
        ('url = "ftp://x"', r"service\.http\.url.*expected http://HOST"),
        ('url = "http://x"\nheaders = {Authorization = "hush"}', r"headers\.Authorization.*is a secret"),
        ('url = "http://x"\nstatuses = {6xx = "retry"}', r"statuses\.6xx.*is no status"),
        ('url = "http://x"\nanswer = {body = "text"}', r"answer\.text_field.*is missing"),
        ('url = "http://x"\nanswer = {carry = ["m"]}', r"answer\.carry.*no field \"m\""),
        (
            'url = "http://x"\nanswer = {status_field = "m"}',
            r"answer\.status_field.*egress schema has no field",
        ),
        ('url = "http://x"\nbody = {field = "m"}', r"body\.field.*no field \"m\""),
    ],
)
def test_what_can_not_be_called_is_told_by_its_key(replay: Replay, http: str, told: str) -> None:
    replay.make(1, f"[service.http]\n{http}")
    with pytest.raises(JobFileError, match=told) as refused:
        kappaflow.dispatch(replay.job)
    assert "hush" not in str(refused.value)


def test_a_service_is_a_callable_or_an_endpoint(replay: Replay) -> None:
    replay.make(1, "")
    with pytest.raises(JobFileError, match="has neither callable nor http"):
        kappaflow.dispatch(replay.job)
    text = replay.job.read_text().replace(
        'version = "1"', 'version = "1"\ncallable = "m:f"\nhttp = {url = "http://x"}'
    )
    replay.job.write_text(text)
    with pytest.raises(JobFileError, match="has both callable and http"):
        kappaflow.dispatch(replay.job)


def doubled(request: Request) -> Answer:
    return said({"n": request.record["n"], "price": request.record["n"] * 2.0})


def test_calls_say_as_of_when_their_record_is_meant(replay: Replay) -> None:
    with serving(doubled) as service:
        replay.make(50, f'as_of = "day"\n[service.http]\nurl = "{service.url}"')
        replay.publish()
        assert replay.work()["landed"] == 50
    for request in service.requests:
        assert request.headers["x-kappaflow-as-of"] == request.record["day"]


def test_headers_of_a_record_are_carried_on(replay: Replay) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    more = [("traceparent", trace.encode()), ("x-owner", b"\xff\x00")]

    def answer(request: Request) -> Answer:
        n = request.record["n"]
        return said({"n": n}) if n % 2 else said("no", 400)

    with serving(answer) as service:
        replay.make(20, f'[service.http]\nurl = "{service.url}"')
        job = kappaflow.dispatch(replay.job)["job"]
        name = tomllib.loads(replay.job.read_text())["name"]
        topics = {role: f"{name}.{job}.east.{role}" for role in ("ingress", "egress", "deadletter")}
        kappaflow.publish(replay.job)
        # Who traces its records writes them anew, with headers of its own.
        producer = Producer({"bootstrap.servers": replay.servers})
        for message in list(messages(replay.servers, topics["ingress"])):
            producer.produce(
                topics["ingress"],
                message.value(),
                partition=message.partition(),
                headers=[*message.headers(), *more],
            )
        assert producer.flush(30) == 0
        ledger = replay.work()
    assert (ledger["landed"], ledger["dead_lettered"]) == (10, 10)
    traced = [r for r in service.requests if "traceparent" in r.headers]
    assert sorted(r.record["n"] for r in traced) == list(range(20))
    assert {r.headers["traceparent"] for r in traced} == {trace}
    for role in ("egress", "deadletter"):
        found = [m.headers() for m in messages(replay.servers, topics[role])]
        assert len(found) == 20
        assert sum(1 for headers in found if headers[-2:] == more) == 10


def test_as_of_must_be_a_field(replay: Replay) -> None:
    replay.make(1, 'as_of = "noon"\n[service.http]\nurl = "http://x"')
    with pytest.raises(JobFileError, match=r'service\.as_of.*no field "noon"'):
        kappaflow.dispatch(replay.job)


def test_a_service_may_listen_on_a_unix_socket(replay: Replay) -> None:
    with serving(doubled, path=replay.dir / "service.socket") as service:
        replay.make(50, '[service.http]\nurl = "http://prices/v1"\nunix_socket = "service.socket"')
        replay.publish()
        assert replay.work()["landed"] == 50
    assert {(r.path, r.headers["host"]) for r in service.requests} == {("/v1", "prices")}


def test_a_service_may_ask_for_certificates(replay: Replay) -> None:
    authority = Authority(replay.dir)
    authority.issue("prices", replay.dir / "prices.pem", replay.dir / "prices.key")
    authority.issue("worker", replay.dir / "worker.pem", replay.dir / "worker.key")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(replay.dir / "prices.pem", replay.dir / "prices.key")
    tls.load_verify_locations(replay.dir / "ca.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    own = 'cert_file = "worker.pem"\nkey_file = "worker.key"'
    with serving(doubled, tls=tls) as service:
        replay.make(50, f'[service.http]\nurl = "{service.url}"\nca_file = "ca.pem"\n{own}')
        replay.publish()
        assert replay.work()["landed"] == 50
    text = replay.job.read_text()
    for wrong, message in [
        ('ca_file = "prices.key"\n' + own, r"ca_file prices\.key holds no PEM certificate"),
        ('ca_file = "none.pem"\n' + own, r"can't read ca_file .*none\.pem"),
        ('cert_file = "worker.pem"', r"key_file.*go together"),
    ]:
        replay.job.write_text(text.replace('ca_file = "ca.pem"\n' + own, wrong))
        with pytest.raises(kappaflow.KappaFlowError, match=message):
            kappaflow.work(replay.job, region="east")


JAVA = """
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

public class Prices {
    public static void main(String[] args) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 64);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/price", exchange -> {
            exchange.getRequestBody().readAllBytes();
            String n = exchange.getRequestURI().getPath().substring("/price/".length());
            byte[] body = ("{\\"n\\": " + n + ", \\"price\\": " + n + ".25}").getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
        System.out.println(server.getAddress().getPort());
    }
}
"""


# Another language's service: the Java that the dev stack brings can neither compile nor serve HTTP, so this takes a JDK
# of the machine's. All that it shows of KappaFlow is tested above too.
@pytest.mark.skipif(shutil.which("javac") is None, reason="there is no JDK to compile the service with")
def test_a_service_of_the_jvm_is_replayed_as_it_is(replay: Replay) -> None:
    (replay.dir / "Prices.java").write_text(JAVA)
    command = ["java", str(replay.dir / "Prices.java")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as java:
        try:
            assert java.stdout is not None
            port = int(java.stdout.readline())
            url = f"http://127.0.0.1:{port}/price/{{n}}"
            replay.make(500, f'concurrency = 8\n[service.http]\nurl = "{url}"')
            replay.publish()
            ledger = replay.work()
        finally:
            java.terminate()
    assert ledger["landed"] == 500
    assert replay.landed()[8] == {"n": 8, "price": 8.25, "note": None}
