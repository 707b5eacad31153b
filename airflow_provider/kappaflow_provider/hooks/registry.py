"""A schema registry as an Airflow connection of type `kappaflow_registry`."""

import base64
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook, mask_secret

from kappaflow_provider import connection_forms


class KappaFlowRegistryHook(BaseHook):
    """Reads a `kappaflow_registry` connection: a registry's URL (or `dir:PATH`) and how to sign in.

    registry_conn_id: default `kappaflow_registry_default`. The connection is read at the first use.
    """

    conn_name_attr = "registry_conn_id"
    default_conn_name = "kappaflow_registry_default"
    conn_type = connection_forms.REGISTRY_TYPE
    hook_name = "KappaFlow schema registry"

    def __init__(self, registry_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.registry_conn_id = registry_conn_id

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The form's fields; only Airflow before 3.2 asks for them here."""
        return connection_forms.widgets(connection_forms.REGISTRY_FIELDS)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The form's labels; only Airflow before 3.2 asks for them here."""
        return connection_forms.behaviour(connection_forms.REGISTRY_BEHAVIOUR)

    def get_conn(self) -> dict[str, str]:
        """`url`, and, if they are set, `username`, `password` (or `token`) and `ca_location`."""
        connection = self.get_connection(self.registry_conn_id)
        found = {"url": (connection.host or "").rstrip("/")}
        if connection.password:
            mask_secret(connection.password)
            found["password" if connection.login else "token"] = str(connection.password)
        if connection.login:
            found["username"] = str(connection.login)
        if ca_location := connection.extra_dejson.get("ssl_ca_location"):
            found["ca_location"] = str(ca_location)
        return found

    def test_connection(self) -> tuple[bool, str]:
        """Lists the registry's subjects, or looks for the directory."""
        try:
            return _try(self.get_conn())
        except urllib.error.HTTPError as error:
            return False, f"the registry answered {error.code} {error.reason}"
        except (urllib.error.URLError, OSError, ValueError) as error:
            return False, f"the registry does not answer: {getattr(error, 'reason', error)}"


def _try(conn: dict[str, str]) -> tuple[bool, str]:
    url = conn["url"]
    if url.startswith("dir:"):
        path = Path(url.removeprefix("dir:"))
        if path.is_dir():
            return True, f"{path} is a directory"
        return False, f"{path} is no directory yet; the first job makes it"
    if not url.startswith(("http://", "https://")):
        return False, f"{url!r}: expected http://…, https://… or dir:PATH"
    request = urllib.request.Request(f"{url}/subjects", headers={"Accept": "application/json"})
    if "token" in conn:
        request.add_header("Authorization", f"Bearer {conn['token']}")
    elif "username" in conn:
        pair = f"{conn['username']}:{conn.get('password', '')}".encode()
        request.add_header("Authorization", "Basic " + base64.b64encode(pair).decode())
    context = ssl.create_default_context(cafile=conn.get("ca_location")) if url.startswith("https:") else None
    with urllib.request.urlopen(request, timeout=5.0, context=context) as answer:
        return True, f"{url} answers ({answer.status})"
