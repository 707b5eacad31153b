"""Topics as a stock client sees them: made, counted, read to their end, deleted."""

import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

SILENCE_S = 60
"""How long a topic that is not at its end may give nothing."""


class Topics:
    """Those of one Kafka."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def create(self, topic: str, partitions: int) -> None:
        for future in self._admin.create_topics([NewTopic(topic, partitions, 1)]).values():
            future.result()

    def delete(self, *topics: str) -> None:
        there = self._admin.list_topics(timeout=30).topics
        wanted = [topic for topic in topics if topic in there]
        for future in self._admin.delete_topics(wanted).values() if wanted else ():
            future.result()

    def partitions(self, topic: str) -> list[TopicPartition]:
        known = self._admin.list_topics(topic, timeout=30).topics[topic].partitions
        return [TopicPartition(topic, partition, 0) for partition in known]

    def count(self, topic: str) -> int:
        """Records by offsets."""
        consumer = self._consumer()
        total = 0
        for partition in self.partitions(topic):
            low, high = consumer.get_watermark_offsets(partition, timeout=30)
            total += high - low
        consumer.close()
        return total

    def records(self, topic: str) -> Iterator[tuple[Any, bytes]]:
        """Headers and value of every record there is now, with their checksums checked."""
        for message in self.messages(topic):
            yield message.headers(), message.value() or b""

    def messages(self, topic: str) -> Iterator[Message]:
        """The same, whole."""
        consumer = self._consumer()
        partitions = self.partitions(topic)
        consumer.assign(partitions)
        still, heard = len(partitions), time.monotonic()
        try:
            while still:
                messages = consumer.consume(2_000, 0.5)  # waits until it has so many, or for so long
                if messages:
                    heard = time.monotonic()
                elif time.monotonic() - heard > SILENCE_S:
                    raise RuntimeError(
                        f"{topic}: silent for {SILENCE_S} s, {still} partitions not at their end"
                    )
                for message in messages:
                    error = message.error()
                    if error is None:
                        yield message
                    elif error.name() == "_PARTITION_EOF":
                        still -= 1
                    else:
                        raise RuntimeError(f"{topic}: {error}")
        finally:
            consumer.close()

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "check",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "check.crcs": True,
                "queued.max.messages.kbytes": 65_536,
            }
        )
