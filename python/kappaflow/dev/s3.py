"""The stack's S3 server: moto, in memory, with one bucket; it can be told to answer 503, or late, for a while."""

import importlib.util
import json
import sys
import urllib.request

from kappaflow.dev import ports
from kappaflow.dev.server import Record, Server
from kappaflow.errors import DevStackError

BUCKET = "kappaflow"
REGION = "us-east-1"
# Anything will do: it asks for a signature, and checks none.
ACCESS_KEY = "dev"
CONTROL = "/kappaflow-dev"
_ANSWER_TIMEOUT_S = 5.0


class S3(Server):
    """The S3 server. What it holds is gone when it ends."""

    kind = "s3"
    title = "the S3 server"

    def url(self, record: Record) -> str:
        """The endpoint."""
        return f"http://{ports.HOST}:{record.port}"

    def prepare(self) -> None:
        """Looks for the wheels."""
        missing = [name for name in ("moto", "flask", "flask_cors") if importlib.util.find_spec(name) is None]
        if missing:
            raise DevStackError(
                f"the S3 server is moto, and {', '.join(missing)} is not installed: "
                "`pip install 'kappaflow[dev-s3]'`."
            )

    def command(self, record: Record) -> list[str]:
        """moto behind our own entry module, which tells its name."""
        port = str(record.port)
        return [sys.executable, "-m", "kappaflow.dev.s3_server", self.mark, record.name, port, BUCKET, REGION]

    def answers(self, record: Record) -> bool:
        """True if what answers on the record's port tells the record's name."""
        try:
            return _call(record.port, "GET").get("name") == record.name
        except (OSError, ValueError):
            return False

    def options(self, record: Record) -> dict[str, str]:
        """As object_store names them; of the keys, any will do."""
        return {
            "aws_endpoint": self.url(record),
            "aws_allow_http": "true",
            "aws_region": REGION,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": ACCESS_KEY,
            "bucket": BUCKET,
        }

    def fail(self, requests: int) -> None:
        """Lets the next requests be answered by 503 `SlowDown`, as S3 does when it has too many."""
        self._tell({"fail": requests})

    def slow(self, every: int, ms: int) -> None:
        """Lets each so many-th PUT from now on be answered so much later than it is done; 0 ends that."""
        self._tell({"slow_every": every, "slow_ms": ms})

    def _tell(self, order: dict[str, int]) -> None:
        record = self._record()
        if record is None:
            raise DevStackError(f"no S3 server in {self.root.parent}: run `kappaflow dev up --s3` first.")
        try:
            _call(record.port, "POST", order)
        except (OSError, ValueError) as error:
            raise DevStackError(f"the S3 server at {self.url(record)} does not answer ({error}).") from error


def _call(port: int, method: str, body: dict[str, int] | None = None) -> dict[str, object]:
    request = urllib.request.Request(
        f"http://{ports.HOST}:{port}{CONTROL}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
    with opener.open(request, timeout=_ANSWER_TIMEOUT_S) as answer:
        told = json.load(answer)
    return told if isinstance(told, dict) else {}
