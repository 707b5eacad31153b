"""The stack's HDFS: a name node and two data nodes of Apache Hadoop in one process, with their data below it."""

import json
import os
import urllib.request

from kappaflow.dev import config, ports
from kappaflow.dev.jars import HADOOP, class_path
from kappaflow.dev.java import find_java
from kappaflow.dev.server import Record, Server

MIN_JAVA_MAJOR, MAX_JAVA_MAJOR = 17, 23  # Hadoop 3.4 calls what Java 24 has taken away
HEAP_MIB = 256
DATA_NODES = 2
_ANSWER_TIMEOUT_S = 5.0


class Hdfs(Server):
    """The HDFS of all regions. It survives a crash."""

    kind = "hdfs"
    title = "HDFS"
    more_ports = 1  # the name node's pages, by which it tells how it is

    def url(self, record: Record) -> str:
        """The name node's."""
        return f"hdfs://{ports.HOST}:{record.port}"

    def prepare(self) -> None:
        """Fetches Hadoop, and looks for a Java that can run it."""
        class_path(HADOOP, self._on_event)
        find_java(MIN_JAVA_MAJOR, MAX_JAVA_MAJOR)

    def command(self, record: Record) -> list[str]:
        """Hadoop's own small cluster; it writes below its working directory."""
        jars = os.pathsep.join(str(jar) for jar in class_path(HADOOP, self._on_event))
        return [
            str(find_java(MIN_JAVA_MAJOR, MAX_JAVA_MAJOR).executable),
            *("-XX:+UseSerialGC", f"-Xmx{HEAP_MIB}m", "-XX:+ExitOnOutOfMemoryError", self.mark),
            *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", jars),
            "org.apache.hadoop.test.MiniDFSClusterManager",
            *(() if self._pool() else ("-format",)),
            *(
                "-datanodes",
                str(DATA_NODES),
                "-nnport",
                str(record.port),
                "-httpport",
                str(record.more_ports[0]),
            ),
            # A file is closed without waiting for the data nodes' reports, which takes half a second otherwise.
            *("-D", "dfs.namenode.file.close.num-committed-allowed=1"),
        ]

    def answers(self, record: Record) -> bool:
        """True if it is the name node of our data, has all data nodes, and takes writes."""
        try:
            about = _bean(record.more_ports[0], "NameNodeInfo")
            nodes = _bean(record.more_ports[0], "FSNamesystemState").get("NumLiveDataNodes")
        except (OSError, ValueError, LookupError):
            return False
        ours = self._pool() is not None and about.get("BlockPoolId") == self._pool()
        return ours and about.get("Safemode") == "" and nodes == DATA_NODES

    def _pool(self) -> str | None:
        """The random name that the data were given when they were formatted."""
        version = self.root / "target/test/data/dfs/name-0-1/current/VERSION"
        return config.read_property(version, "blockpoolID")


def _bean(port: int, name: str) -> dict[str, object]:
    url = f"http://{ports.HOST}:{port}/jmx?qry=Hadoop:service=NameNode,name={name}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
    with opener.open(url, timeout=_ANSWER_TIMEOUT_S) as answer:
        found = json.load(answer)["beans"][0]
    return found if isinstance(found, dict) else {}
