"""A job signed in by Kerberos, with a key distribution centre and a Kafka of its own: `make test-gssapi` runs it.

It wants a build with the feature `gssapi`, and Debian's krb5-kdc, krb5-admin-server, krb5-user and
libsasl2-modules-gssapi-mit.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kappaflow.dev import DevStack, java, ports, secure
from tests.integration.publishing import secured

REALM = "KAPPAFLOW.TEST"
SERVICE, CLIENT = "kafka/127.0.0.1", "admin"


class Realm:
    """A realm on loopback, all of it in one directory."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, ports.choose_free(())
        home.mkdir()
        (home / "krb5.conf").write_text(f"""[libdefaults]
 default_realm = {REALM}
 dns_lookup_realm = false
 dns_lookup_kdc = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
[realms]
 {REALM} = {{
  kdc = 127.0.0.1:{self.port}
 }}
""")
        (home / "kdc.conf").write_text(f"""[kdcdefaults]
 kdc_listen = 127.0.0.1:{self.port}
 kdc_tcp_listen = 127.0.0.1:{self.port}
[realms]
 {REALM} = {{
  database_name = {home / "principal"}
  key_stash_file = {home / "stash"}
  acl_file = {home / "acl"}
 }}
""")
        self.environment = {
            "KRB5_CONFIG": str(home / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(home / "kdc.conf"),
            # The JVM of the broker reads it too.
            "JAVA_TOOL_OPTIONS": f"-Djava.security.krb5.conf={home / 'krb5.conf'}",
        }

    def run(self, program: str, *arguments: str) -> None:
        """One of the realm's administration programs."""
        done = subprocess.run(
            [_program(program), *arguments],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def add(self, principal: str) -> Path:
        """A principal with a random key; gives the file that has the key."""
        keytab = self.home / f"{principal.partition('/')[0]}.keytab"
        self.run("kadmin.local", "-q", f"addprinc -randkey {principal}@{REALM}")
        self.run("kadmin.local", "-q", f"ktadd -k {keytab} {principal}@{REALM}")
        return keytab


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found is not None, f"no {name} here: apt-get install krb5-kdc krb5-admin-server krb5-user"
    return found


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    """A realm whose centre runs, with the broker's and the client's principals."""
    realm = Realm(tmp_path_factory.mktemp("realm") / "home")
    realm.run("kdb5_util", "create", "-s", "-r", REALM, "-P", "of-the-test")
    realm.add(SERVICE)
    realm.add(CLIENT)
    centre = subprocess.Popen([_program("krb5kdc"), "-n", "-r", REALM], env=os.environ | realm.environment)
    try:
        yield realm
    finally:
        centre.terminate()
        centre.wait(20)


@pytest.fixture(scope="module")
def stack(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """A secure region whose listener takes Kerberos alone."""
    before, prefix = secure.settings, f"listener.name.{secure.SASL_SSL.lower()}"

    def settings(home: Path, broker: int) -> dict[str, str]:
        # Kafka's login of Kerberos is that of all mechanisms of a listener.
        kept = {name: value for name, value in before(home, broker).items() if not name.startswith(prefix)}
        module = "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true"
        key = f'keyTab="{realm.home / "kafka.keytab"}" principal="{SERVICE}@{REALM}" serviceName="kafka"'
        return kept | {
            f"{prefix}.sasl.enabled.mechanisms": "GSSAPI",
            f"{prefix}.gssapi.sasl.jaas.config": f"{module} {key};",
        }

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secure, "settings", settings)
        # The wheel's Java has no GSSAPI for servers.
        patch.setattr(java, "_candidates", _system_java)
        for name, value in realm.environment.items():
            patch.setenv(name, value)
        with DevStack(tmp_path_factory.mktemp("dev"), secure=True) as stack:
            yield stack


def _system_java() -> Iterator[tuple[str, Path]]:
    found = shutil.which("java")
    assert found is not None, "no java here: apt-get install openjdk-17-jre-headless"
    yield "PATH", Path(found)


def options(stack: DevStack, realm: Realm) -> dict[str, str]:
    """The options of a region whose clients get tickets by the client's key."""
    access = stack.access()
    return {
        "bootstrap.servers": access.sasl_ssl,
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(Path(access.directory) / "ca.pem"),
        "sasl.mechanism": "GSSAPI",
        "sasl.kerberos.service.name": "kafka",
        "sasl.kerberos.principal": f"{CLIENT}@{REALM}",
        "sasl.kerberos.keytab": str(realm.home / f"{CLIENT}.keytab"),
    }


@pytest.fixture(autouse=True)
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds the tickets of another."""
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path / 'tickets'}")


def test_a_job_signs_in_by_kerberos(stack: DevStack, realm: Realm, tmp_path: Path) -> None:
    case = secured(stack, tmp_path / "job", options(stack, realm), "by-kerberos")
    case.ok("dispatch")
    case.exact(case.ok("publish"))
    assert case.ok("doctor")["healthy"]


def test_a_key_that_is_not_the_principals_is_refused(stack: DevStack, realm: Realm, tmp_path: Path) -> None:
    wrong = options(stack, realm) | {"sasl.kerberos.keytab": str(realm.home / "kafka.keytab")}
    refused = secured(stack, tmp_path / "job", wrong, "wrong-key").run("dispatch")
    assert refused.returncode == 1
    assert "kinit" in refused.stderr, refused.stderr
