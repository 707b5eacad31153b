"""What a run left in the answers' topic, held against the records; and how fast they came."""

from publish_peers.topics import Topics
from work_peers.records import longs, read_answer


def look(
    topics: Topics, ingress: str, egress: str, rows: int, keys: list[int] | None
) -> tuple[float, list[str]]:
    """Records a second from the first answer to the last, as the broker's clock has them; and what is wrong.

    `keys`: the key of each record, whose records must have been worked on one after the other, as they are in their
    partition.
    """
    begun, ended = [-1] * rows, [0] * rows
    wrong: list[str] = []
    doubled, first, last = 0, float("inf"), 0.0
    for message in topics.messages(egress):
        record, *times = read_answer(message.value() or b"")
        if not 0 <= record < rows:
            return 0.0, [f"an answer to record {record}, which there is not"]
        doubled += begun[record] >= 0
        begun[record], ended[record] = times
        at = message.timestamp()[1]
        first, last = min(first, at), max(last, at)
    if doubled:
        wrong.append(f"{doubled} records answered again")
    if missing := begun.count(-1):
        wrong.append(f"{missing} records without an answer")
    if keys is not None and not missing:
        wrong += _out_of_order(topics, ingress, keys, begun, ended)
    return (rows - 1) / max(last - first, 1) * 1_000, wrong


def _out_of_order(
    topics: Topics, ingress: str, keys: list[int], begun: list[int], ended: list[int]
) -> list[str]:
    before: dict[int, int] = {}
    count = 0
    for message in topics.messages(ingress):
        [record] = longs(message.value() or b"", 1)
        key = keys[record]
        if key in before:
            count += begun[record] < ended[before[key]]
        before[key] = record
    return [f"{count} records begun before the one ahead of them in their key had ended"] if count else []
