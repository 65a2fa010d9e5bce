"""The stored results of earlier runs of `barmill bench`: one JSON file for each run."""

import json
import subprocess
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from barmill.platform.file_replacement import replace_file
from barmill.platform.home import REPO_ROOT
from benchmarks.goals import figures_of
from benchmarks.report import Part

# The first key of the JSON of a run, with the version of its format.
_FORMAT, _VERSION = "barmill_bench", 1


class NoRunError(Exception):
    """A file is not the JSON of a run; the message says why and what to do."""


class EarlierRun(BaseModel):
    """An earlier run. Its detailed results may differ between versions of Barmill; they are not read."""

    model_config = ConfigDict(frozen=True, strict=True)

    barmill_bench: Literal[1]
    started_utc: str
    size: str
    commit: str | None
    figures: dict[str, FiniteFloat | None]


def with_figures(result: Part) -> Part:
    """Return the result of a run as it is stored and printed: with the version of its format, and its figures."""
    return {_FORMAT: _VERSION, **result, "figures": figures_of(result)}


def save(folder: Path, result: Part) -> Path:
    """Write a result into a folder of runs, and return its file. A run that writes again replaces its own file."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{result['started_utc'].replace(':', '').replace('+0000', 'Z')}-{result['size']}.json"
    replace_file(path, f"{json.dumps(with_figures(result), indent=2)}\n")
    return path


def read_run(path: Path) -> EarlierRun:
    """Read the JSON of an earlier run. Raise NoRunError if the file is not readable or has other content."""
    try:
        return EarlierRun.model_validate_json(path.read_bytes())
    except OSError as error:
        raise NoRunError(f"{path} cannot be read: {error.strerror}. Name the JSON of an earlier run.") from error
    except ValidationError as error:
        detail = error.errors()[0]
        location = ".".join(map(str, detail["loc"]))
        reason = f"{location}: {detail['msg']}" if location else detail["msg"]
        raise NoRunError(
            f"{path} is not the JSON of a run of ./barmill bench that this version can read ({reason});"
            " name a file of the folder bench/runs/ of the home."
        ) from error


def commit() -> str | None:
    """Return the commit of the checkout, with `-dirty` after changes; None without Git or its folder."""
    command = ["git", "-C", str(REPO_ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
