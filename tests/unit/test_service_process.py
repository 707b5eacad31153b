"""The service process, spoken to over its socket as the worker does."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kappaflow.service import answers, context
from kappaflow.service.protocol import DEAD_LETTER, HELD, MARK_BYTES, RETRY, VERSION, Connection

PACKAGES = Path(__file__).parents[2] / "python"
RECORDS = pa.schema([("x", pa.int64())])
ANSWERS = pa.schema([("y", pa.int32()), ("tags", pa.list_(pa.struct([("n", pa.int32())])))])

SERVICE = """
import asyncio, dataclasses, os, signal, sys, time
import pyarrow as pa
from kappaflow.service import Answers, context, contexts

class Skip(Exception): pass
class SkipHarder(Skip): pass
class Broken(Exception): pass

loaded = {}

def load(**options):
    loaded.update(options)

def load_badly(**options):
    raise RuntimeError("no cache at /srv/cache")

def price(record):
    x = record["x"]
    print("a service that prints", x)
    if x == 1: return None
    if x == 2: return [{"y": 1, "tags": []}, {"y": 2, "tags": [{"n": 1}]}]
    if x == 3: raise SkipHarder("skipped,\\n really")
    if x == 4: raise Broken("for good")
    if x == 5: raise ConnectionError("not now")
    if x == 6: return {"y": 1.5}
    if x == 7: return {"y": 1, "z": 2}
    if x == 8: return "text"
    if x == 9: os.kill(os.getpid(), signal.SIGKILL)
    if x == 10: time.sleep(60)
    if x == 11: return []
    if x == 12: return {"y": 1, "tags": [{"n": 2**40}]}
    if x == 13: return {"y": 1, "tags": [{"n": 1, "m": 1}]}
    return {"y": x * loaded.get("factor", 1)}

def key(record):
    call = context()
    return {"y": call.attempt, "tags": [{"n": call.split}, {"n": call.seq}, {"n": call.as_of}]}

async def price_async(record):
    await asyncio.sleep(0.05)
    if record["x"] == 10: await asyncio.sleep(60)
    return {"y": context().seq}

async def stubborn(record):
    while record["x"] == 10:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
    return {"y": 0}

@dataclasses.dataclass
class Row:
    x: int

@dataclasses.dataclass
class Price:
    y: int

# As pydantic's are.
class Model:
    def __init__(self, **values): self.__dict__.update(values)
    @classmethod
    def model_validate(cls, record): return cls(**record)
    def model_dump(self): return dict(self.__dict__)

def typed(row: Row) -> Price:
    return Price(row.x * 2)

def modelled(row: Model) -> Model:
    return Model(y=row.x * 2)

async def typed_async(row: Row) -> Price:
    return Price(row.x * 2)

def batch(records: pa.RecordBatch) -> pa.RecordBatch:
    xs = records["x"].to_pylist()
    for x in xs:
        if x == 4: raise Broken(x)
        if x == 5: raise ConnectionError(x)
    if xs == [6]: return pa.RecordBatch.from_pydict({"y": [1, 2]})
    if xs == [7]: return pa.RecordBatch.from_pydict({"z": [1]})
    return pa.RecordBatch.from_pydict({"y": [x * 10 for x in xs]})

def families(records: pa.RecordBatch) -> Answers:
    rows, of = [], []
    for n, (x, call) in enumerate(zip(records["x"].to_pylist(), contexts())):
        for _ in range(x):
            rows.append({"y": x, "tags": [{"n": call.seq}]})
            of.append(n)
    return Answers(pa.RecordBatch.from_pylist(rows), of)

