"""Whatever dies under a publish: exact counts, or a clear failure and then an exact resume."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from kappaflow.dev import DevStack
from tests.integration.publishing import ROWS, Case, finished, make, secured
from tests.integration.stock import eventually

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """A Kafka of these tests alone."""
    with DevStack(tmp_path_factory.mktemp("dev")) as stack:
        yield stack


@pytest.fixture
def case(one: DevStack, tmp_path: Path, request: pytest.FixtureRequest) -> Case:
    name = request.node.name.removeprefix("test_").replace("[", "-").replace("]", "")[:60]
    case = make(tmp_path / "job", one.bootstrap(), name)
    case.ok("dispatch")
    return case


def test_a_broker_that_is_away_for_twenty_seconds(one: DevStack, case: Case) -> None:
    publisher = case.start()
    time.sleep(3)
    one.stop("local")
    time.sleep(20)
    one.start("local")
    code, out, err = finished(publisher)
    assert code == 0, err
    case.exact(json.loads(out.splitlines()[-1]))


def test_a_broker_that_dies_for_good(one: DevStack, case: Case) -> None:
    case.edit("broker_timeout_ms = 60000", "broker_timeout_ms = 4000")
    publisher = case.start()
    time.sleep(3)
    one.kill("local")
    try:
        code, _, err = finished(publisher)
        assert code == 1
        assert "acknowledged" in err, err
        assert "Traceback" not in err
    finally:
        one.start("local")
    case.edit("broker_timeout_ms = 4000", "broker_timeout_ms = 60000")
    receipt = case.ok("publish")
    case.exact(receipt, receipt["doubled"])


@pytest.mark.parametrize("transactional", [False, True])
def test_kill_9_at_twenty_random_moments(case: Case, transactional: bool) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    moments = random.Random(seed)
    if transactional:
        case.edit("[topics]", "[topics]\ntransactional = true")
    case.edit("max_rows_per_s = 10000", "max_rows_per_s = 4000")
    for _ in range(20):
        publisher = case.start()
        time.sleep(moments.uniform(0.3, 1.6))
        publisher.send_signal(signal.SIGKILL)
        finished(publisher)
    case.edit("max_rows_per_s = 4000", "max_rows_per_s = 1000000")
    receipt = case.ok("publish")
    # A killed client's last batches may arrive after its successor has looked: they are there twice, and landing keeps
    # one. What the receipt tells is what the last publisher saw.
    # In transactions those are given up.
    ids = case.ingress()
    assert set(ids) == set(range(ROWS))
    assert (receipt["acknowledged"], receipt["rejected"]) == (ROWS, 0)
    if transactional:
        assert (receipt["doubled"], ids.total()) == (0, ROWS)


def test_a_full_disk_where_rejects_are_written(one: DevStack, tmp_path: Path) -> None:
    bad = range(7, ROWS, 10)
    case = make(tmp_path / "job", one.bootstrap(), "full-disk", bad=bad)
    case.edit("max_rows_per_s = 10000\n", "")
    case.ok("dispatch")
    # No file may grow beyond 2 MiB, and the rejects of the first split do.
    command = ["bash", "-c", 'ulimit -f 2048; exec "$@"', "bash", *case.command("publish")]
    full = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert full.returncode == 1, full.stderr
    assert "rejects" in full.stderr and "File too large" in full.stderr, full.stderr
    # No half a file is there; what could be kept of later splits is.
    assert set(case.kept_rejects()) < set(bad)
    assert not list(case.dir.glob(".kappaflow/*/rejects/*.tmp"))
    case.exact(case.ok("publish"))
    assert case.kept_rejects() == list(bad)
    assert case.dead_letters() == len(bad)


def test_sigterm_stops_it_within_five_seconds_and_it_goes_on(case: Case) -> None:
    publisher = case.start()
    time.sleep(3)
    begun = time.monotonic()
    publisher.terminate()
    code, _, err = finished(publisher)
    assert time.monotonic() - begun < 5
    assert code == 130, err
    case.exact(case.ok("publish"))


def test_two_publishers_at_once_one_says_so(case: Case) -> None:
    first = case.start()
    time.sleep(2.5)
    second = case.run("publish")
    assert second.returncode == 1
    assert "being published by another process" in second.stderr
    code, out, err = finished(first)
    assert code == 0, err
    case.exact(json.loads(out.splitlines()[-1]))


def test_a_topic_that_is_deleted_under_way(one: DevStack, case: Case) -> None:
    case.edit("broker_timeout_ms = 60000", "broker_timeout_ms = 5000")
    publisher = case.start()
    time.sleep(3)
    topic = f"{case.name}.ingress"
    admin = AdminClient({"bootstrap.servers": one.bootstrap()})
    admin.delete_topics([topic])[topic].result(20)
    code, _, err = finished(publisher)
    assert code == 1
    assert topic in err
    again = case.run("publish")
    assert again.returncode == 1
    assert "is gone" in again.stderr, again.stderr


def test_partitions_that_are_added_under_way(one: DevStack, case: Case) -> None:
    publisher = case.start()
    time.sleep(3)
    topic = f"{case.name}.ingress"
    admin = AdminClient({"bootstrap.servers": one.bootstrap()})
    admin.create_partitions([NewPartitions(topic, 8)])[topic].result(20)
    code, out, err = finished(publisher)
    # Routing goes on by the number that was frozen; the next stage says what has changed.
    assert code == 0, err
    case.exact(json.loads(out.splitlines()[-1]))
    refused = case.run("dispatch")
    assert refused.returncode == 1
    assert "8 partitions" in refused.stderr, refused.stderr


@pytest.mark.parametrize("fault", ["gone", "truncated", "another"])
def test_a_source_that_changes_between_two_runs(case: Case, fault: str) -> None:
    publisher = case.start()
    time.sleep(3)
    publisher.terminate()
    finished(publisher)
    path = case.dir / "data" / "rows.parquet"
    whole, written = path.read_bytes(), path.stat()
    if fault == "gone":
        path.unlink()
    elif fault == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        pq.write_table(pa.table({"id": pa.array(range(ROWS)), "text": ["x"] * ROWS}), path)
    refused = case.run("publish")
    assert refused.returncode == 1
    assert "rows.parquet" in refused.stderr, refused.stderr
    assert "--new-snapshot" in refused.stderr
    path.write_bytes(whole)
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    case.exact(case.ok("publish"))


def test_a_broker_without_room(tmp_path: Path) -> None:
    with DevStack(tmp_path / "dev") as stack:
        # 60 MB, in four partitions whose files may have 11 MiB.
        case = make(tmp_path / "job", stack.bootstrap(), "room", width=1_000)
        case.edit("max_rows_per_s = 10000\nbroker_timeout_ms = 60000", "broker_timeout_ms = 8000")
        case.edit("partitions = 4", 'partitions = 4\ncompression = "none"')
        case.ok("dispatch")
        stack.fill("local", file_mib=11)
        refused = case.run("publish")
        assert refused.returncode == 1
        assert "acknowledged" in refused.stderr, refused.stderr
        stack.start("local")
        receipt = case.ok("publish")
        case.exact(receipt, receipt["doubled"])


def test_one_of_three_brokers_dies_and_the_leaders_move(tmp_path: Path) -> None:
    with DevStack(tmp_path / "dev", brokers=3) as stack:
        case = make(tmp_path / "job", stack.bootstrap(), "three", replication=3)
        case.ok("dispatch")
        publisher = case.start()
        time.sleep(3)
        stack.kill("local", 2)
        code, out, err = finished(publisher)
        assert code == 0, err
        receipt = json.loads(out.splitlines()[-1])
        case.exact(receipt, receipt["doubled"])
        # With one left nothing is acknowledged, and nothing is said to be.
        stack.start("local", 2)
        second = make(tmp_path / "second", stack.bootstrap(), "second", replication=3)
        second.edit("broker_timeout_ms = 60000", "broker_timeout_ms = 6000")
        eventually(lambda: second.run("dispatch").returncode == 0)
        for broker in (2, 3):
            stack.pause("local", broker)
        try:
            refused = second.run("publish")
            assert refused.returncode == 1
        finally:
            for broker in (2, 3):
                stack.resume("local", broker)
        second.edit("broker_timeout_ms = 6000", "broker_timeout_ms = 60000")
        eventually(lambda: stack.status()[0].state == "running")
        receipt = second.ok("publish")
        second.exact(receipt, receipt["doubled"])


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    with DevStack(tmp_path_factory.mktemp("dev"), secure=True) as stack:
        yield stack


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN", "SSL"])
def test_passwords_and_certificates(secure: DevStack, tmp_path: Path, mechanism: str) -> None:
    options = secure.access().options("admin", mechanism)
    case = secured(secure, tmp_path / "job", options, f"by-{mechanism.lower()}")
    case.ok("dispatch")
    case.exact(case.ok("publish"))
    # No file that was written for the job has the secret itself.
    secret = (Path(secure.access().directory) / "admin.password").read_bytes().strip()
    for path in case.dir.rglob("*"):
        assert not path.is_file() or secret not in path.read_bytes(), path


def test_a_wrong_password_is_told(secure: DevStack, tmp_path: Path) -> None:
    options = secure.access().options("admin", "SCRAM-SHA-512")
    (tmp_path / "wrong").write_text("guessed")
    options["sasl.password"] = f"file:{tmp_path / 'wrong'}"
    case = secured(secure, tmp_path / "job", options, "wrong-password")
    refused = case.run("dispatch")
    assert refused.returncode == 1
    assert "uthentication failed" in refused.stderr, refused.stderr
    assert "guessed" not in refused.stderr


def test_an_expired_certificate_is_told(secure: DevStack, tmp_path: Path) -> None:
    access = secure.access()
    options = {**access.options("admin", "PLAIN"), "bootstrap.servers": access.expired}
    refused = secured(secure, tmp_path / "job", options, "expired").run("dispatch")
    assert refused.returncode == 1
    assert "certificate verify failed" in refused.stderr, refused.stderr


def test_a_right_that_is_missing_is_told(secure: DevStack, tmp_path: Path) -> None:
    admin = secure.access().options("admin", "SCRAM-SHA-512")
    case = secured(secure, tmp_path / "job", admin, "denied")
    case.ok("dispatch")
    reader = secure.access().options("reader", "SCRAM-SHA-512")
    for name in ("sasl.username", "sasl.password"):
        case.edit(json.dumps(admin[name]), json.dumps(reader[name]))
    refused = case.run("publish")
    assert refused.returncode == 1
    assert "denied.ingress" in refused.stderr
    assert "uthoriz" in refused.stderr, refused.stderr
    # The right is given: the same job goes on.
    for name in ("sasl.username", "sasl.password"):
        case.edit(json.dumps(reader[name]), json.dumps(admin[name]))
    case.exact(case.ok("publish"))


def test_the_doctor_tells_the_rights_that_are_missing(secure: DevStack, tmp_path: Path) -> None:
    admin = secure.access().options("admin", "SCRAM-SHA-512")
    case = secured(secure, tmp_path / "job", admin, "doctored")
    case.edit("[topics]", "[topics]\ntransactional = true")
    case.ok("dispatch")
    case.ok("doctor")
    text = (case.dir / "job.toml").read_text()
    reader = secure.access().options("reader", "SCRAM-SHA-512")
    for option in ("sasl.username", "sasl.password"):
        text = text.replace(json.dumps(admin[option]), json.dumps(reader[option]))
    (case.dir / "job.toml").write_text(text)
    done = case.run("doctor")
    assert done.returncode == 1
    summary = json.loads(done.stdout.splitlines()[-1])
    failed = {
        need["what"].split(",")[0]: need["told"] for need in summary["needs"] if need["outcome"] == "failed"
    }
    for role in ("ingress", "egress", "verdict", "deadletter"):
        assert "add an ACL" in failed.pop(f"WRITE on topic doctored.{role}")
    [(what, told)] = failed.items()
    assert what.startswith("WRITE and DESCRIBE on transactional ids")
    assert "uthoriz" in told, told
    secret = (Path(secure.access().directory) / "reader.password").read_text().strip()
    assert secret not in done.stdout + done.stderr
