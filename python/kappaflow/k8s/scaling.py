"""How many workers: by KEDA, from none on, or by the HorizontalPodAutoscaler."""

from typing import Any

from kappaflow.errors import JobFileError
from kappaflow.k8s.needs import Needs, in_secret
from kappaflow.k8s.options import Options
from kappaflow.k8s.pod import PORT, literals
from kappaflow.types import Summary

# By librdkafka's name, and by KEDA's.
_MECHANISMS = {"PLAIN": "plaintext", "SCRAM-SHA-256": "scram_sha256", "SCRAM-SHA-512": "scram_sha512"}
_AUTHENTICATION = {
    "username": "sasl.username",
    "password": "sasl.password",
    "ca": "ssl.ca.location",
    "cert": "ssl.certificate.location",
    "key": "ssl.key.location",
    "keyPassword": "ssl.key.password",
}
# Nothing is scaled by the lag alone: a trigger of this threshold only says that there is work.
_NEVER = "1000000000"


def scaled_object(needed: Needs, options: Options, names: Summary) -> dict[str, Any]:
    """Scaled from none by the lag, and from there on by what the workers say themselves; a fleet by them alone."""
    # By name and namespace: KEDA looks up the pods behind it and asks each.
    url = f"http://{needed.name}.{options.namespace}:{PORT}/replicas"
    by_workers = {
        "type": "metrics-api",
        "metricType": "AverageValue",
        "metadata": {
            "url": url,
            "format": "json",
            "valueLocation": "desired_replicas",
            "targetValue": "1",
            "aggregateFromKubeServiceEndpoints": "true",
            "aggregationType": "max",
        },
    }
    by_lag = [] if needed.fleet else [_lag_trigger(needed, names)]
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": needed.metadata(),
        "spec": {
            "scaleTargetRef": {"name": needed.name},
            "pollingInterval": 15,
            "cooldownPeriod": 300,
            # Only a fleet that is there sees which jobs are submitted.
            "minReplicaCount": max(1, options.min_workers) if needed.fleet else options.min_workers,
            "maxReplicaCount": options.max_workers,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behaviour()}},
            "triggers": [*by_lag, by_workers],
        },
    }


def _lag_trigger(needed: Needs, names: Summary) -> dict[str, Any]:
    references = {"authenticationRef": {"name": needed.name}} if _secured(needed) else {}
    return {
        "type": "kafka",
        "metadata": {
            "bootstrapServers": needed.region["bootstrap_servers"],
            "consumerGroup": names["group"],
            "topic": names["topics"]["ingress"],
            "lagThreshold": _NEVER,
            "activationLagThreshold": "0",
            "offsetResetPolicy": "earliest",
            **_sign_in(needed),
        },
        **references,
    }


def trigger_authentication(needed: Needs, options: Options) -> list[dict[str, Any]]:
    """How KEDA signs in to Kafka: by the same Secret as the workers, none where they need none."""
    if needed.fleet or not _secured(needed):
        return []
    kafka = needed.region.get("kafka", {})
    secrets, configs = [], []
    for parameter, option in _AUTHENTICATION.items():
        value = kafka.get(option)
        if value is None:
            continue
        if (key := in_secret(needed, option, value)) is not None:
            secrets.append({"parameter": parameter, "name": needed.secret, "key": key})
        elif option in literals(needed):
            configs.append({"parameter": parameter, "name": needed.name, "key": option})
        else:
            key = next(key for path, (key, _) in needed.config.items() if path.endswith(value))
            configs.append({"parameter": parameter, "name": needed.name, "key": key})
    return [
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "TriggerAuthentication",
            "metadata": needed.metadata(),
            "spec": {
                **({"secretTargetRef": secrets} if secrets else {}),
                **({"configMapTargetRef": configs} if configs else {}),
            },
        }
    ]


def autoscaler(needed: Needs, options: Options, names: Summary) -> dict[str, Any]:
    """By the service's CPU and by the lag, which an adapter of Prometheus' metrics must offer; a fleet by CPU alone."""
    container = "service" if needed.port else "worker"
    by_cpu = {
        "type": "ContainerResource",
        "containerResource": {
            "name": "cpu",
            "container": container,
            "target": {"type": "Utilization", "averageUtilization": 70},
        },
    }
    by_lag = {
        "type": "External",
        "external": {
            "metric": {
                "name": "kappaflow_worker_lag_records",
                "selector": {"matchLabels": {"messaging_consumer_group_name": names["group"]}},
            },
            "target": {"type": "AverageValue", "averageValue": str(options.lag_per_worker)},
        },
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": needed.metadata(),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": needed.name},
            # It knows nothing of none.
            "minReplicas": max(1, options.min_workers),
            "maxReplicas": options.max_workers,
            "behavior": _behaviour(),
            "metrics": [by_cpu] if needed.fleet else [by_cpu, by_lag],
        },
    }


def _behaviour() -> dict[str, Any]:
    # Each change stops the group for a moment.
    return {"scaleDown": {"stabilizationWindowSeconds": 300}}


def _secured(needed: Needs) -> bool:
    return bool(_sign_in(needed))


def _sign_in(needed: Needs) -> dict[str, str]:
    """A Kafka trigger's words for how the region is reached."""
    kafka = needed.region.get("kafka", {})
    protocol = kafka.get("security.protocol", "plaintext").lower()
    said = {"tls": "enable"} if protocol.endswith("ssl") else {}
    if protocol.startswith("sasl"):
        mechanism = kafka.get("sasl.mechanism", kafka.get("sasl.mechanisms", ""))
        if mechanism not in _MECHANISMS:
            raise JobFileError(
                f"KEDA's Kafka trigger can't sign in by {mechanism or 'the default mechanism'} as this job does: "
                "render with --scaler hpa"
            )
        said["sasl"] = _MECHANISMS[mechanism]
    return said
