"""The secure listeners of a region: its own certificate authority, users with passwords, and who may do what."""

import datetime
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kappaflow.dev import tokens
from kappaflow.dev.acls import Acl, Operation, Resource
from kappaflow.dev.files import write_private
from kappaflow.dev.ports import HOST
from kappaflow.errors import DevStackError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate

# Listeners: passwords and tokens over TLS; certificates of clients; as the first, and a broker's certificate that has
# expired.
SASL_SSL, SSL, EXPIRED = "SASL_SSL", "SSL", "EXPIRED"
LISTENERS = (SASL_SSL, SSL, EXPIRED)
ADMIN, READER = "admin", "reader"
USERS = (ADMIN, READER)
_MECHANISMS = ("SCRAM-SHA-512", "PLAIN", tokens.MECHANISM)
_PACKAGE = "org.apache.kafka.common.security"
_DAY = datetime.timedelta(days=1)
_LEAF_DAYS, _AUTHORITY_DAYS = 7, 3_650


@dataclass(frozen=True)
class Access:
    """How clients connect to a region's secure listeners. It holds paths of secrets and no secret.

    `sasl_ssl`, `ssl`, `expired`: the bootstrap servers of each listener. `directory`: with `ca.pem`, for each user
    `USER.password`, `USER.token`, `USER.pem` and `USER.key`, a client's certificate that has expired, `expired.pem` and
    `.key`, and what tokens are signed by, `token.key` and `jwks.json`.
    """

    sasl_ssl: str
    ssl: str
    expired: str
    directory: str

    def options(self, user: str, mechanism: str) -> dict[str, str]:
        """librdkafka's options for a user (*admin*, who may do all, or *reader*, who may not write).

        mechanism: `SCRAM-SHA-512`, `PLAIN`, `OAUTHBEARER`, or `SSL` for the user's certificate. The password is a
        reference, `file:PATH`, as a job file takes it; the token is that of `USER.token`, by a URL of that file.
        """
        self._known(user)
        home = Path(self.directory)
        options = {"ssl.ca.location": str(home / "ca.pem")}
        if mechanism == SSL:
            return options | {
                "bootstrap.servers": self.ssl,
                "security.protocol": "SSL",
                "ssl.certificate.location": str(home / f"{user}.pem"),
                "ssl.key.location": str(home / f"{user}.key"),
            }
        if mechanism not in _MECHANISMS:
            raise DevStackError(f"no mechanism {mechanism!r}: there are {', '.join((*_MECHANISMS, SSL))}.")
        options |= {
            "bootstrap.servers": self.sasl_ssl,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": mechanism,
        }
        if mechanism == tokens.MECHANISM:
            return options | {
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.token.endpoint.url": f"file://{home / f'{user}.token'}",
            }
        return options | {"sasl.username": user, "sasl.password": f"file:{home / f'{user}.password'}"}

    def token(self, user: str, life_s: float = 3_600) -> str:
        """A token that the brokers take for the user, as an identity provider would sign it.

        life_s: seconds until it ends, whole ones, rounded down; below 0 it ended so long ago.
        """
        self._known(user)
        return tokens.signed(Path(self.directory), user, life_s)

    def _known(self, user: str) -> None:
        if user not in USERS:
            raise DevStackError(f"no user {user!r}: there are {' and '.join(USERS)}.")


