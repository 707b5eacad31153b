"""Tables in an object store, as they are planned: URLs that are there, and options whose secrets are references."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyiceberg.catalog import load_catalog

from kappaflow import sources
from kappaflow.dev.s3 import S3

pytestmark = pytest.mark.integration

FLIGHTS = pa.table({"day": ["2013-01-01", "2013-01-02"], "delay": [1, 2]})


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The options of an S3 server of our own, with the name of its bucket."""
    server = S3(tmp_path_factory.mktemp("s3") / "s3", print)
    server.launch(None, set())
    try:
        server.await_ready(60)
        status = server.status()
        assert status is not None
        yield dict(status.options)
    finally:
        server.stop(20)


def objects(options: dict[str, str]) -> dict[str, int]:
    """Sizes by URL of what the bucket has."""
    client = boto3.client(
        "s3",
        endpoint_url=options["aws_endpoint"],
        region_name=options["aws_region"],
        aws_access_key_id=options["aws_access_key_id"],
        aws_secret_access_key=options["aws_secret_access_key"],
    )
    listed = client.list_objects_v2(Bucket=options["bucket"]).get("Contents", [])
    return {f"s3://{options['bucket']}/{one['Key']}": one["Size"] for one in listed}


def plan(directory: Path, **keys: object) -> dict[str, Any]:
    spec = {"dir": str(directory), "request": "0" * 64, **keys}
    found: dict[str, Any] = json.loads(sources.plan(json.dumps(spec)))
    return found


def test_a_delta_table(tmp_path: Path, options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = options["bucket"]
    given = {name: value for name, value in options.items() if name != "bucket"}
    url = f"s3://{bucket}/delta/flights"
    write_deltalake(url, FLIGHTS, partition_by=["day"], storage_options=given)
    monkeypatch.setenv("S3_SECRET", given["aws_secret_access_key"])
    given["aws_secret_access_key"] = "env:S3_SECRET"
    found = plan(tmp_path, format="delta", path=url, options=given)
    there = objects(options)
    assert {file["path"]: file["bytes"] for file in found["files"]} == {
        path: size for path, size in there.items() if path.startswith(url) and path.endswith(".parquet")
    }
    assert found["options"] == given


def test_an_iceberg_table(tmp_path: Path, options: dict[str, str]) -> None:
    storage = {
        "s3.endpoint": options["aws_endpoint"],
        "s3.region": options["aws_region"],
        "s3.access-key-id": options["aws_access_key_id"],
    }
    warehouse = f"s3://{options['bucket']}/iceberg"
    properties = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": warehouse, **storage}
    (tmp_path / "secret").write_text(options["aws_secret_access_key"])
    catalog = load_catalog("test", **properties, **{"s3.secret-access-key": options["aws_secret_access_key"]})
    catalog.create_namespace("db")
    catalog.create_table("db.flights", FLIGHTS.schema).append(FLIGHTS)
    asked = {**properties, "name": "test", "s3.secret-access-key": "file:secret"}
    found = plan(tmp_path, format="iceberg", table="db.flights", catalog=asked)
    there = objects(options)
    assert [there[file["path"]] for file in found["files"]] == [file["bytes"] for file in found["files"]]
    assert found["options"] == {
        "aws_endpoint": options["aws_endpoint"],
        "aws_region": options["aws_region"],
        "aws_access_key_id": options["aws_access_key_id"],
        "aws_secret_access_key": "file:secret",
        "aws_allow_http": "true",
    }
