"""The checkpoints and savepoints Flink left on disk: what a job can go on from."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

from control.home import Home


@dataclass(frozen=True, order=True)
class RestorePoint:
    """A complete checkpoint or savepoint: when it was finished, where it is (a URI), and the number of its run.

    They are in the order of their runs; in one run, in that of their times.
    """

    run: int
    at_ms: int
    uri: str


def checkpoints(home: Home, runs: Mapping[str, int]) -> list[RestorePoint]:
    """Return the complete checkpoints of these runs, given by id with their numbers, the newest first."""
    found = (_complete(_run_folder(home, run_id).glob("chk-*"), number) for run_id, number in runs.items())
    return sorted(chain.from_iterable(found), reverse=True)


def savepoint_in(directory: Path) -> RestorePoint | None:
    """Return the complete savepoint that was written into this folder."""
    return max(_complete(directory.glob("savepoint-*"), 0), default=None)


def forget_checkpoints(home: Home, run_ids: Iterable[str]) -> None:
    """Delete all checkpoints of these runs."""
    for run_id in run_ids:
        shutil.rmtree(_run_folder(home, run_id), ignore_errors=True)


def dispose_of(uri: str) -> None:
    """Delete a savepoint's files; raise OSError if they cannot be deleted. Again is no error."""
    folder = Path(unquote(urlsplit(uri).path))
    if folder.exists():
        shutil.rmtree(folder)


def _complete(folders: Iterable[Path], run: int) -> Iterator[RestorePoint]:
    for folder in folders:
        # Flink writes the metadata last, so a folder without it never was finished.
        metadata = folder / "_metadata"
        if metadata.exists():
            yield RestorePoint(run, metadata.stat().st_mtime_ns // 1_000_000, folder.as_uri())


def _run_folder(home: Home, run_id: str) -> Path:
    return home.flink / "checkpoints" / run_id
