"""Waiting for a region's egress in the triggerer."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from kappaflow_provider.egress_state import look
from kappaflow_provider.exceptions import FAIL_FAST, KappaFlowFailed
from kappaflow_provider.hooks.kafka import KappaFlowKafkaHook
from kappaflow_provider.stage import connect

# An event within seconds of the deferral can fail the task.
QUIET_S = 10.0
# One refused look may be a broker that restarts; several in a row are an error.
FAILURES = 3
# A trigger's connections are in the environment while it looks, and the triggerer runs many at once.
_environment = threading.Lock()


class EgressCompleteTrigger(BaseTrigger):
    """Fires when all that was published to a region is answered and committed.

    The event is `{"status": "done", "figures"}`, or `{"status": "error", "kind", "message"}`. It looks in a thread,
    so the triggerer's loop never waits for a broker. Secrets are no part of it: it carries connection ids.
    """

    def __init__(
        self,
        job_file: str,
        region: str,
        job_params: Mapping[str, object] | None = None,
        region_connections: Mapping[str, str] | None = None,
        poll_interval_s: float = 15.0,
        quiet_s: float = QUIET_S,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.job_file = job_file
        self.region = region
        self.job_params = dict(job_params or {})
        self.region_connections = dict(region_connections or {})
        self.poll_interval_s = poll_interval_s
        self.quiet_s = quiet_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How Airflow keeps it."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "job_file": self.job_file,
                "region": self.region,
                "job_params": self.job_params,
                "region_connections": self.region_connections,
                "poll_interval_s": self.poll_interval_s,
                "quiet_s": self.quiet_s,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Looks every `poll_interval_s`, and yields one event."""
        begun = time.monotonic()
        event = await self._wait()
        await asyncio.sleep(max(0.0, begun + self.quiet_s - time.monotonic()))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call, unused-ignore]

    async def _wait(self) -> dict[str, Any]:
        failures = 0
        while True:
            try:
                hooks = {conn: await _hook(conn) for conn in set(self.region_connections.values())}
                done, figures = await asyncio.to_thread(self._look, hooks)
                if done:
                    return {"status": "done", "figures": figures}
                failures = 0
            except Exception as error:
                kind = getattr(error, "kind", "error")
                failures += kind != "not_ready"
                final = kind in FAIL_FAST or isinstance(error, KappaFlowFailed)
                if kind != "not_ready" and (final or failures >= FAILURES):
                    return {"status": "error", "kind": kind, "message": str(error) or type(error).__name__}
                self.log.warning("not yet: %s", error)
            await asyncio.sleep(self.poll_interval_s)

    def _look(self, hooks: Mapping[str, KappaFlowKafkaHook]) -> tuple[bool, dict[str, Any]]:
        if not hooks:
            return look(self.job_file, self.region, self.job_params)
        with _environment, ExitStack() as stack:
            params = connect(
                stack, self.job_file, self.job_params, self.region_connections, get_hook=hooks.__getitem__
            )
            return look(self.job_file, self.region, params)


async def _hook(conn_id: str) -> KappaFlowKafkaHook:
    """The hook with its connection read: in a triggerer that is only possible from the loop."""
    if hasattr(BaseHook, "aget_connection"):
        connection = await BaseHook.aget_connection(conn_id)
    else:
        connection = await sync_to_async(BaseHook.get_connection)(conn_id)
    hook = KappaFlowKafkaHook(conn_id, connection=connection)
    # Masks the secrets now: telling Airflow which they are is not possible from the thread that looks.
    await sync_to_async(hook.get_conn)()
    return hook
