"""Tokens that a region's brokers take: JWTs, signed by a key of the region's own as an identity provider signs them."""

import base64
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kappaflow.dev.files import write_private

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

MECHANISM = "OAUTHBEARER"
ISSUER, AUDIENCE = "kappaflow-dev", "kafka"
# Where a broker, which runs in its own directory, finds the keys that tokens may be signed by. By that directory's name
# it could not, if that has a space in it: Kafka reads a URL's path as it stands.
JWKS_URL = "file:///proc/self/cwd/../secure/jwks.json"
_PACKAGE = "org.apache.kafka.common.security.oauthbearer"
_KEY, _JWKS, _KEY_ID = "token.key", "jwks.json", "dev"
_LIFE_S = 7 * 86_400
# A connection is signed in anew at least so often, and when its token ends.
_REAUTHENTICATION_MS = 3_600_000


def settings(prefix: str) -> dict[str, str]:
    """What a broker's configuration says of tokens at the listener of this prefix."""
    prefix = f"{prefix}.oauthbearer"
    return {
        f"{prefix}.sasl.jaas.config": f"{_PACKAGE}.OAuthBearerLoginModule required;",
        f"{prefix}.sasl.server.callback.handler.class": f"{_PACKAGE}.OAuthBearerValidatorCallbackHandler",
        f"{prefix}.sasl.oauthbearer.jwks.endpoint.url": JWKS_URL,
        f"{prefix}.sasl.oauthbearer.expected.issuer": ISSUER,
        f"{prefix}.sasl.oauthbearer.expected.audience": AUDIENCE,
        # There is but one clock here.
        f"{prefix}.sasl.oauthbearer.clock.skew.seconds": "0",
        f"{prefix}.connections.max.reauth.ms": str(_REAUTHENTICATION_MS),
    }


def prepare(home: Path, users: tuple[str, ...]) -> None:
    """Makes the key, if it is missing, and a token for each user, good for a week."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    if not (home / _KEY).exists():
        made = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        private = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(home / _KEY, private)
    public = _key(home).public_key().public_numbers()
    found = {"kty": "RSA", "kid": _KEY_ID, "alg": "RS256", "use": "sig"}
    found |= {name: _encoded(_bytes(number)) for name, number in (("n", public.n), ("e", public.e))}
    (home / _JWKS).write_text(json.dumps({"keys": [found]}))
    for user in users:
        write_private(home / f"{user}.token", signed(home, user, _LIFE_S).encode())


def signed(home: Path, user: str, life_s: float) -> str:
    """A token for the user. A life below 0: it ended so long ago."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    now = time.time()
    begins = min(now, now + life_s - 60)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": int(begins), "exp": int(now + life_s)}
    header = {"alg": "RS256", "typ": "JWT", "kid": _KEY_ID}
    text = ".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
    return f"{text}.{_encoded(_key(home).sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _key(home: Path) -> "RSAPrivateKey":
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return cast("RSAPrivateKey", load_pem_private_key((home / _KEY).read_bytes(), None))


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")
