"""What is asked of the rendering."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Options:
    """What the job file doesn't say.

    `image` has `kappaflow-worker`, and Python with the callable where the service is one. `service_image` is that of a
    service called by HTTP, which runs beside each worker. `cpu` and `memory` are of the service: of its container, or
    of the worker where the service is a callable. `secret` names the Secret of the job's `env:` and `file:` references,
    `claim` a claim that has the job's `.kappaflow`; without it one is rendered.
    """

    image: str
    region: str
    service_image: str | None = None
    scaler: Literal["keda", "hpa"] = "keda"
    min_workers: int = 0
    max_workers: int = 20
    cpu: str = "2"
    memory: str = "8Gi"
    lag_per_worker: int = 10_000
    namespace: str = "default"
    secret: str | None = None
    claim: str | None = None
