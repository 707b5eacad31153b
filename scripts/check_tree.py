"""Rules of the tree that no linter knows: the direction of imports, one arrow, pyo3 in one crate."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Below rust/core/src.
PURE = [
    "identity.rs",
    "dispatch/headroom.rs",
    "land/families.rs",
    "reconcile/ledger.rs",
    *(
        f"work/{part}.rs"
        for part in (
            "above",
            "admission",
            "chosen",
            "endpoint/batch",
            "endpoint/gate",
            "endpoint/told",
            "frontier",
            "grpc/answer",
            "limiter/adaptive",
            "limiter/cpu",
            "limiter/mod",
            "limiter/pair",
            "limiter/window",
            "python/pace",
            "replicas",
            "schedule",
            "share",
            "task",
            "verdict",
        )
    ),
]


def problems() -> list[str]:
    """What breaks a rule, a line each."""
    found: list[str] = []
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    for name in ("arrow-array", "arrow-schema", "parquet", "rustls", "object_store"):
        versions = [p["version"] for p in lock["package"] if p["name"] == name]
        if len(versions) > 1:
            found.append(f"Cargo.lock: {name} is in the tree {len(versions)} times: {', '.join(versions)}")
    for manifest in ROOT.glob("rust/*/Cargo.toml"):
        named = "pyo3" in manifest.read_text()
        if named and manifest.parent.name != "python":
            found.append(f"{manifest.relative_to(ROOT)}: pyo3 belongs in rust/python alone")
    for path in PURE:
        source = ROOT / "rust/core/src" / path
        text = source.read_text() if source.exists() else None
        if text is None:
            found.append(f"{path}: is listed as a pure part but is not there")
        elif re.search(r"\b(tokio|rdkafka|std::time::Instant)\b", text):
            found.append(f"{path}: a pure part may not use tokio, rdkafka or a clock")
    for source in (ROOT / "python").rglob("*.py"):
        if re.search(r"^\s*(import|from) airflow\b", source.read_text(), re.MULTILINE):
            found.append(f"{source.relative_to(ROOT)}: kappaflow never imports Airflow")
    return found


if __name__ == "__main__":
    lines = problems()
    sys.stderr.writelines(f"{line}\n" for line in lines)
    sys.exit(bool(lines))
