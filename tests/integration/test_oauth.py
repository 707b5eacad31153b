"""Signing in by tokens of an identity provider, which live for seconds, at brokers that check each."""

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kappaflow.dev import DevStack
from tests.conftest import JobMaker
from tests.integration.identity_provider import CLIENT, SECRET, Provider, serving
from tests.integration.publishing import Case, finished, secured
from tests.integration.spark_case import Case as SparkCase
from tests.integration.stock import eventually

pytestmark = pytest.mark.integration
LIFE_S = 3


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    with DevStack(tmp_path_factory.mktemp("dev"), secure=True) as stack:
        yield stack


@pytest.fixture
def provider(secure: DevStack) -> Iterator[Provider]:
    with serving(lambda life_s: secure.access().token("admin", life_s), LIFE_S) as provider:
        yield provider


def signed_in(secure: DevStack, provider: Provider, tmp_path: Path) -> dict[str, str]:
    """The options of a region whose clients have their tokens from the provider."""
    by_file = secure.access().options("admin", "OAUTHBEARER")
    (tmp_path / "client-secret").write_text(f"{SECRET}\n")
    return by_file | {
        "sasl.oauthbearer.token.endpoint.url": provider.url,
        "sasl.oauthbearer.client.id": CLIENT,
        "sasl.oauthbearer.client.secret": f"file:{tmp_path / 'client-secret'}",
        "sasl.oauthbearer.scope": "kafka",
        "sasl.oauthbearer.extensions": "logicalCluster=lkc-1,identityPoolId=pool-1",
    }


def made(secure: DevStack, tmp_path: Path, options: dict[str, str], name: str) -> Case:
    """A job that is published for about 15 s."""
    case = secured(secure, tmp_path / "job", options, name)
    case.edit("broker_timeout_ms = 8000", "broker_timeout_ms = 30000\nmax_rows_per_s = 4000")
    return case


def connections(server: str) -> set[str]:
    """The client's ends of the connections to a server that there are now."""
    port = f":{int(server.rpartition(':')[2]):04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {local for _, local, remote, state, *_ in lines if remote.endswith(port) and state == "01"}


def test_a_publish_outlives_many_tokens(secure: DevStack, provider: Provider, tmp_path: Path) -> None:
    case = made(secure, tmp_path, signed_in(secure, provider, tmp_path), "renewed")
    case.ok("dispatch")
    publisher, granted = case.start(), provider.granted
    eventually(lambda: provider.granted > granted + 1)
    early = connections(secure.access().sasl_ssl)
    eventually(lambda: provider.granted > granted + 4)
    # A session ends with its token, and this one is signed in anew on the same connection.
    assert early & connections(secure.access().sasl_ssl)
    code, out, err = finished(publisher)
    assert code == 0, err
    case.exact(json.loads(out.splitlines()[-1]))
    assert provider.scopes == {"kafka"}
    for path in case.dir.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_a_publish_goes_on_when_the_provider_is_back(
    secure: DevStack, provider: Provider, tmp_path: Path
) -> None:
    case = made(secure, tmp_path, signed_in(secure, provider, tmp_path), "away")
    case.ok("dispatch")
    publisher = case.start()
    granted = provider.granted
    eventually(lambda: provider.granted > granted)
    provider.stop()
    time.sleep(2 * LIFE_S)  # no token of before is good any more
    assert publisher.poll() is None
    provider.start()
    code, out, err = finished(publisher)
    assert code == 0, err
    case.exact(json.loads(out.splitlines()[-1]))


def test_a_renewal_that_hangs_holds_no_stop_back(
    secure: DevStack, provider: Provider, tmp_path: Path
) -> None:
    case = made(secure, tmp_path, signed_in(secure, provider, tmp_path), "hangs")
    case.ok("dispatch")
    hangs, ends = threading.Event(), threading.Event()

    def hang() -> tuple[int, str]:
        hangs.set()
        ends.wait(60)
        return 503, ""

    publisher, granted = case.start(), provider.granted
    eventually(lambda: provider.granted > granted)
    provider.answer = hang
    assert hangs.wait(60)
    begun = time.monotonic()
    publisher.terminate()
    code, _, err = finished(publisher)
    assert time.monotonic() - begun < 5
    ends.set()
    assert code == 130, err
    provider.answer = None
    case.exact(case.ok("publish"))


