"""What the servers run from: fetched from Maven coordinates by jgo, once, into a cache of the user's.

Only jgo's resolver is used, not `jgo.build`: that one also fetches a whole JDK, just to sort the jars.
"""

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kappaflow.dev.lock import locked
from kappaflow.errors import DevStackError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

KAFKA_VERSION = "4.3.1"
HADOOP_VERSION = "3.4.2"
APICURIO_VERSION = "3.3.3"
JARS_DIR_VARIABLE = "KAPPAFLOW_JARS_DIR"
_LIST = "jars.json"
_RUN_JAR = "quarkus-run.jar"
_NEEDED_BYTES_APICURIO = 400 << 20  # 159 MB packed, 168 MB unpacked
_DOWNLOAD_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class JarSet:
    """Jars that run together, with all that they need. `size`: in words, what is downloaded.

    A coordinate is `group:artifact:version`, or with a classifier `group:artifact:version:classifier`.
    """

    title: str
    name: str
    coordinates: tuple[str, ...]
    size: str
    needed_bytes: int  # of the disk: also for the poms, and for doing it beside an older set


KAFKA = JarSet(
    f"Apache Kafka {KAFKA_VERSION}",
    f"kafka-{KAFKA_VERSION}",
    (
        f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
        f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
        "org.slf4j:slf4j-simple:1.7.36",
    ),
    "54 MB",
    200 << 20,
)
HADOOP = JarSet(
    f"Apache Hadoop {HADOOP_VERSION}",
    f"hadoop-{HADOOP_VERSION}",
    (
        f"org.apache.hadoop:hadoop-client-api:{HADOOP_VERSION}",
        f"org.apache.hadoop:hadoop-client-runtime:{HADOOP_VERSION}",
        f"org.apache.hadoop:hadoop-client-minicluster:{HADOOP_VERSION}",
        "javax.xml.bind:jaxb-api:2.3.1",
        "org.slf4j:slf4j-simple:1.7.36",
    ),
    "90 MB",
    400 << 20,
)