not_callable = 3
"""


class Process:
    """A service process and the worker's end of its socket."""

    def __init__(
        self, child: subprocess.Popen[bytes], connection: Connection, sock: socket.socket, mark: Path
    ) -> None:
        self.child = child
        self.connection = connection
        self.sock = sock
        self.mark = mark
        self.batches = 0

    def receive(self) -> tuple[dict[str, Any], memoryview]:
        frame = self.connection.receive()
        assert frame is not None
        return frame

    def give(self, values: list[int], attempt: int = 1, lane: list[int | None] | None = None) -> None:
        self.batches += 1
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, RECORDS) as writer:
            writer.write_batch(pa.RecordBatch.from_pylist([{"x": x} for x in values], schema=RECORDS))
        head = {
            "type": "batch",
            "id": self.batches,
            "split": [3] * len(values),
            "seq": list(range(len(values))),
            "lane": lane,
        }
        self.connection.send({**head, "attempt": [attempt] * len(values)}, sink.getvalue().to_pybytes())

    def ask(
        self, values: list[int], attempt: int = 1
    ) -> tuple[list[int], dict[str, list[str]], list[dict[str, Any]]]:
        self.give(values, attempt)
        head, body = self.receive()
        assert (head["type"], head["id"]) == ("answers", self.batches)
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            return head["n"], head["why"], reader.read_all().to_pylist()

    def ask_at_once(
        self, values: list[int]
    ) -> tuple[dict[int, tuple[int, list[str] | None]], dict[int, dict[str, Any]]]:
        """By row, the verdict with its reason, and the answer; from as many frames as it takes."""
        self.give(values)
        verdicts: dict[int, tuple[int, list[str] | None]] = {}
        rows: dict[int, dict[str, Any]] = {}
        while len(verdicts) < len(values):
            head, body = self.receive()
            assert (head["type"], head["id"]) == ("answers", self.batches)
            with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
                answered = iter(reader.read_all().to_pylist())
            for place, (row, n) in enumerate(zip(head["rows"], head["n"], strict=True)):
                assert row not in verdicts
                verdicts[row] = (n, head["why"].get(str(place)))
                if n == 1:
                    rows[row] = next(answered)
        return verdicts, rows

    def marked(self) -> tuple[int, int, int]:
        batch, row, calls = struct.unpack("=QQQ", self.mark.read_bytes())
        return batch, row, calls


@contextmanager
def started(tmp_path: Path, **start: Any) -> Iterator[tuple[Process, dict[str, Any]]]:
    (tmp_path / "service_under_test.py").write_text(SERVICE)
    mark = tmp_path / "mark"
    mark.write_bytes(b"\xff" * MARK_BYTES)
    with socket.socket(socket.AF_UNIX) as listener:
        path = f"/tmp/kf-{os.getpid()}-{time.monotonic_ns()}"
        listener.bind(path)
        listener.listen()
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "kappaflow.service", path],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(PACKAGES)},
        )
        try:
            listener.settimeout(30)
            sock, _ = listener.accept()
            Path(path).unlink()
            with sock:
                sock.settimeout(30)
                process = Process(child, Connection(sock), sock, mark)
                hello, _ = process.receive()
                assert (hello["type"], hello["protocol"], hello["pid"]) == ("hello", VERSION, child.pid)
                head = {
                    "type": "start",
                    "protocol": VERSION,
                    "job": "00000000000000ff",
                    "callable": "service_under_test:price",
                    "warm_up": None,
                    "options": {},
                    "python_path": [str(tmp_path)],
                    "verdicts": {
                        "service_under_test:Skip": "filtered",
                        "service_under_test:Broken": "dead_letter",
                    },
                    "deadline_ms": 1_000,
                    "mark": str(mark),
                    "answer_schema": "answer.avsc",
                    **start,
                }
                process.connection.send(head, ANSWERS.serialize().to_pybytes())
                answer, _ = process.receive()
                yield process, answer
        finally:
            child.kill()
            child.wait()


def test_every_kind_of_answer(tmp_path: Path) -> None:
    warm_up = {"warm_up": "service_under_test:load", "options": {"factor": 10}}
    with started(tmp_path, **warm_up) as (process, ready):
        assert ready == {"type": "ready", "at_once": False}
        n, why, rows = process.ask([0, 1, 2, 3, 4, 5, 11, 20])
        assert n == [1, 0, 2, 0, DEAD_LETTER, RETRY, 0, 1]
        assert why == {
            "1": ["NoAnswer", ""],
            "3": ["SkipHarder", "skipped, really"],
            "4": ["Broken", "for good"],
            "5": ["ConnectionError", "not now"],
            "6": ["NoChildren", ""],
        }
        assert [row["y"] for row in rows] == [0, 1, 2, 200]
        assert process.marked() == (1, 8, 9)
        assert process.ask([1])[0] == [0]


