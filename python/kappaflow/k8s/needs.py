"""What a job's workers need in a pod, from the job file: files, secrets, the service beside them."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from kappaflow.errors import JobFileError
from kappaflow.k8s.options import Options

# Where the job file is in the pod, and what is written beside it.
JOB_DIR = "/job"
STATE_DIR = ".kappaflow"

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The most that a ConfigMap holds, less what its names take.
_CONFIG_BYTES = 1_000_000


@dataclass(slots=True)
class Needs:
    """Everything of a job that a pod depends on."""

    name: str
    region: dict[str, Any]
    service: dict[str, Any]
    limits: dict[str, Any]
    secret: str
    claim: str
    # What a fleet's workers are started for, and its store; no job then, but those that are submitted.
    fleet: dict[str, str] | None = None
    # The port of a service beside the worker, and how it is looked at.
    port: int | None = None
    probe: dict[str, Any] = field(default_factory=dict)
    # Path in the pod to (key, text) in the ConfigMap.
    config: dict[str, tuple[str, str]] = field(default_factory=dict)
    # Environment variable and path in the pod to key in the Secret.
    variables: dict[str, str] = field(default_factory=dict)
    secret_files: dict[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """What selects the pods."""
        return {"app.kubernetes.io/name": "kappaflow-worker", "app.kubernetes.io/instance": self.name}

    def metadata(self) -> dict[str, Any]:
        """Name and labels of an object."""
        return {"name": self.name, "labels": dict(self.labels)}


def needs(resolved: dict[str, Any], options: Options) -> Needs:
    """What the workers of one region need. Raises `JobFileError` for what a pod can't have."""
    file, base = resolved["file"], Path(resolved["dir"])
    index, region = _region(file, options.region)
    fleet = _fleet(file)
    name = _object_name(f"{fleet['service'] if fleet else file['name']}-{region['name']}")
    needed = Needs(
        name=name,
        region=region,
        service=file["service"],
        limits=file["limits"],
        secret=options.secret or f"{name}-secrets",
        claim=options.claim or f"{name}-state",
        fleet=fleet,
        port=_port(file["service"], options),
    )
    needed.probe = _probe(file["service"], needed.port)
    _check_state(file, index, region)
    _add_config(needed, base, "(job file)", Path(resolved["path"]).name)
    for key in ("ingress", "egress"):
        _add_config(needed, base, f"schema.{key}", file["schema"][key])
    for option, value in region.get("kafka", {}).items():
        key = f'regions[{index}].kafka."{option}"'
        if option.endswith(".location"):
            _add_file(needed, base, key, value, secret="ca" not in option.split("."))
        else:
            _add_reference(needed, key, value)
    if isinstance(region["registry"], dict):
        _add_registry(needed, base, f"regions[{index}].registry", region["registry"])
    else:
        _add_reference(needed, f"regions[{index}].registry", region["registry"])
    _add_endpoint(needed, base, file["service"])
    size = sum(len(text.encode()) for _, text in needed.config.values())
    if size > _CONFIG_BYTES:
        raise JobFileError(
            f"the job file and its schemas have {size:,} bytes, and a ConfigMap holds {_CONFIG_BYTES:,}: "
            "leave comments and documentation out of the schemas"
        )
    return needed


def in_secret(needed: Needs, option: str, value: str) -> str | None:
    """The key of the Secret that an option of Kafka refers to, if it does."""
    kind, _, rest = value.partition(":")
    if kind == "env":
        return needed.variables.get(rest)
    path = rest if kind == "file" else value
    return needed.secret_files.get(_in_pod(option, path)) if path else None


def _region(file: dict[str, Any], name: str) -> tuple[int, dict[str, Any]]:
    for index, region in enumerate(file["regions"]):
        if region["name"] == name:
            hosts = [
                server.rpartition(":")[0].strip("[]") for server in region["bootstrap_servers"].split(",")
            ]
            if any(host.strip() in _LOOPBACK for host in hosts):
                raise JobFileError(
                    f"regions[{index}].bootstrap_servers is {region['bootstrap_servers']}, which in a pod is the pod "
                    "itself: give the address by which pods reach the brokers, for instance by a param"
                )
            return index, region
    known = ", ".join(region["name"] for region in file["regions"])
    raise JobFileError(f"the job file has no region {name}; it has {known}")


def _fleet(file: dict[str, Any]) -> dict[str, str] | None:
    if file["service"]["mode"] != "fleet":
        return None
    service = file["service"]["fleet"].get("name")
    if not service:
        raise JobFileError(
            "service.fleet.name is missing: a fleet serves other jobs as well, and its objects are named by it"
        )
    path = file["store"]["url"].removeprefix("sqlite:")
    return {"service": service, "store": f"sqlite:{PurePosixPath(JOB_DIR) / path}"}


