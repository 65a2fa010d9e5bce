"""Restore points: the complete checkpoints and savepoints on disk, from which a job can start."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

from barmill.platform.clock import NS_PER_MS
from barmill.platform.home import Home


@dataclass(frozen=True, order=True)
class RestorePoint:
    """A complete checkpoint or savepoint: the number of its run, its completion time, and its location (a URI).

    Ordered by run, then by time.
    """

    run: int
    at_ms: int
    uri: str


def checkpoints(home: Home, runs: Mapping[str, int]) -> list[RestorePoint]:
    """Return the complete checkpoints of these runs (run id to run number), newest first."""
    complete = (_complete_points(_run_folder(home, run_id).glob("chk-*"), number) for run_id, number in runs.items())
    return sorted(chain.from_iterable(complete), reverse=True)


def savepoint_in(directory: Path) -> RestorePoint | None:
    """Return the newest complete savepoint in this folder, with run number 0, or None."""
    return max(_complete_points(directory.glob("savepoint-*"), 0), default=None)


def delete_checkpoints(home: Home, run_ids: Iterable[str]) -> None:
    """Delete all checkpoints of these runs."""
    for run_id in run_ids:
        shutil.rmtree(_run_folder(home, run_id), ignore_errors=True)


def dispose_savepoint(uri: str) -> None:
    """Delete a savepoint's files, if they still exist. Raise OSError if they cannot be deleted."""
    folder = Path(unquote(urlsplit(uri).path))
    if folder.exists():
        shutil.rmtree(folder)


def _complete_points(folders: Iterable[Path], run: int) -> Iterator[RestorePoint]:
    for folder in folders:
        # Flink writes the metadata last, so a folder without it is incomplete.
        metadata = folder / "_metadata"
        if metadata.exists():
            yield RestorePoint(run, metadata.stat().st_mtime_ns // NS_PER_MS, folder.as_uri())


def _run_folder(home: Home, run_id: str) -> Path:
    return home.flink / "checkpoints" / run_id
