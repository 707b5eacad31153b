"""Kubernetes objects for the workers of a job: rendered from the job file, applied by whoever owns the cluster.

Nothing here talks to a cluster.
"""

import json
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from kappaflow.errors import KappaFlowError
from kappaflow.k8s.needs import needs
from kappaflow.k8s.options import Options
from kappaflow.k8s.pod import config_map, deployment, disruption_budget, service, state_claim
from kappaflow.k8s.scaling import autoscaler, scaled_object, trigger_authentication

__all__ = ["Options", "render", "to_json", "to_yaml"]

JobPath = str | PathLike[str]


def render(
    job: JobPath, options: Options, *, params: Mapping[str, object] | None = None
) -> list[dict[str, Any]]:
    """Render the objects of one region's workers, in the order in which they are applied.

    The job is planned, if it wasn't, since its topics and its consumer group are named by its id. Raises `JobFileError`
    where something of the job file can't be had in a pod, by the name of its key.
    """
    import kappaflow

    resolved = kappaflow.resolve(job, params=params)
    needed = needs(resolved, options)
    names = kappaflow.names(job, region=options.region, params=params)
    given = {name: str(value) for name, value in (params or {}).items()}
    objects = [config_map(needed, options), *([] if options.claim else [state_claim(needed)])]
    objects += [
        deployment(needed, options, Path(fspath(job)).name, given),
        service(needed),
        disruption_budget(needed),
    ]
    if options.scaler == "keda":
        objects += [*trigger_authentication(needed, options), scaled_object(needed, options, names)]
    else:
        objects.append(autoscaler(needed, options, names))
    for rendered in objects:
        rendered["metadata"]["namespace"] = options.namespace
    return objects


def to_json(objects: list[dict[str, Any]]) -> str:
    """The objects as one JSON list, as `kubectl` takes it."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=2) + "\n"


def to_yaml(objects: list[dict[str, Any]]) -> str:
    """The objects as one YAML stream. Needs PyYAML: `pip install 'kappaflow[k8s]'`."""
    try:
        import yaml
    except ImportError:
        raise KappaFlowError("YAML needs PyYAML: pip install 'kappaflow[k8s]', or use --json") from None

    class Dumper(yaml.SafeDumper):
        """Texts of several lines as such, and no references between objects."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return str(yaml.dump_all(objects, Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True))
