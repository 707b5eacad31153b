"""Connections: what they become, where they are seen, and where they are not."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, Connection

from kappaflow_provider import connection_forms
from kappaflow_provider.hooks import kafka as kafka_hook
from kappaflow_provider.hooks.kafka import KappaFlowKafkaHook, variable
from kappaflow_provider.operators.egress import KafkaEgressOperator

Json = dict[str, Any]
EAST = {
    "conn_type": "kappaflow_kafka",
    "host": "b1:9092,b2:9092",
    "login": "u",
    "password": "s3cret-word",
    "extra": '{"security_protocol": "SASL_SSL", "ssl_key_pem": "PEM-TEXT", '
    '"options": {"socket.keepalive.enable": true, "sasl.jaas.config": "jaas-text"}}',
}


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(kafka_hook, "mask_secret", seen.append)
    return seen


@pytest.fixture
def east(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        KappaFlowKafkaHook,
        "get_connection",
        classmethod(lambda _, conn_id: Connection(conn_id=conn_id, **EAST)),
    )


def hook_of(**fields: Any) -> KappaFlowKafkaHook:
    return KappaFlowKafkaHook("c", connection=Connection(conn_id="c", conn_type="kappaflow_kafka", **fields))


def test_a_connection_becomes_librdkafka_options(east: None, masked: list[str]) -> None:
    assert KappaFlowKafkaHook().get_conn() == {
        "bootstrap.servers": "b1:9092,b2:9092",
        "security.protocol": "SASL_SSL",
        "sasl.username": "u",
        "sasl.password": "s3cret-word",
        "ssl.key.pem": "PEM-TEXT",
        "sasl.jaas.config": "jaas-text",
        "socket.keepalive.enable": "true",
    }
    assert sorted(masked) == ["PEM-TEXT", "jaas-text", "s3cret-word"]


def test_a_connection_that_signs_in_by_an_identity_provider(masked: list[str]) -> None:
    oauth = {
        "sasl_oauthbearer_method": "oidc",
        "sasl_oauthbearer_token_endpoint_url": "https://idp/token",
        "sasl_oauthbearer_client_id": "kappaflow",
        "sasl_oauthbearer_client_secret": "s3cret-word",
        "sasl_oauthbearer_scope": "kafka",
        "sasl_oauthbearer_extensions": "logicalCluster=lkc-1",
        "https_ca_location": "/etc/idp.pem",
    }
    extra = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", **oauth}
    options = hook_of(extra=json.dumps(extra)).get_conn()
    assert options == {name.replace("_", "."): value for name, value in extra.items()} | {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
    }
    # An address is no secret: it is in messages.
    assert masked == ["s3cret-word"]
    assert (
        variable("east", "sasl.oauthbearer.client.secret") == "KAPPAFLOW_EAST_SASL_OAUTHBEARER_CLIENT_SECRET"
    )


@pytest.mark.parametrize(
    ("fields", "servers"),
    [({"host": "b"}, "b:9092"), ({"host": "b", "port": 1}, "b:1"), ({"host": "b:2"}, "b:2"), ({}, "")],
)
def test_servers(fields: Json, servers: str) -> None:
    assert hook_of(**fields).bootstrap_servers == servers


def test_options_that_are_no_json_object_are_named_but_not_shown() -> None:
    with pytest.raises(AirflowException, match="connection c: options: expected a JSON object") as caught:
        hook_of(extra='{"options": "{hush"}').get_conn()
    assert "hush" not in str(caught.value)


def test_names_of_variables() -> None:
    assert variable("us-east.1", "ssl.key.password") == "KAPPAFLOW_US_EAST_1_SSL_KEY_PASSWORD"


def test_secrets_are_in_the_environment_during_the_call_only(
    east: None, masked: list[str], stage: Any, context: Json, job_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAPPAFLOW_EAST_SASL_USERNAME", "before")
    seen: Json = {}

    def land(*_: Any, **kwargs: Any) -> Json:
        seen.update(os.environ, params=kwargs["params"])
        return {"rows": 1}

    stage("land", land)
    operator = KafkaEgressOperator(
        task_id="t",
        job_file=job_file,
        job_params={"rules": "v1"},
        region_connections={"east": "c", "west": "c"},
    )
    result = operator.execute(context)
    assert seen["KAPPAFLOW_EAST_SASL_PASSWORD"] == "s3cret-word"
    assert seen["KAPPAFLOW_WEST_SSL_KEY_PEM"] == "PEM-TEXT"
    assert "KAPPAFLOW_EAST_SASL_PASSWORD" not in os.environ
    assert os.environ["KAPPAFLOW_EAST_SASL_USERNAME"] == "before"
    # `east` is a declared param and takes the servers; `west` is none.
    assert seen["params"] == {"rules": "v1", "east": "b1:9092,b2:9092"}
    assert "s3cret-word" not in str(result) + str(context["ti"].xcoms)


def test_a_param_that_was_given_stays(
    east: None, masked: list[str], stage: Any, context: Json, job_file: str
) -> None:
    calls = stage("land", {"rows": 1})
    KafkaEgressOperator(
        task_id="t", job_file=job_file, job_params={"east": "mine:1"}, region_connections={"east": "c"}
    ).execute(context)
    assert calls.of("land")[0]["params"] == {"east": "mine:1"}


@pytest.fixture
def answering() -> Iterator[Any]:
    """A server on loopback that gives one client one answer."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve(answer: bytes) -> str:
        def run() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        threading.Thread(target=run, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    with server:
        yield serve


@pytest.mark.parametrize(
    ("answer", "good"),
    [(b"\0\0\0\x0a\0\0\0\x01\0\0\0\0\0\0", True), (b"HTTP/1.1 400 Bad Request\r\n", False), (b"", False)],
)
def test_the_connection_test_knows_a_kafka(answering: Any, answer: bytes, good: bool) -> None:
    ok, message = hook_of(host=answering(answer)).test_connection()
    assert ok == good, message
    assert ("a Kafka broker answers" in message) == good


def test_the_connection_test_of_nothing() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ok, message = hook_of(host=f"127.0.0.1:{taken.getsockname()[1]}").test_connection()
    assert not ok
    assert "does not answer as a Kafka broker" in message
    assert hook_of().test_connection()[0] is False


def test_a_key_that_a_form_made_one_line_of_is_a_pem_again(masked: list[str]) -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + "A" * 64 + "\n" + "B" * 20 + "==\n-----END PRIVATE KEY-----\n"
    for given in (key, key.replace("\n", ""), key.replace("\n", " "), key.replace("\n", "\\n")):
        assert hook_of(extra=json.dumps({"ssl_key_pem": given})).get_conn()["ssl.key.pem"] == key
    assert masked == [key] * 4


def test_the_form_offers_what_there_is_to_choose() -> None:
    fields = connection_forms.conn_fields(connection_forms.KAFKA_FIELDS)
    assert fields["security_protocol"]["schema"]["enum"] == ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
    assert {"OAUTHBEARER", "GSSAPI"} < set(fields["sasl_mechanism"]["schema"]["enum"])
    assert {n for n, f in fields.items() if f["schema"].get("format") == "password"} == {
        "ssl_key_pem",
        "ssl_key_password",
        "sasl_oauthbearer_client_secret",
    }
