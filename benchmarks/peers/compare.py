"""A comparison of Barmill replays with other programs on the same files, by number of instruments.

Bytewax is a stream processor. DuckDB and Polars make the same bars with one query without log, state and store: they
show how fast the arithmetic alone is. Bytewax and DuckDB run in a separate Python environment.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.parts import Report, Scale
from benchmarks.peers.run_bytewax import run_bytewax
from benchmarks.replay import measured_batch, measured_replay, stored_bars
from benchmarks.ticks import tick_file
from benchmarks.usage import CommandFailedError, python

_LOCK = Path(__file__).with_name("requirements.lock")
_DUCKDB = Path(__file__).with_name("duckdb_bars.py")
_WORKERS = (1, 2)


class PeerMissingError(Exception):
    """The peers cannot be installed here; the message says why, and how to install them."""


def compare_with_peers(scale: Scale, folder: Path, report: Report) -> dict[str, Any]:
    """Replay a file for each number of instruments with Barmill and with every peer that is installed."""
    report("Bytewax and DuckDB, in a separate environment.")
    peers, problem = None, ""
    try:
        peers = peer_python(folder / "peers")
    except PeerMissingError as error:
        problem = str(error)
    runs = []
    for instruments in scale.instruments:
        path = tick_file(folder, scale.peer_ticks, instruments)
        report(f"{scale.peer_ticks:,} ticks of {instruments:,} instruments: Barmill, then its peers.")
        try:
            runs.append({"instruments": instruments, **_compare(path, folder, peers)})
        except CommandFailedError as error:
            runs.append({"instruments": instruments, "not_measured": str(error)})
    return {"ticks": scale.peer_ticks, "peers_missing": problem, "runs": runs}


def _compare(path: Path, folder: Path, peers: Path | None) -> dict[str, Any]:
    """Return the figures of all programs on one file. peers: the Python of their separate environment, or None."""
    with measured_replay(path, folder) as run:
        barmill, bars = run.figures(), stored_bars(run.bars_db)
        # These times are of the whole process, like those of the peers.
        outside_s = run.process.wall_s - run.replay_figures.total_s
        barmill |= {name: round(barmill[name] + outside_s, 2) for name in ("total_s", "startup_s")}
    out = folder / "peer.parquet"
    programs: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "polars": lambda: [measured_batch(python("benchmarks.batch", str(path), "--out", str(out)), out, bars)]
    }
    if peers is not None:
        programs["duckdb"] = lambda: [measured_batch([str(peers), str(_DUCKDB), str(path), str(out)], out, bars)]
        programs["bytewax"] = lambda: [
            run_bytewax(peers, path, folder / "bytewax", workers, bars) for workers in _WORKERS
        ]
    results: dict[str, Any] = {}
    for name, program in programs.items():
        try:
            results[name] = {"runs": program()}
        except CommandFailedError as error:
            results[name] = {"not_measured": str(error)}
    ratios = {name: _times_as_fast(barmill, peer["runs"]) for name, peer in results.items() if "runs" in peer}
    return {"barmill": barmill, **results, "times_as_fast": ratios}


def _times_as_fast(barmill: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, float | None]:
    """Return how many times as fast Barmill is as the best run of a peer, with start-up and after it."""
    rate = barmill["ticks_per_s_after_startup"]
    fastest = max(run.get("ticks_per_s_after_startup") or run["ticks_per_s"] for run in runs)
    return {
        "with_startup": round(min(run["total_s"] for run in runs) / barmill["total_s"], 3),
        "after_startup": rate and round(rate / fastest, 3),
    }


def peer_python(folder: Path) -> Path:
    """Return the Python of the environment in `folder`; create the environment if it is missing or outdated.

    Raise PeerMissingError if it cannot be created.
    """
    python, stamp = folder / "bin" / "python", folder / _LOCK.name
    if stamp.is_file() and stamp.read_bytes() == _LOCK.read_bytes() and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-I", "-m", "venv", "--without-pip", str(folder)])
    options = ["--require-hashes", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    _run([sys.executable, "-I", "-m", "pip", "--python", str(python), "install", *options, "-r", str(_LOCK)])
    shutil.copyfile(_LOCK, stamp)  # written last: without it the environment is created again
    return python


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or result.stderr.splitlines()
        reason = errors[-1] if errors else "no reason given"
        raise PeerMissingError(
            f"Bytewax and DuckDB could not be installed for the comparison: {reason}."
            f" Correct the problem and measure again; the failed command was: {shlex.join(command)}"
        )
