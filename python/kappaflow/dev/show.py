"""The dev stack's status as people read it."""

import json
from collections.abc import Sequence
from pathlib import Path

from kappaflow.dev.secure import ADMIN
from kappaflow.dev.server import ServerStatus
from kappaflow.dev.state import BrokerStatus, RegionStatus


def ready_text(directory: Path, regions: list[RegionStatus], servers: list[ServerStatus]) -> str:
    """What `up` prints: the tables, the regions of a job file, and where it all is."""
    parts = [
        tables(regions, servers),
        "For a job file:",
        job_file_snippet(regions, servers),
        f"Data and logs: {directory.absolute()}",
    ]
    return "\n\n".join(parts)


def job_file_snippet(regions: list[RegionStatus], servers: Sequence[ServerStatus] = ()) -> str:
    """The `[[regions]]` tables of a job file for these Kafkas and their registry."""
    registry = next((server.url for server in servers if server.kind == "registry"), None)
    return "\n\n".join(_region_snippet(region, registry) for region in regions)


def _region_snippet(region: RegionStatus, registry: str | None) -> str:
    """By a secure listener where there is one: that is how a job would connect in earnest."""
    options = region.secure.options(ADMIN, "SCRAM-SHA-512") if region.secure is not None else {}
    servers = options.pop("bootstrap.servers", region.bootstrap_servers)
    lines = [
        "[[regions]]",
        f'name = "{region.region}"',
        f'bootstrap_servers = "{servers}"',
        *([f'registry = "{registry}"'] if registry is not None else []),
        "cap_max = 250000  # rows that may be under way here at a time",
        *(["", "[regions.kafka]"] if options else []),
        *(f'"{name}" = {json.dumps(value)}' for name, value in options.items()),
    ]
    return "\n".join(lines)


def tables(regions: list[RegionStatus], servers: list[ServerStatus]) -> str:
    """What `status` prints."""
    rows = [("REGION", "STATE", "BOOTSTRAP SERVERS", "PID", "CLUSTER ID")]
    for region in regions:
        if len(region.brokers) == 1:
            pid = str(region.brokers[0].pid or "-")
            rows.append((region.region, region.state, region.bootstrap_servers, pid, region.cluster_id))
            continue
        rows.append((region.region, region.state, "", "", region.cluster_id))
        rows += [
            (broker_name(region, one), one.state, one.address, str(one.pid or "-"), "")
            for one in region.brokers
        ]
    parts = [_aligned(rows), *(_secure_table(region) for region in regions if region.secure is not None)]
    if servers:
        found = [(server.kind, server.state, server.url, str(server.pid or "-")) for server in servers]
        parts.append(_aligned([("SERVER", "STATE", "URL", "PID"), *found]))
    for server in servers:
        if server.options:
            options = (f"{name} = {json.dumps(value)}" for name, value in server.options.items())
            parts.append("\n".join([f"Options of {server.kind} for clients:", *options]))
    return "\n\n".join(parts)


def _secure_table(region: RegionStatus) -> str:
    found = region.secure
    if found is None:
        return ""
    rows = [
        (f"SECURE LISTENERS OF {region.region}", "BOOTSTRAP SERVERS", "HOW"),
        ("SASL_SSL", found.sasl_ssl, "SCRAM-SHA-512, PLAIN: USER, USER.password; OAUTHBEARER: USER.token"),
        ("SSL", found.ssl, "USER.pem and USER.key"),
        ("SASL_SSL", found.expired, "as above; the broker's certificate has expired"),
    ]
    users = "Users: admin may do all, reader may not write. Files, and ca.pem, are in"
    return f"{_aligned(rows)}\n{users}\n{found.directory}"


def broker_name(region: RegionStatus, broker: BrokerStatus) -> str:
    """What a broker is called on the command line."""
    return region.region if len(region.brokers) == 1 else f"{region.region}/{broker.broker}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
