"""Connections of type `schema_registry`: what they become, where they are seen, and what their test says."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, Connection

from kappaflow_provider import connection_forms
from kappaflow_provider.environment import variable
from kappaflow_provider.exceptions import KappaFlowFailed
from kappaflow_provider.hooks import registry as registry_hook
from kappaflow_provider.hooks.registry import KappaFlowRegistryHook
from kappaflow_provider.operators.egress import KafkaEgressOperator

Json = dict[str, Any]
Connect = Callable[..., KappaFlowRegistryHook]
OAUTH = {
    "oauth_token_url": "http://idp/token",
    "oauth_client_id": "id",
    "oauth_client_secret": "s3cret-c",
    "oauth_scope": "registry",
}


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(registry_hook, "mask_secret", seen.append)
    return seen


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, masked: list[str]) -> Connect:
    """`connect(host=…)` is a hook whose connection is that."""

    def make(extra: Json | None = None, **fields: Any) -> KappaFlowRegistryHook:
        connection = Connection(
            conn_id="my-registry", conn_type="schema_registry", extra=json.dumps(extra or {}), **fields
        )
        monkeypatch.setattr(KappaFlowRegistryHook, "get_connection", classmethod(lambda *_: connection))
        return KappaFlowRegistryHook("my-registry")

    return make


def test_a_connection_becomes_a_job_files_registry(connect: Connect, masked: list[str]) -> None:
    hook = connect(host="https://a/apis/ccompat/v7, https://b", login="me", password="s3cret-p")
    assert hook.get_conn() == {
        "urls": ["https://a/apis/ccompat/v7", "https://b"],
        "username": "me",
        "password": "s3cret-p",
    }
    hook = connect(
        {"token": "s3cret-t", "ca_file": "/ca", "timeout_ms": "500", "cert_file": ""}, host="http://a"
    )
    assert hook.get_conn() == {"urls": ["http://a"], "token": "s3cret-t", "ca_file": "/ca", "timeout_ms": 500}
    hook = connect(OAUTH, host="http://a")
    assert hook.get_conn() == {
        "urls": ["http://a"],
        "oauth": {name.removeprefix("oauth_"): value for name, value in OAUTH.items()},
    }
    assert connect(host="dir:/some/where").get_conn() == "dir:/some/where"
    assert masked == ["s3cret-p", "s3cret-t", "s3cret-c"]


@pytest.mark.parametrize(
    ("extra", "host", "said"),
    [
        ({}, "", "expected http://"),
        ({}, "registry:8081", "expected http://"),
        ({"timeout_ms": "soon"}, "http://a", "timeout_ms"),
        ({"oauth_token_url": "http://idp"}, "http://a", "oauth_client_id, oauth_client_secret"),
    ],
)
def test_what_cannot_be_is_named(connect: Connect, extra: Json, host: str, said: str) -> None:
    with pytest.raises(AirflowException, match=f"connection my-registry: .*{said}"):
        connect(extra, host=host).get_conn()


def test_the_job_finds_it_during_the_call_only(
    connect: Connect, stage: Any, context: Json, job_file: str
) -> None:
    connect(host="http://a", login="me", password="s3cret-p")
    name = variable("my-registry")
    assert name == "KAPPAFLOW_CONN_MY_REGISTRY"
    with Path(job_file).open("a") as file:
        file.write('reg = { type = "string" }\n[[regions]]\nregistry = "conn:${reg}"\n')
    seen: Json = {}

    def land(*_: Any, **__: Any) -> Json:
        seen.update(json.loads(os.environ[name]))
        return {"rows": 1}

    stage("land", land)
    result = KafkaEgressOperator(task_id="t", job_file=job_file, job_params={"reg": "my-registry"}).execute(
        context
    )
    assert seen == {"urls": ["http://a"], "username": "me", "password": "s3cret-p"}
    assert name not in os.environ
    assert "s3cret-p" not in str(result) + str(context["ti"].xcoms)


@pytest.mark.parametrize(
    ("kind", "fails_at_once"), [("incompatible", True), ("registry_denied", True), ("registry", False)]
)
def test_only_what_may_pass_is_retried(
    stage: Any, context: Json, job_file: str, kind: str, fails_at_once: bool
) -> None:
    from kappaflow.errors import of_kind

    stage("land", of_kind(kind, "no"))
    with pytest.raises(AirflowException) as caught:
        KafkaEgressOperator(task_id="t", job_file=job_file).execute(context)
    assert isinstance(caught.value, KappaFlowFailed) == fails_at_once


class Answers(BaseHTTPRequestHandler):
    """A registry that takes one token, and the identity provider that gives it."""

    def do_GET(self) -> None:
        if self.path == "/html/subjects":
            return self.answer(200, b"<html>")
        if self.path == "/other/subjects":
            return self.answer(200, b"{}")
        if self.path == "/plain/subjects" or self.headers.get("Authorization") in (
            "Bearer t0ken",
            "Basic bWU6czNjcmV0LXA=",
        ):
            return self.answer(200, b'["s"]')
        return self.answer(401, b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, b'{"access_token": "t0ken"}')

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize(
    ("extra", "fields", "path", "said"),
    [
        ({}, {}, "/plain/", ""),
        ({"token": "t0ken"}, {}, "/x", ""),
        ({}, {"login": "me", "password": "s3cret-p"}, "/x", ""),
        (OAUTH, {}, "/x", ""),
        ({"token": "wrong"}, {}, "/x", "401"),
        ({}, {}, "/html", "does not answer"),
        ({}, {}, "/other", "not as a schema registry"),
    ],
)
def test_the_connection_test(
    connect: Connect, server: str, extra: Json, fields: Json, path: str, said: str
) -> None:
    extra = {name: server if name == "oauth_token_url" else value for name, value in extra.items()}
    ok, message = connect(extra, host=f"{server}{path}", **fields).test_connection()
    assert ok == (said == ""), message
    assert said in message
    assert "s3cret" not in message


def test_the_connection_test_of_a_directory(connect: Connect, tmp_path: Any) -> None:
    assert connect(host=f"dir:{tmp_path}").test_connection()[0]
    assert not connect(host=f"dir:{tmp_path}/nope").test_connection()[0]


def test_the_form_hides_what_is_secret() -> None:
    fields = connection_forms.conn_fields(connection_forms.REGISTRY_FIELDS)
    secret = {name for name, field in fields.items() if field["schema"].get("format") == "password"}
    assert secret == {"token", "oauth_client_secret"}
