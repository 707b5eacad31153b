"""The dev stack with real Kafkas: what it keeps to when called twice, killed, interrupted or in the way."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from kappaflow.dev import DevStack, DevStackError, process
from kappaflow.dev.jars import KAFKA, class_path

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", autouse=True)
def _jars() -> None:
    """Downloads the jars once, so that no test's own time limit has to hold for it."""
    class_path(KAFKA, lambda text: print(text, file=sys.stderr))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A stack's directory; at the end nothing may run in it any more, whatever the test did."""
    path = tmp_path / "dev"
    yield path
    if path.exists():
        if _is_spoilt(path / "state.json"):
            (path / "state.json").unlink()
        DevStack(path).down()
    assert running_in(path) == []


def _is_spoilt(state: Path) -> bool:
    try:
        json.loads(state.read_text())
    except OSError:
        return False
    except ValueError:
        return True
    return False


def running_in(directory: Path) -> list[int]:
    """The pids of all Kafkas, and of Kafka's tools, whose command line names the directory."""
    # -ww: a class path is long, and ps would cut the line before the part that tells.
    found = subprocess.run(
        ["ps", "-axwwo", "pid=,command="], capture_output=True, text=True, check=True
    ).stdout
    mine = [line.split(None, 1) for line in found.splitlines() if f"{directory}/" in line]
    return [int(pid) for pid, command in mine if "kafka.Kafka" in command or "StorageTool" in command]


def cli(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kappaflow.dev", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def start_cli(*args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kappaflow.dev", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def make_topic(servers: str, topic: str, partitions: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(20)


def produce(servers: str, topic: str, values: list[bytes]) -> None:
    failed: list[object] = []
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True})
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: failed.append(error) if error else None)
    assert producer.flush(30) == 0
    assert failed == []


def consume(servers: str, topic: str, count: int, group: str = "test", **options: object) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest", **options}
    )
    consumer.subscribe([topic])
    values: list[bytes] = []
    deadline = time.monotonic() + 30
    try:
        while len(values) < count and time.monotonic() < deadline:
            for message in consumer.consume(count, timeout=0.5):
                assert message.error() is None, message.error()
                values.append(message.value() or b"")
    finally:
        consumer.close()
    return values


def test_two_regions_are_two_clusters_that_take_and_give_records(directory: Path) -> None:
    with DevStack(directory, ["east", "west"]) as stack:
        east, west = stack.status()
        assert (east.state, west.state) == ("running", "running")
        assert east.cluster_id != west.cluster_id
        assert east.bootstrap_servers == stack.bootstrap("east") != stack.bootstrap("west")

        make_topic(stack.bootstrap("east"), "t", partitions=3)
        values = [b"%d" % number for number in range(1_000)]
        produce(stack.bootstrap("east"), "t", values)
        assert sorted(consume(stack.bootstrap("east"), "t", 1_000)) == sorted(values)
        short = {"session.timeout.ms": 1_500, "heartbeat.interval.ms": 400}
        assert len(consume(stack.bootstrap("east"), "t", 1_000, group="short sessions", **short)) == 1_000
        new = {"group.protocol": "consumer"}
        assert len(consume(stack.bootstrap("east"), "t", 1_000, group="new protocol", **new)) == 1_000

        topics = AdminClient({"bootstrap.servers": stack.bootstrap("west")}).list_topics(timeout=10).topics
        assert "t" not in topics
    assert [region.state for region in DevStack(directory).status()] == ["stopped", "stopped"]


def test_a_directory_with_blanks_and_accents(tmp_path: Path) -> None:
    directory = tmp_path / "my stack" / "d\u00e9v"
    with DevStack(directory) as stack:
        assert [region.state for region in stack.status()] == ["running"]
        assert (directory / "local" / "broker-1" / "data" / "meta.properties").exists()
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]
    assert running_in(directory) == []


def test_topics_are_not_made_by_accident(directory: Path) -> None:
    with DevStack(directory) as stack:
        admin = AdminClient({"bootstrap.servers": stack.bootstrap()})
        admin.list_topics("misspelt", timeout=10)
        assert "misspelt" not in admin.list_topics(timeout=10).topics


