"""The connection types and their forms, as data: what `get_provider_info` says, and what the hooks read."""

from typing import Any, NamedTuple


class Field(NamedTuple):
    """A field of the form.

    option: what it is called by librdkafka; empty: it is no librdkafka option.
    choices: what the form offers; empty: any text.
    """

    name: str
    label: str
    option: str = ""
    secret: bool = False
    choices: tuple[str, ...] = ()
    description: str = ""


_PATH = "A path where tasks and workers run"

KAFKA_TYPE = "kappaflow_kafka"
KAFKA_FIELDS = (
    Field(
        "security_protocol",
        "Security protocol",
        "security.protocol",
        choices=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
        description="Default: PLAINTEXT",
    ),
    Field(
        "sasl_mechanism",
        "SASL mechanism",
        "sasl.mechanism",
        choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"),
        description="The first three with the username and password above",
    ),
    Field(
        "sasl_oauthbearer_method",
        "OAUTHBEARER: method",
        "sasl.oauthbearer.method",
        choices=("oidc",),
        description="oidc: tokens of an identity provider, or from a file",
    ),
    Field(
        "sasl_oauthbearer_token_endpoint_url",
        "OAUTHBEARER: token endpoint",
        "sasl.oauthbearer.token.endpoint.url",
        description="https://… of the identity provider, or file:///… of a token",
    ),
    Field("sasl_oauthbearer_client_id", "OAUTHBEARER: client id", "sasl.oauthbearer.client.id"),
    Field(
        "sasl_oauthbearer_client_secret",
        "OAUTHBEARER: client secret",
        "sasl.oauthbearer.client.secret",
        secret=True,
    ),
    Field("sasl_oauthbearer_scope", "OAUTHBEARER: scope", "sasl.oauthbearer.scope"),
    Field(
        "sasl_oauthbearer_extensions",
        "OAUTHBEARER: extensions",
        "sasl.oauthbearer.extensions",
        description="key=value,key=value, such as logicalCluster=lkc-1",
    ),
    Field(
        "https_ca_location",
        "CA certificates of the identity provider",
        "https.ca.location",
        description=_PATH,
    ),
    Field("ssl_ca_location", "CA certificates", "ssl.ca.location", description=_PATH),
    Field("ssl_certificate_location", "Client certificate", "ssl.certificate.location", description=_PATH),
    Field("ssl_key_location", "Client key (file)", "ssl.key.location", description=_PATH),
    Field(
        "ssl_key_pem",
        "Client key (PEM)",
        "ssl.key.pem",
        secret=True,
        description="The key itself, instead of a file; its line breaks may be missing",
    ),
    Field("ssl_key_password", "Password of the client key", "ssl.key.password", secret=True),
    Field(
        "options",
        "Further options",
        description='librdkafka options as a JSON object: {"client.dns.lookup": "use_all_dns_ips"}',
    ),
)
KAFKA_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "extra"],
    "relabeling": {"host": "Bootstrap servers", "login": "SASL username", "password": "SASL password"},
    "placeholders": {
        "host": "broker1:9092,broker2:9092",
        "port": "only if one server, named without its port",
    },
}

REGISTRY_TYPE = "schema_registry"
REGISTRY_FIELDS = (
    Field("token", "Bearer token", secret=True, description="Instead of username and password"),
    Field("oauth_token_url", "OAuth token URL", description="Client credentials, instead of the above"),
    Field("oauth_client_id", "OAuth client id"),
    Field("oauth_client_secret", "OAuth client secret", secret=True),
    Field("oauth_scope", "OAuth scope"),
    Field("ca_file", "CA certificates", description=_PATH),
    Field("cert_file", "Client certificate", description=_PATH),
    Field("key_file", "Client key", description=f"{_PATH}; without a password"),
    Field("timeout_ms", "Timeout of a request (ms)", description="Default: 10000"),
)
REGISTRY_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["port", "schema", "extra"],
    "relabeling": {"host": "URL", "login": "Username"},
    "placeholders": {
        "host": "https://a.example/apis/ccompat/v7[,https://b.example/…], or dir:/path/of/a/registry",
    },
}


def conn_fields(fields: tuple[Field, ...]) -> dict[str, Any]:
    """The fields in the form of provider info."""
    out: dict[str, Any] = {}
    for field in fields:
        schema: dict[str, Any] = {"type": ["string", "null"]}
        if field.secret:
            schema["format"] = "password"
        if field.choices:
            schema["enum"] = list(field.choices)
        out[field.name] = {"label": field.label, "schema": schema}
        if field.description:
            out[field.name]["description"] = field.description
    return out


def widgets(fields: tuple[Field, ...]) -> dict[str, Any]:
    """The fields as form widgets: Airflow before 3.2 asks the hook for them, later ones never call this."""
    from flask_appbuilder.fieldwidgets import (  # type: ignore[import-not-found, unused-ignore]
        BS3PasswordFieldWidget,
        BS3TextFieldWidget,
    )
    from wtforms import PasswordField, StringField  # type: ignore[import-untyped, unused-ignore]

    return {
        field.name: PasswordField(field.label, description=_help(field), widget=BS3PasswordFieldWidget())
        if field.secret
        else StringField(field.label, description=_help(field), widget=BS3TextFieldWidget())
        for field in fields
    }


def _help(field: Field) -> str:
    """A field's help where there is no list to choose from."""
    return ". ".join(filter(None, [field.description, ", ".join(field.choices)]))


def behaviour(declared: dict[str, Any]) -> dict[str, Any]:
    """A form's behaviour as a hook returns it."""
    return {key.replace("-", "_"): value for key, value in declared.items()}