def test_only_the_answer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with started(tmp_path) as (process, _):
        n, why, rows = process.ask([20, 6, 7, 8, 12, 13, 21])
        assert n == [1, DEAD_LETTER, DEAD_LETTER, DEAD_LETTER, DEAD_LETTER, DEAD_LETTER, 1]
        assert [row["y"] for row in rows] == [20, 21]
        assert {reason for reason, _ in why.values()} == {"AnswerMisfit"}
        assert why["1"][1] == "the answer does not fit answer.avsc: field y: 1.5 is no whole number"
        assert why["2"][1] == "the answer does not fit answer.avsc: field 'z' is not in the schema"
        expected = "a dict, a dataclass instance or a model, a list of them, or None"
        assert why["3"][1] == f"the answer is a str: expected {expected}"
        assert "field tags" in why["4"][1]
        assert why["5"][1] == "the answer does not fit answer.avsc: field tags[].m is not in the schema"


def test_the_mark_outlives_the_process(tmp_path: Path) -> None:
    with started(tmp_path) as (process, _):
        process.give([0, 0, 9, 0])
        assert process.connection.receive() is None
        assert process.child.wait(10) == -signal.SIGKILL
        assert process.marked() == (1, 2, 3)


def test_a_call_knows_its_record(tmp_path: Path) -> None:
    with started(tmp_path, callable="service_under_test:key", as_of="x") as (process, _):
        n, _, rows = process.ask([0, 7], attempt=4)
        assert n == [1, 1]
        assert rows[1] == {"y": 4, "tags": [{"n": 3}, {"n": 1}, {"n": 7}]}
    with pytest.raises(LookupError, match="inside a call"):
        context()


def test_async_callables_run_together_and_have_a_deadline(tmp_path: Path) -> None:
    with started(tmp_path, callable="service_under_test:price_async") as (process, ready):
        assert ready == {"type": "ready", "at_once": True}
        began = time.monotonic()
        verdicts, rows = process.ask_at_once(list(range(20, 120)))
        assert time.monotonic() - began < 2
        assert {n for n, _ in verdicts.values()} == {1}
        assert [rows[row]["y"] for row in range(100)] == list(range(100))
        # The late one keeps nobody waiting.
        process.give([10, 0])
        head, _ = process.receive()
        assert (head["rows"], head["n"]) == ([1], [1])
        head, _ = process.receive()
        assert (head["rows"], head["n"]) == ([0], [RETRY])
        assert head["why"] == {"0": ["Deadline", "no answer within 1 s"]}


def test_a_coroutine_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    with started(tmp_path, callable="service_under_test:stubborn", deadline_ms=200) as (process, _):
        verdicts, rows = process.ask_at_once([10, 0])
        assert verdicts[0] == (RETRY, ["Deadline", "no answer within 0.2 s"])
        assert verdicts[1][0] == 1
        assert rows == {1: {"y": 0, "tags": None}}


def test_those_behind_one_that_is_tried_again_are_held(tmp_path: Path) -> None:
    with started(tmp_path) as (process, _):
        process.give([5, 0, 20, 5, 21], lane=[0, 1, 0, None, None])
        head, _ = process.receive()
        assert head["n"] == [RETRY, 1, HELD, RETRY, 1]


def test_a_callable_takes_what_its_annotation_says(tmp_path: Path) -> None:
    for name in ("typed", "modelled", "typed_async"):
        with started(tmp_path, callable=f"service_under_test:{name}") as (process, ready):
            if ready["at_once"]:
                verdicts, rows = process.ask_at_once([3, 4])
                assert [verdicts[row][0] for row in range(2)] == [1, 1]
                assert rows[1]["y"] == 8
            else:
                n, _, answered = process.ask([3, 4])
                assert n == [1, 1], name
                assert [row["y"] for row in answered] == [6, 8]