def test_up_and_down_twice_are_safe_and_data_and_ports_stay(directory: Path) -> None:
    first = json.loads(cli("up", "--dir", str(directory), "--json").stdout)
    again = cli("up", "--dir", str(directory), "--json")
    assert again.returncode == 0
    assert "already up" in again.stderr
    second = json.loads(again.stdout)
    assert first["regions"] == second["regions"], "the same process, port and cluster"
    servers = first["regions"][0]["bootstrap_servers"]
    make_topic(servers, "kept")
    produce(servers, "kept", [b"a", b"b"])

    assert cli("status", "--dir", str(directory)).returncode == 0
    for _ in range(2):
        assert cli("down", "--dir", str(directory)).returncode == 0
        assert running_in(directory) == []
    assert cli("status", "--dir", str(directory)).returncode == 1

    third = json.loads(cli("up", "--dir", str(directory), "--json").stdout)["regions"][0]
    assert third["bootstrap_servers"] == servers
    assert third["cluster_id"] == first["regions"][0]["cluster_id"]
    assert consume(servers, "kept", 2) == [b"a", b"b"]

    assert cli("down", "--dir", str(directory), "--wipe").returncode == 0
    assert not directory.exists()
    assert cli("down", "--dir", str(directory), "--wipe").returncode == 0


def test_kill_9_and_up_again_keeps_what_was_acknowledged(directory: Path) -> None:
    with DevStack(directory) as stack:
        servers = stack.bootstrap()
        make_topic(servers, "t")
        produce(servers, "t", [b"before"])
        (before,) = stack.status()
        stack.kill("local")
        assert [region.state for region in stack.status()] == ["dead"]

        (after,) = stack.up()
        assert after.state == "running"
        assert (after.bootstrap_servers, after.cluster_id) == (servers, before.cluster_id)
        assert after.brokers[0].pid != before.brokers[0].pid
        produce(servers, "t", [b"after"])
        assert consume(servers, "t", 2) == [b"before", b"after"]


def test_pause_and_resume_and_restart(directory: Path) -> None:
    with DevStack(directory) as stack:
        stack.pause("local")
        assert [region.state for region in stack.status()] == ["paused"]
        stack.resume("local")
        deadline = time.monotonic() + 20
        while [region.state for region in stack.status()] != ["running"]:
            assert time.monotonic() < deadline
        before = stack.status()[0].brokers[0].pid
        assert stack.restart("local").state == "running"
        assert stack.status()[0].brokers[0].pid != before
        stack.pause("local")
        assert [region.state for region in stack.up()] == ["running"], "up lets a paused one go on"


