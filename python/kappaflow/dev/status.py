"""How the stack's regions are: from what is remembered, what runs, and what answers. Changes nothing."""

from collections.abc import Collection
from pathlib import Path

from kappaflow.dev import config, probe, process, secure
from kappaflow.dev.kafka import Home
from kappaflow.dev.ports import HOST
from kappaflow.dev.secure import Access
from kappaflow.dev.state import (
    BrokerRecord,
    BrokerStatus,
    Health,
    RegionRecord,
    RegionStatus,
    StackState,
    broker_home,
)


def recovered(directory: Path, state: StackState) -> StackState:
    """The state, with what the brokers' directories tell beyond it: a starter may have died half-way."""
    for path in sorted(directory.glob("*/broker-*/server.properties")):
        name, digits = path.parent.parent.name, path.parent.name.removeprefix("broker-")
        kept, cluster_id = config.read_back(path), Home(path.parent).kept_cluster_id()
        if kept is not None and cluster_id is not None and digits.isdigit():
            region = state.regions.setdefault(name, RegionRecord(cluster_id, {}, kept.shape))
            region.brokers.setdefault(int(digits), kept.broker)
    for name, region in state.regions.items():
        for number, broker in region.brokers.items():
            if not broker.runs():
                home = Home(broker_home(directory, name, number))
                broker.process = process.from_pid_file(home.pid_file, home.mark) or broker.process
    return state


def of_region(directory: Path, name: str, region: RegionRecord) -> RegionStatus:
    """A region's status. Asks each of its brokers that runs."""
    brokers = tuple(_of_broker(directory, name, number, region) for number in region.brokers)
    return RegionStatus(
        region=name,
        state=_together([broker.state for broker in brokers]),
        bootstrap_servers=region.bootstrap_servers,
        cluster_id=region.cluster_id,
        min_insync_replicas=region.shape.min_insync_replicas,
        directory=str(directory / name),
        brokers=brokers,
        secure=access(directory, name, region),
    )


def peek(region: RegionRecord) -> Health:
    """As in a region's status, but by the processes alone, which is quick."""
    return _together([_by_process(broker) for broker in region.brokers.values()])


def access(directory: Path, name: str, region: RegionRecord) -> Access | None:
    """How clients connect to the secure listeners, if there are any."""
    if not region.shape.secure:
        return None
    return Access(
        sasl_ssl=region.addresses(secure.SASL_SSL),
        ssl=region.addresses(secure.SSL),
        expired=region.addresses(secure.EXPIRED),
        directory=str(Home(broker_home(directory, name, 1)).secure),
    )


def _of_broker(directory: Path, name: str, number: int, region: RegionRecord) -> BrokerStatus:
    broker, home = region.brokers[number], Home(broker_home(directory, name, number))
    health = _by_process(broker)
    if health == "running" and not probe.is_member(broker.port, region.cluster_id, number):
        health = "unresponsive"
    running = broker.process if health not in ("dead", "stopped") else None
    return BrokerStatus(
        broker=number,
        state=health,
        address=f"{HOST}:{broker.port}",
        pid=running.pid if running is not None else None,
        directory=str(home.root),
        log_file=str(home.log_file),
    )


def _by_process(broker: BrokerRecord) -> Health:
    if broker.process is None:
        return "stopped"
    if not broker.runs():
        return "dead"
    return "paused" if process.is_paused(broker.process) else "running"


def _together(states: Collection[Health]) -> Health:
    """How a region is whose brokers are so."""
    return next(iter(states)) if len(set(states)) == 1 else "degraded"