def test_a_callable_may_take_batches(tmp_path: Path) -> None:
    with started(tmp_path, callable="service_under_test:batch") as (process, _):
        n, _, rows = process.ask([1, 2, 3])
        assert n == [1, 1, 1]
        assert [row["y"] for row in rows] == [10, 20, 30]
        # One of them is in the way: each is called by itself.
        n, why, rows = process.ask([1, 4, 3, 5])
        assert n == [1, DEAD_LETTER, 1, RETRY]
        assert why == {"1": ["Broken", "4"], "3": ["ConnectionError", "5"]}
        assert [row["y"] for row in rows] == [10, 30]
        n, why, _ = process.ask([6])
        assert n == [DEAD_LETTER]
        assert why["0"][0] == "AnswerMisfit"
        assert "2 answers to 1 records" in why["0"][1]
        n, why, _ = process.ask([7])
        assert (n, why["0"][1]) == (
            [DEAD_LETTER],
            "the answer does not fit answer.avsc: field 'z' is not in the schema",
        )
    with started(tmp_path, callable="service_under_test:families") as (process, _):
        n, why, rows = process.ask([0, 2, 1])
        assert n == [0, 2, 1]
        assert why == {"0": ["NoAnswer", ""]}
        # x, and the seq by which the batch knows its records.
        assert [(row["y"], row["tags"]) for row in rows] == [
            (2, [{"n": 1}]),
            (2, [{"n": 1}]),
            (1, [{"n": 2}]),
        ]


def test_it_leaves_with_its_worker_even_in_the_middle_of_a_call(tmp_path: Path) -> None:
    with started(tmp_path) as (process, _):
        process.give([10])
        while process.marked()[0] != 1:
            time.sleep(0.01)
        process.sock.shutdown(socket.SHUT_RDWR)
        assert process.child.wait(5) == 0


def test_ctrl_c_is_the_workers_to_decide(tmp_path: Path) -> None:
    with started(tmp_path) as (process, _):
        process.child.send_signal(signal.SIGINT)
        assert process.ask([0])[0] == [1]


@pytest.mark.parametrize(
    ("start", "step", "expected"),
    [
        (
            {"callable": "nowhere.at_all:f"},
            "import",
            ["there is no module 'nowhere'", "service.python_path has", "put the"],
        ),
        ({"callable": "service_under_test:other"}, "import", ["has no 'other'"]),
        ({"callable": "service_under_test:not_callable"}, "import", ["can't be called"]),
        ({"callable": "price"}, "import", ['expected "module:name"']),
        ({"callable": "breaks:f"}, "import", ["importing breaks raised ZeroDivisionError"]),
        ({"callable": "needs:f"}, "import", ["needs the module 'not_installed_here'"]),
        ({"warm_up": "service_under_test:load_badly"}, "warm_up", ["RuntimeError: no cache at /srv/cache"]),
        ({"verdicts": {"service_under_test:price": "retry"}}, "import", ["is no exception class"]),
        ({"protocol": 99}, "hello", ["speaks protocol 99"]),
    ],
)
def test_a_wrong_start_says_what_to_do(
    tmp_path: Path, start: dict[str, Any], step: str, expected: list[str]
) -> None:
    (tmp_path / "breaks.py").write_text("1 / 0")
    (tmp_path / "needs.py").write_text("import not_installed_here")
    with started(tmp_path, **start) as (process, failed):
        assert (failed["type"], failed["step"]) == ("failed", step)
        for text in expected:
            assert text in failed["reason"]
        if "raised" in failed["reason"]:
            assert failed["lines"]
        assert process.child.wait(5) == 1


def test_its_entry_module_is_light() -> None:
    """No extension module of ours, no Airflow: a process would start with what a task must not."""
    code = """
        import sys
        import kappaflow.service.__main__
        print([m for m in sys.modules if m.startswith(("kappaflow._native", "airflow", "duckdb", "rich"))])
    """
    out = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(PACKAGES)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert json.loads(out.stdout.replace("'", '"')) == []


def test_arrow_alone_would_lose_something() -> None:
    """What `answers` refuses and pyarrow would take."""
    aware = datetime(2013, 1, 1, tzinfo=UTC)
    for type_, value in [
        (pa.int32(), 1.5),
        (pa.int64(), float("nan")),
        (pa.timestamp("us", "UTC"), aware.replace(tzinfo=None)),
        (pa.timestamp("us"), aware),
        (pa.date32(), aware),
        (pa.string(), b"x"),
        (pa.binary(), "x"),
        (pa.map_(pa.string(), pa.int32()), {"a": 1.5}),
    ]:
        schema = pa.schema([("f", type_)])
        with pytest.raises(answers.MisfitError, match="field f"):
            answers.batch([{"f": value}], schema)
        pa.array([None if value != value else value][:0], type_)
    fine = answers.batch([{"f": 2.0}, {"f": None}, {}], pa.schema([("f", pa.int32())]))
    assert fine.to_pylist() == [{"f": 2}, {"f": None}, {"f": None}]
