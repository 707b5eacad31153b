"""Pyrallel-Consumer: its async engine for work that waits, its processes for work that computes."""

import asyncio
import logging
import time
from multiprocessing.util import Finalize
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from pyrallel_consumer.config import KafkaConfig
from pyrallel_consumer.consumer import PyrallelConsumer
from pyrallel_consumer.dto import ExecutionMode, OrderingMode, WorkItem

from work_peers import service
from work_peers.records import answer, longs
from work_peers.task import Task, main

POLL_S = 0.2


class Answers:
    """The producer of this process."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        settings = {"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 5}
        self._producer = Producer({**settings, "compression.type": "lz4"})
        self._topic = topic

    def send(self, item: WorkItem, begun: int, ended: int) -> None:
        [record] = longs(item.payload, 1)
        self._producer.produce(self._topic, answer(record, begun, ended), item.key)
        self._producer.poll(0)

    def flush(self) -> None:
        self._producer.flush()


_own: Answers | None = None
_task: Task | None = None


def compute(item: WorkItem) -> None:
    """In a process of its engine's, which takes over what its parent had when it was forked."""
    global _own
    if _task is None:
        raise RuntimeError("the engine's processes are not forked: they know no task")
    if _own is None:
        _own = Answers(_task.bootstrap, _task.egress)
        Finalize(None, _own.flush, exitpriority=1)
    begun = time.monotonic_ns()
    service.hash_often(int(_task.work))
    _own.send(item, begun, time.monotonic_ns())


def settings(task: Task) -> KafkaConfig:
    found = KafkaConfig()
    found.BOOTSTRAP_SERVERS = [task.bootstrap]
    found.CONSUMER_GROUP = task.egress
    found.dlq_enabled = False
    parallel = found.parallel_consumer
    parallel.ordering_mode = OrderingMode.KEY_HASH if task.by_key else OrderingMode.UNORDERED
    parallel.execution.mode = ExecutionMode.PROCESS if task.cpu else ExecutionMode.ASYNC
    parallel.execution.max_in_flight = task.concurrency
    parallel.execution.process_config.process_count = 2
    return found


async def committed(task: Task) -> None:
    """Waits until its group has committed all there is."""
    consumer = Consumer({"bootstrap.servers": task.bootstrap, "group.id": task.egress})
    known = consumer.list_topics(task.ingress).topics[task.ingress].partitions
    partitions = [TopicPartition(task.ingress, partition) for partition in known]
    ends = [consumer.get_watermark_offsets(partition)[1] for partition in partitions]
    while True:
        found = await asyncio.to_thread(consumer.committed, partitions, 10)
        if all(p.offset >= end or end == 0 for p, end in zip(found, ends, strict=True)):
            consumer.close()
            return
        await asyncio.sleep(POLL_S)


async def run(task: Task) -> None:
    global _task
    _task = task
    logging.basicConfig(level=logging.ERROR)  # it warns of each pause
    answers = Answers(task.bootstrap, task.egress)
    session: Any = None
    if task.url:
        import aiohttp

        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=task.concurrency))

    async def wait(item: WorkItem) -> None:
        begun = time.monotonic_ns()
        if task.work:
            await asyncio.sleep(task.work / 1_000)
        answers.send(item, begun, time.monotonic_ns())

    async def call(item: WorkItem) -> None:
        async with session.post(task.url, data=item.payload) as response:
            said = await response.json()
        answers.send(item, said["begun"], said["ended"])

    worker = compute if task.cpu else call if task.url else wait
    consumer = PyrallelConsumer(config=settings(task), worker=worker, topic=task.ingress)
    await consumer.start()
    await committed(task)
    await consumer.stop()
    answers.flush()
    if session is not None:
        await session.close()


if __name__ == "__main__":
    main(lambda task: asyncio.run(run(task)))
