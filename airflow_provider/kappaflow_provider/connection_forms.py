"""The connection types and their forms, as data: what `get_provider_info` says, and what the hooks read."""

from typing import Any, NamedTuple


class Field(NamedTuple):
    """A field of the form. `option` is what it is called by librdkafka; an empty one is no librdkafka option."""

    name: str
    label: str
    option: str = ""
    secret: bool = False


KAFKA_TYPE = "kappaflow_kafka"
KAFKA_FIELDS = (
    Field(
        "security_protocol",
        "Security protocol (PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL)",
        "security.protocol",
    ),
    Field("sasl_mechanism", "SASL mechanism (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512)", "sasl.mechanism"),
    Field("ssl_ca_location", "CA certificates (path)", "ssl.ca.location"),
    Field("ssl_certificate_location", "Client certificate (path)", "ssl.certificate.location"),
    Field("ssl_key_location", "Client key (path)", "ssl.key.location"),
    Field("ssl_key_password", "Password of the client key", "ssl.key.password", secret=True),
    Field("ssl_key_pem", "Client key (PEM)", "ssl.key.pem", secret=True),
    Field("options", "Further librdkafka options (JSON object)"),
)
KAFKA_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "extra"],
    "relabeling": {"host": "Bootstrap servers", "login": "SASL username", "password": "SASL password"},
    "placeholders": {
        "host": "broker1:9092,broker2:9092",
        "port": "only if one server, named without its port",
    },
}

REGISTRY_TYPE = "kappaflow_registry"
REGISTRY_FIELDS = (Field("ssl_ca_location", "CA certificates (path)"),)
REGISTRY_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["port", "schema", "extra"],
    "relabeling": {"host": "URL", "login": "Username", "password": "Password or token"},
    "placeholders": {
        "host": "https://registry.example:8081, or dir:/path/of/a/registry",
        "login": "empty: the password is sent as a bearer token",
    },
}


def conn_fields(fields: tuple[Field, ...]) -> dict[str, Any]:
    """The fields in the form of provider info."""
    out: dict[str, Any] = {}
    for field in fields:
        schema: dict[str, Any] = {"type": ["string", "null"]}
        if field.secret:
            schema["format"] = "password"
        out[field.name] = {"label": field.label, "schema": schema}
    return out


def widgets(fields: tuple[Field, ...]) -> dict[str, Any]:
    """The fields as form widgets: Airflow before 3.2 asks the hook for them, later ones never call this."""
    from flask_appbuilder.fieldwidgets import (  # type: ignore[import-not-found, unused-ignore]
        BS3PasswordFieldWidget,
        BS3TextFieldWidget,
    )
    from wtforms import PasswordField, StringField  # type: ignore[import-untyped, unused-ignore]

    return {
        field.name: PasswordField(field.label, widget=BS3PasswordFieldWidget())
        if field.secret
        else StringField(field.label, widget=BS3TextFieldWidget())
        for field in fields
    }


def behaviour(declared: dict[str, Any]) -> dict[str, Any]:
    """A form's behaviour as a hook returns it."""
    return {key.replace("-", "_"): value for key, value in declared.items()}
