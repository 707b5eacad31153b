"""What is rendered for Kubernetes, against the schemas of Kubernetes and of KEDA."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kappaflow import k8s
from kappaflow.errors import JobFileError, KappaFlowError
from kappaflow.k8s.needs import _object_name

# The first in which all that is rendered is there for good.
OLDEST = "1.30"
KEDA = "github.com/kedacore/keda/v2@v2.21.0"
SCHEMA = '{"type": "record", "name": "Row", "fields": [{"name": "id", "type": "long"}]}'
JOB = """
name = "Order_Fees"                      # with a comment
side_effects = "none"
[params]
day = { type = "date" }
[source]
path = "rows.parquet"
[schema]
ingress = "schemas/row.avsc"
egress = "schemas/row.avsc"
[service]
version = "1"
deadline_ms = 5_000
[service.http]
url = "http://127.0.0.1:8080/price"
headers = { authorization = "env:PRICING_TOKEN", x-day = "${day}" }
[output]
path = "landed"
[[regions]]
name = "east"
bootstrap_servers = "kafka.east:9092"
cap_max = 1_000
[limits]
broker_timeout_ms = 20_000
"""
SECURED = """
registry = { urls = ["https://registry:8081"], username = "env:REGISTRY_USER", password = "file:/run/secrets/registry" }
[regions.kafka]
"security.protocol" = "SASL_SSL"
"sasl.mechanism" = "SCRAM-SHA-512"
"sasl.username" = "replay"
"sasl.password" = "env:KAFKA_PASSWORD"
"ssl.ca.location" = "ca.pem"
"ssl.key.location" = "keys/client.pem"
[limits]
"""
OAUTH = """
[regions.kafka]
"security.protocol" = "SASL_SSL"
"sasl.mechanism" = "OAUTHBEARER"
"sasl.oauthbearer.method" = "oidc"
"sasl.oauthbearer.client.id" = "replay"
"sasl.oauthbearer.client.secret" = "env:CLIENT_SECRET"
"sasl.oauthbearer.token.endpoint.url" = "https://identity/token"
[limits]
"""
CALLABLE = '[service]\ncallable = "fees:fee"\npython_path = ["."]\n'
PARAMS = {"day": "2013-01-31"}
SERVICE = "shop/pricing:4"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"id": [1, 2, 3]}), tmp_path / "rows.parquet")
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "row.avsc").write_text(SCHEMA)
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    return path


def edit(job: Path, old: str, new: str) -> None:
    text = job.read_text()
    assert old in text
    job.write_text(text.replace(old, new))


def make_callable(job: Path) -> None:
    head, _, tail = job.read_text().partition("[service]")
    job.write_text(f'{head}{CALLABLE}version = "1"\n[output]{tail.partition("[output]")[2]}')


def options(**given: Any) -> k8s.Options:
    return k8s.Options(**{"image": "replay/worker:1", "region": "east", "service_image": SERVICE, **given})


def render(job: Path, **given: Any) -> dict[str, dict[str, Any]]:
    objects = k8s.render(job, options(**given), params=PARAMS)
    by_kind = {rendered["kind"]: rendered for rendered in objects}
    assert len(by_kind) == len(objects)
    return by_kind


@pytest.fixture(scope="session")
def keda() -> Path:
    """KEDA's own repository as its Go module has it."""
    if shutil.which("go") is None:
        # No other registry has them, and copies here would be of one version for ever.
        pytest.skip("KEDA's schemas come in a Go module, and there is no go here")
    done = subprocess.run(
        ["go", "mod", "download", "-json", KEDA], capture_output=True, text=True, check=True, cwd="/"
    )
    return Path(json.loads(done.stdout)["Dir"])


