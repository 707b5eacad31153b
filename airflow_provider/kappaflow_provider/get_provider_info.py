"""What Airflow reads about this provider while it discovers providers; imports nothing that starts a thread."""

from typing import Any

from kappaflow_provider import __version__, connection_forms

_INTEGRATION = "KappaFlow"


def get_provider_info() -> dict[str, Any]:
    """The provider's description, in the form of Airflow's `provider_info.schema.json`."""
    return {
        "package-name": "airflow-provider-kappaflow",
        "name": "KappaFlow",
        "description": "Replays offline data through a production service as an event stream, "
        "and proves what happened to every record.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "kappaflow_provider.operators.split",
                    "kappaflow_provider.operators.dispatch",
                    "kappaflow_provider.operators.ingress",
                    "kappaflow_provider.operators.spark_ingress",
                    "kappaflow_provider.operators.service",
                    "kappaflow_provider.operators.egress",
                    "kappaflow_provider.operators.spark_egress",
                    "kappaflow_provider.operators.reconcile",
                    "kappaflow_provider.operators.metrics",
                    "kappaflow_provider.operators.compact",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "kappaflow_provider.sensors.headroom",
                    "kappaflow_provider.sensors.lag",
                    "kappaflow_provider.sensors.egress",
                    "kappaflow_provider.sensors.table",
                ],
            }
        ],
        "hooks": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "kappaflow_provider.hooks.kafka",
                    "kappaflow_provider.hooks.registry",
                    "kappaflow_provider.hooks.source",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": ["kappaflow_provider.triggers.egress"],
            }
        ],
        "connection-types": [
            {
                "connection-type": connection_forms.KAFKA_TYPE,
                "hook-class-name": "kappaflow_provider.hooks.kafka.KappaFlowKafkaHook",
                "hook-name": "KappaFlow Kafka",
                "ui-field-behaviour": connection_forms.KAFKA_BEHAVIOUR,
                "conn-fields": connection_forms.conn_fields(connection_forms.KAFKA_FIELDS),
            },
            {
                "connection-type": connection_forms.REGISTRY_TYPE,
                "hook-class-name": "kappaflow_provider.hooks.registry.KappaFlowRegistryHook",
                "hook-name": "Schema registry (KappaFlow)",
                "ui-field-behaviour": connection_forms.REGISTRY_BEHAVIOUR,
                "conn-fields": connection_forms.conn_fields(connection_forms.REGISTRY_FIELDS),
            },
        ],
    }
