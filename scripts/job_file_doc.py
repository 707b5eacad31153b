"""Write docs/job-file.md from the job file's own JSON Schema, so that the page can't say other than the model.

python scripts/job_file_doc.py           write it
python scripts/job_file_doc.py --check   exit 1 if it is not what would be written
"""

import json
import re
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
by an operator's `job_params`; a string that is one placeholder takes the param's own type. Secrets are never in the
file: as a value under `[regions.kafka]`, give `env:NAME` or `file:PATH`.

*(This page is written from the model by `scripts/job_file_doc.py`.)*
"""

# The definitions by the table of the file that they describe, in the order in which one writes them.
TABLES = {
    "Param": "[params.NAME]",
    "Source": "[source]",
    "Schema": "[schema]",
    "FieldDeclaration": "[schema.fields.FIELD]",
    "Topics": "[topics]",
    "Service": "[service]",
    "HttpEndpoint": "[service.http]",
    "Answer": "[service.http.answer]",
    "GrpcEndpoint": "[service.grpc]",
    "Output": "[output]",
    "Region": "[[regions]]",
    "RegistryTable": "[regions.registry]",
    "OAuthConfig": "[regions.registry.oauth]",
    "Limits": "[limits]",
    "Rejects": "[rejects]",
    "StoreSection": "[store]",
}
# What the model leaves to its names.
MORE = {
    "Output.mode": "`append`: each commit adds the rows that are not there yet.",
    "Region.bootstrap_servers": "`HOST:PORT`, several with commas between them.",
    "Region.name": "Part of topic names.",
    "Service.options": "Keyword arguments of `warm_up`.",
    "Topics.create": "`if_missing`: topics are created where they are missing. `never`: they must be there.",
}
WORDS = {"integer": "whole number", "boolean": "`true` or `false`"}


def link(name: str) -> str:
    """A link to the section of a definition."""
    title = TABLES.get(name, name)
    return f"[`{title}`](#{re.sub(r'[^a-z0-9_-]', '', title.lower())})"


def kind(schema: dict[str, Any] | bool, definitions: dict[str, Any]) -> str:
    """A type in words."""
    if isinstance(schema, bool):
        return "any value"
    if schema.get("type") == "object" and len(schema.get("required", [])) == 1 and "properties" in schema:
        (key,) = schema["required"]
        return f"`{{{key} = …}}`"
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        target = definitions[name]
        return link(name) if "properties" in target else kind(target, definitions)
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            parts = [kind(part, definitions) for part in schema[key] if part.get("type") != "null"]
            return " or ".join(dict.fromkeys(parts))
    # What may be absent has two types: its own and null.
    if schema.get("type") in ("array", ["array", "null"]):
        return f"list of {plural(schema['items'], definitions)}"
    if schema.get("additionalProperties") not in (None, False):
        return f"table of {plural(schema['additionalProperties'], definitions)}"
    types = schema.get("type", "any value")
    names = [t for t in (types if isinstance(types, list) else [types]) if t != "null"]
    return " or ".join(WORDS.get(t, t) for t in names)


def plural(schema: dict[str, Any] | bool, definitions: dict[str, Any]) -> str:
    """The type of a list's or a table's values, in words."""
    words = kind(schema, definitions)
    return {"string": "strings", "any value": "any values"}.get(words, words)


def choices(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What the values of an enumeration mean, where the model says so."""
    # What may be absent is one of a definition and null.
    named = next((part for part in [schema, *schema.get("anyOf", [])] if "$ref" in part), schema)
    target = definitions[named["$ref"].rsplit("/", 1)[-1]] if "$ref" in named else named
    told = [
        f"{kind(c, definitions)}: {c['description']}" for c in target.get("oneOf", []) if "description" in c
    ]
    return " ".join(told)


def shown_default(value: dict[str, Any], required: bool) -> str:
    """A default as TOML has it."""
    default = value.get("default")
    if required:
        return "*required*"
    if default is None or default in ({}, []) or isinstance(default, dict):
        return ""
    return f"`{json.dumps(default)}`"


def section(name: str, schema: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    """One table of keys."""
    title = f"`{TABLES[name]}`" if name in TABLES else name
    lines = [f"## {title}", "", *([schema["description"], ""] if "description" in schema else [])]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    required = schema.get("required", [])
    # What must be given comes first.
    for key, value in sorted(schema["properties"].items(), key=lambda item: item[0] not in required):
        told = [
            *value.get("description", "").split(),
            choices(value, definitions),
            MORE.get(f"{name}.{key}", ""),
        ]
        what = kind(value, definitions).replace("|", "\\|")
        default = shown_default(value, key in required)
        lines.append(f"| `{key}` | {what} | {default} | {' '.join(filter(None, told))} |")
    return [*lines, ""]


def page() -> str:
    """The whole page."""
    schema = kappaflow.job_schema()
    definitions = schema.get("$defs", {})
    lines = section("Top level", schema, definitions)
    names = [name for name, definition in definitions.items() if "properties" in definition]
    for name in sorted(names, key=lambda name: list(TABLES).index(name) if name in TABLES else len(TABLES)):
        lines += section(name, definitions[name], definitions)
    return INTRO + "\n" + "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv:
        if PAGE.read_text() != text:
            sys.exit(f"{PAGE.name} is not what the model says: run python scripts/job_file_doc.py")
    else:
        PAGE.write_text(text)