def test_leaving_the_block_stops_only_what_it_started(directory: Path) -> None:
    outer = DevStack(directory, ["east"])
    outer.up()
    with DevStack(directory, ["east", "west"]) as inner:
        assert {region.state for region in inner.status()} == {"running"}
    assert {region.region: region.state for region in DevStack(directory).status()} == {
        "east": "running",
        "west": "stopped",
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_foreground_leaves_no_orphan(directory: Path, number: signal.Signals) -> None:
    regions = "east,west" if number == signal.SIGTERM else "local"
    front = start_cli("up", "--dir", str(directory), "--regions", regions, "--foreground", "--json")
    assert front.stdout is not None
    for line in front.stdout:
        if line.startswith("{"):
            break
    assert len(running_in(directory)) == len(regions.split(","))
    front.send_signal(number)
    front.communicate(timeout=60)
    assert front.returncode == 0
    assert running_in(directory) == []


def test_the_foreground_ends_with_an_error_when_a_kafka_dies(directory: Path) -> None:
    front = start_cli("up", "--dir", str(directory), "--regions", "east,west", "--foreground", "--json")
    assert front.stdout is not None
    for line in front.stdout:
        if line.startswith("{"):
            break
    DevStack(directory).kill("west")
    said, _ = front.communicate(timeout=60)
    assert front.returncode == 1
    assert "'west' has ended by itself" in said
    assert running_in(directory) == []


@pytest.mark.parametrize("after", ["starting the Kafka", "resolving or formatting"])
def test_an_interrupted_up_stops_what_it_started(directory: Path, after: str) -> None:
    up = start_cli("up", "--dir", str(directory), "--regions", "east,west")
    assert up.stdout is not None
    if after == "starting the Kafka":
        assert up.stdout.readline().startswith(after)
    else:
        deadline = time.monotonic() + 20
        while not list(directory.glob("*/broker-*/server.properties")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    up.send_signal(signal.SIGTERM)
    up.communicate(timeout=60)
    assert up.returncode == 130
    assert running_in(directory) == []
    assert DevStack(directory, ["east", "west"]).up()[1].state == "running"


def test_an_up_that_was_killed_leaves_what_the_next_one_finds(directory: Path) -> None:
    up = start_cli("up", "--dir", str(directory))
    assert up.stdout is not None
    assert up.stdout.readline().startswith("starting")
    deadline = time.monotonic() + 20
    while not running_in(directory):
        assert time.monotonic() < deadline
    up.kill()
    up.communicate()
    (directory / "state.json").unlink(missing_ok=True)  # as if it had died before it wrote it
    (orphan,) = running_in(directory)

    (status,) = DevStack(directory).up()
    assert (status.state, status.brokers[0].pid) == ("running", orphan)
    DevStack(directory).down()
    assert running_in(directory) == []


def test_two_ups_at_once_start_one_kafka(directory: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: cli("up", "--dir", str(directory), "--json"), range(3)))
    assert [one.returncode for one in done] == [0, 0, 0]
    assert len({json.loads(one.stdout)["regions"][0]["brokers"][0]["pid"] for one in done}) == 1
    assert len(running_in(directory)) == 1


def test_a_port_that_a_stranger_has_is_refused_and_the_stranger_left_alone(directory: Path) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        done = cli("up", "--dir", str(directory), "--regions", "east", "--port", str(port))
        assert done.returncode == 1
        assert f"port {port}" in done.stderr
        assert f"pid {os.getpid()}" in done.stderr
        assert "Traceback" not in done.stderr
    assert running_in(directory) == []


def test_another_stacks_kafka_on_our_port_is_never_adopted(directory: Path, tmp_path: Path) -> None:
    with DevStack(directory) as ours:
        port = int(ours.bootstrap().rpartition(":")[2])
    other_directory = tmp_path / "other"
    with DevStack(other_directory, base_port=port) as other:
        assert other.bootstrap() == f"127.0.0.1:{port}"
        assert [region.state for region in DevStack(directory).status()] == ["stopped"]
        with pytest.raises(
            DevStackError, match=rf"port {port} .* is taken by pid {other.status()[0].brokers[0].pid}"
        ):
            DevStack(directory).up()
        assert [region.state for region in other.status()] == ["running"]


def test_one_region_that_cannot_start_takes_the_other_down_with_it(directory: Path) -> None:
    with DevStack(directory, ["east", "west"]):
        pass
    meta = directory / "west" / "broker-1" / "data" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(DevStackError, match=r"(?s)region 'west' did not start.*kafka.log:\n.*node") as caught:
        DevStack(directory).up()
    assert len(str(caught.value)) < 20_000
    assert running_in(directory) == []
    assert {region.state for region in DevStack(directory).status()} == {"stopped"}


def test_a_recycled_pid_is_left_alone(directory: Path) -> None:
    stack = DevStack(directory)
    stack.up()
    stack.kill("local")
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        path = directory / "state.json"
        state = json.loads(path.read_text())
        state["regions"]["local"]["brokers"]["1"]["process"]["pid"] = bystander.pid
        path.write_text(json.dumps(state))
        (directory / "local" / "broker-1" / "pid").write_text(f"{bystander.pid}\n")
        assert [region.state for region in stack.status()] == ["dead"]
        stack.down()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_spoilt_state_file_is_mended_as_its_error_says(directory: Path) -> None:
    (before,) = DevStack(directory).up()
    (directory / "state.json").write_text("{")
    done = cli("up", "--dir", str(directory))
    assert done.returncode == 1
    assert "Delete it" in done.stderr
    (directory / "state.json").unlink()
    (after,) = DevStack(directory).up()
    assert after == before


def test_logs_and_their_following(directory: Path) -> None:
    with DevStack(directory):
        assert "started" in cli("logs", "--dir", str(directory), "-n", "200").stdout
        follower = start_cli("logs", "--dir", str(directory), "--follow", "-n", "1")
        timer = threading.Timer(1.0, follower.send_signal, [signal.SIGINT])
        timer.start()
        follower.communicate(timeout=20)
        timer.join()
        assert follower.returncode == 130


def test_a_broker_that_is_down_is_an_error_to_clients_too(directory: Path) -> None:
    stack = DevStack(directory)
    stack.up()
    servers = stack.bootstrap()
    stack.stop("local")
    with contextlib.suppress(KafkaException):
        AdminClient({"bootstrap.servers": servers}).list_topics(timeout=1)
        pytest.fail("something answers where nothing should")
    assert stack.start("local").state == "running"
    assert process.is_running(process.ProcessId(0, "")) is False