def settings(home: Path, broker: int) -> dict[str, str]:
    """What a broker's configuration says of its secure listeners and of rights; it holds passwords."""
    plain = " ".join(f'user_{user}="{_password(home, user)}"' for user in USERS)
    of_listener: dict[str, str] = {}
    for listener in (SASL_SSL, EXPIRED):
        prefix = f"listener.name.{listener.lower()}"
        of_listener |= {
            f"{prefix}.sasl.enabled.mechanisms": ",".join(_MECHANISMS),
            f"{prefix}.scram-sha-512.sasl.jaas.config": f"{_PACKAGE}.scram.ScramLoginModule required;",
            f"{prefix}.plain.sasl.jaas.config": f"{_PACKAGE}.plain.PlainLoginModule required {plain};",
            **tokens.settings(prefix),
        }
    return of_listener | {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(home / f"broker-{broker}.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(home / "ca.pem"),
        f"listener.name.{SSL.lower()}.ssl.client.auth": "required",
        f"listener.name.{EXPIRED.lower()}.ssl.keystore.type": "PEM",
        f"listener.name.{EXPIRED.lower()}.ssl.keystore.location": str(home / f"broker-{broker}-expired.pem"),
        # The user of a certificate is its common name.
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # Whoever comes by the plain listener is ANONYMOUS: this machine's administrator, and the brokers themselves.
        "super.users": f"User:ANONYMOUS;User:{ADMIN}",
    }


def formatting_arguments(home: Path) -> list[str]:
    """What makes Kafka's formatting put the users' passwords down, so that they are there at the first start."""
    users = (f"SCRAM-SHA-512=[name={user},password={_password(home, user)}]" for user in USERS)
    return [argument for user in users for argument in ("--add-scram", user)]


def acls() -> list[Acl]:
    """The rights of the users who may not do all: the reader reads and describes everything."""
    reads = ((Resource.TOPIC, "*"), (Resource.GROUP, "*"))
    granted = [Acl(READER, kind, name, Operation.READ) for kind, name in reads]
    return [*granted, Acl(READER, Resource.CLUSTER, "kafka-cluster", Operation.DESCRIBE)]


def prepare(home: Path, brokers: Sequence[int]) -> None:
    """Makes what is missing of passwords, keys and authority, and new certificates and tokens.

    Certificates, of these brokers and all users, are for a week, beginning yesterday; the authority's, made at the
    first start, for ten years, so that a client that trusts it need not be told at each start.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for user in USERS:
            if not (home / f"{user}.password").exists():
                write_private(home / f"{user}.password", secrets.token_urlsafe(18).encode())
        authority = Authority(home)
        tokens.prepare(home, USERS)
        for user in USERS:
            authority.issue(user, home / f"{user}.pem", home / f"{user}.key")
        authority.issue(ADMIN, home / "expired.pem", home / "expired.key", expired=True)
        for broker in brokers:
            for ending, expired in (("", False), ("-expired", True)):
                path = home / f"broker-{broker}{ending}.pem"  # Kafka wants key and certificate in one file
                authority.issue(f"broker-{broker}", path, path, expired=expired)
    except OSError as error:
        raise DevStackError(
            f"cannot write {home} ({error.strerror}). Choose a directory you may write to, with --dir."
        ) from error


class Authority:
    """A certificate authority of one region, kept in `ca.pem` and `ca.key`."""

    def __init__(self, home: Path) -> None:
        try:
            from cryptography import x509
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
        except ImportError as error:
            raise DevStackError(
                "secure listeners want certificates, and cryptography, which makes them, is not installed: "
                "`pip install 'kappaflow[dev]'`."
            ) from error
        self._certificate: Certificate | None = None
        self._key = _new_key()
        certificate, key = home / "ca.pem", home / "ca.key"
        if not certificate.exists():
            self.issue("KappaFlow dev stack", certificate, key)
        self._key = cast("EllipticCurvePrivateKey", load_pem_private_key(key.read_bytes(), None))
        self._certificate = x509.load_pem_x509_certificate(certificate.read_bytes())

    def issue(self, name: str, certificate: Path, key: Path, *, expired: bool = False) -> None:
        """Writes a certificate and its key; the first one issued is the authority's own."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.x509.oid import NameOID

        own = self._key if self._certificate is None else _new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        is_authority = self._certificate is None
        now = datetime.datetime.now(datetime.UTC)
        begins = now - (30 if expired else 1) * _DAY
        ends = now - _DAY if expired else now + (_AUTHORITY_DAYS if is_authority else _LEAF_DAYS) * _DAY
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self._certificate is None else self._certificate.subject)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if not is_authority:
            here = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
            builder = builder.add_extension(x509.SubjectAlternativeName(here), critical=False)
        pem = serialization.Encoding.PEM
        private = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        public = builder.sign(self._key, hashes.SHA256()).public_bytes(pem)
        if certificate == key:
            write_private(key, private + public)
        else:
            write_private(key, private)
            certificate.write_bytes(public)


def _new_key() -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _password(home: Path, user: str) -> str:
    return (home / f"{user}.password").read_text()
