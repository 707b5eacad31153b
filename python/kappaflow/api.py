"""The stages as functions: a job file and params in, what happened out."""

import json
import sys
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, cast

from kappaflow.avro import schema_text
from kappaflow.types import Dispatched, Event, JobPlan, OnProgress, Region, Summary

JobPath = str | PathLike[str]
ParamValues = Mapping[str, object]
Until = Literal["done", "now", "stopped"]


def param_texts(params: ParamValues | None) -> dict[str, str]:
    """Params as the command line would give them: the job file's types decide what they mean."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in (params or {}).items()
    }


def job_schema() -> dict[str, Any]:
    """The JSON Schema of the job file."""
    from kappaflow import _native

    return cast("dict[str, Any]", json.loads(_native.job_schema()))


def resolve(job: JobPath, *, params: ParamValues | None = None) -> dict[str, Any]:
    """Read and check a job file: `{"path", "dir", "params", "file", "table", "metrics"}`, all after substitution."""
    from kappaflow import _native

    return cast("dict[str, Any]", json.loads(_native.resolve(fspath(job), param_texts(params))))


def plan(job: JobPath, *, params: ParamValues | None = None, new_snapshot: bool = False) -> JobPlan:
    """Pin the snapshot and cut it into splits and child jobs; again, confirm what is in the store.

    What is pinned is what every later call with the same job file and params uses, whatever becomes of the source.
    `new_snapshot` pins the source as it is now, as a new job if it changed.
    """
    from kappaflow import _native

    return cast(JobPlan, json.loads(_native.plan(fspath(job), param_texts(params), new_snapshot)))


def dispatch(
    job: JobPath,
    *,
    params: ParamValues | None = None,
    new_snapshot: bool = False,
    on_progress: OnProgress | None = None,
) -> Dispatched:
    """Place child jobs on the regions with headroom and prepare their topics there.

    Raises `NoHeadroomError` if none could be placed; children without room are listed in `waiting`. `new_snapshot` is
    that of `plan`.
    """
    from kappaflow import _native

    return cast(
        Dispatched, json.loads(_native.dispatch(fspath(job), param_texts(params), new_snapshot, on_progress))
    )


def publish(
    job_or_data: object,
    *,
    params: ParamValues | None = None,
    child: str | None = None,
    on_progress: OnProgress | None = None,
    topic: str | None = None,
    schema: str | PathLike[str] | None = None,
    bootstrap_servers: str | None = None,
    registry: str | Mapping[str, object] = "dir:.kappaflow/registry",
    registry_options: Mapping[str, object] | None = None,
    partitions: int | None = None,
    replication: int | None = None,
    retention_ms: int | None = None,
    key: Sequence[str] = (),
    key_format: Literal["string", "bytes", "avro"] = "string",
    partition_column: str | None = None,
    timestamp_column: str | None = None,
    compression: Literal["none", "lz4", "zstd", "gzip", "snappy"] = "lz4",
    max_rows_per_s: int | None = None,
    max_lag_records: int | None = None,
    max_lag_mib: int | None = None,
    group: str | None = None,
    consumer_timeout_ms: int = 600_000,
    kafka: Mapping[str, str] | None = None,
    mode: str = "checked",
    extra: str = "refuse",
    fields: Mapping[str, Mapping[str, str]] | None = None,
    max_rejects: int | str | None = None,
    reject_payload: Literal["full", "keys", "none"] = "full",
    redact: Sequence[str] = (),
    dead_letter: str | None = None,
) -> Summary:
    """Publish a job's snapshot, or any Arrow data, and return a receipt counted from acknowledgements.

    With the path of a job file: the placed child jobs (or one `child`) go to their regions' ingress topics; what an
    earlier, interrupted publish delivered is read back and not sent again. The receipt has `rows`, `acknowledged`,
    `rejected`, `read_back`, `doubled`, `splits`, `rejects` and `seconds`.

    With anything that has `__arrow_c_stream__` (a pandas or Polars frame, a pyarrow table or reader): the rows go to
    `topic` on `bootstrap_servers` as Avro of `schema` (a path or the JSON itself). A stream can't be read twice, so
    this form can't resume.

    The topic is made if it is missing, with `partitions` (default 6), `replication` (default 1) and `retention_ms`
    (default: the cluster's; -1: for ever); one that is there and is less than that is refused. `key` names key columns,
    and `key_format` what is made of them: their text, the bytes of one column, or Avro under the subject `TOPIC-key`.
    `partition_column` names the partition of each row, `timestamp_column` the time of its record; without them the key
    decides as with Java's clients, and the time is that of sending.

    At most `max_rows_per_s` rows are sent a second, and at most `max_lag_records` records or `max_lag_mib` MiB wait for
    the consumer group `group`; if that has no member and moves nothing for `consumer_timeout_ms`, `NoConsumerError`.

    `registry` is what a region's `registry` is in a job file; `registry_options` are keys of its `[schema]`: `subject`,
    `auto_register`, `use_latest`, `schema_id`, `normalize`, `framing`.
    `kafka` takes further librdkafka options; `mode` ("checked" or "strict"), `extra` ("refuse" or "ignore") and
    `fields` are those of a job file's `[schema]`. Rejected rows go to the topic `dead_letter`, if one is given, with
    the values that `reject_payload` keeps and without the columns of `redact`; more of them than `max_rejects`, a
    count or a share such as `"1%"`, raise `TooManyRejectsError` (for a share at the end, when all rows are known).
    """
    from kappaflow import _native

    if hasattr(job_or_data, "__arrow_c_stream__"):
        if topic is None or schema is None or bootstrap_servers is None:
            raise TypeError("publishing data needs topic=, schema= and bootstrap_servers=")
        target = {
            "bootstrap_servers": bootstrap_servers,
            "kafka": dict(kafka or {}),
            "topic": topic,
            "partitions": partitions,
            "replication": replication,
            "retention_ms": retention_ms,
            "key": list(key),
            "key_format": key_format,
            "partition_column": partition_column,
            "timestamp_column": timestamp_column,
            "compression": compression,
            "max_rows_per_s": max_rows_per_s,
            "max_lag_records": max_lag_records,
            "max_lag_mib": max_lag_mib,
            "group": group,
            "consumer_timeout_ms": consumer_timeout_ms,
            "schema": schema_text(schema),
            "registry": registry if isinstance(registry, str) else dict(registry),
            **(registry_options or {}),
            "base": str(Path.cwd()),
            "mode": mode,
            "extra": extra,
            "fields": {name: dict(declared) for name, declared in (fields or {}).items()},
            "max_rejects": max_rejects,
            "rejects": {"reject_payload": reject_payload, "redact": list(redact)},
            "dead_letter": dead_letter,
        }
        return cast(Summary, json.loads(_native.publish_stream(job_or_data, json.dumps(target), on_progress)))
    if not isinstance(job_or_data, str | PathLike):
        raise TypeError(
            f"expected the path of a job file or Arrow data (__arrow_c_stream__), got {type(job_or_data).__name__}"
        )
    path = fspath(job_or_data)
    return cast(Summary, json.loads(_native.publish(path, param_texts(params), child, on_progress)))


def rehearse(job: JobPath, *, params: ParamValues | None = None, child: str | None = None) -> Summary:
    """Say what `publish` would send, from the plan and a sample of the rows; nothing is sent, no broker is asked.

    The summary has `rows`, `splits`, `partitions`, `plan` (field by field), `sampled_rows` and what was rejected of
    them (`rejects`), `bytes_per_row`, `expected_bytes` (payloads and keys, before compression) and
    `sampled_by_partition`.
    """
    from kappaflow import _native

    return cast(Summary, json.loads(_native.rehearse(fspath(job), param_texts(params), child)))


def work(
    job: JobPath,
    *,
    region: str,
    params: ParamValues | None = None,
    until: Until = "done",
    listen: str | None = None,
    instance_id: str | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Run a worker here until the region's ingress is done: published whole, answered, committed.

    until: `done`; `now`, when what is in the topic as it begins is worked on; or `stopped`, never by itself.
    listen: `ADDRESS:PORT` where `/metrics`, `/healthz`, `/readyz` and `/replicas` are answered meanwhile.
    instance_id: a name that this worker keeps over restarts, so that a quick restart moves no partition.

    Several may run at once; an idle one stands by for one that dies. The summary has `read`, `answered`, `filtered`,
    `dead_lettered` and more.
    """
    from kappaflow import _native

    summary = _native.work(
        fspath(job), param_texts(params), region, sys.executable, until, listen, instance_id, on_progress
    )
    return cast(Summary, json.loads(summary))


def watch(
    job: JobPath,
    *,
    region: str,
    params: ParamValues | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Wait, without working, until the region's ingress is done: by the fleet that has the job, or workers of its own.

    Raises `CancelledError` or `FleetError` if a submitted job is not done, and `NotReadyError` if nobody works on it.
    """
    from kappaflow import _native

    return cast(Summary, json.loads(_native.watch(fspath(job), param_texts(params), region, on_progress)))


def replicas(
    job: JobPath,
    *,
    region: str,
    params: ParamValues | None = None,
    rate_per_s: float | None = None,
    partition_rate_per_s: float | None = None,
    arrivals_per_s: float | None = None,
    deadline_s: float | None = None,
    watch_s: float = 5,
    p99_ms: int = 1_000,
    pod_start_ms: int = 60_000,
    rebalance_ms: int = 5_000,
    utilisation: float = 0.7,
    min: int = 0,
    max: int = 100,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Say how many workers a region needs to keep up with what comes and to be done in time; changes nothing.

    What waits is the group's lag, what comes is watched for `watch_s` seconds (or `arrivals_per_s`), what one worker
    does is the median of this job's runs that have ended (or `rate_per_s`), and the deadline is what is left of the
    job's `limits.job_deadline_ms` (or `deadline_s` from now). A partition is one worker's: `partition_rate_per_s` says
    what it does of one, where that is less.

    The summary has `replicas`, `needed` (had nothing bounds), `unmeetable` and its `message`, `hot` (partitions that
    more workers don't help), `drained_in_s`, `lag`, `arrivals_per_s`, `rate_per_s`, `deadline_s` and `partitions`.
    """
    from kappaflow import _native

    options = {
        "rate_per_s": rate_per_s,
        "partition_rate_per_s": partition_rate_per_s,
        "arrivals_per_s": arrivals_per_s,
        "deadline_s": deadline_s,
        "watch_s": watch_s,
        "p99_ms": p99_ms,
        "pod_start_ms": pod_start_ms,
        "rebalance_ms": rebalance_ms,
        "utilisation": utilisation,
        "min": min,
        "max": max,
    }
    found = _native.replicas(fspath(job), param_texts(params), region, json.dumps(options), on_progress)
    return cast(Summary, json.loads(found))


def land(
    job: JobPath,
    *,
    region: str | None = None,
    until: Literal["now", "stopped"] = "now",
    shared: bool = False,
    params: ParamValues | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Land the egress of a region (or of all) in the table.

    It is committed whenever the job's `output.commit_mib` or `output.commit_ms` says, and at the end.
    until: `now`, up to where the egress ends as it begins; or `stopped`, never by itself.
    shared: several landers, all of which are told so, share the partitions of a region as a consumer group does; each
        ends when all is landed, by whomever.
    """
    from kappaflow import _native

    found = _native.land(fspath(job), param_texts(params), region, until, shared, on_progress)
    return cast(Summary, json.loads(found))


def reconcile(
    job: JobPath, *, params: ParamValues | None = None, on_progress: OnProgress | None = None
) -> Summary:
    """Give every expected row its one fate. Does not raise on unexplained rows: see `check_ledger`."""
    from kappaflow import _native

    return cast(Summary, json.loads(_native.reconcile(fspath(job), param_texts(params), on_progress)))


def run(
    job: JobPath,
    *,
    params: ParamValues | None = None,
    new_snapshot: bool = False,
    sample: int | None = None,
    sample_failures: int | str = "1%",
    on_progress: OnProgress | None = None,
) -> Summary:
    """Dispatch, publish and work (overlapped), land and reconcile, until every child job is done.

    new_snapshot: that of `plan`.
    sample: so many rows, from all over the snapshot, go through all stages first, as a job NAME-sample with topics and
        a table of its own.
    sample_failures: rejected and dead-lettered rows of the sample, a count or a share, past which the whole does not
        begin: `SampleError`.

    Returns `{"job", "sample", "rounds", "ledger", "seconds"}`; `sample` is the ledger of the sample, each of the rounds
    `{"receipt", "work", "land"}`.
    """
    from kappaflow import _native

    summary = _native.run(
        fspath(job),
        param_texts(params),
        sys.executable,
        new_snapshot,
        sample,
        str(sample_failures),
        on_progress,
    )
    return cast(Summary, json.loads(summary))


def doctor(
    job: JobPath,
    *,
    params: ParamValues | None = None,
    spark: bool = False,
    on_progress: OnProgress | None = None,
) -> Summary:
    """List what the job needs of the systems around it, and try each without changing anything.

    spark: also what a publish from Spark needs, the receipts topic.

    Returns `{"healthy", "failed", "unknown", "needs": [{"region", "kind", "what", "outcome", "told"}]}`; `outcome` is
    `ok`, `failed`, or `unknown` where it can't be tried from here and now.
    """
    from kappaflow import _native

    return cast(Summary, json.loads(_native.doctor(fspath(job), param_texts(params), spark, on_progress)))


def status(job: JobPath, *, params: ParamValues | None = None) -> Summary:
    """Where the job is: children, splits, and per region what is published, worked and landed."""
    from kappaflow import _native

    return cast(Summary, json.loads(_native.status(fspath(job), param_texts(params))))


def lag(job: JobPath, *, region: str, params: ParamValues | None = None) -> Summary:
    """How far a region's workers are behind: `lag`, `ingress_end`, `committed`, `published`, `egress_end`, `landed`."""
    from kappaflow import _native

    return cast(Summary, json.loads(_native.lag(fspath(job), param_texts(params), region)))


async def lag_async(job: JobPath, *, region: str, params: ParamValues | None = None) -> Summary:
    """`lag` without blocking the event loop; for triggers."""
    from kappaflow import _native

    return cast(Summary, json.loads(await _native.lag_async(fspath(job), param_texts(params), region)))


def regions(job: JobPath, *, params: ParamValues | None = None) -> list[Region]:
    """The job's regions and their headroom, in rows."""
    from kappaflow import _native

    return cast("list[Region]", json.loads(_native.regions(fspath(job), param_texts(params))))


def names(job: JobPath, *, region: str, params: ParamValues | None = None) -> Summary:
    """What the job's things in a region are called: `{"job", "group", "topics": {role: name}}`; no broker is asked."""
    from kappaflow import _native

    return cast(Summary, json.loads(_native.names(fspath(job), param_texts(params), region)))


def events(job: JobPath, *, params: ParamValues | None = None) -> list[Event]:
    """The job's timeline, oldest first."""
    from kappaflow import _native

    return cast("list[Event]", json.loads(_native.events(fspath(job), param_texts(params))))


def table(job: JobPath, *, params: ParamValues | None = None, local: bool = True) -> Summary:
    """The landed table now: `{"job", "dir", "files"}`, the files being those of this job in its newest version.

    local: paths on this disk; files of an object store are got, once. Otherwise paths or URLs of where they are.
    """
    from kappaflow import _native

    return cast(Summary, json.loads(_native.table(fspath(job), param_texts(params), local)))
