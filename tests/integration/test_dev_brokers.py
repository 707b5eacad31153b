"""Regions of several brokers that die one by one, and brokers without room, as stock clients see them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from kappaflow.dev import DevStack, DevStackError
from tests.integration.stock import TOPIC, cli, consume, eventually, make_topic, produce

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    with DevStack(tmp_path_factory.mktemp("dev"), brokers=3) as stack:
        yield stack


@pytest.fixture
def admin(stack: DevStack) -> Iterator[AdminClient]:
    admin = AdminClient({"bootstrap.servers": stack.bootstrap()})
    yield admin
    admin.delete_topics([TOPIC])[TOPIC].result(20)
    eventually(lambda: TOPIC not in admin.list_topics(timeout=10).topics)


def test_a_killed_brokers_partitions_move_and_come_back(stack: DevStack, admin: AdminClient) -> None:
    (region,) = stack.status()
    assert [one.state for one in region.brokers] == ["running"] * 3
    assert region.min_insync_replicas == 2
    make_topic(admin, partitions=6)

    def leaders_and_in_sync() -> tuple[set[int], set[int]]:
        partitions = admin.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions.values()
        return {one.leader for one in partitions}, {len(one.isrs) for one in partitions}

    eventually(lambda: leaders_and_in_sync() == ({1, 2, 3}, {3}))
    client = {"bootstrap.servers": stack.bootstrap()}
    before = [b"before %d" % number for number in range(1_000)]
    assert produce(client, before) == (1_000, set())

    victim = region.brokers[1]
    done = cli("kill", "local/2", "--dir", str(stack.directory), "--json")
    told = json.loads(done.stdout)["regions"][0]
    assert (told["state"], [one["state"] for one in told["brokers"]]) == (
        "degraded",
        ["running", "dead", "running"],
    )
    assert cli("status", "--dir", str(stack.directory)).returncode == 1
    eventually(lambda: leaders_and_in_sync() == ({1, 3}, {2}))
    during = [b"during %d" % number for number in range(1_000)]
    acknowledged, _ = produce(client, during)
    assert acknowledged == 1_000, "two of three are enough"

    assert cli("start", "local/2", "--dir", str(stack.directory)).returncode == 0
    (after,) = stack.status()
    assert after.state == "running"
    assert after.brokers[1].address == victim.address
    assert after.brokers[1].pid != victim.pid
    assert [one.pid for one in after.brokers[::2]] == [one.pid for one in region.brokers[::2]]
    eventually(lambda: leaders_and_in_sync()[1] == {3})
    assert sorted(consume(client, 2_000)) == sorted(before + during)


def test_with_one_broker_left_nothing_is_acknowledged(stack: DevStack, admin: AdminClient) -> None:
    make_topic(admin)
    client = {"bootstrap.servers": stack.bootstrap()}
    eventually(lambda: bool(admin.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions))
    leader = admin.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions[0].leader
    others = [number for number in (1, 2, 3) if number != leader]
    for number in others:
        stack.pause("local", number)
    try:
        assert produce(client, [b"lonely"], timeout_ms=8_000)[0] == 0
    finally:
        for number in others:
            stack.resume("local", number)
    eventually(lambda: [one.state for one in stack.status()] == ["running"])
    eventually(lambda: produce(client, [b"again"])[0] == 1)


def test_what_a_region_was_made_with_is_kept(stack: DevStack) -> None:
    refused = r"made with brokers=3, min.insync.replicas=2 and secure=False.*--wipe"
    for other in (
        DevStack(stack.directory, brokers=1),
        DevStack(stack.directory, min_insync_replicas=1),
        DevStack(stack.directory, secure=True),
    ):
        with pytest.raises(DevStackError, match=refused):
            other.up()
    # A broker that was paused a moment ago may not answer yet: `up` waits for it.
    before = DevStack(stack.directory).up()
    assert DevStack(stack.directory).up() == before == stack.status()


def test_a_broker_that_is_not_there_is_named(stack: DevStack) -> None:
    with pytest.raises(DevStackError, match=r"no broker 4 in region 'local'; its brokers: 1, 2, 3"):
        stack.kill("local", 4)
    with pytest.raises(DevStackError, match=r"no broker 4 in region 'local'"):
        stack.start("local", 4)
    done = cli("kill", "local/x", "--dir", str(stack.directory))
    assert done.returncode == 1
    assert "REGION/N" in done.stderr


def test_all_go_down_and_come_up_again_on_their_data(stack: DevStack, admin: AdminClient) -> None:
    make_topic(admin)
    client = {"bootstrap.servers": stack.bootstrap()}
    assert produce(client, [b"kept"])[0] == 1
    stack.down()
    (stack.directory / "state.json").unlink()
    (region,) = stack.up()
    assert region.bootstrap_servers == client["bootstrap.servers"]
    assert consume(client, 1) == [b"kept"]


def test_a_broker_without_room_gives_up_and_comes_back_with_what_it_acknowledged(tmp_path: Path) -> None:
    with DevStack(tmp_path / "dev") as stack:
        client = {"bootstrap.servers": stack.bootstrap()}
        make_topic(AdminClient(client))
        assert produce(client, [b"small"]) == (1, set())
        assert cli("fill", "local", "--dir", str(stack.directory)).returncode == 0
        large = [os.urandom(100_000) for _ in range(200)]
        acknowledged, errors = produce(client, large, timeout_ms=10_000)
        assert 0 < acknowledged < 200, "the first 16 MiB found room"
        assert errors
        assert [region.state for region in stack.status()] == ["dead"]

        stack.start("local")
        found = consume(client, 1 + acknowledged)
        assert found[0] == b"small"
        assert found[1 : 1 + acknowledged] == large[:acknowledged]
        assert produce(client, large)[0] == 200, "the limit went with the process"
        with pytest.raises(DevStackError, match="11 or more"):
            stack.fill("local", file_mib=1)


def test_leaving_the_block_stops_only_the_brokers_that_it_started(tmp_path: Path) -> None:
    with DevStack(tmp_path / "dev", brokers=3) as outer:
        outer.kill("local", 2)
        with DevStack(tmp_path / "dev") as inner:
            assert [region.state for region in inner.status()] == ["running"]
        (region,) = outer.status()
        assert [broker.state for broker in region.brokers] == ["running", "stopped", "running"]
