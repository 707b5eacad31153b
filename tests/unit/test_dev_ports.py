"""Ports that are taken are refused, and what answers on them is asked who it is."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kappaflow.dev import DevStack, DevStackError, ports, probe
from kappaflow.dev.wire import AnswerError


@contextmanager
def listener(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind((host, 0))
        server.listen()
        yield server


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_refused_with_its_holder(host: str) -> None:
    with listener(host) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
        with pytest.raises(DevStackError) as caught:
            ports.refuse_taken(port, "the Kafka of region 'east'")
    text = str(caught.value)
    assert str(port) in text
    assert "'east'" in text
    assert "--port" in text
    if Path("/proc/net/tcp").exists():
        assert f"pid {os.getpid()}" in text
    ports.refuse_taken(port, "the Kafka of region 'east'")


def test_a_bound_port_that_does_not_listen_is_taken_too() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        assert not ports.is_free(server.getsockname()[1])


def test_chosen_ports_are_free_and_not_those_to_avoid() -> None:
    first = ports.choose_free(())
    second = ports.choose_free({first})
    assert first != second
    assert ports.is_free(first)
    assert ports.is_free(second)
    assert 20_000 <= first < 32_000


def test_up_refuses_a_taken_port_before_it_starts_anything(tmp_path: Path) -> None:
    with listener() as server:
        port = server.getsockname()[1]
        with pytest.raises(DevStackError, match=f"port {port} .* is taken"):
            DevStack(tmp_path, ["east"], base_port=port).up()
    assert DevStack(tmp_path).status() == []


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A server that reads a request and gives an answer, for each answer; then it closes. Yields its port."""
    with listener() as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                for answer in answers:
                    (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
                    connection.recv(size, socket.MSG_WAITALL)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


VERSIONS = framed(
    struct.pack(">ihi", 1, 0, 2) + struct.pack(">hhh", 3, 0, 13) + struct.pack(">hhh", 18, 0, 4)
)


def metadata(cluster_id: str, port: int, node_id: int = 1) -> bytes:
    broker = struct.pack(">i", node_id) + text("127.0.0.1") + struct.pack(">ih", port, -1)
    body = struct.pack(">ii", 2, 1) + broker + text(cluster_id) + struct.pack(">ii", node_id, 0)
    return framed(body)


def test_a_kafka_tells_its_cluster() -> None:
    with answering(VERSIONS, metadata("abc", 20_000)) as port:
        cluster = probe.ask(port)
    assert cluster == probe.Cluster("abc", 1, (probe.Broker(1, "127.0.0.1", 20_000),))


def test_only_our_cluster_at_that_port_is_ours() -> None:
    with listener() as other:
        elsewhere = other.getsockname()[1]
    for cluster_id, node_id in (("another", 1), ("ours", 2), ("ours", 1)):
        with answering(VERSIONS, metadata(cluster_id, elsewhere, node_id)) as port:
            assert not probe.is_member(port, "ours", 1), "another cluster, node or port"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        framed(struct.pack(">ihi", 99, 0, 0)),  # not our correlation id
        framed(struct.pack(">ihi", 1, 35, 0)),  # an error code
        framed(struct.pack(">ihi", 1, 0, 1) + struct.pack(">hhh", 3, 5, 9)),  # a Kafka without that version
        framed(struct.pack(">ihi", 1, 0, 1000)),  # shorter than it says
        struct.pack(">i", -5),
        b"",
    ],
)
def test_a_stranger_is_no_kafka(answer: bytes) -> None:
    with answering(answer) as port, pytest.raises(AnswerError):
        probe.ask(port, timeout_s=1.0)


def test_silence_and_nobody_are_no_kafka() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        assert not probe.is_member(port, "ours", 1, timeout_s=0.2)
    assert not probe.is_member(port, "ours", 1, timeout_s=0.2)
