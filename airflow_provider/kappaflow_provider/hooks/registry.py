"""A schema registry as an Airflow connection of type `schema_registry`."""

import base64
import json
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, BaseHook, mask_secret

from kappaflow_provider import connection_forms, environment

_ANSWER_TIMEOUT_S = 5.0


class KappaFlowRegistryHook(BaseHook):
    """Reads a `schema_registry` connection: a registry's URLs (or `dir:PATH`) and how to sign in.

    registry_conn_id: default `schema_registry_default`. The connection is read at the first use.
    """

    conn_name_attr = "registry_conn_id"
    default_conn_name = "schema_registry_default"
    conn_type = connection_forms.REGISTRY_TYPE
    hook_name = "Schema registry (KappaFlow)"

    def __init__(self, registry_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.registry_conn_id = registry_conn_id
        self._settings: str | dict[str, Any] | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The form's fields; only Airflow before 3.2 asks for them here."""
        return connection_forms.widgets(connection_forms.REGISTRY_FIELDS)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The form's labels; only Airflow before 3.2 asks for them here."""
        return connection_forms.behaviour(connection_forms.REGISTRY_BEHAVIOUR)

    def get_conn(self) -> str | dict[str, Any]:
        """The connection as a region's `registry` in a job file: `dir:PATH`, or the table. Its secrets are masked in
        logs from here on."""
        if self._settings is None:
            self._settings = _settings(self.get_connection(self.registry_conn_id))
        return self._settings

    @contextmanager
    def in_environment(self) -> Iterator[None]:
        """Within the block `registry = "conn:<this id>"` of a job file leads here."""
        with environment.placed({environment.variable(self.registry_conn_id): json.dumps(self.get_conn())}):
            yield

    def test_connection(self) -> tuple[bool, str]:
        """Lists the subjects at each URL, signed in as the stages are; or looks for the directory."""
        try:
            settings = self.get_conn()
            if isinstance(settings, str):
                return _try_directory(Path(settings.removeprefix("dir:")))
            return _try(settings)
        except urllib.error.HTTPError as error:
            return False, f"{_shown(error.url)} answers {error.code} {error.reason}"
        except Exception as error:
            return False, f"the registry does not answer: {getattr(error, 'reason', error)}"


def _settings(connection: Any) -> str | dict[str, Any]:
    extra: Mapping[str, Any] = connection.extra_dejson
    given = {name: str(value) for name, value in extra.items() if value not in (None, "")}
    if connection.login:
        given["username"] = str(connection.login)
    if connection.password:
        given["password"] = str(connection.password)
    for secret in ("password", "token", "oauth_client_secret"):
        if secret in given:
            mask_secret(given[secret])
    host = str(connection.host or "").strip()
    if host.startswith("dir:"):
        return host
    for info in re.findall(r"//([^,]*)@", host):
        mask_secret(info.partition(":")[2])
    urls = [url.strip() for url in host.split(",") if url.strip()]
    if not urls or not all(url.startswith(("http://", "https://")) for url in urls):
        raise AirflowException(
            f"connection {connection.conn_id}: URL: expected http://…, https://… or dir:PATH as host"
        )
    settings: dict[str, Any] = {"urls": urls}
    names = ("username", "password", "token", "ca_file", "cert_file", "key_file")
    settings |= {name: given[name] for name in names if name in given}
    if "timeout_ms" in given:
        if not given["timeout_ms"].isdigit():
            raise AirflowException(f"connection {connection.conn_id}: timeout_ms: expected a whole number")
        settings["timeout_ms"] = int(given["timeout_ms"])
    oauth = {name: given[f"oauth_{name}"] for name in _OAUTH if f"oauth_{name}" in given}
    if oauth:
        missing = [f"oauth_{name}" for name in _OAUTH[:3] if name not in oauth]
        if missing:
            raise AirflowException(f"connection {connection.conn_id}: {', '.join(missing)}: not given")
        settings["oauth"] = oauth
    return settings


_OAUTH = ("token_url", "client_id", "client_secret", "scope")


def _try_directory(path: Path) -> tuple[bool, str]:
    if path.is_dir():
        return True, f"{path} is a directory"
    return False, f"{path} is no directory yet; the first job makes it"


def _try(settings: Mapping[str, Any]) -> tuple[bool, str]:
    context = ssl.create_default_context()
    if "ca_file" in settings:
        context.load_verify_locations(settings["ca_file"])
    if "cert_file" in settings:
        context.load_cert_chain(settings["cert_file"], settings.get("key_file"))
    headers = {"Accept": "application/json"}
    if "oauth" in settings:
        headers["Authorization"] = f"Bearer {_token(settings['oauth'], context)}"
    elif "token" in settings:
        headers["Authorization"] = f"Bearer {settings['token']}"
    elif "username" in settings:
        headers["Authorization"] = _basic(settings["username"], settings.get("password", ""))
    for url in settings["urls"]:
        subjects = _json(urllib.request.Request(f"{url.rstrip('/')}/subjects", headers=headers), context)
        if not isinstance(subjects, list):
            return False, f"{_shown(url)} answers, but not as a schema registry"
    return True, f"{', '.join(map(_shown, settings['urls']))}: a schema registry answers"


def _token(oauth: Mapping[str, str], context: ssl.SSLContext) -> str:
    form = {"grant_type": "client_credentials"} | ({"scope": oauth["scope"]} if "scope" in oauth else {})
    request = urllib.request.Request(
        oauth["token_url"],
        urllib.parse.urlencode(form).encode(),
        {"Authorization": _basic(oauth["client_id"], oauth["client_secret"])},
    )
    granted = _json(request, context)
    return str(granted["access_token"]) if isinstance(granted, dict) else ""


def _json(request: urllib.request.Request, context: ssl.SSLContext) -> Any:
    secure = context if request.full_url.startswith("https:") else None
    with urllib.request.urlopen(request, timeout=_ANSWER_TIMEOUT_S, context=secure) as answer:
        return json.load(answer)


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _shown(url: str | None) -> str:
    """A URL without user info."""
    return re.sub(r"//.*@", "//", url or "")
