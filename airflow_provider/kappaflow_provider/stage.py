"""What all operators and sensors share: the job file, its params, the regions' connections, and a careful call."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kappaflow_provider.exceptions import KappaFlowFailed, KappaFlowStopped, as_airflow_errors
from kappaflow_provider.hooks.kafka import KappaFlowKafkaHook
from kappaflow_provider.hooks.registry import KappaFlowRegistryHook
from kappaflow_provider.hooks.source import KappaFlowSourceHook
from kappaflow_provider.job_file import declared_params, registry_connections, source_connections

JOB_TEMPLATE_FIELDS = ("job_file", "job_params", "region_connections")
log = logging.getLogger(__name__)


class Stage:
    """A mixin of operators and sensors. Nothing here does I/O before `calling` is entered."""

    job_file: str
    job_params: Mapping[str, object] | None
    region_connections: Mapping[str, str] | None
    _calling = False

    @contextmanager
    def calling(self) -> Iterator[dict[str, object]]:
        """Around a call of `kappaflow`: yields the job's params, with errors turned into Airflow's.

        The connections of regions, registries and the source are in the environment of this process within the
        block, and nowhere after it.
        """
        if not Path(self.job_file).is_file():
            raise KappaFlowFailed(
                f"{self.job_file}: no such job file on this worker; give its path as the worker sees it",
                "job_file",
            )
        with ExitStack() as stack:
            stack.enter_context(as_airflow_errors())
            params = connect(stack, self.job_file, self.job_params, self.region_connections)
            for conn_id in registry_connections(self.job_file, params):
                stack.enter_context(KappaFlowRegistryHook(conn_id).in_environment())
            for conn_id in source_connections(self.job_file, params):
                stack.enter_context(KappaFlowSourceHook(conn_id).in_environment())
            self._calling = True
            try:
                yield params
            finally:
                self._calling = False

    def stop(self) -> None:
        """For `on_kill`: ends the call that is under way, if there is one.

        Airflow 3 only calls `on_kill` from its signal handler, and the task would go on. The handler runs within
        the call, which looks at signals every 200 ms, so raising here is what stops it.
        """
        if self._calling:
            self._calling = False
            raise KappaFlowStopped(
                "stopped by Airflow; what was done is kept, and the next try goes on from there",
                "interrupted",
            )


def connect(
    stack: ExitStack,
    job_file: str,
    job_params: Mapping[str, object] | None,
    region_connections: Mapping[str, str] | None,
    get_hook: Callable[[str], KappaFlowKafkaHook] = KappaFlowKafkaHook,
) -> dict[str, object]:
    """Puts the regions' connections in place until `stack` closes, and returns the params to call with.

    A param that is named as a region gets the connection's bootstrap servers, unless it was given.
    """
    params: dict[str, object] = dict(job_params or {})
    if not region_connections:
        return params
    declared = declared_params(job_file)
    for region, conn_id in region_connections.items():
        hook = get_hook(conn_id)
        stack.enter_context(hook.in_environment(region))
        servers = hook.bootstrap_servers
        if servers and region in declared:
            params.setdefault(region, servers)
        elif servers:
            log.warning(
                "the bootstrap servers of connection %s are not used: %s declares no param %r",
                conn_id,
                job_file,
                region,
            )
    return params
