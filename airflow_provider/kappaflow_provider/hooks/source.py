"""The database of a job's source as an Airflow connection (`source.connection = "conn:NAME"`)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowException, BaseHook, mask_secret

from kappaflow_provider import environment


class KappaFlowSourceHook(BaseHook):
    """Reads a connection to a database, of a type that Airflow has (`postgres`, `duckdb`).

    source_conn_id: id of the connection, which is read at the first use.
    """

    conn_name_attr = "source_conn_id"

    def __init__(self, source_conn_id: str) -> None:
        super().__init__()
        self.source_conn_id = source_conn_id

    def get_conn(self) -> str:
        """The URI of a PostgreSQL, or the path of a DuckDB file. The password is masked in logs from here on."""
        connection = self.get_connection(self.source_conn_id)
        kind = str(connection.conn_type)
        if kind == "duckdb":
            return str(connection.host or connection.schema or "")
        if kind not in ("postgres", "postgresql"):
            raise AirflowException(
                f"connection {self.source_conn_id}: its type is {kind}; a source is read from postgres or duckdb"
            )
        if connection.password:
            mask_secret(connection.password)
        return re.sub(r"^postgres(ql)?(\+\w+)?:", "postgresql:", connection.get_uri())

    @contextmanager
    def in_environment(self) -> Iterator[None]:
        """Within the block `source.connection = "conn:<this id>"` of a job file leads here."""
        with environment.placed({environment.variable(self.source_conn_id): self.get_conn()}):
            yield