def closed(schema: Any) -> Any:
    """A schema in which what isn't named isn't allowed: Kubernetes would drop it without a word."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def validate(objects: dict[str, dict[str, Any]], keda: Path) -> None:
    """All objects are what Kubernetes and KEDA take, field by field."""
    for kind, rendered in objects.items():
        if not rendered["apiVersion"].startswith("keda.sh/"):
            for version in (OLDEST, kubernetes_validate.latest_version()):
                kubernetes_validate.validate(rendered, version, strict=True)
            continue
        crd = yaml.safe_load(
            (keda / "config" / "crd" / "bases" / f"keda.sh_{kind.lower()}s.yaml").read_text()
        )
        (version,) = [v for v in crd["spec"]["versions"] if v["name"] == "v1alpha1"]
        schema = closed(version["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"type": "object"}
        jsonschema.validate(rendered, schema)
    for trigger in objects.get("ScaledObject", {"spec": {"triggers": []}})["spec"]["triggers"]:
        validate_trigger(trigger, keda)


def validate_trigger(trigger: dict[str, Any], keda: Path) -> None:
    """A trigger's metadata are what its scaler reads."""
    scalers = json.loads((keda / "schema" / "generated" / "scalers-schema.json").read_text())["scalers"]
    (scaler,) = [scaler for scaler in scalers if scaler["type"] == trigger["type"]]
    known = {p["name"]: p for p in scaler["parameters"] if p.get("metadataVariableReadable")}
    assert set(trigger["metadata"]) <= set(known)
    for name, parameter in known.items():
        if not parameter.get("optional") and "default" not in parameter:
            assert name in trigger["metadata"], f"{trigger['type']} needs {name}"
        if name in trigger["metadata"] and "allowedValue" in parameter:
            assert trigger["metadata"][name] in parameter["allowedValue"]


