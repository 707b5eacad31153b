"""A REST catalog of Iceberg tables, by Iceberg's own code."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kappaflow.dev import jars

SOURCE = Path(__file__).with_name("RestCatalog.java")
VERSION = "1.10.0"
ICEBERG = jars.JarSet(
    f"Apache Iceberg {VERSION}",
    f"iceberg-{VERSION}",
    (
        f"org.apache.iceberg:iceberg-core:{VERSION}",
        f"org.apache.iceberg:iceberg-core:{VERSION}:tests",
        "org.eclipse.jetty:jetty-servlet:11.0.26",
        "org.slf4j:slf4j-simple:2.0.17",
    ),
    "20 MB",
    100 << 20,
)


@contextmanager
def rest_catalog(directory: Path) -> Iterator[str]:
    """Its address. It takes a JDK: that which the dev stack brings can't compile."""
    # Iceberg names Hadoop's classes, also where it does not use them.
    path = os.pathsep.join(
        str(jar) for of in (ICEBERG, jars.HADOOP) for jar in jars.class_path(of, lambda _: None)
    )
    subprocess.run(["javac", "-cp", path, "-d", str(directory), str(SOURCE)], check=True)
    command = ["java", "-Xmx256m", "-cp", os.pathsep.join([str(directory), path]), SOURCE.stem]
    with (
        (directory / "catalog.log").open("w") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as server,
    ):
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            assert port, (directory / "catalog.log").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            server.communicate("\n", timeout=20)
