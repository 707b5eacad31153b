"""Regions with passwords, certificates and rights, as stock clients see them."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from kappaflow.dev import DevStack, DevStackError
from tests.integration.stock import cli, consume, make_topic, produce, resolved

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    with DevStack(tmp_path_factory.mktemp("dev"), secure=True) as stack:
        make_topic(AdminClient({"bootstrap.servers": stack.bootstrap()}))
        yield stack


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN", "SSL"])
def test_the_admin_writes_and_the_reader_only_reads(stack: DevStack, mechanism: str) -> None:
    admin = resolved(stack.access().options("admin", mechanism))
    reader = resolved(stack.access().options("reader", mechanism))
    value = f"by {mechanism}".encode()
    assert produce(admin, [value]) == (1, set())
    assert produce(reader, [b"denied"]) == (0, {"TOPIC_AUTHORIZATION_FAILED"})
    found = consume({**reader, "group.id": mechanism}, 1)
    assert found


def test_tokens_are_checked_by_the_broker(stack: DevStack) -> None:
    access = stack.access()

    def options(user: str, token: str) -> dict[str, object]:
        return {
            "bootstrap.servers": access.sasl_ssl,
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(Path(access.directory) / "ca.pem"),
            "sasl.mechanism": "OAUTHBEARER",
            "oauth_cb": lambda _: (token, time.time() + 3_600),
        }

    admin, reader = (options(user, access.token(user)) for user in ("admin", "reader"))
    assert produce(admin, [b"by token"]) == (1, set())
    assert produce(reader, [b"denied"]) == (0, {"TOPIC_AUTHORIZATION_FAILED"})
    kept = options("admin", (Path(access.directory) / "admin.token").read_text())
    assert produce(kept, [b"by the token that is kept"]) == (1, set())
    head, claims, signature = access.token("reader").split(".")
    another = access.token("admin").split(".")[1]
    for wrong in (access.token("admin", -1), f"{head}.{another}.{signature}", f"{head}.{claims}.", "opaque"):
        acknowledged, errors = produce(options("admin", wrong), [b""], timeout_ms=4_000)
        assert acknowledged == 0
        assert "_AUTHENTICATION" in errors
    for option in ("sasl.mechanism", "sasl.oauthbearer.method", "sasl.oauthbearer.token.endpoint.url"):
        assert option in access.options("reader", "OAUTHBEARER")


def test_a_wrong_password_is_refused(stack: DevStack) -> None:
    for mechanism in ("SCRAM-SHA-512", "PLAIN"):
        options = resolved(stack.access().options("admin", mechanism))
        acknowledged, errors = produce({**options, "sasl.password": "guessed"}, [b""], timeout_ms=4_000)
        assert acknowledged == 0
        assert "_AUTHENTICATION" in errors


def test_certificates_that_have_expired_are_refused_on_both_sides(stack: DevStack) -> None:
    access = stack.access()
    home = Path(access.directory)
    by_password = resolved(access.options("admin", "PLAIN"))
    acknowledged, errors = produce(
        {**by_password, "bootstrap.servers": access.expired}, [b""], timeout_ms=4_000
    )
    assert acknowledged == 0
    assert "_SSL" in errors
    expired = {
        "ssl.certificate.location": str(home / "expired.pem"),
        "ssl.key.location": str(home / "expired.key"),
    }
    assert produce({**access.options("admin", "SSL"), **expired}, [b""], timeout_ms=4_000)[0] == 0
    assert "(SSL handshake failed)" in stack.log_file("local").read_text(), "the broker says so"


def test_a_client_without_a_certificate_is_refused(stack: DevStack) -> None:
    options = stack.access().options("admin", "SSL")
    without = {
        name: value for name, value in options.items() if not name.startswith(("ssl.certificate", "ssl.key"))
    }
    assert produce(without, [b""], timeout_ms=4_000)[0] == 0


def test_no_secret_is_shown_or_readable_by_others(stack: DevStack) -> None:
    home = Path(stack.access().directory)
    users = ("admin", "reader")
    secrets = [(home / f"{user}.{kind}").read_text() for user in users for kind in ("password", "token")]
    assert len(set(secrets)) == 4
    told = [cli("status", "--dir", str(stack.directory), *more) for more in ([], ["--json"])]
    for done in told:
        assert done.returncode == 0
        assert str(home) in done.stdout
        assert not any(secret in done.stdout + done.stderr for secret in secrets)
    up = cli("up", "--dir", str(stack.directory))
    assert f'"sasl.password" = "file:{home}/admin.password"' in up.stdout
    for path in stack.directory.rglob("*"):
        holds = path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets)
        if holds or path.suffix == ".key" or path.name.startswith("broker-1"):
            assert path.stat().st_mode & 0o077 == 0 or path.is_dir(), path
    commands = subprocess.run(["ps", "-axwwo", "command="], capture_output=True, text=True, check=True).stdout
    assert not any(secret in commands for secret in secrets)


def test_authority_and_passwords_stay_and_certificates_are_new_at_each_start(stack: DevStack) -> None:
    home = Path(stack.access().directory)
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    stack.restart("local")
    after = {path.name: path.read_bytes() for path in home.iterdir()}
    same = {name for name in before if before[name] == after[name]}
    assert same == {"ca.pem", "ca.key", "admin.password", "reader.password", "token.key", "jwks.json"}
    admin = resolved(stack.access().options("admin", "SCRAM-SHA-512"))
    assert produce(admin, [b"after the restart"]) == (1, set())


def test_what_access_does_not_know_is_named(stack: DevStack) -> None:
    with pytest.raises(DevStackError, match="no user 'root': there are admin and reader"):
        stack.access().options("root", "PLAIN")
    with pytest.raises(
        DevStackError, match="no mechanism 'GSSAPI': there are SCRAM-SHA-512, PLAIN, OAUTHBEARER, SSL"
    ):
        stack.access().options("admin", "GSSAPI")


def test_three_secure_brokers_work_together(tmp_path: Path) -> None:
    with DevStack(tmp_path / "dev", brokers=3, secure=True, min_insync_replicas=1) as stack:
        access = stack.access()
        assert len(access.sasl_ssl.split(",")) == 3
        admin = resolved(access.options("admin", "SCRAM-SHA-512"))
        make_topic(AdminClient(admin), partitions=3)
        assert produce(admin, [b"%d" % number for number in range(300)]) == (300, set())
        reader = resolved(access.options("reader", "SSL"))
        assert produce(reader, [b"denied"]) == (0, {"TOPIC_AUTHORIZATION_FAILED"})


def test_a_region_without_secure_listeners_says_how_to_have_them(tmp_path: Path) -> None:
    with DevStack(tmp_path / "dev") as stack, pytest.raises(DevStackError, match="--secure"):
        stack.access()
