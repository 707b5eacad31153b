"""What the docs name is there: relative links, `make` targets, commands and their flags, and the pages we write."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from kappaflow.cli import command_words, parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "airflow_provider" / "README.md",
    *sorted((ROOT / "examples").glob("*/README.md")),
]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> list[str]:
    """Relative links that lead nowhere."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            found.append(f"links to {link}, which is not there")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            found.append(f"links to {link}, but {target.name} has no such heading")
    return found


def subparsers(command: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The subcommands of a command."""
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def unknown_commands(text: str) -> list[str]:
    """`kappaflow ...` in code that the command line does not take."""
    found = []
    for line in re.findall(r"(?:^ {4,}(?:[$] )?|^[$] |`)kappaflow ([^`#\n]*)", text, re.MULTILINE):
        command = parser()
        for word in command_words(line.split()):
            flag = re.match(r"(--?[a-z][a-z0-9-]*)", word)
            if flag and flag[1] not in command._option_string_actions:
                found.append(f"kappaflow {line.strip()}: {command.prog} has no {flag[1]}")
            elif re.fullmatch(r"[a-z0-9 ]+", word) and (commands := subparsers(command)):
                if word not in commands:
                    found.append(f"kappaflow {line.strip()}: {command.prog} has no command {word}")
                    break
                command = commands[word]
    return found


def unknown_targets(text: str) -> list[str]:
    """`make ...` in code that the Makefile lacks."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^ {4,}|`)make ([a-z-]+)", text, re.MULTILINE)
    return [f"make {name} is no target" for name in named if name not in targets]


def main() -> int:
    """Print what is wrong, a line each."""
    bad = 0
    for page in PAGES:
        text = page.read_text()
        for line in [*broken_links(page, text), *unknown_commands(text), *unknown_targets(text)]:
            sys.stderr.write(f"{page.relative_to(ROOT)}: {line}\n")
            bad += 1
    for script in ("job_file_doc.py", "coercion_doc.py"):
        written = subprocess.run([sys.executable, ROOT / "scripts" / script, "--check"], check=False)
        bad += written.returncode != 0
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
