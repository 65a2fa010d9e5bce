"""Secrets that are handed over as files, as containers get them."""

import os
import stat
from pathlib import Path

from control.errors import ControlError

_MAX_BYTES = 16 * 1024


def read_secret_file(path: Path, what: str, error: type[ControlError]) -> str:
    """Return what a file of a secret holds; raise `error` where it cannot be read, or everybody could read it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_MAX_BYTES)
    except OSError as problem:
        raise error(f"The {what} file {path} cannot be read: {problem.strerror}.") from problem
    if mode & 0o007:
        raise error(f"The {what} file {path} is open to everybody (mode {mode:04o}); run: chmod o= {path}")
    return text.decode("utf-8", "replace").strip()