def test_a_whole_job_outlives_its_tokens(
    secure: DevStack, provider: Provider, make_job: JobMaker, tmp_path: Path
) -> None:
    options = signed_in(secure, provider, tmp_path)
    job = make_job(1, east=options.pop("bootstrap.servers"))
    text = job.file.read_text()
    begin, end = text.index('[[regions]]\nname = "west"'), text.index("[limits]")
    lines = "\n".join(f'"{name}" = {json.dumps(value)}' for name, value in options.items())
    job.file.write_text(f"{text[:begin]}[regions.kafka]\n{lines}\n\n{text[end:]}max_rows_per_s = 3000\n")
    report = job.run("run", timeout_s=300).ok()
    assert provider.granted >= 4
    assert report["ledger"]["explained"], report


def test_executors_of_spark_sign_in_too(secure: DevStack, provider: Provider, tmp_path: Path) -> None:
    options = signed_in(secure, provider, tmp_path)
    (tmp_path / "job").mkdir()
    case = SparkCase(tmp_path / "job", options.pop("bootstrap.servers"))
    lines = (f'"{name}" = {json.dumps(value)}' for name, value in options.items())
    case.make(more="\n".join(["[regions.kafka]", *lines]))
    try:
        result = case.result(case.driver("local[2]", tmp_path / "out.json"), tmp_path / "out.json")
    finally:
        case.end()
    assert result["total"]["acknowledged"] == case.rows, result
    case.servers = secure.bootstrap()
    assert case.once()


@pytest.mark.parametrize("fault", ["secret", "away", "html", "busy"])
def test_a_token_that_can_not_be_had_is_told(
    secure: DevStack, provider: Provider, tmp_path: Path, fault: str
) -> None:
    case = made(secure, tmp_path, signed_in(secure, provider, tmp_path), f"no-token-{fault}")
    if fault == "secret":
        (tmp_path / "client-secret").write_text("guessed-at")
        expected = "the identity provider refuses a token (401): invalid_client"
    elif fault == "away":
        provider.stop()
        expected = "the identity provider does not answer: no connection"
    elif fault == "html":
        provider.answer = lambda: (200, "<html>Sign in</html>")
        expected = "the identity provider answers without a token"
    else:
        provider.answer = lambda: (503, "busy")
        expected = "the identity provider answers 503"
    refused = case.run("dispatch")
    doctor = case.run("doctor")
    if fault == "away":
        provider.start()
    assert refused.returncode == 1
    assert f"Kafka of region east (sign in by {provider.url}): {expected}" in refused.stderr, refused.stderr
    assert "no broker answered" not in refused.stderr
    assert doctor.returncode == 1
    needs = json.loads(doctor.stdout.splitlines()[-1])["needs"]
    [failed] = [need for need in needs if need["outcome"] == "failed"]
    assert failed["kind"] == "network" and expected in failed["told"]
    for text in (refused.stdout, refused.stderr, doctor.stdout, doctor.stderr):
        assert "guessed-at" not in text and SECRET not in text


def test_the_certificate_of_the_provider_is_verified(secure: DevStack, tmp_path: Path) -> None:
    access = secure.access()
    home = Path(access.directory)

    def token(life_s: float) -> str:
        return access.token("admin", life_s)

    with serving(token, LIFE_S, certificate=home / "broker-1.pem") as provider:
        options = signed_in(secure, provider, tmp_path)
        # By what the brokers' are, and by what is named for it.
        case = made(secure, tmp_path, options, "verified")
        case.ok("dispatch")
        begins = '"security.protocol"'
        case.edit(begins, f'"https.ca.location" = "{home / "ca.pem"}"\n{begins}')
        case.ok("dispatch")
        case.edit(
            f'"https.ca.location" = "{home / "ca.pem"}"', f'"https.ca.location" = "{home / "expired.pem"}"'
        )
        refused = case.run("dispatch")
        assert refused.returncode == 1
        assert "does not answer: no connection (invalid peer certificate" in refused.stderr, refused.stderr


