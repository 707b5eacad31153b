"""From names in the job file to the callable, its warm-up and its exception classes."""

import importlib
import sys
import traceback
from collections.abc import Callable
from typing import Any

LINES = 12
"""Last lines of a traceback that a worker is shown."""


class StartError(Exception):
    """The service can't start: which step, why, what to do about it."""

    def __init__(self, step: str, reason: str, lines: list[str] | None = None) -> None:
        super().__init__(reason)
        self.step = step
        self.reason = reason
        self.lines = lines or []


def load(name: str, key: str, python_path: list[str]) -> Any:
    """What `module:attribute` names; `key` is the job file's key, for the message."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise StartError("import", f'{key} = "{name}": expected "module:name"')
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            tried = ", ".join(python_path) or "nothing"
            raise StartError(
                "import",
                f'{key} = "{name}": there is no module {error.name!r}. service.python_path has {tried}: '
                f"put the directory that holds {error.name.split('.')[0]!r} there, or install it for {sys.executable}",
            ) from error
        raise StartError(
            "import",
            f'{key} = "{name}": importing {module_name} needs the module {error.name!r}, which isn\'t installed '
            f"for {sys.executable}",
            last_lines(error),
        ) from error
    except BaseException as error:
        reason = f'{key} = "{name}": importing {module_name} raised {describe(error)}'
        raise StartError("import", reason, last_lines(error)) from error
    found = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            where = getattr(module, "__file__", None) or module_name
            raise StartError("import", f'{key} = "{name}": {where} has no {attribute!r}') from error
    return found


def load_callable(name: str, key: str, python_path: list[str]) -> Callable[..., Any]:
    found = load(name, key, python_path)
    if not callable(found):
        raise StartError("import", f'{key} = "{name}": {found!r} can\'t be called')
    return found  # type: ignore[no-any-return]


def load_verdicts(verdicts: dict[str, str], python_path: list[str]) -> dict[type[BaseException], str]:
    """Exception classes by verdict (`filtered`, `dead_letter`, `retry`)."""
    classes: dict[type[BaseException], str] = {}
    for name, verdict in verdicts.items():
        found = load(name, "service.verdicts", python_path)
        if not (isinstance(found, type) and issubclass(found, BaseException)):
            raise StartError("import", f'service.verdicts has "{name}", which is no exception class')
        classes[found] = verdict
    return classes


def describe(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def last_lines(error: BaseException) -> list[str]:
    """The end of a traceback, without the lines of this entry module and of the import machinery."""
    whole = traceback.TracebackException.from_exception(error, limit=-LINES)
    stack = [
        frame
        for frame in whole.stack
        if "importlib" not in frame.filename and "kappaflow/service/" not in frame.filename.replace("\\", "/")
    ]
    whole.stack = traceback.StackSummary.from_list(stack)
    return "".join(whole.format(chain=False)).rstrip().splitlines()[-LINES:]
