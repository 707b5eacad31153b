"""The pods, and what is beside them."""

import math
from typing import Any

from kappaflow.k8s.needs import JOB_DIR, STATE_DIR, Needs
from kappaflow.k8s.options import Options

# Where the worker answers for itself.
PORT = 9464
# Of a worker that only calls a service beside it.
_WORKER_RESOURCES = {"cpu": "500m", "memory": "1Gi"}
# Seconds for what a worker does when all its calls have ended.
_LEAVING_S = 15


def config_map(needed: Needs, options: Options) -> dict[str, Any]:
    """The job file and its schemas."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": needed.metadata(),
        "data": {**dict(needed.config.values()), **literals(needed)},
    }


def literals(needed: Needs) -> dict[str, str]:
    """What is no secret, and yet asked for by reference."""
    username = needed.region.get("kafka", {}).get("sasl.username", "")
    return {"sasl.username": username} if username and not username.startswith(("env:", "file:")) else {}


def state_claim(needed: Needs) -> dict[str, Any]:
    """The job's `.kappaflow`. SQLite's readers and writers share memory, so that they share a node."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {**needed.metadata(), "name": needed.claim},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}},
    }


def deployment(needed: Needs, options: Options, job_file: str, params: dict[str, str]) -> dict[str, Any]:
    """The workers. How many is the scaler's to say."""
    big = {"cpu": options.cpu, "memory": options.memory}
    worker = {
        "name": "worker",
        "image": options.image,
        "command": ["kappaflow-worker"],
        "args": [
            *(_of_fleet(needed.fleet) if needed.fleet else [f"{JOB_DIR}/{job_file}"]),
            f"--region={options.region}",
            # A Deployment would start one that ends again; the scaler ends it. A fleet ends in no other way.
            *([] if needed.fleet else ["--until=stopped"]),
            f"--listen=0.0.0.0:{PORT}",
            *([] if needed.fleet else [f"--param={name}={value}" for name, value in params.items()]),
        ],
        **_environment(needed),
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": _probe("/healthz", periodSeconds=5, failureThreshold=60),
        "livenessProbe": _probe("/healthz", periodSeconds=10, failureThreshold=6),
        "readinessProbe": _probe("/readyz", periodSeconds=5),
        "resources": _resources(_WORKER_RESOURCES if needed.port else big),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(needed),
    }
    # A sidecar of Kubernetes' own: it begins before the worker, and ends after it has drained.
    sidecars = [
        {
            "name": "service",
            "image": options.service_image,
            "restartPolicy": "Always",
            "ports": [{"name": "service", "containerPort": needed.port}],
            "startupProbe": {
                **needed.probe,
                "periodSeconds": 2,
                "failureThreshold": 150,
            },
            "resources": _resources(big),
        }
    ]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": needed.metadata(),
        "spec": {
            "selector": {"matchLabels": needed.labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {
                    "labels": dict(needed.labels),
                    "annotations": {
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": str(PORT),
                        "prometheus.io/path": "/metrics",
                    },
                },
                "spec": {
                    **({"initContainers": sidecars} if needed.port else {}),
                    "containers": [worker],
                    "automountServiceAccountToken": False,
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    "terminationGracePeriodSeconds": grace_s(needed),
                    "volumes": _volumes(needed),
                },
            },
        },
    }


def _of_fleet(fleet: dict[str, str]) -> list[str]:
    return ["fleet", f"--store={fleet['store']}", f"--service={fleet['service']}"]


def grace_s(needed: Needs) -> int:
    """Seconds in which a worker drains: a call that has just begun, its delivery, and leaving the group."""
    call, delivery = int(needed.service["deadline_ms"]), int(needed.limits["broker_timeout_ms"])
    return math.ceil((call + delivery) / 1_000) + _LEAVING_S


def service(needed: Needs) -> dict[str, Any]:
    """Where the scaler finds the workers; it asks each of them."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": needed.metadata(),
        "spec": {
            "selector": dict(needed.labels),
            "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
        },
    }


def disruption_budget(needed: Needs) -> dict[str, Any]:
    """Nodes are drained of one worker at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": needed.metadata(),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": dict(needed.labels)}},
    }


def _probe(path: str, **times: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http"}, **times}


def _resources(of: dict[str, str]) -> dict[str, Any]:
    # What is guaranteed is what there is: a worker's rate is the same on each node.
    return {"requests": dict(of), "limits": dict(of)}


def _environment(needed: Needs) -> dict[str, Any]:
    variables = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": needed.secret, "key": key}}}
        for name, key in needed.variables.items()
    ]
    return {"env": variables} if variables else {}


def _mounts(needed: Needs) -> list[dict[str, Any]]:
    # File by file, so that what the image has beside the job file stays visible.
    config = [
        {"name": "job", "mountPath": path, "subPath": key, "readOnly": True}
        for path, (key, _) in needed.config.items()
    ]
    secrets = [
        {"name": "secrets", "mountPath": path, "subPath": key, "readOnly": True}
        for path, key in needed.secret_files.items()
    ]
    return [*config, *secrets, {"name": "state", "mountPath": f"{JOB_DIR}/{STATE_DIR}"}]


def _volumes(needed: Needs) -> list[dict[str, Any]]:
    secrets = [{"name": "secrets", "secret": {"secretName": needed.secret}}] if needed.secret_files else []
    return [
        {"name": "job", "configMap": {"name": needed.name}},
        *secrets,
        {"name": "state", "persistentVolumeClaim": {"claimName": needed.claim}},
    ]
