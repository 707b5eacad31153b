"""The S3 server and the HDFS of the dev stack, as stock clients see them."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from kappaflow.dev import DevStack, DevStackError, jars
from tests.integration.object_stores import hdfs_shell
from tests.integration.stock import cli, eventually

pytestmark = pytest.mark.integration


def test_an_s3_server_with_a_bucket_that_can_be_told_to_fail(directory: Path) -> None:
    done = cli("up", "--dir", str(directory), "--s3")
    assert done.returncode == 0, done.stderr
    stack = DevStack(directory)
    s3 = stack.s3()
    assert s3.state == "running"
    assert s3.url in done.stdout and 'bucket = "kappaflow"' in done.stdout
    client = boto3.client(
        "s3",
        endpoint_url=s3.options["aws_endpoint"],
        region_name=s3.options["aws_region"],
        aws_access_key_id=s3.options["aws_access_key_id"],
        aws_secret_access_key=s3.options["aws_secret_access_key"],
        config=Config(retries={"total_max_attempts": 1}),
    )
    bucket = s3.options["bucket"]
    client.put_object(Bucket=bucket, Key="a/b", Body=b"0123456789")
    assert client.get_object(Bucket=bucket, Key="a/b", Range="bytes=2-4")["Body"].read() == b"234"
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=bucket, Key="a/b", Body=b"again", IfNoneMatch="*")

    stack.s3_fail(2)
    for _ in range(2):
        with pytest.raises(ClientError, match="SlowDown"):
            client.get_object(Bucket=bucket, Key="a/b")
    assert client.get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"0123456789"
    assert cli("status", "--dir", str(directory)).returncode == 0

    stack.down()
    with pytest.raises(DevStackError, match=r"the S3 server at .* does not answer"):
        stack.s3_fail(1)
    assert [server.state for server in stack.servers()] == ["stopped"]
    assert stack.up() and stack.s3().url == s3.url
    stack.down(wipe=True)
    with pytest.raises(DevStackError, match="dev up --s3"):
        stack.s3()


def test_an_s3_server_without_its_wheels_says_what_to_install(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flask_cors", None)
    with pytest.raises(
        DevStackError, match=r"flask_cors is not installed: `pip install 'kappaflow\[dev-s3\]'`"
    ):
        DevStack(directory, s3=True).up()


def test_an_hdfs_keeps_its_files_over_a_crash(directory: Path) -> None:
    jars.class_path(jars.HADOOP, lambda text: print(text, file=sys.stderr))
    with DevStack(directory, hdfs=True) as stack:
        (hdfs,) = stack.servers()
        assert stack.hdfs_url() == hdfs.url
        run = hdfs_shell(directory.parent, hdfs.url)
        run("-mkdir", "-p", "/flights")
        run("-put", "-", "/flights/a", text=b"kept")
        assert hdfs.pid is not None
        os.kill(hdfs.pid, 9)
        eventually(lambda: stack.servers()[0].state == "dead")
        assert stack.dead_servers() == ["HDFS"]
        stack.up()
        assert stack.hdfs_url() == hdfs.url
        assert run("-cat", "/flights/a") == b"kept"
    assert [server.state for server in DevStack(directory).servers()] == ["stopped"]


def test_its_pages_are_on_loopback_alone(directory: Path) -> None:
    with DevStack(directory, s3=True) as stack:
        (s3,) = stack.servers()
        listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
        own = [line.split()[3] for line in listening.splitlines() if f"pid={s3.pid}," in line]
        assert own and all("127.0.0.1" in address for address in own), own
        with urllib.request.urlopen(s3.url, timeout=10) as answer:
            assert answer.status == 200