def test_a_token_that_has_ended_is_refused_by_the_broker(
    secure: DevStack, provider: Provider, tmp_path: Path
) -> None:
    case = made(secure, tmp_path, signed_in(secure, provider, tmp_path), "ended")
    provider.answer = lambda: provider.grant(3_600, -120)
    refused = case.run("dispatch")
    assert refused.returncode == 1
    assert "SASL authentication error" in refused.stderr, refused.stderr
    assert "invalid_token" in refused.stderr
    assert provider.granted == 1


def test_the_doctor_signs_in_too(secure: DevStack, provider: Provider, tmp_path: Path) -> None:
    case = made(secure, tmp_path, signed_in(secure, provider, tmp_path), "doctored-by-token")
    case.ok("dispatch")
    assert case.ok("doctor")["healthy"]


def test_a_token_that_is_kept_in_a_file(secure: DevStack, tmp_path: Path) -> None:
    access = secure.access()
    token = tmp_path / "token"
    options = access.options("admin", "OAUTHBEARER")
    options["sasl.oauthbearer.token.endpoint.url"] = f"file://{token}"
    case = made(secure, tmp_path, options, "kept-in-a-file")
    missing = case.run("dispatch")
    assert missing.returncode == 1
    assert f"(sign in by {token}): the file of the token can't be read" in missing.stderr, missing.stderr
    token.write_text(access.token("admin", -1))
    ended = case.run("dispatch")
    assert "holds a token that has ended" in ended.stderr, ended.stderr
    done = threading.Event()

    def keep() -> None:
        while not done.wait(1):
            (tmp_path / "next").write_text(access.token("admin", LIFE_S + 1))
            (tmp_path / "next").replace(token)

    token.write_text(access.token("admin", LIFE_S + 1))
    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        case.ok("dispatch")
        case.exact(case.ok("publish"))
    finally:
        done.set()
        keeper.join()


def test_extensions_are_sent_with_the_token(secure: DevStack, provider: Provider, tmp_path: Path) -> None:
    # What goes to the broker is read on its way: the client speaks to a relay that does the TLS.
    options = signed_in(secure, provider, tmp_path)
    context = ssl.create_default_context(cafile=options["ssl.ca.location"])
    host, _, port = options["bootstrap.servers"].partition(":")
    sent = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as relay:

        def serve() -> None:
            while True:
                try:
                    client, _ = relay.accept()
                except OSError:
                    return
                broker = context.wrap_socket(
                    socket.create_connection((host, int(port))), server_hostname=host
                )
                for source, sink, seen in ((client, broker, sent), (broker, client, bytearray())):
                    threading.Thread(target=pass_on, args=(source, sink, seen), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        options["bootstrap.servers"] = f"127.0.0.1:{relay.getsockname()[1]}"
        options["security.protocol"] = "SASL_PLAINTEXT"
        case = made(secure, tmp_path, options, "extended")
        # The broker names its own address, where this client can't speak: it would look until its time is over.
        doctor = subprocess.Popen(
            case.command("doctor"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            # The broker took the token: what only a client that is signed in asks comes after it.
            eventually(lambda: 0 <= sent.find(b"identityPoolId") < sent.find(b"kappaflow.contact"))
        finally:
            doctor.kill()
            doctor.wait()
            relay.shutdown(socket.SHUT_RDWR)
    assert b"\x01auth=Bearer ey" in sent
    assert b"\x01logicalCluster=lkc-1\x01" in sent
    assert b"\x01identityPoolId=pool-1\x01" in sent


def pass_on(source: socket.socket, sink: socket.socket, seen: bytearray) -> None:
    """Hands on what comes until one side ends."""
    with source, sink:
        try:
            while data := source.recv(65_536):
                seen.extend(data)
                sink.sendall(data)
        except OSError:
            pass
