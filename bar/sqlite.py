"""sqlite-utils without pandas, which it would import wherever there is one: half a second and 65 MB of each process."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Database", "Migrations"]


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Let imports of a module fail in the block, as if it were not installed."""
    found = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if found is not None:
            sys.modules[name] = found


with _hidden("pandas"):
    from sqlite_utils import Database, Migrations
