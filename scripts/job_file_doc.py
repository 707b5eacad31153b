"""Write docs/job-file.md from the job file's own JSON Schema, so that the page can't say other than the model.

python scripts/job_file_doc.py           write it
python scripts/job_file_doc.py --check   exit 1 if it is not what would be written
"""

import sys
from pathlib import Path
from typing import Any

import kappaflow

PAGE = Path(__file__).resolve().parent.parent / "docs" / "job-file.md"
INTRO = """\
# The job file

One TOML file describes a job; the command line, the Python API and the DAG use the same one. Paths are relative to the
file. Keys that are not listed here are refused. `examples/flights/job.toml` is a whole one.

`${name}` in any string is replaced by the param of that name, given by `--param name=value`, by `params=` in Python or
by an operator's `params`; a string that is one placeholder takes the param's own type. Secrets are never in
the file: give `env:NAME` or `file:PATH`.

*(This page is written from the model by `scripts/job_file_doc.py`.)*
"""


def kind(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A type in words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        target = definitions[name]
        return f"[{name}](#{name.lower()})" if "properties" in target else kind(target, definitions)
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            parts = [kind(part, definitions) for part in schema[key] if part.get("type") != "null"]
            return " or ".join(dict.fromkeys(parts))
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'], definitions)}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"table of {kind(schema['additionalProperties'], definitions)}"
    types = schema.get("type", "any value")
    names = [t for t in (types if isinstance(types, list) else [types]) if t != "null"]
    return " or ".join({"integer": "whole number"}.get(t, t) for t in names)


def section(title: str, schema: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    """One table of keys."""
    lines = [f"## {title}", "", *([schema["description"], ""] if "description" in schema else [])]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    required = schema.get("required", [])
    for name, value in schema["properties"].items():
        default = value.get("default")
        shown = "*required*" if name in required else "" if default is None else f"`{default}`"
        if isinstance(default, dict):
            shown = "see there" if "$ref" in value or default else ""
        meaning = " ".join(value.get("description", "").split())
        what = kind(value, definitions).replace("|", "\\|")
        lines.append(f"| `{name}` | {what} | {shown} | {meaning} |")
    return [*lines, ""]


def page() -> str:
    """The whole page."""
    schema = kappaflow.job_schema()
    definitions = schema.get("$defs", {})
    lines = section("Top level", schema, definitions)
    for name, definition in definitions.items():
        if "properties" in definition:
            lines += section(name, definition, definitions)
    return INTRO + "\n" + "\n".join(lines)


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv:
        if PAGE.read_text() != text:
            sys.exit(f"{PAGE.name} is not what the model says: run python scripts/job_file_doc.py")
    else:
        PAGE.write_text(text)
