"""How the core's requests about tables of others' formats are answered, and failures are told."""

import json
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kappaflow import tables
from kappaflow.errors import TableError
from kappaflow.tables import iceberg
from kappaflow.tables.asked import told

ASKED: dict[str, Any] = {
    "action": "head",
    "format": "iceberg",
    "place": "/nowhere",
    "options": {"secret_access_key": "hush-store"},
    "table": "lake.prices",
    "catalog": {"uri": "postgresql://me:hush-uri@localhost/x", "credential": "hush-catalog"},
}


def test_no_secret_is_told() -> None:
    with pytest.raises(TableError) as found, told(ASKED):
        raise OSError(f"{ASKED['options']} and {ASKED['catalog']}")
    assert "hush" not in str(found.value)
    assert str(found.value).startswith("table lake.prices: OSError: {'secret_access_key': '…'}")


def test_a_format_that_is_not_known_and_a_wheel_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TableError, match="tables of format 'hudi' can't be spoken to"):
        tables.call(json.dumps({**ASKED, "format": "hudi"}))
    monkeypatch.setitem(sys.modules, "pyiceberg.catalog", None)
    with pytest.raises(
        TableError, match=r"format iceberg need the wheel pyiceberg: pip install 'kappaflow\[iceberg\]'"
    ):
        tables.call(json.dumps(ASKED))


def test_rows_that_are_deleted_one_by_one_are_refused() -> None:
    """pyiceberg reads delete files, and can't write them."""
    task = SimpleNamespace(
        file=SimpleNamespace(file_path="data/a.parquet"),
        delete_files=[SimpleNamespace(file_path="data/gone.parquet")],
    )
    table = SimpleNamespace(
        name=lambda: ("lake", "prices"), scan=lambda: SimpleNamespace(plan_files=lambda: [task])
    )
    with pytest.raises(
        TableError, match=r"lake.prices has rows of data/a.parquet deleted one by one, by data/gone"
    ):
        iceberg._files(cast(Any, table))


def test_storage_options_are_known_with_their_prefix_and_without() -> None:
    given = {
        "AWS_REGION": "eu",
        "endpoint": "http://x",
        "azure_storage_account_key": "k",
        "allow_http": "true",
    }
    assert iceberg._storage(given) == {"s3.region": "eu", "s3.endpoint": "http://x", "adls.account-key": "k"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("file:///a/b/", "/a/b"),
        ("file:/a/b", "/a/b"),
        ("s3a://lake/b", "s3://lake/b"),
        ("gs://x/y/", "gs://x/y"),
    ],
)
def test_ways_to_write_the_same_place(one: str, other: str) -> None:
    assert iceberg._plain(one) == iceberg._plain(other)