def test_a_service_beside_the_worker_with_keda(job: Path, keda: Path) -> None:
    objects = render(job)
    validate(objects, keda)
    assert list(objects) == [
        "ConfigMap",
        "PersistentVolumeClaim",
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "ScaledObject",
    ]
    deployment = objects["Deployment"]["spec"]
    assert "replicas" not in deployment
    pod = deployment["template"]["spec"]
    (worker,) = pod["containers"]
    assert worker["command"] == ["kappaflow-worker"]
    assert worker["args"] == [
        "/job/job.toml",
        "--region=east",
        "--until=stopped",
        "--listen=0.0.0.0:9464",
        "--param=day=2013-01-31",
    ]
    assert worker["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert worker["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    (service,) = pod["initContainers"]
    # It begins before the worker and outlives it.
    assert (service["image"], service["restartPolicy"]) == (SERVICE, "Always")
    assert service["ports"] == [{"name": "service", "containerPort": 8080}]
    assert service["resources"]["limits"] == {"cpu": "2", "memory": "8Gi"}
    # A call of 5 s, a delivery of 20 s, and leaving.
    assert pod["terminationGracePeriodSeconds"] == 40
    lag, wanted = objects["ScaledObject"]["spec"]["triggers"]
    names = lag["metadata"]
    assert names["consumerGroup"].startswith("kappaflow.Order_Fees.") and names["topic"].endswith(
        ".east.ingress"
    )
    assert (
        wanted["metadata"]["url"] == f"http://{objects['Service']['metadata']['name']}.default:9464/replicas"
    )
    assert objects["ScaledObject"]["spec"]["minReplicaCount"] == 0


def test_a_callable_with_the_hpa(job: Path, keda: Path) -> None:
    make_callable(job)
    objects = render(job, service_image=None, scaler="hpa", cpu="4", memory="2Gi", namespace="replays")
    validate(objects, keda)
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    assert "initContainers" not in pod
    assert pod["containers"][0]["resources"]["requests"] == {"cpu": "4", "memory": "2Gi"}
    cpu, lag = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert cpu["containerResource"]["container"] == "worker"
    metric = lag["external"]["metric"]
    # As docs/metrics.md has it: OpenTelemetry's names, as Prometheus writes them.
    assert metric["name"] == "kappaflow_worker_lag_records"
    assert list(metric["selector"]["matchLabels"]) == ["messaging_consumer_group_name"]
    assert objects["HorizontalPodAutoscaler"]["spec"]["minReplicas"] == 1
    assert {rendered["metadata"]["namespace"] for rendered in objects.values()} == {"replays"}


@pytest.mark.parametrize("scaler", ["keda", "hpa"])
def test_a_fleet_serves_whatever_is_submitted(job: Path, keda: Path, scaler: str) -> None:
    edit(job, "[service.http]", 'mode = "fleet"\n[service.http]')
    with pytest.raises(JobFileError, match=r"service\.fleet\.name is missing"):
        render(job, scaler=scaler)
    edit(job, "[service.http]", 'fleet = { name = "pricing" }\n[service.http]')
    objects = render(job, scaler=scaler)
    validate(objects, keda)
    assert {rendered["metadata"]["name"] for rendered in objects.values()} == {
        "pricing-east",
        "pricing-east-state",
    }
    (worker,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert worker["args"] == [
        "fleet",
        "--store=sqlite:/job/.kappaflow/store.db",
        "--service=pricing",
        "--region=east",
        "--listen=0.0.0.0:9464",
    ]
    if scaler == "keda":
        spec = objects["ScaledObject"]["spec"]
        assert [trigger["type"] for trigger in spec["triggers"]] == ["metrics-api"]
        assert spec["minReplicaCount"] == 1
    else:
        (metric,) = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
        assert metric["type"] == "ContainerResource"


def test_secrets_are_references_to_one_secret(job: Path, keda: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(job, "[limits]", SECURED)
    monkeypatch.setenv("KAFKA_PASSWORD", "hush-1")
    monkeypatch.setenv("PRICING_TOKEN", "hush-2")
    objects = render(job, secret="keys")
    validate(objects, keda)
    assert "hush" not in json.dumps(objects)
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (worker,) = pod["containers"]
    from_secret = {e["name"]: e["valueFrom"]["secretKeyRef"] for e in worker["env"]}
    expected = ("KAFKA_PASSWORD", "REGISTRY_USER", "PRICING_TOKEN")
    assert from_secret == {name: {"name": "keys", "key": name} for name in expected}
    mounts = {m["mountPath"]: (m["name"], m.get("subPath")) for m in worker["volumeMounts"]}
    assert mounts == {
        "/job/job.toml": ("job", "job.toml"),
        "/job/schemas/row.avsc": ("job", "schemas.row.avsc"),
        "/job/ca.pem": ("job", "ca.pem"),
        "/job/keys/client.pem": ("secrets", "keys.client.pem"),
        "/run/secrets/registry": ("secrets", "run.secrets.registry"),
        "/job/.kappaflow": ("state", None),
    }
    data = objects["ConfigMap"]["data"]
    assert {key for name, key in mounts.values() if name == "job"} <= set(data)
    assert (data["job.toml"], data["schemas.row.avsc"]) == (job.read_text(), SCHEMA)
    assert {volume["name"] for volume in pod["volumes"]} == {"job", "secrets", "state"}

    metadata = objects["ScaledObject"]["spec"]["triggers"][0]["metadata"]
    assert (metadata["tls"], metadata["sasl"]) == ("enable", "scram_sha512")
    told = objects["TriggerAuthentication"]["spec"]
    assert {t["parameter"]: (t["name"], t["key"]) for t in told["secretTargetRef"]} == {
        "password": ("keys", "KAFKA_PASSWORD"),
        "key": ("keys", "keys.client.pem"),
    }
    assert {t["parameter"]: t["key"] for t in told["configMapTargetRef"]} == {
        "username": "sasl.username",
        "ca": "ca.pem",
    }
    assert data["sasl.username"] == "replay"


def test_certificates_of_a_service_are_where_the_job_looks_for_them(job: Path, keda: Path) -> None:
    files = 'ca_file = "ca.pem"\ncert_file = "keys/replay.pem"\nkey_file = "keys/replay.key"'
    edit(job, 'url = "http://127.0.0.1:8080/price"', f'url = "https://pricing/price"\n{files}')
    objects = render(job, service_image=None)
    validate(objects, keda)
    (worker,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    mounts = {m["mountPath"]: m["name"] for m in worker["volumeMounts"]}
    assert mounts["/job/ca.pem"] == "job"
    assert (mounts["/job/keys/replay.pem"], mounts["/job/keys/replay.key"]) == ("secrets", "secrets")


def test_a_grpc_service_is_asked_for_its_health(job: Path, keda: Path) -> None:
    http = '[service.http]\nurl = "http://127.0.0.1:8080/price"'
    more = 'health_service = "prices"\nca_file = "ca.pem"'
    edit(job, http, f'[service.grpc]\nurl = "http://127.0.0.1:50051"\n{more}')
    edit(job, "headers = {", "metadata = {")
    objects = render(job)
    validate(objects, keda)
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (service,) = pod["initContainers"]
    assert service["ports"] == [{"name": "service", "containerPort": 50051}]
    assert service["startupProbe"]["grpc"] == {"port": 50051, "service": "prices"}
    (worker,) = pod["containers"]
    assert "PRICING_TOKEN" in {env["name"] for env in worker["env"]}
    assert "/job/ca.pem" in {mount["mountPath"] for mount in worker["volumeMounts"]}


@pytest.mark.parametrize(
    ("old", "new", "given", "told"),
    [
        ("kafka.east:9092", "127.0.0.1:9092", {}, "in a pod is the pod itself"),
        ("kafka.east:9092", "kafka:9092,localhost:9", {}, "in a pod is the pod itself"),
        ("", "", {"region": "west"}, "has no region west; it has east"),
        ("http://127.0.0.1:8080/price", "http://pricing/price", {}, "is at http://127.0.0.1:PORT"),
        ("", "", {"service_image": None}, "give its image with --service-image"),
        ("8080/price", '8080/price"\nunix_socket = "s', {}, "http.unix_socket is s, which"),
        ("cap_max = 1_000", 'cap_max = 1\nregistry = "conn:kafka"', {}, "a connection of Airflow"),
        ("cap_max = 1_000", 'cap_max = 1\nregistry = "dir:registry"', {}, "pods share .kappaflow"),
        ("[limits]", '[store]\nurl = "sqlite:/var/store.db"\n[limits]', {}, "store.url is /var/store.db"),
        ('ingress = "schemas/', 'ingress = "../schemas/', {}, "nothing above the job file's directory"),
        ('ingress = "schemas/row', 'ingress = "schemas/no', {}, "can't be read"),
        ("[limits]", OAUTH, {}, "can't sign in by OAUTHBEARER"),
        ("# with a comment", f"# {'long ' * 250_000}", {}, "a ConfigMap holds"),
    ],
)
def test_what_a_pod_can_not_have_is_named(
    job: Path, old: str, new: str, given: dict[str, Any], told: str
) -> None:
    if "../schemas" in new:
        (job.parent.parent / "schemas").mkdir(exist_ok=True)
        shutil.copy(job.parent / "schemas" / "row.avsc", job.parent.parent / "schemas" / "row.avsc")
    edit(job, old, new)
    with pytest.raises(JobFileError, match=told.replace("(", r"\(")):
        render(job, **given)


def test_a_callable_takes_no_service_image(job: Path) -> None:
    make_callable(job)
    with pytest.raises(JobFileError, match="leave --service-image out"):
        render(job)


def test_yaml_reads_back_as_it_was_and_keeps_texts_legible(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = list(render(job).values())
    text = k8s.to_yaml(objects)
    assert list(yaml.safe_load_all(text)) == objects
    assert "  job.toml: |" in text and "&id" not in text
    assert json.loads(k8s.to_json(objects))["items"] == objects
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(KappaFlowError, match=r"pip install 'kappaflow\[k8s\]'"):
        k8s.to_yaml(objects)


@given(st.text(min_size=1, max_size=300))
def test_any_job_has_a_name_that_kubernetes_takes(text: str) -> None:
    name = _object_name(text)
    assert len(name) <= 50 and name[0].isalpha() and name[-1].isalnum()
    assert all(c in "abcdefghijklmnopqrstuvwxyz0123456789-" for c in name)


def test_jobs_of_like_names_have_names_of_their_own() -> None:
    names = ["order-fees", "Order-fees", "order_fees", "order.fees", "o" * 60, "o" * 61]
    assert len({_object_name(name) for name in names}) == len(names)


def command(*words: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "kappaflow", "k8s", "render", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_renders_to_stdout_or_a_file(job: Path) -> None:
    words = [str(job), "--image", "w:1", "--service-image", SERVICE, "--param", "day=2013-01-31"]
    done = command(*words)
    assert done.returncode == 0, done.stderr
    rendered = list(yaml.safe_load_all(done.stdout))
    assert "Deployment/" in done.stderr
    out = job.parent / "workers.yaml"
    assert command(*words, "--out", str(out), "--quiet").stdout == ""
    assert list(yaml.safe_load_all(out.read_text())) == rendered
    assert json.loads(command(*words, "--json").stdout)["items"] == rendered
    wrong = command(str(job), "--image", "w:1", "--param", "day=2013-01-31")
    assert wrong.returncode == 2 and "--service-image" in wrong.stderr


def test_the_commands_of_the_docs_run_as_written(job: Path) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "kubernetes.md").read_text()
    lines = [line.strip() for line in page.splitlines() if line.startswith("    kappaflow k8s render")]
    assert lines
    edit(job, 'day = { type = "date" }', 'day = { type = "date", default = "2013-01-31" }')
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=job.parent,
            env={"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
