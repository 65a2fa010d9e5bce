"""A bar store whose file is damaged: the process that finds out leaves a note beside it for health, status and alerts.

SQLite's own error is the evidence, since looking through a large store takes minutes.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEXT_STEP = "Stop Barmill with ./barmill down, then run ./barmill repair, which makes the store again."


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether an error says that the file itself is damaged."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextmanager
def noticing_damage(bars_db: Path) -> Iterator[None]:
    """Note it where the block finds the store to be damaged; the error is raised all the same."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            _note(bars_db).touch()
        raise


def store_problem(bars_db: Path) -> str:
    """Say in a sentence that the store was found to be damaged; '' if it was not."""
    return f"The bar store is damaged. {NEXT_STEP}" if _note(bars_db).exists() else ""


def forget_damage(bars_db: Path) -> None:
    """Remove the note, now that the store is another one."""
    _note(bars_db).unlink(missing_ok=True)


def _note(bars_db: Path) -> Path:
    return bars_db.with_name(f"{bars_db.name}.damaged")
