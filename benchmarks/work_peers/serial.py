"""One thread of Python that reads, computes and answers: what parallel Python must not be slower than."""

import time

from confluent_kafka import Consumer

from work_peers import service
from work_peers.records import answer, longs
from work_peers.task import Task, main


def run(task: Task) -> None:
    from confluent_kafka import Producer

    base = {"bootstrap.servers": task.bootstrap}
    consumer = Consumer({**base, "group.id": task.egress, "auto.offset.reset": "earliest"})
    producer = Producer({**base, "acks": "all", "enable.idempotence": True, "linger.ms": 5})
    consumer.subscribe([task.ingress])
    done = 0
    while done < task.rows:
        for message in consumer.consume(500, 0.1):
            if (error := message.error()) is not None:
                raise RuntimeError(str(error))
            begun = time.monotonic_ns()
            service.hash_often(int(task.work))
            value = message.value() or b""
            ended = time.monotonic_ns()
            producer.produce(task.egress, answer(longs(value, 1)[0], begun, ended), message.key())
            producer.poll(0)
            done += 1
    producer.flush()
    consumer.close()


if __name__ == "__main__":
    main(run)