def _port(service: dict[str, Any], options: Options) -> int | None:
    """The port at which the service is beside the worker."""
    endpoint = _endpoint(service)
    if endpoint is None:
        if options.service_image:
            raise JobFileError(
                "service.callable and service.native run in the worker's own processes: put it into the worker's "
                "image, and leave --service-image out"
            )
        return None
    key, table = endpoint
    if socket := table.get("unix_socket"):
        raise JobFileError(
            f"{key}.unix_socket is {socket}, which the worker's container and the service's don't share: leave "
            "it out, and let the service listen at http://127.0.0.1:PORT"
        )
    url = urlsplit(table["url"])
    if url.hostname in _LOOPBACK and not options.service_image:
        raise JobFileError(
            f"{key}.url is {table['url']}, a service beside the worker: give its image with --service-image"
        )
    if options.service_image is None:
        return None
    if url.hostname not in _LOOPBACK:
        raise JobFileError(
            f"{key}.url is {table['url']}, but a service beside the worker is at http://127.0.0.1:PORT: change "
            "it, or leave --service-image out"
        )
    return url.port or (443 if url.scheme == "https" else 80)


def _endpoint(service: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The table of a service over a network, and its key in the job file."""
    for kind in ("http", "grpc"):
        if table := service.get(kind):
            return f"service.{kind}", table
    return None


def _probe(service: dict[str, Any], port: int | None) -> dict[str, Any]:
    """How Kubernetes sees that the service beside the worker has begun."""
    grpc = service.get("grpc")
    # Kubernetes asks for health in the clear only.
    if grpc is None or grpc["url"].startswith("https:"):
        return {"tcpSocket": {"port": "service"}}
    return {"grpc": {"port": port, "service": grpc["health_service"]}}


def _check_state(file: dict[str, Any], index: int, region: dict[str, Any]) -> None:
    """What the job writes is below `.kappaflow`: the rest of its directory is read-only in a pod."""
    written = {"store.url": file["store"]["url"].removeprefix("sqlite:")}
    registry = region["registry"]
    if isinstance(registry, str) and registry.startswith("dir:"):
        written[f"regions[{index}].registry"] = registry.removeprefix("dir:")
    for key, path in written.items():
        if PurePosixPath(path).parts[:1] != (STATE_DIR,):
            raise JobFileError(
                f"{key} is {path}: pods share {STATE_DIR}, beside the job file, and nothing else that is written"
            )


def _add_endpoint(needed: Needs, base: Path, service: dict[str, Any]) -> None:
    at, table = _endpoint(service) or ("", {})
    for name in ("headers", "metadata"):
        for header, value in (table.get(name) or {}).items():
            _add_reference(needed, f"{at}.{name}.{header}", value)
    for key in ("ca_file", "cert_file", "key_file"):
        if path := table.get(key):
            _add_file(needed, base, f"{at}.{key}", path, secret=key != "ca_file")


def _add_registry(needed: Needs, base: Path, at: str, registry: dict[str, Any]) -> None:
    for key, value in registry.items():
        if isinstance(value, dict):
            _add_registry(needed, base, f"{at}.{key}", value)
        elif isinstance(value, str) and key.endswith("_file"):
            _add_file(needed, base, f"{at}.{key}", value, secret=key != "ca_file")
        else:
            for text in value if isinstance(value, list) else [value]:
                _add_reference(needed, f"{at}.{key}", text)


def _add_reference(needed: Needs, key: str, value: object) -> None:
    if not isinstance(value, str):
        return
    kind, _, rest = value.partition(":")
    if kind == "env":
        needed.variables[rest] = rest
    elif kind == "file":
        needed.secret_files[_in_pod(key, rest)] = _key(rest)
    elif kind == "conn":
        raise JobFileError(f"{key} is {value}, a connection of Airflow: in a pod give env:NAME or file:PATH")


def _add_file(needed: Needs, base: Path, key: str, path: str, *, secret: bool) -> None:
    if secret:
        needed.secret_files[_in_pod(key, path)] = _key(path)
    else:
        _add_config(needed, base, key, path)


def _add_config(needed: Needs, base: Path, key: str, path: str) -> None:
    at = _in_pod(key, path)
    try:
        text = (base / path).read_text(encoding="utf-8")
    except OSError as error:
        raise JobFileError(f"{key} is {path}, which can't be read: {error.strerror}") from None
    except ValueError:
        raise JobFileError(f"{key} is {path}, which is no text") from None
    needed.config[at] = (_key(path), text)


def _in_pod(key: str, path: str) -> str:
    pure = PurePosixPath(path)
    if ".." in pure.parts:
        raise JobFileError(f"{key} is {path}: in a pod there is nothing above the job file's directory")
    return str(PurePosixPath(JOB_DIR) / pure)


def _key(path: str) -> str:
    """A key of a ConfigMap or a Secret that stands for a path."""
    return re.sub(r"[^-._a-zA-Z0-9]", ".", path.strip("/"))


def _object_name(text: str) -> str:
    """A name that Kubernetes takes for any object, and another one for another text."""
    name = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")
    # A Service's name begins with a letter, and some of ours get an ending.
    name = name if name[:1].isalpha() else f"job-{name}"
    if name == text and len(name) <= 50:
        return name
    return f"{name[:41].rstrip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
