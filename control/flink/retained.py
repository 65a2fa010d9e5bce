"""The checkpoints and savepoints Flink left on disk: what a job can go on from."""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from control.home import Home


@dataclass(frozen=True, order=True)
class RestorePoint:
    """A complete checkpoint or savepoint: when it was finished, and where it is (a URI)."""

    at_ms: int
    uri: str


def checkpoints(home: Home, run_ids: Iterable[str]) -> list[RestorePoint]:
    """Return the complete checkpoints of these runs, the newest first."""
    folders = (folder for run_id in run_ids for folder in _run_folder(home, run_id).glob("chk-*"))
    return sorted(_complete(folders), reverse=True)


def savepoint_in(directory: Path) -> RestorePoint | None:
    """Return the complete savepoint that was written into this folder."""
    return max(_complete(directory.glob("savepoint-*")), default=None)


def forget_checkpoints(home: Home, run_ids: Iterable[str]) -> None:
    """Delete all checkpoints of these runs."""
    for run_id in run_ids:
        shutil.rmtree(_run_folder(home, run_id), ignore_errors=True)


def dispose_of(uri: str) -> None:
    """Delete a savepoint's files; raise OSError if they cannot be deleted. Again is no error."""
    folder = Path(unquote(urlsplit(uri).path))
    if folder.exists():
        shutil.rmtree(folder)


def _complete(folders: Iterable[Path]) -> Iterator[RestorePoint]:
    for folder in folders:
        # Flink writes the metadata last, so a folder without it never was finished.
        metadata = folder / "_metadata"
        if metadata.exists():
            yield RestorePoint(metadata.stat().st_mtime_ns // 1_000_000, folder.as_uri())


def _run_folder(home: Home, run_id: str) -> Path:
    return home.flink / "checkpoints" / run_id
