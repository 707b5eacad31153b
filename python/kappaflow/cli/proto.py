"""`kappaflow proto`: what a gRPC service has to speak."""

import argparse
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from kappaflow.errors import FileError

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

FILE = "kappaflow_service.proto"


def add_parser(commands: "SubParsers") -> None:
    """Add `proto`."""
    summary = "write the proto that a gRPC service speaks"
    parser = commands.add_parser("proto", help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    parser.add_argument("--out", metavar="DIR", help=f"write {FILE} into this directory (default: stdout)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    text = files("kappaflow.service").joinpath(FILE).read_text(encoding="utf-8")
    if args.out is None:
        sys.stdout.write(text)
        return 0
    path = Path(args.out) / FILE
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FileError(f"can't write {path}: {error.strerror}") from None
    sys.stdout.write(f"{path}\n")
    return 0
