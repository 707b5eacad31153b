"""Files with secrets in them."""

import os
from pathlib import Path


def write_private(path: Path, data: bytes) -> None:
    """Writes a file that its owner alone may read."""
    path.unlink(missing_ok=True)  # one that was there keeps its mode otherwise
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
