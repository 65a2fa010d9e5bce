"""The folder that a replay works in: gone when the replay ends, and at the next start if it was killed."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PREFIX, _LOCK = "replay-", ".lock"


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Make a folder in `parent` and remove it at the end; remove those of replays that were killed.

    Each folder has a lock file beside it, which its replay holds as long as it lives.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (parent / _LOCK).open("ab") as everyone:
        # A folder without its lock taken must be one that was left, so making one is alone, too.
        fcntl.flock(everyone, fcntl.LOCK_EX)
        _remove_left(parent)
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=_PREFIX))
        lock = _lock_of(folder).open("ab")
        fcntl.flock(lock, fcntl.LOCK_EX)
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _lock_of(folder).unlink(missing_ok=True)


def _remove_left(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*/"):
        with _lock_of(folder).open("ab") as lock:
            if _taken(lock):
                continue
            shutil.rmtree(folder, ignore_errors=True)
            _lock_of(folder).unlink(missing_ok=True)


def _taken(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)
