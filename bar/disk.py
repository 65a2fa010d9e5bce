"""A disk that is full, as those who write notice it: they pause and try again, and nothing of theirs is lost."""

import errno
import shutil
import sqlite3
from pathlib import Path

# With less than this, SQLite and others fail in ways that do not name the cause.
FULL_BELOW_BYTES = 1_000_000
# How long a writer pauses before it tries again.
PAUSE_S = 5.0


def is_full(folder: Path) -> bool:
    """Tell whether nothing more fits on the disk of a folder."""
    return shutil.disk_usage(folder).free < FULL_BELOW_BYTES


def is_from_full_disk(error: BaseException, folder: Path) -> bool:
    """Tell whether an error comes from a disk or a quota without room; `folder` is on the disk in question."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(seen, sqlite3.Error) and getattr(seen, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        # Also where SQLite only says that it cannot open a file, or speaks of an I/O error.
        if isinstance(seen, OSError | sqlite3.Error) and is_full(folder):
            return True
        seen = seen.__cause__
    return False