def jars_dir() -> Path:
    """Where the jars are kept: `$KAPPAFLOW_JARS_DIR`, else `kappaflow/jars` in the user's cache directory."""
    chosen = os.environ.get(JARS_DIR_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "kappaflow" / "jars"


def class_path(of: JarSet, on_event: Callable[[str], None]) -> list[Path]:
    """The jars of a set, downloaded first if the cache lacks them. Offline once it is complete.

    Raises DevStackError if the cache can't be written or the download fails.
    """
    target = jars_dir() / of.name
    found = _complete(target, of)
    if found is None:
        with _cache(of.needed_bytes, on_event):
            found = _complete(target, of)  # whoever held the lock may have done it
            if found is None:
                found = _download(target, of, on_event)
    return found


def registry_jar(on_event: Callable[[str], None]) -> Path:
    """The jar that Apicurio Registry starts from, beside its others; downloaded first if the cache lacks it.

    Raises DevStackError if the cache can't be written or the download fails.
    """
    target = jars_dir() / f"apicurio-{APICURIO_VERSION}"
    jar = target / _RUN_JAR
    if not jar.is_file():
        with _cache(_NEEDED_BYTES_APICURIO, on_event):
            if not jar.is_file():
                _download_registry(target, on_event)
    return jar


@contextmanager
def _cache(needed_bytes: int, on_event: Callable[[str], None]) -> Iterator[None]:
    """Makes the cache, and holds it for this process, if it has room for what is to come."""
    home = jars_dir()
    try:
        home.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(home).free
    except OSError as error:
        raise DevStackError(
            f"cannot make the jar cache {home} ({error.strerror}). "
            f"Set {JARS_DIR_VARIABLE} to a directory you may write to."
        ) from error
    if free < needed_bytes:
        raise DevStackError(
            f"no space: the jar cache {home} has {free >> 20} MiB free, and needs {needed_bytes >> 20} MiB. "
            f"Free some space, or set {JARS_DIR_VARIABLE} to a directory on another disk."
        )
    with locked(home / "lock", timeout_s=_DOWNLOAD_TIMEOUT_S, on_wait=on_event):
        yield


def _download_registry(target: Path, on_event: Callable[[str], None]) -> None:
    # As Kafka's jars: whole under its name, or not there.
    partial = target.with_name(target.name + ".partial")
    repository = partial / "repository"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        repository.mkdir(parents=True)
        on_event(f"downloading Apicurio Registry {APICURIO_VERSION}, 159 MB (once)")
        packed = _fetch_registry(repository)
        with tarfile.open(packed) as archive:
            archive.extractall(partial / "app", filter="data")
        shutil.rmtree(target, ignore_errors=True)
        (partial / "app").replace(target)
    except (OSError, tarfile.TarError) as error:
        raise DevStackError(f"cannot store Apicurio Registry in {target} ({error}).") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fetch_registry(repository: Path) -> Path:
    context = _context(repository, "Apicurio Registry")
    try:
        component = context.project("io.apicurio", "apicurio-registry-app").at_version(APICURIO_VERSION)
        return component.artifact(classifier="all", packaging="tar.gz").resolve()
    except Exception as error:  # as in `_resolve`
        raise _not_fetched("Apicurio Registry", error) from error


def _complete(target: Path, of: JarSet) -> list[Path] | None:
    """The jars that the list in `target` names, if each is there in its full size; else None."""
    try:
        listed = json.loads((target / _LIST).read_text())
        if listed["coordinates"] != list(of.coordinates):
            return None
        jars = [(target / name, size) for name, size in listed["jars"].items()]
        return (
            [path for path, size in jars] if all(path.stat().st_size == size for path, size in jars) else None
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _download(target: Path, of: JarSet, on_event: Callable[[str], None]) -> list[Path]:
    # Into a directory beside, renamed when whole: an interrupted download is never mistaken for a jar.
    partial = target.with_name(target.name + ".partial")
    repository = partial / "repository"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        repository.mkdir(parents=True)
        sizes: dict[str, int] = {}
        for jar in _resolve(repository, of, on_event):
            place = partial / jar.name
            jar.replace(place)
            sizes[place.name] = place.stat().st_size
        shutil.rmtree(repository)
        (partial / _LIST).write_text(json.dumps({"coordinates": of.coordinates, "jars": sizes}, indent=1))
        shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)
    except OSError as error:
        raise DevStackError(f"cannot store the jars of {of.title} in {target} ({error}).") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    on_event(f"{len(sizes)} jars, {sum(sizes.values()) >> 20} MiB, in {target}")
    return [target / name for name in sizes]


def _resolve(repository: Path, of: JarSet, on_event: Callable[[str], None]) -> list[Path]:
    context = _context(repository, of.title)
    on_event(f"resolving the jars of {of.title}, {of.size} (once; about a minute)")
    try:
        wanted = [context.create_dependency(_with_scope(coordinate)) for coordinate in of.coordinates]
        inputs, transitive = context.resolver.resolve(wanted)
        artifacts = [item.artifact for item in inputs]
        artifacts += [item.artifact for item in transitive if item.scope in ("compile", "runtime")]
        jars: list[Path] = []
        for number, artifact in enumerate(artifacts, start=1):
            on_event(f"downloading jar {number} of {len(artifacts)}: {artifact.filename}")
            jars.append(artifact.resolve())
        return jars
    except Exception as error:  # jgo raises what its parts raise: network, XML, checksums, files
        raise _not_fetched(of.title, error) from error


def _context(repository: Path, what: str) -> "MavenContext":
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext
    except ImportError as error:
        raise DevStackError(
            f"{what}: not in the cache {jars_dir()}, and jgo, which fetches from Maven, is not installed: "
            "`pip install jgo`."
        ) from error
    try:
        repositories = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
        return MavenContext(repo_cache=repository, remote_repos=repositories, timeout=30)
    except Exception as error:  # as in `_resolve`
        raise _not_fetched(what, error) from error


def _not_fetched(what: str, error: Exception) -> DevStackError:
    return DevStackError(
        f"{what} could not be downloaded ({type(error).__name__}: {error}). "
        "The first start needs the network, to Maven Central or to a mirror named in jgo's settings "
        "(`[repositories]` with `central = URL` in ~/.config/jgo.conf). "
        f"Or set {JARS_DIR_VARIABLE} to a directory where they already are."
    )


def _with_scope(coordinate: str) -> str:
    group, artifact, version, *classifier = coordinate.split(":")
    return ":".join([group, artifact, "jar", *classifier, version, "compile"])
