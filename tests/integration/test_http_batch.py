"""HTTP services that take several records with one request: a real job from Parquet to the table."""

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import kappaflow
from kappaflow.errors import JobFileError
from tests.integration.http_services import Answer, Replay, Request, said, serving

pytestmark = pytest.mark.integration


@pytest.fixture
def replay(tmp_path: Path, regions: dict[str, str]) -> Replay:
    return Replay(tmp_path, regions["east"])


def priced(record: dict[str, Any]) -> object:
    n = record["n"]
    if n % 10 == 1:
        return None
    if n % 10 == 2:
        return {"error": "no such item"}
    if n % 10 == 3:
        return [{"n": n, "price": 1.5}, {"n": n, "price": None, "note": "second"}]
    if n % 10 == 4:
        return {"n": "no number"}
    return {"n": n, "price": n / 2}


def batched(request: Request) -> Answer:
    if request.headers["content-type"] == "application/json":
        return said([priced(record) for record in request.records])
    lines = b"".join(said(priced(record))[2] + b"\n" for record in request.records)
    return 200, {}, lines


@pytest.mark.parametrize("shape", ["", 'format = "lines"\nkey_field = "id"'], ids=["list", "lines"])
def test_an_element_is_the_answer_to_its_record(replay: Replay, shape: str) -> None:
    with serving(batched) as service:
        replay.make(
            600,
            f"""
concurrency = 3
as_of = "day"
[service.http]
url = "{service.url}/prices"
[service.http.batch]
records = 50
linger_ms = 50
error_field = "error"
{shape}
""",
        )
        replay.publish()
        ledger = replay.work()
    assert (ledger["landed"], ledger["filtered"], ledger["dead_lettered"]) == (420, 60, 120)
    assert ledger["work"]["dead_lettered"] == {"ServiceError": 60, "AnswerMisfit": 60}
    rows = replay.landed()
    assert len(rows) == 480
    assert [row for row in rows if row["n"] in (3, 5)] == [
        {"n": 3, "price": 1.5, "note": None},
        {"n": 3, "price": None, "note": "second"},
        {"n": 5, "price": 2.5, "note": None},
    ]
    assert 12 <= len(service.requests) < 60
    assert service.most_at_once <= 3
    job = ledger["job"]
    keys: Counter[str] = Counter()
    for request in service.requests:
        records = request.records
        assert len(records) <= 50
        assert request.headers["x-kappaflow-replay"] == job
        if "id" in records[0]:
            named = [record["id"] for record in records]
        elif len(records) > 1:
            named = [f"{job}/{key}" for key in request.headers["x-kappaflow-keys"].split(",")]
        else:
            named = [request.headers["idempotency-key"]]
        assert named == [f"{job}/0/{record['n']}" for record in records]
        # A day of their own each.
        assert ("x-kappaflow-as-of" in request.headers) == (len(records) == 1)
        keys.update(named)
    assert set(keys.values()) == {1} and len(keys) == 600
    assert len({request.headers["idempotency-key"] for request in service.requests}) == len(service.requests)


def test_one_record_never_costs_its_neighbours(replay: Replay) -> None:
    calls: Counter[int] = Counter()
    hangs = threading.Event()

    def answer(request: Request) -> Answer:
        ns = [record["n"] for record in request.records]
        with service.lock:
            calls.update(ns)
        if 7 in ns:
            return said("no such item", 422)
        if 77 in ns:
            return said([{"n": n} for n in ns[1:]])
        if 177 in ns:
            return said("broken", 500)
        if 277 in ns:
            hangs.wait(60)
        return said([{"n": n} for n in ns])

    with serving(answer) as service:
        http = f'url = "{service.url}"\nbatch = {{ records = 64, linger_ms = 20 }}'
        replay.make(400, f"deadline_ms = 700\nmax_attempts = 2\nconcurrency = 4\n[service.http]\n{http}")
        replay.publish()
        ledger = replay.work()
        hangs.set()
    assert (ledger["landed"], ledger["dead_lettered"]) == (396, 4)
    assert ledger["work"]["dead_lettered"] == {"Http422": 1, "AnswerMisfit": 1, "Http500": 1, "Deadline": 1}
    assert max(calls[n] for n in (7, 77)) <= 7, "64 is halved six times"
    assert max(calls[n] for n in (177, 277)) <= 8, "and the second attempt"
    assert max(calls.values()) <= 8


def test_a_service_that_is_full_is_left_in_peace(replay: Replay) -> None:
    slots = threading.Semaphore(2)

    def answer(request: Request) -> Answer:
        if not slots.acquire(blocking=False):
            return 503, {"Retry-After": "0"}, b"full"
        try:
            time.sleep(0.01)
            return said([{"n": record["n"]} for record in request.records])
        finally:
            slots.release()

    with serving(answer) as service:
        http = f'url = "{service.url}"\nbatch = {{ records = 10 }}'
        replay.make(400, f"max_attempts = 1\nconcurrency = 6\n[service.http]\n{http}")
        replay.publish()
        ledger = replay.work()
    assert ledger["landed"] == 400
    full = Counter(len(request.records) for request in service.requests)
    assert full[10] > 20, f"none went apart for it: {full}"


def test_records_of_a_key_never_share_a_request_and_keep_their_order(replay: Replay) -> None:
    seen: dict[int, list[int]] = {}

    def answer(request: Request) -> Answer:
        records = request.records
        assert len({record["shop"] for record in records}) == len(records)
        time.sleep(0.002 * (records[0]["n"] % 3))
        if len(records) > 1 and any(record["n"] % 50 == 13 for record in records):
            return said("one of you", 400)
        with service.lock:
            for record in records:
                seen.setdefault(record["shop"], []).append(record["n"])
        return said([{"n": record["n"]} for record in records])

    with serving(answer) as service:
        http = f'url = "{service.url}"\nbatch = {{ records = 5 }}'
        replay.make(300, f"concurrency = 3\n[service.http]\n{http}", topics='key = ["shop"]')
        replay.publish()
        ledger = replay.work()
    assert ledger["landed"] == 300
    assert sum(map(len, seen.values())) == 300
    assert all(order == sorted(order) for order in seen.values())
    assert max(len(request.records) for request in service.requests) > 1


@pytest.mark.parametrize(
    ("http", "told"),
    [
        ('url = "http://x/{n}"', r"service\.http\.url.*\"n\" of a record"),
        ('url = "http://x"\nheaders = {x-n = "{n}"}', r"headers\.x-n.*\"n\" of a record"),
        ('url = "http://x"\nmethod = "GET"', r"service\.http\.body.*is none"),
        ('url = "http://x"\nanswer = {body = "text", text_field = "note"}', r"answer\.body.*is text"),
        ('url = "http://x"\nbatch.records = 0', r"batch\.records.*expected 1 to 10000"),
        ('url = "http://x"\nbatch.records = 501', r"batch\.records.*key_field"),
        ('url = "http://x"\nbatch.key_field = "n"', r"batch\.key_field.*a field \"n\" itself"),
        ('url = "http://x"\nbody = {field = "item"}\nbatch.key_field = "id"', r"key_field.*is for body"),
    ],
)
def test_what_can_not_be_a_batch_is_told_by_its_key(replay: Replay, http: str, told: str) -> None:
    records = "" if "batch.records" in http else "\nbatch.records = 10"
    replay.make(1, f"[service.http]\n{http}{records}")
    with pytest.raises(JobFileError, match=told):
        kappaflow.dispatch(replay.job)
